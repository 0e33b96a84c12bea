package job_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

// packs lists the files of the repository's packs.
func (h *house) packs(t testing.TB) map[string]bool {
	t.Helper()
	list, err := filepath.Glob(h.at("repo/packs/*/*"))
	must(t, err)
	out := make(map[string]bool)
	for _, name := range list {
		out[name] = true
	}
	return out
}

// rot flips a byte of the first block of those packs that were not there before.
func (h *house) rot(t testing.TB, before map[string]bool) (mend func()) {
	t.Helper()
	was := make(map[string][]byte)
	for name := range h.packs(t) {
		// Not the trees: they hold the times of the directories above the house, which others change, so that the
		// next backup need not come to store the same pages.
		if before[name] || strings.HasSuffix(name, ".tree") {
			continue
		}
		b, err := os.ReadFile(name)
		must(t, err)
		was[name] = append([]byte(nil), b...)
		b[100] ^= 1
		must(t, os.Chmod(name, 0o600))
		must(t, os.WriteFile(name, b, 0o600))
	}
	if len(was) == 0 {
		t.Fatal("there is no new pack")
	}
	return func() {
		for name, b := range was {
			must(t, os.WriteFile(name, b, 0o600))
		}
	}
}

// counted is what metrics count of verifications.
type counted struct{ states chan job.State }

func (c counted) JobDone(j job.Job) {
	if j.Kind == job.KindVerify {
		c.states <- j.State
	}
}
func (c counted) QueueChanged(int, int) {}

// A verification that finds damage has failed and says what is lost, of the one
// backup that lost it; that backup counts as a good one no more, the next one
// stores anew what was lost, and then both can be restored.
func TestVerify_FindsDamage(t *testing.T) {
	h := newHouse(t)
	done := counted{make(chan job.State, 10)}
	l := h.start(t, func(o *job.Options) { o.Observer = done })
	s, err := l.CreateSchedule(t.Context(), job.ScheduleChange{Cron: ptr("@daily")}, admin)
	must(t, err)
	scheduled := func(r *job.BackupRequest) { r.ScheduleID = s.ID }
	old := l.made(t)
	before := h.packs(t)
	h.fill(t, "bots/one/new.bin", 300_000)
	hurt := l.made(t, scheduled)
	mend := h.rot(t, before)
	defer mend() // the house has to be sound in the end

	v, err := l.Verify(t.Context(), old.ID, admin)
	must(t, err)
	if got := l.want(t, v.ID, job.Completed); len(got.CheckReport.Only) != 1 {
		t.Errorf("got %+v", got.CheckReport)
	}
	if sch, err := l.Schedule(s.ID); err != nil || sch.LastSuccess.IsZero() {
		t.Errorf("got %+v, %v", sch, err)
	}
	v, err = l.Verify(t.Context(), hurt.ID, admin)
	must(t, err)
	got := l.want(t, v.ID, job.Failed)
	if got.ErrorCode != "repository_damaged" || !strings.Contains(got.ErrorMessage, hurt.ID) || got.CheckReport == nil || len(got.CheckReport.DamagedFiles) == 0 {
		t.Errorf("got %s: %s: %+v", got.ErrorCode, got.ErrorMessage, got.CheckReport)
	}
	if a, b := <-done.states, <-done.states; a != job.Completed || b != job.Failed {
		t.Errorf("counted as %s and %s", a, b)
	}
	// Damage has the whole repository read.
	if s := <-done.states; s != job.Failed {
		t.Errorf("got %s", s)
	}
	for id, want := range map[string]string{old.ID: job.Verified, hurt.ID: job.VerificationFailed} {
		if b, err := l.Backup(t.Context(), id); err != nil || b.Verification.State != want {
			t.Errorf("%s: got %+v, %v", id, b.Verification, err)
		}
	}
	if sch, err := l.Schedule(s.ID); err != nil || !sch.LastSuccess.IsZero() {
		t.Errorf("a damaged backup counts as a success of its schedule: %+v, %v", sch, err)
	}
	next := l.made(t)
	r, err := l.Restore(t.Context(), next.ID, job.RestoreRequest{}, admin)
	must(t, err)
	if got := l.over(t, r.ID); got.State != job.Completed {
		t.Fatalf("got %s: %+v", got.State, got.RestoreReport)
	}
	h.same(t, h.at("target"), "bots/one/new.bin")
	for _, id := range []string{next.ID, hurt.ID} {
		v, err := l.Verify(t.Context(), id, admin)
		must(t, err)
		l.want(t, v.ID, job.Completed)
	}
	if sch, err := l.Schedule(s.ID); err != nil || sch.LastSuccess.IsZero() {
		t.Errorf("it is whole again: %+v, %v", sch, err)
	}
}

