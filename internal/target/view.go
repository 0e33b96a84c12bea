package target

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// View is a directory that a restore would land in, or one below it, as it stands: what a dry run looks at. It is reached
// as a Folder is, through descriptors and never through a link, and nothing is changed, made, locked or swept. Its
// methods may be called from any goroutine. What it says holds for the moment in which it looked.
type View struct {
	folder *Folder
}

// Fate is what a restore would do about a name.
type Fate uint8

const (
	// Free: nothing stands there, so it would be made.
	Free Fate = iota
	// Merged: a directory stands there and would be gone into.
	Merged
	// Existing: what stands there would be left alone, as with ErrExists.
	Existing
	// Same: it would be left alone, as with ErrSame.
	Same
	// Replaced: what stands there would make room.
	Replaced
)

// OpenView opens the directory at path for looking. Links in path itself are followed, as OpenDirectory does.
// fs.ErrNotExist when nothing is there, ErrNotDirectory when it is something else.
func OpenView(path string, o Options) (*View, error) {
	if o.MaxOpen <= 0 {
		o.MaxOpen = defaultMaxOpen
	}
	d := &Directory{options: o, uid: uint32(unix.Geteuid())}
	d.idle.next, d.idle.prev = &d.idle, &d.idle
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	at := object{fd: fd}
	if err == unix.EACCES {
		at.fd, err = unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		at.path = true
	}
	if err == unix.ENOTDIR {
		err = ErrNotDirectory
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f, err := d.viewFolder(nil, "", at)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	d.top = f
	return &View{f}, nil
}

// viewFolder is newFolder for looking: the folder that o is, left as it is.
func (d *Directory) viewFolder(parent *Folder, name string, o object) (*Folder, error) {
	var st unix.Stat_t
	if err := unix.Fstat(o.fd, &st); err != nil {
		unix.Close(o.fd)
		return nil, err
	}
	f := &Folder{directory: d, parent: parent, name: name, open: o, dev: st.Dev, ino: st.Ino, uid: st.Uid, gid: st.Gid}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		unix.Close(o.fd)
		return nil, ErrClosed
	}
	d.open++
	f.pins = 1 // of the root for as long as it is open
	if parent != nil {
		f.depth = parent.depth + 1
		d.unpinLocked(f)
	}
	return f, nil
}

// Folder says what would become of the directory name, and opens it where it would be gone into (Merged). Where a
// directory can not be, the error is that of Folder.Folder.
func (v *View) Folder(name string) (*View, Fate, error) {
	f := v.folder
	switch {
	case !validName(name):
		return nil, Free, f.fail("look", name, ErrName)
	case f.depth >= MaxDepth:
		return nil, Free, f.fail("look", name, ErrDepth)
	}
	o, err := f.pin()
	if err != nil {
		return nil, Free, err
	}
	defer f.unpin()
	child, err := f.directory.openFolder(o.fd, name)
	switch {
	case err == unix.ENOENT:
		return nil, Free, nil
	case err == ErrNotDirectory && f.directory.options.Overwrite == Always:
		return nil, Replaced, nil
	case err != nil:
		return nil, Free, f.fail("look", name, err)
	}
	sub, err := f.directory.viewFolder(f, name, child)
	if err != nil {
		return nil, Free, f.fail("look", name, err)
	}
	return &View{sub}, Merged, nil
}

// File says what would become of a regular file, given as to Create.
func (v *View) File(name string, size int64, mtime Time) (Fate, error) {
	return v.fate(name, func(_ int, st *unix.Stat_t) bool { return sameFile(st, TypeRegular, size, mtime) })
}

// Link says what would become of a hard link to a file that the restore would make.
func (v *View) Link(name string) (Fate, error) {
	return v.fate(name, func(int, *unix.Stat_t) bool { return false })
}

// Special says what would become of an entry that is neither a regular file nor a directory.
func (v *View) Special(name string, m *Meta) (Fate, error) {
	return v.fate(name, func(dirfd int, st *unix.Stat_t) bool { return sameSpecial(dirfd, name, st, m) })
}

// fate decides as occupied does, of which it is the half that only looks.
func (v *View) fate(name string, same func(dirfd int, st *unix.Stat_t) bool) (Fate, error) {
	f := v.folder
	if !validName(name) {
		return Free, f.fail("look", name, ErrName)
	}
	o, err := f.pin()
	if err != nil {
		return Free, err
	}
	defer f.unpin()
	overwrite := f.directory.options.Overwrite
	var st unix.Stat_t
	switch err := fstatat(o.fd, name, &st); {
	case err == unix.ENOENT:
		return Free, nil
	case err != nil:
		return Free, f.fail("look", name, err)
	case overwrite == Never:
		return Existing, nil
	case overwrite == IfChanged && same(o.fd, &st):
		return Same, nil
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return Replaced, nil
	}
	if st.Dev != f.dev {
		return Free, f.fail("look", name, ErrNotEmpty) // something is mounted there
	}
	child, err := f.directory.openFolder(o.fd, name)
	if err != nil {
		return Free, f.fail("look", name, err)
	}
	defer unix.Close(child.fd)
	switch empty, err := child.empty(); {
	case err != nil:
		return Free, f.fail("look", name, err)
	case !empty:
		return Free, f.fail("look", name, ErrNotEmpty)
	}
	return Replaced, nil
}

// empty reports whether o, a directory, holds nothing. EACCES of one that may not be read.
func (o object) empty() (bool, error) {
	if o.path {
		return false, unix.EACCES
	}
	var buf [4096]byte
	for {
		n, err := unix.Getdents(o.fd, buf[:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || n <= 0:
			return err == nil, err
		}
		if _, count, _ := unix.ParseDirent(buf[:n], 1, nil); count > 0 {
			return false, nil
		}
	}
}

// Close gives back the descriptor, and on the view that was opened all of those below it. It may be called more than once.
func (v *View) Close() error {
	if v.folder.parent == nil {
		return v.folder.directory.Close()
	}
	v.folder.Close()
	return nil
}
