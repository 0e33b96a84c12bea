package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	boltErrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/durable"
)

// schemaVersion counts the buckets and keys of the file. Kinds of records have versions of their own.
const schemaVersion = 1

const (
	// lockWait is how long Open waits for another holder, who may just be ending.
	lockWait  = time.Second
	lockPause = 20 * time.Millisecond
)

// DB is an open state file. Its methods may be called concurrently; writers
// queue, readers see the state as it was when they began and wait for nobody.
type DB struct {
	path  string
	bolt  *bbolt.DB
	write sync.Mutex    // held over every writing transaction, so that Close need not wait for one that broke off
	end   func() Anchor // guarded by write; nil when no log is followed

	trouble atomic.Pointer[trouble] // set once: why no further transaction is taken
}

// trouble is why a DB no longer does what it should.
type trouble struct {
	err     error
	reading bool // reading goes on
}

// settings are for tests.
type settings struct {
	noSync bool // acknowledges before the data is durable
}

var hexID = regexp.MustCompile(`^[0-9a-f]{8,128}$`)

// Open opens the state file at path, making it when it is not there, for the
// repository with this id in hex. Its directory must exist.
//
// The file is read through first, which takes about a second a gigabyte, and
// every record of it as well when it was not closed. Errors: ErrInUse after a
// second, *OtherRepositoryError, *DamagedError, *NewerError.
func Open(path, repository string) (*DB, error) { return open(path, repository, settings{}) }

func open(path, repository string, s settings) (*DB, error) {
	if !hexID.MatchString(repository) {
		return nil, invalid("repository id %q is not hex", repository)
	}
	db := &DB{path: path}
	o := &bbolt.Options{
		PageSize:     pageSize,
		MaxSize:      maxSize,
		NoStatistics: true,
		NoSync:       s.noSync,
		OpenFile:     openFile,
		// The file is locked by openFile already; this is bbolt taking the same lock again.
		Timeout: lockWait,
	}
	err := guarded(func() (err error) {
		db.bolt, err = bbolt.Open(path, 0o600, o)
		return err
	})
	var broke *panicError
	switch {
	case errors.As(err, &broke):
		return nil, &DamagedError{Path: path, What: broke.Error()}
	case errors.Is(err, boltErrors.ErrTimeout):
		return nil, ErrInUse
	case errors.Is(err, syscall.ENOSPC):
		return nil, fmt.Errorf("%w (%v)", ErrFull, err)
	case err != nil:
		return nil, err
	}
	if err := db.begin(repository); err != nil {
		db.shut()
		return nil, err
	}
	return db, nil
}

// openFile gives bbolt a file that is locked and judged. The lock belongs to the
// open file, so that bbolt's own attempt at it succeeds.
func openFile(path string, _ int, mode os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, err
	}
	if err := lockAndJudge(f, path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func lockAndJudge(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", path)
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(lockPause) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			return fmt.Errorf("%s can not be locked: %w", path, err)
		}
		if time.Now().After(end) {
			return ErrInUse
		}
	}
	if info.Mode().Perm() != 0o600 {
		if err := f.Chmod(0o600); err != nil {
			return fmt.Errorf("%s is open to others: %w", path, err)
		}
	}
	// Its size counts only now: the holder of the lock may have been making it.
	if info, err = f.Stat(); err != nil {
		return err
	}
	if info.Size() == 0 {
		return nil
	}
	if unfinished(f, info.Size()) {
		// A crash while the file was first made: bbolt makes it again.
		return f.Truncate(0)
	}
	if err := inspect(f, info.Size()); err != nil {
		var path2 *fs.PathError
		if errors.As(err, &path2) {
			return err
		}
		return &DamagedError{Path: path, What: err.Error()}
	}
	return nil
}

// begin makes the buckets of a new file, or sees whether an old one is ours and whole.
func (db *DB) begin(repository string) error {
	fresh, clean := false, false
	err := db.View(func(tx *Tx) error {
		var err error
		fresh, clean, err = tx.binding(repository)
		return err
	})
	if err != nil {
		return err
	}
	if !fresh && !clean {
		if err := db.Check(context.Background()); err != nil {
			return err
		}
	}
	err = db.Update(func(tx *Tx) error {
		if fresh {
			return tx.found(repository)
		}
		return tx.setClosed(false)
	})
	if errors.Is(err, ErrFull) && !fresh {
		// Reading must go on with a full disk. The mark is then missing, and a crash would be taken for a clean end.
		err = nil
	}
	if err != nil || !fresh {
		return err
	}
	// bbolt does not make the name of its file durable.
	return syncDirectory(filepath.Dir(db.path))
}

func syncDirectory(dir string) error {
	d, err := durable.OS(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.SyncDir(""), d.Close())
}

// Close ends the use of the file, waiting for transactions that are running.
func (db *DB) Close() error {
	err := db.Update(func(tx *Tx) error { return tx.setClosed(true) })
	if errors.Is(err, ErrClosed) {
		return nil
	}
	db.trouble.CompareAndSwap(nil, &trouble{err: ErrClosed})
	if errors.Is(err, ErrFull) || errors.Is(err, ErrUncertain) || errors.Is(err, ErrDamaged) {
		err = nil // it was said when it happened; the next Open looks closer
	}
	return errors.Join(err, db.shut())
}

// shut closes bbolt. After a panic in it, bbolt may hold its own locks for ever;
// then file and lock stay until the process ends.
func (db *DB) shut() error {
	done := make(chan error, 1)
	go func() { done <- guarded(db.bolt.Close) }()
	if t := db.trouble.Load(); t == nil || t.reading || errors.Is(t.err, ErrClosed) {
		return <-done
	}
	select {
	case err := <-done:
		return err
	case <-time.After(lockWait):
		return fmt.Errorf("%s stays open until the process ends", db.path)
	}
}

// Check reads every record and has bbolt examine its own pages. It returns the
// first damage as a *DamagedError.
func (db *DB) Check(ctx context.Context) error {
	return db.View(func(tx *Tx) error {
		if err := tx.pages(); err != nil {
			return &DamagedError{Path: db.path, What: err.Error()}
		}
		return tx.records(ctx)
	})
}

// Trouble is why nothing more is written, ErrUncertain or a *DamagedError, nil when
// there is nothing of the kind.
func (db *DB) Trouble() error {
	if t := db.trouble.Load(); t != nil {
		return t.err
	}
	return nil
}

// panicError is a panic of bbolt, or a fault in the file it maps.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprint(e.value) }

// guarded turns a panic, or a fault from a mapped page that can not be read, into an error.
func guarded(do func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if r := recover(); r != nil {
			err = &panicError{r}
		}
	}()
	return do()
}