// After a backup that backup alone is read; the whole repository is read when its
// own time has come, however often backups are verified meanwhile, and also when
// no backup is as old as that.
func TestVerify_TheWholeRepositoryHasItsOwnTime(t *testing.T) {
	h := newHouse(t)
	policy := func(o *job.Options) { o.Verify.AfterBackup, o.Verify.Every = true, 7*24*time.Hour }
	l := h.still(t, policy)
	l.alone() // the test looks by itself
	verifications := func(all bool) (n int) {
		jobs, _, err := l.List(job.Filter{Kinds: []job.Kind{job.KindVerify}})
		must(t, err)
		for _, j := range jobs {
			if (j.BackupID == "") == all && j.State == job.Completed {
				n++
			}
		}
		return n
	}
	for i := range 2 {
		l.made(t)
		until(t, "it is verified", func() bool { return verifications(false) == i+1 })
	}
	now := time.Now()
	if l.VerifyDue(now) || l.VerifyDue(now.Add(23*time.Hour)) {
		t.Error("nothing is a day old")
	}
	if !l.VerifyDue(now.Add(25 * time.Hour)) {
		t.Error("the repository was never read whole, and is not")
	}
	l.Look(t.Context(), now.Add(25*time.Hour))
	until(t, "all is verified", func() bool { return verifications(true) == 1 })
	for _, again := range []bool{false, true} {
		if again {
			l.stop()
			l = h.still(t, policy)
		}
		// The new day's backup is verified; that is no reason to put the whole off.
		if l.VerifyDue(now.Add(6*24*time.Hour)) || !l.VerifyDue(now.Add(8*24*time.Hour)) {
			t.Errorf("in the same life %v: it is not due after seven days", !again)
		}
		// A clock that went forward, and back.
		if !l.VerifyDue(now.AddDate(10, 0, 0)) || !l.VerifyDue(now.AddDate(-1, 0, 0)) {
			t.Error("a clock that jumped puts it off")
		}
	}
}

// away is a store that can go away.
type away struct {
	store.Store
	err *atomic.Pointer[error]
}

func (s away) List(ctx context.Context, prefix string) ([]store.Info, error) {
	if err := s.err.Load(); err != nil {
		return nil, *err
	}
	return s.Store.List(ctx, prefix)
}

func (s away) Open(ctx context.Context, name string) (store.Object, error) {
	if err := s.err.Load(); err != nil {
		return nil, *err
	}
	return s.Store.Open(ctx, name)
}

