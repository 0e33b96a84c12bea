package target

import (
	"golang.org/x/sys/unix"
)

// pin gives the descriptor of f for one operation that the caller asked for, after which unpin must be called.
func (f *Folder) pin() (object, error) {
	if f.closed.Load() {
		return object{}, f.fail("open", "", ErrClosed)
	}
	o, err := f.hold()
	if err != nil {
		return object{}, f.fail("open", "", err)
	}
	return o, nil
}

func (f *Folder) unpin() {
	f.directory.mu.Lock()
	f.directory.unpinLocked(f)
	f.directory.mu.Unlock()
}

// hold is pin for what the package does on its own, also after f was closed: finishing what is below f still needs it.
//
// A folder whose descriptor was closed meanwhile is opened again from its nearest open ancestor downwards, one name at a
// time. If one is not what it was when first opened, somebody moved it or gave its name to something else: ErrMoved.
func (f *Folder) hold() (object, error) {
	d := f.directory
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return object{}, ErrClosed
	}
	var shut []*Folder // from f upwards
	at := f
	for ; at.open.fd < 0; at = at.parent {
		shut = append(shut, at)
	}
	d.pinLocked(at)
	d.mu.Unlock()
	for i := len(shut) - 1; i >= 0; i-- {
		next := shut[i]
		o, err := d.openFolder(at.open.fd, next.name)
		if err == nil {
			err = next.verify(o)
		} else if err == unix.ENOENT || err == ErrNotDirectory {
			err = ErrMoved
		}
		d.mu.Lock()
		d.unpinLocked(at)
		if err == nil && d.closed {
			err = ErrClosed
		}
		if err != nil {
			if o.fd >= 0 {
				unix.Close(o.fd)
			}
			d.mu.Unlock()
			return object{}, err
		}
		if next.open.fd >= 0 { // somebody else was faster
			unix.Close(o.fd)
		} else {
			next.open = o
			d.open++
		}
		d.pinLocked(next)
		d.mu.Unlock()
		at = next
	}
	return f.open, nil
}

// verify compares o with the folder that f was when it was first opened.
func (f *Folder) verify(o object) error {
	var st unix.Stat_t
	if err := unix.Fstat(o.fd, &st); err != nil {
		return err
	}
	if st.Dev != f.dev || st.Ino != f.ino {
		return ErrMoved
	}
	return nil
}

// openFolder opens the real directory name below dirfd, if need be in the form that asks for no permission.
func (d *Directory) openFolder(dirfd int, name string) (object, error) {
	const flags = unix.O_DIRECTORY | unix.O_NONBLOCK
	fd, err := lookup(dirfd, name, unix.O_RDONLY|flags)
	if err == unix.EMFILE || err == unix.ENFILE {
		d.shed()
		fd, err = lookup(dirfd, name, unix.O_RDONLY|flags)
	}
	o := object{fd: fd}
	if err == unix.EACCES {
		o.path = true
		o.fd, err = lookup(dirfd, name, unix.O_PATH|unix.O_DIRECTORY)
	}
	switch err {
	case nil:
		return o, nil
	case unix.ELOOP, unix.ENOTDIR, unix.EXDEV:
		err = ErrNotDirectory
	}
	return object{fd: -1}, err
}

// shed closes what is idle, because the process is out of descriptors.
func (d *Directory) shed() {
	d.mu.Lock()
	d.shedLocked(0)
	d.mu.Unlock()
}

// shedLocked closes idle folders, least recently used first, until at most keep are open or none is idle.
func (d *Directory) shedLocked(keep int) {
	for d.open > keep && d.idle.prev != &d.idle {
		f := d.idle.prev
		f.unlink()
		d.closeLocked(f)
	}
}

func (d *Directory) closeLocked(f *Folder) {
	unix.Close(f.open.fd)
	f.open.fd = -1
	d.open--
}

func (d *Directory) pinLocked(f *Folder) {
	if f.pins == 0 && f.next != nil {
		f.unlink()
	}
	f.pins++
}

func (d *Directory) unpinLocked(f *Folder) {
	f.pins--
	if f.pins > 0 {
		return
	}
	if f.closed.Load() || d.closed {
		d.closeLocked(f)
		return
	}
	f.next, f.prev = d.idle.next, &d.idle
	f.next.prev, f.prev.next = f, f
	d.shedLocked(d.options.MaxOpen)
}

// unlink takes f out of the ring of idle folders.
func (f *Folder) unlink() {
	f.prev.next, f.next.prev = f.next, f.prev
	f.next, f.prev = nil, nil
}
