package job_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/repo"
)

func TestJobs_LifeOfABackup(t *testing.T) {
	h := newHouse(t)
	l := h.still(t, h.database(t, 10))
	j := l.create(t, func(r *job.BackupRequest) { r.Tags, r.RetentionDays = []string{"x"}, 30 })
	if j.State != job.Pending || j.Position != 0 || j.Actor != "admin" || j.ID != j.BackupID || !repo.IsSnapshotID(j.ID) {
		t.Errorf("got %+v", j)
	}
	if got, err := l.Job(j.ID); err != nil || got.Position != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	list, total, err := l.Backups(t.Context(), job.Filter{})
	if err != nil || total != 1 || list[0].State != job.Pending || list[0].Manifest != nil {
		t.Errorf("got %+v, %d, %v", list, total, err)
	}
	l.run()
	done := l.want(t, j.ID, job.Completed)
	if done.Snapshot == nil || len(done.Snapshot.Parts) != 2 || done.Attempts != 1 || done.Progress != nil {
		t.Errorf("got %+v", done)
	}
	b, err := l.Backup(t.Context(), j.ID)
	must(t, err)
	if b.State != job.Completed || b.Tags[0] != "x" || b.Job == nil || b.ExpiresAt.Sub(b.CreatedAt) < 29*24*time.Hour || b.Verification.State != job.Unverified {
		t.Errorf("got %+v", b)
	}
	inc := l.made(t, func(r *job.BackupRequest) { r.Type = "incremental" })
	if inc.Snapshot.BaseID != j.ID || inc.Snapshot.Type != "incremental" || inc.Snapshot.Totals.Changed > 1 {
		t.Errorf("got %+v", inc.Snapshot)
	}

	v, err := l.Verify(t.Context(), j.ID, admin)
	must(t, err)
	if got := l.want(t, v.ID, job.Completed); got.CheckReport == nil || !got.CheckReport.Sound() || got.CheckReport.Snapshots != 1 || got.CheckReport.Only[0] != j.ID {
		t.Errorf("got %+v", got.CheckReport)
	}
	if b, err = l.Backup(t.Context(), j.ID); err != nil || b.Verification.State != job.Verified || b.Verification.JobID != v.ID {
		t.Errorf("got %+v, %v", b.Verification, err)
	}

	dry, err := l.Restore(t.Context(), j.ID, job.RestoreRequest{DryRun: true}, admin)
	must(t, err)
	if got := l.want(t, dry.ID, job.Completed); got.RestoreReport.Files != 3 {
		t.Errorf("got %+v", got.RestoreReport)
	}
	r, err := l.Restore(t.Context(), j.ID, job.RestoreRequest{}, admin)
	must(t, err)
	if got := l.want(t, r.ID, job.Completed); got.RestoreReport.Files != 3 || got.BackupID != j.ID || got.Target != "staging" {
		t.Errorf("got %+v", got.RestoreReport)
	}
	h.same(t, h.at("target"), "bots/one/start.bas")
	db, err := sql.Open("sqlite", "file:"+filepath.Join(h.at("target"), h.at("bot.db")))
	must(t, err)
	var n int
	if err := db.QueryRow("SELECT count(*) FROM message").Scan(&n); err != nil || n != 10 {
		t.Errorf("the restored database has %d rows, %v", n, err)
	}
	must(t, db.Close())

	must(t, l.Delete(t.Context(), j.ID, admin))
	if _, err := l.Backup(t.Context(), j.ID); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if err := l.Delete(t.Context(), j.ID, admin); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	until(t, "it is forgotten", func() bool { return len(l.repo.Forgotten()) == 1 })
	g, err := l.GC(t.Context(), admin)
	must(t, err)
	if got := l.want(t, g.ID, job.Completed); got.GCReport == nil || got.GCReport.RemovedSnapshots != 1 {
		t.Errorf("got %+v", got.GCReport)
	}
	if list, total, err := l.List(job.Filter{}); err != nil || total != 5 || list[0].ID != g.ID {
		t.Errorf("got %d jobs, %v", total, err)
	}

	// All of it is there in the next life too.
	l.stop()
	l = h.start(t, func(o *job.Options) { o.Sources = nil })
	for id, s := range map[string]job.State{inc.ID: job.Completed, v.ID: job.Completed, r.ID: job.Completed, g.ID: job.Completed} {
		if got := l.want(t, id, s); id == inc.ID && got.Snapshot == nil || id == r.ID && got.RestoreReport.Files != 3 {
			t.Errorf("got %+v", got)
		}
	}
}

