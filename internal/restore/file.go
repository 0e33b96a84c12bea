package restore

import (
	"errors"
	"math"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/generalbots/backupd/internal/target"
	"github.com/generalbots/backupd/repo"
)

// file is an entry that is no directory, from the plan to its end.
type file struct {
	dir   *dir
	part  int
	entry repo.Entry
	link  *link // of what has more names
	later bool  // one of those, not the first

	left    atomic.Int32 // chunks that have not landed, and one while the plan is at it
	written atomic.Int64 // bytes
	starts  []int64      // of each extent in the content

	open  sync.Mutex // guards what follows
	state state
	w     *target.File // while opened
}

type state uint8

const (
	fresh  state = iota
	opened       // being written
	kept         // what stands there stays
	failed       // reported
	done
)

func (f *file) path() Path { return f.dir.path(f.entry.Name) }

// prepare works out where the extents begin in the content.
func (f *file) prepare() {
	if !f.entry.Sparse || f.starts != nil {
		return
	}
	f.starts = make([]int64, len(f.entry.Extents))
	var sum int64
	for i, e := range f.entry.Extents {
		f.starts[i] = sum
		sum += e.Len
	}
}

// begin gives the file to write to, nil when nothing is to be written.
func (x *run) begin(f *file) *target.File {
	f.open.Lock()
	defer f.open.Unlock()
	if f.state == fresh {
		x.create(f)
	}
	if f.state != opened {
		return nil
	}
	return f.w
}

// create makes the file in the target. f.open is held.
func (x *run) create(f *file) {
	w, err := f.dir.folder.Create(f.entry.Name, f.entry.Size, target.Time(f.entry.Mtime))
	switch {
	case err == nil:
		f.w, f.state = w, opened
		x.mu.Lock()
		x.open[f] = struct{}{}
		x.mu.Unlock()
	case x.kept(f.path(), err):
		f.state = kept
	default:
		x.failLocked(f, "create", err)
	}
}

// fail reports what keeps a file from being restored; only the first time.
func (x *run) fail(f *file, op string, err error) {
	f.open.Lock()
	defer f.open.Unlock()
	x.failLocked(f, op, err)
}

// failLocked leaves the file to drop, since others may still write to it.
func (x *run) failLocked(f *file, op string, err error) {
	if f.state == failed || f.state == done || f.state == kept || x.fatal(err) || x.ctx.Err() != nil {
		return
	}
	f.state = failed
	x.problem(f.path(), op, err)
}

var (
	errLength  = errors.New("a chunk has another length than the file's list says")
	errOutside = errors.New("the chunks are more than the file holds")
)

// write puts bytes at an offset of the content to their places in the file.
func (x *run) write(f *file, w *target.File, p []byte, off int64) error {
	if !f.entry.Sparse {
		return x.writeAt(f, w, p, off)
	}
	i := sort.Search(len(f.starts), func(i int) bool { return f.starts[i] > off }) - 1
	for ; len(p) > 0; i++ {
		if i < 0 || i >= len(f.starts) {
			return errOutside
		}
		e := f.entry.Extents[i]
		skip := off - f.starts[i]
		n := min(int64(len(p)), e.Len-skip)
		if err := x.writeAt(f, w, p[:n], e.Off+skip); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

func (x *run) writeAt(f *file, w *target.File, p []byte, off int64) error {
	if _, err := w.WriteAt(p, off); err != nil {
		return err
	}
	f.written.Add(int64(len(p)))
	x.prog.Bytes.Add(int64(len(p)))
	return x.pace.Spend(x.ctx, len(p))
}

// drop is called when a chunk of f has landed, or will not. After the last
// one the file is complete.
func (x *run) drop(f *file) {
	if f.left.Add(-1) == 0 {
		x.complete(f)
	}
}

// complete ends a regular file: nobody writes to it any more.
func (x *run) complete(f *file) {
	f.open.Lock()
	defer f.open.Unlock()
	if x.ctx.Err() != nil {
		return // what is open is taken back at the end
	}
	if f.state == fresh {
		x.create(f)
	}
	w := f.w
	if w != nil {
		x.mu.Lock()
		delete(x.open, f)
		x.mu.Unlock()
		f.w = nil
	}
	switch {
	case w == nil:
	case f.state == opened:
		problems, err := w.Finish(metaOf(&f.entry))
		switch {
		case err == nil:
		case x.kept(f.path(), err): // it came under the name meanwhile
			f.state = kept
		default:
			x.failLocked(f, "finish", err)
		}
		if err != nil {
			break
		}
		if len(problems) > 0 {
			x.incomplete(f.path(), problems)
		}
		f.state = done
		x.made(f)
		if x.again != nil {
			x.verify(f)
		}
	default:
		w.Abort()
	}
	if f.link != nil && !f.later {
		var made *target.Made
		if f.state == done {
			made = w.Made()
		}
		if f.state == kept {
			f.link.first = f
		}
		x.resolve(f.link, made)
	}
	x.handled(f)
}

// handled is called once for every entry, when all is done about it.
func (x *run) handled(f *file) {
	x.prog.Files.Add(1)
	x.prog.Bytes.Add(f.entry.Size - f.written.Load())
	x.release(f.dir)
}

// made counts an entry that is there now.
func (x *run) made(f *file) {
	x.count(func(r *Report) {
		switch f.entry.Type {
		case repo.TypeRegular:
			r.Files++
			r.Bytes += min(f.entry.Size, math.MaxInt64-r.Bytes)
		case repo.TypeSymlink:
			r.Symlinks++
		default:
			r.Specials++
		}
	})
}
