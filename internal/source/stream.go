package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// Stream is a source that holds one regular file, whose content comes out of a pipe. Its length is known only at the end, so its
// entry has StreamSize. It can be scanned once.
type Stream struct {
	path  []string // components
	in    io.Reader
	now   Time
	taken atomic.Bool
	ctx   context.Context // of the scan: ends a read that nobody feeds
}

// StreamSize is the size of an entry whose true length is not known. It is above that of any file.
const StreamSize = 1 << 62

// errOnce says that what has gone through a pipe is gone.
var errOnce = errors.New("a stream can be read only once")

var _ Source = (*Stream)(nil)

// NewStream returns the source of a file called name, which may be a path, with the content of in. It belongs to the user of
// this process and was modified now.
func NewStream(name string, in io.Reader) (*Stream, error) {
	s := &Stream{in: in}
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		if part == "" || part == "." || part == ".." || len(part) > 255 || strings.IndexByte(part, 0) >= 0 {
			return nil, fmt.Errorf("%q is no name for a file: its components must be neither empty nor . nor .. nor longer than 255 bytes", name)
		}
		s.path = append(s.path, part)
	}
	t := time.Now()
	s.now = Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
	return s, nil
}

// Path is where the file stands in the tree, beginning with a slash.
func (s *Stream) Path() string { return "/" + strings.Join(s.path, "/") }

// Scan yields the file and the directories above it.
func (s *Stream) Scan(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		s.ctx = ctx
		dirs := append([]string{""}, s.path[:len(s.path)-1]...)
		for _, name := range dirs {
			if ctx.Err() != nil {
				yield(Entry{}, context.Cause(ctx))
				return
			}
			if !yield(s.entry(Enter, Directory, name), nil) {
				return
			}
		}
		if !yield(s.entry(Item, Regular, s.path[len(s.path)-1]), nil) {
			return
		}
		for i := len(dirs) - 1; i >= 0; i-- {
			if !yield(s.entry(Leave, Directory, dirs[i]), nil) {
				return
			}
		}
	}
}

func (s *Stream) entry(event Event, typ Type, name string) Entry {
	e := Entry{Event: event, Type: typ, Name: name, Mode: 0o600, Nlink: 1, Mtime: s.now, Ctime: s.now,
		UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	if typ == Directory {
		e.Mode = 0o700
	} else {
		e.Size, e.Blocks = StreamSize, StreamSize/512
	}
	return e
}

// Details are described at [Source]; there are none.
func (s *Stream) Details(*Entry) (Details, error) { return Details{}, nil }

// Owner is described at [Source]; there are no names.
func (s *Stream) Owner(*Entry) (user, group string) { return "", "" }

// Open starts reading. It works once.
func (s *Stream) Open(e *Entry) (File, error) {
	if e.Type != Regular || s.taken.Swap(true) {
		return nil, &fs.PathError{Op: "open", Path: e.Name, Err: errOnce}
	}
	return newStreamFile(s.ctx, e, s.in), nil
}

// Release is described at [Source]; nothing is held.
func (s *Stream) Release(*Entry) {}

// streamFile has the pipe read by a goroutine of its own, so that a cancelled run need not wait for whoever writes the pipe. That
// goroutine may outlive the file until the pipe gives it something or ends. It reads straight into the buffer of who asks: what
// comes out of a pipe is copied often enough.
type streamFile struct {
	entry Entry
	ctx   context.Context
	asked chan []byte // closed by Close
	got   chan streamPart
	err   error // what the pipe ended with
	read  int64
	over  bool

	pumped chan struct{} // closed when nobody reads the pipe any more
}

// streamPart is what came into the buffer that was asked with.
type streamPart struct {
	n   int
	err error
}

func newStreamFile(ctx context.Context, e *Entry, in io.Reader) *streamFile {
	f := &streamFile{entry: *e, ctx: ctx, asked: make(chan []byte), got: make(chan streamPart, 1), pumped: make(chan struct{})}
	go f.pump(in)
	return f
}

func (f *streamFile) pump(in io.Reader) {
	defer close(f.pumped)
	for p := range f.asked {
		var part streamPart
		for part.n < len(p) && part.err == nil { // not ReadFull, which has one error for its end and that of what is behind in
			var n int
			n, part.err = in.Read(p[part.n:])
			part.n += n
		}
		f.got <- part
	}
}

// Read fills p with what the pipe gives. ErrBrokenOff when it ends with anything but its end, which is that the writer closes
// it: that the writer failed does not show. When it returns the cause of the context nothing more may be done with p: the pipe
// may still give something into it.
func (f *streamFile) Read(p []byte) (int, error) {
	switch {
	case f.over:
		return 0, fs.ErrClosed
	case f.err != nil:
		return 0, f.err
	case len(p) == 0:
		return 0, nil
	}
	select {
	case f.asked <- p:
	case <-f.ctx.Done():
		return 0, context.Cause(f.ctx)
	}
	var part streamPart
	select {
	case part = <-f.got:
	case <-f.ctx.Done():
		f.err = context.Cause(f.ctx)
		return 0, f.err
	}
	f.read += int64(part.n)
	switch {
	case part.err == io.EOF:
		f.err = io.EOF
		f.entry.Size, f.entry.Blocks = f.read, (f.read+511)/512
	case part.err != nil:
		f.err = fmt.Errorf("%w: %w", ErrBrokenOff, part.err)
	}
	if part.n > 0 {
		return part.n, nil
	}
	return 0, f.err
}

// ReadAt does not work on a pipe.
func (f *streamFile) ReadAt([]byte, int64) (int, error) { return 0, errOnce }

// Opened is the entry the scan yielded, with the true size once the end was read.
func (f *streamFile) Opened() Entry { return f.entry }

// Stat never tells of a change: what comes out of a pipe is all there is.
func (f *streamFile) Stat() (Entry, error) { return f.entry, nil }

// Extents tells of no holes.
func (f *streamFile) Extents() ([]Extent, bool, error) { return nil, false, nil }

// Details are none.
func (f *streamFile) Details() (Details, error) { return Details{}, nil }

// Close ends the reading.
func (f *streamFile) Close() error {
	if !f.over {
		f.over = true
		close(f.asked)
	}
	return nil
}