func TestJobs_RefusesWhatCanNotBe(t *testing.T) {
	h := newHouse(t)
	l := h.still(t, h.database(t, 1), func(o *job.Options) { o.Waiting = 3 })
	field := func(err error) string {
		var invalid *job.InvalidError
		if !errors.As(err, &invalid) {
			return err.Error()
		}
		return invalid.Field
	}
	for _, c := range []struct {
		want   string
		change func(*job.BackupRequest)
	}{
		{"type", func(r *job.BackupRequest) { r.Type = "Full" }},
		{"sources", func(r *job.BackupRequest) { r.Sources = []string{"nobody"} }},
		{"include_files", func(r *job.BackupRequest) { r.IncludeFiles, r.IncludeDatabase = false, false }},
		{"retention_days", func(r *job.BackupRequest) { r.RetentionDays = -1 }},
		{"tags", func(r *job.BackupRequest) { r.Tags = []string{""} }},
		{"tags", func(r *job.BackupRequest) { r.Tags = []string{"\xff"} }},
		{"tags", func(r *job.BackupRequest) { r.Tags = make([]string, 65) }},
	} {
		r := all
		c.change(&r)
		if _, err := l.CreateBackup(t.Context(), r, admin); err == nil || field(err) != c.want {
			t.Errorf("got %v, want a complaint about %s", err, c.want)
		}
	}
	for _, id := range []string{"", "latest", "../x", "backup-01", strings.Repeat("x", 1<<20), "backup-01j9z3k4m5n6p7q8r9s0t1v2w3"} {
		if _, err := l.Restore(t.Context(), id, job.RestoreRequest{}, admin); !errors.Is(err, job.ErrNotFound) {
			t.Errorf("%.30q: got %v", id, err)
		}
		if _, err := l.Job(id); !errors.Is(err, job.ErrNotFound) {
			t.Errorf("%.30q: got %v", id, err)
		}
		if err := l.Delete(t.Context(), id, admin); !errors.Is(err, job.ErrNotFound) {
			t.Errorf("%.30q: got %v", id, err)
		}
	}
	a := l.create(t)
	if _, err := l.Restore(t.Context(), a.ID, job.RestoreRequest{}, admin); !isBusy(err) {
		t.Errorf("restore of one that is not made: got %v", err)
	}
	l.create(t)
	l.create(t)
	if _, err := l.CreateBackup(t.Context(), all, admin); !errors.Is(err, job.ErrQueueFull) {
		t.Errorf("got %v, want ErrQueueFull", err)
	}
	l.run()
	l.over(t, a.ID)
	for _, r := range []struct {
		want string
		req  job.RestoreRequest
	}{{"target", job.RestoreRequest{Target: "/etc"}}, {"overwrite", job.RestoreRequest{Overwrite: "yes"}}, {"sources", job.RestoreRequest{Sources: []string{"x"}}}} {
		if _, err := l.Restore(t.Context(), a.ID, r.req, admin); err == nil || field(err) != r.want {
			t.Errorf("got %v, want a complaint about %s", err, r.want)
		}
	}
}

