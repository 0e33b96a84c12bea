package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/repo"
)

// readBuffer is what a worker reads into, or twice the largest chunk if that
// is more, and smallBuffer what takes a file that is smaller and finds no room
// in the block being filled. readAttempts is how often a file is read that
// changes meanwhile.
const (
	readBuffer   = 2 << 20
	smallBuffer  = repo.BlockSize
	readAttempts = 2
)

// worker handles batches and segments until there are none left. Only
// repository trouble ends it; trouble with the source is a problem of the item.
func (x *run) worker() error {
	x.pace.Thread()
	wk := &worker{run: x}
	if x.w != nil {
		lane, err := x.w.NewLane()
		if err != nil {
			return err
		}
		wk.lane = lane
	}
	for t := range x.work {
		if x.ctx.Err() != nil {
			continue // drain, so that nobody blocks on sending
		}
		if t.segment != nil {
			if err := wk.segment(t.segment); err != nil {
				return err
			}
			continue
		}
		for i := range t.batch.items {
			if x.ctx.Err() != nil {
				return nil
			}
			if err := wk.item(&t.batch.items[i]); err != nil {
				return err
			}
		}
		close(t.batch.done)
	}
	if wk.lane == nil || x.ctx.Err() != nil {
		return nil
	}
	return wk.lane.Flush(x.ctx)
}

type worker struct {
	*run
	lane *repo.Lane
	buf  []byte     // of smallBuffer as long as no larger file came
	was  repo.Entry // of kept
	st   stream     // of the file being read
}

// item examines what the scan did not find unchanged.
func (wk *worker) item(it *item) error {
	if it.large != nil || it.link || it.failed || it.entry.Event == source.Leave {
		return nil
	}
	if err := wk.confirm(it); err != nil || it.unchanged {
		return err
	}
	if it.entry.Type == source.Regular {
		return wk.file(it)
	}
	if wk.w == nil {
		return nil
	}
	if it.entry.Err != nil { // a directory that could not be listed: nor was it asked for its attributes
		it.partial = true
		return nil
	}
	d, err := wk.src.Details(&it.entry)
	it.details = d
	if err != nil {
		if gone(err) && it.entry.Event == source.Item {
			it.failed, it.gone = true, true
			return nil
		}
		wk.problem(it.path(), "read attributes", err)
		it.partial = true
		it.failed = it.entry.Type == source.Symlink && d.Target == ""
	}
	return nil
}

// confirm takes back that a file is unchanged when its chunks may have been
// lost and are.
func (x *run) confirm(it *item) error {
	if !it.verify {
		return nil
	}
	var e repo.Entry
	if it.base.Entry(&e) == nil {
		there, err := x.w.Has(x.ctx, &e.Content)
		if err != nil || there {
			return err
		}
	}
	it.unchanged = false
	return nil
}

// gone tells that something vanished after it was listed, which is what
// happens on a living system and no problem: it is as if the scan had come a
// moment later.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// file reads one file into the worker's lane.
func (wk *worker) file(it *item) error {
	if wk.w == nil {
		return nil
	}
	f := wk.open(it)
	if f == nil {
		return nil
	}
	defer func() { f.Close() }()
	for attempt := 1; ; attempt++ {
		it.refs = it.refs[:0]
		if err := wk.read(it, f); err != nil {
			return wk.sourceTrouble(it, err)
		}
		if !wk.movedOn(it, f) {
			break
		}
		var again source.File
		err := errChanged
		if attempt < readAttempts {
			again, err = wk.src.Open(&it.entry)
		}
		if err != nil {
			// Nothing stands there that could be read once more: what was read
			// is the best there is.
			wk.problem(it.path(), "read", errChanged)
			it.partial = true
			break
		}
		f.Close()
		f = again
	}
	wk.describe(it, f)
	return nil
}

// open opens the file of an item; nil when it can not, which the item then
// says.
func (x *run) open(it *item) source.File {
	f, err := x.src.Open(&it.entry)
	if err == nil {
		return f
	}
	it.failed = true
	if it.gone = gone(err); !it.gone {
		x.problem(it.path(), "open", err)
	}
	return nil
}

// sourceTrouble makes an error of the source the problem of the item; any
// other ends the run, and so does what can not be had a second time: a
// snapshot without it would be the base of the next, and the latest.
func (x *run) sourceTrouble(it *item, err error) error {
	var trouble *sourceError
	if !errors.As(err, &trouble) {
		return err
	}
	if errors.Is(trouble.err, source.ErrBrokenOff) {
		return fmt.Errorf("no snapshot was made: %w", trouble.err)
	}
	it.failed = true
	x.problem(it.path(), "read", trouble.err)
	return nil
}

var errChanged = errors.New("changed while it was read: what was stored may be of no one moment")

// sourceError is trouble with the source, as opposed to the repository.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }

// movedOn tells whether a file changed while it was read.
func (x *run) movedOn(it *item, f source.File) bool {
	opened := f.Opened()
	now, err := f.Stat()
	if err != nil {
		x.problem(it.path(), "stat", err)
		it.partial = true
		return false
	}
	return now.Size != opened.Size || now.Mtime != opened.Mtime || now.Ctime != opened.Ctime
}

// describe takes over the metadata of the file that was read: as they were
// when it was opened, so that whatever changed later shows in the next run.
func (x *run) describe(it *item, f source.File) {
	opened := f.Opened()
	opened.Event, opened.Name = it.entry.Event, it.entry.Name
	it.entry = opened
	var err error
	if it.details, err = f.Details(); err != nil {
		x.problem(it.path(), "read attributes", err)
		it.partial = true
	}
}

