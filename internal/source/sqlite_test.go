package source_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/source/sourcetest"
)

// openDB opens a database as a program would, in a journal mode.
func openDB(t testing.TB, path, mode string) *sql.DB {
	t.Helper()
	uri := "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
	db, err := sql.Open("sqlite", uri+"?_pragma=busy_timeout(20000)&_pragma=journal_mode("+mode+")&_pragma=synchronous(off)")
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func execute(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	_, err := db.Exec(query, args...)
	must(t, err)
}

const (
	accounts = 400
	balance  = 1000
)

// bank makes accounts whose sum every transfer keeps, padded so that they lie
// on many pages.
func bank(t testing.TB, path, mode string) *sql.DB {
	t.Helper()
	db := openDB(t, path, mode)
	execute(t, db, "CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER, note BLOB)")
	execute(t, db, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < ?) INSERT INTO account SELECT i, ?, zeroblob(3000) FROM n`, accounts, balance)
	return db
}

// trade moves money between accounts until ctx ends, and says how often.
func trade(ctx context.Context, t testing.TB, db *sql.DB) (n int64) {
	rng := rand.New(rand.NewPCG(1, 2))
	for ctx.Err() == nil {
		tx, err := db.Begin()
		if err != nil {
			t.Errorf("begin: %v", err)
			return n
		}
		for range 20 {
			from, to, sum := 1+rng.IntN(accounts), 1+rng.IntN(accounts), rng.IntN(50)
			_, err1 := tx.Exec("UPDATE account SET balance = balance - ? WHERE id = ?", sum, from)
			_, err2 := tx.Exec("UPDATE account SET balance = balance + ?, note = zeroblob(?) WHERE id = ?", sum, 2000+rng.IntN(2000), to)
			if err := errors.Join(err1, err2); err != nil {
				tx.Rollback()
				t.Errorf("transfer: %v", err)
				return n
			}
		}
		if err := tx.Commit(); err != nil {
			t.Errorf("commit: %v", err)
			return n
		}
		n++
	}
	return n
}

// sound tells whether a database file, alone, is one whose money is all there.
func sound(t testing.TB, data []byte) error {
	path := filepath.Join(t.TempDir(), "copy.db")
	must(t, os.WriteFile(path, data, 0o600))
	db, err := sql.Open("sqlite", "file:"+path)
	must(t, err)
	defer db.Close()
	var check string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&check); err != nil || check != "ok" {
		return fmt.Errorf("integrity_check: %q, %w", check, err)
	}
	var n, sum int
	if err := db.QueryRow("SELECT count(*), sum(balance) FROM account").Scan(&n, &sum); err != nil {
		return err
	}
	if n != accounts || sum != accounts*balance {
		return fmt.Errorf("%d accounts with %d", n, sum)
	}
	return nil
}

// newSQLite is a source that waits for writers longer than a busy machine keeps them from giving a database free.
func newSQLite(t testing.TB, paths ...string) (*source.SQLite, string) {
	t.Helper()
	return newSQLiteThatWaits(t, time.Minute, paths...)
}

func newSQLiteThatWaits(t testing.TB, busy time.Duration, paths ...string) (*source.SQLite, string) {
	t.Helper()
	staging := t.TempDir()
	s, err := source.NewSQLite(source.SQLiteOptions{Paths: paths, Staging: staging, Busy: busy})
	must(t, err)
	return s, staging
}

// wantEmpty wants nothing left in a staging directory once the source is closed.
func wantEmpty(t testing.TB, s *source.SQLite, staging string) {
	t.Helper()
	must(t, s.Close())
	if list, err := os.ReadDir(staging); err != nil || len(list) > 0 {
		t.Errorf("left in staging: %v %v", list, err)
	}
}

// capture is what a scan gives of one database.
func capture(t testing.TB, path string) (sourcetest.Seen, []source.Remark) {
	t.Helper()
	s, staging := newSQLite(t, path)
	seen := sourcetest.Collect(t, s)
	remarks := s.Remarks()
	wantEmpty(t, s, staging)
	return seen[strings.TrimPrefix(path, "/")], remarks
}

// A copy is of one moment, whoever writes meanwhile. The control: copying the
// file byte by byte is not.
func TestSQLite_CopiesAreOfOneMoment(t *testing.T) {
	for _, mode := range []string{"wal", "delete", "truncate"} {
		t.Run(mode, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "bank.db")
			db := bank(t, path, mode)
			ctx, stop := context.WithCancel(t.Context())
			var trades atomic.Int64
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for ctx.Err() == nil {
					short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
					trades.Add(trade(short, t, db))
					cancel()
				}
			}()
			for round := range 6 {
				before := trades.Load()
				seen, remarks := capture(t, path)
				must(t, seen.Err)
				if err := sound(t, seen.Content); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
				if len(remarks) != 1 || remarks[0].Problem || remarks[0].Text != "quick_check: ok" || remarks[0].Path != path {
					t.Errorf("got remarks %+v", remarks)
				}
				for trades.Load() == before && ctx.Err() == nil && !t.Failed() {
					time.Sleep(time.Millisecond)
				}
			}
			broken := 0
			for range 200 {
				data, err := readSlowly(path)
				must(t, err)
				if sound(t, data) != nil {
					if broken++; broken == 2 {
						break
					}
				}
			}
			stop()
			<-ended
			if broken == 0 {
				t.Errorf("the control never broke: %d transactions prove nothing", trades.Load())
			}
		})
	}
}

// readSlowly reads a file as a copying program does.
func readSlowly(path string) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		data = append(data, buf[:n]...)
		if err == io.EOF {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
		time.Sleep(500 * time.Microsecond)
	}
}

func TestSQLite_KeepsNameAndMetadata(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"with space.db", "what?.db", "a#b.db", "100%25.db", "é\xff.db", "mode=ro&x.db", "'\"$`.db"} {
		path := filepath.Join(dir, name)
		db := openDB(t, filepath.Join(dir, "made.db"), "delete")
		execute(t, db, "CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER)")
		execute(t, db, "INSERT INTO account VALUES (1, 2)")
		must(t, db.Close())
		must(t, os.Rename(filepath.Join(dir, "made.db"), path))
		must(t, os.Chmod(path, 0o640))
		must(t, unix.Setxattr(path, "user.owner", []byte("bot"), 0))
		at := time.Unix(1_700_000_000, 5)
		must(t, os.Chtimes(path, at, at))
		seen, remarks := capture(t, path)
		must(t, seen.Err)
		e := seen.Entry
		if e.Name != name || e.Mode != 0o640 || e.Mtime != (source.Time{Sec: at.Unix(), Nsec: 5}) || e.Size != int64(len(seen.Content)) || e.Size == 0 {
			t.Errorf("%q: got %+v with %d bytes", name, e, len(seen.Content))
		}
		if x := seen.Details.Xattrs; len(x) != 1 || x[0].Name != "user.owner" || string(x[0].Value) != "bot" {
			t.Errorf("%q: got attributes %v", name, x)
		}
		if len(remarks) != 1 || remarks[0].Problem {
			t.Errorf("%q: got remarks %v", name, remarks)
		}
	}
}

