package job

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/repo"
)

// List returns the jobs that f selects, newest first, and how many there are
// without its limit.
func (j *Jobs) List(f Filter) ([]Job, int, error) {
	recs, total, err := j.st.Jobs(func(rec *state.Job) bool {
		return among(f.Kinds, Kind(rec.Kind)) && among(f.States, State(rec.State)) &&
			(f.ScheduleID == "" || rec.ScheduleID == f.ScheduleID) && f.within(rec.CreatedAt)
	}, f.Offset, f.Limit)
	if err != nil {
		return nil, 0, err
	}
	out := make([]Job, 0, len(recs))
	for _, rec := range recs {
		job, err := j.Job(rec.ID) // as it stands now, with its progress
		if err != nil {
			return nil, 0, err
		}
		out = append(out, job)
	}
	return out, total, nil
}

func among[T comparable](list []T, x T) bool { return len(list) == 0 || slices.Contains(list, x) }

func (f *Filter) within(t time.Time) bool {
	return (f.Since.IsZero() || !t.Before(f.Since)) && (f.Until.IsZero() || t.Before(f.Until))
}

// Backups returns the backups that f selects, newest first, and how many there
// are without its limit: what the repository has, and the jobs that have not
// made anything, failed ones among them.
func (j *Jobs) Backups(ctx context.Context, f Filter) ([]Backup, int, error) {
	if err := j.refresh(ctx); err != nil {
		return nil, 0, err
	}
	all := j.all()
	var out []Backup
	for i := range all {
		if f.takes(&all[i]) {
			out = append(out, all[i])
		}
	}
	total := len(out)
	out = out[min(f.Offset, total):]
	if f.Limit > 0 {
		out = out[:min(f.Limit, len(out))]
	}
	return out, total, nil
}

func (f *Filter) takes(b *Backup) bool {
	switch {
	case !among(f.States, b.State), !among(f.Types, b.Type), !f.within(b.CreatedAt):
		return false
	case f.ScheduleID != "" && b.ScheduleID != f.ScheduleID:
		return false
	case f.Tag != "" && !slices.Contains(b.Tags, f.Tag):
		return false
	case f.Source != "":
		return b.Manifest != nil && slices.ContainsFunc(b.Manifest.Parts, func(p repo.Part) bool { return p.Source == f.Source })
	}
	return true
}

// all makes the list of backups, newest first.
func (j *Jobs) all() []Backup {
	snaps := j.repo.Snapshots()
	made := make(map[string]bool, len(snaps))
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]Backup, 0, len(snaps)+len(j.live))
	for _, s := range snaps {
		made[s.ID] = true
		if !j.deleted[s.ID] {
			out = append(out, j.backupOf(s))
		}
	}
	for id, job := range j.backups {
		if !made[id] && !j.deleted[id] {
			if l := j.live[id]; l != nil {
				job = l.snapshot()
			}
			if job.State == Completed || job.State == CompletedWithProblems {
				continue // forgotten in the repository, by another process
			}
			out = append(out, backupWithout(job))
		}
	}
	slices.SortFunc(out, func(a, b Backup) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
	})
	return out
}

// backupOf is the backup that a snapshot is. mu is held.
func (j *Jobs) backupOf(s *repo.Snapshot) Backup {
	b := Backup{
		ID: s.ID, Type: s.Type, State: State(s.Status), BaseID: s.BaseID, Host: s.Host, Tags: s.Tags,
		CreatedAt: s.CreatedAt, StartedAt: s.StartedAt, FinishedAt: s.FinishedAt,
		Size: s.Totals.BytesTotal, Stored: s.Totals.BytesStored, Manifest: &s.Manifest, Verification: j.verification(s.ID),
	}
	if job, ok := j.backups[s.ID]; ok {
		b.Job, b.ScheduleID, b.Actor = &job, job.ScheduleID, job.Actor
	}
	if e, ok := j.expiries[s.ID]; ok {
		b.ExpiresAt, b.ScheduleID = e.ExpiresAt, e.ScheduleID
	}
	return b
}

// backupWithout is a backup that has no snapshot, or not yet.
func backupWithout(job Job) Backup {
	b := Backup{
		ID: job.ID, State: job.State, ScheduleID: job.ScheduleID, Actor: job.Actor, Job: &job,
		CreatedAt: job.CreatedAt, StartedAt: job.StartedAt, FinishedAt: job.FinishedAt,
		ErrorCode: job.ErrorCode, ErrorMessage: job.ErrorMessage, Verification: Verification{State: Unverified},
	}
	if job.Backup != nil {
		b.Type, b.Tags = job.Backup.Type, job.Backup.Tags
	}
	return b
}

