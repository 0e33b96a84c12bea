package metrics

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Facts are how things stand.
type Facts struct {
	Sources   map[string]time.Time // by name, when a backup of it last succeeded; zero: never
	Schedules map[string]Schedule  // by id
	Backups   int                  // that can be restored

	StoredBytes int64 // of all packs
	FreeBytes   int64 // of the repository's file system, for the daemon; -1: not known

	// Verified is when the backup that was not verified for the longest time was
	// verified last, or made if it never was; zero without backups.
	Verified time.Time
	// VerificationFailed is how many backups did not pass when they were verified last.
	VerificationFailed int
}

// Schedule is how one schedule stands.
type Schedule struct {
	Name        string
	LastSuccess time.Time // zero: never
	NextRun     time.Time // zero: not enabled
}

// factsCollector asks for the facts when somebody looks.
type factsCollector struct {
	read  func() Facts
	every time.Duration

	mu    sync.Mutex // guards all below, and lets one caller read at a time
	facts Facts
	at    time.Time
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	sourceTime   = desc("backupd_source_last_success_timestamp_seconds", "When the source was last backed up without failing; 0 for never.", "source")
	sourceAge    = desc("backupd_source_last_success_age_seconds", "How long ago that was, at this look; +Inf for never.", "source")
	scheduleTime = desc("backupd_schedule_last_success_timestamp_seconds", "When a backup of the schedule last succeeded; 0 for never.", "schedule", "name")
	scheduleAge  = desc("backupd_schedule_last_success_age_seconds", "How long ago that was, at this look; +Inf for never.", "schedule", "name")
	scheduleNext = desc("backupd_schedule_next_run_timestamp_seconds", "When the schedule is due; 0 when it is not enabled.", "schedule", "name")
	backups      = desc("backupd_backups", "Backups that are in the repository and not deleted.")
	storedBytes  = desc("backupd_repository_stored_bytes", "Bytes of all packs in the repository.")
	freeBytes    = desc("backupd_repository_free_bytes", "Free bytes of the repository's file system.")
	verifiedTime = desc("backupd_verification_oldest_timestamp_seconds", "When the backup that waited longest was verified, or made if it never was; 0 without backups.")
	verifiedAge  = desc("backupd_verification_oldest_age_seconds", "How long ago that was, at this look.")
	unsound      = desc("backupd_verification_failed_backups", "Backups that did not pass when they were verified last.")
)

// Describe names what Collect gives.
func (f *factsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{sourceTime, sourceAge, scheduleTime, scheduleAge, scheduleNext, backups, storedBytes, freeBytes, verifiedTime, verifiedAge, unsound} {
		ch <- d
	}
}

// Collect gives the facts, and the ages as of now.
func (f *factsCollector) Collect(ch chan<- prometheus.Metric) {
	facts := f.current()
	now := time.Now()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, name := range slices.Sorted(maps.Keys(facts.Sources)) {
		gauge(sourceTime, moment(facts.Sources[name]), name)
		gauge(sourceAge, age(facts.Sources[name], now), name)
	}
	for _, id := range slices.Sorted(maps.Keys(facts.Schedules)) {
		s := facts.Schedules[id]
		gauge(scheduleTime, moment(s.LastSuccess), id, s.Name)
		gauge(scheduleAge, age(s.LastSuccess, now), id, s.Name)
		gauge(scheduleNext, moment(s.NextRun), id, s.Name)
	}
	gauge(backups, float64(facts.Backups))
	gauge(storedBytes, float64(facts.StoredBytes))
	if facts.FreeBytes >= 0 {
		gauge(freeBytes, float64(facts.FreeBytes))
	}
	gauge(verifiedTime, moment(facts.Verified))
	if !facts.Verified.IsZero() {
		gauge(verifiedAge, age(facts.Verified, now))
	}
	gauge(unsound, float64(facts.VerificationFailed))
}

// current are facts no older than every, by the clock that nobody sets: both times
// are of this process.
func (f *factsCollector) current() Facts {
	f.mu.Lock()
	defer f.mu.Unlock()
	if since := time.Since(f.at); f.at.IsZero() || since >= f.every {
		f.facts, f.at = f.read(), time.Now()
	}
	return f.facts
}