// scanError is why a scan ends.
func scanError(ctx context.Context, s *source.SQLite) (last error) {
	for e, err := range s.Scan(ctx) {
		if e.Event == source.Leave {
			s.Release(&e)
		}
		last = err
	}
	return last
}

func TestSQLite_WhatIsNoDatabaseEndsTheScan(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.db")
	bank(t, good, "delete")
	must(t, os.Symlink(good, filepath.Join(dir, "link.db")))
	must(t, syscall.Mkfifo(filepath.Join(dir, "fifo.db"), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "dir.db"), 0o700))
	for name, want := range map[string]string{
		"missing.db": "no such file", "link.db": "no regular file", "fifo.db": "no regular file", "dir.db": "no regular file",
	} {
		s, staging := newSQLite(t, good, filepath.Join(dir, name))
		begun := time.Now()
		if err := scanError(t.Context(), s); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got error %v, want %q", name, err, want)
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("%s: it took %v", name, took)
		}
		wantEmpty(t, s, staging)
	}
}

// A damaged database is taken all the same, and said to be.
func TestSQLite_SaysThatADatabaseIsDamaged(t *testing.T) {
	for name, harm := range map[string]func(data []byte){
		"a page":    func(data []byte) { copy(data[200*4096+100:201*4096], make([]byte, 3000)) },
		"the head":  func(data []byte) { copy(data, "no SQLite at all") },
		"the table": func(data []byte) { copy(data[100:4096], make([]byte, 3996)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "bank.db")
			must(t, bank(t, path, "delete").Close())
			data, err := os.ReadFile(path)
			must(t, err)
			harm(data)
			must(t, os.WriteFile(path, data, 0o600))
			seen, remarks := capture(t, path)
			must(t, seen.Err)
			if len(remarks) != 1 || !remarks[0].Problem {
				t.Errorf("got remarks %+v, want one that is a problem", remarks)
			}
			if len(seen.Content) != len(data) {
				t.Errorf("got %d bytes, want %d", len(seen.Content), len(data))
			}
		})
	}
}

func TestSQLite_WaitsForAWriterAndNotForEver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bank.db")
	db := bank(t, path, "delete")
	hold := func() *sql.Conn {
		c, err := db.Conn(t.Context())
		must(t, err)
		_, err = c.ExecContext(t.Context(), "BEGIN EXCLUSIVE")
		must(t, err)
		return c
	}
	c := hold()
	s, staging := newSQLiteThatWaits(t, 2*time.Second, path)
	if err := scanError(t.Context(), s); err == nil || !strings.Contains(err.Error(), "held it all the time") {
		t.Errorf("got error %v", err)
	}
	wantEmpty(t, s, staging)

	s, staging = newSQLite(t, path)
	time.AfterFunc(500*time.Millisecond, func() {
		c.ExecContext(context.Background(), "COMMIT")
		c.Close()
	})
	must(t, scanError(t.Context(), s))
	wantEmpty(t, s, staging)

	c = hold()
	defer c.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("stop")
	time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
	s, staging = newSQLiteThatWaits(t, 10*time.Minute, path)
	begun := time.Now()
	if err := scanError(ctx, s); !errors.Is(err, why) {
		t.Errorf("got error %v, want the cause", err)
	}
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("it stopped after %v", took)
	}
	wantEmpty(t, s, staging)
}

