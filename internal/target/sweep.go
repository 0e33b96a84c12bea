package target

import (
	"bytes"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listBytes is the buffer for names of one reading of a directory.
const listBytes = 32 << 10

// sweep removes from a folder that was there before this restore what a restore that died has left: stages of the own
// user which nobody has locked. It reads through o, whose place in the list nothing else depends on. What it can not
// remove stays, which is no error: nothing depends on it being gone.
func (d *Directory) sweep(o object) {
	if o.path {
		return
	}
	var left []string
	eachName(o.fd, func(name []byte) {
		if isStage(name) {
			left = append(left, string(name))
		}
	})
	for _, name := range left {
		d.sweepStage(o.fd, name)
	}
}

// sweepStage removes a stage that nobody uses, with what it was named for. The files in it are removed through its
// descriptor, so that swapping names meanwhile reaches nothing, and the directory only if it is empty then.
func (d *Directory) sweepStage(dirfd int, name string) {
	fd, err := lookup(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Uid != d.uid || st.Mode&0o777 != 0o700 {
		return
	}
	if flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	var made []string
	eachName(fd, func(in []byte) {
		if rest, ok := bytes.CutPrefix(in, []byte(name+".")); ok && onlyOf(rest, "0123456789") {
			made = append(made, string(in))
		}
	})
	for _, in := range made {
		unix.Unlinkat(fd, in, 0)
	}
	unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR)
}

func isStage(name []byte) bool {
	random, ok := bytes.CutPrefix(name, []byte(stagePrefix))
	return ok && len(random) == stageRandom && onlyOf(random, "0123456789abcdef")
}

func onlyOf(b []byte, digits string) bool {
	for _, c := range b {
		if strings.IndexByte(digits, c) < 0 {
			return false
		}
	}
	return len(b) > 0
}

// eachName calls use for every name in the directory fd from where it is read to its end, or to an error. The bytes are
// valid during the call.
func eachName(fd int, use func(name []byte)) {
	buf := make([]byte, listBytes)
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		for rest := buf[:n]; len(rest) > 0; {
			const head = int(unsafe.Offsetof(unix.Dirent{}.Name))
			entry := (*unix.Dirent)(unsafe.Pointer(&rest[0]))
			size := int(entry.Reclen)
			if size <= head || size > len(rest) {
				return
			}
			name := rest[head:size]
			if end := bytes.IndexByte(name, 0); end >= 0 {
				name = name[:end]
			}
			use(name)
			rest = rest[size:]
		}
	}
}

// flock locks a descriptor, for as long as it or a copy of it is open.
func flock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); err != unix.EINTR {
			return err
		}
	}
}
