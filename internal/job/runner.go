package job

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/generalbots/backupd/internal/pace"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

// idle is how long the runner sleeps at most: a clock that jumps is noticed
// after that time.
const idle = 30 * time.Second

// Run runs jobs and schedules until ctx ends. Then it takes nothing new, stops
// what runs at a sound point, and returns when all is written down; backups
// among that go on at the next start. It is called once.
func (j *Jobs) Run(ctx context.Context) error { return j.run(ctx, j.upkeep) }

func (j *Jobs) run(ctx context.Context, beside func(context.Context)) error {
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var running sync.WaitGroup
	running.Go(func() { beside(ctx) })
	for {
		j.forgetDeleted(work)
		wait := j.begin(work, &running)
		timer := time.NewTimer(wait)
		select {
		case <-j.wake:
			timer.Stop()
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			j.mu.Lock()
			j.closing = true
			j.mu.Unlock()
			stop(errDraining)
			running.Wait()
			j.rewrite() // the last chance to say what became of a job
			return nil
		}
	}
}

// begin starts all that may start, and says how long to sleep then.
func (j *Jobs) begin(ctx context.Context, running *sync.WaitGroup) time.Duration {
	for {
		l, work, wait := j.startable(ctx, time.Now())
		if l == nil {
			if wait == 0 || wait > idle {
				wait = idle
			}
			return wait
		}
		running.Go(func() { j.execute(work, l) })
	}
}

// execute runs one job to its end. It owns it.
func (j *Jobs) execute(ctx context.Context, l *live) {
	id, kind := l.job.ID, l.job.Kind
	defer func(end context.CancelCauseFunc) { end(nil) }(l.cancel)
	begun := time.Now()
	j.change(l, func(job *Job) {
		job.State, job.StartedAt, job.FinishedAt = InProgress, j.now(), time.Time{}
		job.Attempts++
		job.ErrorCode, job.ErrorMessage = "", ""
	})
	j.log.Info("a job begins", "job", id, "attempt", l.job.Attempts)
	result, err := j.perform(ctx, l)
	// The place is given back before the job is over for its watchers, so that
	// who waited for it finds the way free.
	j.release(kind)
	if j.again(ctx, l, err) {
		return
	}
	job := j.finish(l, func(job *Job) {
		result(job)
		job.FinishedAt = j.now()
		if job.FinishedAt.Before(job.StartedAt) {
			// The clock went back meanwhile: when it began is told by the clock as it is now.
			job.StartedAt = job.FinishedAt.Add(-time.Since(begun))
		}
		switch {
		case err == nil && job.problems():
			job.State = CompletedWithProblems
		case err == nil:
			job.State = Completed
		case errors.Is(context.Cause(ctx), errDraining):
			job.State, job.FinishedAt = Interrupted, ended(job.Kind, j.now())
			job.ErrorCode, job.ErrorMessage = "interrupted", interruptedText(job.Kind)
		case errors.Is(context.Cause(ctx), errCancelled):
			job.State, job.ErrorCode, job.ErrorMessage = Cancelled, "cancelled", cancelledText
		default:
			job.State = Failed
			job.ErrorCode, job.ErrorMessage = failure(err)
		}
	})
	if err != nil {
		j.log.Error("a job ended without success", "job", job.ID, "state", string(job.State), "error", err)
	} else {
		level := slog.LevelInfo
		if job.State == CompletedWithProblems {
			level = slog.LevelWarn
		}
		j.log.Log(ctx, level, "a job is done", "job", job.ID, "state", string(job.State), "took", time.Since(begun).Round(time.Millisecond).String())
	}
	j.follow(job)
}

// patience is how long a job waits for another process to give the repository
// back, pause how long before it looks again.
const (
	patience = time.Hour
	pause    = 5 * time.Second
)

// again puts a job back to the head of the queue when it could not begin because
// another process holds the repository.
func (j *Jobs) again(ctx context.Context, l *live, err error) bool {
	var held *store.LockedError
	if !errors.As(err, &held) || ctx.Err() != nil {
		return false
	}
	if l.held.IsZero() {
		l.held = time.Now()
	}
	if time.Since(l.held) >= j.patience {
		return false
	}
	j.change(l, func(job *Job) {
		job.State = Pending
		job.Attempts--
		job.ErrorCode, job.ErrorMessage = "repository_in_use", fmt.Sprintf("it waits for the repository: %v", held)
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	if ctx.Err() != nil {
		return false // cancelled meanwhile; who did so waits for its end
	}
	l.cancel, l.read, l.notYet = nil, nil, time.Now().Add(pause)
	j.queue = slices.Insert(j.queue, 0, l)
	j.observe()
	j.nudge()
	return true
}

// ended is when an interrupted job is over: a backup is not, it goes on.
func ended(k Kind, now time.Time) time.Time {
	if k == KindBackup {
		return time.Time{}
	}
	return now
}

func interruptedText(k Kind) string {
	if k == KindBackup {
		return "the daemon stopped while it ran; it goes on at the next start"
	}
	return "the daemon stopped while it ran; ask for it again"
}

// perform does the work of a job, at its pace, in a goroutine whose thread may
// be one that gives way to others; what comes after is not. What it returns is
// to be recorded whether there is an error or not.
func (j *Jobs) perform(ctx context.Context, l *live) (result func(*Job), err error) {
	p := j.o.Pace
	if l.job.Kind != KindRestore {
		p = p.Lowered(j.o.Priority)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Thread()
		result, err = j.guarded(pace.In(ctx, p), l)
	}()
	<-done
	return result, err
}

// guarded makes an error of a bug of ours.
func (j *Jobs) guarded(ctx context.Context, l *live) (result func(*Job), err error) {
	result = func(*Job) {}
	defer func() {
		if p := recover(); p != nil {
			j.log.Error("a job met a bug of ours", "job", l.job.ID, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errBug
		}
	}()
	switch l.job.Kind {
	case KindBackup:
		return j.backup(ctx, l)
	case KindRestore:
		return j.restore(ctx, l)
	case KindVerify:
		return j.verify(ctx, l)
	case KindGC:
		return j.collect(ctx, l)
	}
	return result, fmt.Errorf("%w: a job of kind %q", errBug, l.job.Kind)
}

var errBug = errors.New("internal error: the log of the daemon says more")

// problems tells whether a job that went through has something to tell.
func (job *Job) problems() bool {
	switch {
	case job.Snapshot != nil:
		return job.Snapshot.ProblemCount > 0
	case job.RestoreReport != nil:
		return job.RestoreReport.ProblemCount+job.RestoreReport.ExistingCount > 0
	case job.CheckReport != nil:
		return !job.CheckReport.Sound()
	}
	return false
}

// failure puts an error into the short list of codes scripts may act on, and
// words for people.
func failure(err error) (code, message string) {
	var held *store.LockedError
	var invalid *InvalidError
	switch {
	case errors.Is(err, errBug):
		return "internal_error", err.Error()
	case errors.As(err, &invalid):
		return "invalid", err.Error()
	case errors.As(err, &held):
		return "repository_in_use", fmt.Sprintf("%v; it was waited for an hour", err)
	case errors.Is(err, store.ErrNoSpace), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "no_space", err.Error()
	case errors.Is(err, repo.ErrReadOnly):
		return "repository_read_only", err.Error()
	case errors.Is(err, repo.ErrDamaged):
		return "repository_damaged", err.Error()
	case errors.Is(err, repo.ErrNotFound), errors.Is(err, ErrNotFound):
		return "not_found", err.Error()
	}
	return "failed", err.Error()
}
