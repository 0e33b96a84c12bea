package target

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// File is a regular file being restored. WriteAt may be called from any goroutine; Finish or Abort once by one, when
// all writes have returned. Its descriptor is held until then, so the caller bounds how many there are.
type File struct {
	folder *Folder
	name   string
	temp   string // the name it has until Finish, if it replaces something
	fd     int    // -1 when done
	size   int64
	end    atomic.Int64 // of the furthest write
	done   bool         // by Finish, and all went well
	dev    uint64       // then
	ino    uint64       // then, 0 if Finish had no need to know
	uid    uint32       // then
}

// Create makes the regular file name in f. It has mode 0600, belongs to the own user and holds nothing; size is what it
// will have in the end, and with mtime what IfChanged compares. A name that is free is taken at once; what stands under
// one that is not stays until Finish. ErrExists and ErrSame say that it stays for good.
func (f *Folder) Create(name string, size int64, mtime Time) (*File, error) {
	switch {
	case !validName(name):
		return nil, f.fail("create", name, ErrName)
	case size < 0:
		return nil, f.fail("create", name, ErrMeta)
	}
	o, err := f.pin()
	if err != nil {
		return nil, err
	}
	defer f.unpin()
	same := func(st *unix.Stat_t) bool { return sameFile(st, TypeRegular, size, mtime) }
	for range maxAttempts {
		w := &File{folder: f, name: name, size: size}
		if w.fd, err = f.directory.create(o.fd, name); err == nil {
			return w, nil
		} else if err != unix.EEXIST {
			return nil, f.fail("create", name, err)
		}
		if gone, err := f.occupied(o.fd, name, same); err != nil {
			return nil, err
		} else if gone {
			continue
		}
		w.temp = tempName()
		if w.fd, err = f.directory.create(o.fd, w.temp); err == nil {
			return w, nil
		} else if err != unix.EEXIST {
			return nil, f.fail("create", name, err)
		}
	}
	return nil, f.fail("create", name, ErrMoved)
}

// create makes a new file; O_EXCL neither follows a link nor opens what is there.
func (d *Directory) create(dirfd int, name string) (int, error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL
	fd, err := openat(dirfd, name, flags, 0o600)
	if err == unix.EMFILE || err == unix.ENFILE {
		d.shed()
		fd, err = openat(dirfd, name, flags, 0o600)
	}
	return fd, err
}

// WriteAt writes all of p at off, within the size given to Create (ErrRange). Ranges written at the same time must not
// overlap; ranges never written read as zeros and take no space.
func (w *File) WriteAt(p []byte, off int64) (int, error) {
	if w.fd < 0 {
		return 0, w.folder.fail("write", w.name, ErrClosed)
	}
	end := off + int64(len(p))
	if off < 0 || end < off || end > w.size {
		return 0, w.folder.fail("write", w.name, ErrRange)
	}
	n, err := pwrite(w.fd, p, off)
	if err != nil {
		return n, w.folder.fail("write", w.name, err)
	}
	for {
		seen := w.end.Load()
		if end <= seen || w.end.CompareAndSwap(seen, end) {
			return n, nil
		}
	}
}

// Finish gives the file its size and metadata and, if it replaces something, its name. On an error the file is gone as
// after Abort, except for ErrMoved: then somebody else put something under its name after it.
func (w *File) Finish(m *Meta) ([]Problem, error) {
	if w.fd < 0 {
		return nil, w.folder.fail("finish", w.name, ErrClosed)
	}
	if !m.possible(TypeRegular) {
		w.Abort()
		return nil, w.folder.fail("finish", w.name, ErrMeta)
	}
	if w.end.Load() < w.size {
		if err := ftruncate(w.fd, w.size); err != nil {
			w.Abort()
			return nil, w.folder.fail("truncate", w.name, err)
		}
	}
	// In a folder of our own making the owner is known without asking, and setting the mode is cheaper than asking too.
	st := unix.Stat_t{Uid: w.folder.uid, Gid: w.folder.gid, Mode: unknownMode}
	private := w.folder.private()
	if !private || w.temp != "" {
		if err := unix.Fstat(w.fd, &st); err != nil {
			w.Abort()
			return nil, w.folder.fail("stat", w.name, err)
		}
	}
	problems := w.folder.directory.apply(object{fd: w.fd}, &st, m, !private)
	// Before the rename: what close tells of, the old file must survive.
	err := closeFile(w.fd)
	w.fd = -1
	if err != nil {
		w.remove(&st)
		return nil, w.folder.fail("close", w.name, err)
	}
	if w.temp != "" {
		if err := w.takePlace(&st); err != nil {
			return nil, err
		}
	}
	w.done, w.dev, w.ino, w.uid = true, st.Dev, st.Ino, st.Uid
	return problems, nil
}

// takePlace moves the finished file from its temporary name to its own.
func (w *File) takePlace(st *unix.Stat_t) error {
	o, err := w.folder.hold()
	if err != nil {
		return w.folder.fail("rename", w.name, err)
	}
	defer w.folder.unpin()
	if err := replace(o.fd, w.temp, o.fd, w.name); err != nil {
		w.remove(st)
		return w.folder.fail("rename", w.name, err)
	}
	if err := w.folder.stands(w.name, st.Dev, st.Ino); err != nil {
		return w.folder.fail("rename", w.name, err)
	}
	return nil
}

// Abort throws the file away; what stood under its name is as it was. It does nothing after Finish and may be called
// more than once, so it can be deferred.
func (w *File) Abort() {
	if w.fd < 0 {
		return
	}
	var st unix.Stat_t
	err := unix.Fstat(w.fd, &st)
	unix.Close(w.fd)
	w.fd = -1
	if err == nil {
		w.remove(&st)
	}
}

// remove takes away the name the file has, unless something else has it by now; where nobody else can have given it to
// something, st need not tell.
func (w *File) remove(st *unix.Stat_t) {
	name := w.name
	if w.temp != "" {
		name = w.temp
	}
	if st.Ino != 0 && w.folder.stands(name, st.Dev, st.Ino) != nil {
		return
	}
	if o, err := w.folder.hold(); err == nil {
		unix.Unlinkat(o.fd, name, 0)
		w.folder.unpin()
	}
}

func ftruncate(fd int, size int64) error {
	for {
		if err := unix.Ftruncate(fd, size); err != unix.EINTR {
			return err
		}
	}
}
