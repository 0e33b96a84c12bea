package job_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/internal/pace"
	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/repo"
)

const (
	childDir  = "BACKUPD_TEST_JOB_DIR"
	childMode = "BACKUPD_TEST_JOB_MODE"
)

// child is a daemon that is given jobs as fast as it takes them and prints each
// that it has acknowledged, until it is killed. In the mode "early" it prints
// them before they are durable.
func child(t *testing.T, dir, mode string) {
	h := &house{dir: dir, state: filepath.Join(dir, "state")}
	l := h.start(t, func(o *job.Options) { o.Waiting = 100_000 })
	for {
		by := admin
		if mode == "early" {
			by.Also = func(_ *state.Tx, j job.Job) error {
				fmt.Println("acknowledged", j.ID)
				time.Sleep(5 * time.Millisecond)
				return nil
			}
		}
		j, err := l.CreateBackup(t.Context(), all, by)
		if err == nil && mode != "early" {
			fmt.Println("acknowledged", j.ID)
		}
		if snaps := l.repo.Snapshots(); len(snaps) > 0 && rand.IntN(4) == 0 {
			if j, err := l.Restore(t.Context(), snaps[rand.IntN(len(snaps))].ID, job.RestoreRequest{Overwrite: "always"}, admin); err == nil {
				fmt.Println("acknowledged", j.ID)
			}
		}
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
	}
}

// killed runs a child for a while, kills it, and returns what it acknowledged.
func killed(t *testing.T, dir, mode string, after time.Duration) (ids []string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestCrash_KeepsEveryPromise$")
	cmd.Env = append(os.Environ(), childDir+"="+dir, childMode+"="+mode)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "acknowledged "); ok {
			if len(ids) == 0 {
				time.AfterFunc(after, func() { cmd.Process.Kill() })
			}
			ids = append(ids, id)
		}
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return ids
}

// A daemon that is killed while jobs are created and run loses none that it has
// acknowledged, and each comes to an end. The control acknowledges too early.
func TestCrash_KeepsEveryPromise(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		child(t, dir, os.Getenv(childMode))
	}
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	if n, err := strconv.Atoi(os.Getenv("CRASH_SCALE")); err == nil {
		rounds *= n
	}
	h := newHouse(t)
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	promised := 0
	missing := func(l *life, ids []string) (n int) {
		for _, id := range ids {
			if _, err := l.Job(id); err != nil {
				n++
			}
		}
		return n
	}
	// A slow disk may let no more than one job in before the kill.
	for round := 0; round < rounds || promised < 2*rounds && round < 10*rounds; round++ {
		ids := killed(t, h.dir, "", time.Duration(rng.IntN(400))*time.Millisecond)
		promised += len(ids)
		l := h.start(t)
		if n := missing(l, ids); n > 0 {
			t.Fatalf("seed %d round %d: %d of %d acknowledged jobs are lost", seed, round, n, len(ids))
		}
		for _, id := range ids {
			j := l.over(t, id)
			if j.State != job.Completed && (j.Kind == job.KindBackup || j.State != job.Interrupted && j.State != job.CompletedWithProblems) {
				t.Errorf("seed %d round %d: %s ended %s: %s", seed, round, id, j.State, j.ErrorMessage)
			}
			if b, err := l.Backup(t.Context(), id); j.Kind == job.KindBackup && (err != nil || b.Manifest == nil) {
				t.Errorf("seed %d round %d: %s is %s without a snapshot: %v", seed, round, id, j.State, err)
			}
		}
		l.stop()
	}
	if promised < 2*rounds {
		t.Errorf("only %d jobs in %d rounds", promised, rounds)
	}
	for round := 0; ; round++ {
		ids := killed(t, h.dir, "early", time.Duration(rng.IntN(50))*time.Millisecond)
		l := h.still(t)
		n := missing(l, ids)
		l.stop()
		if n > 0 {
			break
		}
		if round > 40 {
			t.Fatal("a daemon that acknowledges too early loses nothing either: this test proves nothing")
		}
	}
}

// A backup that was committed before its record was written is complete.
func TestCrash_BetweenCommitAndRecord(t *testing.T) {
	h := newHouse(t)
	l := h.still(t)
	j := l.create(t, func(r *job.BackupRequest) { r.RetentionDays = 5 })
	l.run()
	l.want(t, j.ID, job.Completed)
	l.stop()
	db := h.db(t)
	rec, err := db.Job(j.ID)
	must(t, err)
	rec.State, rec.FinishedAt = string(job.InProgress), time.Time{}
	must(t, errors.Join(db.PutJob(rec), db.DeleteExpiry(j.ID), db.Close()))

	l = h.start(t)
	if got, err := l.Job(j.ID); err != nil || got.State != job.Completed || got.Attempts != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	if b, err := l.Backup(t.Context(), j.ID); err != nil || b.ExpiresAt.IsZero() {
		t.Errorf("got %+v, %v: when it expires is forgotten", b, err)
	}
	if len(l.repo.Snapshots()) != 1 {
		t.Error("it was made twice")
	}
}

