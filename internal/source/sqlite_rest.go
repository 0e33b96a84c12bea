package source

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// What SQLite keeps beside a database that counts for what is in it.
var companions = []string{"", "-wal", "-journal"}

const (
	// settledTime is for how long a file must not have changed: of two changes within one tick of the clock the
	// second moves no time.
	settledTime = 50 * time.Millisecond
	copyBuffer  = 1 << 20
)

var errRestless = errors.New("it changed all the time while it was copied: a program writes to it without the files of WAL mode beside it")

// closed tells whether no program has a database in WAL mode open, as there is no -shm file. Reading it where it lies would
// make the files of that mode beside it, which its program might not be able to open, and can not be done where nothing
// may be written.
func closed(path string) bool {
	_, err := os.Lstat(path + "-shm")
	return errors.Is(err, fs.ErrNotExist)
}

// inWAL tells whether a database is in WAL mode, by its head.
func inWAL(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false // SQLite has the better words
	}
	defer f.Close()
	var head [20]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return false
	}
	return head[18] == 2 || head[19] == 2
}

// atRest copies the files of a database that nobody writes to, until none of them changed meanwhile, and has SQLite take
// the copy over as it would after a crash: what -wal and -journal hold is worked into it.
func (s *SQLite) atRest(ctx context.Context, path, staged string, end time.Time) error {
	for {
		quiet, err := copyTogether(ctx, path, staged)
		if err != nil {
			return err
		}
		if quiet {
			break
		}
		if time.Now().After(end) {
			return errRestless
		}
		select {
		case <-time.After(settledTime):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	db, err := sql.Open("sqlite", uri(staged, "_pragma=synchronous(off)"))
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	var n int64
	err = db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&n)
	if err == nil {
		_, err = db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	}
	return errors.Join(err, db.Close())
}

// copyTogether copies a database and its companions and tells whether they are of one moment.
func copyTogether(ctx context.Context, path, staged string) (quiet bool, err error) {
	begun := time.Now()
	before, err := looksOf(path)
	if err != nil {
		return false, err
	}
	for i, suffix := range companions {
		if before[i] == nil {
			if err := os.Remove(staged + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return false, err
			}
		} else if err := copyWhole(ctx, path+suffix, staged+suffix); err != nil {
			if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errStaging) {
				return false, nil // its program has just ended
			}
			return false, err
		}
	}
	after, err := looksOf(path)
	if err != nil {
		return false, err
	}
	for i := range companions {
		a, b := before[i], after[i]
		if (a == nil) != (b == nil) {
			return false, nil
		}
		if a == nil {
			continue
		}
		sa, sb := a.Sys().(*syscall.Stat_t), b.Sys().(*syscall.Stat_t)
		age := begun.Sub(time.Unix(sb.Ctim.Unix()))
		if !os.SameFile(a, b) || a.Size() != b.Size() || sa.Mtim != sb.Mtim || sa.Ctim != sb.Ctim || age >= 0 && age < settledTime {
			return false, nil
		}
	}
	return true, nil
}

// looksOf tells what there is; nil for a companion that is not.
func looksOf(path string) (looks [3]os.FileInfo, err error) {
	for i, suffix := range companions {
		info, err := os.Lstat(path + suffix)
		switch {
		case errors.Is(err, fs.ErrNotExist) && suffix != "":
		case err != nil:
			return looks, err
		case !info.Mode().IsRegular():
			return looks, fmt.Errorf("%s is no regular file", path+suffix)
		default:
			looks[i] = info
		}
	}
	return looks, nil
}

// errStaging is in errors of the side that is written.
var errStaging = errors.New("staging")

// copyWhole copies one file over what may be there.
func copyWhole(ctx context.Context, from, to string) (err error) {
	in, err := os.OpenFile(from, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", errStaging, err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	for buf := make([]byte, copyBuffer); ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, rerr := in.Read(buf)
		if _, err := out.Write(buf[:n]); err != nil {
			return fmt.Errorf("%w: %w", errStaging, err)
		}
		if rerr == io.EOF {
			return nil
		}
		if rerr != nil {
			return rerr
		}
	}
}
