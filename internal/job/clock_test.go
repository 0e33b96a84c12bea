package job_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/internal/store"
)

// wall is a clock somebody sets. Its times are like those of a process whose
// clock was set: what they show jumps, and the second reading that Go keeps in
// them, by which two of them compare, does not.
type wall struct{ off atomic.Int64 }

// newWall shows ten past noon now, in the zone of the schedules: what a test moves
// it by tells then which runs of @hourly and @daily lie between, whenever it is run.
func newWall() *wall {
	var w wall
	w.add(toTenPastNoon(time.Now()))
	return &w
}

// toTenPastNoon is how far a clock is to be set for it to show that.
func toTenPastNoon(now time.Time) time.Duration {
	return now.UTC().Truncate(24 * time.Hour).Add(12*time.Hour + 10*time.Minute).Sub(now.UTC().Truncate(time.Second))
}

func (w *wall) now() time.Time {
	t := time.Now()
	// The seconds stand above 30 bits of nanoseconds.
	*(*uint64)(unsafe.Pointer(&t)) += uint64(w.off.Load()/int64(time.Second)) << 30
	return t
}

func (w *wall) add(d time.Duration) { w.off.Add(int64(d)) }

const year = 365 * 24 * time.Hour

func TestWall_BeginsAtTenPastNoonAtEveryTimeOfDayAndYear(t *testing.T) {
	for _, zone := range []*time.Location{time.UTC, time.FixedZone("Kathmandu", 20700), time.FixedZone("New York", -18000)} {
		for _, day := range []time.Time{time.Date(2026, 12, 31, 0, 0, 0, 0, zone), time.Date(2028, 2, 29, 0, 0, 0, 0, zone)} {
			for s := range 24 * 60 * 60 {
				now := day.Add(time.Duration(s)*time.Second + 999999999)
				shown := now.Add(toTenPastNoon(now)).UTC()
				if h, m, s := shown.Clock(); h != 12 || m != 10 || s != 0 || shown.YearDay() != now.UTC().YearDay() {
					t.Fatalf("at %v it shows %v", now, shown)
				}
			}
		}
	}
	if now := newWall().now().UTC(); now.Hour() != 12 || now.Minute() < 10 {
		t.Errorf("it shows %v", now)
	}
}

func TestWall_IsLikeAClockThatIsSet(t *testing.T) {
	w := newWall()
	for _, d := range []time.Duration{-year, 11 * year, -10 * year, time.Hour} {
		before := w.now()
		w.add(d)
		after := w.now()
		if took := after.Sub(before); took < 0 || took > time.Minute {
			t.Errorf("by the clock that does not jump it took %v", took)
		}
		if took := after.Round(0).Sub(before.Round(0)) - d; took < -time.Second || took > time.Minute {
			t.Errorf("by the clock on the wall it took %v less than it jumped", took)
		}
	}
}

