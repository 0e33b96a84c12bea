// Package crashfs is a durable.FS in memory that knows what a power cut takes
// away. It is for tests.
//
// Beside what programs see it keeps what is on the disk: the contents that a
// file had at its last Sync, and the names that a directory had at its last
// SyncDir. [FS.Crash] makes the tree that a reboot would find: all that was
// synced, and of the rest a random part.
//
//   - Contents: each block, of 512 bytes or 4 KiB by chance, that was written
//     since the last Sync is there in its latest state with p percent
//     probability. Else it has, by chance, one of its earlier states, the synced
//     one among them.
//   - Length: by the same rule, apart from the contents. A block beyond the
//     length is lost; a length beyond the blocks reads as zeros.
//   - Names: each create, link, unlink, mkdir and rename that was not synced
//     happened with p percent probability, independent of all others. A rename
//     happens as a whole or not at all, and is synced by SyncDir of the directory
//     of the new name; that of the old one does not suffice. What made the name
//     that a rename moved has happened if the rename has.
//   - Nothing else: a synced file whose name was not synced is gone, a name that
//     was synced without its file leads to an empty file.
//
// With p = 0 that is the least a disk may keep, with p = 100 everything.
// Metadata of a real file system is usually kept in order, so real disks do
// better than this one.
package crashfs

import (
	"errors"
	"io/fs"
	"math"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/generalbots/backupd/internal/durable"
)

// ErrCrashed is what every call returns after the crash, in a *fs.PathError.
var ErrCrashed = errors.New("crashed")

// Op is an operation that changes the tree or makes a change durable. Reads are
// none: a crash at a read is the crash at the change before it.
type Op struct {
	N    int    // from 1
	Kind string // create, write, fallocate, truncate, sync, mkdir, link, rename, unlink, syncdir, lock
	Name string // for rename and link the new name
}

// Lies are the promises a disk may break, for negative controls: a crash test
// that does not fail under the lie it should feel is worth nothing. A tree made
// by Crash or Restart lies on.
type Lies struct {
	IgnoreSync    bool // Sync of files does nothing
	IgnoreSyncDir bool // SyncDir does nothing
	// EarlyRename makes a rename durable at once, but the contents of the file,
	// although synced before, only with the next SyncDir of a directory it is in:
	// as if the program had renamed first and synced then.
	EarlyRename bool
}

// FS is the tree. The zero value is not usable; see New. Its methods are safe
// for concurrent use.
type FS struct {
	hooking sync.Mutex // held over a hook, so that hooks come one at a time

	mu       sync.Mutex // guards the rest and all inodes
	live     tree       // what programs see
	disk     tree       // what was synced
	pending  []*change  // not synced, oldest first
	locks    map[string]*lockState
	nextID   int
	ops      int
	crashAt  int
	crashed  bool
	hook     func(Op)
	lies     Lies
	capacity int64
}

var _ durable.FS = (*FS)(nil)

// New returns an empty tree of unlimited capacity on an honest disk.
func New() *FS {
	return &FS{
		live: tree{"": nil}, disk: tree{"": nil},
		locks: map[string]*lockState{}, capacity: math.MaxInt64,
	}
}

// Lie sets the lies told from now on.
func (f *FS) Lie(l Lies) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lies = l
}

// SetCapacity limits the bytes that all files may have together; growing beyond
// is ENOSPC. Names cost nothing.
func (f *FS) SetCapacity(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.capacity = bytes
}

// Ops returns the number of operations so far.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// CrashAt makes operation n, and every call after it, fail with ErrCrashed;
// operation n does not happen. 0 is never.
func (f *FS) CrashAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashAt = n
}

// Stop makes every call from now on fail with ErrCrashed.
func (f *FS) Stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
}

// Crashed reports whether the tree has stopped.
func (f *FS) Crashed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crashed
}

