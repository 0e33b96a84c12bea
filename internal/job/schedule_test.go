package job_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/generalbots/backupd/internal/job"
)

func ptr[T any](v T) *T { return &v }

// acts records what the daemon did by itself.
type acts struct {
	mu   sync.Mutex
	list []job.Act
}

func (a *acts) Acted(act job.Act) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, act)
}

func (a *acts) count(action string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, act := range a.list {
		if act.Action == action {
			n++
		}
	}
	return n
}

func TestSchedule_Keeps(t *testing.T) {
	h := newHouse(t)
	l := h.still(t)
	for field, c := range map[string]job.ScheduleChange{
		"cron": {}, "type": {Cron: ptr("@daily"), Type: ptr("x")}, "timezone": {Cron: ptr("@daily"), Timezone: ptr("Local")},
		"retention_days": {Cron: ptr("@daily"), RetentionDays: ptr(-1)}, "sources": {Cron: ptr("@daily"), Sources: ptr([]string{"x"})},
		"name": {Cron: ptr("@daily"), Name: ptr("\xff")}, "tags": {Cron: ptr("@daily"), Tags: ptr([]string{""})},
	} {
		var invalid *job.InvalidError
		if _, err := l.CreateSchedule(t.Context(), c, admin); !errors.As(err, &invalid) || invalid.Field != field {
			t.Errorf("got %v, want a complaint about %s", err, field)
		}
	}
	s, err := l.CreateSchedule(t.Context(), job.ScheduleChange{Cron: ptr("30 2 * * *"), Timezone: ptr("Europe/Berlin"), RetentionDays: ptr(30)}, admin)
	must(t, err)
	if !s.Enabled || s.Type != "incremental" || !s.IncludeFiles || !s.IncludeDatabase || s.NextRun.IsZero() || s.NextRun.Minute() != 30 {
		t.Errorf("got %+v", s)
	}
	if s, err = l.UpdateSchedule(t.Context(), s.ID, job.ScheduleChange{Enabled: ptr(false), Name: ptr("night")}, admin); err != nil || !s.NextRun.IsZero() || s.RetentionDays != 30 || s.Name != "night" {
		t.Errorf("got %+v, %v", s, err)
	}
	l.stop()
	l = h.still(t)
	if list, err := l.Schedules(); err != nil || len(list) != 1 || list[0].Name != "night" || list[0].Enabled || list[0].Timezone != "Europe/Berlin" {
		t.Errorf("got %+v, %v", list, err)
	}
	must(t, l.DeleteSchedule(t.Context(), s.ID))
	for _, err := range []error{l.DeleteSchedule(t.Context(), s.ID), second(l.Schedule(s.ID)), second(l.UpdateSchedule(t.Context(), s.ID, job.ScheduleChange{}, admin))} {
		if !errors.Is(err, job.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestSchedule_RunsOnceForWhatWasMissed(t *testing.T) {
	h := newHouse(t)
	var seen acts
	// Upkeep of its own would run by the clock that shows now, whichever hour begins meanwhile.
	l := h.still(t, func(o *job.Options) { job.SetClock(o, newWall().now); o.Auditor = &seen })
	s, err := l.CreateSchedule(t.Context(), job.ScheduleChange{Cron: ptr("@hourly"), RetentionDays: ptr(3), Type: ptr("full")}, admin)
	must(t, err)
	now := l.Now()
	backups := func() int {
		list, _, err := l.Backups(t.Context(), job.Filter{ScheduleID: s.ID})
		must(t, err)
		return len(list)
	}
	if at := l.Due(now); !at.Equal(s.NextRun) || backups() != 0 {
		t.Errorf("due at %v, want %v", at, s.NextRun)
	}
	// Fifty hours of downtime are one run.
	now = now.Add(50 * time.Hour)
	if at := l.Due(now); backups() != 1 || at.Sub(now) > time.Hour || !at.After(now) {
		t.Errorf("got %d backups, next %v at %v", backups(), at, now)
	}
	l.Due(now.Add(time.Minute))
	// It does not pile up behind one that is not over.
	for range 5 {
		now = now.Add(time.Hour)
		l.Due(now)
	}
	if n := backups(); n != 1 || seen.count("backup.create") != 1 {
		t.Errorf("got %d backups", n)
	}
	l.alone()
	got, err := l.Schedule(s.ID)
	must(t, err)
	j := l.want(t, got.LastBackupID, job.Completed)
	if j.Actor != "schedule" || j.Backup.Type != "full" {
		t.Errorf("got %+v", j)
	}
	if got, err = l.Schedule(s.ID); err != nil || got.LastStatus != "completed" || got.LastSuccess.IsZero() {
		t.Errorf("got %+v, %v", got, err)
	}
	now = now.Add(time.Hour)
	l.Due(now)
	if n := backups(); n != 2 {
		t.Errorf("got %d backups, want 2", n)
	}
	// A clock that goes back a little makes nobody run twice; one that goes back
	// far goes on from there.
	for _, back := range []time.Duration{time.Minute, 30 * time.Minute, 59 * time.Minute} {
		l.Due(now.Add(-back))
	}
	if n := backups(); n != 2 {
		t.Errorf("got %d backups, want 2: the clock went back", n)
	}
	l.over(t, func() string { got, _ := l.Schedule(s.ID); return got.LastBackupID }())
	year := now.AddDate(-1, 0, 0)
	l.Due(year)
	if at := l.Due(year.Add(time.Hour)); backups() != 3 || at.Year() > year.Year()+1 {
		t.Errorf("got %d backups, want 3; next %v", backups(), at)
	}
	if b, _, err := l.Backups(t.Context(), job.Filter{ScheduleID: s.ID}); err != nil || b[0].Type != "full" {
		t.Errorf("got %v", err)
	}
}

// A schedule that is changed or deleted while it is launched is as it was
// changed, and stays deleted.
func TestSchedule_NoChangeIsLost(t *testing.T) {
	h := newHouse(t)
	l := h.start(t)
	s, err := l.CreateSchedule(t.Context(), job.ScheduleChange{Cron: ptr("* * * * *")}, admin)
	must(t, err)
	now := time.Now()
	for i := range 30 {
		var wg sync.WaitGroup
		wg.Go(func() { l.Due(now.Add(time.Duration(i+1) * time.Minute)) })
		wg.Go(func() {
			must(t, second(l.UpdateSchedule(t.Context(), s.ID, job.ScheduleChange{Name: ptr(fmt.Sprint(i))}, admin)))
		})
		wg.Go(func() {
			must(t, second(l.UpdateSchedule(t.Context(), s.ID, job.ScheduleChange{RetentionDays: ptr(i)}, admin)))
		})
		wg.Wait()
		if got, err := l.Schedule(s.ID); err != nil || got.Name != fmt.Sprint(i) || got.RetentionDays != i {
			t.Fatalf("round %d: got %q and %d days, %v", i, got.Name, got.RetentionDays, err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { l.Due(now.Add(time.Hour)) })
	wg.Go(func() { must(t, l.DeleteSchedule(t.Context(), s.ID)) })
	wg.Wait()
	l.stop()
	l = h.still(t)
	if list, err := l.Schedules(); err != nil || len(list) != 0 {
		t.Errorf("got %+v, %v", list, err)
	}
}

func TestUpkeep_ExpiresAndReclaims(t *testing.T) {
	h := newHouse(t)
	var seen acts
	l := h.still(t, func(o *job.Options) {
		o.Auditor, o.Minimum = &seen, 2
		o.GC.Cron, o.Verify.Every = "@daily", 24*time.Hour
	})
	l.alone()
	for range 4 {
		l.made(t, func(r *job.BackupRequest) { r.RetentionDays = 1 })
	}
	now := time.Now()
	if l.CollectDue(t.Context(), now) || l.VerifyDue(now) {
		t.Error("there is nothing to reclaim or to verify yet")
	}
	now = now.AddDate(0, 0, 3)
	// Nobody publishes a deletion while gc has the repository, so that this look sees nothing to reclaim.
	l.TakeAlone()
	l.Look(t.Context(), now)
	l.ReleaseAlone()
	if n := seen.count("backup.expire"); n != 2 {
		t.Errorf("%d backups expired, want 2", n)
	}
	if list, _, err := l.Backups(t.Context(), job.Filter{}); err != nil || len(list) != 2 {
		t.Errorf("got %d backups, %v", len(list), err)
	}
	until(t, "they are forgotten", func() bool { return len(l.repo.Forgotten()) == 2 })
	l.Look(t.Context(), now.Add(time.Minute))
	if seen.count("gc.create") != 1 {
		t.Errorf("gc was asked for %d times", seen.count("gc.create"))
	}
	until(t, "they are gone", func() bool { return len(l.repo.Forgotten()) == 0 })
	if l.CollectDue(t.Context(), now.AddDate(0, 0, 9)) {
		t.Error("there is nothing to reclaim")
	}
	if seen.count("verify.create") == 0 {
		t.Error("nothing was verified after three days")
	}
	until(t, "it is verified", func() bool {
		list, _, err := l.Backups(t.Context(), job.Filter{})
		return err == nil && len(list) == 2 && list[0].Verification.State == job.Verified && list[1].Verification.State == job.Verified
	})
}

func TestPace_IsOfTheLastSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p job.Pace
		if got := p.Rate(0); got != 0 {
			t.Errorf("got %v", got)
		}
		for i := range 10 {
			time.Sleep(time.Second)
			p.Rate(int64(i+1) * 1000)
		}
		if got := p.Rate(10_000); got != 1000 {
			t.Errorf("got %v, want 1000", got)
		}
		time.Sleep(6 * time.Second)
		if got := p.Rate(10_000); got > 800 {
			t.Errorf("got %v: it stands still", got)
		}
	})
}

func TestHurried_InTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		late, done := job.Hurried(ctx)
		defer done()
		cancel()
		time.Sleep(job.Hurry - time.Millisecond)
		synctest.Wait()
		if late.Err() != nil {
			t.Error("it ended too early")
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if late.Err() == nil {
			t.Error("it did not end")
		}
	})
}
