package job

import (
	"cmp"
	"context"
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
	snaps := j.repo.Snapshots()
	made := make(map[string]*repo.Snapshot, len(snaps))
	for _, s := range snaps {
		made[s.ID] = s
	}
	out := make([]Job, 0, len(recs))
	for _, rec := range recs {
		job, ok := j.remembered(rec.ID) // as it stands now, with its progress
		if !ok {
			if job, err = recalled(rec); err != nil {
				return nil, 0, err
			}
			if s := made[job.ID]; s != nil {
				job.Snapshot = &s.Manifest
			}
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
	out = out[min(max(f.Offset, 0), total):]
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
			if job.succeeded() {
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
			return Backup{}, j.unread(ctx, s, err)
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
	if !ok || j.deleted[id] || job.succeeded() {
		var busy *BusyError
		if !errors.As(err, &busy) && !errors.Is(err, ErrNotFound) {
			return Backup{}, err
		}
		return Backup{}, fmt.Errorf("backup %.80q: %w", id, ErrNotFound)
	}
	if l := j.live[id]; l != nil {
		job = l.snapshot()
	}
	return backupWithout(job), nil
}

// unread is what to say of a backup whose manifest can not be read: that it is not
// there only when the repository says so, and not when the repository is not there.
func (j *Jobs) unread(ctx context.Context, s *repo.Snapshot, err error) error {
	if !errors.Is(err, repo.ErrNotFound) {
		return err
	}
	j.mu.Lock()
	j.refreshed = time.Time{}
	j.mu.Unlock()
	if err := errors.Join(j.refresh(ctx), j.looked(ctx)); err != nil {
		return err
	}
	for _, now := range j.repo.Snapshots() {
		if now.ID == s.ID {
			return fmt.Errorf("backup %s is listed and can not be read: %v", s.ID, err)
		}
	}
	return fmt.Errorf("backup %s: %w", s.ID, ErrNotFound)
}

// The states of a Verification.
const (
	Unverified         = "unverified"
	Verified           = "verified"
	VerificationFailed = "verification_failed"
)
