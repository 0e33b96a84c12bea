package durable

import (
	"errors"
	"io/fs"
	"math"
	"math/bits"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// osFile is a File over os.File, which gives safe closing under concurrent use.
type osFile struct {
	f    *os.File
	name string
}

func (f *osFile) ReadAt(p []byte, off int64) (int, error)  { return f.f.ReadAt(p, off) }
func (f *osFile) WriteAt(p []byte, off int64) (int, error) { return f.f.WriteAt(p, off) }
func (f *osFile) Truncate(size int64) error                { return f.f.Truncate(size) }
func (f *osFile) Sync() error                              { return f.f.Sync() }
func (f *osFile) Close() error                             { return f.f.Close() }

func (f *osFile) Size() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// giveBack frees the pages of the file that are clean.
func (f *osFile) giveBack() {
	raw, err := f.f.SyscallConn()
	if err != nil {
		return
	}
	// Advice, with which nothing stands or falls.
	_ = raw.Control(func(fd uintptr) {
		var fs unix.Statfs_t
		if unix.Fstatfs(int(fd), &fs) == nil && fs.Type != unix.TMPFS_MAGIC && fs.Type != unix.RAMFS_MAGIC {
			_ = unix.Fadvise(int(fd), 0, 0, unix.FADV_DONTNEED)
		}
	})
}

// GiveBack frees what the page cache holds of a file and the disk has too, where
// there is a page cache. It is advice and can not fail.
func GiveBack(f File) {
	if g, ok := f.(interface{ giveBack() }); ok {
		g.giveBack()
	}
}

// willRead has the kernel read on while its caller does something else.
func (f *osFile) willRead(off, n int64) {
	raw, err := f.f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.Fadvise(int(fd), off, n, unix.FADV_WILLNEED) }) // advice, like giveBack
}

// WillRead tells that n bytes at off will be read before long, so that they, and no
// more, are on their way meanwhile. It is advice and can not fail.
func WillRead(f File, off, n int64) {
	if w, ok := f.(interface{ willRead(off, n int64) }); ok {
		w.willRead(off, n)
	}
}

// Fallocate uses the system call and never the emulation of a C library, which
// would write zeros without being asked.
func (f *osFile) Fallocate(size int64) error {
	raw, err := f.f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		_, inner = retry(func() (int, error) { return 0, unix.Fallocate(int(fd), 0, 0, size) })
	})
	if err == nil {
		err = inner
	}
	if err != nil {
		return &fs.PathError{Op: "fallocate", Path: f.name, Err: err}
	}
	return nil
}

func statAt(dir int, base string) (Info, error) {
	var st unix.Stat_t
	_, err := retry(func() (int, error) {
		return 0, unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		return Info{}, err
	}
	return Info{Name: base, Size: st.Size, Mode: modeOf(st.Mode)}, nil
}

func modeOf(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	default:
		mode |= fs.ModeIrregular
	}
	return mode
}

// blocks multiplies without wrapping: some network file systems claim 2⁶⁴ bytes.
func blocks(n uint64, unit int64) int64 {
	hi, lo := bits.Mul64(n, uint64(max(unit, 0)))
	if hi != 0 || lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(lo)
}

// retry repeats a system call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// readNames returns the names in an open directory, without "." and "..".
func readNames(fd int) ([]string, error) {
	var names []string
	var buf [8 << 10]byte
	for {
		n, err := retry(func() (int, error) { return unix.ReadDirent(fd, buf[:]) })
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// split cuts a name into its directory and its last component.
func split(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}
