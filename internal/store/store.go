// Package store keeps named byte objects: the contract, a directory ([Dir]) and
// memory ([Mem]). It knows bytes and names and nothing of what they mean.
//
// An object is written once, becomes visible whole, and is never changed;
// storetest.Run is the contract as a test.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Store keeps objects by name. Names are checked with [CheckName]; directories
// are made when the store is made, not by callers.
//
// A Store is safe for concurrent use. It promises that nothing is visible before
// Commit, that what Commit or Remove reported is durable, and that a listing is
// complete or an error. It relies on callers to write a name from one place at a
// time and to hold a lock where two processes could decide differently.
type Store interface {
	// Create starts an object of at most size bytes and reserves their space.
	// Nothing is visible before Commit; whether the name is free is decided there.
	// ErrNoSpace, ErrReadOnly, ErrName, ErrNotExist when the directory is missing.
	Create(ctx context.Context, name string, size int64) (Writer, error)
	// Open opens an object for reading. ErrNotExist when there is none.
	Open(ctx context.Context, name string) (Object, error)
	// List returns the objects below the directory prefix, of all depths, sorted
	// by name; the prefix "" is everything. A directory that is missing is
	// ErrNotExist, not an empty list. Temporary files, locks and names that
	// CheckName refuses are not objects. Any trouble is an error: a list that is
	// returned is complete.
	List(ctx context.Context, prefix string) ([]Info, error)
	// Remove removes objects and returns when that is durable. Missing ones are
	// not an error. After an error any of them may be left.
	Remove(ctx context.Context, names ...string) error
	// Space tells the room there is.
	Space(ctx context.Context) (Space, error)
	// Lock takes the lock of that name, one component, and never waits:
	// *LockedError when it is held. The lock ends with Close or with the process.
	// A shared lock is also had from a store that can not be written. Where a lock
	// can be lost before, the result has a method Held() error, which tells so.
	Lock(ctx context.Context, name string, mode LockMode) (io.Closer, error)
}

// Writer is an object that is being written.
type Writer interface {
	// WriteAt may be called concurrently for disjoint ranges, until Commit or
	// Abort is called. ErrTooLarge beyond the size given to Create. Bytes below
	// the highest one written that were never written are zero.
	io.WriterAt
	// Commit cuts the object behind the highest byte written and returns when it
	// is durable under its name. ErrExist when the name is taken; the object that
	// has it is untouched. After any other error the object is absent or whole.
	// It is called at most once.
	Commit(ctx context.Context) error
	// Abort ends the writer without an object. It is idempotent and does nothing
	// after Commit succeeded, so it can be deferred; it may follow a failed Commit.
	Abort() error
}

// Object is an object open for reading. ReadAt may be called concurrently and
// returns io.EOF beyond the end; after Close it returns ErrClosed.
type Object interface {
	io.ReaderAt
	io.Closer
	// Size is the length in bytes.
	Size() int64
}

// Ahead is an Object of a store that can use the time between knowing what will
// be read and reading it.
type Ahead interface {
	// WillRead tells that n bytes at off will be read before long: they, and no
	// more, are on their way when it returns. It can not fail.
	WillRead(off, n int64)
}

// Info is one line of a listing.
type Info struct {
	Name string
	Size int64 // bytes
}

// Space is the room of a store in bytes.
type Space struct {
	Free  int64 // what may still be written
	Total int64
}

// LockMode says how many may hold a lock together.
type LockMode uint8

const (
	// LockShared is held by any number.
	LockShared LockMode = iota + 1
	// LockExclusive is held by one, with no shared holder beside it.
	LockExclusive
)

// What callers may act on. Errors of a Store match one of these, *LockedError,
// the context's error, or are input/output errors that name the object.
var (
	ErrNotExist = errors.New("object does not exist")
	ErrExist    = errors.New("object already exists")
	ErrNoSpace  = errors.New("no space left in the repository")
	ErrReadOnly = errors.New("repository can not be written")
	ErrName     = errors.New("not an object name")
	ErrClosed   = errors.New("already closed")
	ErrTooLarge = errors.New("write beyond the size the object was created for")
)

// LockedError tells that a lock is held by another.
type LockedError struct {
	Name  string
	Owner string // process id of the exclusive holder as text; empty when readers hold it
}

// Error names the lock and who has it.
func (e *LockedError) Error() string {
	if e.Owner == "" {
		return fmt.Sprintf("lock %s is held by others that read", e.Name)
	}
	return fmt.Sprintf("lock %s is held by process %s", e.Name, e.Owner)
}

const (
	// MaxComponent is the greatest length in bytes of a component of a name.
	MaxComponent = 64
	// MaxDepth is the greatest number of components of a name.
	MaxDepth = 4
)

// CheckName returns ErrName unless name is one to MaxDepth components, separated
// by slashes, each of 1 to MaxComponent bytes of a-z, 0-9, '.' and '-' and not
// beginning with '.'. The top directories tmp and locks are not for objects.
func CheckName(name string) error {
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		depth++
		if depth > MaxDepth || !validComponent(part) {
			return fmt.Errorf("%.80q: %w", name, ErrName)
		}
	}
	if top, _, _ := strings.Cut(name, "/"); reserved(top) {
		return fmt.Errorf("%.80q: %w", name, ErrName)
	}
	return nil
}

func reserved(top string) bool { return top == tmpDir || top == lockDir }

func validComponent(s string) bool {
	if s == "" || len(s) > MaxComponent || s[0] == '.' {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}

// checkPrefix is CheckName for List, where "" is the whole store.
func checkPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return CheckName(prefix)
}

// checkLock is the name check for Lock.
func checkLock(name string) error {
	if !validComponent(name) {
		return fmt.Errorf("lock %.80q: %w", name, ErrName)
	}
	return nil
}
