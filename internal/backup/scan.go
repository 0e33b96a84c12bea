package backup

import (
	"context"
	"fmt"
	"sync"

	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/repo"
)

// item is one event of the scan on its way through the run.
type item struct {
	entry     source.Entry
	base      repo.RawEntry // the base's entry of the same path
	hasBase   bool
	unchanged bool // the base's entry is taken over as it is
	verify    bool // …if its chunks are still there
	first     bool // the name under which a file with several is read
	link      bool // a further one

	baseDir *repo.Dir // of an Enter whose base is a directory

	in *place // the directory it is in; of an Enter that directory itself

	// What the worker, or the reader of a large file, found out.
	details source.Details
	size    int64 // bytes read
	moved   int64 // of them those that are in Progress already
	content repo.Content
	refs    []repo.Ref // chunks in order; becomes content in the builder
	extents []repo.Extent
	sparse  bool
	failed  bool // left out of the snapshot, with a problem recorded
	gone    bool // it vanished after it was listed: failed, and no problem
	partial bool // stored with a problem, so no later run may take it over unread
	large   *largeRead
}

// place is a directory the scan is or was in. It makes paths for those who
// need one; nobody does for a file without trouble.
type place struct {
	above *place // nil of the root
	name  string
}

// path returns the path of an item.
func (it *item) path() []byte {
	if it.entry.Event == source.Item {
		return it.in.path(it.entry.Name)
	}
	return it.in.path("")
}

// path returns the path of what is called name there, of the place itself
// without a name.
func (p *place) path(name string) []byte {
	n := len(name) + 1
	for q := p; q.above != nil; q = q.above {
		n += len(q.name) + 1
	}
	b := make([]byte, n)
	put := func(name string) {
		n -= len(name)
		copy(b[n:], name)
		n--
		b[n] = '/'
	}
	put(name)
	for q := p; q.above != nil; q = q.above {
		put(q.name)
	}
	if name == "" && len(b) > 1 {
		b = b[:len(b)-1]
	}
	return b
}

// batch is a run of items that are handled together. done is closed when a
// worker is finished with them.
type batch struct {
	items []item
	bytes int64
	work  bool
	done  chan struct{}
}

// task is something for a worker: a batch or a segment of a large file.
type task struct {
	batch   *batch
	segment *segment
}

// frame is a directory the scan is in, and the place in its base.
type frame struct {
	place  *place
	reader *repo.DirReader // nil: no base
	next   repo.RawEntry
	have   bool
	blind  bool // the directory could not be listed
}

// inode names a file with several names.
type inode struct{ dev, ino uint64 }

// scanner holds the state of the scan stage.
type scanner struct {
	x       *run
	frames  []frame
	cur     *batch
	seen    map[inode]uint32 // files with several names: how many are still to come
	senders *sync.WaitGroup
}

// scan goes through the source and the base's tree side by side, both sorted,
// and hands out batches.
func (x *run) scan(senders *sync.WaitGroup) error {
	s := &scanner{x: x, seen: make(map[inode]uint32), senders: senders}
	s.cur = x.newBatch()
	for e, err := range x.src.Scan(x.ctx) {
		if err != nil {
			if x.ctx.Err() != nil {
				return err
			}
			// The stages end as they do behind the last entry, so that what
			// the workers have claimed gets into packs.
			x.lost = err
			break
		}
		if err := s.event(e); err != nil {
			return err
		}
	}
	return s.flush()
}

func (x *run) newBatch() *batch {
	if b, ok := x.free.get(); ok {
		return b
	}
	return &batch{items: make([]item, 0, batchEntries)}
}

// recycle takes a batch back from the builder.
func (x *run) recycle(b *batch) {
	clear(b.items)
	b.items, b.bytes, b.work, b.done = b.items[:0], 0, false, nil
	x.free.put(b)
}

// flush hands the current batch on: to the builder's queue first, so that its
// order is that of the scan, then to the workers.
func (s *scanner) flush() error {
	b := s.cur
	if len(b.items) == 0 {
		return nil
	}
	s.cur = s.x.newBatch()
	work := b.work // the builder may be through with it before long
	if work {
		b.done = make(chan struct{})
	}
	select {
	case s.x.order <- b:
	case <-s.x.ctx.Done():
		return context.Cause(s.x.ctx)
	}
	if work {
		if err := s.x.send(task{batch: b}); err != nil {
			return err
		}
	}
	return s.x.pace.Spend(s.x.ctx, 0)
}

