package job_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/job"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	must(t, err)
	return z
}

var zones = []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"}

// walk returns all runs in [from, to).
func walk(t testing.TB, expr string, from, to time.Time, z *time.Location) (runs []time.Time) {
	t.Helper()
	at := from.Add(-time.Second)
	for {
		next, err := job.NextRun(expr, at, z)
		must(t, err)
		if next.IsZero() || !next.Before(to) {
			return runs
		}
		if !next.After(at) {
			t.Fatalf("%q in %s: %v comes not after %v", expr, z, next, at)
		}
		runs = append(runs, next)
		at = next
	}
}

// matches is cron's own rule, written down anew: which minutes an expression
// names.
func matches(expr string, t time.Time) bool {
	f := strings.Fields(expr)
	in := func(i, v, least, most int) bool {
		for item := range strings.SplitSeq(f[i], ",") {
			item, step, stepped := strings.Cut(item, "/")
			by := 1
			if stepped {
				by, _ = strconv.Atoi(step)
			}
			lo, hi := least, most
			if item != "*" {
				a, b, ranged := strings.Cut(item, "-")
				lo, _ = strconv.Atoi(a)
				hi = lo
				if ranged {
					hi, _ = strconv.Atoi(b)
				} else if stepped {
					hi = most
				}
			}
			if v >= lo && v <= hi && (v-lo)%by == 0 {
				return true
			}
		}
		return false
	}
	day, week := in(2, t.Day(), 1, 31), in(4, int(t.Weekday()), 0, 6) || in(4, int(t.Weekday())+7, 0, 7) && t.Weekday() == 0
	date := day && week
	if !strings.HasPrefix(f[2], "*") && !strings.HasPrefix(f[4], "*") {
		date = day || week
	}
	return in(0, t.Minute(), 0, 59) && in(1, t.Hour(), 0, 23) && in(3, int(t.Month()), 1, 12) && date
}

// Random expressions, minute by minute, on a clock that nobody changes.
func TestCron_IsWhatCronSays(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	field := func(least, most int) string {
		n := func() int { return least + rng.IntN(most-least+1) }
		switch rng.IntN(7) {
		case 0, 1, 2:
			return "*"
		case 3:
			return fmt.Sprint("*/", 1+rng.IntN(most))
		case 4:
			a, b := n(), n()
			return fmt.Sprintf("%d-%d", min(a, b), max(a, b))
		case 5:
			return fmt.Sprintf("%d,%d,%d", n(), n(), n())
		}
		return fmt.Sprint(n())
	}
	from := time.Date(2028, 2, 20, 0, 0, 0, 0, time.UTC)
	to := from.AddDate(0, 0, 40)
	rounds := 30
	if testing.Short() {
		rounds = 20
	}
	for range rounds {
		expr := strings.Join([]string{field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6)}, " ")
		runs := make(map[time.Time]bool)
		for _, r := range walk(t, expr, from, to, time.UTC) {
			runs[r] = true
		}
		for at := from; at.Before(to); at = at.Add(time.Minute) {
			if got, want := runs[at], matches(expr, at); got != want {
				t.Errorf("%q at %v: got %v, want %v", expr, at, got, want)
				break
			}
		}
	}
}

// A simulated year, hour by hour. Where the hour is open every real hour has its
// run; where it is named every day has one, at that time if it exists.
func TestCron_AYearInEachZone(t *testing.T) {
	for _, name := range zones {
		z := zone(t, name)
		for _, year := range []int{2028} {
			from, to := time.Date(year, 1, 1, 0, 0, 0, 0, z), time.Date(year+1, 1, 1, 0, 0, 0, 0, z)
			for _, expr := range []string{"@hourly", "30 * * * *"} {
				minute, _ := strconv.Atoi(expr[:strings.IndexAny(expr, " y")])
				var want []time.Time
				for at := from; at.Before(to); at = at.Add(time.Minute) {
					if at.Minute() == minute {
						want = append(want, at)
					}
				}
				got := walk(t, expr, from, to, z)
				if len(got) != len(want) {
					t.Errorf("%s %d %q: got %d runs, want %d", name, year, expr, len(got), len(want))
				}
				for i := range min(len(got), len(want)) {
					if !got[i].Equal(want[i]) {
						t.Errorf("%s %d %q: run %d is at %v, want %v", name, year, expr, i, got[i], want[i])
						break
					}
				}
			}
			for _, hour := range []int{0, 1, 2, 3, 23} {
				for _, minute := range []int{0, 30} {
					expr := fmt.Sprintf("%d %d * * *", minute, hour)
					got := walk(t, expr, from, to, z)
					day := from
					for i := 0; day.Before(to); i, day = i+1, time.Date(year, 1, 2+i, 0, 0, 0, 0, z) {
						want := firstShowing(day, hour, minute, z)
						if i >= len(got) || !got[i].Equal(want) {
							t.Errorf("%s %q on %v: got %v, want %v", name, expr, day.Format(time.DateOnly), got[min(i, len(got)-1)], want)
							break
						}
					}
					if days := int(to.Sub(from).Hours()+12) / 24; len(got) != days {
						t.Errorf("%s %d %q: got %d runs in %d days", name, year, expr, len(got), days)
					}
				}
			}
		}
	}
}

