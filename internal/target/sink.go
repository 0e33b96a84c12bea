package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Sink is where the streams of a source go back to: a database that is made anew, a prefix of a bucket, a directory. It is the
// write twin of source.Streams.
//
// What comes is what was yielded, in the same order, one after the other: Put returns before the next call. One goroutine uses a
// sink, once. What was there before is never changed by it.
type Sink interface {
	// Put takes one file: all of content, which ends with io.EOF and has the size that f tells, or whose error ends the Put and
	// is returned. When it returns nil the file is there as a whole, or will be with Commit; with an error, nothing of it ever is.
	// ErrName for a path the place can not have, ErrExists or ErrSame when it has that file already. Others may be put after an
	// error.
	Put(ctx context.Context, f SinkFile, content io.Reader) error
	// Commit makes what was put count, all of it, durable when it returns nil. After an error it is not known to be.
	Commit(ctx context.Context) error
	// Abort ends it without. What was put is taken back, or stays as whole files. After Commit, or again, it does nothing.
	Abort() error
}

// SinkFile says what a stream is.
type SinkFile struct {
	Path string // components joined by slashes
	Size int64  // bytes
	Meta Meta   // of TypeRegular; attributes hold what the source put there
}

// errShort says that a stream was not as long as it was said to be.
var errShort = errors.New("the content has another length than it should")

// DirectorySink puts streams into files below a directory, where they land when the kind of place they came from is not there. Each
// file appears under its name when it is whole; Abort leaves those that are.
type DirectorySink struct {
	directory *Directory
	open      []openFolder // from the root to where the last file went
	problems  []Problem
	over      bool
}

type openFolder struct {
	name   string
	folder *Folder
}

var _ Sink = (*DirectorySink)(nil)

// NewDirectorySink returns a sink that writes below d, which stays the caller's to close.
func NewDirectorySink(d *Directory) *DirectorySink {
	return &DirectorySink{directory: d, open: []openFolder{{folder: d.Root()}}}
}

const (
	sinkBuffer = 256 << 10
	// maxSinkProblems bounds what is kept of metadata that could not be set.
	maxSinkProblems = 1000
)

// Problems are what could not be set of files that are there, the first thousand.
func (s *DirectorySink) Problems() []Problem { return s.problems }

func (s *DirectorySink) note(problems []Problem) {
	s.problems = append(s.problems, problems[:min(len(problems), maxSinkProblems-len(s.problems))]...)
}

// Put writes one file; see [Sink].
func (s *DirectorySink) Put(ctx context.Context, f SinkFile, content io.Reader) error {
	if s.over {
		return ErrClosed
	}
	names := strings.Split(f.Path, "/")
	for _, name := range names {
		if !validName(name) {
			return fmt.Errorf("%.200q: %w", f.Path, ErrName)
		}
	}
	in, err := s.enter(names[:len(names)-1])
	if err != nil {
		return err
	}
	w, err := in.Create(names[len(names)-1], f.Size, f.Meta.Mtime)
	if err != nil {
		return err
	}
	if err := fill(ctx, w, f.Size, content); err != nil {
		w.Abort()
		return fmt.Errorf("%.200q: %w", f.Path, err)
	}
	problems, err := w.Finish(&f.Meta)
	s.note(problems)
	return err
}

// fill writes all of content, which must be of that size.
func fill(ctx context.Context, w *File, size int64, content io.Reader) error {
	buf := make([]byte, sinkBuffer)
	var off int64
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := content.Read(buf)
		if off+int64(n) > size {
			return errShort
		}
		if n > 0 {
			if _, err := w.WriteAt(buf[:n], off); err != nil {
				return err
			}
			off += int64(n)
		}
		switch {
		case err == io.EOF && off == size:
			return nil
		case err == io.EOF:
			return errShort
		case err != nil:
			return err
		}
	}
}

// enter goes to the folder of a path, from where the last file went.
func (s *DirectorySink) enter(names []string) (*Folder, error) {
	same := 0
	for same < len(names) && same+1 < len(s.open) && s.open[same+1].name == names[same] {
		same++
	}
	if err := s.leave(same + 1); err != nil {
		return nil, err
	}
	for _, name := range names[same:] {
		f, err := s.open[len(s.open)-1].folder.Folder(name)
		if err != nil {
			return nil, err
		}
		s.open = append(s.open, openFolder{name, f})
	}
	return s.open[len(s.open)-1].folder, nil
}

// leave closes folders until so many are open. Those that were made get their mode.
func (s *DirectorySink) leave(depth int) error {
	var errs []error
	for len(s.open) > depth {
		f := s.open[len(s.open)-1].folder
		s.open = s.open[:len(s.open)-1]
		if f.Made() {
			problems, err := f.Finish(&Meta{Type: TypeDirectory, Mode: 0o700, UID: f.uid, GID: f.gid, Mtime: now()})
			s.note(problems)
			errs = append(errs, err)
		}
		f.Close()
	}
	return errors.Join(errs...)
}

// Commit makes all files durable.
func (s *DirectorySink) Commit(ctx context.Context) error {
	if s.over {
		return ErrClosed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.over = true
	return errors.Join(s.leave(1), s.directory.SyncAll())
}

// Abort leaves what is whole.
func (s *DirectorySink) Abort() error {
	if s.over {
		return nil
	}
	s.over = true
	return s.leave(1)
}
