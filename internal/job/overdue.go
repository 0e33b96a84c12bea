package job

import "time"

// overdueAfter is how long past its second missed time a schedule is overdue: the
// backup of that time may still run.
const overdueAfter = time.Hour

// Overdue returns the schedules that are to be worried about: those enabled of
// which two times in a row have passed, the second an hour ago, without a backup
// that succeeded. It counts from the last that did, or from when the schedule was
// made or changed.
func (j *Jobs) Overdue(now time.Time) ([]Schedule, error) {
	list, err := j.Schedules()
	if err != nil {
		return nil, err
	}
	var out []Schedule
	for _, s := range list {
		if s.Enabled && overdue(&s, now) {
			out = append(out, s)
		}
	}
	return out, nil
}

func overdue(s *Schedule, now time.Time) bool {
	fields, err := fieldsOf(s.Cron)
	if err != nil {
		return false // what is written down was checked
	}
	zone, err := time.LoadLocation(s.Timezone)
	if err != nil {
		return false
	}
	at := s.CreatedAt
	for _, t := range []time.Time{s.UpdatedAt, s.LastSuccess} {
		// What a clock said that was ahead counts for nothing: it would be overdue
		// only when that time has come.
		if !t.IsZero() && !ahead(t, now) && (t.After(at) || ahead(at, now)) {
			at = t
		}
	}
	// Most schedules are not: the next two times are looked up for those only that
	// could be.
	if now.Sub(at) < overdueAfter {
		return false
	}
	for range 2 {
		if at = nextRun(fields, at, zone); at.IsZero() {
			return false
		}
	}
	return now.Sub(at) >= overdueAfter
}