// One source that can not be had costs its own part only.
func TestJobs_ALostSourceFailsAlone(t *testing.T) {
	h := newHouse(t)
	l := h.start(t, h.database(t, 5), func(o *job.Options) {
		o.Sources = append(o.Sources, job.Source{Name: "gone", Kind: "files", Paths: []string{h.at("nothing")}, After: []string{"touch", h.at("after")}},
			job.Source{Name: "hooked", Kind: "files", Paths: []string{h.at("bots")}, Before: []string{"sh", "-c", "echo no room; exit 7"}, After: []string{"touch", h.at("after2")}})
	})
	j := l.want(t, l.create(t).ID, job.CompletedWithProblems)
	b, err := l.Backup(t.Context(), j.ID)
	must(t, err)
	if len(b.Manifest.Parts) != 4 || b.Manifest.Parts[0].Failed || b.Manifest.Parts[1].Failed || !b.Manifest.Parts[2].Failed || !b.Manifest.Parts[3].Failed {
		t.Errorf("got %+v", b.Manifest.Parts)
	}
	if b.Manifest.ProblemCount != 2 || !strings.Contains(b.Manifest.Problems[1].Text, "exit status 7: no room") {
		t.Errorf("got %+v", b.Manifest.Problems)
	}
	for _, f := range []string{"after", "after2"} {
		if _, err := os.Stat(h.at(f)); err != nil {
			t.Errorf("the command after a part that failed did not run: %v", err)
		}
	}
	r, err := l.Restore(t.Context(), j.ID, job.RestoreRequest{}, admin)
	must(t, err)
	if got := l.want(t, r.ID, job.CompletedWithProblems); got.RestoreReport.Files != 3 {
		t.Errorf("got %+v", got.RestoreReport)
	}
	only := l.want(t, l.create(t, func(r *job.BackupRequest) { r.Sources = []string{"gone"} }).ID, job.Failed)
	if only.ErrorCode != "failed" || !strings.Contains(only.ErrorMessage, "nothing") {
		t.Errorf("got %q %q", only.ErrorCode, only.ErrorMessage)
	}
	if list, _, err := l.Backups(t.Context(), job.Filter{States: []job.State{job.Failed}}); err != nil || len(list) != 1 || list[0].ErrorMessage == "" {
		t.Errorf("got %+v, %v", list, err)
	}
}

func TestCancel_InEachState(t *testing.T) {
	h := newHouse(t)
	l := h.start(t, h.gate)
	running, waiting := l.create(t), l.create(t)
	h.atGate(t)
	var wg sync.WaitGroup
	for _, id := range []string{running.ID, waiting.ID} {
		for range 10 { // many at once end it once
			wg.Go(func() {
				if j, err := l.Cancel(t.Context(), id); !isBusy(err) && (err != nil || j.State != job.Cancelled) {
					t.Errorf("got %s, %v", j.State, err)
				}
			})
		}
	}
	wg.Wait()
	for _, id := range []string{running.ID, waiting.ID} {
		if j := l.want(t, id, job.Cancelled); j.ErrorCode != "cancelled" || j.FinishedAt.IsZero() {
			t.Errorf("got %+v", j)
		}
		if _, err := l.Cancel(t.Context(), id); !isBusy(err) {
			t.Errorf("got %v, want *BusyError", err)
		}
	}
	if len(l.repo.Snapshots()) > 0 {
		t.Error("a cancelled backup made a snapshot")
	}
	h.openGate(t)
	l.made(t)
}

// Between being chosen and being begun a job can be cancelled like at any other
// moment, and ends once.
func TestCancel_RacesWithTheBeginning(t *testing.T) {
	h := newHouse(t)
	l := h.start(t)
	ends := make(map[job.State]int)
	for range 150 {
		j := l.create(t)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { _, _ = l.Cancel(t.Context(), j.ID) })
		}
		wg.Wait()
		ends[l.over(t, j.ID).State]++
	}
	if ends[job.Cancelled] == 0 || ends[job.Cancelled]+ends[job.Completed] != 150 {
		t.Errorf("got %v", ends)
	}
}

