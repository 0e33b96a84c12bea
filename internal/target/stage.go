package target

import (
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// stage is a directory of ours in which things get ready that must get their names by rename: what is no regular file,
// what replaces something, and everything where files can not be made without a name.
//
// It has mode 0700 and lies in the topmost folder of its file system that this restore knows, one for all. As long as
// its restore lives it is locked, so that sweep, which a later restore does wherever it comes by, tells what is left of
// a dead one from what another one is using.
type stage struct {
	folder   *Folder // it stands in
	name     string
	open     object
	uid, gid uint32 // what anything made in it gets
	last     atomic.Uint64

	// Guarded by directory.mu.
	users int
	over  bool // closed by who leaves it last
}

const (
	stagePrefix = ".backupd-"
	stageRandom = 20 // hexadecimal digits after it
)

// nextName is a name in s that is free. It repeats that of s, so that what bears it was made for nothing else.
func (s *stage) nextName() string {
	return s.name + "." + strconv.FormatUint(s.last.Add(1), 10)
}

// borrow gives the stage for what goes into f; leave must be called after.
func (f *Folder) borrow() (*stage, error) {
	d, in := f.directory, f
	for !in.apart.Load() && in.parent != nil && in.parent.dev == in.dev {
		in = in.parent
	}
	d.mu.Lock()
	if s := in.stage; s != nil {
		s.users++
		d.mu.Unlock()
		return s, nil
	}
	d.mu.Unlock()
	s, err := in.newStage()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	switch {
	case d.closed:
		unix.Close(s.open.fd)
		d.mu.Unlock()
		return nil, ErrClosed
	case in.stage == nil:
		in.stage = s
		d.stages[s] = struct{}{}
		s = nil
	}
	mine := in.stage
	mine.users++
	d.mu.Unlock()
	if s != nil { // somebody else was faster
		s.remove()
	}
	return mine, nil
}

func (s *stage) leave() {
	d := s.folder.directory
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.users--; s.users == 0 && s.over {
		unix.Close(s.open.fd)
	}
}

// newStage makes a stage in f.
func (f *Folder) newStage() (*stage, error) {
	o, err := f.hold()
	if err != nil {
		return nil, err
	}
	defer f.unpin()
	for range maxAttempts {
		s := &stage{folder: f, name: tempName()}
		if err := unix.Mkdirat(o.fd, s.name, 0o700); err != nil {
			return nil, err
		}
		ok, err := s.enter(o.fd)
		if ok {
			return s, nil
		}
		if s.open.fd >= 0 {
			unix.Close(s.open.fd)
		}
		unix.Unlinkat(o.fd, s.name, unix.AT_REMOVEDIR)
		if err != nil {
			return nil, err
		}
	}
	return nil, ErrMoved
}

// enter opens and locks a stage just made. Without an error it is ok unless a sweep came before the lock.
func (s *stage) enter(dirfd int) (ok bool, err error) {
	d := s.folder.directory
	if s.open, err = d.openFolder(dirfd, s.name); err != nil {
		return false, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(s.open.fd, &st); err != nil {
		return false, err
	}
	if st.Uid == d.uid && st.Mode&0o700 != 0o700 { // a umask that does not let in its own user
		if err := s.open.chmod(0o700); err != nil {
			return false, err
		}
		unix.Close(s.open.fd)
		if s.open, err = d.openFolder(dirfd, s.name); err != nil {
			return false, err
		}
	}
	if st.Uid != d.uid || st.Mode&0o077 != 0 || s.open.path {
		return false, ErrMoved
	}
	s.uid, s.gid = st.Uid, st.Gid
	s.open.removexattr(aclDefault)
	s.open.removexattr(aclAccess)
	// Shared, because NFS grants no other lock on a directory. Where there are no locks there is no sweep either.
	if flock(s.open.fd, unix.LOCK_SH|unix.LOCK_NB) == unix.EWOULDBLOCK {
		return false, nil
	}
	var now unix.Stat_t
	if err := fstatat(dirfd, s.name, &now); err == unix.ENOENT {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return now.Dev == st.Dev && now.Ino == st.Ino, nil
}

// remove ends a stage that nobody uses and that can not be borrowed any more.
func (s *stage) remove() {
	if o, err := s.folder.hold(); err == nil {
		unix.Unlinkat(o.fd, s.name, unix.AT_REMOVEDIR)
		s.folder.unpin()
	}
	unix.Close(s.open.fd) // the lock goes last
}

// dropStages removes the stages in a folder, or all when in is nil, that nobody uses at the moment.
func (d *Directory) dropStages(in *Folder) {
	var drop []*stage
	d.mu.Lock()
	for s := range d.stages {
		if (in == nil || s.folder == in) && s.users == 0 {
			drop = append(drop, s)
			delete(d.stages, s)
			s.folder.stage = nil
		}
	}
	d.mu.Unlock()
	for _, s := range drop {
		s.remove()
	}
}

// discard forgets s after its directory was taken away by somebody, so that the next to borrow one gets another.
func (s *stage) discard() {
	d := s.folder.directory
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.stages[s]; ok {
		delete(d.stages, s)
		s.folder.stage = nil
		s.over = true // the caller has it borrowed
	}
}

// linkStaged gives the file behind a descriptor a name in the stage for f, which is borrowed then.
func (f *Folder) linkStaged(fd int) (s *stage, temp string, err error) {
	for range maxAttempts {
		if s, err = f.borrow(); err != nil {
			return nil, "", err
		}
		temp = s.nextName()
		if err = linkDescriptor(fd, s.open.fd, temp); err == nil {
			return s, temp, nil
		}
		again := f.elsewhere(s, err)
		s.leave()
		if !again {
			return nil, "", err
		}
	}
	return nil, "", err
}

// elsewhere reports whether another stage may do for f what s did not, for which err is the reason.
func (f *Folder) elsewhere(s *stage, err error) bool {
	switch err {
	case unix.ENOENT:
		s.discard()
		return true
	case unix.EXDEV: // a mount of the same file system in between, or a quota or a key that ends at a folder
		return !f.apart.Swap(true)
	}
	return false
}

// move gives what is temp in s the name it is for, which is free or is to be replaced.
func (s *stage) move(temp string, dirfd int, name string, free bool) error {
	if free {
		return moveNew(s.open.fd, temp, dirfd, name)
	}
	return replace(s.open.fd, temp, dirfd, name)
}