// firstShowing is the first minute of a day at which the clock shows that time
// or has passed it.
func firstShowing(day time.Time, hour, minute int, z *time.Location) time.Time {
	for at := day; ; at = at.Add(time.Minute) {
		if at.Day() != day.Day() || at.Hour()*60+at.Minute() >= hour*60+minute {
			return at
		}
	}
}

// The nights of the changes, to the minute.
func TestCron_WhenClocksChange(t *testing.T) {
	for _, c := range []struct{ zone, expr, from, to, want string }{
		{"Europe/Berlin", "30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z", "2026-03-29T01:00:00Z 2026-03-30T00:30:00Z"}, // the gap: at its end
		{"Europe/Berlin", "*/20 2 * * *", "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z", "2026-03-29T01:00:00Z"},                    // once, not three times
		{"Europe/Berlin", "30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z", "2026-10-25T00:30:00Z 2026-10-26T01:30:00Z"}, // the overlap: the first
		{"Europe/Berlin", "30 2 * * *", "2026-10-25T00:31:00Z", "2026-10-25T12:00:00Z", ""},
		{"Europe/Berlin", "30 * 25 10 *", "2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z", "2026-10-24T23:30:00Z 2026-10-25T00:30:00Z 2026-10-25T01:30:00Z 2026-10-25T02:30:00Z"},
		{"America/New_York", "0 2 * * *", "2026-03-08T00:00:00Z", "2026-03-08T23:00:00Z", "2026-03-08T07:00:00Z"},
		{"America/New_York", "0 1 * * *", "2026-11-01T00:00:00Z", "2026-11-01T23:00:00Z", "2026-11-01T05:00:00Z"},
		{"Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00:00Z", "2026-10-03T23:00:00Z", "2026-10-03T15:30:00Z"}, // half an hour is left out
		{"Australia/Lord_Howe", "45 1 * * *", "2026-04-04T12:00:00Z", "2026-04-04T23:00:00Z", "2026-04-04T14:45:00Z"}, // and comes twice
		{"Australia/Lord_Howe", "*/15 * * * *", "2026-04-04T14:30:00Z", "2026-04-04T15:30:00Z", "2026-04-04T14:30:00Z 2026-04-04T14:45:00Z 2026-04-04T15:00:00Z 2026-04-04T15:15:00Z"},
	} {
		from, err := time.Parse(time.RFC3339, c.from)
		must(t, err)
		to, err := time.Parse(time.RFC3339, c.to)
		must(t, err)
		var got []string
		for _, r := range walk(t, c.expr, from, to, zone(t, c.zone)) {
			got = append(got, r.UTC().Format(time.RFC3339))
		}
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("%s %q: got %s, want %s", c.zone, c.expr, g, c.want)
		}
	}
}

func TestCheckCron_TakesWhatCronTakes(t *testing.T) {
	for _, good := range []string{"0 2 * * *", "*/15 * * * *", "@daily", "@Hourly", "@weekly", "@monthly", "@yearly", "@annually", "@midnight", "0 2 * * SUN",
		"0 2 * jan-mar MON-FRI", "0 0 29 2 *", "0 0 31 * *", " 5  4 * * 7 ", "0,30 8-18/2 1,15 */2 1-5"} {
		if err := job.CheckCron(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *", "* * * * 8", "@reboot", "@every 5m",
		"0 0 30 2 *", "0 0 L * *", "0 0 15W * *", "* * * * 5#2", "? * * * *", "a b c d e", "1,, * * * *", "1- * * * *", "*/0 * * * *", "*/ * * * *", "-1 * * * *", "1,2, * * * *",
		strings.Repeat("1,", 200) + "1 * * * *", "\x00 * * * *"} {
		if err := job.CheckCron(bad); err == nil {
			next, _ := job.NextRun(bad, time.Now(), time.UTC)
			t.Errorf("%q was taken: next %v", bad, next)
		}
	}
}

func FuzzCron(f *testing.F) {
	f.Add("*/5 1-3 * FEB MON", int64(1_772_000_000), uint8(1))
	f.Add("0 0 29 2 *", int64(4_000_000_000), uint8(3))
	f.Fuzz(func(t *testing.T, expr string, at int64, z uint8) {
		if job.CheckCron(expr) != nil || at < 0 || at > 1<<33 {
			return
		}
		from := time.Unix(at, 0)
		next, err := job.NextRun(expr, from, zone(t, zones[int(z)%len(zones)]))
		if err != nil || !next.IsZero() && (!next.After(from) || next.Second() != 0) {
			t.Errorf("%q behind %v: %v, %v", expr, from, next, err)
		}
	})
}
