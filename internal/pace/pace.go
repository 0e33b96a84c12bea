// Package pace holds work back, so that whoever shares the host with it keeps its share: so many bytes a second, so much
// of the processors, and threads that give way to others.
//
// A [Pace] belongs to a job and travels in its context, as the end of the job does, because it is asked deep below what
// knows of jobs: where a block was read, where a file was. Who has done some work calls [Pace.Spend] after it; work of
// more than a few milliseconds is cut into pieces. The nil Pace holds nothing back and costs a comparison.
package pace

import (
	"context"
	"time"
)

// Limits are what a job may take. The zero value limits nothing.
type Limits struct {
	// Bytes are those a second that may be read and written, all together: of sources, of the repository, to targets.
	// 0 for no limit.
	Bytes int64
	// Cores is how many processors' worth of time this process may use, averaged over a tenth of a second: 0.5 is half
	// of one. All of the process counts, and only who calls Spend is held back. 0 for no limit.
	Cores float64
}

// Pace holds the work of one job, or of several together, within its limits. Safe for concurrent use.
type Pace struct {
	bytes    *bucket
	cores    *share
	priority Priority
}

// New returns what keeps the limits, from now on; nil when there are none.
func New(l Limits) *Pace {
	if l.Bytes <= 0 && l.Cores <= 0 {
		return nil
	}
	p := &Pace{}
	if l.Bytes > 0 {
		p.bytes = newBucket(l.Bytes)
	}
	if l.Cores > 0 {
		p.cores = newShare(l.Cores)
	}
	return p
}

// Lowered returns a Pace that keeps the same limits together with p, which may be nil, and whose threads have a priority.
func (p *Pace) Lowered(to Priority) *Pace {
	if to == (Priority{}) {
		return p
	}
	q := &Pace{priority: to}
	if p != nil {
		q.bytes, q.cores = p.bytes, p.cores
	}
	return q
}

// Spend tells that n bytes were read or written, or with 0 that something was done, and returns when the next piece may
// be begun: at once while the limits are kept. It returns the cause when ctx ends before.
func (p *Pace) Spend(ctx context.Context, n int) error {
	if p == nil {
		return nil
	}
	var wait time.Duration
	if p.bytes != nil && n > 0 {
		wait = p.bytes.take(n)
	}
	if p.cores != nil {
		wait = max(wait, p.cores.pause())
	}
	if wait < leastPause {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leastPause is what a timer keeps well. What is owed below it is not forgiven: it is part of the next pause.
const leastPause = time.Millisecond

type key struct{}

// In returns a context whose work keeps to p.
func In(ctx context.Context, p *Pace) context.Context {
	if p == nil {
		return ctx
	}
	return context.WithValue(ctx, key{}, p)
}

// Of returns what the work of a context keeps to, nil for nothing. It costs a walk up the context, so a loop asks once.
func Of(ctx context.Context) *Pace {
	p, _ := ctx.Value(key{}).(*Pace)
	return p
}