// The clock goes back a year, forward ten, and back to what it was, while
// schedules, expiry, gc and verifications are at work, in one life of the daemon
// and with a new one after each jump. Nothing is run more than once for a jump,
// nothing waits for a time that was never true, and what expires is a day's share.
func TestClock_JumpsBackAndForthWhileAllIsAtWork(t *testing.T) {
	for name, restart := range map[string]bool{"in one life": false, "in a new life each": true} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(inMemory(t))
			w := newWall()
			var seen acts
			options := func(o *job.Options) {
				job.SetClock(o, w.now)
				o.Auditor, o.Minimum = &seen, 2
				o.GC.Cron, o.Verify.Every = "@daily", 7*24*time.Hour
			}
			l := h.still(t, options)
			l.alone()
			s, err := l.CreateSchedule(t.Context(), job.ScheduleChange{Cron: ptr("@hourly"), RetentionDays: ptr(30)}, admin)
			must(t, err)
			for range 4 {
				l.made(t, func(r *job.BackupRequest) { r.RetentionDays = 30 })
			}
			type counts struct{ runs, gc, verify, expired int }
			// minutes is what upkeep does in three minutes, and what it asked for.
			minutes := func() counts {
				t.Helper()
				was := counts{seen.count("backup.create"), seen.count("gc.create"), seen.count("verify.create"), seen.count("backup.expire")}
				for range 3 {
					now := l.Now()
					l.Due(now)
					l.Look(t.Context(), now)
					until(t, "all jobs are over", l.Idle)
					w.add(time.Minute)
				}
				return counts{seen.count("backup.create") - was.runs, seen.count("gc.create") - was.gc, seen.count("verify.create") - was.verify, seen.count("backup.expire") - was.expired}
			}
			hour := func() counts { w.add(57 * time.Minute); return minutes() }
			left := func() (ids map[string]bool) {
				list, _, err := l.Backups(t.Context(), job.Filter{})
				must(t, err)
				ids = make(map[string]bool)
				for _, b := range list {
					ids[b.ID] = true
					if b.StartedAt.After(b.FinishedAt) {
						t.Errorf("%s ended before it began", b.ID)
					}
				}
				return ids
			}
			hour()
			for _, jump := range []struct {
				by      time.Duration
				expires int // at most
			}{{-year, 0}, {11 * year, 3}, {-10 * year, 0}} {
				w.add(jump.by)
				if restart {
					l.stop()
					l = h.still(t, options)
					l.alone()
				}
				had := len(left())
				sum := minutes()
				if sum.runs > 1 || sum.gc > 1 || sum.verify > 1 || sum.expired > max(jump.expires, 0) {
					t.Errorf("in the minutes after %v: %+v", jump.by, sum)
				}
				for i := range 2 {
					c := hour()
					if c.runs != 1 || c.verify > 1 || c.gc > 1 {
						t.Errorf("hour %d after %v: %+v, want one run", i, jump.by, c)
					}
					sum.verify, sum.gc, sum.expired = sum.verify+c.verify, sum.gc+c.gc, sum.expired+c.expired
				}
				if sum.verify > 1 || sum.gc > 1 || sum.expired > jump.expires || (sum.expired > 0) != (jump.expires > 0) {
					t.Errorf("two hours after %v: %+v", jump.by, sum)
				}
				if n := len(left()); n < had-jump.expires {
					t.Errorf("%d backups are left of %d after %v", n, had, jump.by)
				}
				got, err := l.Schedule(s.ID)
				must(t, err)
				now := l.Now()
				if d := got.NextRun.Sub(now); d <= 0 || d > time.Hour {
					t.Errorf("after %v the next run is in %v", jump.by, d)
				}
				if d := now.Sub(got.LastSuccess); d < -time.Second || d > 2*time.Hour {
					t.Errorf("after %v the last success is %v ago", jump.by, d)
				}
				if list, err := l.Schedules(); err != nil || !list[0].LastSuccess.Equal(got.LastSuccess) {
					t.Errorf("after %v the list of schedules says %+v, %v", jump.by, list, err)
				}
				if src := l.Sources()[0]; src.LastSuccess.After(now.Add(time.Hour)) {
					t.Errorf("after %v the source was last backed up in %v", jump.by, src.LastSuccess.Sub(now))
				}
				// When it stops succeeding that is seen, and in time.
				if list, err := l.Overdue(now.Add(4 * time.Hour)); err != nil || len(list) != 1 {
					t.Errorf("after %v: nothing is overdue four hours later, %v", jump.by, err)
				}
			}
			// Days later things still go on: gc and the verification come when they are
			// due, however far ahead the last of them was.
			got, err := l.Schedule(s.ID)
			must(t, errors.Join(err, l.Delete(t.Context(), got.LastBackupID, admin)))
			until(t, "it is forgotten", func() bool { return len(l.repo.Forgotten()) > 0 })
			w.add(8 * 24 * time.Hour)
			if c := minutes(); c.runs != 1 || c.gc != 1 || c.verify != 1 {
				t.Errorf("eight days later: %+v, want one of each", c)
			}
		})
	}
}

