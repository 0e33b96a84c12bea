package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/internal/metrics"
)

// observer hands what the queue tells on to the metrics, and keeps what systemd and the daemon itself want to know of it.
type observer struct {
	metrics *metrics.Metrics
	super   supervisor

	mu               sync.Mutex
	waiting, running int       // guarded by mu
	since            time.Time // guarded by mu; when nothing ran any more; zero: at the start
}

// JobDone counts.
func (o *observer) JobDone(j job.Job) {
	took := time.Duration(0)
	if !j.StartedAt.IsZero() && j.FinishedAt.After(j.StartedAt) {
		took = j.FinishedAt.Sub(j.StartedAt)
	}
	o.metrics.JobDone(string(j.Kind), string(j.State), took)
	if s := j.Snapshot; s != nil {
		o.metrics.BackupDone(metrics.Backup{
			BytesRead: s.Totals.BytesRead, BytesNew: s.Totals.BytesNew, BytesStored: s.Totals.BytesStored, Problems: int64(s.ProblemCount),
		})
	}
}

// QueueChanged notes how many wait and run.
func (o *observer) QueueChanged(waiting, running int) {
	o.metrics.Queue(waiting, running)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting, o.running, o.since = waiting, running, time.Now()
}

// status is what goes on, in words for systemctl status, and for how long nothing does.
func (o *observer) status(now time.Time) (text string, idle time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.waiting+o.running == 0 {
		return "idle", now.Sub(o.since)
	}
	return fmt.Sprintf("%s running, %d waiting", counted(o.running, "job"), o.waiting), 0
}

// facts tells the metrics how things stand.
func (d *daemon) facts() metrics.Facts {
	f := metrics.Facts{Sources: make(map[string]time.Time), Schedules: make(map[string]metrics.Schedule), FreeBytes: -1}
	for _, s := range d.jobs.Sources() {
		f.Sources[s.Name] = s.LastSuccess
	}
	// What can not be read now is left out of this look.
	if list, err := d.jobs.Schedules(); err == nil {
		for _, s := range list {
			f.Schedules[s.ID] = metrics.Schedule{Name: s.Name, LastSuccess: s.LastSuccess, NextRun: s.NextRun}
		}
	}
	for _, p := range d.repo.Packs() {
		f.StoredBytes += p.Size
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	if space, err := d.repo.Space(ctx); err == nil {
		f.FreeBytes = space.Free
	}
	if list, _, err := d.jobs.Backups(ctx, job.Filter{}); err == nil {
		for _, b := range list {
			if b.Manifest == nil {
				continue
			}
			f.Backups++
			at := b.FinishedAt
			if b.Verification.At.After(at) {
				at = b.Verification.At
			}
			if f.Verified.IsZero() || at.Before(f.Verified) {
				f.Verified = at
			}
			if b.Verification.State == job.VerificationFailed {
				f.VerificationFailed++
			}
		}
	}
	return f
}
