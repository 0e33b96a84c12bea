// Package errfs is a durable.FS in front of another one that makes chosen
// operations fail, in all the ways a disk does: it fails and nothing happened,
// it fails although it happened, it fails half way, and it lies about bytes it
// reads. It is for tests.
package errfs

import (
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/generalbots/backupd/internal/durable"
)

// Op is a set of operations, combined with |.
type Op uint32

// The operations of durable.FS and durable.File.
const (
	Create Op = 1 << iota
	Open
	Stat
	ReadDir
	Mkdir
	Link
	Rename
	RenameNoReplace
	Unlink
	SyncDir
	Statfs
	Lock
	ReadAt
	WriteAt
	Size
	Fallocate
	Truncate
	Sync
	Close
	OpenWrite

	// Any is every operation.
	Any Op = 1<<iota - 1
	// Change is every operation that alters the tree or makes it durable.
	Change = Create | Mkdir | Link | Rename | RenameNoReplace | Unlink | SyncDir |
		WriteAt | Fallocate | Truncate | Sync
	// Grow is every operation that needs space.
	Grow = Create | Mkdir | Link | WriteAt | Fallocate
)

var opNames = [...]string{
	"create", "open", "stat", "readdir", "mkdir", "link", "rename", "rename-noreplace", "unlink",
	"syncdir", "statfs", "lock", "readat", "writeat", "size", "fallocate", "truncate", "sync", "close", "openwrite",
}

// String names the operations.
func (o Op) String() string {
	s := ""
	for i, name := range opNames {
		if o&(1<<i) != 0 {
			if s != "" {
				s += "|"
			}
			s += name
		}
	}
	return s
}

// Form is how an operation fails.
type Form uint8

const (
	// Failed is an error, and nothing happened.
	Failed Form = iota
	// Happened is an error although the operation was done. An operation that
	// returns a file, a lock or a listing returns only the error.
	Happened
	// Half is an error after half of the bytes of ReadAt or WriteAt; for other
	// operations it is Failed.
	Half
	// Flipped is ReadAt without an error and with one bit wrong; other operations
	// do not fail.
	Flipped
)

// Fault chooses operations and what becomes of them.
type Fault struct {
	Ops    Op     // which operations are counted
	Name   string // only this name (for rename and link the new one), or with a slash at its end only what is below; "" is all
	N      int    // the N-th counted one fails, from 1
	Sticky bool   // and all counted ones after it; with N = 1, all
	Form   Form
	Err    error // put into a *fs.PathError, such as syscall.EIO; not for Flipped
}

// Call is one operation that was asked for.
type Call struct {
	Op   Op
	Name string // for rename and link the new name
}

// String is the operation and the name.
func (c Call) String() string { return fmt.Sprintf("%v %s", c.Op, c.Name) }

// FS is a tree that fails as told. Its methods are safe for concurrent use.
type FS struct {
	inner durable.FS

	mu     sync.Mutex // guards the rest
	faults []*armed
	calls  []Call
}

type armed struct {
	Fault
	seen int
	hits int
}

var _ durable.FS = (*FS)(nil)

// New returns inner with no faults yet.
func New(inner durable.FS) *FS { return &FS{inner: inner} }

// Fail adds a fault, whose count starts now. If several faults meet one
// operation the one added first decides.
func (f *FS) Fail(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, &armed{Fault: fault})
}

// Heal removes all faults.
func (f *FS) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
}

// Hits returns how many operations the present faults have met.
func (f *FS) Hits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, a := range f.faults {
		n += a.hits
	}
	return n
}

// Calls returns the operations asked for so far, in order.
func (f *FS) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Forget empties Calls.
func (f *FS) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = nil
}

func (a *armed) on(name string) bool {
	if strings.HasSuffix(a.Name, "/") {
		return strings.HasPrefix(name, a.Name)
	}
	return a.Name == "" || a.Name == name
}

// meet counts an operation and returns the fault that it meets, or nil.
func (f *FS) meet(op Op, name string) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, Call{Op: op, Name: name})
	var found *Fault
	for _, a := range f.faults {
		if a.Ops&op == 0 || !a.on(name) {
			continue
		}
		a.seen++
		if found == nil && (a.seen == a.N || a.Sticky && a.seen > a.N) {
			a.hits++
			found = &a.Fault
		}
	}
	return found
}

// do runs an operation without bytes.
func (f *FS) do(op Op, name string, call func() error) error {
	fault := f.meet(op, name)
	if fault == nil || fault.Form == Flipped {
		return call()
	}
	if fault.Form == Happened {
		if err := call(); err != nil {
			return err
		}
	}
	return &fs.PathError{Op: op.String(), Path: name, Err: fault.Err}
}

// Create makes a file; one that was created in spite of the error stays.
func (f *FS) Create(name string) (durable.File, error) { return f.file(Create, name, f.inner.Create) }

// Open opens a file.
func (f *FS) Open(name string) (durable.File, error) { return f.file(Open, name, f.inner.Open) }

