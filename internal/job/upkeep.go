package job

import (
	"context"
	"errors"
	"time"

	"github.com/generalbots/backupd/internal/state"
)

// scheduler is who asks for jobs that nobody asked for.
const scheduler = "backupd"

const (
	upkeepEvery = time.Minute // expiry, space and verification are looked at
	shortEvery  = time.Hour   // gc for want of space
	verifyAgain = time.Hour   // a verification that came to nothing is tried again
	// firstVerify is how old the oldest backup may be at most while the repository
	// was never read whole.
	firstVerify = 24 * time.Hour
	// keepDeletions is how long it is remembered who deleted what.
	keepDeletions = 400 * 24 * time.Hour
)

// upkeep makes jobs of schedules, and sees to expiry, space and verification,
// until ctx ends.
func (j *Jobs) upkeep(ctx context.Context) {
	var looked, short time.Time
	for ctx.Err() == nil {
		now := j.now()
		wake := now.Add(idle)
		if at := j.due(now); !at.IsZero() && at.Before(wake) {
			wake = at
		}
		if now.Sub(looked) >= upkeepEvery || now.Before(looked) {
			looked = now
			j.look(ctx, now, &short)
		}
		// A time of the wall clock would wait through a jump of the clock.
		timer := time.NewTimer(max(wake.Sub(now), time.Millisecond))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// look does what upkeep does once a minute.
func (j *Jobs) look(ctx context.Context, now time.Time, short *time.Time) {
	if err := j.refresh(ctx); err != nil && ctx.Err() == nil {
		j.log.Error("what other processes did to the repository can not be seen", "error", err)
	}
	j.rewrite()
	j.expire(ctx, now)
	j.prune(now)
	if j.collectDue(ctx, now, short) {
		j.ask(ctx, "gc.create", func() (Job, error) { return j.GC(ctx, By{Actor: scheduler}) })
	}
	if j.verifyDue(now) {
		j.ask(ctx, "verify.create", func() (Job, error) {
			return j.enqueue(Job{Kind: KindVerify, CreatedAt: now}, By{Actor: scheduler})
		})
	}
}

func (j *Jobs) ask(ctx context.Context, action string, f func() (Job, error)) {
	job, err := f()
	if err != nil {
		if ctx.Err() == nil {
			j.log.Error("upkeep could not be queued", "action", action, "error", err)
		}
		return
	}
	j.mu.Lock()
	j.lastOf(&job)
	j.mu.Unlock()
	j.acted(Act{Actor: scheduler, Action: action, Resource: job.ID})
}

// acted tells who keeps the audit.
func (j *Jobs) acted(a Act) {
	if j.o.Auditor != nil {
		j.o.Auditor.Acted(a)
	}
}

// expire forgets what is past its time.
func (j *Jobs) expire(ctx context.Context, now time.Time) {
	deletions, err := j.st.Deletions()
	if err != nil {
		j.log.Error("what expired lately can not be read; nothing expires", "error", err)
		return
	}
	recent := 0
	for _, d := range deletions {
		if d.Actor == scheduler && ahead(d.At, now) {
			// The clock went back. It counts for a day from now: for as long as the
			// clock was ahead nothing would expire, and for no time too much.
			d.At = now
			err := j.st.Update(func(tx *state.Tx) error {
				is, err := tx.Deletion(d.BackupID)
				if err != nil {
					return err
				}
				is.At = now
				return tx.PutDeletion(is)
			})
			if err != nil {
				j.log.Error("what expired lately can not be written down; nothing expires", "error", err)
				return
			}
		}
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
		err := j.Delete(ctx, id, By{Actor: scheduler})
		var busy *BusyError
		switch {
		case errors.As(err, &busy):
			// It is being restored: there is time.
		case err != nil:
			j.log.Error("a backup is past its time and could not be forgotten", "backup", id, "error", err)
		default:
			j.log.Info("a backup is past its time", "backup", id)
			j.acted(Act{Actor: scheduler, Action: "backup.expire", Resource: id})
		}
	}
}

// prune drops records of jobs nobody asks for any more.
func (j *Jobs) prune(now time.Time) {
	made := make(map[string]bool)
	for _, s := range j.repo.Snapshots() {
		made[s.ID] = true
	}
	n, err := j.st.PruneJobs(now.Add(-j.o.History), 0, func(id string) bool { return made[id] })
	if err != nil {
		j.log.Error("old jobs could not be dropped", "error", err)
		return
	}
	if n > 0 {
		j.dropPruned()
	}
	if _, err := j.st.PruneDeletions(now.Add(-keepDeletions)); err != nil {
		j.log.Error("old deletions could not be dropped", "error", err)
	}
}

// dropPruned forgets in memory what was pruned from the state file.
func (j *Jobs) dropPruned() {
	j.mu.Lock()
	var over []string
	for id, job := range j.backups {
		if _, kept := j.unwritten[id]; !kept && !job.FinishedAt.IsZero() {
			over = append(over, id)
		}
	}
	j.mu.Unlock()
	for _, id := range over {
		if _, err := j.st.Job(id); errors.Is(err, state.ErrNotFound) {
			j.mu.Lock()
			delete(j.backups, id)
			j.mu.Unlock()
		}
	}
}

// collectDue tells whether space is to be reclaimed now: when there is some, and
// it is time, or there is too little left.
func (j *Jobs) collectDue(ctx context.Context, now time.Time, short *time.Time) bool {
	j.mu.Lock()
	last := j.latest[KindGC]
	waste := len(j.repo.Forgotten()) > 0
	for _, job := range j.backups {
		// What such a run stored is of use to the next one only.
		waste = waste || (job.State == Failed || job.State == Cancelled) && job.FinishedAt.After(last) && !ahead(job.FinishedAt, now)
	}
	if last.IsZero() || ahead(last, now) {
		last = now
		j.latest[KindGC] = now
	}
	j.mu.Unlock()
	if !waste {
		return false
	}
	if j.o.GC.Cron != "" {
		fields, err := fieldsOf(j.o.GC.Cron)
		if err == nil {
			if at := nextRun(fields, last, j.o.Zone); !at.IsZero() && !at.After(now) {
				return true
			}
		}
	}
	if since := now.Sub(*short); j.o.GC.MinFree > 0 && (since >= shortEvery || since < 0) {
		space, err := j.repo.Space(ctx)
		if err == nil && space.Free < j.o.GC.MinFree {
			*short = now
			return true
		}
	}
	return false
}

// verifyDue tells whether the repository was last read whole too long ago. Single
// backups that were verified since do not count: they may all be new ones.
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
		if l.job.Kind == KindVerify && l.job.BackupID == "" {
			return false
		}
	}
	if ahead(j.proven, now) {
		j.proven = time.Time{} // the clock went back: when that was nobody knows
	}
	if ahead(j.latest[KindVerify], now) {
		j.latest[KindVerify] = time.Time{}
	}
	if tried := now.Sub(j.latest[KindVerify]); tried >= 0 && tried < verifyAgain {
		return false
	}
	last, every := j.proven, j.o.Verify.Every
	if last.IsZero() {
		last, every = snaps[0].FinishedAt, min(every, firstVerify)
	}
	return now.Sub(last) >= every || ahead(last, now)
}

