package api

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/generalbots/backupd/internal/auth"
)

// caller is who shares one bucket: a principal at one address, an IPv6 network of
// 64 bits counting as one. So one host that asks too much keeps nobody else from
// asking, and one token on many hosts is as many callers.
type caller struct {
	name string
	at   netip.Addr
}

const (
	// burstSeconds is how many seconds' worth of calls may come at once.
	burstSeconds = 2
	// maxCallers bounds a generation of buckets; callers beyond share one.
	maxCallers = 16_384
	// tellEvery is how often the log says that calls are refused.
	tellEvery = time.Minute
)

// pacer bounds how many calls each caller makes in a second. A bucket is the time
// at which it will be full again, which a call moves on by every. One that nobody
// touched for as long as it takes to fill is full, so a generation as old as that
// is dropped whole, and forgets nothing.
type pacer struct {
	every time.Duration
	fill  time.Duration
	most  int // callers of a generation

	mu       sync.Mutex // guards the rest
	now, old map[caller]time.Time
	turned   time.Time // when now was begun
	told     time.Time // when refused was last told
	refused  int       // since then
}

// newPacer makes one; nil, which refuses nobody, for 0 calls a second.
func newPacer(perSecond int) *pacer {
	if perSecond <= 0 {
		return nil
	}
	every := time.Second / time.Duration(perSecond)
	return &pacer{every: every, fill: time.Duration(burstSeconds*perSecond) * every, most: maxCallers, now: make(map[caller]time.Time)}
}

// take lets a call of a caller in, or says how long it is to wait. tell is how many
// were refused since that was last told, when it is time to tell it again.
func (p *pacer) take(who caller, at time.Time) (wait time.Duration, tell int) {
	if p == nil {
		return 0, 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if age := at.Sub(p.turned); age >= p.fill || age < 0 {
		p.old, p.now, p.turned = p.now, make(map[caller]time.Time), at
		if age >= 2*p.fill || age < 0 {
			p.old = nil
		}
	}
	full, known := p.now[who]
	if !known {
		if len(p.now) >= p.most {
			who = caller{}
			full = p.now[who]
		}
		if before := p.old[who]; before.After(full) {
			full = before
		}
	}
	if full.Before(at) {
		full = at
	}
	if wait = full.Sub(at) + p.every - p.fill; wait <= 0 {
		p.now[who] = full.Add(p.every)
		return 0, 0
	}
	p.now[who] = full // a refused call costs nothing, and the bucket is not forgotten
	p.refused++
	if age := at.Sub(p.told); age >= tellEvery || age < 0 {
		p.told, tell, p.refused = at, p.refused, 0
	}
	return wait, tell
}

// pace refuses what a caller asks beyond its share. That is not written into the
// audit, which a caller could fill that way; the log tells of it once a minute.
func (c *call) pace() error {
	who := caller{c.who.String(), network(peer(c.r))}
	wait, tell := c.s.pacer.take(who, time.Now())
	if wait == 0 {
		return nil
	}
	if tell > 0 {
		c.s.log.Warn("calls are refused, as a caller asks too much", "caller", who.name, "remote", who.at, "refused", tell)
	}
	return &requestError{
		status: http.StatusTooManyRequests, code: auth.CodeRateLimited, message: "this caller sends more requests a second than it may; slow down", retryAfter: wait,
	}
}

// network is an IPv4 address, the first 64 bits of another, or the zero value.
func network(a netip.Addr) netip.Addr {
	if a.Is4() || !a.IsValid() {
		return a
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr()
}
