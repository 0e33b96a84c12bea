package job_test

import (
	"errors"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/internal/state"
)

func TestHistory_JobsOfBackupsThatAreThereAreKeptWithThem(t *testing.T) {
	h := newHouse(t)
	l := h.still(t, func(o *job.Options) { o.History = 48 * time.Hour })
	l.alone()
	kept, gone := l.made(t), l.made(t)
	cancelled := l.create(t)
	_, err := l.Cancel(t.Context(), cancelled.ID)
	if err != nil && !isBusy(err) {
		t.Fatal(err)
	}
	verify, err := l.Verify(t.Context(), kept.ID, admin)
	must(t, err)
	l.want(t, verify.ID, job.Completed)
	must(t, l.Delete(t.Context(), gone.ID, admin))
	until(t, "it is forgotten", func() bool {
		_, err := l.db.Job(gone.ID)
		return errors.Is(err, state.ErrNotFound)
	})
	there := func(id string) bool {
		_, err := l.Job(id)
		if err != nil && !errors.Is(err, job.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	l.Look(t.Context(), time.Now().Add(47*time.Hour))
	if !there(kept.ID) || !there(verify.ID) {
		t.Error("a job was dropped before its time")
	}
	l.Look(t.Context(), time.Now().Add(49*time.Hour))
	if !there(kept.ID) {
		t.Error("the job of a backup that is there was dropped")
	}
	if there(verify.ID) {
		t.Error("an old job is remembered")
	}
	list, _, err := l.Backups(t.Context(), job.Filter{})
	must(t, err)
	for _, b := range list {
		if b.Job == nil {
			t.Errorf("backup %s has lost its job", b.ID)
		}
	}
}

// A source's command has the time the configuration gives it.
func TestHooks_EndWhenTheirTimeIsOver(t *testing.T) {
	h := newHouse(t)
	l := h.start(t, func(o *job.Options) {
		o.Sources[0].Before, o.Sources[0].HookTimeout = []string{"sleep", "60"}, 300*time.Millisecond
	})
	begun := time.Now()
	if j := l.want(t, l.create(t).ID, job.Failed); time.Since(begun) > 50*time.Second {
		t.Errorf("it took %v: %s", time.Since(begun), j.ErrorMessage)
	}
}

func TestOverdue_AfterTwoTimesWithoutAGoodBackup(t *testing.T) {
	h := newHouse(t)
	clock := newWall()
	atNoon := func(o *job.Options) { job.SetClock(o, clock.now) }
	l := h.still(t, atNoon)
	cron, off := "0 2 * * *", false
	s, err := l.CreateSchedule(t.Context(), job.ScheduleChange{Cron: &cron}, admin)
	must(t, err)
	asleep, err := l.CreateSchedule(t.Context(), job.ScheduleChange{Cron: &cron, Enabled: &off}, admin)
	must(t, err)
	second := s.NextRun.AddDate(0, 0, 1)
	late := func(l *life, at time.Time) bool {
		t.Helper()
		list, err := l.Overdue(at)
		must(t, err)
		for _, o := range list {
			if o.ID == asleep.ID {
				t.Error("a schedule that is not enabled is overdue")
			}
		}
		return len(list) > 0
	}
	for at, want := range map[time.Time]bool{
		l.Now(): false, s.NextRun.Add(3 * time.Hour): false, second.Add(59 * time.Minute): false, second.Add(61 * time.Minute): true,
		second.AddDate(1, 0, 0): true, l.Now().AddDate(-1, 0, 0): false,
	} {
		if got := late(l, at); got != want {
			t.Errorf("at %v: overdue %v, want %v", at, got, want)
		}
	}
	// A backup of it that fails changes nothing, one that succeeds does.
	r := all
	r.ScheduleID = s.ID
	l.alone()
	must(t, l.db.PutJob(state.Job{ID: "backup-01j00000000000000000000000", Kind: "backup", State: "failed", ScheduleID: s.ID, CreatedAt: l.Now(), FinishedAt: second}))
	if !late(l, second.Add(2*time.Hour)) {
		t.Error("a failed backup counts as a good one")
	}
	j, err := l.CreateBackup(t.Context(), r, admin)
	must(t, err)
	l.want(t, j.ID, job.Completed)
	l.stop()
	// As of a schedule that is made long ago, and whose backup was yesterday.
	l = h.still(t, atNoon)
	rec, err := l.db.Schedule(s.ID)
	must(t, err)
	rec.CreatedAt, rec.UpdatedAt = rec.CreatedAt.AddDate(0, 0, -10), rec.UpdatedAt.AddDate(0, 0, -10)
	must(t, l.db.PutSchedule(rec))
	l.stop()
	l = h.still(t, atNoon)
	if late(l, l.Now()) {
		t.Error("overdue, and its backup is a minute old")
	}
	must(t, l.db.DeleteJob(j.ID))
	l.stop()
	if l = h.still(t, atNoon); !late(l, l.Now()) {
		t.Error("no backup for ten days, and not overdue")
	}
}
