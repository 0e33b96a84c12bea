package job

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/repo"
)

// recall takes up where the former life of the daemon ended.
func (j *Jobs) recall() error {
	if j.o.Staging != "" {
		if err := swept(j.o.Staging); err != nil {
			return fmt.Errorf("staging directory: %w", err)
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
	recs, _, err := j.st.Jobs(func(rec *state.Job) bool { return rec.Kind != string(KindRestore) || rec.FinishedAt.IsZero() }, 0, 0)
	if err != nil {
		return err
	}
	// Oldest first, so that the queue has its old order.
	for _, rec := range slices.Backward(recs) {
		job, err := recalled(rec)
		if err != nil {
			return err
		}
		switch {
		case !job.FinishedAt.IsZero():
			j.keep(job)
			j.lastOf(&job)
		default:
			if err := j.resume(job, made[job.ID]); err != nil {
				return err
			}
		}
	}
	return nil
}

// lastOf notes when upkeep of its kind was last asked for, and when the repository
// was last read whole. mu is held, or nobody else is there yet.
func (j *Jobs) lastOf(job *Job) {
	if job.Kind == KindVerify && job.BackupID != "" {
		return // of one backup
	}
	if job.CheckReport != nil && job.FinishedAt.After(j.proven) {
		j.proven = job.FinishedAt
	}
	if job.CreatedAt.After(j.latest[job.Kind]) {
		j.latest[job.Kind] = job.CreatedAt
	}
}

// resume decides what becomes of a job that was not over. s is the snapshot of
// its id, if there is one.
func (j *Jobs) resume(job Job, s *repo.Snapshot) error {
	died := job.State == InProgress
	if died {
		job.State, job.FinishedAt = Interrupted, ended(job.Kind, j.now())
		job.ErrorCode, job.ErrorMessage = "interrupted", interruptedText(job.Kind)
	}
	switch {
	case job.Kind == KindBackup && s != nil:
		// It was killed between its commit and its record.
		job.State, job.FinishedAt, job.ErrorCode, job.ErrorMessage = State(s.Status), s.FinishedAt, "", ""
	case job.Kind == KindBackup && died && job.Attempts >= attempts:
		// Perhaps it is what kills the daemon.
		job.State, job.ErrorCode, job.FinishedAt = Failed, "interrupted", j.now()
		job.ErrorMessage = fmt.Sprintf("the daemon died while it ran, which was its attempt %d: it is not begun again by itself", job.Attempts)
	}
	if job.FinishedAt.IsZero() {
		j.add(job)
	} else {
		j.keep(job)
		j.lastOf(&job)
		if e, ok := expiryOf(&job); ok {
			j.expiries[job.ID] = e
		}
	}
	err := j.write(&job)
	if errors.Is(err, state.ErrFull) {
		// What is in memory is right, and reading goes on with a full disk.
		j.log.Error("what became of a job could not be written down; it is tried again", "job", job.ID, "error", err)
		if !job.FinishedAt.IsZero() {
			j.unwritten[job.ID] = job
		}
		return nil
	}
	return err
}

// swept removes what sources of a former life left in a directory of ours, which
// is made when it is missing. Whatever else is there is not ours and stays.
func swept(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), source.StagedPrefix) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