func (h *house) db(t testing.TB) *state.DB {
	t.Helper()
	r, done := h.open(t, "")
	defer done()
	db, err := state.Open(filepath.Join(h.state, "state.db"), r.ID().String())
	must(t, err)
	return db
}

// What was running when the daemon died is interrupted: backups go on under
// their ids, unless they have killed it too often; the others are over.
func TestCrash_RunningJobs(t *testing.T) {
	h := newHouse(t)
	l := h.still(t)
	first := l.create(t)
	l.run()
	l.want(t, first.ID, job.Completed)
	l.stop()
	l = h.still(t)
	again, deadly := l.create(t), l.create(t)
	restore, err := l.Restore(t.Context(), first.ID, job.RestoreRequest{}, admin)
	must(t, err)
	waits, err := l.Restore(t.Context(), first.ID, job.RestoreRequest{Target: "other"}, admin)
	must(t, err)
	l.stop()
	db := h.db(t)
	for id, attempts := range map[string]int{again.ID: 4, deadly.ID: 5, restore.ID: 1} {
		rec, err := db.Job(id)
		must(t, err)
		rec.State, rec.Attempts, rec.StartedAt = string(job.InProgress), attempts, time.Now()
		must(t, db.PutJob(rec))
	}
	must(t, db.Close())
	l = h.still(t)
	if s := l.state(t, again.ID); s != job.Interrupted {
		t.Errorf("got %s", s)
	}
	if list, _, err := l.Backups(t.Context(), job.Filter{States: []job.State{job.Interrupted}}); err != nil || len(list) != 1 || list[0].ID != again.ID {
		t.Errorf("got %+v, %v", list, err)
	}
	l.run()
	if got := l.want(t, again.ID, job.Completed); got.Attempts != 5 {
		t.Errorf("got %d attempts", got.Attempts)
	}
	l.want(t, deadly.ID, job.Failed)
	if got := l.want(t, restore.ID, job.Interrupted); !got.Over() {
		t.Errorf("got %+v", got)
	}
	l.want(t, waits.ID, job.Completed)
}

// A stop with a large backup under way takes no ten seconds, and the next start
// finishes it under its id with what was stored. stop checks the time.
func TestDrain_ResumesALargeBackup(t *testing.T) {
	h := newHouse(t)
	for i := range 6 {
		h.fill(t, fmt.Sprintf("bots/load%d", i), 50<<20)
	}
	// At this rate it takes seconds, of which some are left whenever the test comes to look.
	l := h.start(t, func(o *job.Options) { o.Pace = pace.New(pace.Limits{Bytes: 150 << 20}) })
	j := l.create(t)
	until(t, "some of it is read", func() bool {
		got, err := l.Job(j.ID)
		return err == nil && got.Progress != nil && got.Progress.Bytes > 40<<20
	})
	l.stop()
	if _, err := l.CreateBackup(t.Context(), all, admin); !errors.Is(err, job.ErrClosing) {
		t.Errorf("got %v, want ErrClosing", err)
	}
	l = h.still(t)
	if s := l.state(t, j.ID); s != job.Interrupted {
		t.Errorf("got %s", s)
	}
	l.run()
	got := l.want(t, j.ID, job.Completed)
	if got.Attempts != 2 || got.Snapshot.Totals.BytesNew > 280<<20 {
		t.Errorf("got attempt %d with %d bytes new: nothing was kept", got.Attempts, got.Snapshot.Totals.BytesNew)
	}
}

// While another process writes a backup waits, can be cancelled, and goes on.
func TestLocked_WaitsForAnotherProcess(t *testing.T) {
	h := newHouse(t)
	l := h.start(t)
	r, done := h.open(t, h.at("index2"))
	defer done()
	w, err := r.NewWriter(t.Context(), repo.WriterOptions{})
	must(t, err)
	j, other := l.create(t), l.create(t)
	until(t, "it waits for the repository", func() bool {
		got, err := l.Job(j.ID)
		return err == nil && got.State == job.Pending && got.ErrorCode == "repository_in_use"
	})
	if got, err := l.Cancel(t.Context(), j.ID); err != nil || got.State != job.Cancelled {
		t.Errorf("got %s, %v", got.State, err)
	}
	must(t, w.Close())
	if got := l.want(t, other.ID, job.Completed); got.Attempts != 1 || got.ErrorCode != "" {
		t.Errorf("got %+v", got)
	}
	// What that process makes is seen here.
	if list, _, err := l.Backups(t.Context(), job.Filter{}); err != nil || len(list) != 2 {
		t.Errorf("got %d, %v", len(list), err)
	}
}

