package durable

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxKeptDirs bounds the directory descriptors kept open: the layout of a
// repository (256 pack directories and a handful more) fits.
const maxKeptDirs = 320

// OSFS is a directory of the operating system as an [FS].
//
// Every name is resolved from a directory descriptor without following a link,
// so that whoever can write into the repository can not lead a privileged
// daemon out of it. Directory descriptors are kept, up to a bound: publishing
// costs no opening, and fsync errors of a directory are not lost between two
// openings.
type OSFS struct {
	root int // descriptor, constant

	mu   sync.Mutex // guards kept; never held over a system call that may wait
	kept map[string]int
}

var _ FS = (*OSFS)(nil)

// OS opens the existing directory root. It may be read-only, on a read-only
// mount, and root itself may be a symbolic link. The caller owns the result and
// closes it.
func OS(root string) (*OSFS, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	return &OSFS{root: fd, kept: make(map[string]int)}, nil
}

// MakeRoot makes the directory path, mode 0700, and those above it that are
// missing, and makes the new entries durable. An existing directory is fine.
func MakeRoot(path string) error {
	return makeRoot(strings.TrimRight(path, "/"))
}

func makeRoot(dir string) error {
	if dir == "" {
		return nil
	}
	info, err := os.Stat(dir)
	if err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: unix.ENOTDIR}
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := path.Dir(dir)
	if parent != dir {
		if err := makeRoot(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	above, err := OS(parent)
	if err != nil {
		return err
	}
	defer above.Close()
	return syncDir(above, "")
}

// Close closes the root and the kept directories.
func (o *OSFS) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, fd := range o.kept {
		unix.Close(fd)
	}
	o.kept = nil
	return unix.Close(o.root)
}

