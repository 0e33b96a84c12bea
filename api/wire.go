package api

import (
	"fmt"
	"time"
)

// The types below are what stands on the wire. Every field is always there: what
// is not known, or has not happened, is null. Times are RFC 3339 in UTC, sizes
// and rates bytes.

// Backup is a backup in a list, and the beginning of its details.
type Backup struct {
	ID           string       `json:"id"`
	BackupID     string       `json:"backup_id"` // the same
	Type         string       `json:"type"`
	Status       string       `json:"status"`
	CreatedAt    time.Time    `json:"created_at"`
	StartedAt    *time.Time   `json:"started_at"`
	FinishedAt   *time.Time   `json:"finished_at"`
	Size         string       `json:"size"` // of its files, for people: "1.2 GiB"
	SizeBytes    int64        `json:"size_bytes"`
	StoredBytes  int64        `json:"stored_bytes"` // by which the repository grew
	BaseID       *string      `json:"base_id"`
	Host         string       `json:"host"`
	Sources      []string     `json:"sources"`
	Tags         []string     `json:"tags"`
	ScheduleID   *string      `json:"schedule_id"`
	ExpiresAt    *time.Time   `json:"expires_at"`
	ProblemCount uint64       `json:"problem_count"`
	Verification Verification `json:"verification"`
	Failure      *Failure     `json:"failure"`
}

// BackupDetails is all that is known of one backup.
type BackupDetails struct {
	Backup
	Actor    *string   `json:"actor"` // who asked for it
	Program  *string   `json:"program"`
	Progress *Progress `json:"progress"` // while it runs
	Position int       `json:"position"` // in the queue, 1 is next; 0 when it does not wait
	Parts    []Part    `json:"parts"`
	Counts   Counts    `json:"counts"`
	Problems []Problem `json:"problems"` // the first 1000
}

// Verification is what is known about whether a backup can be restored.
type Verification struct {
	Status  string     `json:"status"` // unverified, verified, verification_failed
	At      *time.Time `json:"at"`
	JobID   *string    `json:"job_id"`
	Message *string    `json:"message"`
}

// Failure is why a job has not done what it was to do.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Part is what a backup holds of one source.
type Part struct {
	Source     string    `json:"source"`
	Kind       string    `json:"kind"`
	Profile    string    `json:"profile"`
	Paths      []string  `json:"paths"`
	Exclude    []string  `json:"exclude"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	BaseID     *string   `json:"base_id"`
	Notes      []string  `json:"notes"`
	Failed     bool      `json:"failed"`
	Counts     Counts    `json:"counts"`
}

// Counts is what a backup did, in entries and bytes.
type Counts struct {
	Files       uint64 `json:"files"` // all that are not directories
	Dirs        uint64 `json:"dirs"`
	New         uint64 `json:"new"`
	Changed     uint64 `json:"changed"`
	Removed     uint64 `json:"removed"`
	Unchanged   uint64 `json:"unchanged"`
	BytesTotal  int64  `json:"bytes_total"`
	BytesRead   int64  `json:"bytes_read"`
	BytesNew    int64  `json:"bytes_new"`
	BytesStored int64  `json:"bytes_stored"`
}

// Path is where something lies. Where it is not UTF-8, Path has other characters in
// their place and Raw has the bytes, in base64.
type Path struct {
	Path string  `json:"path"`
	Raw  *string `json:"path_base64"`
}

// Problem is something that could not be done, or not done well.
type Problem struct {
	Path
	Op      string `json:"op"`
	Message string `json:"message"`
}

// Deleted says that something is gone.
type Deleted struct {
	ID      string `json:"id"`
	Deleted bool   `json:"deleted"`
}

// Progress is how far a job is.
type Progress struct {
	Phase          string  `json:"phase"`
	Files          int64   `json:"files"`
	FilesTotal     int64   `json:"files_total"` // 0 while unknown
	Bytes          int64   `json:"bytes"`
	BytesTotal     int64   `json:"bytes_total"` // 0 while unknown
	Problems       int64   `json:"problems"`
	Percent        float64 `json:"percent"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	ETASeconds     *int64  `json:"eta_seconds"`
}

// Job is a job in a list, and the beginning of its details.
type Job struct {
	ID         string     `json:"id"`
	JobID      string     `json:"job_id"` // the same
	Kind       string     `json:"kind"`
	Status     string     `json:"status"`
	BackupID   *string    `json:"backup_id"`
	Target     *string    `json:"target"`
	ScheduleID *string    `json:"schedule_id"`
	Actor      string     `json:"actor"`
	RequestID  *string    `json:"request_id"`
	Attempts   int        `json:"attempts"`
	Position   int        `json:"position"`
	CreatedAt  time.Time  `json:"created_at"`
	StartedAt  *time.Time `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at"`
	Progress   *Progress  `json:"progress"`
	Failure    *Failure   `json:"failure"`
}

