package target

import (
	"golang.org/x/sys/unix"
)

// Symlink makes the symbolic link name in f, pointing to m.Target. Like all that make something here it returns what was
// made, for Folder.Link as long as f is not finished.
func (f *Folder) Symlink(name string, m *Meta) (*Made, []Problem, error) {
	if !m.possible(TypeSymlink) {
		return nil, nil, f.fail("symlink", name, ErrMeta)
	}
	return f.place("symlink", name, m, func(dirfd int, at string) error {
		return unix.Symlinkat(m.Target, dirfd, at)
	})
}

// Fifo makes the named pipe name in f.
func (f *Folder) Fifo(name string, m *Meta) (*Made, []Problem, error) {
	if !m.possible(TypeFIFO) {
		return nil, nil, f.fail("mkfifo", name, ErrMeta)
	}
	return f.place("mkfifo", name, m, node(m, 0))
}

// Socket makes the socket name in f. Nobody listens on it.
func (f *Folder) Socket(name string, m *Meta) (*Made, []Problem, error) {
	if !m.possible(TypeSocket) {
		return nil, nil, f.fail("mknod", name, ErrMeta)
	}
	return f.place("mknod", name, m, node(m, 0))
}

// Device makes the character or block device name in f. A device that must not be made, or that the system does not let
// us make, is a ProblemDevice and no error; nothing is there then, and nothing is returned.
func (f *Folder) Device(name string, m *Meta) (*Made, []Problem, error) {
	if !m.possible(TypeCharDevice) && !m.possible(TypeBlockDevice) {
		return nil, nil, f.fail("mknod", name, ErrMeta)
	}
	if !validName(name) {
		return nil, nil, f.fail("mknod", name, ErrName)
	}
	if !f.directory.options.Privileged {
		return nil, []Problem{{Kind: ProblemDevice, Skipped: true}}, nil
	}
	var refused error
	make := node(m, m.device())
	made, problems, err := f.place("mknod", name, m, func(dirfd int, at string) error {
		err := make(dirfd, at)
		if err == unix.EPERM {
			refused = err
		}
		return err
	})
	if err != nil && refused != nil {
		return nil, []Problem{{Kind: ProblemDevice, Err: refused}}, nil
	}
	return made, problems, err
}

// node makes a file that is no more than an inode, closed to everybody else until its mode is set.
func node(m *Meta, device uint64) func(int, string) error {
	return func(dirfd int, at string) error {
		return unix.Mknodat(dirfd, at, m.Type.format()|0o600, int(device))
	}
}

// place puts what make makes under name, with the metadata of m.
//
// Such objects can not be opened for what they are, only found by name after they were made, and somebody else who may
// write in the folder could have put something of a third party under that name by then, to have it chowned. And
// without its metadata an object is not whole. So it is made and finished in a stage, where only we can enter, and moved.
func (f *Folder) place(op, name string, m *Meta, make func(dirfd int, at string) error) (*Made, []Problem, error) {
	if !validName(name) {
		return nil, nil, f.fail(op, name, ErrName)
	}
	o, err := f.pin()
	if err != nil {
		return nil, nil, err
	}
	defer f.unpin()
	same := func(st *unix.Stat_t) bool { return sameSpecial(o.fd, name, st, m) }
	look := !f.private() // first, as there it costs an object to find out by trying
	for range maxAttempts {
		free := !look
		if look {
			var st unix.Stat_t
			switch err := fstatat(o.fd, name, &st); err {
			case unix.ENOENT:
				free = true
			case nil:
				if free, err = f.occupied(o.fd, name, same); err != nil {
					return nil, nil, err
				}
			default:
				return nil, nil, f.fail(op, name, err)
			}
		}
		made, problems, again, err := f.build(o.fd, name, free, m, make)
		switch {
		case err == nil:
			return made, problems, nil
		case err == unix.EEXIST:
			look = true
		case !again:
			return nil, nil, f.fail(op, name, err)
		}
	}
	return nil, nil, f.fail(op, name, ErrMoved)
}

// build makes the object in a stage, gives it its metadata and moves it to name, which is free or is to be replaced.
// With an error it says whether another stage may help.
func (f *Folder) build(dirfd int, name string, free bool, m *Meta, make func(int, string) error) (made *Made, problems []Problem, again bool, err error) {
	s, err := f.borrow()
	if err != nil {
		return nil, nil, false, err
	}
	defer s.leave()
	temp := s.nextName()
	if err := make(s.open.fd, temp); err != nil {
		return nil, nil, f.elsewhere(s, err), err
	}
	var st unix.Stat_t
	if problems, err = f.directory.dress(s.open.fd, temp, &st, m); err == nil {
		if err = s.move(temp, dirfd, name, free); err == nil {
			return f.madeOf(name, &st), problems, false, nil
		}
	}
	unix.Unlinkat(s.open.fd, temp, 0)
	return nil, nil, err == unix.EXDEV && f.elsewhere(s, err), err
}

// dress gives an object in a stage its metadata, and tells in st what it is then.
func (d *Directory) dress(dirfd int, at string, st *unix.Stat_t, m *Meta) ([]Problem, error) {
	fd, err := openat(dirfd, at, unix.O_PATH, 0)
	if err == unix.EMFILE || err == unix.ENFILE {
		d.shed()
		fd, err = openat(dirfd, at, unix.O_PATH, 0)
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != m.Type.format() {
		return nil, ErrMoved
	}
	return d.apply(object{fd: fd, path: true}, st, m, false), nil
}

// sameSpecial reports whether st, found under name, is what m describes.
func sameSpecial(dirfd int, name string, st *unix.Stat_t, m *Meta) bool {
	if !sameFile(st, m.Type, -1, m.Mtime) {
		return false
	}
	switch m.Type {
	case TypeSymlink:
		var buf [maxTarget + 1]byte
		n, err := unix.Readlinkat(dirfd, name, buf[:])
		return err == nil && string(buf[:n]) == m.Target
	case TypeCharDevice, TypeBlockDevice:
		return st.Rdev == m.device()
	}
	return true
}
