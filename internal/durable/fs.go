// Package durable holds every fsync, every rename and every file lock of the
// project: the file-system shim that all repository input and output goes
// through, and the one protocol by which a file is published.
//
//	P1  create tmp/<random> O_EXCL 0600, fallocate    no space is learnt here, not later
//	P2  writes, concurrent, at disjoint offsets
//	P3  ftruncate to what was written
//	P4  fsync(file)       an error is final: the file is discarded
//	P5  close, checked
//	P6  renameat2(tmp, name, NOREPLACE)
//	P7  fsync(directory of name)                       only now is it published
//
// A crash before P7 leaves the old state, a stale temporary file, or the whole
// new file; never a part of one under its name. Without P7 a file that was
// synced and renamed was still called by its temporary name after a power cut
// on ext4.
//
// The shim, [FS], is small so that it can be stood in for: crashfs keeps files
// in memory and forgets what was not synced, errfs makes the n-th operation
// fail. Network file systems that lack RENAME_NOREPLACE, fallocate or directory
// fsync answer with an error that [Unsupported] recognises; what is done instead
// stands in this package above the shim, so that the same tests reach it.
package durable

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
)

// FS is a directory tree as the repository needs it. A name is a slash-separated
// path below the root, without "." or ".." components; "" is the root itself.
// Symbolic links are never followed below the root.
//
// Implementations are safe for concurrent use. Their errors are *fs.PathError
// over a syscall.Errno, so that errors.Is finds fs.ErrNotExist, fs.ErrExist and
// the errno itself.
type FS interface {
	// Create makes a new file, mode 0600, open for reading and writing.
	// fs.ErrExist if the name is taken.
	Create(name string) (File, error)
	// Open opens a regular file for reading.
	Open(name string) (File, error)
	// OpenWrite opens a regular file that is there for reading and writing. It is
	// for files that grow at their end, see OpenAppend: whatever has a published
	// name is never written again.
	OpenWrite(name string) (File, error)
	// Stat describes a name without following a symbolic link.
	Stat(name string) (Info, error)
	// ReadDir lists a directory in any order, all of it or an error. Names that
	// go while the list is made are left out.
	ReadDir(name string) ([]Info, error)
	// Mkdir makes a directory, mode 0700. fs.ErrExist if the name is taken.
	Mkdir(name string) error
	// Link gives a file a second name. fs.ErrExist if the new name is taken.
	Link(oldname, newname string) error
	// Rename moves a file, replacing what has the new name.
	Rename(oldname, newname string) error
	// RenameNoReplace moves a file; fs.ErrExist if the new name is taken. An
	// error for which Unsupported holds means the file system can not do it.
	RenameNoReplace(oldname, newname string) error
	// Unlink removes a file's name.
	Unlink(name string) error
	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error
	// Statfs tells the space of the file system.
	Statfs() (Space, error)
	// Lock takes a lock on the file name, which is made when it is missing. It
	// never waits: *HeldError when another holder is in the way, in this process
	// or another one. An exclusive holder leaves owner in the file for others to
	// read. The lock ends with Close or with the process. Where the lock can be
	// lost before that, the result has a method Held() error, which tells so.
	Lock(name string, mode LockMode, owner string) (io.Closer, error)
	// Close releases what the tree itself holds. The caller has closed the files
	// and locks, and no call is running.
	Close() error
}

// File is an open file of an [FS]. ReadAt and WriteAt may be called concurrently;
// concurrent writes must be to disjoint ranges.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Size is the length of the file now.
	Size() (int64, error)
	// Fallocate reserves space for the first size bytes and extends the file to
	// that length. An error for which Unsupported holds means the file system can
	// not reserve.
	Fallocate(size int64) error
	// Truncate sets the length.
	Truncate(size int64) error
	// Sync makes contents and length durable. After an error nobody knows what is
	// on the disk, and a second Sync would lie: the file must be discarded.
	Sync() error
	// Close releases the descriptor. Its error counts: network file systems
	// report failed writes there.
	Close() error
}

// Info describes one name.
type Info struct {
	Name string      // last component
	Size int64       // bytes
	Mode fs.FileMode // the type bits; permissions may be missing
}

// Space is the room on a file system in bytes.
type Space struct {
	Free  int64 // what an unprivileged process may still use
	Total int64
}

// LockMode says how many may hold a lock together.
type LockMode uint8

const (
	// Shared locks are held by any number at a time.
	Shared LockMode = iota + 1
	// Exclusive locks are held by one, with no shared holder beside it.
	Exclusive
)

// MaxOwner is the greatest length in bytes of the owner text of a lock; what a
// lock file holds beyond it is not read.
const MaxOwner = 128

// HeldError tells that a lock could not be taken.
type HeldError struct {
	Name  string
	Owner string // what the exclusive holder wrote; empty when readers hold it
}

// Error names the lock and its owner.
func (e *HeldError) Error() string {
	if e.Owner == "" {
		return "lock " + e.Name + " is held"
	}
	return "lock " + e.Name + " is held by " + e.Owner
}

// Unsupported reports whether an error of RenameNoReplace, Link, Fallocate or
// SyncDir means that the file system lacks the call, not that the call failed.
func Unsupported(err error) bool {
	// ENOSYS and EOPNOTSUPP are ErrUnsupported; EINVAL is what NFS answers.
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported)
}