func TestDelete_InEachState(t *testing.T) {
	h := newHouse(t)
	l := h.still(t, h.gate)
	gone := func(id string) {
		t.Helper()
		if _, err := l.Backup(t.Context(), id); !errors.Is(err, job.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", id, err)
		}
		if list, _, err := l.Backups(t.Context(), job.Filter{}); err != nil {
			t.Error(err)
		} else {
			for _, b := range list {
				if b.ID == id {
					t.Errorf("%s is listed as %s", id, b.State)
				}
			}
		}
	}
	waiting := l.create(t)
	must(t, l.Delete(t.Context(), waiting.ID, admin))
	gone(waiting.ID)

	l.run()
	running := l.create(t)
	h.atGate(t)
	must(t, l.Delete(t.Context(), running.ID, admin))
	gone(running.ID)

	h.openGate(t)
	first, second := l.made(t), l.made(t)
	must(t, os.Remove(h.at("gate")))

	// While a backup writes nothing can be forgotten: it is hidden, and forgotten then.
	writing := l.create(t)
	h.atGate(t)
	must(t, l.Delete(t.Context(), first.ID, admin))
	gone(first.ID)
	if len(l.repo.Forgotten()) > 0 {
		t.Error("it was forgotten while somebody writes")
	}
	// Nor in a life after a crash: it stays hidden.
	h.openGate(t)
	l.want(t, writing.ID, job.Completed)
	until(t, "it is forgotten", func() bool { return len(l.repo.Forgotten()) == 1 })
	gone(first.ID)

	// What is to be restored stays, and can go afterwards.
	l.stop()
	l = h.still(t, h.gate)
	r, err := l.Restore(t.Context(), second.ID, job.RestoreRequest{}, admin)
	must(t, err)
	var busy *job.BusyError
	if err := l.Delete(t.Context(), second.ID, admin); !errors.As(err, &busy) || busy.JobID != r.ID {
		t.Errorf("got %v, want *BusyError of %s", err, r.ID)
	}
	if _, err := l.Restore(t.Context(), second.ID, job.RestoreRequest{}, admin); !errors.As(err, &busy) || busy.JobID != r.ID {
		t.Errorf("a second restore to one target: got %v", err)
	}
	if _, err := l.Restore(t.Context(), second.ID, job.RestoreRequest{DryRun: true}, admin); err != nil {
		t.Errorf("a dry run beside it: %v", err)
	}
	if _, err := l.Restore(t.Context(), second.ID, job.RestoreRequest{Target: "other"}, admin); err != nil {
		t.Errorf("to another target: %v", err)
	}
	l.run()
	l.want(t, r.ID, job.Completed)
	until(t, "all restores are over", func() bool { return l.Delete(t.Context(), second.ID, admin) == nil })
	if _, err := l.Restore(t.Context(), second.ID, job.RestoreRequest{}, admin); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	gone(second.ID)
}

// A deletion that was acknowledged is one after a crash too.
func TestDelete_OutlivesACrash(t *testing.T) {
	h := newHouse(t)
	l := h.start(t)
	a, b := l.made(t), l.made(t)
	l.stop()
	l = h.still(t) // nobody publishes it in this life
	must(t, l.Delete(t.Context(), a.ID, admin))
	l.stop()
	l = h.start(t)
	if _, err := l.Backup(t.Context(), a.ID); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	until(t, "it is forgotten", func() bool { return len(l.repo.Forgotten()) == 1 })
	if list, _, err := l.Backups(t.Context(), job.Filter{}); err != nil || len(list) != 1 || list[0].ID != b.ID {
		t.Errorf("got %+v, %v", list, err)
	}
	// Taken back by somebody else, it is there again and never expires.
	l.stop()
	r, done := h.open(t, h.at("index"))
	must(t, r.Undelete(t.Context(), a.ID))
	done()
	l = h.start(t)
	if got, err := l.Backup(t.Context(), a.ID); err != nil || !got.ExpiresAt.IsZero() {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestWatch_NeverMissesTheEnd(t *testing.T) {
	h := newHouse(t)
	l := h.start(t)
	for i := range 20 {
		j := l.create(t)
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				events, err := l.Watch(t.Context(), j.ID)
				if err != nil {
					t.Error(err)
					return
				}
				var last job.Job
				for e := range events {
					last = e
					if w%2 == 0 {
						time.Sleep(time.Duration(w) * 5 * time.Millisecond)
					}
				}
				if last.State != job.Completed || last.Snapshot == nil {
					t.Errorf("round %d: the last step shown is %s", i, last.State)
				}
			})
		}
		wg.Wait()
	}
	ctx, cancel := context.WithCancel(t.Context())
	l.stop()
	l = h.still(t)
	events, err := l.Watch(ctx, l.create(t).ID)
	must(t, err)
	<-events
	cancel()
	until(t, "the channel is closed", func() bool {
		select {
		case _, open := <-events:
			return !open
		default:
			return false
		}
	})
	if _, err := l.Watch(t.Context(), "restore-x"); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestReload_CountsForWhatWaits(t *testing.T) {
	h := newHouse(t)
	l := h.still(t)
	j := l.create(t)
	must(t, os.MkdirAll(h.at("more"), 0o700))
	h.write(t, "more/x", "x")
	l.Reload([]job.Source{{Name: "bots", Kind: "files", Paths: []string{h.at("bots")}}, {Name: "more", Kind: "files", Paths: []string{h.at("more")}}}, nil)
	if s := l.Sources(); len(s) != 2 || s[1].Name != "more" || len(l.Targets()) != 0 {
		t.Errorf("got %v", s)
	}
	l.run()
	if got := l.want(t, j.ID, job.Completed); len(got.Snapshot.Parts) != 2 {
		t.Errorf("got %d parts", len(got.Snapshot.Parts))
	}
	if s := l.Sources(); s[1].LastBackup != j.ID || s[1].LastSuccess.IsZero() {
		t.Errorf("got %+v", s)
	}
	l.stop()
	l = h.still(t)
	j = l.create(t)
	l.Reload([]job.Source{{Name: "db", Kind: "sqlite", Paths: []string{h.at("x")}}}, nil)
	if _, err := l.Restore(t.Context(), l.repo.Snapshots()[0].ID, job.RestoreRequest{}, admin); err == nil {
		t.Error("a target that was taken away was found")
	}
	l.run()
	if got := l.want(t, j.ID, job.Failed); !strings.Contains(got.ErrorMessage, "no such file") {
		t.Errorf("got %q", got.ErrorMessage)
	}
}

