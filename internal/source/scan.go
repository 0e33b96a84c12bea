package source

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/pace"
)

// scan is one walk. It lives until its last directory is released, or until it is broken off.
type scan struct {
	files   *Files
	fds     *descriptors
	owners  owners
	skip    map[place]bool // directories that count as empty
	stopped atomic.Bool
	forget  func() bool // stops watching the context

	ahead
}

// place tells one inode from all others.
type place struct{ dev, ino uint64 }

// frame is a directory the consumer is in.
type frame struct {
	dir   *directory
	batch *batch
	at    int
}

func newScan(f *Files) *scan {
	s := &scan{files: f}
	for _, dir := range f.skip {
		var st unix.Stat_t
		if unix.Stat(dir, &st) == nil {
			if s.skip == nil {
				s.skip = make(map[place]bool)
			}
			s.skip[place{uint64(st.Dev), st.Ino}] = true
		}
	}
	s.ahead.init()
	s.fds = newDescriptors(maxDescriptors, func() {
		if s.forget != nil {
			s.forget()
		}
	})
	return s
}

// run yields the entries and returns when the loop is over; the workers are gone then.
func (s *scan) run(ctx context.Context, yield func(Entry, error) bool) {
	if ctx.Err() != nil {
		yield(Entry{}, context.Cause(ctx))
		return
	}
	if err := s.files.check(); err != nil {
		yield(Entry{}, err)
		return
	}
	root := &directory{scan: s, named: s.files.named, whole: s.files.named.path}
	root.list.dir = root
	s.fds.enrol(root)
	insertAfter(&s.ring, &root.list)

	// From here on, and after the end as long as a directory is not released, cancelling closes everything.
	aborted := make(chan struct{})
	s.forget = context.AfterFunc(ctx, func() {
		s.abort()
		close(aborted)
	})
	var group sync.WaitGroup
	for range s.files.workers {
		group.Go(func() {
			pace.Of(ctx).Thread()
			s.work()
		})
	}
	err := func() error {
		complete := false
		// Deferred, as the body of the loop may panic.
		defer func() {
			s.stop()
			group.Wait()
			if complete {
				return
			}
			if !s.forget() {
				<-aborted
			}
			s.abort()
		}()
		var err error
		complete, err = s.walk(ctx, root, yield)
		return err
	}()
	if err != nil {
		yield(Entry{}, err)
	}
}

// abort ends the scan early, from whatever goroutine. What is open is closed, at the latest when it is put down.
func (s *scan) abort() {
	s.stopped.Store(true)
	s.stop()
	s.fds.close()
}

// walk takes the results in order. complete is false when the loop was left or ended with an error.
func (s *scan) walk(ctx context.Context, root *directory, yield func(Entry, error) bool) (complete bool, err error) {
	w := workers.Get().(*worker)
	defer workers.Put(w)

	stack := []frame{{dir: root}}
	for len(stack) > 0 {
		f := &stack[len(stack)-1]
		d := f.dir
		if f.batch == nil {
			s.await(&d.list, w)
			if s.stopped.Load() {
				return false, context.Cause(ctx)
			}
			switch d.fate {
			case fateLost:
				return false, fmt.Errorf("source: %s: %w", d.path(), d.err)
			case fateGone, fateOther:
				if d.fate == fateOther && !yield(itemOf(d.parent, d.name, &d.st, nil), nil) {
					return false, nil
				}
				s.fds.release(d)
				s.pass(nil, directoryWeight)
				stack = stack[:len(stack)-1]
				continue
			}
			if !yield(directoryEntry(d, Enter), nil) {
				return false, nil
			}
			f.batch = d.first
		}
		b := f.batch
		descend := false
		for f.at < len(b.records) {
			r := &b.records[f.at]
			i := b.from + f.at
			f.at++
			if r.sub != nil {
				stack = append(stack, frame{dir: r.sub})
				descend = true
				break
			}
			switch r.fate {
			case fateGone:
				continue
			case fateLost:
				return false, fmt.Errorf("source: %s/%s: %w", d.path(), d.names.name(i), r.err)
			}
			if s.stopped.Load() {
				return false, context.Cause(ctx)
			}
			if !yield(itemOf(d, d.names.name(i), &r.st, r.err), nil) {
				return false, nil
			}
		}
		if descend {
			continue
		}
		if next := s.pass(b, len(b.records)); next != nil {
			s.await(&next.task, w)
			if s.stopped.Load() {
				return false, context.Cause(ctx)
			}
			f.batch, f.at = next, 0
			continue
		}
		stack = stack[:len(stack)-1]
		s.pass(nil, directoryWeight)
		// Entries that are kept must not keep the whole listing.
		d.names, d.first = listing{}, nil
		if s.stopped.Load() {
			return false, context.Cause(ctx)
		}
		if !yield(directoryEntry(d, Leave), nil) {
			return false, nil
		}
	}
	return true, nil
}

// pass puts what counted as n entries behind the consumer: a batch, or, with nil, a directory. It returns the batch
// after it.
func (s *scan) pass(b *batch, n int) (next *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consumed(n)
	if b != nil {
		next = b.next
		s.reuse(b.records)
		b.records = nil
	}
	return next
}

func itemOf(in *directory, name string, st *unix.Stat_t, err error) Entry {
	e := Entry{Event: Item, Name: name, Err: err, Timeless: in.timeless, dir: in}
	e.fill(st)
	return e
}

func directoryEntry(d *directory, event Event) Entry {
	e := Entry{Event: event, Name: d.name, Err: d.err, Timeless: d.timeless, dir: d}
	e.fill(&d.st)
	e.Type = Directory
	return e
}

// fill copies what lstat told.
func (e *Entry) fill(st *unix.Stat_t) {
	e.Type = typeOf(st.Mode)
	e.Mode = st.Mode & 0o7777
	e.UID, e.GID = st.Uid, st.Gid
	e.Size = st.Size
	e.Mtime = Time{Sec: int64(st.Mtim.Sec), Nsec: uint32(st.Mtim.Nsec)}
	e.Ctime = Time{Sec: int64(st.Ctim.Sec), Nsec: uint32(st.Ctim.Nsec)}
	e.Dev, e.Ino = uint64(st.Dev), st.Ino
	e.Nlink = uint32(st.Nlink)
	if e.Type == CharDevice || e.Type == BlockDevice {
		e.RdevMajor, e.RdevMinor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	}
	e.Blocks = st.Blocks
}

func typeOf(mode uint32) Type {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return Regular
	case unix.S_IFDIR:
		return Directory
	case unix.S_IFLNK:
		return Symlink
	case unix.S_IFIFO:
		return FIFO
	case unix.S_IFSOCK:
		return Socket
	case unix.S_IFCHR:
		return CharDevice
	case unix.S_IFBLK:
		return BlockDevice
	}
	return 0
}