// OpenWrite opens a file for writing.
func (f *FS) OpenWrite(name string) (durable.File, error) {
	return f.file(OpenWrite, name, f.inner.OpenWrite)
}

func (f *FS) file(op Op, name string, open func(string) (durable.File, error)) (durable.File, error) {
	var inner durable.File
	err := f.do(op, name, func() (err error) {
		inner, err = open(name)
		return err
	})
	if err != nil {
		if inner != nil {
			inner.Close()
		}
		return nil, err
	}
	return &file{fs: f, inner: inner, name: name}, nil
}

// Stat describes a name.
func (f *FS) Stat(name string) (info durable.Info, err error) {
	err = f.do(Stat, name, func() (err error) {
		info, err = f.inner.Stat(name)
		return err
	})
	if err != nil {
		return durable.Info{}, err
	}
	return info, nil
}

// ReadDir lists a directory.
func (f *FS) ReadDir(name string) (list []durable.Info, err error) {
	err = f.do(ReadDir, name, func() (err error) {
		list, err = f.inner.ReadDir(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Mkdir makes a directory.
func (f *FS) Mkdir(name string) error {
	return f.do(Mkdir, name, func() error { return f.inner.Mkdir(name) })
}

// Link adds a name.
func (f *FS) Link(oldname, newname string) error {
	return f.do(Link, newname, func() error { return f.inner.Link(oldname, newname) })
}

// Rename moves a file.
func (f *FS) Rename(oldname, newname string) error {
	return f.do(Rename, newname, func() error { return f.inner.Rename(oldname, newname) })
}

// RenameNoReplace moves a file to a free name.
func (f *FS) RenameNoReplace(oldname, newname string) error {
	return f.do(RenameNoReplace, newname, func() error { return f.inner.RenameNoReplace(oldname, newname) })
}

// Unlink removes a name.
func (f *FS) Unlink(name string) error {
	return f.do(Unlink, name, func() error { return f.inner.Unlink(name) })
}

// SyncDir makes names durable.
func (f *FS) SyncDir(name string) error {
	return f.do(SyncDir, name, func() error { return f.inner.SyncDir(name) })
}

// Statfs tells the space.
func (f *FS) Statfs() (space durable.Space, err error) {
	err = f.do(Statfs, "", func() (err error) {
		space, err = f.inner.Statfs()
		return err
	})
	if err != nil {
		return durable.Space{}, err
	}
	return space, nil
}

// Lock takes a lock; one that was taken in spite of the error is let go.
func (f *FS) Lock(name string, mode durable.LockMode, owner string) (lock io.Closer, err error) {
	err = f.do(Lock, name, func() (err error) {
		lock, err = f.inner.Lock(name, mode, owner)
		return err
	})
	if err != nil {
		if lock != nil {
			lock.Close()
		}
		return nil, err
	}
	return lock, nil
}

// Close closes the tree in front of which this one stands.
func (f *FS) Close() error { return f.inner.Close() }

type file struct {
	fs    *FS
	inner durable.File
	name  string
}

func (h *file) ReadAt(p []byte, off int64) (int, error) {
	fault := h.fs.meet(ReadAt, h.name)
	if fault != nil && fault.Form == Flipped {
		n, err := h.inner.ReadAt(p, off)
		if n > 0 {
			p[n/2] ^= 0x10
		}
		return n, err
	}
	return h.transfer(fault, ReadAt, p, off, h.inner.ReadAt)
}

func (h *file) WriteAt(p []byte, off int64) (int, error) {
	return h.transfer(h.fs.meet(WriteAt, h.name), WriteAt, p, off, h.inner.WriteAt)
}

func (h *file) transfer(fault *Fault, op Op, p []byte, off int64, call func([]byte, int64) (int, error)) (int, error) {
	if fault == nil || fault.Form == Flipped {
		return call(p, off)
	}
	n := 0
	switch fault.Form {
	case Happened:
		if _, err := call(p, off); err != nil {
			return 0, err
		}
	case Half:
		var err error
		if n, err = call(p[:len(p)/2], off); err != nil {
			return n, err
		}
	}
	return n, &fs.PathError{Op: op.String(), Path: h.name, Err: fault.Err}
}

func (h *file) Size() (size int64, err error) {
	err = h.fs.do(Size, h.name, func() (err error) {
		size, err = h.inner.Size()
		return err
	})
	if err != nil {
		return 0, err
	}
	return size, nil
}

func (h *file) Fallocate(size int64) error {
	return h.fs.do(Fallocate, h.name, func() error { return h.inner.Fallocate(size) })
}

func (h *file) Truncate(size int64) error {
	return h.fs.do(Truncate, h.name, func() error { return h.inner.Truncate(size) })
}

func (h *file) Sync() error { return h.fs.do(Sync, h.name, h.inner.Sync) }

// Close always lets the inner file go; a failed close is no open file.
func (h *file) Close() error {
	fault := h.fs.meet(Close, h.name)
	err := h.inner.Close()
	if err == nil && fault != nil && fault.Form != Flipped {
		err = &fs.PathError{Op: Close.String(), Path: h.name, Err: fault.Err}
	}
	return err
}
