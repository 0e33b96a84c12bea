package backup

import (
	"bytes"
	"context"
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
	link      bool // a further name of a file that is read under its first one

	baseDir *repo.Dir // of an Enter whose base is a directory

	// What the worker, or the reader of a large file, found out.
	details source.Details
	size    int64 // bytes read
	content repo.Content
	refs    []repo.Ref // chunks in order; becomes content in the builder
	extents []repo.Extent
	sparse  bool
	failed  bool // left out of the snapshot, with a problem recorded
	large   *largeRead
	path    []byte // of what needs one for a problem's sake: set by the scan
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
	name   string
	reader *repo.DirReader // nil: no base
	next   repo.RawEntry
	have   bool
}

// inode names a file with several names.
type inode struct{ dev, ino uint64 }

// linked is what the first name of a file with several names led to.
type linked struct {
	item   item
	failed bool
}

// scanner holds the state of the scan stage.
type scanner struct {
	x      *run
	frames []frame
	path   []byte
	cur    *batch
	seen   map[inode]struct{}
	large  *sync.WaitGroup
}

// scan goes through the source and the base's tree side by side, both sorted,
// and hands out batches.
func (x *run) scan(large *sync.WaitGroup) error {
	s := &scanner{x: x, seen: make(map[inode]struct{}), large: large}
	s.cur = x.newBatch()
	for e, err := range x.src.Scan(x.ctx) {
		if err != nil {
			return err
		}
		if err := s.event(e); err != nil {
			return err
		}
	}
	return s.flush()
}

func (x *run) newBatch() *batch {
	b, _ := x.free.Get().(*batch)
	if b == nil {
		b = &batch{items: make([]item, 0, batchEntries)}
	}
	b.done = make(chan struct{})
	return b
}

// recycle takes a batch back from the builder.
func (x *run) recycle(b *batch) {
	clear(b.items)
	b.items, b.bytes, b.work = b.items[:0], 0, false
	x.free.Put(b)
}

// flush hands the current batch on: to the builder's queue first, so that its
// order is that of the scan, then to the workers.
func (s *scanner) flush() error {
	b := s.cur
	if len(b.items) == 0 {
		return nil
	}
	s.cur = s.x.newBatch()
	select {
	case s.x.order <- b:
	case <-s.x.ctx.Done():
		return context.Cause(s.x.ctx)
	}
	if !b.work {
		close(b.done)
		return nil
	}
	return s.x.send(task{batch: b})
}

func (s *scanner) event(e source.Entry) error {
	x := s.x
	s.cur.items = append(s.cur.items, item{entry: e})
	it := &s.cur.items[len(s.cur.items)-1]
	switch e.Event {
	case source.Enter:
		s.enter(it)
	case source.Leave:
		if err := s.leave(it); err != nil {
			return err
		}
	case source.Item:
		s.match(it)
		if err := s.file(it); err != nil {
			return err
		}
	}
	if it.entry.Err != nil && e.Event != source.Leave {
		x.problem(s.pathOf(e.Name, e.Event == source.Enter), "scan", it.entry.Err)
	}
	if len(s.cur.items) == batchEntries || s.cur.bytes >= batchBytes {
		return s.flush()
	}
	return nil
}

// pathOf returns the path of an entry; an Enter is already part of s.path.
func (s *scanner) pathOf(name string, entered bool) []byte {
	p := bytes.Clone(s.path)
	if !entered {
		p = append(append(p, '/'), name...)
	}
	if len(p) == 0 {
		p = []byte{'/'}
	}
	return p
}

func (s *scanner) enter(it *item) {
	x := s.x
	e := &it.entry
	f := frame{name: e.Name}
	if len(s.frames) == 0 {
		if x.base.root != nil {
			it.baseDir = &x.base.root.Dir
		}
	} else {
		s.path = append(append(s.path, '/'), e.Name...)
		s.match(it)
		if it.hasBase && it.base.Type() == repo.TypeDirectory {
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
		it.path = s.pathOf("", true)
	}
}

func (s *scanner) leave(it *item) error {
	f := &s.frames[len(s.frames)-1]
	for f.have {
		s.removed(&f.next)
		s.advance(f)
	}
	s.frames = s.frames[:len(s.frames)-1]
	if n := len(s.path) - len(f.name) - 1; n >= 0 && len(s.frames) > 0 {
		s.path = s.path[:n]
	}
	return nil
}

// advance moves to the next entry of the base. A page that can not be read
// ends the comparison of this directory: the rest of it counts as new.
func (s *scanner) advance(f *frame) {
	var err error
	f.next, f.have, err = f.reader.Next(s.x.ctx)
	if err != nil {
		f.have = false
	}
}

// match finds the base's entry of the same name; what the base has before it
// is gone from the source.
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
			it.base, it.hasBase = f.next, true
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
	s.x.counts.Removed += n
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
		if x.w != nil && x.w.Distrusts() && e.Type == source.Regular {
			it.verify = true
			it.path = s.pathOf(e.Name, false)
			s.cur.work = true
			s.cur.bytes += 1024
		}
		return nil
	}
	it.path = s.pathOf(e.Name, false)
	if e.Type == source.Regular && e.Nlink > 1 {
		key := inode{e.Dev, e.Ino}
		if _, ok := s.seen[key]; ok {
			it.link = true
			return nil
		}
		s.seen[key] = struct{}{}
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