// suspect has the whole repository read after a backup was found damaged, at most
// once in verifyAgain: what lies behind a tree that is lost is known to be damaged
// only then, and until it is known backups build on it.
func (j *Jobs) suspect(now time.Time) {
	j.mu.Lock()
	tried := now.Sub(j.latest[KindVerify])
	j.mu.Unlock()
	if tried >= 0 && tried < verifyAgain {
		return
	}
	j.ask(context.Background(), "verify.create", func() (Job, error) {
		return j.enqueue(Job{Kind: KindVerify, CreatedAt: now}, By{Actor: scheduler})
	})
}

// follow sees to what comes after a job.
func (j *Jobs) follow(job Job) {
	if job.Kind == KindVerify && job.BackupID != "" && job.CheckReport != nil && job.State == Failed {
		j.suspect(job.FinishedAt)
		return
	}
	if job.Kind != KindBackup || !job.succeeded() || !j.o.Verify.AfterBackup {
		return
	}
	j.mu.Lock()
	for _, l := range j.queue {
		if l.job.Kind == KindVerify && l.job.BackupID == "" {
			j.mu.Unlock()
			return // it reads all there is when its turn comes, this backup too
		}
	}
	j.mu.Unlock()
	if _, err := j.enqueue(Job{Kind: KindVerify, BackupID: job.ID, CreatedAt: j.now()}, By{Actor: scheduler}); err != nil && !errors.Is(err, ErrClosing) {
		j.log.Error("the verification of a backup could not be queued", "backup", job.ID, "error", err)
	}
}
