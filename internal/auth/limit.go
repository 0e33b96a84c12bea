package auth

import (
	"net/netip"
	"sync"
	"time"
)

// FailureLimits bound how many failed attempts are answered as such; those beyond
// are told to wait. Zero fields take the defaults.
type FailureLimits struct {
	AddressBurst int           // failures of one address (IPv6: one /64) at once; 60
	AddressEvery time.Duration // one more each; 1 s
	GlobalBurst  int           // failures of all addresses together; 600
	GlobalEvery  time.Duration // one more each; 100 ms
}

// maxAddresses bounds the addresses with failures that are remembered.
const maxAddresses = 4096

// limiter counts failures, per address and together. A right credential that this
// host can judge is never held up by it; only what costs a question to a provider
// is, and only where there were failures at the same address.
type limiter struct {
	address, global rate

	mu    sync.Mutex // guards the rest
	debts map[netip.Prefix]time.Time
	all   time.Time
}

// rate is a token bucket as the time at which it will be full again: a spent token
// moves it on by every.
type rate struct {
	burst int
	every time.Duration
}

// wait is how long until one more may be spent, 0 when it may now.
func (r rate) wait(full, now time.Time) time.Duration {
	if !full.After(now) {
		return 0
	}
	return max(0, full.Sub(now)-time.Duration(r.burst-1)*r.every)
}

func (r rate) spend(full, now time.Time) time.Time {
	if full.Before(now) {
		full = now
	}
	return full.Add(r.every)
}

func newLimiter(l FailureLimits) *limiter {
	pick := func(burst int, every time.Duration, b int, e time.Duration) rate {
		if burst <= 0 {
			burst = b
		}
		if every <= 0 {
			every = e
		}
		return rate{burst, every}
	}
	return &limiter{
		address: pick(l.AddressBurst, l.AddressEvery, 60, time.Second),
		global:  pick(l.GlobalBurst, l.GlobalEvery, 600, 100*time.Millisecond),
		debts:   make(map[netip.Prefix]time.Time),
	}
}

// site is what counts as one address: an IPv4 address, a /64, or the Unix socket.
func site(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// fail counts a failed attempt. It returns 0, or how long the address is to wait
// when there were too many.
func (l *limiter) fail(a netip.Addr) time.Duration {
	now := time.Now()
	at := site(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	if wait := l.address.wait(l.debts[at], now); wait > 0 {
		return wait
	}
	if wait := l.global.wait(l.all, now); wait > 0 {
		l.owe(at, now)
		return wait
	}
	l.all = l.global.spend(l.all, now)
	l.owe(at, now)
	return 0
}

// owe counts a failure of one address. l.mu is held.
func (l *limiter) owe(at netip.Prefix, now time.Time) {
	if _, known := l.debts[at]; !known && len(l.debts) >= maxAddresses {
		l.forget(now)
	}
	l.debts[at] = l.address.spend(l.debts[at], now)
}

// forget makes room: of a few addresses the one that owes least goes, and those
// that owe nothing any more.
func (l *limiter) forget(now time.Time) {
	const looks = 16
	var least netip.Prefix
	var when time.Time
	n := 0
	for at, full := range l.debts {
		if !full.After(now) {
			delete(l.debts, at)
		} else if n == 0 || full.Before(when) {
			least, when = at, full
		}
		if n++; n == looks {
			break
		}
	}
	if len(l.debts) >= maxAddresses {
		delete(l.debts, least)
	}
}

// blocked is how long an address has to wait before a question is asked on its
// behalf: while it has failed too often, or at all while everybody together has.
func (l *limiter) blocked(a netip.Addr) time.Duration {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	full := l.debts[site(a)]
	if wait := l.address.wait(full, now); wait > 0 {
		return wait
	}
	if full.After(now) {
		return l.global.wait(l.all, now)
	}
	return 0
}
