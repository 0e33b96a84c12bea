package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
	"sync"
	"time"
)

// StreamFile is a file whose content comes out of a pipe: the dump of a database, an object of a bucket.
type StreamFile struct {
	Path    string    // where it stands in the tree, components joined by slashes
	Mode    uint32    // permission bits; 0 for 0600
	Mtime   time.Time // zero for the time of the scan
	Details Details   // such as the metadata of an object as extended attributes
	Open    func(ctx context.Context) (io.ReadCloser, error)
}

// Streams is a source of files whose contents come out of pipes. Their lengths are known only at the end, so their entries have
// StreamSize.
//
// The list is asked for when a scan begins and must be in the order of paths, compared component by component, which
// [ComparePaths] tells; a directory is what leads to a file. Open of a file is called at most once a scan, and by a backup one
// after the other in the order of the list, each when the one before is closed: so they may share a connection. A list that ends
// with an error is a scan that does.
type Streams struct {
	list func(context.Context) iter.Seq2[StreamFile, error]

	mu   sync.Mutex           // guards what follows
	held map[uint64]*streamed // files and directories by the inode number they were given
	next uint64
}

// streamed is a file or directory of a scan that goes on, or is over while its entries are still used.
type streamed struct {
	StreamFile
	scan   *streamScan
	opened bool
	left   []uint64 // of a directory that was left: what goes when it is released
}

var _ Source = (*Streams)(nil)

// NewStreams returns the source of what list yields.
func NewStreams(list func(context.Context) iter.Seq2[StreamFile, error]) *Streams {
	return &Streams{list: list, held: make(map[uint64]*streamed)}
}

// ComparePaths orders paths as a scan yields them.
func ComparePaths(a, b string) int {
	for {
		x, restA, moreA := strings.Cut(a, "/")
		y, restB, moreB := strings.Cut(b, "/")
		if c := cmp.Compare(x, y); c != 0 {
			return c
		}
		if !moreA || !moreB {
			return cmp.Compare(len(a), len(b))
		}
		a, b = restA, restB
	}
}

// streamScan is one walk over the list.
type streamScan struct {
	of    *Streams
	ctx   context.Context
	yield func(Entry, error) bool
	now   Time
	dirs  []streamDir // the root first
	last  string
}

// streamDir is a directory the scan is in: itself and the files it has yielded there.
type streamDir struct {
	entry Entry
	inos  []uint64
}

// Scan yields the files of the list and the directories above them.
func (s *Streams) Scan(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		t := time.Now()
		w := &streamScan{of: s, ctx: ctx, yield: yield, now: Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}}
		whole := false
		defer func() {
			if !whole {
				s.drop(w)
			}
		}()
		if ctx.Err() != nil {
			yield(Entry{}, context.Cause(ctx))
			return
		}
		if !w.enter("") {
			return
		}
		for f, err := range s.list(ctx) {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if err == nil {
				err = w.check(&f)
			}
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if !w.file(f) {
				return
			}
		}
		if ctx.Err() != nil {
			yield(Entry{}, context.Cause(ctx))
			return
		}
		whole = w.leave(0)
	}
}

// check refuses a path that is no path, or not behind the one before.
func (w *streamScan) check(f *StreamFile) error {
	for part := range strings.SplitSeq(f.Path, "/") {
		if part == "" || part == "." || part == ".." || len(part) > 255 || strings.IndexByte(part, 0) >= 0 {
			return fmt.Errorf("%.200q is no name for a file: its components must be neither empty nor . nor .. nor longer than 255 bytes", f.Path)
		}
	}
	switch {
	case w.last == "":
	case strings.HasPrefix(f.Path, w.last+"/"):
		return fmt.Errorf("internal error: %.200q is listed as a file, and below it %.200q", w.last, f.Path)
	case ComparePaths(w.last, f.Path) >= 0:
		return fmt.Errorf("internal error: %.200q is listed behind %.200q", f.Path, w.last)
	}
	w.last = f.Path
	return nil
}

