package job_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/job"
)

// What a schedule has asked for is asked for: it runs as it was asked for, like
// the backup of anybody else, whatever becomes of the schedule meanwhile. It can
// be cancelled by its id. A schedule that is paused and goes on, or gets other
// times, does not pile up behind it.
func TestSchedule_ThatChangesWhileItsRunWaits(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*testing.T, *life, string) error
		there  bool // the schedule, afterwards
		again  bool // it asks again when that run is over and its time has come
	}{
		{"deleted", func(t *testing.T, l *life, id string) error { return l.DeleteSchedule(t.Context(), id) }, false, false},
		{"disabled", func(t *testing.T, l *life, id string) error {
			return second(l.UpdateSchedule(t.Context(), id, job.ScheduleChange{Enabled: ptr(false)}, admin))
		}, true, false},
		{"changed", func(t *testing.T, l *life, id string) error {
			return second(l.UpdateSchedule(t.Context(), id, job.ScheduleChange{Cron: ptr("*/5 * * * *"), Type: ptr("incremental"), RetentionDays: ptr(9)}, admin))
		}, true, true},
		{"paused for a moment", func(t *testing.T, l *life, id string) error {
			off, on := ptr(false), ptr(true)
			return errors.Join(second(l.UpdateSchedule(t.Context(), id, job.ScheduleChange{Enabled: off}, admin)),
				second(l.UpdateSchedule(t.Context(), id, job.ScheduleChange{Enabled: on}, admin)))
		}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(inMemory(t))
			l := h.still(t)
			s, err := l.CreateSchedule(t.Context(), job.ScheduleChange{Cron: ptr("@hourly"), Type: ptr("full"), RetentionDays: ptr(3)}, admin)
			must(t, err)
			now := time.Now().Add(2 * time.Hour)
			l.Due(now)
			s, err = l.Schedule(s.ID)
			must(t, err)
			asked := s.LastBackupID
			if l.state(t, asked) != job.Pending {
				t.Fatal("it does not wait")
			}
			must(t, c.change(t, l, s.ID))
			runs := func() int {
				_, n, err := l.Backups(t.Context(), job.Filter{ScheduleID: s.ID})
				must(t, err)
				return n
			}
			for range 3 {
				now = now.Add(time.Hour)
				l.Due(now)
			}
			if n := runs(); n != 1 {
				t.Errorf("%d runs while the first waits, want 1", n)
			}
			l.stop() // a restart changes nothing
			l = h.still(t)
			l.alone() // the clock of this day would run it too, when its minute comes
			j := l.want(t, asked, job.Completed)
			if j.Backup.Type != "full" || j.Backup.RetentionDays != 3 || j.ScheduleID != s.ID {
				t.Errorf("it did not run as it was asked for: %+v", j.Backup)
			}
			if b, err := l.Backup(t.Context(), asked); err != nil || b.ExpiresAt.Sub(b.CreatedAt) != 72*time.Hour || b.ScheduleID != s.ID {
				t.Errorf("got %+v, %v", b, err)
			}
			if got, err := l.Schedule(s.ID); c.there != (err == nil) || c.there && (got.LastBackupID != asked || got.LastStatus != "completed") {
				t.Errorf("the schedule afterwards: %+v, %v", got, err)
			}
			l.Due(now.Add(time.Hour))
			if n := runs(); n != 1 != c.again {
				t.Errorf("%d runs an hour later", n)
			}
		})
	}
}

// A run that waits of a schedule that is gone is cancelled like any other.
func TestSchedule_DeletedWhileItsRunWaitsAndCancelled(t *testing.T) {
	h := newHouse(inMemory(t))
	l := h.still(t)
	s, err := l.CreateSchedule(t.Context(), job.ScheduleChange{Cron: ptr("@hourly")}, admin)
	must(t, err)
	l.Due(time.Now().Add(2 * time.Hour))
	s, err = l.Schedule(s.ID)
	must(t, err)
	must(t, l.DeleteSchedule(t.Context(), s.ID))
	if j, err := l.Cancel(t.Context(), s.LastBackupID); err != nil || j.State != job.Cancelled {
		t.Errorf("got %s, %v", j.State, err)
	}
	l.run()
	l.made(t)
	if n := len(l.repo.Snapshots()); n != 1 {
		t.Errorf("%d snapshots, want that of the other backup alone", n)
	}
}

