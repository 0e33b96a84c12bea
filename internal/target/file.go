package target

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// File is a regular file being restored: bytes without a name. WriteAt may be called from any goroutine; Finish or Abort
// once by one, when all writes have returned. Its descriptor is held until then, so the caller bounds how many there are.
type File struct {
	folder *Folder
	name   string
	fd     int // -1 when done
	size   int64
	mtime  Time
	stage  *stage       // that it has a name in, because it can not be without or because it replaces something; else nil
	temp   string       // this name
	end    atomic.Int64 // of the furthest write
	done   bool         // by Finish, and all went well
	dev    uint64       // then
	ino    uint64       // then, 0 if Finish had no need to know
	uid    uint32       // then
}

// Create begins the regular file name in f. Until Finish it is not there: what stands under its name stays, and a
// process that dies leaves nothing of it. size is what it will have in the end, and with mtime what IfChanged compares.
// ErrExists and ErrSame say that what is there stays for good; in a folder made by this restore, where nothing can be
// expected, it is Finish that says so.
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
	w := &File{folder: f, name: name, size: size, mtime: mtime}
	if !f.private() {
		var st unix.Stat_t
		switch err := fstatat(o.fd, name, &st); err {
		case unix.ENOENT:
		case nil:
			if _, err := f.occupied(o.fd, name, w.same); err != nil {
				return nil, err
			}
		default:
			return nil, f.fail("create", name, err)
		}
	}
	if err := w.open(o); err != nil {
		return nil, f.fail("create", name, err)
	}
	return w, nil
}

// same reports whether st is what the file will be.
func (w *File) same(st *unix.Stat_t) bool { return sameFile(st, TypeRegular, w.size, w.mtime) }

// open makes the file, of mode 0600 and the own user's, in the folder that o is.
func (w *File) open(o object) (err error) {
	f := w.folder
	if !f.named.Load() {
		w.fd, err = f.directory.create(o.fd, ".", unix.O_TMPFILE)
		switch err {
		case unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL: // not on this file system
			f.named.Store(true)
		default:
			return err
		}
	}
	for range maxAttempts {
		if w.stage, err = f.borrow(); err != nil {
			return err
		}
		w.temp = w.stage.nextName()
		if w.fd, err = f.directory.create(w.stage.open.fd, w.temp, unix.O_CREAT|unix.O_EXCL); err == nil {
			return nil
		}
		if err == unix.ENOENT {
			w.stage.discard()
		}
		w.stage.leave()
		if err != unix.ENOENT {
			return err
		}
	}
	return ErrMoved
}

// create makes a new file; the flags are such that no link is followed and nothing that is there opened.
func (d *Directory) create(dirfd int, name string, flags int) (int, error) {
	fd, err := openat(dirfd, name, unix.O_WRONLY|flags, 0o600)
	if err == unix.EMFILE || err == unix.ENFILE {
		d.shed()
		fd, err = openat(dirfd, name, unix.O_WRONLY|flags, 0o600)
	}
	return fd, err
}

// unnamedFiles is off in tests of file systems that do not have them.
var unnamedFiles = true

// mustName reports whether files in the folder o need a name from the beginning. Those on the other side of a wire or of
// another process do, because closing them may tell that they are not whole, which has to be known before they are moved.
func mustName(o object) bool {
	var fs unix.Statfs_t
	if !unnamedFiles || unix.Access("/proc/self/fd", unix.X_OK) != nil || unix.Fstatfs(o.fd, &fs) != nil {
		return true
	}
	switch fs.Type {
	case unix.FUSE_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC,
		unix.CEPH_SUPER_MAGIC, unix.V9FS_MAGIC, unix.AFS_FS_MAGIC:
		return true
	}
	return false
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

// Finish gives the file its size and metadata, and then its name. On an error the file is gone as after Abort. ErrExists
// and ErrSame, as of Create, if something stands under the name by now.
func (w *File) Finish(m *Meta) ([]Problem, error) {
	if w.fd < 0 {
		return nil, w.folder.fail("finish", w.name, ErrClosed)
	}
	defer w.Abort() // does nothing when all went well
	if !m.possible(TypeRegular) {
		return nil, w.folder.fail("finish", w.name, ErrMeta)
	}
	if w.end.Load() < w.size {
		if err := ftruncate(w.fd, w.size); err != nil {
			return nil, w.folder.fail("truncate", w.name, err)
		}
	}
	// In a folder of our own making the owner is known without asking, and setting the mode is cheaper than asking too.
	st := unix.Stat_t{Uid: w.folder.uid, Gid: w.folder.gid, Mode: unknownMode}
	inherited := false
	if w.stage != nil {
		st.Uid, st.Gid = w.stage.uid, w.stage.gid
	} else {
		inherited = !w.folder.private()
	}
	if w.stage != nil || inherited {
		if err := unix.Fstat(w.fd, &st); err != nil {
			return nil, w.folder.fail("stat", w.name, err)
		}
	}
	problems := w.folder.directory.apply(object{fd: w.fd}, &st, m, inherited)
	if w.stage != nil {
		// Before the rename: what close tells of, the old file must survive.
		err := closeFile(w.fd)
		w.fd = -1
		if err != nil {
			w.unstage()
			return nil, w.folder.fail("close", w.name, err)
		}
	}
	if err := w.takePlace(); err != nil {
		w.unstage()
		return nil, err
	}
	if w.fd >= 0 {
		unix.Close(w.fd) // of a file system that keeps nothing back until then
		w.fd = -1
	}
	w.done, w.dev, w.ino, w.uid = true, st.Dev, st.Ino, st.Uid
	return problems, nil
}

// takePlace gives the finished file its name: the only moment at which anything of it is to be seen.
func (w *File) takePlace() error {
	f := w.folder
	o, err := f.hold()
	if err != nil {
		return f.fail("create", w.name, err)
	}
	defer f.unpin()
	free := true
	for range maxAttempts {
		switch {
		case free && w.stage == nil:
			err = linkDescriptor(w.fd, o.fd, w.name)
		case w.stage == nil:
			// No call gives a file a name that is taken: it needs another one first, which a rename can move.
			if w.stage, w.temp, err = f.linkStaged(w.fd); err != nil {
				return f.fail("create", w.name, err)
			}
			fallthrough
		default:
			err = w.stage.move(w.temp, o.fd, w.name, free)
		}
		switch err {
		case nil:
			if w.stage != nil {
				w.stage.leave()
				w.stage = nil
			}
			return nil
		case unix.EEXIST:
			if free, err = f.occupied(o.fd, w.name, w.same); err != nil {
				return err
			}
		default:
			return f.fail("create", w.name, err)
		}
	}
	return f.fail("create", w.name, ErrMoved)
}

// Abort throws the file away; what stood under its name is as it was. It does nothing after Finish and may be called
// more than once, so it can be deferred.
func (w *File) Abort() {
	if w.fd < 0 {
		return
	}
	unix.Close(w.fd)
	w.fd = -1
	w.unstage()
}

// unstage takes away the name that the file has in a stage.
func (w *File) unstage() {
	if w.stage == nil {
		return
	}
	unix.Unlinkat(w.stage.open.fd, w.temp, 0)
	w.stage.leave()
	w.stage = nil
}

func ftruncate(fd int, size int64) error {
	for {
		if err := unix.Ftruncate(fd, size); err != unix.EINTR {
			return err
		}
	}
}
