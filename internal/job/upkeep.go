package job

import (
	"context"
	"time"

	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/repo"
)

// scheduler is who asks for jobs that nobody asked for.
const scheduler = "backupd"

const (
	upkeepEvery = time.Minute // expiry, space and verification are looked at
	shortEvery  = time.Hour   // gc for want of space
	keepJobs    = 400 * 24 * time.Hour
	keepLast    = 10_000
)

// upkeep makes jobs of schedules, and sees to expiry, space and verification,
// until ctx ends.
func (j *Jobs) upkeep(ctx context.Context) {
	var looked, lastShort time.Time
	lastGC := time.Now()
	for {
		now := time.Now()
		wake := now.Add(idle)
		if at := j.due(now); !at.IsZero() && at.Before(wake) {
			wake = at
		}
		if now.Sub(looked) >= upkeepEvery || now.Before(looked) {
			looked = now
			j.expire(now)
			j.prune(now)
			if j.collectDue(ctx, now, &lastGC, &lastShort) {
				j.ask(ctx, func() (Job, error) { return j.GC(ctx, By{Actor: scheduler}) })
			}
			if j.verifyDue(now) {
				j.ask(ctx, func() (Job, error) {
					return j.enqueue(Job{Kind: KindVerify, CreatedAt: now}, By{Actor: scheduler})
				})
			}
		}
		select {
		case <-time.After(time.Until(wake)):
		case <-ctx.Done():
			return
		}
	}
}

func (j *Jobs) ask(ctx context.Context, f func() (Job, error)) {
	if _, err := f(); err != nil && ctx.Err() == nil {
		j.log.Error("upkeep could not be queued", "error", err)
	}
}

// expire forgets what is past its time.
func (j *Jobs) expire(now time.Time) {
	deletions, err := j.st.Deletions()
	if err != nil {
		j.log.Error("what expired lately can not be read; nothing expires", "error", err)
		return
	}
	recent := 0
	for _, d := range deletions {
		if d.Actor == scheduler && now.Sub(d.At) < expiryWindow {
			recent++
		}
	}
	var made []Backup
	for _, b := range j.all() {
		if b.Manifest != nil {
			made = append(made, b)
		}
	}
	for _, id := range expired(made, now, j.o.Minimum, recent) {
		if err := j.Delete(context.Background(), id, By{Actor: scheduler}); err != nil {
			j.log.Error("a backup is past its time and could not be forgotten", "backup", id, "error", err)
			continue
		}
		j.log.Info("a backup is past its time", "backup", id)
	}
}

// prune drops records of jobs nobody asks for any more.
func (j *Jobs) prune(now time.Time) {
	before := now.Add(-keepJobs)
	if _, err := j.st.PruneJobs(before, keepLast); err != nil {
		j.log.Error("old jobs could not be dropped", "error", err)
		return
	}
	if _, err := j.st.PruneDeletions(before); err != nil {
		j.log.Error("old deletions could not be dropped", "error", err)
	}
}

// collectDue tells whether space is to be reclaimed now.
func (j *Jobs) collectDue(ctx context.Context, now time.Time, last, lastShort *time.Time) bool {
	if len(j.repo.Forgotten()) == 0 {
		return false
	}
	if j.o.GC.Cron != "" {
		fields, err := fieldsOf(j.o.GC.Cron)
		if at := nextRun(fields, *last, j.o.Zone); err == nil && !at.IsZero() && !at.After(now) {
			*last = now
			return true
		}
	}
	if j.o.GC.MinFree > 0 && now.Sub(*lastShort) >= shortEvery {
		space, err := j.repo.Space(ctx)
		if err == nil && space.Free < j.o.GC.MinFree {
			*lastShort = now
			return true
		}
	}
	return false
}

// verifyDue tells whether the repository was last read too long ago.
func (j *Jobs) verifyDue(now time.Time) bool {
	if j.o.Verify.Every <= 0 {
		return false
	}
	snaps := j.repo.Snapshots()
	if len(snaps) == 0 {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.live {
		if l.job.Kind == KindVerify {
			return false
		}
	}
	return now.Sub(j.lastVerified(snaps)) >= j.o.Verify.Every
}

// lastVerified is when a backup was verified last, or the first one made. mu is
// held.
func (j *Jobs) lastVerified(snaps []*repo.Snapshot) time.Time {
	last := snaps[0].FinishedAt
	for _, s := range snaps {
		if v := j.verification(s.ID); v.At.After(last) {
			last = v.At
		}
	}
	return last
}

// noteExpiry writes down when a backup that was made may go.
func (j *Jobs) noteExpiry(job *Job) error {
	if job.Backup == nil || job.Backup.RetentionDays <= 0 {
		return nil
	}
	e := state.Expiry{BackupID: job.ID, ExpiresAt: job.CreatedAt.AddDate(0, 0, job.Backup.RetentionDays), ScheduleID: job.ScheduleID}
	if err := j.st.PutExpiry(e); err != nil {
		return err
	}
	j.mu.Lock()
	j.expiries[job.ID] = e
	j.mu.Unlock()
	return nil
}

// follow sees to what comes after a job.
func (j *Jobs) follow(job Job) {
	if job.Kind == KindBackup && job.Snapshot != nil {
		if err := j.noteExpiry(&job); err != nil {
			j.log.Error("when a backup expires could not be written down: it is kept", "backup", job.ID, "error", err)
		}
	}
	if job.Kind == KindBackup && job.Snapshot != nil && j.o.Verify.AfterBackup {
		if _, err := j.enqueue(Job{Kind: KindVerify, BackupID: job.ID, CreatedAt: time.Now()}, By{Actor: scheduler}); err != nil {
			j.log.Error("the verification of a backup could not be queued", "backup", job.ID, "error", err)
		}
	}
}