// Backup returns one backup with its problems. ErrNotFound.
func (j *Jobs) Backup(ctx context.Context, id string) (Backup, error) {
	s, err := j.snapshot(ctx, id)
	if err == nil {
		m, err := j.repo.Manifest(ctx, s)
		if err != nil {
			return Backup{}, err
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		b := j.backupOf(s)
		b.Manifest = m
		return b, nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	job, ok := j.backups[id]
	if !ok || j.deleted[id] || job.State == Completed || job.State == CompletedWithProblems {
		return Backup{}, fmt.Errorf("backup %.80q: %w", id, ErrNotFound)
	}
	if l := j.live[id]; l != nil {
		job = l.snapshot()
	}
	return backupWithout(job), nil
}

// The states of a Verification.
const (
	Unverified         = "unverified"
	Verified           = "verified"
	VerificationFailed = "verification_failed"
)

// verification is what is known about a backup. mu is held.
func (j *Jobs) verification(id string) Verification {
	v, err := j.st.Verification(id)
	if err != nil {
		return Verification{State: Unverified}
	}
	out := Verification{State: v.State, At: v.At}
	var how verified
	if json.Unmarshal(v.Report, &how) == nil {
		out.JobID, out.Message = how.JobID, how.Message
	}
	return out
}

// verified is what is kept beside the state of a verification.
type verified struct {
	JobID   string `json:"job_id"`
	Message string `json:"message,omitempty"`
}

// recordVerified writes down what a check found out about each backup.
func (j *Jobs) recordVerified(jobID string, snaps []*repo.Snapshot, rep *repo.CheckReport) error {
	damaged := make(map[string]int)
	for _, d := range rep.DamagedFiles {
		damaged[d.Snapshot]++
	}
	return j.st.Update(func(tx *state.Tx) error {
		for _, s := range snaps {
			v, how := state.Verification{BackupID: s.ID, State: Verified, At: time.Now()}, verified{JobID: jobID}
			switch n := damaged[s.ID]; {
			case n > 0:
				v.State, how.Message = VerificationFailed, fmt.Sprintf("%d files can not be restored whole", n)
			case rep.Truncated:
				v.State, how.Message = VerificationFailed, "the repository has more damage than a report holds"
			}
			v.Report, _ = json.Marshal(how) // plain fields always marshal
			if err := tx.PutVerification(v); err != nil {
				return err
			}
		}
		return nil
	})
}

// Delete forgets a backup; one that waits or runs is cancelled first. Until the
// next gc it can be taken back in the repository. ErrNotFound, and *BusyError
// while it is being restored.
func (j *Jobs) Delete(ctx context.Context, id string, by By) error {
	if !repo.IsSnapshotID(id) {
		return fmt.Errorf("backup %.80q: %w", id, ErrNotFound)
	}
	j.mu.Lock()
	l := j.live[id]
	j.mu.Unlock()
	if l != nil {
		if _, err := j.Cancel(ctx, id); err != nil {
			return err
		}
	}
	s, err := j.snapshot(ctx, id)
	j.mu.Lock()
	defer j.mu.Unlock()
	_, known := j.backups[id]
	if j.deleted[id] || err != nil && !known {
		return fmt.Errorf("backup %.80q: %w", id, ErrNotFound)
	}
	for _, l := range j.live {
		if l.job.Kind == KindRestore && l.job.BackupID == id {
			return &BusyError{l.job.ID, "the backup is being restored; cancel that first"}
		}
	}
	err = j.st.Update(func(tx *state.Tx) error {
		if s == nil {
			return tx.DeleteJob(id)
		}
		return tx.PutDeletion(state.Deletion{BackupID: id, Actor: by.Actor, At: time.Now()})
	})
	if err != nil {
		return err
	}
	if s == nil {
		delete(j.backups, id)
		return nil
	}
	j.deleted[id] = true
	j.nudge()
	return nil
}

// forgetDeleted publishes in the repository what was deleted here, when nobody
// writes to it. What can not be published now is tried again later; it stays
// hidden meanwhile.
func (j *Jobs) forgetDeleted(ctx context.Context) {
	j.mu.Lock()
	if j.writer || j.alone || len(j.deleted) == 0 || j.closing {
		j.mu.Unlock()
		return
	}
	j.writer = true
	var ids []string
	for id := range j.deleted {
		ids = append(ids, id)
	}
	j.mu.Unlock()
	slices.Sort(ids)
	there := make(map[string]bool)
	for _, s := range j.repo.Snapshots() {
		there[s.ID] = true
	}
	var err error
	for _, id := range ids {
		if there[id] {
			if err = j.repo.Forget(ctx, id); err != nil {
				break
			}
		}
		if err = j.st.Update(func(tx *state.Tx) error {
			if err := tx.DeleteVerification(id); err != nil {
				return err
			}
			if err := tx.DeleteExpiry(id); err != nil {
				return err
			}
			if err := tx.DeleteJob(id); err != nil && !errors.Is(err, state.ErrNotFound) {
				return err
			}
			d, err := tx.Deletion(id)
			if err != nil {
				return err
			}
			d.Done = true
			return tx.PutDeletion(d)
		}); err != nil {
			break
		}
		j.mu.Lock()
		delete(j.deleted, id)
		delete(j.backups, id)
		delete(j.expiries, id)
		j.mu.Unlock()
		j.log.Info("a backup was forgotten", "backup", id)
	}
	if err != nil {
		j.log.Error("deleted backups could not be forgotten yet; it is tried again", "error", err)
	}
	j.mu.Lock()
	j.writer = false
	j.mu.Unlock()
}
