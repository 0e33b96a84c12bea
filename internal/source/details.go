package source

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Limits of the extended attributes of one entry. The first two are those of Linux.
const (
	maxXattrNames = 64 << 10 // bytes of all names
	maxXattrValue = 64 << 10 // bytes of one value
	maxXattrTotal = 1 << 20  // bytes of all names and values
)

// Owner is described at [Source].
func (f *Files) Owner(e *Entry) (user, group string) {
	if e.dir == nil {
		return "", ""
	}
	s := e.dir.scan
	return s.owners.user(e.UID), s.owners.group(e.GID)
}

// Details is described at [Source].
func (f *Files) Details(e *Entry) (Details, error) {
	var d Details
	if e.dir == nil {
		return d, ErrReleased
	}
	s := e.dir.scan
	d.User, d.Group = f.Owner(e)
	if e.Event != Item && e.dir.err == nil {
		fd, err := s.fds.pin(e.dir)
		if err != nil {
			return d, err
		}
		defer s.fds.unpin(e.dir)
		err = d.readXattrs(byDescriptor(fd))
		if errors.Is(err, unix.EBADF) { // opened with O_PATH
			d.Xattrs = nil
			err = d.readXattrs(byPath(fd))
		}
		return d, err
	}
	return d, s.detailsByName(e, &d)
}

// detailsByName reads the details of what was not, or can not be, opened. The inode is held by O_PATH, which opens
// nothing in the sense of devices and FIFOs, and then asked through /proc, as such a descriptor refuses fgetxattr.
func (s *scan) detailsByName(e *Entry, d *Details) error {
	in := e.dir
	if e.Event != Item {
		in = e.dir.parent
	}
	if in == nil {
		return e.Err
	}
	dir, err := s.fds.pin(in)
	if err != nil {
		return err
	}
	defer s.fds.unpin(in)
	fd, err := s.fds.trying(func() (int, error) { return openName(dir, e.Name, pathFlags) })
	if err != nil {
		if errnoOf(err) == unix.ENOENT {
			err = errGone
		}
		return err
	}
	defer closeFD(fd)
	var st unix.Stat_t
	if errno := fstat(fd, &st); errno != 0 {
		return os.NewSyscallError("stat", errno)
	}
	if !sameFile(e, &st) {
		return ErrChanged
	}
	if e.Type == Symlink {
		if d.Target, err = readLink(fd); err != nil {
			return err
		}
	}
	return d.readXattrs(byPath(fd))
}

// xattrs is how the attributes of one inode are asked for.
type xattrs struct {
	list func(dest []byte) (int, error)
	get  func(name string, dest []byte) (int, error)
}

func byDescriptor(fd int) xattrs {
	return xattrs{
		list: func(dest []byte) (int, error) { return unix.Flistxattr(fd, dest) },
		get:  func(name string, dest []byte) (int, error) { return unix.Fgetxattr(fd, name, dest) },
	}
}

// byPath asks for the inode a descriptor of O_PATH holds. Following the link in /proc leads to that inode and no
// further, also when it is a symbolic link.
func byPath(fd int) xattrs {
	path := "/proc/self/fd/" + strconv.Itoa(fd)
	return xattrs{
		list: func(dest []byte) (int, error) { return unix.Listxattr(path, dest) },
		get:  func(name string, dest []byte) (int, error) { return unix.Getxattr(path, name, dest) },
	}
}

// usualXattr is enough for nearly every answer. The kernel takes memory of the size that it is offered, and clears it,
// at each call.
const usualXattr = 512

// scratch is space for what the calls for attributes return, so that the usual answer, nothing, costs one call and no
// allocation.
var scratch = sync.Pool{New: func() any { return new([max(maxXattrNames, maxXattrValue)]byte) }}

// ask calls with little space first, and with all that is allowed when that is not enough.
func ask(buf []byte, call func(dest []byte) (int, error)) (int, error) {
	for size := usualXattr; ; {
		n, err := call(buf[:size])
		switch {
		case err == unix.EINTR:
		case err == unix.ERANGE && size < len(buf):
			size = len(buf)
		default:
			return n, err
		}
	}
}

func (d *Details) readXattrs(x xattrs) error {
	buf := scratch.Get().(*[max(maxXattrNames, maxXattrValue)]byte)
	defer scratch.Put(buf)
	n, err := ask(buf[:maxXattrNames], x.list)
	switch {
	case errors.Is(err, unix.ENOTSUP):
		return nil
	case errors.Is(err, unix.ERANGE), errors.Is(err, unix.E2BIG):
		return fmt.Errorf("extended attributes: their names: %w", ErrTooLarge)
	case err != nil:
		return os.NewSyscallError("listxattr", err)
	case n == 0:
		return nil
	}
	names := strings.Split(string(bytes.TrimSuffix(buf[:n], []byte{0})), "\x00")
	slices.Sort(names)
	var trouble error
	for total := n; len(names) > 0; names = names[1:] {
		name := names[0]
		n, err := ask(buf[:maxXattrValue], func(dest []byte) (int, error) { return x.get(name, dest) })
		switch {
		case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP):
			continue // removed meanwhile, or kept from us without a word
		case errors.Is(err, unix.ERANGE), errors.Is(err, unix.E2BIG):
			trouble = errors.Join(trouble, fmt.Errorf("extended attribute %q: %w", name, ErrTooLarge))
			continue
		case err != nil:
			trouble = errors.Join(trouble, fmt.Errorf("extended attribute %q: %w", name, err))
			continue
		}
		if total += n; total > maxXattrTotal {
			return errors.Join(trouble, fmt.Errorf("extended attributes, all together, from %q on: %w", name, ErrTooLarge))
		}
		d.Xattrs = append(d.Xattrs, Xattr{Name: name, Value: bytes.Clone(buf[:n:n])})
	}
	return trouble
}

// owners knows the names of users and groups, for one scan: long enough to ask once, short enough to see changes.
type owners struct {
	mu            sync.RWMutex
	users, groups map[uint32]string
}

// maxOwners bounds what is remembered; beyond it each is asked for anew.
const maxOwners = 1 << 16

func (o *owners) user(id uint32) string {
	return o.lookup(&o.users, id, func(id string) string {
		if u, err := user.LookupId(id); err == nil {
			return u.Username
		}
		return ""
	})
}

func (o *owners) group(id uint32) string {
	return o.lookup(&o.groups, id, func(id string) string {
		if g, err := user.LookupGroupId(id); err == nil {
			return g.Name
		}
		return ""
	})
}

func (o *owners) lookup(known *map[uint32]string, id uint32, ask func(string) string) string {
	o.mu.RLock()
	name, ok := (*known)[id]
	o.mu.RUnlock()
	if ok {
		return name
	}
	name = ask(strconv.FormatUint(uint64(id), 10))
	o.mu.Lock()
	defer o.mu.Unlock()
	if *known == nil {
		*known = make(map[uint32]string)
	}
	if len(*known) < maxOwners {
		(*known)[id] = name
	}
	return name
}