// A verification that comes to nothing is tried again once an hour, also when the
// last one is of a clock that was ahead.
func TestClock_VerificationsThatFailAfterOneThatWasAhead(t *testing.T) {
	h := newHouse(inMemory(t))
	w := newWall()
	var seen acts
	var gone atomic.Pointer[error]
	h.wrap = func(s store.Store) store.Store { return away{s, &gone} }
	l := h.still(t, func(o *job.Options) {
		job.SetClock(o, w.now)
		o.Auditor, o.Verify.Every = &seen, 7*24*time.Hour
	})
	l.alone()
	l.made(t)
	look := func() {
		l.Look(t.Context(), l.Now())
		until(t, "all jobs are over", l.Idle)
		w.add(time.Minute)
	}
	w.add(10 * year)
	look()
	w.add(-10*year + 48*time.Hour)
	broken := errors.New("the disk is ill")
	gone.Store(&broken)
	was := seen.count("verify.create")
	for range 5 {
		look()
	}
	if n := seen.count("verify.create") - was; was != 1 || n != 1 {
		t.Errorf("%d verifications before, %d in five minutes after, want one each", was, n)
	}
	gone.Store(nil)
}

// A schedule of a clock that was ahead, and that never succeeds, is overdue by
// the clock as it is now.
func TestClock_OverdueAfterOneThatWasAhead(t *testing.T) {
	h := newHouse(inMemory(t))
	w := newWall()
	l := h.still(t, func(o *job.Options) { job.SetClock(o, w.now) })
	s, err := l.CreateSchedule(t.Context(), job.ScheduleChange{Cron: ptr("@hourly")}, admin)
	must(t, err)
	w.add(-year)
	l.Due(l.Now())
	for d, want := range map[time.Duration]int{0: 0, 4 * time.Hour: 1} {
		if list, err := l.Overdue(l.Now().Add(d)); err != nil || len(list) != want || want > 0 && list[0].ID != s.ID {
			t.Errorf("%v later: %+v, %v", d, list, err)
		}
	}
}

// The clock goes back in the middle of a job: how long it took is no less than nothing.
func TestClock_GoesBackInTheMiddleOfAJob(t *testing.T) {
	h := newHouse(inMemory(t))
	w := newWall()
	l := h.start(t, h.gate, func(o *job.Options) { job.SetClock(o, w.now) })
	j := l.create(t)
	h.atGate(t)
	w.add(-year)
	h.openGate(t)
	got := l.want(t, j.ID, job.Completed)
	if took := got.FinishedAt.Sub(got.StartedAt); took <= 0 || took > time.Minute {
		t.Errorf("it took %v", took)
	}
	l.stop()
	l = h.still(t)
	if got, err := l.Job(j.ID); err != nil || got.FinishedAt.Before(got.StartedAt) {
		t.Errorf("written down: from %v to %v, %v", got.StartedAt, got.FinishedAt, err)
	}
}

// A backup that a clock made that was ahead is none on whose account others may go.
func TestExpired_WhatWasMadeInTimesToComeLetsNothingGo(t *testing.T) {
	list := backups("c5 c5 c5 c5 c5")
	now := day0.AddDate(0, 0, 20)
	future := list[0]
	future.ID, future.CreatedAt, future.ExpiresAt = "zz", now.AddDate(10, 0, 0), now.AddDate(10, 0, 5)
	if got := job.Expired(append(list, future), now, 1, 0); len(got) != 3 || got[0] != "00" || got[2] != "02" {
		t.Errorf("got %v: the newest of the right clock is to stay", got)
	}
	if got := job.Expired([]job.Backup{list[4], future}, now, 1, 0); len(got) != 0 {
		t.Errorf("got %v, want the last of the right clock kept", got)
	}
	for i := range list {
		list[i].CreatedAt, list[i].ExpiresAt = list[i].CreatedAt.AddDate(2, 0, 0), list[i].ExpiresAt.AddDate(2, 0, 0)
	}
	if got := job.Expired(list, now, 1, 0); len(got) != 0 {
		t.Errorf("got %v by a clock that went back behind all of them", got)
	}
}
