package source

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"modernc.org/sqlite"
)

// SQLiteOptions says which databases are backed up.
type SQLiteOptions struct {
	// Paths are absolute names of database files.
	Paths []string
	// Staging is a directory of the caller's own in which copies are made. Only
	// what this source makes there is removed by it.
	Staging string
	// Busy is how long a writer that holds the database is waited for; zero
	// means a minute.
	Busy time.Duration
}

// SQLite is a source of SQLite databases. Each is copied by SQLite's own online
// backup when the scan begins, or file by file where no program has it open, so that it is of one moment whoever writes
// meanwhile, and stands in the tree under its own name with its own metadata. A
// copy is examined with PRAGMA quick_check; what that finds is a [Remark].
//
// Files that SQLite keeps beside a database (-wal, -shm, -journal) are not
// needed with such a copy, and not yielded.
type SQLite struct {
	*Files
	options SQLiteOptions

	mu      sync.Mutex        // guards what follows
	copies  map[inode]*copied // by the database they were made of
	remarks []Remark
	staged  []string
}

type inode struct{ dev, ino uint64 }

// copied is the copy of one database.
type copied struct {
	path string // empty: there is none, the file itself is read
	size int64
	made Time
}

const defaultBusy = time.Minute

// StagedPrefix begins the names of what this package makes in staging directories.
const StagedPrefix = "backupd-staged-"

// NewSQLite checks the options; it does not look at the databases.
func NewSQLite(o SQLiteOptions) (*SQLite, error) {
	f, err := NewFiles(FilesOptions{Paths: o.Paths})
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(o.Staging) {
		return nil, fmt.Errorf("source: staging directory %q is not absolute", o.Staging)
	}
	if o.Busy == 0 {
		o.Busy = defaultBusy
	}
	return &SQLite{Files: f, options: o, copies: make(map[inode]*copied)}, nil
}

