package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/generalbots/backupd/internal/state"
)

// live is a job that is not over.
type live struct {
	job     Job                     // guarded by Jobs.mu
	cancel  context.CancelCauseFunc // guarded by Jobs.mu; nil while it waits
	changed chan struct{}           // guarded by Jobs.mu; closed and replaced when job changes
	done    chan struct{}           // closed when it is over
	read    func() Progress         // guarded by Jobs.mu; the counters of what runs
	pace    pace                    // guarded by Jobs.mu
	notYet  time.Time               // guarded by Jobs.mu; not to be begun before
}

// enqueue makes a job durable and puts it into the queue.
func (j *Jobs) enqueue(job Job, by By) (Job, error) {
	if job.ID == "" {
		id, err := j.repo.NewID(job.CreatedAt)
		if err != nil {
			return Job{}, err
		}
		job.ID = string(job.Kind) + strings.TrimPrefix(id, string(KindBackup))
	}
	job.State, job.Actor, job.RequestID = Pending, by.Actor, by.RequestID
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.closing:
		return Job{}, ErrClosing
	case len(j.queue) >= j.o.Waiting:
		return Job{}, ErrQueueFull
	}
	if job.Kind == KindRestore && !job.Restore.DryRun {
		if l := j.restoring(job.Target); l != nil {
			return Job{}, &BusyError{l.job.ID, fmt.Sprintf("target %s is being restored to already", job.Target)}
		}
	}
	if job.Kind == KindGC || job.Kind == KindVerify {
		for _, l := range j.live {
			if l.job.Kind == job.Kind && l.job.State == Pending && l.job.BackupID == job.BackupID {
				if by.Also != nil {
					if err := j.st.Update(func(tx *state.Tx) error { return by.Also(tx, l.job) }); err != nil {
						return Job{}, err
					}
				}
				return l.snapshot(), nil // one that has not begun does for both
			}
		}
	}
	err := j.st.Update(func(tx *state.Tx) error {
		if by.Also != nil {
			if err := by.Also(tx, job); err != nil {
				return err
			}
		}
		return tx.PutJob(record(&job))
	})
	if err != nil {
		return Job{}, fmt.Errorf("nothing was queued: %w", err)
	}
	l := j.add(job)
	j.observe()
	j.nudge()
	return l.snapshot(), nil
}

// add makes a job live and puts it last into the queue. mu is held, or nobody
// else is there yet.
func (j *Jobs) add(job Job) *live {
	l := &live{job: job, changed: make(chan struct{}), done: make(chan struct{})}
	j.live[job.ID] = l
	j.queue = append(j.queue, l)
	if job.Kind == KindBackup {
		j.backups[job.ID] = job
	}
	return l
}

// snapshot copies the job with its progress. Jobs.mu is held.
func (l *live) snapshot() Job {
	job := l.job
	if l.read != nil {
		p := l.read()
		p.Rate, p.Left = l.pace.rate(p.Bytes), -1
		if p.Rate > 0 && p.BytesTotal >= p.Bytes && p.BytesTotal > 0 {
			p.Left = time.Duration(float64(p.BytesTotal-p.Bytes) / p.Rate * float64(time.Second))
		}
		job.Progress = &p
	}
	return job
}

// pace is how fast a job goes.
type pace struct {
	at    time.Time
	bytes int64
	last  float64
}

// rate returns bytes a second over the last seconds.
func (p *pace) rate(bytes int64) float64 {
	now := time.Now()
	if p.at.IsZero() {
		p.at, p.bytes = now, bytes
		return 0
	}
	if d := now.Sub(p.at); d >= 3*time.Second {
		p.last = float64(bytes-p.bytes) / d.Seconds()
		p.at, p.bytes = now, bytes
	}
	return p.last
}

// change alters a job, has it written down and tells who watches. When it can
// not be written the change stands all the same: the state of a job is also
// what happened.
func (j *Jobs) change(l *live, f func(*Job)) {
	j.mu.Lock()
	f(&l.job)
	job := l.job
	if job.Kind == KindBackup {
		light := job
		light.Snapshot = nil
		j.backups[job.ID] = light
	}
	close(l.changed)
	l.changed = make(chan struct{})
	j.mu.Unlock()
	if err := j.st.PutJob(record(&job)); err != nil {
		j.log.Error("a job's state could not be written down", "job", job.ID, "state", string(job.State), "error", err)
	}
}