// Before has hook called before every operation, one at a time, while the
// operation has not happened. The hook may call Crash, Restart and Ops, but may
// not operate on this tree. It makes all crash states of one run reachable
// without repeating the run. It is set before the tree is used.
func (f *FS) Before(hook func(Op)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// begin counts an operation and takes f.mu, which it holds if it returns nil.
func (f *FS) begin(kind, name string) error {
	f.mu.Lock()
	if f.hook != nil && !f.crashed {
		f.mu.Unlock()
		f.hooking.Lock()
		f.mu.Lock()
		hook, op := f.hook, Op{N: f.ops + 1, Kind: kind, Name: name}
		f.mu.Unlock()
		hook(op)
		f.mu.Lock()
		// Only now may the next one look: the number is given out below, and f.mu
		// is held from here on.
		defer f.hooking.Unlock()
	}
	if !f.crashed {
		f.ops++
		f.crashed = f.ops == f.crashAt
	}
	if f.crashed {
		f.mu.Unlock()
		return fail(kind, name, ErrCrashed)
	}
	return nil
}

// look takes f.mu for a call that changes nothing.
func (f *FS) look(kind, name string) error {
	f.mu.Lock()
	if f.crashed {
		f.mu.Unlock()
		return fail(kind, name, ErrCrashed)
	}
	return nil
}

func fail(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// Create adds an empty file.
func (f *FS) Create(name string) (durable.File, error) {
	if err := f.begin("create", name); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	if err := f.live.vacant(name); err != nil {
		return nil, fail("create", name, err)
	}
	ino := f.newInode(false)
	f.apply(&change{name: name, ino: ino})
	return &file{fs: f, ino: ino, name: name, write: true}, nil
}

// Open opens a file for reading.
func (f *FS) Open(name string) (durable.File, error) { return f.open(name, false) }

// OpenWrite opens a file for reading and writing.
func (f *FS) OpenWrite(name string) (durable.File, error) { return f.open(name, true) }

func (f *FS) open(name string, write bool) (durable.File, error) {
	if err := f.look("open", name); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	ino, err := f.live.find(name)
	if err == nil && ino.dir {
		err = syscall.EINVAL
	}
	if err != nil {
		return nil, fail("open", name, err)
	}
	return &file{fs: f, ino: ino, name: name, write: write}, nil
}

// Stat describes a name.
func (f *FS) Stat(name string) (durable.Info, error) {
	if err := f.look("stat", name); err != nil {
		return durable.Info{}, err
	}
	defer f.mu.Unlock()
	ino, err := f.live.find(name)
	if err != nil {
		return durable.Info{}, fail("stat", name, err)
	}
	return ino.info(base(name)), nil
}

// ReadDir lists a directory, sorted, so that runs repeat.
func (f *FS) ReadDir(name string) ([]durable.Info, error) {
	if err := f.look("readdir", name); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	entries, err := f.live.entries(name)
	if err != nil {
		return nil, fail("readdir", name, err)
	}
	list := make([]durable.Info, 0, len(entries))
	for n, ino := range entries {
		list = append(list, ino.info(n))
	}
	slices.SortFunc(list, func(a, b durable.Info) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Mkdir adds a directory.
func (f *FS) Mkdir(name string) error {
	if err := f.begin("mkdir", name); err != nil {
		return err
	}
	defer f.mu.Unlock()
	if err := f.live.vacant(name); err != nil {
		return fail("mkdir", name, err)
	}
	f.apply(&change{name: name, ino: f.newInode(true)})
	return nil
}

// Link adds a name.
func (f *FS) Link(oldname, newname string) error {
	if err := f.begin("link", newname); err != nil {
		return err
	}
	defer f.mu.Unlock()
	ino, err := f.live.find(oldname)
	if err == nil && ino.dir {
		err = syscall.EPERM
	}
	if err == nil {
		err = f.live.vacant(newname)
	}
	if err != nil {
		return fail("link", newname, err)
	}
	f.apply(&change{name: newname, ino: ino})
	return nil
}

// Rename moves a file over what has the new name. Directories are not moved.
func (f *FS) Rename(oldname, newname string) error { return f.rename(oldname, newname, true) }

// RenameNoReplace moves a file to a free name.
func (f *FS) RenameNoReplace(oldname, newname string) error {
	return f.rename(oldname, newname, false)
}

func (f *FS) rename(oldname, newname string, replace bool) error {
	if err := f.begin("rename", newname); err != nil {
		return err
	}
	defer f.mu.Unlock()
	ino, err := f.live.find(oldname)
	if err == nil && ino.dir {
		err = syscall.EISDIR
	}
	if err == nil {
		err = f.live.vacant(newname)
		if replace && errors.Is(err, fs.ErrExist) {
			err = nil
			if there, _ := f.live.find(newname); there.dir {
				err = syscall.EISDIR
			}
		}
	}
	if err != nil {
		return fail("rename", newname, err)
	}
	if oldname == newname {
		return nil
	}
	c := &change{name: newname, ino: ino, from: oldname, moved: true}
	f.apply(c)
	if f.lies.EarlyRename {
		f.persist(c)
	}
	return nil
}

// Unlink removes the name of a file.
func (f *FS) Unlink(name string) error {
	if err := f.begin("unlink", name); err != nil {
		return err
	}
	defer f.mu.Unlock()
	ino, err := f.live.find(name)
	if err == nil && ino.dir {
		err = syscall.EISDIR
	}
	if err != nil {
		return fail("unlink", name, err)
	}
	f.apply(&change{name: name})
	return nil
}

// SyncDir persists the changes to names in the directory.
func (f *FS) SyncDir(name string) error {
	if err := f.begin("syncdir", name); err != nil {
		return err
	}
	defer f.mu.Unlock()
	entries, err := f.live.entries(name)
	if err != nil {
		return fail("syncdir", name, err)
	}
	if f.lies.IgnoreSyncDir {
		return nil
	}
	for _, c := range slices.Clone(f.pending) {
		if parent(c.name) == name {
			f.persist(c)
		}
	}
	for _, ino := range entries {
		ino.late()
	}
	return nil
}

// Statfs counts the contents of all files that have a name.
func (f *FS) Statfs() (durable.Space, error) {
	if err := f.look("statfs", ""); err != nil {
		return durable.Space{}, err
	}
	defer f.mu.Unlock()
	return durable.Space{Free: max(0, f.capacity-f.used()), Total: f.capacity}, nil
}

// Close does nothing.
func (f *FS) Close() error { return nil }