// What can not be looked up is no "not found": the disk may be ill, or the
// repository's directory a mount that went away.
func TestBackup_OfARepositoryThatIsNotThereIsNotCalledMissing(t *testing.T) {
	for _, err := range []error{syscall.EIO, store.ErrNotExist} {
		h := newHouse(t)
		var gone atomic.Pointer[error]
		h.wrap = func(st store.Store) store.Store { return away{st, &gone} }
		l := h.start(t)
		made := l.made(t)
		l.Forgetful()
		gone.Store(&err)
		unknown := "backup-01j9zzzzzzzzzzzzzzzzzzzzzz"
		if !repo.IsSnapshotID(unknown) {
			t.Fatal("the id is not one")
		}
		hidden := func(what string, got error) {
			t.Helper()
			if got == nil || errors.Is(got, job.ErrNotFound) || errors.Is(got, repo.ErrNotFound) {
				t.Errorf("%v: %s: got %v", err, what, got)
			}
		}
		for range 2 { // the second within the time in which nobody looks again
			for _, id := range []string{unknown, made.ID} {
				_, got := l.Backup(t.Context(), id)
				hidden(id, got)
			}
			_, got := l.Restore(t.Context(), unknown, job.RestoreRequest{}, admin)
			hidden("restore", got)
			hidden("delete", l.Delete(t.Context(), unknown, admin))
		}
		gone.Store(nil)
		if b, err := l.Backup(t.Context(), made.ID); err != nil || b.Manifest == nil {
			t.Errorf("got %+v, %v", b, err)
		}
		l.Forgetful()
		if _, err := l.Backup(t.Context(), unknown); !errors.Is(err, job.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
		l.stop()
	}
}

// While gc has the repository nobody is let in to read; a restore waits.
func TestHold_IsRefusedWhileGCRuns(t *testing.T) {
	h := newHouse(t)
	l := h.still(t)
	l.run()
	a := l.made(t)
	l.TakeAlone()
	if _, err := l.Hold(); !isBusy(err) {
		t.Errorf("got %v, want *BusyError", err)
	}
	r, err := l.Restore(t.Context(), a.ID, job.RestoreRequest{}, admin)
	must(t, err)
	b, v := l.create(t), second2(l.Verify(t.Context(), a.ID, admin))
	time.Sleep(50 * time.Millisecond)
	for _, id := range []string{r.ID, b.ID, v.ID} {
		if s := l.state(t, id); s != job.Pending {
			t.Errorf("%s is %s beside gc", id, s)
		}
	}
	l.ReleaseAlone()
	for _, id := range []string{r.ID, b.ID, v.ID} {
		l.want(t, id, job.Completed)
	}
	release, err := l.Hold()
	must(t, err)
	release()
}

func second2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Who waits for another process to give the repository back does so for an hour.
func TestLocked_PatienceEnds(t *testing.T) {
	h := newHouse(t)
	r, done := h.open(t, h.at("index2"))
	defer done()
	w, err := r.NewWriter(t.Context(), repo.WriterOptions{})
	must(t, err)
	synctest.Test(t, func(t *testing.T) {
		l := h.still(t)
		defer l.stop()
		// An hour is 720 attempts, each written down; what ends it does not count them.
		const patience = 3 * time.Minute
		l.SetPatience(patience)
		l.run()
		begun := time.Now()
		j := l.create(t)
		time.Sleep(patience - time.Minute + time.Second) // between two attempts
		if got, err := l.Job(j.ID); err != nil || got.Over() || got.ErrorCode != "repository_in_use" {
			t.Errorf("after %v: got %s %s, %v", time.Since(begun), got.State, got.ErrorCode, err)
		}
		time.Sleep(2 * time.Minute)
		if got, err := l.Job(j.ID); err != nil || got.State != job.Failed || got.ErrorCode != "repository_in_use" || got.Attempts != 1 {
			t.Errorf("after %v: got %s %s, %v", time.Since(begun), got.State, got.ErrorCode, err)
		}
	})
	must(t, w.Close())
	if job.Patience != time.Hour {
		t.Errorf("it waits for %v, and says that it waited for an hour", job.Patience)
	}
}

// A restore to a target without room fails and says so; others go on.
func TestRestore_ToAFullTargetFailsAlone(t *testing.T) {
	h := newHouse(t)
	h.fill(t, "bots/one/large.bin", 3<<20)
	must(t, os.Mkdir(h.at("small"), 0o700))
	if err := unix.Mount("small", h.at("small"), "tmpfs", 0, "size=1m"); err != nil {
		if os.Geteuid() == 0 {
			t.Logf("not allowed to mount: %v", err)
		}
		return
	}
	t.Cleanup(func() { _ = unix.Unmount(h.at("small"), unix.MNT_DETACH) })
	l := h.start(t, func(o *job.Options) {
		o.Targets = append(o.Targets, job.Target{Name: "small", Path: h.at("small")})
	})
	made := l.made(t)
	a, err := l.Restore(t.Context(), made.ID, job.RestoreRequest{Target: "small"}, admin)
	must(t, err)
	b, err := l.Restore(t.Context(), made.ID, job.RestoreRequest{}, admin)
	must(t, err)
	l.want(t, b.ID, job.Completed)
	h.same(t, h.at("target"), "bots/one/large.bin")
	if got := l.want(t, a.ID, job.Failed); got.ErrorCode != "no_space" || strings.Contains(got.ErrorMessage, "repository") {
		t.Errorf("got %s: %s", got.ErrorCode, got.ErrorMessage)
	}
	l.made(t)
	l.stop()
}

// A clock that was ten years ahead, and expired what it may in a day, holds
// expiry up for a day when it is right again, not for ten years.
func TestExpiry_GoesOnAfterAClockThatWasAhead(t *testing.T) {
	h := newHouse(t)
	l := h.still(t)
	l.alone()
	for range 6 {
		l.made(t, func(r *job.BackupRequest) { r.RetentionDays = 1 })
	}
	left := func() int {
		_, n, err := l.Backups(t.Context(), job.Filter{})
		must(t, err)
		return n
	}
	now := time.Now()
	l.Look(t.Context(), now.AddDate(10, 0, 0))
	if n := left(); n != 3 {
		t.Fatalf("%d backups are left, want 3", n)
	}
	until(t, "they are forgotten", func() bool { return len(l.repo.Forgotten()) == 3 })
	must(t, l.db.Update(func(tx *state.Tx) error { // as that clock had it
		for _, s := range l.repo.Forgotten() {
			d, err := tx.Deletion(s.ID)
			if errors.Is(err, state.ErrNotFound) {
				// It was done before the look came to drop old records: of now, and so more than 400 days old by then.
				d, err = state.Deletion{BackupID: s.ID, Actor: job.Scheduler, Done: true}, nil
			}
			if err != nil {
				return err
			}
			d.At = now.AddDate(10, 0, 0)
			if err := tx.PutDeletion(d); err != nil {
				return err
			}
		}
		return nil
	}))
	l.Look(t.Context(), now.AddDate(0, 0, 3))
	if n := left(); n != 3 {
		t.Errorf("%d backups are left in the first day of the right clock", n)
	}
	l.Look(t.Context(), now.AddDate(0, 0, 4).Add(time.Minute))
	if n := left(); n != 1 {
		t.Errorf("%d backups are left after a day, want the newest", n)
	}
}