// JobDetails is all that is known of one job. The reports that are not of its kind
// are null.
type JobDetails struct {
	Job
	Restore *RestoreReport `json:"restore_report"`
	Verify  *VerifyReport  `json:"verify_report"`
	GC      *GCReport      `json:"gc_report"`
}

// Restore is how a restore is doing.
type Restore struct {
	ID           string         `json:"id"`
	JobID        string         `json:"job_id"` // the same
	BackupID     string         `json:"backup_id"`
	Target       string         `json:"target"`
	Status       string         `json:"status"`
	Overwrite    string         `json:"overwrite"`
	DryRun       bool           `json:"dry_run"`
	Position     int            `json:"position"`
	CreatedAt    time.Time      `json:"created_at"`
	StartedAt    *time.Time     `json:"started_at"`
	FinishedAt   *time.Time     `json:"finished_at"`
	Progress     Progress       `json:"progress"`
	Failure      *Failure       `json:"failure"`
	Report       *RestoreReport `json:"report"`
	Problems     []Problem      `json:"problems"`
	ProblemCount uint64         `json:"problem_count"`
}

// RestoreReport is what came of a restore. Its lists hold the first 1000.
type RestoreReport struct {
	Files         uint64    `json:"files"`
	Dirs          uint64    `json:"dirs"`
	Links         uint64    `json:"links"`
	Symlinks      uint64    `json:"symlinks"`
	Specials      uint64    `json:"specials"`
	Bytes         int64     `json:"bytes"`
	Identical     uint64    `json:"identical"`
	Existing      []string  `json:"existing"` // left alone, as something stands there
	ExistingCount uint64    `json:"existing_count"`
	LeftOff       []Problem `json:"left_off"` // needs privileges the run did not have
	LeftOffCount  uint64    `json:"left_off_count"`
	Problems      []Problem `json:"problems"`
	ProblemCount  uint64    `json:"problem_count"`
	Damaged       uint64    `json:"damaged"` // of the problems, the repository's
	Notes         []string  `json:"notes"`
}

// VerifyReport is what reading the repository found. Its lists hold the first 1000.
type VerifyReport struct {
	Sound     bool      `json:"sound"`
	Snapshots int       `json:"snapshots"`
	Packs     int       `json:"packs"`
	PackBytes int64     `json:"pack_bytes"`
	Findings  []Finding `json:"findings"`
	Damaged   []Damaged `json:"damaged_files"`
	Truncated bool      `json:"truncated"`
}

// Finding is something wrong in the repository.
type Finding struct {
	Object  string `json:"object"`
	Message string `json:"message"`
}

// Damaged is a file that can not be restored whole.
type Damaged struct {
	BackupID string `json:"backup_id"`
	Path
	Message string `json:"message"`
}

// GCReport is what a garbage collection did.
type GCReport struct {
	PacksBefore    int   `json:"packs_before"`
	PacksAfter     int   `json:"packs_after"`
	BytesBefore    int64 `json:"bytes_before"`
	BytesAfter     int64 `json:"bytes_after"`
	RemovedBackups int   `json:"removed_backups"`
}

// Schedule is a schedule.
type Schedule struct {
	ID              string     `json:"id"`
	ScheduleID      string     `json:"schedule_id"` // the same
	Name            string     `json:"name"`
	Cron            string     `json:"cron"`
	Type            string     `json:"type"`
	Timezone        string     `json:"timezone"`
	IncludeFiles    bool       `json:"include_files"`
	IncludeDatabase bool       `json:"include_database"`
	Sources         []string   `json:"sources"`
	Tags            []string   `json:"tags"`
	RetentionDays   int        `json:"retention_days"` // 0: kept
	Enabled         bool       `json:"enabled"`
	CreatedAt       time.Time  `json:"created_at"`
	UpdatedAt       time.Time  `json:"updated_at"`
	NextRun         *time.Time `json:"next_run"`
	LastRun         *time.Time `json:"last_run"`
	LastStatus      *string    `json:"last_status"`
	LastBackupID    *string    `json:"last_backup_id"`
	LastSuccess     *time.Time `json:"last_success"`
}

