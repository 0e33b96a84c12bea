package repo

import "sync"

// cache keeps values that were costly to load, least recently used first out,
// below a bound in bytes. A value in use is never dropped, and loading one
// happens once however many ask: the others wait.
//
// It can have parts with a bound each, so that values of one kind do not drive
// out others, nor fill the memory that those may take.
type cache[K comparable, V any] struct {
	drop func(V)     // called when a value leaves the cache; may be nil
	part func(V) int // says where a new value belongs; nil: all in the first

	mu      sync.Mutex // guards all below, and refs, part and links of the entries
	entries map[K]*cached[K, V]
	parts   []cachePart[K, V]
}

type cachePart[K comparable, V any] struct {
	limit, used int64
	root        cached[K, V] // ring of entries without users, oldest next
}

type cached[K comparable, V any] struct {
	key        K
	val        V
	err        error
	size       int64
	refs       int
	part       int
	ready      chan struct{} // closed when val or err is set
	prev, next *cached[K, V]
}

func newCache[K comparable, V any](limit int64, drop func(V)) *cache[K, V] {
	return newPartedCache[K](nil, drop, limit)
}

func newPartedCache[K comparable, V any](part func(V) int, drop func(V), limits ...int64) *cache[K, V] {
	c := &cache[K, V]{drop: drop, part: part, entries: make(map[K]*cached[K, V]), parts: make([]cachePart[K, V], len(limits))}
	for i := range c.parts {
		p := &c.parts[i]
		p.limit, p.root.prev, p.root.next = limits[i], &p.root, &p.root
	}
	return c
}

// get returns the entry for key, loading it if need be. The caller releases
// it. An error is not kept: the next get tries again, and so does one that
// waited for the load that failed, which may have failed for a reason of its
// own caller's, such as being cancelled.
func (c *cache[K, V]) get(key K, load func() (V, int64, error)) (*cached[K, V], error) {
	c.mu.Lock()
	for {
		e, ok := c.entries[key]
		if !ok {
			break
		}
		if e.refs == 0 {
			e.unlink()
		}
		e.refs++
		c.mu.Unlock()
		<-e.ready
		if e.err == nil {
			return e, nil
		}
		c.release(e)
		c.mu.Lock()
	}
	e := &cached[K, V]{key: key, refs: 1, ready: make(chan struct{})}
	c.entries[key] = e
	c.mu.Unlock()

	e.val, e.size, e.err = load()
	c.mu.Lock()
	if e.err != nil {
		delete(c.entries, key)
		e.size = 0
	}
	if e.err == nil && c.part != nil {
		e.part = c.part(e.val)
	}
	c.parts[e.part].used += e.size
	gone := c.evict(e.part)
	c.mu.Unlock()
	close(e.ready)
	c.dropAll(gone)
	if e.err != nil {
		return nil, e.err
	}
	return e, nil
}

// has tells whether an entry is there, or being loaded.
func (c *cache[K, V]) has(key K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.entries[key]
	return ok
}

// release gives an entry back. Its value must not be used afterwards.
func (c *cache[K, V]) release(e *cached[K, V]) {
	c.mu.Lock()
	e.refs--
	var gone []V
	if e.refs == 0 && e.err == nil {
		root := &c.parts[e.part].root
		e.prev, e.next = root.prev, root
		e.prev.next, e.next.prev = e, e
		gone = c.evict(e.part)
	}
	c.mu.Unlock()
	c.dropAll(gone)
}

// move puts an entry that the caller holds into another part.
func (c *cache[K, V]) move(e *cached[K, V], part int) {
	var gone []V
	c.mu.Lock()
	if e.part != part {
		c.parts[e.part].used -= e.size
		e.part = part
		c.parts[part].used += e.size
		gone = c.evict(part)
	}
	c.mu.Unlock()
	c.dropAll(gone)
}

// evict takes unused entries out of a part until its bound holds. mu is held.
func (c *cache[K, V]) evict(part int) (gone []V) {
	p := &c.parts[part]
	for p.used > p.limit && p.root.next != &p.root {
		e := p.root.next
		e.unlink()
		delete(c.entries, e.key)
		p.used -= e.size
		if c.drop != nil {
			gone = append(gone, e.val)
		}
	}
	return gone
}

func (c *cache[K, V]) dropAll(gone []V) {
	for _, v := range gone {
		c.drop(v)
	}
}

// clear drops every entry that nobody uses.
func (c *cache[K, V]) clear() {
	c.mu.Lock()
	var gone []V
	for i := range c.parts {
		p := &c.parts[i]
		limit := p.limit
		p.limit = -1
		gone = append(gone, c.evict(i)...)
		p.limit = limit
	}
	c.mu.Unlock()
	c.dropAll(gone)
}

// bound lowers the bound of the first part. Nobody may use the cache yet.
func (c *cache[K, V]) bound(limit int64) { c.parts[0].limit = min(c.parts[0].limit, limit) }

// size is the bytes of all that is in it.
func (c *cache[K, V]) size() (sum int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.parts {
		sum += c.parts[i].used
	}
	return sum
}

func (e *cached[K, V]) unlink() {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}
