package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/repo"
)

// Delete forgets a backup; one that waits or runs is cancelled first, and waited
// for until ctx ends. Until the next gc it can be taken back in the repository.
// ErrNotFound, and *BusyError while it is being restored, or has not stopped.
func (j *Jobs) Delete(ctx context.Context, id string, by By) error {
	if !repo.IsSnapshotID(id) {
		return fmt.Errorf("backup %.80q: %w", id, ErrNotFound)
	}
	if err := j.stop(ctx, id); err != nil {
		return err
	}
	j.admit.Lock()
	defer j.admit.Unlock()
	s, err := j.snapshot(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	j.mu.Lock()
	job, known := j.backups[id]
	gone := j.deleted[id] || s == nil && (!known || job.succeeded())
	var restore string
	for _, l := range j.live {
		if l.job.Kind == KindRestore && l.job.BackupID == id {
			restore = l.job.ID
		}
	}
	j.mu.Unlock()
	switch {
	case gone:
		return fmt.Errorf("backup %.80q: %w", id, ErrNotFound)
	case restore != "":
		return &BusyError{restore, "the backup is being restored; wait for its end, or cancel it first"}
	}
	err = j.st.Update(func(tx *state.Tx) error {
		if by.Also != nil {
			if err := by.Also(tx, Job{ID: id}); err != nil {
				return err
			}
		}
		if s == nil {
			if err := tx.DeleteJob(id); !errors.Is(err, state.ErrNotFound) {
				return err
			}
			return nil
		}
		return tx.PutDeletion(state.Deletion{BackupID: id, Actor: by.Actor, At: j.now()})
	})
	if err != nil {
		return fmt.Errorf("nothing was deleted: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if s == nil {
		delete(j.backups, id)
		delete(j.unwritten, id)
		return nil
	}
	j.deleted[id] = true
	j.nudge()
	return nil
}

// stop cancels a backup that is not over.
func (j *Jobs) stop(ctx context.Context, id string) error {
	j.mu.Lock()
	l := j.live[id]
	j.mu.Unlock()
	if l == nil {
		return nil
	}
	job, err := j.Cancel(ctx, id)
	var over *BusyError
	if errors.As(err, &over) || errors.Is(err, ErrNotFound) {
		return nil // it ended by itself meanwhile
	}
	if err == nil && job.FinishedAt.IsZero() {
		return &BusyError{id, "the backup is being stopped; ask again in a moment"}
	}
	return err
}

// forgetDeleted publishes in the repository what was deleted here, when nobody
// writes to it. What can not be published now is tried again later; it stays
// hidden meanwhile.
func (j *Jobs) forgetDeleted(ctx context.Context) {
	j.mu.Lock()
	if j.slots.writer || j.slots.alone || len(j.deleted) == 0 || j.closing || time.Since(j.forgot) >= 0 && time.Since(j.forgot) < pause {
		j.mu.Unlock()
		return
	}
	j.slots.writer = true
	var ids []string
	for id := range j.deleted {
		ids = append(ids, id)
	}
	j.mu.Unlock()
	slices.Sort(ids)
	err := j.forget(ctx, ids)
	if err != nil {
		j.log.Error("deleted backups could not be forgotten yet; it is tried again", "error", err)
	}
	j.mu.Lock()
	j.slots.writer = false
	if err != nil {
		j.forgot = time.Now()
	}
	j.mu.Unlock()
}

// forget publishes deletions and writes down that this is done. After a crash in
// between they are found gone, and written down then.
func (j *Jobs) forget(ctx context.Context, ids []string) error {
	there := make(map[string]bool)
	for _, s := range j.repo.Snapshots() {
		there[s.ID] = true
	}
	var live []string
	for _, id := range ids {
		if there[id] {
			live = append(live, id)
		}
	}
	if len(live) > 0 {
		if err := j.repo.Forget(ctx, live...); err != nil {
			return err
		}
	}
	err := j.st.Update(func(tx *state.Tx) error {
		for _, id := range ids {
			if err := forgotten(tx, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	j.mu.Lock()
	for _, id := range ids {
		delete(j.deleted, id)
		delete(j.backups, id)
		delete(j.unwritten, id)
		delete(j.expiries, id)
		delete(j.verified, id)
	}
	j.mu.Unlock()
	j.log.Info("backups were forgotten", "backups", ids)
	return nil
}

// forgotten writes down that a deletion is published.
func forgotten(tx *state.Tx, id string) error {
	d, err := tx.Deletion(id)
	if err != nil {
		return err
	}
	d.Done = true
	if err := tx.PutDeletion(d); err != nil {
		return err
	}
	if err := tx.DeleteJob(id); err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	return errors.Join(tx.DeleteVerification(id), tx.DeleteExpiry(id))
}