// file yields a file, and what has to be left and entered on the way to it.
func (w *streamScan) file(f StreamFile) bool {
	names := strings.Split(f.Path, "/")
	above := names[:len(names)-1]
	same := 0
	for same < len(above) && same+1 < len(w.dirs) && w.dirs[same+1].entry.Name == above[same] {
		same++
	}
	if !w.leave(same + 1) {
		return false
	}
	for _, name := range above[same:] {
		if !w.enter(name) {
			return false
		}
	}
	e := w.entry(Item, Regular, names[len(names)-1])
	e.Mode = cmp.Or(f.Mode&0o777, 0o600)
	e.Size, e.Blocks = StreamSize, StreamSize/512
	if !f.Mtime.IsZero() {
		e.Mtime = Time{Sec: f.Mtime.Unix(), Nsec: uint32(f.Mtime.Nanosecond())}
	}
	w.of.hold(e.Ino, &streamed{StreamFile: f, scan: w})
	top := &w.dirs[len(w.dirs)-1]
	top.inos = append(top.inos, e.Ino)
	return w.yield(e, nil)
}

func (w *streamScan) enter(name string) bool {
	e := w.entry(Enter, Directory, name)
	w.of.hold(e.Ino, &streamed{scan: w})
	w.dirs = append(w.dirs, streamDir{entry: e, inos: []uint64{e.Ino}})
	return w.yield(e, nil)
}

// leave leaves directories until so many are left.
func (w *streamScan) leave(depth int) bool {
	for len(w.dirs) > depth {
		d := w.dirs[len(w.dirs)-1]
		w.dirs = w.dirs[:len(w.dirs)-1]
		d.entry.Event = Leave
		w.of.left(d.entry.Ino, d.inos)
		if !w.yield(d.entry, nil) {
			return false
		}
	}
	return true
}

func (w *streamScan) entry(event Event, typ Type, name string) Entry {
	return Entry{Event: event, Type: typ, Name: name, Mode: 0o700, Nlink: 1, Mtime: w.now, Ctime: w.now,
		UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Ino: w.of.number()}
}

func (s *Streams) number() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	return s.next
}

func (s *Streams) hold(ino uint64, f *streamed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[ino] = f
}

func (s *Streams) left(dir uint64, all []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.held[dir]; d != nil {
		d.left = all
	}
}

// drop forgets what a scan has yielded.
func (s *Streams) drop(w *streamScan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ino, f := range s.held {
		if f.scan == w {
			delete(s.held, ino)
		}
	}
}

// find is what an entry stands for, nil once that was released or its scan cancelled. s.mu is held.
func (s *Streams) find(e *Entry) *streamed {
	f := s.held[e.Ino]
	if f == nil || f.scan.ctx.Err() != nil {
		return nil
	}
	return f
}

// Owner is that of the list.
func (s *Streams) Owner(e *Entry) (user, group string) {
	d, err := s.Details(e)
	if err != nil {
		return "", ""
	}
	return d.User, d.Group
}

// Details are those of the list; directories have none.
func (s *Streams) Details(e *Entry) (Details, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.find(e)
	if f == nil {
		return Details{}, &fs.PathError{Op: "details", Path: e.Name, Err: ErrReleased}
	}
	return f.StreamFile.Details, nil
}

// Open starts reading. It works once for each file.
func (s *Streams) Open(e *Entry) (File, error) {
	s.mu.Lock()
	f := s.find(e)
	var err error
	switch {
	case f == nil || e.Type != Regular:
		err = ErrReleased
	case f.opened:
		err = errOnce
	default:
		f.opened = true
	}
	s.mu.Unlock()
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: e.Name, Err: err}
	}
	in, err := f.StreamFile.Open(f.scan.ctx)
	if err != nil {
		return nil, err
	}
	return &pipedFile{streamFile: newStreamFile(f.scan.ctx, e, in), in: in, details: f.StreamFile.Details}, nil
}

// Release forgets a directory that has been left, and its files.
func (s *Streams) Release(leave *Entry) {
	if leave.Event != Leave {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.held[leave.Ino]
	if d == nil {
		return
	}
	for _, ino := range d.left {
		delete(s.held, ino)
	}
}

// pipedFile is a file of Streams that is read.
type pipedFile struct {
	*streamFile
	in      io.ReadCloser
	details Details
	once    sync.Once
	err     error
}

// Details are those of the list.
func (f *pipedFile) Details() (Details, error) { return f.details, nil }

// Close ends the pipe, and waits until nobody reads from it, so that the next one may be opened.
func (f *pipedFile) Close() error {
	f.once.Do(func() {
		f.err = errors.Join(f.streamFile.Close(), f.in.Close())
		<-f.pumped
	})
	return f.err
}
