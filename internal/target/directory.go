package target

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Overwrite says what becomes of an entry that stands where the restore wants to put one. Directories are never
// replaced by directories: what is below them is merged.
type Overwrite uint8

const (
	// Never leaves everything as it is: ErrExists.
	Never Overwrite = iota
	// IfChanged leaves what has the same type, size and time of modification (and target, and device number): ErrSame.
	// Everything else is replaced, except that a link or file in the way of a directory stays: ErrNotDirectory.
	IfChanged
	// Always replaces. Only an empty directory makes room for something else: ErrNotEmpty.
	Always
)

// Options say how a restore lands.
type Options struct {
	// Overwrite is what to do about entries that exist already.
	Overwrite Overwrite
	// Privileged allows setuid and setgid bits, file capabilities, devices, and trusted and security attributes. Whether
	// they work is for the kernel to say; without it they are not tried and become a Problem with Skipped.
	Privileged bool
	// NumericOwner takes the numbers of the backup. Otherwise a user or group whose name exists here gets its local number.
	NumericOwner bool
	// MaxOpen is how many folders are kept open between calls, 0 means 256. More may be in use; those beyond are closed
	// and opened again when needed, one component after the other, with their identity compared.
	MaxOpen int
}

const defaultMaxOpen = 256

// Directory is a directory of a file system as the target of a restore. Its methods, and those of its folders, may be
// called from any goroutine.
type Directory struct {
	options   Options
	top       *Folder
	uid       uint32 // effective
	superuser bool   // so files can be given away
	owners    owners

	mu     sync.Mutex          // guards what follows and the marked fields of every Folder
	open   int                 // descriptors in the cache, pinned ones included
	idle   Folder              // ring of open folders that nobody pins, most recently used first
	mounts map[uint64]int      // by device number: a descriptor on each file system reached, for SyncAll; the root's own among them
	wide   bool                // SyncAll must sync everything, as a file system has no descriptor for it
	stages map[*stage]struct{} // that can be borrowed
	closed bool
}

// OpenDirectory opens path, and makes it (with mode 01700, which it keeps until it is finished) and what is above it if it
// is missing. It is opened once: that path later leads elsewhere does not matter. Links in path itself are followed, as
// path is the operator's word; below it none is.
func OpenDirectory(path string, o Options) (*Directory, error) {
	made := false
	switch err := os.Mkdir(path, os.ModeSticky|0o700); {
	case err == nil:
		made = true
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(filepath.Clean(path)), 0o700); err != nil {
			return nil, err
		}
		if err := os.Mkdir(path, os.ModeSticky|0o700); err == nil {
			made = true
		} else if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	case !errors.Is(err, fs.ErrExist):
		// A read-only place says so at the first file; here it may be there all the same.
	}
	if o.MaxOpen <= 0 {
		o.MaxOpen = defaultMaxOpen
	}
	d := &Directory{options: o, uid: uint32(unix.Geteuid()), mounts: make(map[uint64]int), stages: make(map[*stage]struct{})}
	d.superuser = d.uid == 0
	d.idle.next, d.idle.prev = &d.idle, &d.idle
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	o1 := object{fd: fd}
	if err == unix.EACCES {
		o1.fd, err = unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		o1.path = true
	}
	if err == unix.ENOTDIR {
		err = ErrNotDirectory
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f, err := d.newFolder(nil, "", o1, made)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f.pins = 1 // for as long as d is open
	d.top = f
	return d, nil
}

// Root is the folder that d itself is. Closing it does nothing; finishing it sets the metadata of the target itself.
func (d *Directory) Root() *Folder { return d.top }

// SyncAll makes everything restored durable: one syncfs for each file system reached, one in all unless there are
// mounts below the target. An error means that something of it may be lost.
func (d *Directory) SyncAll() error {
	d.dropStages(nil)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	var errs []error
	for _, fd := range d.mounts {
		if err := syncFileSystem(fd); err != nil {
			errs = append(errs, &fs.PathError{Op: "syncfs", Path: ".", Err: err})
		}
	}
	if d.wide {
		unix.Sync()
	}
	return errors.Join(errs...)
}

// Close gives back all descriptors that d holds, those of its folders included. Files not yet finished are not among
// them. It may be called more than once.
func (d *Directory) Close() error {
	d.dropStages(nil)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	for s := range d.stages {
		s.over = true // a file that was neither finished nor aborted
	}
	for _, fd := range d.mounts {
		unix.Close(fd)
	}
	d.mounts = nil
	d.shedLocked(0)
	d.top.lendBack()
	d.unpinLocked(d.top)
	return nil
}

// maxMounts bounds the descriptors kept for SyncAll.
const maxMounts = 64

// noteMountLocked remembers the file system that o lies on. The descriptor is taken when the first folder there is
// opened, so that syncfs tells of every write error since.
func (d *Directory) noteMountLocked(device uint64, o object) {
	if _, ok := d.mounts[device]; ok {
		return
	}
	fd := -1
	if !o.path && len(d.mounts) < maxMounts {
		if dup, err := unix.FcntlInt(uintptr(o.fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			fd = dup
		}
	}
	if fd < 0 {
		d.wide = true
		return
	}
	d.mounts[device] = fd
}
