package job_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testKey(t testing.TB) crypto.Credential {
	t.Helper()
	key := sha256.Sum256([]byte("the key of all test repositories"))
	c, err := crypto.KeyFileCredential(key[:])
	must(t, err)
	return c
}

// house is a host with a repository, a state directory and something to back up.
type house struct {
	dir   string
	state string                        // directory of state.db
	wrap  func(store.Store) store.Store // nil, or what lies before the repository's store
}

// newHouse makes one whose repository has to be sound when the test ends.
func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{dir: t.TempDir()}
	h.state = h.at("state")
	for _, d := range []string{"state", "bots/one", "bots/two", "target", "staging"} {
		must(t, os.MkdirAll(h.at(d), 0o700))
	}
	h.write(t, "bots/one/start.bas", "TALK \"hello\"")
	h.write(t, "bots/two/start.bas", strings.Repeat("HEAR name\n", 1000))
	st, err := store.MakeDir(t.Context(), h.at("repo"))
	must(t, err)
	_, err = repo.Init(t.Context(), st, repo.InitOptions{Slots: []repo.NewSlot{{Label: "test", Credential: testKey(t)}}})
	must(t, errors.Join(err, st.Close()))
	t.Cleanup(func() {
		r, done := h.open(t, "")
		defer done()
		rep, err := r.Check(context.Background(), repo.CheckOptions{ReadData: true}, new(repo.CheckProgress))
		must(t, err)
		if !rep.Sound() {
			t.Errorf("the repository is not sound: %+v %+v", rep.Findings, rep.DamagedFiles)
		}
	})
	return h
}

// inMemory has the house of a test in memory where it can be: one that makes many
// backups and is about no disk need not wait for it.
func inMemory(t *testing.T) *testing.T {
	t.Helper()
	if _, err := os.Stat("/dev/shm"); err == nil {
		t.Setenv("TMPDIR", "/dev/shm")
	}
	return t
}

func (h *house) at(name string) string { return filepath.Join(h.dir, name) }

func (h *house) write(t testing.TB, name, data string) {
	t.Helper()
	must(t, os.WriteFile(h.at(name), []byte(data), 0o600))
}

// open opens the repository as another process does.
func (h *house) open(t testing.TB, index string) (*repo.Repo, func()) {
	t.Helper()
	st, err := store.OpenDir(h.at("repo"))
	must(t, err)
	var through store.Store = st
	if h.wrap != nil {
		through = h.wrap(st)
	}
	r, err := repo.Open(context.Background(), through, []crypto.Credential{testKey(t)}, repo.Options{StateDir: index})
	must(t, err)
	return r, sync.OnceFunc(func() { must(t, errors.Join(r.Close(), st.Close())) })
}

// life is a daemon from its start to its end.
type life struct {
	*job.Jobs
	house *house
	repo  *repo.Repo
	db    *state.DB
	stop  func() // drains, and closes everything
	run   func()
	alone func() // run without upkeep
}

// start opens everything and runs jobs until stop is called, or the test ends.
func (h *house) start(t testing.TB, changes ...func(*job.Options)) *life {
	t.Helper()
	l := h.still(t, changes...)
	l.run()
	return l
}

// still is start without running jobs; they wait.
func (h *house) still(t testing.TB, changes ...func(*job.Options)) *life {
	t.Helper()
	before := runtime.NumGoroutine()
	r, closeRepo := h.open(t, h.at("index"))
	db, err := state.Open(filepath.Join(h.state, "state.db"), r.ID().String())
	must(t, err)
	o := job.Options{
		Repo: r, State: db, Host: "here", Staging: h.at("staging"), Minimum: 1, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Sources: []job.Source{{Name: "bots", Kind: "files", Paths: []string{h.at("bots")}}},
		Targets: []job.Target{{Name: "staging", Path: h.at("target")}, {Name: "other", Path: h.at("target/other")}},
	}
	for _, c := range changes {
		c(&o)
	}
	j, err := job.Open(t.Context(), o)
	must(t, err)
	l := &life{Jobs: j, house: h, repo: r, db: db}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	running := false
	begin := func(run func(context.Context) error) func() {
		return func() {
			running = true
			go func() { ended <- run(ctx) }()
		}
	}
	l.run, l.alone = begin(j.Run), begin(j.RunAlone)
	l.stop = sync.OnceFunc(func() {
		cancel()
		if running {
			begun := time.Now()
			must(t, <-ended)
			if took := time.Since(begun); took > 30*time.Second {
				t.Errorf("it drained for %v", took)
			}
		}
		must(t, db.Close())
		closeRepo()
		for end := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				buf := make([]byte, 1<<20)
				t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
				return
			}
		}
	})
	t.Cleanup(l.stop)
	return l
}

