package auth

import (
	"sync"
	"time"
)

// verdictCache keeps verdicts by the hash of the token, so that a memory image
// shows no token. It never grows beyond its limit.
type verdictCache struct {
	limit int

	mu   sync.Mutex // guards kept
	kept map[[32]byte]verdict
}

func newVerdictCache(limit int) *verdictCache {
	return &verdictCache{limit: limit, kept: make(map[[32]byte]verdict)}
}

// get returns a verdict that still stands, by the clock that does not jump and,
// where the credential has an end, by the wall clock too.
func (c *verdictCache) get(key [32]byte) (verdict, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.kept[key]
	if !ok {
		return verdict{}, false
	}
	now := time.Now()
	end := v.principal.Expires
	if !now.Before(v.until) || !end.IsZero() && !now.Before(end) {
		delete(c.kept, key)
		return verdict{}, false
	}
	return v, true
}

// drop forgets a verdict.
func (c *verdictCache) drop(key [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.kept, key)
}

// put keeps a verdict. When there is no room, of a few others those that are over
// go, or else the one that ends first.
func (c *verdictCache) put(key [32]byte, v verdict, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.kept[key]; !known && len(c.kept) >= c.limit {
		const looks = 16
		var first [32]byte
		var end time.Time
		n := 0
		for k, other := range c.kept {
			if !now.Before(other.until) {
				delete(c.kept, k)
			} else if n == 0 || other.until.Before(end) {
				first, end = k, other.until
			}
			if n++; n == looks {
				break
			}
		}
		if len(c.kept) >= c.limit {
			delete(c.kept, first)
		}
	}
	c.kept[key] = v
}
