package source

import (
	"math/bits"
	"sync"
)

// Bounds of what the workers may be ahead of the loop that takes the entries. Together with the weight of a directory
// they also bound the directories ahead, well below maxDescriptors: those wanted next must still be open when their
// files are read.
const (
	aheadEntries    = 4096
	aheadResume     = aheadEntries / 2 // a worker that waited goes on here, not at every entry
	directoryWeight = aheadEntries / 128
	sparedRecords   = 2 * aheadEntries // kept for use again
)

const listBuffer = 128 << 10 // bytes given to getdents64

// task is a piece of work: to read a directory (batch is nil), or to examine one more batch of its names.
//
// The tasks of a scan that are not done stand in one list in the order in which their results are wanted. A finished
// task is replaced by what it found, so the list stays in order, and whoever takes the first task nobody has taken does
// what is wanted next. The loop that consumes takes tasks too whenever what it waits for is in other hands: so it never
// depends on the workers, which are only there to be ahead of it.
type task struct {
	dir        *directory
	batch      *batch
	state      taskState
	prev, next *task
}

type taskState uint8

const (
	taskWaiting taskState = iota
	taskTaken
	taskDone
)

// worker is the scratch space of whoever does tasks.
type worker struct {
	buf        []byte
	lister     lister
	components []string
}

// workers keeps scratch space from one scan to the next.
var workers = sync.Pool{New: func() any { return &worker{buf: make([]byte, listBuffer)} }}

// ahead is the list of tasks and what is known about those who do them. mu guards all of it, and what the tasks
// leave behind in directory and batch is published by it.
type ahead struct {
	mu      sync.Mutex
	ring    task // sentinel; next is what is wanted first
	entries int  // examined and not yet consumed
	idle    int  // workers that wait
	blocked bool // the consumer waits
	over    bool // workers go home

	more  sync.Cond // for workers
	ready sync.Cond // for the consumer

	slabs  [slabClasses][][]record // free, by the logarithm of their capacity
	spared int                     // records in slabs
}

func (a *ahead) init() {
	a.ring.prev, a.ring.next = &a.ring, &a.ring
	a.more.L, a.ready.L = &a.mu, &a.mu
}

func insertAfter(at, t *task) {
	t.prev, t.next = at, at.next
	t.next.prev, at.next = t, t
}

// take hands out the first task nobody has taken, or nil. wanted is given even when the workers are far enough ahead.
func (a *ahead) take(wanted *task) *task {
	t := a.ring.next
	for t != &a.ring && t.state != taskWaiting {
		t = t.next
	}
	if t == &a.ring || a.entries >= aheadEntries && t != wanted {
		return nil
	}
	t.state = taskTaken
	if t.batch != nil {
		// The next batch of a large directory is another worker's.
		a.follow(t, t.batch)
	}
	return t
}

// follow puts the batch after b, if there is one, into the list behind at.
func (a *ahead) follow(at *task, b *batch) {
	if all := b.dir.names.count(); b.to < all {
		n := &batch{dir: b.dir, from: b.to, to: min(b.to+batchSize, all)}
		n.task = task{dir: b.dir, batch: n}
		b.next = n
		insertAfter(at, &n.task)
	}
}

// do carries a taken task out.
func (t *task) do(w *worker) {
	if t.batch == nil {
		t.dir.read(w)
		return
	}
	d := t.dir
	fd, err := d.scan.fds.pin(d)
	if err != nil {
		t.batch.fail(err)
		return
	}
	t.batch.examine(fd, w)
	d.scan.fds.unpin(d)
}

// finish replaces a task by the tasks that came out of it.
func (a *ahead) finish(t *task) {
	b, at := t.batch, t
	if b == nil {
		b = t.dir.first
		a.entries += directoryWeight
	}
	added := 0
	if b != nil {
		a.entries += len(b.records)
		for i := range b.records {
			if sub := b.records[i].sub; sub != nil {
				insertAfter(at, &sub.list)
				at = &sub.list
				added++
			}
		}
		if t.batch == nil {
			a.follow(at, b)
			if b.next != nil {
				added++
			}
		}
	}
	t.prev.next, t.next.prev = t.next, t.prev
	t.prev, t.next = nil, nil
	t.state = taskDone
	if a.blocked {
		a.blocked = false
		a.ready.Signal()
	}
	if added > 0 && a.idle > 0 && a.entries < aheadResume {
		a.wake(added)
	}
}

func (a *ahead) wake(n int) {
	if n == 1 {
		a.more.Signal()
	} else {
		a.more.Broadcast()
	}
}

// consumed tells that n entries are out of the way.
func (a *ahead) consumed(n int) {
	before := a.entries
	a.entries -= n
	if a.idle > 0 && before >= aheadResume && a.entries < aheadResume {
		a.wake(a.idle)
	}
}

// await returns when t is done; until then it does what there is to do.
func (a *ahead) await(t *task, w *worker) {
	a.mu.Lock()
	for t.state != taskDone && !a.over {
		if other := a.take(t); other != nil {
			a.mu.Unlock()
			other.do(w)
			a.mu.Lock()
			a.finish(other)
			continue
		}
		a.blocked = true
		a.ready.Wait()
	}
	a.mu.Unlock()
}

// work is the life of a worker.
func (a *ahead) work() {
	w := workers.Get().(*worker)
	defer workers.Put(w)
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.over {
		t := a.take(nil)
		if t == nil {
			a.idle++
			a.more.Wait()
			a.idle--
			continue
		}
		a.mu.Unlock()
		t.do(w)
		a.mu.Lock()
		a.finish(t)
	}
}

// fail gives every name of the batch the same trouble: its directory can not be reached any more.
func (b *batch) fail(err error) {
	b.records = b.dir.scan.slab(b.to - b.from)
	for i := range b.records {
		b.records[i].err = err
	}
}

// stop sends everybody home: nobody takes another task.
func (a *ahead) stop() {
	a.mu.Lock()
	a.over = true
	a.more.Broadcast()
	a.ready.Broadcast()
	a.mu.Unlock()
}

// slab returns n cleared records.
func (a *ahead) slab(n int) []record {
	if n == 0 {
		return nil
	}
	class := slabClass(n)
	a.mu.Lock()
	if free := a.slabs[class]; len(free) > 0 {
		s := free[len(free)-1]
		a.slabs[class] = free[:len(free)-1]
		a.spared -= 1 << class
		a.mu.Unlock()
		return s[:n]
	}
	a.mu.Unlock()
	return make([]record, n, 1<<class)
}

// reuse takes the records of a batch that is over. The caller holds mu.
func (a *ahead) reuse(s []record) {
	if cap(s) == 0 || a.spared+cap(s) > sparedRecords {
		return
	}
	clear(s)
	class := slabClass(cap(s))
	a.slabs[class] = append(a.slabs[class], s)
	a.spared += cap(s)
}

// slabClasses covers batchSize.
const slabClasses = 10

// slabClass is the logarithm of the capacity for n records.
func slabClass(n int) int { return max(3, bits.Len(uint(n-1))) }
