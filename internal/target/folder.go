package target

import (
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Folder is a real directory below the target, or the target itself. Its methods may be called from any goroutine, but
// Finish and Close only when nothing else is going on in it.
type Folder struct {
	directory *Directory
	parent    *Folder // nil for the root
	name      string
	depth     int
	dev, ino  uint64
	uid, gid  uint32 // when opened; if made, what anything made in it gets as well
	made      bool   // by this restore: until Finish only its own user can change it
	begun     bool   // by another restore that did not come to its end; see unfinished
	lent      bool   // it did not let its owner in and was given 0700 by us
	mode      uint32 // what it had then

	// Guarded by directory.mu. A pinned folder stays open, so open may then be read without.
	open       object
	pins       int
	prev, next *Folder // in the ring of idle folders
	stage      *stage  // if it has one

	closed, finished atomic.Bool
	named            atomic.Bool // files can not be made here without a name
	apart            atomic.Bool // nothing can be moved here from another folder of the same file system
}

// unfinished is the mode of a directory that was made and has not got its own yet, so that it shows when a restore died
// in between: its bit that restricts deletion to owners means nothing where nobody else may enter.
const unfinished = unix.S_ISVTX | 0o700

// newFolder is the folder that o is.
func (d *Directory) newFolder(parent *Folder, name string, o object, made bool) (*Folder, error) {
	var st unix.Stat_t
	if err := unix.Fstat(o.fd, &st); err != nil {
		unix.Close(o.fd)
		return nil, err
	}
	f := &Folder{directory: d, parent: parent, name: name, open: o, dev: st.Dev, ino: st.Ino, uid: st.Uid, gid: st.Gid, made: made}
	f.begun = !made && st.Uid == d.uid && st.Mode&(07777&^unix.S_ISGID) == unfinished
	if parent != nil {
		f.depth = parent.depth + 1
	}
	if parent != nil && parent.dev == f.dev {
		f.named.Store(parent.named.Load())
	} else {
		f.named.Store(mustName(o))
	}
	if !made {
		d.sweep(o)
	}
	if made && (parent == nil || !parent.private()) {
		// Here neither is inherited by what is made below.
		o.removexattr(aclDefault)
		o.removexattr(aclAccess)
	}
	if !d.superuser && st.Uid == d.uid && st.Mode&0o700 != 0o700 && o.chmod(st.Mode&07777|0o700) == nil {
		f.lent, f.mode = !made, st.Mode&07777 // made: a umask that does not let in its own user
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		unix.Close(o.fd)
		return nil, ErrClosed
	}
	d.open++
	d.noteMountLocked(st.Dev, o)
	f.pins = 1
	if parent != nil {
		d.unpinLocked(f)
	}
	return f, nil
}

// private reports whether nobody but the own user can have changed anything in f since it was made.
func (f *Folder) private() bool {
	return f.made && !f.finished.Load()
}

// Made reports whether this restore made the directory, or another one that died before it was finished, so that its
// metadata is nobody else's.
func (f *Folder) Made() bool { return f.made || f.begun }

// Folder opens the directory name in f, or makes it with mode 01700, which it keeps until Finish. Only a real directory
// is opened: a link or anything else that stands there is ErrNotDirectory, or with Always removed first. An existing
// directory of the own user that would not let them in is given 0700, which Finish or Close takes back.
func (f *Folder) Folder(name string) (*Folder, error) {
	switch {
	case !validName(name):
		return nil, f.fail("mkdir", name, ErrName)
	case f.depth >= MaxDepth:
		return nil, f.fail("mkdir", name, ErrDepth)
	}
	o, err := f.pin()
	if err != nil {
		return nil, err
	}
	defer f.unpin()
	d := f.directory
	for range maxAttempts {
		made := false
		switch err := unix.Mkdirat(o.fd, name, unfinished); err {
		case nil:
			made = true
		case unix.EEXIST, unix.EINTR:
		default:
			return nil, f.fail("mkdir", name, err)
		}
		child, err := d.openFolder(o.fd, name)
		switch {
		case err == nil:
			sub, err := d.newFolder(f, name, child, made)
			if err != nil {
				return nil, f.fail("mkdir", name, err)
			}
			return sub, nil
		case err == unix.ENOENT: // it went away in between
		case err == ErrNotDirectory && d.options.Overwrite == Always:
			// unlink never removes a directory, so what is lost is what stood in the way.
			if err := unix.Unlinkat(o.fd, name, 0); err != nil && err != unix.ENOENT && err != unix.EISDIR {
				return nil, f.fail("unlink", name, err)
			}
		default:
			return nil, f.fail("mkdir", name, err)
		}
	}
	return nil, f.fail("mkdir", name, ErrMoved)
}

// Finish sets the metadata of the directory itself. Call it when everything below is finished, as it may make the
// directory unwritable and as every later entry would change its time. ErrMoved: the directory is no longer where it was
// opened, so what was restored into it is not below the target.
func (f *Folder) Finish(m *Meta) ([]Problem, error) {
	if !m.possible(TypeDirectory) {
		return nil, f.fail("finish", "", ErrMeta)
	}
	o, err := f.pin()
	if err != nil {
		return nil, err
	}
	defer f.unpin()
	f.directory.dropStages(f) // which changes its time
	var st unix.Stat_t
	if err := unix.Fstat(o.fd, &st); err != nil {
		return nil, f.fail("finish", "", err)
	}
	inherited := !f.private()
	f.finished.Store(true)
	f.lent = false
	problems := f.directory.apply(o, &st, m, inherited)
	if f.parent == nil {
		return problems, nil
	}
	if err := f.parent.stands(f.name, f.dev, f.ino); err != nil {
		return problems, f.fail("finish", "", err)
	}
	return problems, nil
}

// stands reports as ErrMoved that name in f is not the inode given.
func (f *Folder) stands(name string, dev, ino uint64) error {
	o, err := f.hold()
	if err != nil {
		return err
	}
	defer f.unpin()
	var st unix.Stat_t
	if err := fstatat(o.fd, name, &st); err == unix.ENOENT || err == nil && (st.Dev != dev || st.Ino != ino) {
		return ErrMoved
	} else if err != nil {
		return err
	}
	return nil
}

// Close gives back the descriptor. Folders below stay usable. It may be called more than once; on the root it does nothing.
func (f *Folder) Close() {
	if f.parent == nil {
		return
	}
	if f.lent {
		if _, err := f.pin(); err == nil {
			f.lendBack()
			f.unpin()
		}
	}
	d := f.directory
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.closed.Swap(true) {
		return
	}
	if f.pins == 0 && f.open.fd >= 0 {
		f.unlink()
		d.closeLocked(f)
	}
}

// lendBack restores the mode of a directory that was opened up and never finished. f is pinned.
func (f *Folder) lendBack() {
	if f.lent {
		f.lent = false
		f.open.chmod(f.mode)
	}
}

// pathOf is where name stands, or with an empty name f itself, relative to the root. For errors only.
func (f *Folder) pathOf(name string) string {
	parts := make([]string, f.depth, f.depth+1)
	for at := f; at.parent != nil; at = at.parent {
		parts[at.depth-1] = at.name
	}
	if name != "" {
		parts = append(parts, name)
	}
	if len(parts) == 0 {
		return "."
	}
	return strings.Join(parts, "/")
}
