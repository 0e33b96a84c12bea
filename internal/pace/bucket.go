package pace

import (
	"sync/atomic"
	"time"
)

// bucket is a token bucket kept as one number: the moment at which all that was taken will have been paid for. Taking
// never waits and never fails, so that a piece larger than the bucket is no special case; the debt is slept off.
type bucket struct {
	rate  float64 // bytes a nanosecond
	began time.Time
	paid  atomic.Int64 // nanoseconds after began
}

// savings is what idle time is worth at most.
const savings = 50 * time.Millisecond

func newBucket(bytesPerSecond int64) *bucket {
	return &bucket{rate: float64(bytesPerSecond) / float64(time.Second), began: time.Now()}
}

// take takes n bytes and returns how long to wait then.
func (b *bucket) take(n int) time.Duration {
	cost := int64(float64(n) / b.rate)
	for {
		now := int64(time.Since(b.began))
		old := b.paid.Load()
		paid := max(old, now-int64(savings)) + cost
		if b.paid.CompareAndSwap(old, paid) {
			return time.Duration(paid - now)
		}
	}
}