// With a full state disk nothing new is taken, what runs comes to its end and
// says so, and reading goes on.
func TestFull_StateDisk(t *testing.T) {
	h := newHouse(t)
	if err := unix.Mount("state", h.state, "tmpfs", 0, "size=1m"); err != nil {
		if os.Geteuid() == 0 {
			t.Logf("not allowed to mount: %v", err)
		}
		return
	}
	t.Cleanup(func() { _ = unix.Unmount(h.state, unix.MNT_DETACH) })
	l := h.start(t, h.gate)
	first := l.create(t)
	h.atGate(t)
	db := l.db
	var err error
	for i := 0; err == nil && i < 10_000; i++ {
		err = db.PutJob(state.Job{ID: fmt.Sprintf("ballast%05d", i), CreatedAt: time.Unix(1, 0), FinishedAt: time.Unix(2, 0), ErrorMessage: strings.Repeat("x", i*31%5000)})
	}
	if !errors.Is(err, state.ErrFull) {
		t.Fatalf("got %v", err)
	}
	for err = nil; err == nil; { // what room was left
		err = db.PutJob(state.Job{ID: fmt.Sprint("b", time.Now().UnixNano()), CreatedAt: time.Unix(1, 0), FinishedAt: time.Unix(2, 0)})
	}
	// One kind of record may find a page where another found none, and a page that
	// a reader held is free when that has ended: full is where no job goes in any
	// more, and what went in counts like any other.
	promised := []string{first.ID}
	for len(promised) < 100 {
		j, err := l.CreateBackup(t.Context(), all, admin)
		if errors.Is(err, state.ErrFull) {
			break
		}
		must(t, err)
		promised = append(promised, j.ID)
	}
	if len(promised) == 100 {
		t.Fatal("it is never full")
	}
	h.openGate(t)
	for _, id := range promised {
		l.want(t, id, job.Completed)
		if b, err := l.Backup(t.Context(), id); err != nil || b.State != job.Completed {
			t.Errorf("got %+v, %v", b, err)
		}
	}
	must(t, unix.Mount("", h.state, "", unix.MS_REMOUNT, "size=8m"))
	l.Look(t.Context(), time.Now())
	for _, id := range promised {
		if rec, err := db.Job(id); err != nil || rec.State != string(job.Completed) {
			t.Errorf("with room again: got %s, %v", rec.State, err)
		}
	}
	l.made(t)
	l.stop() // before the disk goes
	unmounted := unix.Unmount(h.state, unix.MNT_DETACH)
	must(t, unmounted)
}

func TestHurried_EndsAFewSecondsLater(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	late, done := job.Hurried(ctx)
	cancel()
	if late.Err() != nil {
		t.Error("it ended at once")
	}
	done()
	if late.Err() == nil {
		t.Error("it goes on")
	}
}

// unwritable has every transaction of a state file fail while the switch is on.
func unwritable(l *life) *atomic.Bool {
	off := new(atomic.Bool)
	l.db.Follow(func() state.Anchor {
		if off.Load() {
			return state.Anchor{MAC: strings.Repeat("x", 1<<20)} // more than it takes
		}
		return state.Anchor{}
	})
	return off
}

// The state file can not be written to in the middle of jobs: nothing new is
// taken, each that runs comes to its end, and that is written down as soon as it
// can be, also when the daemon stops at once.
func TestUnwritable_InTheMiddleOfJobs(t *testing.T) {
	for _, c := range []struct {
		name  string
		again func(*testing.T, *life) // what has it written down
	}{
		{"the minute's upkeep writes it", func(t *testing.T, l *life) { l.Look(t.Context(), time.Now()) }},
		{"so does a stop", func(*testing.T, *life) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			l := h.still(t, h.gate)
			off := unwritable(l)
			l.run()
			done, cancelled := l.create(t, func(r *job.BackupRequest) { r.RetentionDays = 5 }), l.create(t)
			h.atGate(t)
			off.Store(true)
			if _, err := l.CreateBackup(t.Context(), all, admin); err == nil {
				t.Error("a backup was taken that is not written down")
			}
			if j, err := l.Cancel(t.Context(), cancelled.ID); err != nil || j.State != job.Cancelled {
				t.Errorf("got %s, %v", j.State, err)
			}
			h.openGate(t)
			l.want(t, done.ID, job.Completed)
			restore, err := l.Restore(t.Context(), done.ID, job.RestoreRequest{}, admin)
			if err == nil {
				t.Errorf("%s was taken and is not written down", restore.ID)
			}
			for id, was := range map[string]job.State{done.ID: job.InProgress, cancelled.ID: job.Pending} {
				if rec, err := l.db.Job(id); err != nil || rec.State != string(was) {
					t.Fatalf("it was written down: %s, %v: this test proves nothing", rec.State, err)
				}
			}
			off.Store(false)
			c.again(t, l)
			l.stop()
			l = h.still(t, h.gate)
			for id, is := range map[string]job.State{done.ID: job.Completed, cancelled.ID: job.Cancelled} {
				if rec, err := l.db.Job(id); err != nil || rec.State != string(is) || rec.FinishedAt.IsZero() {
					t.Errorf("with room again: %s is %s, want %s, %v", id, rec.State, is, err)
				}
			}
			if b, err := l.Backup(t.Context(), done.ID); err != nil || b.ExpiresAt.IsZero() {
				t.Errorf("when it expires is lost: %+v, %v", b, err)
			}
		})
	}
}
