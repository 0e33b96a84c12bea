package restore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/generalbots/backupd/internal/pace"
	"github.com/generalbots/backupd/internal/target"
	"github.com/generalbots/backupd/repo"
)

// run is the state of one Run.
type run struct {
	*recorder
	ctx    context.Context
	cancel context.CancelCauseFunc
	rd     *repo.Reader
	target *target.Directory // nil in a dry run
	opts   Options
	pace   *pace.Pace
	again  *reopener // of Verify

	work    chan task
	windows chan *window // those not under way

	mu   sync.Mutex // guards the two below
	open map[*file]struct{}
	dirs map[*dir]struct{}
}

var errStopped = errors.New("the run has ended")

// Run restores a snapshot, or what Options select of it, below a target. All
// parts of the snapshot are restored as one tree.
//
// What could not be restored is no error but in the report, whose status then
// is completed_with_problems. An error means that the run ended early: the
// context, a target that takes no more (syscall.ENOSPC and the like), a path
// that the snapshot does not have (repo.ErrNotFound, before anything is
// written). The report then says how far it came, if it came to anything.
// Whatever is complete by then stays; no file that is not complete does.
//
// The run keeps to the pace of its context.
func Run(ctx context.Context, r *repo.Repo, snap *repo.Manifest, to *target.Directory, o Options, p *Progress) (*Report, error) {
	if o.Workers <= 0 {
		o.Workers = pace.Cores()
	}
	if p == nil {
		p = new(Progress)
	}
	x := &run{
		recorder: &recorder{prog: p}, rd: r.Reader(), target: to, opts: o, pace: pace.Of(ctx),
		work: make(chan task, taskQueue), windows: make(chan *window, windowCount),
		open: make(map[*file]struct{}), dirs: make(map[*dir]struct{}),
	}
	x.ctx, x.cancel = context.WithCancelCause(ctx)
	defer x.cancel(errStopped)
	known := len(r.Warnings())
	x.r.Snapshot, x.r.DryRun, x.r.StartedAt = snap.ID, o.DryRun, time.Now().UTC()
	defer p.phase.Store(int32(PhaseDone))

	pl, err := x.newPlan(r, snap)
	if err != nil {
		return nil, err
	}
	if o.DryRun {
		x.target = nil
	} else if to == nil {
		return nil, errors.New("a restore needs a target")
	}
	if o.Verify && !o.DryRun {
		if x.again, err = newReopener(o.TargetPath); err != nil {
			return nil, err
		}
		defer x.again.close()
	}
	p.phase.Store(int32(PhaseRestore))
	err = x.stages(pl)
	if err == nil && x.target != nil {
		p.phase.Store(int32(PhaseSync))
		err = x.target.SyncAll()
	}
	notes := r.Warnings()[known:]
	x.r.Notes = notes[:min(len(notes), maxListed)]
	return x.report(), err
}

// stages runs plan and workers until all are done, and leaves nothing open.
func (x *run) stages(pl *plan) error {
	for range windowCount {
		x.windows <- new(window)
	}
	var wg sync.WaitGroup
	if x.target != nil {
		for range x.opts.Workers {
			wg.Go(x.worker)
		}
	}
	err := pl.walk()
	if err != nil {
		x.cancel(err)
	}
	close(x.work)
	wg.Wait()
	x.abandon()
	return context.Cause(x.ctx)
}

// abandon takes back what is not complete when no stage runs any more.
func (x *run) abandon() {
	for f := range x.open {
		f.w.Abort()
	}
	// The deepest first, since closing one may need those above it.
	var byDepth [][]*dir
	for d := range x.dirs {
		for len(byDepth) <= d.depth {
			byDepth = append(byDepth, nil)
		}
		byDepth[d.depth] = append(byDepth[d.depth], d)
	}
	for i := len(byDepth) - 1; i >= 0; i-- {
		for _, d := range byDepth[i] {
			d.folder.Close()
		}
	}
}

// fatal reports whether an error of the target ends the run, because every
// other file would fail the same way; then the run is ended.
func (x *run) fatal(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, target.ErrClosed} {
		if errors.Is(err, e) {
			x.cancel(fmt.Errorf("the restore ends here: %w", err))
			return true
		}
	}
	return false
}
