package repo

import "sync"

// cache keeps values that were costly to load, least recently used first out,
// below a bound in bytes. A value in use is never dropped, and loading one
// happens once however many ask: the others wait.
type cache[K comparable, V any] struct {
	limit int64
	drop  func(V) // called when a value leaves the cache; may be nil

	mu      sync.Mutex // guards all below, and refs and links of the entries
	used    int64
	entries map[K]*cached[K, V]
	root    cached[K, V] // ring of entries without users, oldest next
}

type cached[K comparable, V any] struct {
	key        K
	val        V
	err        error
	size       int64
	refs       int
	ready      chan struct{} // closed when val or err is set
	prev, next *cached[K, V]
}

func newCache[K comparable, V any](limit int64, drop func(V)) *cache[K, V] {
	c := &cache[K, V]{limit: limit, drop: drop, entries: make(map[K]*cached[K, V])}
	c.root.prev, c.root.next = &c.root, &c.root
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
	c.used += e.size
	gone := c.evict()
	c.mu.Unlock()
	close(e.ready)
	c.dropAll(gone)
	if e.err != nil {
		return nil, e.err
	}
	return e, nil
}

// release gives an entry back. Its value must not be used afterwards.
func (c *cache[K, V]) release(e *cached[K, V]) {
	c.mu.Lock()
	e.refs--
	var gone []V
	if e.refs == 0 && e.err == nil {
		e.prev, e.next = c.root.prev, &c.root
		e.prev.next, e.next.prev = e, e
		gone = c.evict()
	}
	c.mu.Unlock()
	c.dropAll(gone)
}

// evict takes unused entries out until the bound holds. mu is held.
func (c *cache[K, V]) evict() (gone []V) {
	for c.used > c.limit && c.root.next != &c.root {
		e := c.root.next
		e.unlink()
		delete(c.entries, e.key)
		c.used -= e.size
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
	limit := c.limit
	c.limit = -1
	gone := c.evict()
	c.limit = limit
	c.mu.Unlock()
	c.dropAll(gone)
}

func (e *cached[K, V]) unlink() {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}
