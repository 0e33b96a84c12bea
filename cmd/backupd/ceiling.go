package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

const (
	// leastCeiling is what the ceiling never goes below, in bytes: a backup of small files stays under it.
	leastCeiling = 40 << 20
	// aboveLive is what the runtime takes beside the heap.
	aboveLive = 8 << 20
	// ceilingStep is how much a ceiling has to differ from the last to be set, as the world stops for it.
	ceilingStep = 2 << 20
)

// ceiling holds the collector's soft limit close above what is in use. The percentage alone lets the heap stand at half as
// much again as its live part had at its greatest, and what was freed stays with the process: after half a second in
// which the index merges its tables, a backup of a million small files kept 30 MB that nobody used. Under a limit the
// runtime gives pages back before it takes more. A fixed one would have the collector run without end once more than that
// is in use; this one follows after each collection and leaves the percentage its room.
type ceiling struct {
	most int64 // bytes; reached by what is in use, the collector works harder
	last atomic.Int64
}

// mark is an object that nobody refers to: its finalizer runs after each collection.
type mark struct{ of *ceiling }

// holdMemory sets the soft limit now and after each collection, for as long as the process lives, and never above most
// bytes.
func holdMemory(most int64) {
	c := &ceiling{most: most}
	c.follow()
	runtime.SetFinalizer(&mark{c}, (*mark).collected)
}

func (m *mark) collected() {
	m.of.follow()
	runtime.SetFinalizer(m, (*mark).collected)
}

// follow sets the limit by what the last collection left.
func (c *ceiling) follow() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	limit := ceilingFor(int64(live[0].Value.Uint64()), c.most)
	if last := c.last.Load(); limit > last+ceilingStep || limit < last-ceilingStep {
		c.last.Store(limit)
		debug.SetMemoryLimit(limit)
	}
}

// ceilingFor says where the limit is to be with so many bytes in use.
func ceilingFor(live, most int64) int64 {
	return min(max(leastCeiling, live+live*gcPercent/100+aboveLive), most)
}
