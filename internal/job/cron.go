package job

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/adhocore/gronx"
)

// maxCron bounds a cron expression in bytes.
const maxCron = 200

// words are the expressions with a name.
var words = map[string]string{
	"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
	"@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}

// cronNames are what a month or a day of the week may be called.
const cronNames = `(?:JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC|SUN|MON|TUE|WED|THU|FRI|SAT)`

// cronField is one field as the cron of Vixie knows it. The library takes more
// (L, W, #, ?); what is not promised can not break.
var cronField = regexp.MustCompile(`^(?i:(?:\*|(?:\d+|` + cronNames + `)(?:-(?:\d+|` + cronNames + `))?)(?:/\d+)?(?:,|$))+$`)

// CheckCron tells what is wrong with an expression: five fields (minute, hour,
// day of the month, month, day of the week) as cron has them, or @hourly,
// @daily, @weekly, @monthly, @yearly.
func CheckCron(expr string) error {
	fields, err := fieldsOf(expr)
	if err != nil {
		return err
	}
	if next := nextRun(fields, time.Now(), time.UTC); next.IsZero() {
		return fmt.Errorf("%q never comes", expr)
	}
	return nil
}

func fieldsOf(expr string) (string, error) {
	if len(expr) > maxCron {
		return "", fmt.Errorf("longer than %d bytes", maxCron)
	}
	expr = strings.TrimSpace(expr)
	if full, ok := words[strings.ToLower(expr)]; ok {
		return full, nil
	}
	fields := strings.Fields(expr)
	if len(fields) != 5 {
		return "", fmt.Errorf("%q has %d fields, want five: minute, hour, day of the month, month, day of the week; or @daily and the like", expr, len(fields))
	}
	for _, f := range fields {
		if !cronField.MatchString(f) || strings.HasSuffix(f, ",") {
			return "", fmt.Errorf("%q is no field of a cron expression: numbers, *, lists 1,2, ranges 1-5 and steps */10 are", f)
		}
	}
	expr = strings.ToUpper(strings.Join(fields, " "))
	if !gronx.IsValid(expr) {
		return "", fmt.Errorf("%q is no cron expression: minute 0-59, hour 0-23, day 1-31, month 1-12, day of the week 0-7", expr)
	}
	return expr, nil
}

// nextRun returns the first time after t that five fields name in a zone, the
// zero time when there is none within the coming years.
//
// Clocks are changed as in the cron of Debian: where the hour is left open (*)
// the jobs of real hours come, none twice and none left out; where it is named,
// a job comes once a day, one whose time does not exist right behind the gap,
// one whose time comes twice the first time. The library is asked only about
// clocks that nobody changes.
func nextRun(fields string, t time.Time, zone *time.Location) time.Time {
	if strings.HasPrefix(strings.Fields(fields)[1], "*") {
		return nextOpen(fields, t, zone)
	}
	for wall := wallClock(t.In(zone)); ; {
		next := tickAfter(fields, wall)
		if next.IsZero() {
			return next
		}
		if at := onWall(next, zone); at.After(t) {
			return at
		}
		wall = next
	}
}

// nextOpen is nextRun where the hour is open. It looks at one stretch of time
// without a change of clocks after the other.
func nextOpen(fields string, t time.Time, zone *time.Location) time.Time {
	for until := t.AddDate(maxYears, 0, 0); t.Before(until); {
		local := t.In(zone)
		next := tickAfter(fields, wallClock(local))
		if next.IsZero() {
			return next
		}
		_, end := local.ZoneBounds()
		_, offset := local.Zone()
		at := next.Add(-time.Duration(offset) * time.Second).In(zone)
		if end.IsZero() || at.Before(end) {
			return at
		}
		// The first tick may be the very moment of the change.
		if first := wallClock(end.In(zone)); tickAfter(fields, first.Add(-time.Second)).Equal(first) {
			return end.In(zone)
		}
		t = end
	}
	return time.Time{}
}

// maxYears is how far ahead a run may lie: the 29th of February comes after
// eight years at times.
const maxYears = 10

// tickAfter asks the library about a clock that nobody changes.
func tickAfter(fields string, wall time.Time) time.Time {
	next, err := gronx.NextTickAfter(fields, wall, false)
	if err != nil {
		return time.Time{}
	}
	return next.Truncate(time.Minute)
}

// wallClock is what the clock on the wall shows, as a time of UTC.
func wallClock(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// onWall returns when the clocks of a zone first show what wall says: the end of
// the gap when they never do.
func onWall(wall time.Time, zone *time.Location) time.Time {
	at := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), 0, 0, zone)
	if h, m, _ := at.Clock(); h != wall.Hour() || m != wall.Minute() {
		// In the gap Go takes one of the two offsets; the change lies between.
		_, end := at.Add(-24 * time.Hour).ZoneBounds()
		return end
	}
	// Of two, the earlier.
	start, _ := at.ZoneBounds()
	if !start.IsZero() {
		_, now := at.Zone()
		_, then := start.Add(-time.Second).Zone()
		if earlier := at.Add(time.Duration(now-then) * time.Second); then > now && earlier.Before(start) {
			return earlier
		}
	}
	return at
}