func TestStats_AreComputedOnceForAll(t *testing.T) {
	h := newHouse(t)
	l := h.start(t)
	l.made(t)
	var wg sync.WaitGroup
	var first atomic.Pointer[repo.Stats]
	for range 20 {
		wg.Go(func() {
			s, err := l.Stats(t.Context())
			if err != nil || len(s.Repo.Snapshots) != 1 || s.At.IsZero() || s.Space.Free == 0 {
				t.Errorf("got %+v, %v", s, err)
				return
			}
			if !first.CompareAndSwap(nil, s.Repo) && first.Load() != s.Repo {
				t.Error("computed more than once")
			}
		})
	}
	wg.Wait()
	l.made(t)
	if s, err := l.Stats(t.Context()); err != nil || len(s.Repo.Snapshots) != 2 {
		t.Errorf("got %+v, %v", s, err)
	}
	l.made(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := l.Stats(ctx); err != nil || s.Repo == nil {
		t.Errorf("who is in a hurry gets the last: %v", err)
	}
}

func TestHold_KeepsGCAway(t *testing.T) {
	h := newHouse(t)
	l := h.start(t)
	l.made(t)
	release, err := l.Hold()
	must(t, err)
	g, err := l.GC(t.Context(), admin)
	must(t, err)
	time.Sleep(100 * time.Millisecond)
	if s := l.state(t, g.ID); s != job.Pending {
		t.Errorf("gc is %s while somebody reads", s)
	}
	again, err := l.GC(t.Context(), admin)
	if err != nil || again.ID != g.ID {
		t.Errorf("one that waits does for both: got %s, %v", again.ID, err)
	}
	release()
	release()
	l.want(t, g.ID, job.Completed)
	l.stop()
	if _, err := l.Hold(); !errors.Is(err, job.ErrClosing) {
		t.Errorf("got %v, want ErrClosing", err)
	}
}

// What is to be written with a job is written with it or not at all.
func TestCreate_WritesBothOrNeither(t *testing.T) {
	h := newHouse(t)
	l := h.still(t)
	no := errors.New("the answer can not be kept")
	_, err := l.CreateBackup(t.Context(), all, job.By{Also: func(*state.Tx, job.Job) error { return no }})
	if !errors.Is(err, no) {
		t.Errorf("got %v", err)
	}
	if list, total, err := l.List(job.Filter{}); err != nil || total != 0 {
		t.Errorf("got %v, %v", list, err)
	}
	var seen job.Job
	j, err := l.CreateBackup(t.Context(), all, job.By{Also: func(_ *state.Tx, j job.Job) error { seen = j; return nil }})
	if err != nil || seen.ID != j.ID {
		t.Errorf("got %s, %v", seen.ID, err)
	}
}
