package job

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/generalbots/backupd/internal/restore"
	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/repo"
)

// result is what is kept of what a job found out. What a backup made stands in
// its manifest, which is in the repository.
type result struct {
	Restore *restore.Report   `json:"restore,omitempty"`
	Check   *repo.CheckReport `json:"check,omitempty"`
	GC      *repo.GCReport    `json:"gc,omitempty"`
}

type request struct {
	Backup  *BackupRequest  `json:"backup,omitempty"`
	Restore *RestoreRequest `json:"restore,omitempty"`
}

// record is what is written down of a job.
func record(job *Job) state.Job {
	rec := state.Job{
		ID: job.ID, Kind: string(job.Kind), State: string(job.State), BackupID: job.BackupID, Target: job.Target,
		ScheduleID: job.ScheduleID, Actor: job.Actor, RequestID: job.RequestID,
		CreatedAt: job.CreatedAt, StartedAt: job.StartedAt, FinishedAt: job.FinishedAt,
		Attempts: job.Attempts, ErrorCode: job.ErrorCode, ErrorMessage: job.ErrorMessage,
	}
	// Both are structs of plain fields: they always marshal.
	rec.Request, _ = json.Marshal(request{job.Backup, job.Restore})
	if job.RestoreReport != nil || job.CheckReport != nil || job.GCReport != nil {
		rec.Result, _ = json.Marshal(result{job.RestoreReport, job.CheckReport, job.GCReport})
	}
	return rec
}

// recalled is the job that a record tells of.
func recalled(rec state.Job) (Job, error) {
	job := Job{
		ID: rec.ID, Kind: Kind(rec.Kind), State: State(rec.State), BackupID: rec.BackupID, Target: rec.Target,
		ScheduleID: rec.ScheduleID, Actor: rec.Actor, RequestID: rec.RequestID, CreatedAt: rec.CreatedAt, StartedAt: rec.StartedAt, FinishedAt: rec.FinishedAt,
		Attempts: rec.Attempts, ErrorCode: rec.ErrorCode, ErrorMessage: rec.ErrorMessage,
	}
	var q request
	var r result
	if len(rec.Request) > 0 {
		if err := json.Unmarshal(rec.Request, &q); err != nil {
			return Job{}, fmt.Errorf("job %s: what was asked for can not be read: %v", rec.ID, err)
		}
	}
	if len(rec.Result) > 0 {
		if err := json.Unmarshal(rec.Result, &r); err != nil {
			return Job{}, fmt.Errorf("job %s: its report can not be read: %v", rec.ID, err)
		}
	}
	job.Backup, job.Restore = q.Backup, q.Restore
	job.RestoreReport, job.CheckReport, job.GCReport = r.Restore, r.Check, r.GC
	return job, nil
}

// recall takes up where the former life of the daemon ended.
func (j *Jobs) recall(ctx context.Context) error {
	if j.o.Staging != "" {
		if err := emptied(j.o.Staging); err != nil {
			return err
		}
	}
	schedules, err := j.st.Schedules()
	if err != nil {
		return err
	}
	for _, s := range schedules {
		j.schedules[s.ID] = &s
	}
	deletions, err := j.st.Deletions()
	if err != nil {
		return err
	}
	for _, d := range deletions {
		if !d.Done {
			j.deleted[d.BackupID] = true
		}
	}
	expiries, err := j.st.Expiries()
	if err != nil {
		return err
	}
	for _, e := range expiries {
		j.expiries[e.BackupID] = e
	}
	made := make(map[string]*repo.Snapshot)
	for _, s := range j.repo.Snapshots() {
		made[s.ID] = s
	}
	recs, _, err := j.st.Jobs(func(rec *state.Job) bool { return rec.Kind == string(KindBackup) || rec.FinishedAt.IsZero() }, 0, 0)
	if err != nil {
		return err
	}
	// Oldest first, so that the queue has its old order.
	for _, rec := range slices.Backward(recs) {
		job, err := recalled(rec)
		if err != nil {
			return err
		}
		if !job.FinishedAt.IsZero() {
			j.backups[job.ID] = job
			continue
		}
		if job.State == InProgress {
			job.State, job.FinishedAt = Interrupted, ended(job.Kind)
			job.ErrorCode, job.ErrorMessage = "interrupted", interruptedText(job.Kind)
		}
		s := made[job.ID]
		switch {
		case job.Kind == KindBackup && s != nil:
			// It was killed between its commit and this record.
			job.State, job.FinishedAt, job.ErrorCode, job.ErrorMessage = State(s.Status), s.FinishedAt, "", ""
			if err := j.noteExpiry(&job); err != nil {
				return err
			}
		case job.Kind == KindBackup && job.Attempts >= attempts:
			job.State, job.ErrorCode, job.FinishedAt = Failed, "interrupted", time.Now()
			job.ErrorMessage = fmt.Sprintf("it was interrupted %d times and is not begun again by itself", job.Attempts)
		case job.State == Interrupted && job.Kind != KindBackup:
		default:
			j.add(job)
		}
		if job.Kind == KindBackup {
			j.backups[job.ID] = job
		}
		if err := j.st.PutJob(record(&job)); err != nil {
			return err
		}
	}
	return nil
}

// emptied empties a directory of ours, which is made when it is missing.
func emptied(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
