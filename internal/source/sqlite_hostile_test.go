package source_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
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

// Of any page size, and empty, a database comes back as one that opens.
func TestSQLite_OfAnyShape(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{512, 1024, 65536} {
		for _, mode := range []string{"wal", "delete", "persist"} {
			path := filepath.Join(dir, fmt.Sprintf("%d-%s.db", size, mode))
			db, err := sql.Open("sqlite", fmt.Sprintf("file:%s?_pragma=page_size(%d)&_pragma=journal_mode(%s)", path, size, mode))
			must(t, err)
			execute(t, db, "CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER)")
			execute(t, db, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < ?) INSERT INTO account SELECT i, ? FROM n`, accounts, balance)
			seen, remarks := capture(t, path) // while it is open
			must(t, seen.Err)
			if err := sound(t, seen.Content); err != nil || len(remarks) != 1 || remarks[0].Problem {
				t.Errorf("%s: %v, remarks %v", path, err, remarks)
			}
			must(t, db.Close())
		}
	}
	empty := filepath.Join(dir, "empty.db")
	must(t, os.WriteFile(empty, nil, 0o600))
	seen, remarks := capture(t, empty)
	must(t, seen.Err)
	back := filepath.Join(dir, "back.db")
	must(t, os.WriteFile(back, seen.Content, 0o600))
	execute(t, openDB(t, back, "wal"), "CREATE TABLE account (id INTEGER PRIMARY KEY)")
	if len(remarks) != 1 || remarks[0].Problem {
		t.Errorf("an empty file: got remarks %v", remarks)
	}
}

// A backup leaves a database as it was: nothing beside it that its program could not open, and no byte changed.
func TestSQLite_LeavesNothingBesideADatabase(t *testing.T) {
	for _, mode := range []string{"wal", "delete"} {
		dir := t.TempDir()
		must(t, os.Chmod(dir, 0o755))
		path := filepath.Join(dir, "bank.db")
		must(t, bank(t, path, mode).Close())
		must(t, os.Chmod(path, 0o640))
		must(t, os.Chown(path, 1234, 1234))
		before, err := os.ReadFile(path)
		must(t, err)
		seen, _ := capture(t, path)
		must(t, seen.Err)
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: it was changed, %v", mode, err)
		}
		list, err := os.ReadDir(dir)
		must(t, err)
		for _, e := range list {
			info, err := e.Info()
			must(t, err)
			if st := info.Sys().(*syscall.Stat_t); st.Uid != 1234 || st.Gid != 1234 {
				t.Errorf("%s: %s belongs to %d:%d, mode %v", mode, e.Name(), st.Uid, st.Gid, info.Mode())
			}
			if e.Name() != "bank.db" {
				t.Errorf("%s: %s is left beside it", mode, e.Name())
			}
		}
	}
}

// A full staging directory ends the part with a reason that names it, and leaves nothing there.
func TestSQLite_AFullStagingDirectory(t *testing.T) {
	if !isRoot() {
		return
	}
	path := filepath.Join(t.TempDir(), "bank.db")
	bank(t, path, "wal")
	for _, size := range []string{"4k", "64k", "512k"} {
		staging := t.TempDir()
		must(t, unix.Mount("staging", staging, "tmpfs", 0, "size="+size))
		t.Cleanup(func() { must(t, unix.Unmount(staging, unix.MNT_DETACH)) })
		s, err := source.NewSQLite(source.SQLiteOptions{Paths: []string{path}, Staging: staging, Busy: time.Second})
		must(t, err)
		begun := time.Now()
		if err := scanError(t.Context(), s); err == nil || !strings.Contains(err.Error(), "full") || !strings.Contains(err.Error(), staging) {
			t.Errorf("%s: got error %v", size, err)
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("%s: it took %v", size, took)
		}
		wantEmpty(t, s, staging)
	}
}

// crashed is a bank whose program died in the middle of a transaction: its files as they were then, in a directory of
// their own.
func crashed(t testing.TB, dir, mode string) string {
	t.Helper()
	live := filepath.Join(t.TempDir(), "bank.db")
	db := bank(t, live, mode)
	execute(t, db, "PRAGMA wal_autocheckpoint=0")
	execute(t, db, "PRAGMA cache_size=2")
	db.SetMaxOpenConns(1)
	execute(t, db, "UPDATE account SET balance = balance - 5 WHERE id = 1")
	execute(t, db, "UPDATE account SET balance = balance + 5 WHERE id = 2")
	tx, err := db.Begin()
	must(t, err)
	_, err = tx.Exec("UPDATE account SET balance = balance + 1, note = zeroblob(3001)")
	must(t, err)
	path := filepath.Join(dir, "bank.db")
	n := 0
	for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
		data, err := os.ReadFile(live + suffix)
		if os.IsNotExist(err) {
			continue
		}
		must(t, err)
		must(t, os.WriteFile(path+suffix, data, 0o644))
		n++
	}
	if mode == "wal" && n != 3 || mode == "delete" && n != 2 {
		t.Fatalf("%s: %d files", mode, n)
	}
	must(t, tx.Rollback())
	return path
}

// What a program left when it died is taken as it would find it, and is still there for it.
func TestSQLite_OfAProgramThatDied(t *testing.T) {
	for _, mode := range []string{"delete", "wal"} {
		path := crashed(t, t.TempDir(), mode)
		held := func() (all [3]string) {
			for i, suffix := range []string{"", "-journal", "-wal"} {
				data, _ := os.ReadFile(path + suffix) // which there are depends on the mode
				all[i] = string(data)
			}
			return all
		}
		before := held()
		seen, remarks := capture(t, path)
		must(t, seen.Err)
		if err := sound(t, seen.Content); err != nil || len(remarks) != 1 || remarks[0].Problem {
			t.Errorf("%s: %v, remarks %v", mode, err, remarks)
		}
		if held() != before {
			t.Errorf("%s: its files were changed", mode)
		}
	}
}

// A program that opens and closes its database all the time, or has it for itself, is not one that has it not open.
func TestSQLite_NobodyIsTakenForAtRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bank.db")
	must(t, bank(t, path, "wal").Close())
	stop, ended := make(chan struct{}), make(chan struct{})
	var opened atomic.Int64
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			db := openDB(t, path, "wal")
			opened.Add(1)
			short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			trade(short, t, db)
			cancel()
			db.Close()
			time.Sleep(time.Duration(n%3) * 10 * time.Millisecond)
		}
	}()
	for round := 0; round < 6 || opened.Load() < 5 && !t.Failed(); round++ {
		seen, _ := capture(t, path)
		must(t, seen.Err)
		if err := sound(t, seen.Content); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	<-ended

	alone, err := sql.Open("sqlite", "file:"+path+"?_pragma=locking_mode(exclusive)&_pragma=journal_mode(wal)&_pragma=synchronous(off)")
	must(t, err)
	alone.SetMaxOpenConns(1)
	execute(t, alone, "UPDATE account SET note = note WHERE id = 1") // from now on it has it for itself
	ctx, cancel := context.WithCancel(t.Context())
	traded := make(chan int64)
	go func() { traded <- trade(ctx, t, alone) }()
	waits := func(busy time.Duration) *source.SQLite {
		s, err := source.NewSQLite(source.SQLiteOptions{Paths: []string{path}, Staging: t.TempDir(), Busy: busy})
		must(t, err)
		t.Cleanup(func() { must(t, s.Close()) })
		return s
	}
	err = nil
	for tries := 0; err == nil && tries < 10; tries++ { // a busy machine may keep it from writing, and then it is at rest
		err = scanError(t.Context(), waits(200*time.Millisecond))
	}
	if err == nil || !strings.Contains(err.Error(), "held it all the time") {
		t.Errorf("one that has it for itself, and writes: got error %v", err)
	}
	cancel()
	<-traded
	seen := sourcetest.Collect(t, waits(20*time.Second))[strings.TrimPrefix(path, "/")]
	must(t, errors.Join(seen.Err, sound(t, seen.Content)))
	must(t, alone.Close())
}
