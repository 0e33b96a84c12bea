package source

import (
	"errors"
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of the operating system that a scan makes for every file. They take names as bytes that end with a zero,
// so that none costs an allocation, and repeat themselves when a signal interrupts them.
//
// They go through syscall.Syscall, not RawSyscall: a hanging network mount must not stop the garbage collector.

// openFlags are part of every open. NONBLOCK is for what may have taken a file's place: opening a FIFO would wait for a
// writer.
const (
	openFlags      = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	directoryFlags = openFlags | unix.O_DIRECTORY
	pathFlags      = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
)

// cname is a component as the system wants it.
type cname [maxName + 1]byte

func (c *cname) set(name string) error {
	if len(name) == 0 || len(name) > maxName {
		return unix.ENAMETOOLONG
	}
	c[copy(c[:], name)] = 0
	return nil
}

// openat opens one component below a directory. Without a slash in the name and with NOFOLLOW it can do no more than
// openat2 with RESOLVE_BENEATH, NO_SYMLINKS and NO_MAGICLINKS, and costs less. An EPERM because of O_NOATIME, which
// only an owner may use, is tried again without.
func openat(dir int, name *byte, flags int) (int, unix.Errno) {
	for {
		fd, _, errno := syscall.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(name)), uintptr(flags|unix.O_LARGEFILE), 0, 0, 0)
		switch {
		case errno == 0:
			return int(fd), 0
		case errno == unix.EPERM && flags&unix.O_NOATIME != 0:
			flags &^= unix.O_NOATIME
		case errno != unix.EINTR:
			return -1, errno
		}
	}
}

// openName is openat for a Go string.
func openName(dir int, name string, flags int) (int, error) {
	var c cname
	if err := c.set(name); err != nil {
		return -1, err
	}
	fd, errno := openat(dir, &c[0], flags)
	if errno != 0 {
		return -1, os.NewSyscallError("open", errno)
	}
	return fd, nil
}

func closeFD(fd int) { syscall.Syscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func fstat(fd int, st *unix.Stat_t) unix.Errno {
	for {
		_, _, errno := syscall.Syscall(unix.SYS_FSTAT, uintptr(fd), uintptr(unsafe.Pointer(st)), 0)
		if errno != unix.EINTR {
			return errno
		}
	}
}

func fstatName(dir int, name string, st *unix.Stat_t) error {
	var c cname
	if err := c.set(name); err != nil {
		return err
	}
	if errno := fstatat(dir, &c[0], st); errno != 0 {
		return os.NewSyscallError("lstat", errno)
	}
	return nil
}

func getdents(fd int, buf []byte) (int, unix.Errno) {
	for {
		n, _, errno := syscall.Syscall(unix.SYS_GETDENTS64, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

func read(fd int, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, _, errno := syscall.Syscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return 0, os.NewSyscallError("read", errno)
		case n == 0:
			return 0, io.EOF
		default:
			return int(n), nil
		}
	}
}

// errnoOf finds the number the operating system gave.
func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	errors.As(err, &errno)
	return errno
}

// inodeOf names the file that a stat found.
func inodeOf(info os.FileInfo) (inode, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}, errors.New("internal error: no stat of the system")
	}
	return inode{uint64(st.Dev), st.Ino}, nil
}

// mincore tells which pages of a mapping are in memory.
func mincore(m, there []byte) error {
	_, _, errno := syscall.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&there[0])))
	if errno != 0 {
		return os.NewSyscallError("mincore", errno)
	}
	return nil
}