// A backup that goes on after an interruption is cancelled as at any other time:
// while it waits to go on, and while it does. It is over then, in the next life
// too.
func TestCancel_WhileABackupGoesOn(t *testing.T) {
	h := newHouse(inMemory(t))
	l := h.start(t, h.gate)
	runs, waits := l.create(t), l.create(t)
	h.atGate(t)
	l.stop()
	for _, id := range []string{runs.ID, waits.ID} {
		l = h.still(t, h.gate)
		want := job.Interrupted
		if id == waits.ID {
			want = job.Cancelled
		}
		if s := l.state(t, runs.ID); s != want {
			t.Errorf("the one that ran is %s, want %s", s, want)
		}
		if id == runs.ID {
			l.run()
			h.atGate(t) // attempt 2
			if j, err := l.Job(id); err != nil || j.State != job.InProgress || j.Attempts != 2 {
				t.Errorf("got %+v, %v", j, err)
			}
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if j, err := l.Cancel(t.Context(), id); !isBusy(err) && (err != nil || j.State != job.Cancelled) {
					t.Errorf("got %s, %v", j.State, err)
				}
			})
		}
		wg.Wait()
		if j := l.want(t, id, job.Cancelled); j.FinishedAt.IsZero() || j.ErrorCode != "cancelled" {
			t.Errorf("got %+v", j)
		}
		l.stop()
	}
	h.openGate(t)
	l = h.start(t, h.gate)
	for _, id := range []string{runs.ID, waits.ID} {
		l.want(t, id, job.Cancelled)
		if b, err := l.Backup(t.Context(), id); err != nil || b.Manifest != nil {
			t.Errorf("a cancelled backup has a snapshot: %+v, %v", b, err)
		}
	}
	l.made(t)
}

// One target takes one restore: of many that are asked for in the same moment one
// is taken, and the others are told which.
func TestRestore_ManyAtOnceToOneTarget(t *testing.T) {
	h := newHouse(inMemory(t))
	l := h.start(t)
	b := l.made(t)
	l.stop()
	l = h.still(t) // nothing ends meanwhile
	const callers = 8
	var begin, end sync.WaitGroup
	begin.Add(1)
	var taken [callers]job.Job
	var refused [callers]error
	for i := range callers {
		end.Go(func() {
			begin.Wait()
			taken[i], refused[i] = l.Restore(t.Context(), b.ID, job.RestoreRequest{}, admin)
		})
	}
	begin.Done()
	end.Wait()
	one := ""
	for i := range callers {
		if refused[i] == nil {
			if one != "" {
				t.Fatalf("both %s and %s were taken", one, taken[i].ID)
			}
			one = taken[i].ID
		}
	}
	for i := range callers {
		var busy *job.BusyError
		if refused[i] != nil && (!errors.As(refused[i], &busy) || busy.JobID != one) {
			t.Errorf("got %v, want *BusyError of %s", refused[i], one)
		}
	}
	if list, _, err := l.List(job.Filter{Kinds: []job.Kind{job.KindRestore}}); err != nil || len(list) != 1 || list[0].ID != one {
		t.Errorf("written down: %+v, %v", list, err)
	}
	l.run()
	l.want(t, one, job.Completed)
	if _, err := l.Restore(t.Context(), b.ID, job.RestoreRequest{Overwrite: "always"}, admin); err != nil {
		t.Errorf("the target is free again, and it is refused: %v", err)
	}
}

// A running backup leans on its base. When that is deleted, and space reclaimed,
// the running one is complete all the same; the house checks the repository.
func TestDelete_OfTheBaseOfARunningBackup(t *testing.T) {
	h := newHouse(inMemory(t))
	h.fill(t, "bots/one/kept.bin", 600_000)
	l := h.start(t, h.gate)
	h.openGate(t)
	base := l.made(t)
	must(t, os.Remove(h.at("gate")))
	must(t, os.Remove(h.at("gate.here")))
	h.write(t, "bots/two/new.bas", "TALK \"new\"")
	running := l.create(t)
	h.atGate(t)
	must(t, l.Delete(t.Context(), base.ID, admin))
	g, err := l.GC(t.Context(), admin) // has to wait, or it takes what the running one counts on
	must(t, err)
	if s := l.state(t, g.ID); s != job.Pending {
		t.Errorf("gc is %s beside a backup", s)
	}
	if len(l.repo.Forgotten()) > 0 {
		t.Error("the base was forgotten under a running backup")
	}
	h.openGate(t)
	done := l.want(t, running.ID, job.Completed)
	if done.Snapshot.BaseID != base.ID || done.Snapshot.Totals.BytesNew > 100_000 {
		t.Errorf("it did not lean on its base, and proves nothing: base %s, %d bytes new", done.Snapshot.BaseID, done.Snapshot.Totals.BytesNew)
	}
	l.want(t, g.ID, job.Completed)
	until(t, "the base is gone", func() bool {
		g, err := l.GC(t.Context(), admin)
		must(t, err)
		l.want(t, g.ID, job.Completed)
		return len(l.repo.Forgotten()) == 0 && len(l.repo.Snapshots()) == 1
	})
	v, err := l.Verify(t.Context(), running.ID, admin)
	must(t, err)
	l.want(t, v.ID, job.Completed)
	r, err := l.Restore(t.Context(), running.ID, job.RestoreRequest{}, admin)
	must(t, err)
	l.want(t, r.ID, job.Completed)
	for _, f := range []string{"bots/one/kept.bin", "bots/one/start.bas", "bots/two/start.bas", "bots/two/new.bas"} {
		h.same(t, h.at("target"), f)
	}
	if _, err := os.Stat(filepath.Join(h.at("target"), h.at("bots/two/new.bas"))); err != nil {
		t.Error(err)
	}
}
