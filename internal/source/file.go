package source

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxExtents bounds the list for one file. What is after the last of them counts as data, which is right, if not
// sparse.
const maxExtents = 1 << 16

// openedFile is a File by its bare descriptor: the poller of package os is of no use to regular files, and costs calls.
type openedFile struct {
	fd    int // -1 after Close
	name  string
	scan  *scan
	dir   *directory
	first unix.Stat_t
	pages sync.Mutex // guards foot, when there is something to give back
	foot  footprint
}

// Open is described at [Source].
func (f *Files) Open(e *Entry) (File, error) {
	if e.dir == nil || e.Event != Item {
		return nil, ErrReleased
	}
	if e.Type != Regular {
		return nil, fmt.Errorf("open: not a regular file but a %v", e.Type)
	}
	s := e.dir.scan
	dir, err := s.fds.pin(e.dir)
	if err != nil {
		return nil, err
	}
	defer s.fds.unpin(e.dir)
	flags := openFlags
	if s.mayNoatime(e.UID) {
		flags |= unix.O_NOATIME
	}
	fd, err := s.fds.trying(func() (int, error) { return openName(dir, e.Name, flags) })
	if err != nil {
		switch errnoOf(err) {
		case unix.ENOENT:
			return nil, errGone
		case unix.ELOOP, unix.ENXIO, unix.ENODEV:
			return nil, ErrChanged
		}
		return nil, err
	}
	o := &openedFile{fd: fd, name: e.Name, scan: s, dir: e.dir}
	if errno := fstat(o.fd, &o.first); errno != 0 {
		o.Close()
		return nil, os.NewSyscallError("stat", errno)
	}
	// Another file that took the place by rename is what a scan a moment later would have found.
	if typeOf(o.first.Mode) != Regular || uint64(o.first.Dev) != e.Dev {
		o.Close()
		return nil, ErrChanged
	}
	if !e.dir.memory && o.first.Size > 0 {
		o.foot.look(o.fd, o.first.Size)
	}
	return o, nil
}

// mayNoatime tells whether it is worth trying to leave no access time behind: only the owner may, and root.
func (s *scan) mayNoatime(owner uint32) bool {
	return s.files.euid == 0 || s.files.euid == int(owner)
}

// sameFile tells whether st is the file the entry describes, whatever became of its content.
func sameFile(e *Entry, st *unix.Stat_t) bool {
	return e.Ino == st.Ino && e.Dev == uint64(st.Dev) && e.Type == typeOf(st.Mode)
}

func (o *openedFile) Read(p []byte) (int, error) {
	n, err := read(o.fd, p)
	if o.foot.cold {
		o.pages.Lock()
		o.foot.read += int64(n)
		o.foot.passed(o.fd, o.foot.read)
		o.pages.Unlock()
	}
	return n, err
}

func (o *openedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.readAt(p, off)
	if o.foot.cold {
		o.pages.Lock()
		o.foot.jumped = true
		o.foot.passed(o.fd, off+int64(n))
		o.pages.Unlock()
	}
	return n, err
}

func (o *openedFile) readAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		k, _, errno := syscall.Syscall6(unix.SYS_PREAD64, uintptr(o.fd), uintptr(unsafe.Pointer(&p[n])), uintptr(len(p)-n), uintptr(off)+uintptr(n), 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return n, os.NewSyscallError("read", errno)
		case k == 0:
			return n, io.EOF
		default:
			n += int(k)
		}
	}
	return n, nil
}

func (o *openedFile) entry(st *unix.Stat_t) Entry { return itemOf(o.dir, o.name, st, nil) }

func (o *openedFile) Opened() Entry { return o.entry(&o.first) }

func (o *openedFile) Stat() (Entry, error) {
	var st unix.Stat_t
	if errno := fstat(o.fd, &st); errno != 0 {
		return Entry{}, os.NewSyscallError("stat", errno)
	}
	return o.entry(&st), nil
}

// Extents asks only when fewer blocks are allocated than the size needs.
func (o *openedFile) Extents() (data []Extent, sparse bool, err error) {
	size := o.first.Size
	if size == 0 || o.first.Blocks > (size-1)/512 {
		return nil, false, nil
	}
	at, err := unix.Seek(o.fd, 0, io.SeekCurrent)
	if err != nil {
		return nil, false, os.NewSyscallError("seek", err)
	}
	defer func() {
		if _, e := unix.Seek(o.fd, at, io.SeekStart); e != nil && err == nil {
			data, sparse, err = nil, false, os.NewSyscallError("seek", e)
		}
	}()
	for end := int64(0); end < size; {
		start, err := unix.Seek(o.fd, end, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			return data, true, nil // nothing but a hole follows
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			return nil, false, nil // this file system does not tell
		case err != nil:
			return nil, false, os.NewSyscallError("seek", err)
		case start >= size:
			return data, true, nil // it grew
		}
		if len(data) == maxExtents {
			data = append(data, Extent{Off: start, Len: size - start})
			return data, true, nil
		}
		if end, err = unix.Seek(o.fd, start, unix.SEEK_HOLE); err != nil {
			return nil, false, os.NewSyscallError("seek", err)
		}
		end = min(end, size)
		if end <= start {
			return nil, false, nil // it changes while being asked
		}
		data = append(data, Extent{Off: start, Len: end - start})
	}
	if len(data) == 1 && data[0] == (Extent{Len: size}) {
		return nil, false, nil
	}
	return data, true, nil
}

func (o *openedFile) Details() (Details, error) {
	var d Details
	err := d.readXattrs(byDescriptor(o.fd))
	d.User, d.Group = o.scan.owners.user(o.first.Uid), o.scan.owners.group(o.first.Gid)
	return d, err
}

// Close may be called twice; the second call does nothing.
func (o *openedFile) Close() error {
	if o.fd >= 0 {
		o.foot.over(o.fd, o.first.Size)
		closeFD(o.fd)
		o.fd = -1
	}
	return nil
}
