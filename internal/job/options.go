package job

import (
	"log/slog"
	"time"

	"github.com/generalbots/backupd/internal/pace"
	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/repo"
)

// Options are what Jobs works with.
type Options struct {
	Repo    *repo.Repo // used by nobody else while Run runs
	State   *state.DB
	Sources []Source
	Targets []Target
	Host    string
	Zone    *time.Location // of schedules that name none
	Staging string         // an absolute directory of the daemon's own for what sources make ready; what they left there is removed at start
	Program string

	Minimum int // backups that expiry leaves of each schedule, and of those without one
	GC      GCPolicy
	Verify  VerifyPolicy

	Readers int // restores at the same time; 0 for 2
	Waiting int // jobs that may wait; 0 for 1000

	// History is how long jobs are remembered that are over, 0 for a year. That of
	// a backup is remembered for as long as there is the backup.
	History time.Duration

	// Pace is kept by all jobs together; nil for none. Priority is that of the
	// threads of backups, verifications and gc: for a restore somebody waits.
	Pace     *pace.Pace
	Priority pace.Priority

	Observer Observer // nil: nobody counts
	Auditor  Auditor  // nil: nobody keeps an audit
	Logger   *slog.Logger

	now func() time.Time // of tests; nil is the clock of the process
}

// GCPolicy says when space is reclaimed.
type GCPolicy struct {
	Cron    string // five fields or @daily and the like; "" never by itself
	MinFree int64  // bytes; below it gc runs when there is something to reclaim, at most once an hour
}

// VerifyPolicy says when backups are read again.
type VerifyPolicy struct {
	AfterBackup bool
	Every       time.Duration // of the whole repository; 0 never by itself
}

// Source is something that is backed up, as the configuration names it.
type Source struct {
	Name          string
	Kind          string // "files", "sqlite"
	Profile       string // "" for the kind's own
	Paths         []string
	Exclude       []string
	ExcludeCaches bool
	OneFileSystem bool
	Before, After []string      // commands with their arguments; no shell
	HookTimeout   time.Duration // of each of them; 0 for ten minutes
}

// Target is a place restores can go to.
type Target struct {
	Name string
	Path string
}

// Observer is told what metrics count. Its methods return at once.
// They may be called while locks are held, and must not call Jobs.
type Observer interface {
	// JobDone is told of each job that is over, or interrupted.
	JobDone(Job)
	// QueueChanged is told how many jobs wait and how many run.
	QueueChanged(waiting, running int)
}

// Auditor is told what the daemon does that nobody asked for in a call: backups
// of schedules, expiry, upkeep.
type Auditor interface {
	// Acted is told after it was done. It may take its time, but must not call Jobs.
	Acted(Act)
}

// Act is something the daemon did by itself.
type Act struct {
	Actor    string // "schedule" or "backupd"
	Action   string // "backup.create", "backup.expire", "gc.create", "verify.create"
	Resource string // the job or backup
	Detail   string // the schedule, if it was one
}

const (
	defaultReaders = 2
	defaultWaiting = 1000
	defaultHistory = 365 * 24 * time.Hour
	// attempts is how often a backup may find the daemon dead before it is no
	// longer begun again by itself.
	attempts = 5
)
