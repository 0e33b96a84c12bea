//go:build !amd64

package source

import "golang.org/x/sys/unix"

// fstatat is lstat of one component below a directory; name ends with a zero byte.
func fstatat(dir int, name *byte, st *unix.Stat_t) unix.Errno {
	for {
		err := unix.Fstatat(dir, unix.BytePtrToString(name), st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
		if err == nil {
			return 0
		}
		if errno := errnoOf(err); errno != unix.EINTR {
			return errno
		}
	}
}