// dir returns a descriptor of the directory name and whether the caller has to
// close it.
func (o *OSFS) dir(name string) (fd int, owned bool, err error) {
	if name == "" {
		return o.root, false, nil
	}
	o.mu.Lock()
	fd, ok := o.kept[name]
	o.mu.Unlock()
	if ok {
		return fd, false, nil
	}
	fd, err = o.openDir(name)
	if err != nil {
		return -1, false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if other, ok := o.kept[name]; ok {
		unix.Close(fd)
		return other, false, nil
	}
	if o.kept == nil || len(o.kept) >= maxKeptDirs {
		return fd, true, nil
	}
	o.kept[name] = fd
	return fd, false, nil
}

// openDir opens a directory below its parent's descriptor. O_NOFOLLOW on each
// component is what openat2 with RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS would give,
// on every kernel.
func (o *OSFS) openDir(name string) (int, error) {
	parent, base := split(name)
	if base == "" || base == "." || base == ".." {
		return -1, unix.EINVAL
	}
	at, owned, err := o.dir(parent)
	if err != nil {
		return -1, err
	}
	fd, err := retry(func() (int, error) {
		return unix.Openat(at, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if owned {
		unix.Close(at)
	}
	return fd, err
}

// within calls do with the directory of name and name's last component.
func (o *OSFS) within(op, name string, do func(dir int, base string) error) error {
	parent, base := split(name)
	if base == "" || base == "." || base == ".." || name[0] == '/' {
		return &fs.PathError{Op: op, Path: name, Err: unix.EINVAL}
	}
	fd, owned, err := o.dir(parent)
	if err == nil {
		err = do(fd, base)
		if owned {
			unix.Close(fd)
		}
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// within2 is within for a pair of names.
func (o *OSFS) within2(op, oldname, newname string, do func(olddir int, oldbase string, newdir int, newbase string) error) error {
	var inner error
	err := o.within(op, oldname, func(olddir int, oldbase string) error {
		inner = o.within(op, newname, func(newdir int, newbase string) error {
			return do(olddir, oldbase, newdir, newbase)
		})
		return nil
	})
	if err != nil {
		return err
	}
	return inner
}

// Create is openat with O_EXCL.
func (o *OSFS) Create(name string) (File, error) {
	return o.open("create", name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
}

// Open is openat with O_RDONLY. O_NONBLOCK keeps a FIFO planted under the name
// from holding the caller; anything but a regular file is refused.
func (o *OSFS) Open(name string) (File, error) {
	return o.open("open", name, unix.O_RDONLY|unix.O_NONBLOCK)
}

// OpenWrite is Open with O_RDWR.
func (o *OSFS) OpenWrite(name string) (File, error) {
	return o.open("open", name, unix.O_RDWR|unix.O_NONBLOCK)
}

func (o *OSFS) open(op, name string, flags int) (File, error) {
	var f *osFile
	err := o.within(op, name, func(dir int, base string) error {
		fd, err := retry(func() (int, error) {
			return unix.Openat(dir, base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		})
		if err != nil {
			return err
		}
		if flags&unix.O_NONBLOCK != 0 {
			var st unix.Stat_t
			err := unix.Fstat(fd, &st)
			if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
				err = unix.EINVAL
			}
			if err == nil {
				err = unix.SetNonblock(fd, false)
			}
			if err != nil {
				unix.Close(fd)
				return err
			}
		}
		f = &osFile{f: os.NewFile(uintptr(fd), name), name: name}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Stat is fstatat with AT_SYMLINK_NOFOLLOW.
func (o *OSFS) Stat(name string) (Info, error) {
	var info Info
	err := o.within("stat", name, func(dir int, base string) (err error) {
		info, err = statAt(dir, base)
		return err
	})
	return info, err
}

// ReadDir reads the names with getdents and examines each, which takes a second
// descriptor: the kept one has one file position for everybody.
func (o *OSFS) ReadDir(name string) ([]Info, error) {
	fail := func(err error) ([]Info, error) {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	dir, owned, err := o.dir(name)
	if err != nil {
		return fail(err)
	}
	if owned {
		defer unix.Close(dir)
	}
	fd, err := retry(func() (int, error) {
		return unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return fail(err)
	}
	names, err := readNames(fd)
	unix.Close(fd)
	if err != nil {
		return fail(err)
	}
	list := make([]Info, 0, len(names))
	for _, n := range names {
		info, err := statAt(dir, n)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return fail(err)
		}
		list = append(list, info)
	}
	return list, nil
}

// Mkdir is mkdirat.
func (o *OSFS) Mkdir(name string) error {
	return o.within("mkdir", name, func(dir int, base string) error {
		return unix.Mkdirat(dir, base, 0o700)
	})
}

// Link is linkat.
func (o *OSFS) Link(oldname, newname string) error {
	return o.within2("link", oldname, newname, func(olddir int, oldbase string, newdir int, newbase string) error {
		return unix.Linkat(olddir, oldbase, newdir, newbase, 0)
	})
}

// Rename is renameat.
func (o *OSFS) Rename(oldname, newname string) error {
	return o.within2("rename", oldname, newname, unix.Renameat)
}

// RenameNoReplace is renameat2 with RENAME_NOREPLACE.
func (o *OSFS) RenameNoReplace(oldname, newname string) error {
	return o.within2("rename", oldname, newname, func(olddir int, oldbase string, newdir int, newbase string) error {
		return unix.Renameat2(olddir, oldbase, newdir, newbase, unix.RENAME_NOREPLACE)
	})
}

// Unlink is unlinkat; it does not remove directories.
func (o *OSFS) Unlink(name string) error {
	return o.within("unlink", name, func(dir int, base string) error {
		return unix.Unlinkat(dir, base, 0)
	})
}

// SyncDir is fsync of the directory's descriptor.
func (o *OSFS) SyncDir(name string) error {
	fd, owned, err := o.dir(name)
	if err == nil {
		_, err = retry(func() (int, error) { return 0, unix.Fsync(fd) })
		if owned {
			unix.Close(fd)
		}
	}
	if err != nil {
		return &fs.PathError{Op: "sync directory", Path: name, Err: err}
	}
	return nil
}

// Statfs is fstatfs of the root.
func (o *OSFS) Statfs() (Space, error) {
	var st unix.Statfs_t
	_, err := retry(func() (int, error) { return 0, unix.Fstatfs(o.root, &st) })
	if err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: ".", Err: err}
	}
	unit := int64(st.Frsize) // of 32 bits on some machines
	if unit == 0 {
		unit = int64(st.Bsize)
	}
	return Space{Free: blocks(st.Bavail, unit), Total: blocks(st.Blocks, unit)}, nil
}
