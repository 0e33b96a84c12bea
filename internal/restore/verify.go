package restore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/repo"
)

// reopener opens restored files for reading, never through a link.
type reopener struct{ root int }

func newReopener(path string) (*reopener, error) {
	if path == "" {
		return nil, errors.New("verifying a restore needs the path of its target")
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return &reopener{fd}, nil
}

func (o *reopener) close() { unix.Close(o.root) }

// reopenBytes is how much of a path is opened at once; the kernel takes 4095.
const reopenBytes = 4000

// file opens the regular file at a path below the root.
func (o *reopener) file(path string) (*os.File, error) {
	at := o.root
	rest := strings.TrimPrefix(path, "/")
	for {
		piece, last := rest, len(rest) <= reopenBytes
		if !last {
			n := strings.LastIndexByte(rest[:reopenBytes], '/')
			piece, rest = rest[:n], rest[n+1:]
		}
		flags := unix.O_PATH | unix.O_DIRECTORY
		if last {
			flags = unix.O_RDONLY | unix.O_NONBLOCK
		}
		fd, err := openBeneath(at, piece, flags)
		if at != o.root {
			unix.Close(at)
		}
		if err != nil {
			return nil, err
		}
		if last {
			return os.NewFile(uintptr(fd), path), nil
		}
		at = fd
	}
}

func openBeneath(dirfd int, path string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(dirfd, path, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

var errReread = errors.New("what was written reads back as something else")

// verify reads a finished file again.
func (x *run) verify(f *file) {
	err := x.reread(f)
	switch {
	case err == nil:
		x.count(func(r *Report) { r.Verified++ })
	case x.ctx.Err() == nil:
		x.problem(f.path(), "verify", err)
	}
}

func (x *run) reread(f *file) error {
	in, err := x.again.file(string(f.path()))
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != f.entry.Size {
		return fmt.Errorf("%w: %d bytes instead of %d", errReread, info.Size(), f.entry.Size)
	}
	return x.compare(f, in)
}

// compare reads what an open file holds and compares it with the ids of f's chunks.
func (x *run) compare(f *file, in *os.File) error {
	var buf []byte
	err := x.eachRef(&f.entry.Content, func(ref repo.Ref, off int64) error {
		if x.ctx.Err() != nil {
			return x.ctx.Err()
		}
		if cap(buf) < int(ref.Len) {
			buf = make([]byte, ref.Len)
		}
		p := buf[:ref.Len]
		if err := f.readContent(in, p, off); err != nil {
			return err
		}
		if err := x.pace.Spend(x.ctx, len(p)); err != nil {
			return err
		}
		if !x.rd.IsChunk(ref.ID, p) {
			return fmt.Errorf("%w: chunk %s at %d", errReread, ref.ID.Short(), off)
		}
		return nil
	})
	if err != nil || !f.entry.Sparse {
		return err
	}
	return f.checkHoles(in)
}

// readContent reads p from where an offset of the content lies in the file.
func (f *file) readContent(in io.ReaderAt, p []byte, off int64) error {
	if !f.entry.Sparse {
		_, err := in.ReadAt(p, off)
		return err
	}
	for i := 0; len(p) > 0 && i < len(f.starts); i++ {
		e := f.entry.Extents[i]
		skip := off - f.starts[i]
		if skip >= e.Len {
			continue
		}
		n := min(int64(len(p)), e.Len-skip)
		if _, err := in.ReadAt(p[:n], e.Off+skip); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// checkHoles reads what the file system has stored outside of the extents,
// which is all zeros if anything.
func (f *file) checkHoles(in *os.File) error {
	buf := make([]byte, 64<<10)
	at := int64(0)
	for i := 0; i <= len(f.entry.Extents); i++ {
		end := f.entry.Size
		next := end
		if i < len(f.entry.Extents) {
			end = f.entry.Extents[i].Off
			next = end + f.entry.Extents[i].Len
		}
		for at < end {
			data, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
			if err == unix.ENXIO || err == nil && data >= end {
				break
			}
			if err == nil {
				at = data
			}
			p := buf[:min(int64(len(buf)), end-at)]
			if _, err := in.ReadAt(p, at); err != nil {
				return err
			}
			for _, b := range p {
				if b != 0 {
					return fmt.Errorf("%w: no hole at %d", errReread, at)
				}
			}
			at += int64(len(p))
		}
		at = next
	}
	return nil
}
