package job

import (
	"time"

	"github.com/generalbots/backupd/internal/restore"
	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/repo"
)

// Kind is what a job does. It begins the id of a job, which ends in a
// lower-case ULID: "restore-01j9…". A backup's job and its snapshot have one id.
type Kind string

// The kinds of jobs.
const (
	KindBackup  Kind = "backup"
	KindRestore Kind = "restore"
	KindVerify  Kind = "verify"
	KindGC      Kind = "gc"
)

// State is how far a job is.
type State string

// The states of a job. All but the first two are final, apart from Interrupted
// of a job that is queued again at the next start.
const (
	Pending               State = "pending"
	InProgress            State = "in_progress"
	Completed             State = "completed"
	CompletedWithProblems State = "completed_with_problems"
	Failed                State = "failed"
	Interrupted           State = "interrupted"
	Cancelled             State = "cancelled"
)

// Over tells whether nothing more will become of a job in this state, whatever
// its kind. An Interrupted job may be over too; see [Job.Over].
func (s State) Over() bool { return s != Pending && s != InProgress && s != Interrupted }

// Over tells whether nothing more will become of this job. Of interrupted ones
// only backups go on, at the next start.
func (job *Job) Over() bool { return !job.FinishedAt.IsZero() }

// Job is one job as it stands.
type Job struct {
	ID         string
	Kind       Kind
	State      State
	BackupID   string // made, restored from or verified; empty for gc
	Target     string // of a restore
	ScheduleID string // that asked for it; empty when somebody did
	Actor      string // who asked
	RequestID  string // in which call
	Attempts   int    // how often it was begun

	CreatedAt, StartedAt, FinishedAt time.Time // zero while it has not come to that

	ErrorCode    string // snake_case, of a job that failed; see Failure
	ErrorMessage string // what happened and what to do

	Backup  *BackupRequest  // of a backup
	Restore *RestoreRequest // of a restore

	Snapshot      *repo.Manifest    // of a backup that made one, without its problems
	RestoreReport *restore.Report   // of a restore that began
	CheckReport   *repo.CheckReport // of a verification
	GCReport      *repo.GCReport    // of a gc

	Progress *Progress // while it runs
	Position int       // in the queue, 1 is next; 0 when it is not in it
}

// Progress is how far a running job is.
type Progress struct {
	Phase      string // one word
	Files      int64
	FilesTotal int64 // 0 while unknown
	Bytes      int64
	BytesTotal int64 // 0 while unknown
	Problems   int64
	Rate       float64       // bytes a second, over the last seconds
	Left       time.Duration // -1 while unknown
}

// Percent is the part that is done, 0 to 100; 0 while the total is unknown.
func (p *Progress) Percent() float64 {
	if p == nil || p.BytesTotal <= 0 {
		return 0
	}
	return min(100, 100*float64(p.Bytes)/float64(p.BytesTotal))
}

// BackupRequest asks for a backup.
type BackupRequest struct {
	Type            string   // full, incremental, differential; "" is incremental
	IncludeFiles    bool     // sources of the kinds files and s3
	IncludeDatabase bool     // sources of the kinds postgres, sqlite and qdrant
	Sources         []string // names; empty for all of the kinds above
	Tags            []string
	RetentionDays   int // 0: kept until somebody deletes it
	ScheduleID      string
}

// RestoreRequest asks for a restore.
type RestoreRequest struct {
	Target     string   // name of a configured target; "" is "staging"
	Paths      []string // of the snapshot; empty for all
	Sources    []string // parts; empty for all
	Overwrite  string   // "never" (default), "if-changed", "always"
	DryRun     bool
	Privileged bool // setuid bits, devices, capabilities and trusted attributes too
}

// Backup is a backup as listings show it: a snapshot of the repository, or a job
// that has not made one, or both.
type Backup struct {
	ID         string
	Type       string
	State      State
	BaseID     string
	Host       string
	Tags       []string
	ScheduleID string
	Actor      string

	CreatedAt, StartedAt, FinishedAt time.Time
	ExpiresAt                        time.Time // zero: never
	Size                             int64     // bytes of all files
	Stored                           int64     // bytes by which the repository grew

	Verification Verification
	Manifest     *repo.Manifest // nil without a snapshot; with problems only from Jobs.Backup
	Job          *Job           // nil of a snapshot that no job of this daemon made

	ErrorCode, ErrorMessage string
}

// Verification says what is known about whether a backup can be restored.
type Verification struct {
	State   string // "unverified", "verified", "verification_failed"
	At      time.Time
	JobID   string
	Message string
}

// By is who asks for something, and what is to be written down with it.
type By struct {
	Actor     string
	RequestID string
	// Also is called within the transaction that makes a job durable, so that
	// what it writes and the job are both there after a crash, or neither. Nil
	// writes nothing.
	Also func(tx *state.Tx, job Job) error
}

// Schedule asks for backups at certain times.
type Schedule struct {
	ID              string
	Name            string
	Cron            string // five fields, or @daily and the like
	Type            string
	Timezone        string // IANA name
	IncludeFiles    bool
	IncludeDatabase bool
	Sources, Tags   []string
	RetentionDays   int
	Enabled         bool

	CreatedAt, UpdatedAt time.Time
	NextRun              time.Time // zero when it is not enabled
	LastRun              time.Time // when the last backup of it was asked for
	LastStatus           string    // state of that backup; "" before the first
	LastBackupID         string
	LastSuccess          time.Time
}

// ScheduleChange is a new schedule, or what is to be changed of one: nil fields
// stay as they are, or get their default.
type ScheduleChange struct {
	Name, Cron, Type, Timezone    *string
	IncludeFiles, IncludeDatabase *bool
	Sources, Tags                 *[]string
	RetentionDays                 *int
	Enabled                       *bool
}

// SourceInfo and TargetInfo are what the configuration names, for people and
// scripts that choose among them.
type SourceInfo struct {
	Name, Kind  string
	Paths       []string
	LastBackup  string
	LastSuccess time.Time
}

// TargetInfo is a place restores can go to.
type TargetInfo struct {
	Name, Path string
	BusyWith   string // id of the restore that is running there
}

// Filter selects jobs or backups. The zero value selects all.
type Filter struct {
	Kinds      []Kind
	States     []State
	Types      []string
	Source     string
	Tag        string
	ScheduleID string
	Since      time.Time // created at or after
	Until      time.Time // created before
	Limit      int       // 0: no limit
	Offset     int
}
