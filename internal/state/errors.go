package state

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	boltErrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrNotFound is a record that is not there.
	ErrNotFound = errors.New("no such record")
	// ErrInUse is a state file that another process holds.
	ErrInUse = errors.New("the state file is in use by another backupd: stop it, or give this one its own state_dir")
	// ErrDamaged is found in every [*DamagedError].
	ErrDamaged = errors.New("damaged state file")
	// ErrInvalid is a record that breaks a limit; nothing was written.
	ErrInvalid = errors.New("invalid record")
	// ErrClosed is a call after Close.
	ErrClosed = errors.New("the state file is closed")
	// ErrFull is a write the file had no room for, on the disk or below its greatest size. Nothing was changed;
	// reading goes on, and writing does once there is room.
	ErrFull = errors.New("no room to write the state file: free space in state_dir")
	// ErrUncertain is a write that failed in a way that leaves open whether it is on the disk. No further write
	// is taken until the file has been opened again; reading goes on.
	ErrUncertain = errors.New("the state file could not be written and its disk is in doubt: look at the kernel's log, then restart")
)

// DamagedError tells what is wrong with a state file and what to do about it.
type DamagedError struct {
	Path string
	What string
}

// Error names the file, the damage and the way out.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s is damaged (%s): move it aside and start again; backups are not touched, job history and schedules begin anew", e.Path, e.What)
}

// Is finds ErrDamaged.
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }

// OtherRepositoryError is a state file that belongs to another repository.
type OtherRepositoryError struct {
	Have, Want string // repository ids as hex
}

// Error names both repositories.
func (e *OtherRepositoryError) Error() string {
	return fmt.Sprintf("the state file belongs to repository %s, not to %s", e.Have, e.Want)
}

// NewerError is a state file, or a record in it, of a later backupd.
type NewerError struct {
	What       string
	Have, Know int
}

// Error says which version would be needed.
func (e *NewerError) Error() string {
	return fmt.Sprintf("the %s has version %d and this backupd knows %d: use the newer backupd", e.What, e.Have, e.Know)
}

// invalid is an ErrInvalid that says why.
func invalid(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, a...))
}

// refine turns an error of bbolt into one of ours. final tells that nobody knows
// what is on the disk: everything but a write that was refused for want of room.
// A refused pwrite changed nothing that counts, since the meta page that would
// have made it count was not written; a failed fsync may have left that page in
// memory, to be read as if it had been kept.
func refine(err error) (refined error, final bool) {
	switch {
	case err == nil:
		return nil, false
	case errors.Is(err, boltErrors.ErrDatabaseNotOpen):
		return ErrClosed, false
	case errors.Is(err, boltErrors.ErrMaxSizeReached):
		return fmt.Errorf("%w: it has its greatest size of %d bytes", ErrFull, maxSize), false
	}
	// bbolt gives the reason of a failed truncate, before which nothing was written, as text only.
	if strings.HasPrefix(err.Error(), "file resize error") {
		return fmt.Errorf("%w (%v)", ErrFull, err), false
	}
	var path *fs.PathError
	room := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
	if room && errors.As(err, &path) && path.Op == "write" {
		return fmt.Errorf("%w (%v)", ErrFull, path.Err), false
	}
	return fmt.Errorf("%w (%v)", ErrUncertain, err), true
}