// Scan copies the databases and yields them; see [Source]. A database that can
// not be copied ends it; one so damaged that SQLite can not read it is yielded
// as the file it is, with a [Remark] that is a problem.
func (s *SQLite) Scan(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, path := range s.options.Paths {
			if ctx.Err() != nil {
				yield(Entry{}, context.Cause(ctx))
				return
			}
			if err := s.copy(ctx, path); err != nil {
				if ctx.Err() != nil {
					err = context.Cause(ctx)
				} else {
					err = fmt.Errorf("database %s: %w", path, err)
				}
				yield(Entry{}, err)
				return
			}
		}
		for e, err := range s.Files.Scan(ctx) {
			if e.Event == Item && e.Err == nil {
				switch c := s.of(&e); {
				case c == nil:
					e.Err = ErrChanged // something else took its place since it was copied
				case c.path != "":
					// Nothing about the file tells whether the database changed, as its
					// newest pages may stand in the -wal file: the time of the copy makes
					// sure that it is read.
					e.Size, e.Blocks, e.Ctime = c.size, (c.size+511)/512, c.made
				}
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func (s *SQLite) of(e *Entry) *copied {
	if e.Event != Item || e.Type != Regular {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copies[inode{e.Dev, e.Ino}]
}

// copy makes the copy of one database.
func (s *SQLite) copy(ctx context.Context, path string) (err error) {
	before, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !before.Mode().IsRegular() {
		return errors.New("it is no regular file: name the file itself")
	}
	f, err := os.CreateTemp(s.options.Staging, StagedPrefix+"*.db")
	if err != nil {
		return err
	}
	staged := f.Name()
	s.mu.Lock()
	s.staged = append(s.staged, staged)
	s.mu.Unlock()
	if err := f.Close(); err != nil {
		return err
	}
	c := &copied{path: staged}
	if err := s.capture(ctx, path, staged); isDamage(err) {
		s.remark(Remark{Path: path, Text: fmt.Sprintf("SQLite can not read it (%v): the file was taken as it is", err), Problem: true})
		c.path = ""
	} else if err != nil {
		return s.hinted(err)
	} else if err := s.examine(ctx, path, staged); err != nil {
		return err
	}
	after, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(before, after) {
		return ErrChanged
	}
	info, err := os.Lstat(staged)
	if err != nil {
		return err
	}
	key, err := inodeOf(after)
	if err != nil {
		return err
	}
	now := time.Now()
	c.size, c.made = info.Size(), Time{Sec: now.Unix(), Nsec: uint32(now.Nanosecond())}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copies[key] = c
	return nil
}

const (
	// busySlice is how long SQLite itself waits for a lock, busyPause how long
	// after it: between the two a stop is noticed.
	busySlice = 200 * time.Millisecond
	busyPause = 20 * time.Millisecond
	// stepPages are copied at once, some tens of megabytes a second; then a stop
	// is noticed.
	stepPages = 1024
)

// capture copies a database, the way that leaves it and what lies beside it alone.
func (s *SQLite) capture(ctx context.Context, path, staged string) error {
	end := time.Now().Add(s.options.Busy)
	wal := inWAL(path)
	if wal && closed(path) {
		// Not for long: who changes it meanwhile has opened it.
		if err := s.atRest(ctx, path, staged, time.Now().Add(3*settledTime)); !errors.Is(err, errRestless) {
			return err
		}
	}
	err := s.online(ctx, path, staged, end)
	// Its program died and somebody has to clear up, which in the copy can be done; or nothing may be written beside it; or
	// its program keeps it for itself, which in WAL mode does not touch what is committed.
	if coded(err, codeReadOnly) || wal && coded(err, codeCantOpen, codeBusy, codeLocked) {
		if rerr := s.atRest(ctx, path, staged, end); !errors.Is(rerr, errRestless) {
			return rerr
		}
	}
	return err
}

// online has SQLite copy a database as of one moment. A transaction that reads
// holds that moment over all steps: a database in WAL mode is written to
// meanwhile, in the older modes a writer waits until the copy is made.
func (s *SQLite) online(ctx context.Context, path, staged string, end time.Time) (err error) {
	db, err := sql.Open("sqlite", uri(path, "mode=ro", fmt.Sprintf("_pragma=busy_timeout(%d)", busySlice.Milliseconds())))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var c *sql.Conn
	if err := patiently(ctx, end, func() (err error) { c, err = db.Conn(ctx); return err }); err != nil {
		return err
	}
	defer c.Close()
	if err := patiently(ctx, end, func() error { return beginReading(ctx, c) }); err != nil {
		return err
	}
	return c.Raw(func(driver any) error {
		from, ok := driver.(interface {
			NewBackup(string) (*sqlite.Backup, error)
		})
		if !ok {
			return errors.New("internal error: the SQLite driver has no online backup")
		}
		// Who finds the copy after a crash throws it away.
		b, err := from.NewBackup(uri(staged, "_pragma=journal_mode(off)", "_pragma=synchronous(off)"))
		if err != nil {
			return err
		}
		for more := true; more && err == nil; {
			err = patiently(ctx, end, func() (err error) { more, err = b.Step(stepPages); return err })
		}
		if ferr := b.Finish(); err == nil {
			err = ferr // else it says the same again
		}
		return err
	})
}

// beginReading fixes the moment a connection reads.
func beginReading(ctx context.Context, c *sql.Conn) error {
	if _, err := c.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	var n int64
	err := c.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&n)
	if err != nil {
		_, undo := c.ExecContext(ctx, "ROLLBACK")
		err = errors.Join(err, undo)
	}
	return err
}

// patiently tries again until a writer that is in the way has ended.
func patiently(ctx context.Context, end time.Time, try func() error) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := try()
		if err == nil || !isBusy(err) || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
		}
	}
}