// A hundred megabytes are copied in steps: a stop is noticed between them, and in
// WAL mode a writer does not wait.
func TestSQLite_OfAHundredMegabytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large.db")
	db := bank(t, path, "wal")
	execute(t, db, "CREATE TABLE load (x BLOB)")
	execute(t, db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 100) INSERT INTO load SELECT randomblob(1000000) FROM n")

	ctx, cancel := context.WithCancel(t.Context())
	s, staging := newSQLite(t, path)
	go func() {
		for ctx.Err() == nil {
			if list, _ := filepath.Glob(filepath.Join(staging, "*")); len(list) > 0 {
				if info, err := os.Stat(list[0]); err == nil && info.Size() > 4<<20 {
					cancel()
				}
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if err := scanError(ctx, s); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want that it was cancelled", err)
	}
	if list, _ := filepath.Glob(filepath.Join(staging, "*.db")); len(list) == 1 {
		if info, err := os.Stat(list[0]); err != nil || info.Size() > 90<<20 {
			t.Errorf("it was cancelled when %d bytes were copied (%v)", info.Size(), err)
		}
	}
	wantEmpty(t, s, staging)

	trading, stop := context.WithCancel(t.Context())
	traded := make(chan int64)
	go func() { traded <- trade(trading, t, db) }()
	seen, _ := capture(t, path)
	stop()
	if n := <-traded; n == 0 {
		t.Error("nobody could write meanwhile")
	}
	must(t, seen.Err)
	if err := sound(t, seen.Content); err != nil || len(seen.Content) < 100e6 {
		t.Errorf("%d bytes: %v", len(seen.Content), err)
	}
}

// What takes the place of a database between its copy and its turn is not taken
// for it.
func TestSQLite_SomethingElseInItsPlace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "bank.db")
	bank(t, path, "delete")
	s, staging := newSQLite(t, path)
	defer wantEmpty(t, s, staging)
	other := filepath.Join(dir, "other")
	must(t, os.WriteFile(other, []byte("something else"), 0o600))
	seen := false
	for e, err := range s.Scan(t.Context()) {
		must(t, err)
		if e.Event == source.Enter && e.Name == "" {
			must(t, os.Rename(other, path))
		}
		if e.Event == source.Leave {
			s.Release(&e)
		}
		if e.Event == source.Item && e.Name == "bank.db" {
			seen = true
			if e.Err == nil { // it was looked at before the exchange
				f, err := s.Open(&e)
				must(t, err)
				data, err := io.ReadAll(f)
				must(t, errors.Join(err, f.Close()))
				must(t, sound(t, data))
			}
		}
	}
	if !seen {
		t.Error("it was not yielded at all")
	}
}

// Who may read a database in WAL mode but not write beside it, as a hardened
// service may not, gets it whether a program has it open or not, or died with it.
func TestSQLite_WALWhereNothingMayBeWritten(t *testing.T) {
	if root := os.Getenv(unprivilegedTree); root != "" {
		for _, name := range []string{"open/bank.db", "closed/bank.db", "old/bank.db", "died-wal/bank.db", "died-delete/bank.db"} {
			path := filepath.Join(root, name)
			s, err := source.NewSQLite(source.SQLiteOptions{Paths: []string{path}, Staging: filepath.Join(root, "staging"), Busy: 20 * time.Second})
			must(t, err)
			seen := sourcetest.Collect(t, s)[strings.TrimPrefix(path, "/")]
			must(t, s.Close())
			if seen.Err != nil {
				t.Errorf("%s: %v", name, seen.Err)
			} else if err := sound(t, seen.Content); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		return
	}
	root := ramDir(t)
	for _, dir := range []string{"open", "closed", "old", "died-wal", "died-delete", "staging"} {
		must(t, os.Mkdir(filepath.Join(root, dir), 0o755))
	}
	must(t, os.Chmod(filepath.Join(root, "staging"), 0o777))
	bank(t, filepath.Join(root, "open/bank.db"), "wal") // stays open
	must(t, bank(t, filepath.Join(root, "closed/bank.db"), "wal").Close())
	must(t, bank(t, filepath.Join(root, "old/bank.db"), "delete").Close())
	crashed(t, filepath.Join(root, "died-wal"), "wal")
	crashed(t, filepath.Join(root, "died-delete"), "delete")
	asSomebody(t, "TestSQLite_WALWhereNothingMayBeWritten", root)
}
