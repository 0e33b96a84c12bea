package source

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fstatat is lstat of one component below a directory; name ends with a zero byte.
func fstatat(dir int, name *byte, st *unix.Stat_t) unix.Errno {
	for {
		_, _, errno := syscall.Syscall6(unix.SYS_NEWFSTATAT, uintptr(dir), uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(st)),
			unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, 0)
		if errno != unix.EINTR {
			return errno
		}
	}
}