// finish ends a live job.
func (j *Jobs) finish(l *live, f func(*Job)) Job {
	j.change(l, f)
	j.mu.Lock()
	job := l.job
	delete(j.live, job.ID)
	j.queue = slices.DeleteFunc(j.queue, func(q *live) bool { return q == l })
	l.read = nil
	close(l.done)
	close(l.changed)
	l.changed = nil
	j.observe()
	j.mu.Unlock()
	if j.o.Observer != nil {
		j.o.Observer.JobDone(job)
	}
	j.nudge()
	return job
}

// observe tells how long the queue is. mu is held.
func (j *Jobs) observe() {
	if j.o.Observer != nil {
		j.o.Observer.QueueChanged(len(j.queue), len(j.live)-len(j.queue))
	}
}

// startable takes the next job that may begin out of the queue: one writer at a
// time, restores and verifications beside it, gc alone. A gc that waits for its
// turn holds back further writers, never a restore.
func (j *Jobs) startable(now time.Time) (l *live, wait time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closing {
		return nil, 0
	}
	held := false
	for i, l := range j.queue {
		if d := l.notYet.Sub(now); d > 0 {
			if wait == 0 || d < wait {
				wait = d
			}
			continue
		}
		switch l.job.Kind {
		case KindBackup:
			if j.writer || j.alone || held {
				continue
			}
			j.writer = true
		case KindGC:
			if j.writer || j.alone || j.readers > 0 {
				held = true
				continue
			}
			j.alone = true
		default:
			if j.alone || j.readers >= j.o.Readers {
				continue
			}
			j.readers++
		}
		j.queue = slices.Delete(j.queue, i, i+1)
		return l, 0
	}
	return nil, wait
}

// release gives back what startable took.
func (j *Jobs) release(kind Kind) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch kind {
	case KindBackup:
		j.writer = false
	case KindGC:
		j.alone = false
	default:
		j.readers--
	}
}

// Cancel ends a job that is waiting or running. ErrNotFound, and *BusyError for
// one that is over.
func (j *Jobs) Cancel(ctx context.Context, id string) (Job, error) {
	j.mu.Lock()
	l := j.live[id]
	if l == nil {
		j.mu.Unlock()
		job, err := j.Job(id)
		if err != nil {
			return Job{}, err
		}
		return job, &BusyError{id, fmt.Sprintf("the job is over: %s", job.State)}
	}
	if l.cancel != nil {
		l.cancel(errCancelled)
		j.mu.Unlock()
		return j.Wait(ctx, id)
	}
	j.queue = slices.DeleteFunc(j.queue, func(q *live) bool { return q == l })
	j.mu.Unlock()
	return j.finish(l, func(job *Job) { job.State, job.FinishedAt = Cancelled, time.Now() }), nil
}

var (
	errCancelled = errors.New("cancelled")
	errDraining  = errors.New("the daemon is shutting down")
)

// Job returns a job as it stands. ErrNotFound.
func (j *Jobs) Job(id string) (Job, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if l := j.live[id]; l != nil {
		job := l.snapshot()
		job.Position = slices.Index(j.queue, l) + 1
		return job, nil
	}
	rec, err := j.st.Job(id)
	if errors.Is(err, state.ErrNotFound) {
		return Job{}, fmt.Errorf("job %.80q: %w", id, ErrNotFound)
	}
	if err != nil {
		return Job{}, err
	}
	return recalled(rec)
}

// Wait returns the job when it is over, or as it stands when ctx ends.
func (j *Jobs) Wait(ctx context.Context, id string) (Job, error) {
	j.mu.Lock()
	l := j.live[id]
	j.mu.Unlock()
	if l != nil {
		select {
		case <-l.done:
		case <-ctx.Done():
		}
	}
	return j.Job(id)
}

// Watch delivers the job whenever its state changes and about once a second
// while it runs, the first time at once, and closes the channel when it is over.
// A slow reader misses steps, never the end. It ends with ctx. ErrNotFound.
func (j *Jobs) Watch(ctx context.Context, id string) (<-chan Job, error) {
	if _, err := j.Job(id); err != nil {
		return nil, err
	}
	events := make(chan Job)
	go func() {
		defer close(events)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			// Whether it is over is looked at first, so that the last step
			// that is sent is the end.
			j.mu.Lock()
			l := j.live[id]
			var changed chan struct{}
			if l != nil {
				changed = l.changed
			}
			j.mu.Unlock()
			job, err := j.Job(id)
			if err != nil {
				return
			}
			select {
			case events <- job:
			case <-ctx.Done():
				return
			}
			if l == nil {
				return
			}
			select {
			case <-changed:
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return events, nil
}
