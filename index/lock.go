package index

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	lockName  = "lock"
	stateName = "state"

	maxPidText = 32
)

// lockDir takes the one lock of the directory. Badger's own lock is not used: its refusal can not be
// told from other errors, and the files are read before Badger is.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, unavailable(dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, unavailable(dir, fmt.Errorf("lock: %w", err))
		}
		var pid [maxPidText]byte
		n, _ := f.ReadAt(pid[:], 0)
		reason := "locked by another process"
		if text := strings.TrimSpace(string(pid[:n])); text != "" {
			reason = fmt.Sprintf("locked by process %q", text)
		}
		return nil, &UnusableError{Dir: dir, Reason: reason, Locked: true}
	}
	// The pid is for people; the lock does not depend on it.
	_ = f.Truncate(0)
	_, _ = fmt.Fprintln(f, os.Getpid())
	return f, nil
}

// Reset deletes what an index left in dir, so that Open makes an empty one. Only the index's own
// names are touched. An index that is open somewhere is left alone: *UnusableError, Locked. A
// directory that does not exist needs no reset.
func Reset(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	// The state goes last: without it, files that are left over make the index unusable again.
	if err := os.RemoveAll(filepath.Join(dir, "db")); err != nil {
		return unavailable(dir, err)
	}
	if err := os.Remove(filepath.Join(dir, stateName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unavailable(dir, err)
	}
	return nil
}
