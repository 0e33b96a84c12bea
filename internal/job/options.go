package job

import (
	"log/slog"
	"time"

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
	Staging string         // a directory of the daemon's own for what sources make ready; emptied at start
	Program string

	Minimum int // backups that expiry leaves of each schedule, and of those without one
	GC      GCPolicy
	Verify  VerifyPolicy

	Readers int // restores and verifications at the same time; 0 for 2
	Waiting int // jobs that may wait; 0 for 1000

	Observer Observer // nil: nobody counts
	Logger   *slog.Logger
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
	Before, After []string // commands with their arguments; no shell
}

// Target is a place restores can go to.
type Target struct {
	Name string
	Path string
}

// Observer is told what metrics count. Its methods return at once.
type Observer interface {
	JobDone(Job)
	QueueChanged(waiting, running int)
}

const (
	defaultReaders = 2
	defaultWaiting = 1000
	// attempts is how often an interrupted backup is begun again by itself.
	attempts = 5
)
