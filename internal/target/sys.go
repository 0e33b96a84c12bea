package target

import (
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of this file are made once per file or more, or are not in x/sys in the shape needed here. Names have been
// through validName, so they fit the buffer and hold no NUL.

// openat opens or creates name below dirfd without allocating.
func openat(dirfd int, name string, flags int, mode uint32) (int, error) {
	var buf [maxName + 1]byte
	copy(buf[:maxName], name)
	for {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dirfd), uintptr(unsafe.Pointer(&buf[0])),
			uintptr(flags|unix.O_NOFOLLOW|unix.O_CLOEXEC), uintptr(mode), 0, 0)
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EINTR:
		default:
			return -1, errno
		}
	}
}

// linkat gives the file fd the name below dirfd, which must be free, without allocating.
func linkat(fd, dirfd int, name string) error {
	var buf [maxName + 1]byte
	copy(buf[:maxName], name)
	var empty byte
	_, _, errno := unix.Syscall6(unix.SYS_LINKAT, uintptr(fd), uintptr(unsafe.Pointer(&empty)),
		uintptr(dirfd), uintptr(unsafe.Pointer(&buf[0])), unix.AT_EMPTY_PATH, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// lookup opens name below dirfd with openat2, which refuses links of every kind. Where the call does not exist or a
// filter forbids it, openat does the same for a single component with O_NOFOLLOW. There is no RESOLVE_NO_XDEV: a
// restore may cross mounts below its target.
func lookup(dirfd int, name string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(dirfd, name, &how)
		switch err {
		case unix.EINTR, unix.EAGAIN: // EAGAIN: the kernel saw a rename and could not tell
		case unix.ENOSYS, unix.EPERM:
			return openat(dirfd, name, flags, 0)
		default:
			return fd, err
		}
	}
}

// fstatat is stat of name below dirfd; a link is itself.
func fstatat(dirfd int, name string, st *unix.Stat_t) error {
	return unix.Fstatat(dirfd, name, st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
}

// pwrite writes all of p at off.
func pwrite(fd int, p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := unix.Pwrite(fd, p[n:], off+int64(n))
		if m > 0 {
			n += m
		}
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, err
		case m == 0:
			return n, unix.EIO
		}
	}
	return n, nil
}

// utimens sets the modification time of what o is, by descriptor.
func (o object) utimens(t Time) error {
	times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: t.Sec, Nsec: int64(t.Nsec)}}
	path, flags := unsafe.Pointer(nil), uintptr(0)
	var empty byte
	if o.path {
		path, flags = unsafe.Pointer(&empty), unix.AT_EMPTY_PATH
	}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(o.fd), uintptr(path), uintptr(unsafe.Pointer(&times)), flags, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// object is a descriptor whose metadata can be set. O_PATH descriptors, which cost no permission to get, refuse most
// calls and are reached through AT_EMPTY_PATH and /proc instead.
type object struct {
	fd   int
	path bool
}

// proc is the name under which path calls reach an O_PATH descriptor. It leads to the inode itself, a link included.
func (o object) proc() string { return procFD(o.fd) }

func procFD(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func (o object) chown(uid, gid int) error {
	if !o.path {
		return unix.Fchown(o.fd, uid, gid)
	}
	return unix.Fchownat(o.fd, "", uid, gid, unix.AT_EMPTY_PATH)
}

func (o object) chmod(mode uint32) error {
	if o.path {
		return unix.Chmod(o.proc(), mode)
	}
	return unix.Fchmod(o.fd, mode)
}

func (o object) setxattr(name string, value []byte) error {
	if o.path {
		return unix.Setxattr(o.proc(), name, value, 0)
	}
	return unix.Fsetxattr(o.fd, name, value, 0)
}

// removexattr takes an attribute away; one that is not there or not known to the file system is gone already.
func (o object) removexattr(name string) error {
	var err error
	if o.path {
		err = unix.Removexattr(o.proc(), name)
	} else {
		err = unix.Fremovexattr(o.fd, name)
	}
	if err == unix.ENODATA || err == unix.EOPNOTSUPP {
		return nil
	}
	return err
}

// closeFile closes fd and gives what network file systems keep back until then. EINTR has closed it too.
func closeFile(fd int) error {
	if err := unix.Close(fd); err != nil && err != unix.EINTR {
		return err
	}
	return nil
}

// replace moves from below fromfd over what stands under to below tofd. Nothing is durable by it: a restore is synced
// once, at its end.
func replace(fromfd int, from string, tofd int, to string) error {
	return unix.Renameat(fromfd, from, tofd, to)
}

// moveNew moves from below fromfd to a name that must be free: EEXIST. Mounts that refuse RENAME_NOREPLACE get a second
// name and lose the first; those that know no hard links either are left a moment in which somebody else's new entry of
// that name would be replaced.
func moveNew(fromfd int, from string, tofd int, to string) error {
	err := unix.Renameat2(fromfd, from, tofd, to, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	switch err = unix.Linkat(fromfd, from, tofd, to, 0); err {
	case nil:
		unix.Unlinkat(fromfd, from, 0) // if it can not, the stage stays
		return nil
	case unix.EPERM, unix.EOPNOTSUPP, unix.ENOSYS:
		var st unix.Stat_t
		if err := fstatat(tofd, to, &st); err != unix.ENOENT {
			return unix.EEXIST
		}
		return unix.Renameat(fromfd, from, tofd, to)
	}
	return err
}

// syncFileSystem writes out everything of the file system that fd lies on, and tells of write errors since fd was opened.
func syncFileSystem(fd int) error { return unix.Syncfs(fd) }