// read cuts a file and puts its chunks. For a sparse file only the ranges
// that hold data are read; they are cut as one stream.
func (wk *worker) read(it *item, f source.File) error {
	st := &wk.st
	if err := st.open(f, f.Opened()); err != nil {
		return &sourceError{err}
	}
	buf := wk.buffer(st)
	kept := wk.kept(it)
	var old references // looked up when the first chunk differs
	looked := false
	var off int64
	have := 0
	for eof := false; !eof || have > 0; {
		if !eof {
			n, err := st.fill(buf[have:])
			have += n
			wk.prog.BytesRead.Add(int64(n))
			if err == io.EOF {
				eof = true
			} else if err != nil {
				return &sourceError{err}
			}
			if err := wk.pace.Spend(wk.ctx, n); err != nil {
				return err
			}
		}
		used := 0
		for {
			if i := len(it.refs); i < len(kept) {
				n := int(kept[i].Len)
				if used+n > have && !eof && n <= wk.maxChunk {
					break
				}
				if wk.same(kept[i:], buf[used:have], eof) {
					it.refs = append(it.refs, kept[i])
					used += n
					off += int64(n)
					continue
				}
				kept = nil
			}
			n := wk.cutter.Cut(buf[used:have], eof)
			if n == 0 {
				break
			}
			chunk := buf[used : used+n]
			r := wk.lane.Ref(chunk)
			used += n
			if !looked {
				old, looked = wk.references(it), true
			}
			if err := wk.put(chunk, r, old.like(off, r), old.guess); err != nil {
				return err
			}
			it.refs = append(it.refs, r)
			off += int64(n)
		}
		have = copy(buf, buf[used:have])
	}
	st.finish(it, off)
	return nil
}

// buffer is where a file is read into: a small one straight into the block its
// chunks are for. There it has a byte to spare, in which the end shows.
func (wk *worker) buffer(st *stream) []byte {
	if !st.sparse && st.left < readBuffer {
		if room := wk.lane.Room(int(st.left) + 1); room != nil {
			return room
		}
		if st.left < smallBuffer {
			return wk.atLeast(smallBuffer)
		}
	}
	return wk.atLeast(max(readBuffer, 2*wk.maxChunk))
}

// atLeast returns the worker's own buffer, which is made when it is needed.
func (wk *worker) atLeast(n int) []byte {
	if len(wk.buf) < n {
		wk.buf = make([]byte, n)
	}
	return wk.buf
}

func (wk *worker) put(chunk []byte, r repo.Ref, like []repo.Ref, g *repo.Guess) error {
	isNew, err := wk.lane.PutGuess(wk.ctx, chunk, r, like, g)
	if isNew {
		wk.prog.BytesNew.Add(int64(len(chunk)))
	}
	return err
}

// stream reads what a file holds: all of it up to the size it had when it was
// opened, or the data ranges of a sparse file one after the other.
type stream struct {
	f       source.File
	left    int64 // of a dense file
	total   int64
	sparse  bool
	extents []repo.Extent
	at      int   // extent being read
	done    int64 // bytes of it
}

// open begins to read a file that was just opened.
func (s *stream) open(f source.File, opened source.Entry) error {
	*s = stream{f: f, left: opened.Size, total: opened.Size}
	if opened.Blocks*512 >= opened.Size {
		return nil
	}
	data, sparse, err := f.Extents()
	if err != nil || !sparse || len(data) > repo.MaxExtents {
		return err
	}
	s.sparse = true
	for _, x := range data {
		x.Len = min(x.Len, s.total-x.Off)
		if x.Len <= 0 {
			continue
		}
		if n := len(s.extents); n > 0 && s.extents[n-1].Off+s.extents[n-1].Len == x.Off {
			s.extents[n-1].Len += x.Len
			continue
		}
		s.extents = append(s.extents, repo.Extent(x))
	}
	return nil
}

// fill reads until p is full or the stream ends with io.EOF.
func (s *stream) fill(p []byte) (n int, err error) {
	for n < len(p) {
		var m int
		if s.sparse {
			m, err = s.readExtent(p[n:])
		} else {
			want := min(int64(len(p)-n), s.left)
			if want == 0 {
				return n, io.EOF
			}
			m, err = s.f.Read(p[n : n+int(want)])
			s.left -= int64(m)
		}
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (s *stream) readExtent(p []byte) (int, error) {
	for s.at < len(s.extents) && s.done == s.extents[s.at].Len {
		s.at, s.done = s.at+1, 0
	}
	if s.at == len(s.extents) {
		return 0, io.EOF
	}
	x := s.extents[s.at]
	want := min(int64(len(p)), x.Len-s.done)
	n, err := s.f.ReadAt(p[:want], x.Off+s.done)
	s.done += int64(n)
	if n > 0 && (err == nil || err == io.EOF) {
		return n, nil
	}
	if err == nil || err == io.EOF {
		s.cut(x.Off + s.done)
		return 0, io.EOF
	}
	return 0, err
}

// cut ends a sparse file that shrank while it was read where its data end.
func (s *stream) cut(end int64) {
	s.total = end
	s.extents[s.at].Len = s.done
	if s.done > 0 {
		s.at++
	}
	s.extents = s.extents[:s.at]
}

// finish tells the item what came out: read bytes of data.
func (s *stream) finish(it *item, read int64) {
	it.extents, it.sparse, it.size = s.extents, s.sparse, read
	if s.sparse {
		it.size = s.total
	}
}

// wait returns when done is closed, or with the cause when the run ends.
func (x *run) wait(done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-x.ctx.Done():
		return context.Cause(x.ctx)
	}
}
