package state_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/generalbots/backupd/internal/state"
)

const repository = "00112233445566778899aabbccddeeff"

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.UTC)

func openAt(t testing.TB, path string) *state.DB {
	t.Helper()
	db, err := state.Open(path, repository)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func fresh(t testing.TB) (*state.DB, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	return openAt(t, path), path
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func TestOpen_KeepsRecordsAcrossClose(t *testing.T) {
	db, path := fresh(t)
	yes, no := true, false
	job := state.Job{ID: "backup-1", Kind: "backup", State: "pending", CreatedAt: epoch, Request: json.RawMessage(`{"a":"<&>"}`)}
	schedule := state.Schedule{ID: "schedule-1", Cron: "0 2 * * *", IncludeFiles: &yes, IncludeDatabase: &no, Sources: []string{"bots"}, Enabled: true}
	must(t, db.PutJob(job))
	must(t, db.PutSchedule(schedule))
	must(t, db.PutExpiry(state.Expiry{BackupID: "backup-1", ExpiresAt: epoch}))
	must(t, db.PutVerification(state.Verification{BackupID: "backup-1", State: "verified", At: epoch, Report: json.RawMessage(`[1, 2]`)}))
	must(t, db.Close())
	must(t, db.Close())
	if _, err := db.Job("backup-1"); !errors.Is(err, state.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
	wantErr(t, "write after Close", db.PutJob(job), state.ErrClosed)

	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	must(t, os.Chmod(path, 0o644))
	db = openAt(t, path)
	if info, err = os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("an open file stays open to others: %v %v", info.Mode(), err)
	}
	got, err := db.Job("backup-1")
	must(t, err)
	if string(got.Request) != string(job.Request) || !got.CreatedAt.Equal(epoch) || got.State != "pending" {
		t.Errorf("got %+v", got)
	}
	s, err := db.Schedule("schedule-1")
	must(t, err)
	if s.IncludeFiles == nil || !*s.IncludeFiles || s.IncludeDatabase == nil || *s.IncludeDatabase || !s.Enabled {
		t.Errorf("got %+v", s)
	}
	v, err := db.Verification("backup-1")
	must(t, err)
	if string(v.Report) != "[1,2]" {
		t.Errorf("report %s", v.Report)
	}
	if all, err := db.Expiries(); err != nil || len(all) != 1 || !all[0].ExpiresAt.Equal(epoch) {
		t.Errorf("expiries %v %v", all, err)
	}
}

func TestOpen_RefusesAnotherHolderAfterASecond(t *testing.T) {
	_, path := fresh(t)
	start := time.Now()
	_, err := state.Open(path, repository)
	wantErr(t, "second open", err, state.ErrInUse)
	if d := time.Since(start); d < 900*time.Millisecond || d > time.Minute {
		t.Errorf("waited %v", d)
	}
}

func TestOpen_TakesOverFromOneWhoIsJustEnding(t *testing.T) {
	// It waits a second, in which a busy machine may not come to the end of the other: once of five times it has to.
	for try := 1; ; try++ {
		db, path := fresh(t)
		ended := make(chan error, 1)
		time.AfterFunc(200*time.Millisecond, func() { ended <- db.Close() })
		next, err := state.Open(path, repository)
		must(t, <-ended)
		if errors.Is(err, state.ErrInUse) && try < 5 {
			continue
		}
		must(t, err)
		must(t, next.Close())
		return
	}
}

func TestOpen_RefusesAnotherRepository(t *testing.T) {
	db, path := fresh(t)
	must(t, db.Close())
	other := strings.Repeat("ab", 16)
	_, err := state.Open(path, other)
	var wrong *state.OtherRepositoryError
	if !errors.As(err, &wrong) || wrong.Have != repository || wrong.Want != other {
		t.Fatalf("got %v", err)
	}
	openAt(t, path) // and the lock was let go
}

func TestOpen_RefusesWhatIsNoStateFile(t *testing.T) {
	dir := t.TempDir()
	db, path := fresh(t)
	must(t, db.Close())
	must(t, os.Symlink(path, filepath.Join(dir, "link")))
	must(t, os.Mkdir(filepath.Join(dir, "dir"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "text"), []byte(strings.Repeat("not a database\n", 5000)), 0o600))
	must(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	for _, name := range []string{"link", "dir", "text", "fifo", "missing/state.db"} {
		if db, err := state.Open(filepath.Join(dir, name), repository); err == nil {
			t.Errorf("%s was opened", name)
			db.Close()
		}
	}
	if _, err := state.Open(filepath.Join(dir, "text"), repository); !errors.Is(err, state.ErrDamaged) || !strings.Contains(err.Error(), "move it aside") {
		t.Errorf("text: %v", err)
	}
	if _, err := state.Open(filepath.Join(dir, "new"), "../../etc"); !errors.Is(err, state.ErrInvalid) {
		t.Errorf("bad id: %v", err)
	}
}

// A crash while the file is first made leaves a part of the four pages bbolt begins with.
func TestOpen_BeginsAgainWhereNothingWasEverPromised(t *testing.T) {
	for _, size := range []int{0, 1, 100, 4096, 8192, 16384} {
		path := filepath.Join(t.TempDir(), "state.db")
		must(t, os.WriteFile(path, make([]byte, size), 0o600))
		db := openAt(t, path)
		must(t, db.PutJob(state.Job{ID: "a", CreatedAt: epoch}))
	}
}

func TestUpdate_IsAllOrNothing(t *testing.T) {
	db, _ := fresh(t)
	boom := errors.New("boom")
	write := func(tx *state.Tx) error {
		return errors.Join(tx.PutJob(state.Job{ID: "a", CreatedAt: epoch}),
			tx.PutAnswer("key", state.Answer{Principal: "p", CreatedAt: epoch}))
	}
	err := db.Update(func(tx *state.Tx) error {
		must(t, write(tx))
		if _, err := tx.Job("a"); err != nil {
			t.Errorf("a transaction does not see its own write: %v", err)
		}
		return boom
	})
	if err != boom {
		t.Errorf("got %v", err)
	}
	_, err = db.Job("a")
	wantErr(t, "job", err, state.ErrNotFound)
	_, err = db.Answer("p", "key")
	wantErr(t, "answer", err, state.ErrNotFound)
	must(t, db.Update(write))
	_, err = db.Job("a")
	must(t, err)
	_, err = db.Answer("p", "key")
	must(t, err)
	if err := db.View(func(tx *state.Tx) error { return tx.DeleteJob("a") }); err == nil {
		t.Error("a View wrote")
	}
}

func TestUpdate_LetsPanicsOfTheCallerPass(t *testing.T) {
	db, _ := fresh(t)
	func() {
		defer func() {
			if r := recover(); r != "mine" {
				t.Errorf("recovered %v", r)
			}
		}()
		db.Update(func(tx *state.Tx) error {
			must(t, tx.PutJob(state.Job{ID: "a", CreatedAt: epoch}))
			panic("mine")
		})
	}()
	must(t, db.PutJob(state.Job{ID: "b", CreatedAt: epoch}))
	_, err := db.Job("a")
	wantErr(t, "job of the panicked transaction", err, state.ErrNotFound)
}

func TestReserve_GivesAKeyOnceToEachPrincipal(t *testing.T) {
	db, _ := fresh(t)
	a := state.Answer{Principal: "p", Method: "POST", BodyHash: "h", CreatedAt: epoch}
	old, err := db.Reserve("k", a)
	if old != nil || err != nil {
		t.Fatalf("first: %v %v", old, err)
	}
	done := a
	done.Status, done.Body, done.Resource = 201, []byte{0, 0xff, '<'}, "backup-1"
	must(t, db.PutAnswer("k", done))
	old, err = db.Reserve("k", a)
	if err != nil || old == nil || old.Status != 201 || string(old.Body) != string(done.Body) {
		t.Fatalf("second: %+v %v", old, err)
	}
	b := a
	b.Principal = "q"
	if old, err := db.Reserve("k", b); old != nil || err != nil {
		t.Errorf("another principal: %v %v", old, err)
	}
	must(t, db.DeleteAnswer("q", "k"))
	wantErr(t, "again", db.DeleteAnswer("q", "k"), state.ErrNotFound)
	late := a
	late.CreatedAt = epoch.Add(time.Hour)
	must(t, db.Update(func(tx *state.Tx) error {
		for i := range 600 { // more than one transaction of ExpireAnswers
			if _, err := tx.Reserve(fmt.Sprint("late", i), late); err != nil {
				return err
			}
		}
		return nil
	}))
	n, err := db.ExpireAnswers(epoch.Add(time.Minute))
	if n != 1 || err != nil {
		t.Errorf("expired %d %v", n, err)
	}
	_, err = db.Answer("p", "k")
	wantErr(t, "expired", err, state.ErrNotFound)
	if n, err = db.ExpireAnswers(epoch.Add(2 * time.Hour)); n != 600 || err != nil {
		t.Errorf("expired %d %v", n, err)
	}
	if n, err = db.ExpireAnswers(time.Time{}); n != 0 || err != nil {
		t.Errorf("expired %d %v", n, err)
	}
}

func TestPut_RefusesWhatItCouldNotGiveBack(t *testing.T) {
	db, _ := fresh(t)
	ok := state.Job{ID: "a", CreatedAt: epoch}
	for name, change := range map[string]func(*state.Job){
		"no id":           func(j *state.Job) { j.ID = "" },
		"zero in id":      func(j *state.Job) { j.ID = "a\x00b" },
		"long id":         func(j *state.Job) { j.ID = strings.Repeat("x", 256) },
		"no time":         func(j *state.Job) { j.CreatedAt = time.Time{} },
		"late time":       func(j *state.Job) { j.CreatedAt = time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC) },
		"very late":       func(j *state.Job) { j.FinishedAt = time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"not UTF-8":       func(j *state.Job) { j.Target = "\xff" },
		"not JSON":        func(j *state.Job) { j.Request = json.RawMessage("{") },
		"two JSONs":       func(j *state.Job) { j.Request = json.RawMessage("1 2") },
		"JSON not UTF-8":  func(j *state.Job) { j.Request = json.RawMessage("\"\xff\"") },
		"big document":    func(j *state.Job) { j.Result = json.RawMessage(`"` + strings.Repeat("x", state.MaxDocument) + `"`) },
		"long message":    func(j *state.Job) { j.ErrorMessage = strings.Repeat("x", state.MaxMessage+1) },
		"long other text": func(j *state.Job) { j.Kind = strings.Repeat("x", state.MaxText+1) },
	} {
		j := ok
		change(&j)
		wantErr(t, name, db.PutJob(j), state.ErrInvalid)
	}
	big := ok
	big.Request = json.RawMessage(`"` + strings.Repeat("x", state.MaxDocument-2) + `"`)
	big.Result = big.Request
	must(t, db.PutJob(big))
	wantErr(t, "schedule", db.PutSchedule(state.Schedule{ID: "s", Tags: make([]string, state.MaxItems+1)}), state.ErrInvalid)
	_, err := db.Reserve("", state.Answer{Principal: "p", CreatedAt: epoch})
	wantErr(t, "answer", err, state.ErrInvalid)
	must(t, db.PutAnswer("k", state.Answer{Principal: "p", CreatedAt: epoch, Body: make([]byte, state.MaxDocument)}))
}

func TestRefine_CallsOnlyARefusedWriteHarmless(t *testing.T) {
	for _, c := range []struct {
		err   error
		want  error
		final bool
	}{
		{&fs.PathError{Op: "write", Err: syscall.ENOSPC}, state.ErrFull, false},
		{&fs.PathError{Op: "write", Err: syscall.EDQUOT}, state.ErrFull, false},
		{errors.New("file resize error: truncate x: file too large"), state.ErrFull, false},
		{&fs.PathError{Op: "write", Err: syscall.EIO}, state.ErrUncertain, true},
		{syscall.ENOSPC, state.ErrUncertain, true}, // of fdatasync
		{syscall.EIO, state.ErrUncertain, true},
	} {
		got, final := state.Refine(c.err)
		if !errors.Is(got, c.want) || final != c.final {
			t.Errorf("%v: %v, final %v", c.err, got, final)
		}
	}
}

// A file of a later backupd is refused as what it is, not read by guess.
func TestOpen_RefusesALaterSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	must(t, openAt(t, path).Close())
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 4096})
	must(t, err)
	must(t, b.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("about")).Put([]byte("schema"), []byte("2")) }))
	must(t, b.Close())
	var newer *state.NewerError
	if _, err := state.Open(path, repository); !errors.As(err, &newer) || newer.Have != 2 || newer.Know != 1 {
		t.Errorf("got error %v", err)
	}
}
