package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
)

const (
	// leastCeiling is what the ceiling never goes below, in bytes: a backup of small files stays under it.
	leastCeiling = 40 << 20
	// aboveLive is what the runtime takes beside the heap.
	aboveLive = 8 << 20
	// ceilingStep is how much a ceiling has to differ from the last to be set, as the world stops for it.
	ceilingStep = 2 << 20
	// ceilingBurst is how many collections something has to stay in use for the ceiling to rise for it.
	ceilingBurst = 16
	// ceilingMemory is how many are remembered, and ceilingYouth how many a process has seen before any of this counts.
	ceilingMemory = 256
	ceilingYouth  = 32
)

// ceiling holds the collector's soft limit close above what is in use. The percentage alone lets the heap stand at half as
// much again as its live part had at its greatest, and what was freed stays with the process: after half a second in
// which the index merges its tables, a backup of a million small files kept 30 MB that nobody used. Under a limit the
// runtime gives pages back before it takes more. A fixed one would have the collector run without end once more than that
// is in use; this one follows and leaves the percentage its room.
//
// It follows what lasts: the least that was in use after any of the last few collections, or what was after half of many. A
// merge allocates some hundred megabytes in half a second and keeps few of them, and how many are found in use depends on
// when the collector looks; following that, it would have them stand. More that is in use to stay costs those few
// collections, once, and what is high and low in turn no more than half of the many. A short process would feel them and
// does not live to grow, so there the last collection counts.
type ceiling struct {
	most  int64 // bytes; reached by what is in use, the collector works harder
	last  int64 // the limit that is set
	seen  int   // collections
	lives [ceilingMemory]int64
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
	runtime.SetFinalizer(m, (*mark).collected) // one at a time has the ceiling
}

// follow sets the limit by what the last collections left.
func (c *ceiling) follow() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	limit := c.next(int64(live[0].Value.Uint64()))
	if limit > c.last+ceilingStep || limit < c.last-ceilingStep {
		c.last = limit
		debug.SetMemoryLimit(limit)
	}
}

// next says where the limit is to be after a collection that left so many bytes in use.
func (c *ceiling) next(live int64) int64 {
	c.lives[c.seen%ceilingMemory] = live
	c.seen++
	limit := live + live*gcPercent/100 + aboveLive
	if c.seen > ceilingYouth {
		lasting := c.lasting()
		limit = lasting + lasting*gcPercent/100
	}
	return min(max(leastCeiling, limit), c.most)
}

// lasting says how much of what the collections left is to be counted on. It needs ceilingBurst of them.
func (c *ceiling) lasting() int64 {
	least := c.lives[(c.seen-1)%ceilingMemory]
	for i := range ceilingBurst {
		least = min(least, c.lives[(c.seen-1-i)%ceilingMemory])
	}
	sorted := c.lives
	known := sorted[:min(c.seen, ceilingMemory)]
	slices.Sort(known)
	return max(least, known[len(known)/2])
}

// takenMemory is what the process has from the system and has not given back.
func takenMemory() uint64 {
	taken := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(taken)
	return taken[0].Value.Uint64() - taken[1].Value.Uint64()
}
