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

// live is a job that is not over. Whoever takes it out of the queue, to run it
// or to cancel it, is its owner from then on: nobody else changes it, and the
// owner alone writes it down, in the order in which it changes.
type live struct {
	job     Job                     // guarded by Jobs.mu
	cancel  context.CancelCauseFunc // guarded by Jobs.mu; nil while it waits
	changed chan struct{}           // guarded by Jobs.mu; closed and replaced when job changes
	done    chan struct{}           // closed when it is over
	read    func() Progress         // guarded by Jobs.mu; the counters of what runs
	speed   speed                   // guarded by Jobs.mu
	notYet  time.Time               // guarded by Jobs.mu; not to be begun before
	held    time.Time               // of the owner; since when another process has the repository, zero: it has not
}

// enqueue makes a job durable and puts it into the queue.
func (j *Jobs) enqueue(job Job, by By) (Job, error) {
	j.admit.Lock()
	defer j.admit.Unlock()
	return j.admitted(job, by)
}

// admitted is enqueue for who holds admit.
func (j *Jobs) admitted(job Job, by By) (Job, error) {
	if job.ID == "" {
		id, err := j.repo.NewID(job.CreatedAt)
		if err != nil {
			return Job{}, err
		}
		job.ID = string(job.Kind) + strings.TrimPrefix(id, string(KindBackup))
	}
	job.State, job.Actor, job.RequestID = Pending, by.Actor, by.RequestID
	j.mu.Lock()
	same, err := j.inTheWay(&job)
	j.mu.Unlock()
	if err != nil {
		return Job{}, err
	}
	if same != nil {
		job = *same
	}
	err = j.st.Update(func(tx *state.Tx) error {
		if by.Also != nil {
			if err := by.Also(tx, job); err != nil {
				return err
			}
		}
		if same != nil {
			return nil
		}
		return tx.PutJob(record(&job))
	})
	if err != nil {
		return Job{}, fmt.Errorf("nothing was queued: %w", err)
	}
	if same != nil {
		return job, nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	l := j.add(job)
	j.observe()
	j.nudge()
	return l.snapshot(), nil
}

// inTheWay tells what stands against a new job, or which job that has not begun
// does for both. mu is held.
func (j *Jobs) inTheWay(job *Job) (same *Job, err error) {
	switch {
	case j.closing:
		return nil, ErrClosing
	case len(j.queue) >= j.o.Waiting:
		return nil, ErrQueueFull
	}
	switch job.Kind {
	case KindRestore:
		if j.deleted[job.BackupID] {
			return nil, fmt.Errorf("backup %s: %w: it was deleted", job.BackupID, ErrNotFound)
		}
		if job.Restore.DryRun {
			break
		}
		if l := j.restoring(job.Target); l != nil {
			return nil, &BusyError{l.job.ID, fmt.Sprintf("target %s is being restored to already; wait for the end of job %s, or name another target", job.Target, l.job.ID)}
		}
	case KindGC, KindVerify:
		for _, l := range j.queue {
			if l.job.Kind == job.Kind && l.job.BackupID == job.BackupID {
				one := l.snapshot()
				return &one, nil
			}
		}
	}
	return nil, nil
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
		p.Rate, p.Left = l.speed.rate(p.Bytes), -1
		if p.Rate > 0 && p.BytesTotal >= p.Bytes && p.BytesTotal > 0 {
			p.Left = time.Duration(float64(p.BytesTotal-p.Bytes) / p.Rate * float64(time.Second))
		}
		job.Progress = &p
	}
	return job
}

// speed is how fast a job goes.
type speed struct {
	at    time.Time
	bytes int64
	last  float64
}

// rate returns bytes a second over the last seconds.
func (p *speed) rate(bytes int64) float64 {
	now := time.Now()
	if p.at.IsZero() {
		p.at, p.bytes = now, bytes
		return 0
	}
	if d := now.Sub(p.at); d >= 3*time.Second {
		p.last = max(0, float64(bytes-p.bytes)/d.Seconds())
		p.at, p.bytes = now, bytes
	}
	return p.last
}

// watching says whose progress is shown from now on.
func (j *Jobs) watching(l *live, read func() Progress) {
	j.mu.Lock()
	l.read = read
	j.mu.Unlock()
}

// change alters a job that goes on, tells who watches and has it written down.
// When it can not be written the change stands all the same: the state of a job
// is what happens. The owner calls it.
func (j *Jobs) change(l *live, f func(*Job)) {
	j.mu.Lock()
	f(&l.job)
	job := l.job
	j.keep(job)
	close(l.changed)
	l.changed = make(chan struct{})
	j.mu.Unlock()
	if err := j.st.PutJob(record(&job)); err != nil {
		j.log.Error("a job's state could not be written down", "job", job.ID, "state", string(job.State), "error", err)
	}
}

// keep remembers a backup for listings. mu is held.
func (j *Jobs) keep(job Job) {
	if job.Kind == KindBackup {
		job.Snapshot, job.Progress = nil, nil
		j.backups[job.ID] = job
	}
}

