package durable

import (
	"io"
	"io/fs"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxLockTries bounds how often a lock file is found to have been replaced while
// it was being locked.
const maxLockTries = 16

// Lock uses flock, which the kernel releases with the last descriptor, so that a
// killed process leaves nothing behind. A shared lock opens the file read-only
// and makes it only when it is missing. Lock files are never removed: a lock on
// a removed file would exclude nobody.
func (o *OSFS) Lock(name string, mode LockMode, owner string) (io.Closer, error) {
	var lock *osLock
	err := o.within("lock", name, func(dir int, base string) error {
		for range maxLockTries {
			fd, err := openLock(dir, base, mode)
			if err != nil {
				return err
			}
			if err := flock(fd, mode); err != nil {
				held := ""
				if err == unix.EWOULDBLOCK {
					held = holder(fd, mode)
				}
				unix.Close(fd)
				if err == unix.EWOULDBLOCK {
					return &HeldError{Name: name, Owner: held}
				}
				return err
			}
			if !sameFile(fd, dir, base) {
				unix.Close(fd)
				continue
			}
			if mode == Exclusive {
				writeOwner(fd, owner)
			}
			lock = &osLock{fs: o, name: name, fd: fd, mode: mode}
			return nil
		}
		return unix.ESTALE
	})
	if err != nil {
		if held, ok := err.(*fs.PathError).Err.(*HeldError); ok {
			return nil, held
		}
		return nil, err
	}
	return lock, nil
}

func openLock(dir int, base string, mode LockMode) (int, error) {
	const always = unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	if mode == Shared {
		fd, err := retry(func() (int, error) { return unix.Openat(dir, base, unix.O_RDONLY|always, 0) })
		if err != unix.ENOENT {
			return fd, err
		}
	}
	return retry(func() (int, error) {
		return unix.Openat(dir, base, unix.O_RDWR|unix.O_CREAT|always, 0o600)
	})
}

func flock(fd int, mode LockMode) error {
	how := unix.LOCK_SH
	if mode == Exclusive {
		how = unix.LOCK_EX
	}
	_, err := retry(func() (int, error) { return 0, unix.Flock(fd, how|unix.LOCK_NB) })
	return err
}

// holder tells who is in the way. Text of an exclusive holder that was killed
// stays in the file, so it counts only while a shared lock is refused too.
func holder(fd int, wanted LockMode) string {
	if wanted == Exclusive && flock(fd, Shared) == nil {
		return ""
	}
	var buf [MaxOwner]byte
	n, err := unix.Pread(fd, buf[:], 0)
	if err != nil || n < 0 {
		return ""
	}
	return cleanOwner(string(buf[:n]))
}

// cleanOwner keeps the first line and only what a terminal prints.
func cleanOwner(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
}

// writeOwner ignores errors: the lock is held whatever the file says, and on a
// full disk gc must still get it.
func writeOwner(fd int, owner string) {
	if len(owner) > MaxOwner-1 {
		owner = owner[:MaxOwner-1]
	}
	if unix.Ftruncate(fd, 0) == nil {
		unix.Pwrite(fd, []byte(owner+"\n"), 0)
	}
}

func sameFile(fd, dir int, base string) bool {
	var a, b unix.Stat_t
	if unix.Fstat(fd, &a) != nil || unix.Fstatat(dir, base, &b, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	return a.Dev == b.Dev && a.Ino == b.Ino
}

type osLock struct {
	fs   *OSFS
	name string
	fd   int
	mode LockMode
	once sync.Once
}

// Held returns an error when the lock excludes nobody any more, because its file
// was removed or replaced: whoever comes next locks another one. It is called
// before Close.
func (l *osLock) Held() error {
	return l.fs.within("lock", l.name, func(dir int, base string) error {
		if !sameFile(l.fd, dir, base) {
			return unix.ESTALE
		}
		return nil
	})
}

// Close empties the file before it lets go, so that the text of one owner is
// never read as that of the next.
func (l *osLock) Close() error {
	var err error
	l.once.Do(func() {
		if l.mode == Exclusive {
			unix.Ftruncate(l.fd, 0)
		}
		err = unix.Close(l.fd)
	})
	return err
}
