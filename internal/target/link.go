package target

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// Made is something this restore made, of any type but a directory, to make hard links to. It holds no descriptor, but it
// keeps its folder, and all above it, in memory.
type Made struct {
	folder   *Folder
	name     string
	format   uint32 // the S_IFMT part of its mode
	dev, ino uint64
	uid      uint32
	size     int64
}

// madeOf is what st tells of name in f.
func (f *Folder) madeOf(name string, st *unix.Stat_t) *Made {
	return &Made{folder: f, name: name, format: st.Mode & unix.S_IFMT, dev: st.Dev, ino: st.Ino, uid: st.Uid, size: st.Size}
}

// is reports whether st is of what was made.
func (m *Made) is(st *unix.Stat_t) bool {
	return st.Dev == m.dev && st.Ino == m.ino && st.Mode&unix.S_IFMT == m.format && st.Uid == m.uid && st.Size == m.size
}

// Made is the file for Folder.Link, once Finish has succeeded and as long as its folder is not finished; else nil.
func (w *File) Made() *Made {
	if !w.done {
		return nil
	}
	m := &Made{folder: w.folder, name: w.name, format: unix.S_IFREG, dev: w.dev, ino: w.ino, uid: w.uid, size: w.size}
	if m.ino != 0 {
		return m
	}
	// Finish did not ask, as nobody but us can change what is under a name in a folder of our own making.
	if !w.folder.private() {
		return nil
	}
	o, err := w.folder.hold()
	if err != nil {
		return nil
	}
	defer w.folder.unpin()
	var st unix.Stat_t
	if fstatat(o.fd, w.name, &st) != nil {
		return nil
	}
	m.dev, m.ino, m.uid = st.Dev, st.Ino, st.Uid
	return m
}

// Link makes name in f another name of what was made before. That is opened, found to be what was made, and linked by
// the descriptor, so somebody who puts something else under its name gets ErrMoved and no link. Folders on
// the way to it must not have been finished with a mode that keeps the own user out. syscall.EXDEV, EMLINK and EPERM say
// that the file system can not: the caller restores a copy.
func (f *Folder) Link(name string, of *Made) error {
	switch {
	case !validName(name):
		return f.fail("link", name, ErrName)
	case of == nil || of.folder == nil || of.folder.directory != f.directory:
		return f.fail("link", name, ErrMeta)
	}
	source, err := of.open()
	if err != nil {
		return err
	}
	defer unix.Close(source)
	o, err := f.pin()
	if err != nil {
		return err
	}
	defer f.unpin()
	same := func(st *unix.Stat_t) bool { return st.Dev == of.dev && st.Ino == of.ino }
	for range maxAttempts {
		switch err := linkDescriptor(source, o.fd, name); err {
		case nil:
			return nil
		case unix.EEXIST:
		default:
			return f.fail("link", name, err)
		}
		if gone, err := f.occupied(o.fd, name, same); err != nil {
			return err
		} else if gone {
			continue
		}
		stage, temp, err := f.linkStaged(source)
		if err != nil {
			return f.fail("link", name, err)
		}
		err = stage.move(temp, o.fd, name, false)
		// rename does nothing at all when both names are of one file, as they are when name was linked before.
		unix.Unlinkat(stage.open.fd, temp, 0)
		stage.leave()
		if err != nil {
			return f.fail("rename", name, err)
		}
		return nil
	}
	return f.fail("link", name, ErrMoved)
}

// open gives an O_PATH descriptor of what was made, if it still is what stands there. One of a symbolic link is of the link.
func (m *Made) open() (int, error) {
	fail := func(err error) (int, error) {
		return -1, &fs.PathError{Op: "link", Path: m.folder.pathOf(m.name), Err: err}
	}
	o, err := m.folder.hold()
	if err != nil {
		return fail(err)
	}
	defer m.folder.unpin()
	fd, err := openat(o.fd, m.name, unix.O_PATH, 0)
	if err == unix.ENOENT {
		err = ErrMoved
	}
	if err != nil {
		return fail(err)
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && !m.is(&st) {
		err = ErrMoved
	}
	if err != nil {
		unix.Close(fd)
		return fail(err)
	}
	return fd, nil
}

// linkDescriptor gives the file behind an O_PATH descriptor another name. AT_EMPTY_PATH is allowed to root, and on new
// kernels to who opened it; /proc does it for everybody.
func linkDescriptor(fd, dirfd int, name string) error {
	err := linkat(fd, dirfd, name)
	if err == unix.ENOENT || err == unix.EPERM || err == unix.EINVAL {
		err = unix.Linkat(unix.AT_FDCWD, procFD(fd), dirfd, name, unix.AT_SYMLINK_FOLLOW)
	}
	return err
}

// Existing is what is called name in f as something to make hard links to, if this restore could have made it: of m's
// type, mode, owner and time, and of its target or device number; else ErrMoved. A regular file must have the size too, and
// fd reads it, for the caller to compare the content, and to close; of everything else fd is -1.
func (f *Folder) Existing(name string, size int64, m *Meta) (made *Made, fd int, err error) {
	if !validName(name) || m == nil || m.Type == TypeDirectory || !m.possible(m.Type) {
		return nil, -1, f.fail("open", name, ErrMeta)
	}
	flags := unix.O_RDONLY | unix.O_NONBLOCK
	if m.Type != TypeRegular {
		flags, size = unix.O_PATH, -1
	}
	o, err := f.hold()
	if err != nil {
		return nil, -1, f.fail("open", name, err)
	}
	defer f.unpin()
	if fd, err = lookup(o.fd, name, flags); err != nil {
		return nil, -1, f.fail("open", name, err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		uid, gid := f.directory.owner(m)
		if !f.directory.superuser {
			uid, gid = f.directory.uid, st.Gid
		}
		same := sameFile(&st, m.Type, size, m.Mtime) && st.Uid == uid && st.Gid == gid
		same = same && (m.Type == TypeSymlink || st.Mode&07777 == m.Mode)
		if !same || m.Type != TypeRegular && !sameSpecial(fd, "", &st, m) {
			err = ErrMoved
		}
	}
	if err != nil || m.Type != TypeRegular {
		unix.Close(fd)
		fd = -1
	}
	if err != nil {
		return nil, -1, f.fail("open", name, err)
	}
	return f.madeOf(name, &st), fd, nil
}