// Codes of SQLite, without what stands above their lowest byte.
const (
	codeBusy      = 5
	codeLocked    = 6
	codeReadOnly  = 8 // among it a journal that has to be rolled back first
	codeCorrupt   = 11
	codeFull      = 13
	codeCantOpen  = 14
	codeNotSQLite = 26
)

func coded(err error, codes ...int) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && slices.Contains(codes, e.Code()&0xff)
}

func isBusy(err error) bool   { return coded(err, codeBusy, codeLocked) }
func isDamage(err error) bool { return coded(err, codeCorrupt, codeNotSQLite) }

// hinted says what to do about an error of SQLite, whose type ends here.
func (s *SQLite) hinted(err error) error {
	var e *sqlite.Error
	switch {
	case isBusy(err):
		return fmt.Errorf("%v: a writer held it all the time", err)
	case coded(err, codeFull) || errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("no room for its copy in %s, the disk is full: make room there", s.options.Staging)
	case errors.As(err, &e):
		return fmt.Errorf("%v", err)
	}
	return err
}

// examine reads the copy as SQLite would and records what is wrong with it. The
// copy is stored all the same: a damaged database is better than none.
func (s *SQLite) examine(ctx context.Context, path, staged string) error {
	// Nobody writes to the copy, which is what immutable says.
	db, err := sql.Open("sqlite", uri(staged, "mode=ro", "immutable=1"))
	if err != nil {
		return err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, "PRAGMA quick_check(10)")
	var found []string
	if err == nil {
		for rows.Next() {
			var line string
			if err = rows.Scan(&line); err != nil {
				break
			}
			found = append(found, line)
		}
		err = errors.Join(err, rows.Err(), rows.Close())
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r := Remark{Path: path, Text: "quick_check: ok"}
	if err != nil || len(found) != 1 || found[0] != "ok" {
		if err != nil {
			found = append(found, err.Error())
		}
		r.Text, r.Problem = "quick_check: "+strings.Join(found, "; "), true
	}
	s.remark(r)
	return nil
}

func (s *SQLite) remark(r Remark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remarks = append(s.remarks, r)
}

// uri names a database file for SQLite, whatever characters its path has.
func uri(path string, options ...string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + strings.Join(options, "&")
}

// Remarks tells what quick_check said of each copy.
func (s *SQLite) Remarks() []Remark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Remark(nil), s.remarks...)
}

// Open opens the copy of a database; see [Source].
func (s *SQLite) Open(e *Entry) (File, error) {
	c := s.of(e)
	if c == nil || c.path == "" {
		return s.Files.Open(e)
	}
	// The copy outlives the directory of the database, and so must what is told of it.
	d, err := s.Files.Details(e)
	if errors.Is(err, ErrReleased) {
		return nil, err
	}
	f, ferr := os.OpenFile(c.path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if ferr != nil {
		return nil, ferr
	}
	return &copyFile{File: f, entry: *e, details: d, trouble: err}, nil
}

// Close removes the copies. Files that are open stay readable.
func (s *SQLite) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, name := range s.staged {
		for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
			if err := os.Remove(name + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	s.staged = nil
	return errors.Join(errs...)
}

// copyFile is a copy that passes for the file it was made of.
type copyFile struct {
	*os.File
	entry   Entry
	details Details
	trouble error // of reading the details
	closed  bool
}

var _ File = (*copyFile)(nil)
var _ io.ReaderAt = (*copyFile)(nil)

// Opened is the entry as the scan yielded it.
func (f *copyFile) Opened() Entry { return f.entry }

// Stat never tells of a change: nobody writes to a copy.
func (f *copyFile) Stat() (Entry, error) { return f.entry, nil }

// Extents tells of no holes.
func (f *copyFile) Extents() ([]Extent, bool, error) { return nil, false, nil }

// Details are those of the database when the copy was opened.
func (f *copyFile) Details() (Details, error) { return f.details, f.trouble }

// Close closes the copy, once.
func (f *copyFile) Close() error {
	if f.closed {
		return nil
	}
	f.closed = true
	return f.File.Close()
}