// File is an entry of a directory of a backup.
type File struct {
	Source string `json:"source"`
	Name   string `json:"name"`
	Path
	Type      string    `json:"type"`
	Mode      string    `json:"mode"` // four octal digits
	User      string    `json:"user"`
	Group     string    `json:"group"`
	UID       uint32    `json:"uid"`
	GID       uint32    `json:"gid"`
	SizeBytes int64     `json:"size_bytes"`
	MTime     time.Time `json:"mtime"`
	Link      *string   `json:"link_target"`
}

// Match is an entry that a search found.
type Match struct {
	BackupID  string    `json:"backup_id"`
	CreatedAt time.Time `json:"created_at"` // of the backup
	Path
	Type      string    `json:"type"`
	SizeBytes int64     `json:"size_bytes"`
	MTime     time.Time `json:"mtime"`
}

// Diff is what differs between two backups.
type Diff struct {
	BaseID    string     `json:"base_id"`
	BackupID  string     `json:"backup_id"`
	Changes   []Change   `json:"changes"`
	Truncated bool       `json:"truncated"` // there are more, which the totals leave out
	Totals    DiffTotals `json:"totals"`
}

// Change is one path that differs.
type Change struct {
	Kind string `json:"kind"` // added, removed, changed, metadata
	Path
	Type    string `json:"type"`
	OldSize *int64 `json:"old_size"`
	NewSize *int64 `json:"new_size"`
}

// DiffTotals count changes.
type DiffTotals struct {
	Added        int64 `json:"added"`
	Removed      int64 `json:"removed"`
	Changed      int64 `json:"changed"`
	Metadata     int64 `json:"metadata"`
	BytesAdded   int64 `json:"bytes_added"`
	BytesRemoved int64 `json:"bytes_removed"`
}

// Stats is what the repository holds, a few seconds old at most.
type Stats struct {
	At             time.Time  `json:"at"`
	RepositoryID   string     `json:"repository_id"`
	Backups        int        `json:"backups"`       // with something to restore
	Deleted        int        `json:"deleted"`       // until the next gc
	LogicalBytes   int64      `json:"logical_bytes"` // of the files of all backups
	StoredBytes    int64      `json:"stored_bytes"`  // by which all backups made the repository grow
	Latest         *time.Time `json:"latest"`        // when the newest backup was finished
	Oldest         *time.Time `json:"oldest"`
	Unverified     int        `json:"unverified"`
	VerifyFailed   int        `json:"verification_failed"`
	WithProblems   int        `json:"with_problems"`
	DiskFreeBytes  *int64     `json:"disk_free_bytes"`
	DiskTotalBytes *int64     `json:"disk_total_bytes"`
	Schedules      int        `json:"schedules"`
	Warnings       []string   `json:"warnings"`

	Repository *RepositoryStats `json:"repository"` // null while it is not known
}

// RepositoryStats is what counting all packs and trees found, minutes ago at most.
type RepositoryStats struct {
	At          time.Time `json:"at"`
	Packs       int       `json:"packs"`
	PackBytes   int64     `json:"pack_bytes"`
	Blocks      int64     `json:"blocks"`
	DeltaBlocks int64     `json:"delta_blocks"`
	Chunks      int64     `json:"chunks"`
	ChunkBytes  int64     `json:"chunk_bytes"` // decoded, each copy counted
	UsedBytes   int64     `json:"used_bytes"`
	DeadBytes   int64     `json:"dead_bytes"` // what a gc may give back
}

// Source is something the configuration has backed up.
type Source struct {
	Name         string     `json:"name"`
	Kind         string     `json:"kind"`
	Paths        []string   `json:"paths"`
	LastBackupID *string    `json:"last_backup_id"`
	LastSuccess  *time.Time `json:"last_success"`
}

// Target is a place restores can go to.
type Target struct {
	Name     string  `json:"name"`
	Path     string  `json:"path"`
	BusyWith *string `json:"busy_with"` // id of the restore that is running there
}

// Health is what the public calls answer.
type Health struct {
	Status  string `json:"status"` // ok; or healthy, degraded
	Service string `json:"service"`
	Version string `json:"version"`
	Commit  string `json:"commit"`
}

// problem is the body of every answer that is an error.
type problem struct {
	Code      string `json:"error"`
	Message   string `json:"message"`
	Field     string `json:"field,omitempty"`  // that is wrong
	JobID     string `json:"job_id,omitempty"` // that is in the way
	RequestID string `json:"request_id"`
}

// sizeText is a size for people.
func sizeText(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f := float64(n)
	for _, unit := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if f /= 1024; f < 1023.95 {
			return fmt.Sprintf("%.1f %s", f, unit)
		}
	}
	return fmt.Sprintf("%.1f EiB", f/1024)
}
