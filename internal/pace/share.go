package pace

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// share keeps the processor time of the process below so many cores. Every few milliseconds one of those who pass reads
// the process's clock; when more was used than was allowed, all who pass wait until that is made up for. What is done
// meanwhile by who was under way shows in the next reading, so the mean holds however long the pieces of work are.
type share struct {
	cores float64
	began time.Time
	until atomic.Int64 // nanoseconds after began: nobody passes before
	next  atomic.Int64 // when the clock is read again

	mu     sync.Mutex // guards what follows; held by who reads the clock
	used   time.Duration
	at     time.Duration // after began
	credit time.Duration // processor time that may be used; negative when too much was
}

// reading is the time between two looks at the clock, which cost a system call. window is how long the allowance of
// idle time is kept. longest bounds a pause: what others in the process used while there was no work to hold back, be it
// hours, is not the fault of the next.
const (
	reading = 5 * time.Millisecond
	window  = 100 * time.Millisecond
	longest = 2 * time.Second
)

func newShare(cores float64) *share {
	return &share{cores: cores, began: time.Now(), used: processTime()}
}

// pause returns how long to wait now.
func (s *share) pause() time.Duration {
	now := time.Since(s.began)
	if int64(now) >= s.next.Load() && s.mu.TryLock() {
		s.account(now)
		s.mu.Unlock()
	}
	return time.Duration(s.until.Load()) - now
}

// account compares what was used since the last time with what was allowed. mu is held.
func (s *share) account(now time.Duration) {
	if int64(now) < s.next.Load() {
		return // another did it meanwhile
	}
	used := processTime()
	allowed := func(d time.Duration) time.Duration { return time.Duration(float64(d) * s.cores) }
	s.credit += allowed(now-s.at) - (used - s.used)
	s.credit = max(min(s.credit, allowed(window)), -allowed(longest))
	s.used, s.at = used, now
	next := now + reading
	if s.credit < 0 {
		until := now + time.Duration(float64(-s.credit)/s.cores)
		s.until.Store(int64(until))
		next = max(next, until)
	}
	s.next.Store(int64(next))
}

// processTime is the processor time of all threads there are and were.
func processTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t) != nil {
		return 0 // there is no kernel without it; without it nobody waits
	}
	return time.Duration(t.Nano())
}