func (s *scanner) event(e source.Entry) error {
	x := s.x
	s.cur.items = append(s.cur.items, item{entry: e})
	it := &s.cur.items[len(s.cur.items)-1]
	switch e.Event {
	case source.Enter:
		s.enter(it)
	case source.Leave:
		s.leave(it)
	case source.Item:
		it.in = s.frames[len(s.frames)-1].place
		s.match(it)
		if err := s.file(it); err != nil {
			return err
		}
	}
	if it.entry.Err != nil && e.Event != source.Leave {
		x.problem(it.path(), "scan", it.entry.Err)
	}
	// A large file ends its batch: the readers of large files wait for the
	// builder, so what comes before them must be on its way to it.
	if len(s.cur.items) == batchEntries || s.cur.bytes >= batchBytes || it.large != nil {
		return s.flush()
	}
	return nil
}

func (s *scanner) enter(it *item) {
	x := s.x
	e := &it.entry
	f := frame{place: &place{name: e.Name}, blind: e.Err != nil}
	it.in = f.place
	if len(s.frames) == 0 {
		if x.base.root != nil {
			it.baseDir = &x.base.root.Dir
		}
	} else {
		f.place.above = s.frames[len(s.frames)-1].place
		s.match(it)
		if it.hasBase {
			var old repo.Entry
			if err := it.base.Entry(&old); err == nil {
				d := old.Dir
				it.baseDir = &d
			}
		}
	}
	if it.baseDir != nil {
		f.reader = x.repo.Reader().Dir(*it.baseDir)
		s.advance(&f)
	}
	s.frames = append(s.frames, f)
	it.unchanged = it.hasBase && x.unchanged(e, &it.base)
	if !it.unchanged {
		s.cur.work = true
	}
	if len(s.frames) == repo.MaxTreeDepth+1 {
		it.failed = true
		x.problem(it.path(), "scan", errDepth)
	}
}

var errDepth = fmt.Errorf("directories nested deeper than %d are left out", repo.MaxTreeDepth)

// leave goes back to the directory above. What the base has left over is gone
// from the source, unless nobody could look.
func (s *scanner) leave(it *item) {
	f := &s.frames[len(s.frames)-1]
	it.in = f.place
	for f.have && !f.blind {
		s.removed(&f.next)
		s.advance(f)
	}
	s.frames = s.frames[:len(s.frames)-1]
}

// advance moves to the next entry of the base. A page that can not be read
// ends the comparison of this directory: the rest of it counts as new.
func (s *scanner) advance(f *frame) {
	var err error
	f.next, f.have, err = f.reader.Next(s.x.ctx)
	if err != nil {
		f.have = false
		if s.x.baseLost == nil {
			s.x.baseLost = err
		}
	}
}

// match finds the base's entry of the same name; what the base has before it
// is gone from the source, and so is a directory where now something else is,
// and the other way round.
func (s *scanner) match(it *item) {
	if len(s.frames) == 0 {
		return
	}
	f := &s.frames[len(s.frames)-1]
	for f.have {
		switch old := f.next.Name(); {
		case string(old) < it.entry.Name:
			s.removed(&f.next)
			s.advance(f)
			continue
		case string(old) == it.entry.Name:
			if (f.next.Type() == repo.TypeDirectory) == (it.entry.Event == source.Enter) {
				it.base, it.hasBase = f.next, true
			} else {
				s.removed(&f.next)
			}
			s.advance(f)
		}
		return
	}
}

func (s *scanner) removed(old *repo.RawEntry) {
	n := uint64(1)
	if old.Type() == repo.TypeDirectory {
		var e repo.Entry
		n = 0
		if old.Entry(&e) == nil {
			n = e.Dir.Files
		}
	}
	s.x.removed += n
}

// file decides what is to be done for an entry that is no directory.
func (s *scanner) file(it *item) error {
	x := s.x
	e := &it.entry
	if e.Err != nil {
		it.failed = true
		return nil
	}
	if it.hasBase && x.unchanged(e, &it.base) {
		it.unchanged = true
		if x.w == nil || !x.distrusts() || e.Type != source.Regular {
			return nil
		}
		it.verify = true
		s.cur.work = true
		s.cur.bytes += 1024
		if e.Size >= largeFile {
			return s.startLarge(it)
		}
		return nil
	}
	if e.Type == source.Regular && e.Nlink > 1 {
		key := inode{e.Dev, e.Ino}
		if left, ok := s.seen[key]; ok {
			it.link = true
			if left--; left == 0 {
				delete(s.seen, key)
			} else {
				s.seen[key] = left
			}
			return nil
		}
		s.seen[key] = e.Nlink - 1
		it.first = true
	}
	s.cur.work = true
	if e.Type != source.Regular {
		return nil
	}
	s.cur.bytes += e.Size
	if e.Size >= largeFile && x.w != nil {
		return s.startLarge(it)
	}
	return nil
}