// finish ends a live job: what became of it is durable before anybody is told.
// Where it can not be written down it is kept in memory until it can. The owner
// calls it.
func (j *Jobs) finish(l *live, f func(*Job)) Job {
	j.mu.Lock()
	job := l.snapshot()
	j.mu.Unlock()
	f(&job)
	err := j.write(&job)
	if err != nil {
		j.log.Error("the end of a job could not be written down; it is tried again", "job", job.ID, "state", string(job.State), "error", err)
	}
	j.mu.Lock()
	l.job, l.read = job, nil
	j.keep(job)
	if err != nil {
		j.unwritten[job.ID] = job
	}
	if e, ok := expiryOf(&job); ok {
		j.expiries[job.ID] = e
	}
	if job.Kind == KindVerify {
		j.lastOf(&job)
	}
	delete(j.live, job.ID)
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

// write makes the end of a job durable, and with it when its backup may go.
func (j *Jobs) write(job *Job) error {
	return j.st.Update(func(tx *state.Tx) error {
		if e, ok := expiryOf(job); ok {
			if err := tx.PutExpiry(e); err != nil {
				return err
			}
		}
		return tx.PutJob(record(job))
	})
}

// rewrite tries again to write down what could not be written.
func (j *Jobs) rewrite() {
	j.admit.Lock() // against Delete
	defer j.admit.Unlock()
	j.mu.Lock()
	var list []Job
	for _, job := range j.unwritten {
		list = append(list, job)
	}
	j.mu.Unlock()
	for _, job := range list {
		if err := j.write(&job); err != nil {
			j.log.Warn("the end of a job can still not be written down", "job", job.ID, "error", err)
			return
		}
		j.mu.Lock()
		delete(j.unwritten, job.ID)
		j.mu.Unlock()
	}
}

// observe tells how long the queue is. mu is held.
func (j *Jobs) observe() {
	if j.o.Observer != nil {
		j.o.Observer.QueueChanged(len(j.queue), len(j.live)-len(j.queue))
	}
}

// startable takes the next job that may begin out of the queue, with a context
// that Cancel ends. wait is how long until one may that has to pause.
func (j *Jobs) startable(ctx context.Context, now time.Time) (l *live, work context.Context, wait time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closing {
		return nil, nil, 0
	}
	at, wait := j.slots.choose(j.queue, j.o.Readers, now)
	if at < 0 {
		return nil, nil, wait
	}
	l = j.queue[at]
	j.queue = slices.Delete(j.queue, at, at+1)
	j.slots.take(l.job.Kind)
	work, l.cancel = context.WithCancelCause(ctx)
	j.observe()
	return l, work, 0
}

// release gives back what startable took.
func (j *Jobs) release(kind Kind) {
	j.mu.Lock()
	j.slots.release(kind)
	j.mu.Unlock()
}

// Cancel ends a job that is waiting or running, and returns it when that is
// done, or as it stands when ctx ends before. ErrNotFound, and *BusyError for
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
		return job, &BusyError{id, fmt.Sprintf("the job is over (%s); there is nothing to cancel", job.State)}
	}
	at := slices.Index(j.queue, l)
	if at < 0 {
		// It runs, or somebody else is just cancelling it.
		if l.cancel != nil {
			l.cancel(errCancelled)
		}
		j.mu.Unlock()
		return j.Wait(ctx, id)
	}
	j.queue = slices.Delete(j.queue, at, at+1)
	j.mu.Unlock()
	return j.finish(l, func(job *Job) {
		job.State, job.FinishedAt = Cancelled, j.now()
		job.ErrorCode, job.ErrorMessage = "cancelled", cancelledText
	}), nil
}

const cancelledText = "somebody cancelled it"

var (
	errCancelled = errors.New("cancelled")
	errDraining  = errors.New("the daemon is shutting down")
)

// Job returns a job as it stands. ErrNotFound.
func (j *Jobs) Job(id string) (Job, error) {
	if job, ok := j.remembered(id); ok {
		return job, nil
	}
	rec, err := j.st.Job(id)
	// It may have been live a moment ago, and written only now.
	if job, ok := j.remembered(id); ok {
		return job, nil
	}
	if errors.Is(err, state.ErrNotFound) || errors.Is(err, state.ErrInvalid) {
		return Job{}, fmt.Errorf("job %.80q: %w", id, ErrNotFound)
	}
	if err != nil {
		return Job{}, err
	}
	job, err := recalled(rec)
	if err == nil && job.Kind == KindBackup {
		for _, s := range j.repo.Snapshots() {
			if s.ID == job.ID {
				job.Snapshot = &s.Manifest
			}
		}
	}
	return job, err
}

// remembered finds a job that memory knows better than the state file.
func (j *Jobs) remembered(id string) (Job, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if l := j.live[id]; l != nil {
		job := l.snapshot()
		job.Position = slices.Index(j.queue, l) + 1
		return job, true
	}
	job, ok := j.unwritten[id]
	return job, ok
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
	go j.watch(ctx, id, events)
	return events, nil
}

func (j *Jobs) watch(ctx context.Context, id string, events chan<- Job) {
	defer close(events)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		// Whether it is over is looked at first, so that the last step that is
		// sent is the end.
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
}