var all = job.BackupRequest{IncludeFiles: true, IncludeDatabase: true}

var admin = job.By{Actor: "admin", RequestID: "r1"}

func (l *life) create(t testing.TB, changes ...func(*job.BackupRequest)) job.Job {
	t.Helper()
	r := all
	for _, c := range changes {
		c(&r)
	}
	j, err := l.CreateBackup(t.Context(), r, admin)
	must(t, err)
	return j
}

// over waits for the end of a job, which has to come.
func (l *life) over(t testing.TB, id string) job.Job {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	j, err := l.Wait(ctx, id)
	must(t, err)
	if ctx.Err() != nil {
		t.Fatalf("%s is still %s", id, j.State)
	}
	return j
}

// made makes a backup that has to succeed.
func (l *life) made(t testing.TB, changes ...func(*job.BackupRequest)) job.Job {
	t.Helper()
	return l.want(t, l.create(t, changes...).ID, job.Completed)
}

func (l *life) want(t testing.TB, id string, s job.State) job.Job {
	t.Helper()
	j := l.over(t, id)
	if j.State != s {
		t.Fatalf("%s is %s (%s: %s), want %s", id, j.State, j.ErrorCode, j.ErrorMessage, s)
	}
	return j
}

// until waits for something to become true.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

func (l *life) state(t testing.TB, id string) job.State {
	t.Helper()
	j, err := l.Job(id)
	must(t, err)
	return j.State
}

// gate holds backups of the source bots up before they read, until it is opened.
func (h *house) gate(o *job.Options) {
	o.Sources[0].Before = []string{"sh", "-c", `touch "$0.here"; while [ ! -e "$0" ]; do sleep 0.02; done`, h.at("gate")}
}

func (h *house) openGate(t testing.TB) { h.write(t, "gate", "") }

// atGate waits until a backup is held up.
func (h *house) atGate(t testing.TB) {
	t.Helper()
	until(t, "a backup is at the gate", func() bool { _, err := os.Stat(h.at("gate.here")); return err == nil })
	must(t, os.Remove(h.at("gate.here")))
}

// fill writes a file nobody can compress.
func (h *house) fill(t testing.TB, name string, size int) {
	t.Helper()
	f, err := os.Create(h.at(name))
	must(t, err)
	defer f.Close()
	rng := rand.NewChaCha8([32]byte{byte(size)})
	buf := make([]byte, 1<<20)
	for size > 0 {
		n := min(size, len(buf))
		rng.Read(buf[:n])
		_, err := f.Write(buf[:n])
		must(t, err)
		size -= n
	}
}

// same compares what a restore brought back.
func (h *house) same(t testing.TB, target, name string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(target, h.at(name)))
	must(t, err)
	want, err := os.ReadFile(h.at(name))
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s came back with %d bytes, want %d", name, len(got), len(want))
	}
}

// database makes an SQLite database among the sources.
func (h *house) database(t testing.TB, rows int) func(*job.Options) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+h.at("bot.db"))
	must(t, err)
	_, err = db.Exec("CREATE TABLE message (id INTEGER PRIMARY KEY, body TEXT)")
	must(t, err)
	for i := range rows {
		_, err := db.Exec("INSERT INTO message VALUES (?, ?)", i, fmt.Sprint("message ", i))
		must(t, err)
	}
	must(t, db.Close())
	return func(o *job.Options) {
		o.Sources = append(o.Sources, job.Source{Name: "botdb", Kind: "sqlite", Paths: []string{h.at("bot.db")}})
	}
}

func isBusy(err error) bool {
	var busy *job.BusyError
	return errors.As(err, &busy)
}
