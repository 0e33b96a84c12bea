package job

import (
	"context"
	"errors"
)

// Jobs is the queue with all that belongs to it. Its methods may be called at
// the same time, also while Run runs and before it does.
type Jobs struct{}

var errStub = errors.New("not built yet")

// CreateBackup queues a backup. It is durable when this returns: whatever
// happens then, the job is run or says why not. *InvalidError, ErrClosing,
// ErrQueueFull.
func (*Jobs) CreateBackup(ctx context.Context, r BackupRequest, actor string) (Job, error) {
	return Job{}, errStub
}

// Restore queues a restore of a backup; as durable as CreateBackup. ErrNotFound,
// *InvalidError, and *BusyError while another restore has the target.
func (*Jobs) Restore(ctx context.Context, backupID string, r RestoreRequest, actor string) (Job, error) {
	return Job{}, errStub
}

// Verify queues a check that reads all that the backup consists of.
func (*Jobs) Verify(ctx context.Context, backupID, actor string) (Job, error) { return Job{}, errStub }

// GC queues a garbage collection.
func (*Jobs) GC(ctx context.Context, actor string) (Job, error) { return Job{}, errStub }

// Job returns a job as it stands. ErrNotFound.
func (*Jobs) Job(id string) (Job, error) { return Job{}, errStub }

// List returns the jobs that f selects, newest first, and how many there are
// without its limit.
func (*Jobs) List(f Filter) ([]Job, int, error) { return nil, 0, errStub }

// Cancel ends a job that is waiting or running. *BusyError for one that is over.
func (*Jobs) Cancel(ctx context.Context, id, actor string) (Job, error) { return Job{}, errStub }

// Wait returns the job when it is over, or as it stands when ctx ends.
func (*Jobs) Wait(ctx context.Context, id string) (Job, error) { return Job{}, errStub }

// Watch delivers the job whenever its state changes and about once a second
// while it runs, the first time at once, and closes the channel when it is over.
// A slow reader misses steps, never the end. stop ends it.
func (*Jobs) Watch(id string) (events <-chan Job, stop func(), err error) { return nil, nil, errStub }

// Backups returns the backups that f selects, newest first, and how many there
// are without its limit.
func (*Jobs) Backups(f Filter) ([]Backup, int, error) { return nil, 0, errStub }

// Backup returns one backup with its problems. ErrNotFound.
func (*Jobs) Backup(ctx context.Context, id string) (Backup, error) { return Backup{}, errStub }

// Delete forgets a backup; one that waits or runs is cancelled first. Until the
// next gc it can be taken back. *BusyError while it is being restored.
func (*Jobs) Delete(ctx context.Context, id, actor string) error { return errStub }

// CreateSchedule makes a schedule. *InvalidError.
func (*Jobs) CreateSchedule(ctx context.Context, c ScheduleChange, actor string) (Schedule, error) {
	return Schedule{}, errStub
}

// UpdateSchedule changes one. ErrNotFound, *InvalidError.
func (*Jobs) UpdateSchedule(ctx context.Context, id string, c ScheduleChange, actor string) (Schedule, error) {
	return Schedule{}, errStub
}

// DeleteSchedule removes one. What it has made stays. ErrNotFound.
func (*Jobs) DeleteSchedule(ctx context.Context, id, actor string) error { return errStub }

// Schedules returns all, oldest first.
func (*Jobs) Schedules() ([]Schedule, error) { return nil, errStub }

// Schedule returns one. ErrNotFound.
func (*Jobs) Schedule(id string) (Schedule, error) { return Schedule{}, errStub }

// Sources and Targets are what the configuration names.
func (*Jobs) Sources() []SourceInfo { return nil }

// Targets are the places restores can go to.
func (*Jobs) Targets() []TargetInfo { return nil }
