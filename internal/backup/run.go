package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/generalbots/backupd/chunker"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/repo"
)

// Type says what a run starts from. Every snapshot is complete by itself,
// whatever its type.
type Type string

// The types of runs.
const (
	Full         Type = "full"         // no metadata is trusted, everything is read
	Incremental  Type = "incremental"  // against the latest snapshot
	Differential Type = "differential" // against the latest full one
)

// Options are the choices of one run.
type Options struct {
	ID        string    // of the snapshot; made when empty
	CreatedAt time.Time // when the backup was asked for; now when zero
	Type      Type
	Host      string
	Tags      []string
	Part      repo.Part // Source, Kind, Profile, Paths and options of the part; the run fills in the rest
	Workers   int       // 0 for one a core
	Level     repo.Level
	DryRun    bool // scan and compare only: nothing is read or written
}

// Progress counts what a run has done so far. The run writes it, anybody may
// read it at any time.
type Progress struct {
	Files     atomic.Int64 // entries that are not directories, taken care of
	Dirs      atomic.Int64
	Bytes     atomic.Int64 // sizes of those files, and what is done of one that is large
	BytesRead atomic.Int64 // from the source
	BytesNew  atomic.Int64 // of chunks the repository did not have
	Problems  atomic.Int64
}

// Report is what came of a run.
type Report struct {
	Snapshot *repo.Manifest // as it was committed; of a dry run what it would be
	Notes    []string       // for people: what the run decided by itself, and what looks suspicious
}

const (
	batchEntries = 256     // entries of a batch at most
	batchBytes   = 1 << 20 // bytes to read of a batch, about
	batchQueue   = 32      // batches under way
	largeFile    = 4 << 20 // from here on a file has a reader of its own
	largeFiles   = 2       // large files under way at once
	segmentBytes = 1 << 20 // of a large file that go to a worker at once
	segmentQueue = 8 << 20 // bytes of segments that wait for the builder, of one large file
	maxProblems  = 1000    // kept with their words; the rest is counted

	maxProblemPath = 4096 // bytes kept of the path of a problem; the manifest has room for no more
)

// run is the state of one Run.
type run struct {
	ctx      context.Context
	fail     func(error) // ends the run, unless the error is nil
	repo     *repo.Repo
	src      source.Source
	opts     Options
	prog     *Progress
	w        *repo.Writer // nil in a dry run
	cutter   *chunker.Cutter
	maxChunk int // bytes
	base     *base
	started  time.Time
	fresh    bool // nothing of the base is taken over unread

	order chan *batch   // every batch, in the order of the scan
	work  chan task     // for the workers
	large chan struct{} // bounds readers of large files
	free  sync.Pool     // *batch
	bufs  sync.Pool     // *segment buffers

	mu       sync.Mutex // guards the two below
	problems []repo.Problem
	count    uint64

	// Of the scan; the builder reads them when the scan is over.
	removed  uint64
	baseLost error // the first trouble with the base's tree
}

// Run makes one snapshot of what src yields. The context ends it at any
// moment. What could not be read is no error but in the report and the
// manifest, whose status then is completed_with_problems. It is not in the
// snapshot either, even where the base has an older state of it: a snapshot
// never passes off the past as the present. A directory that can not be listed
// is there, empty.
//
// An error means that there is no snapshot, with the exception that
// repo.Writer.Commit names. Input that can not be read a second time and
// breaks off is one: source.ErrBrokenOff.
func Run(ctx context.Context, r *repo.Repo, src source.Source, o Options, p *Progress) (*Report, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.CreatedAt.IsZero() {
		o.CreatedAt = time.Now()
	}
	if o.ID == "" {
		id, err := r.NewID(o.CreatedAt)
		if err != nil {
			return nil, err
		}
		o.ID = id
	}
	profile, err := r.Config().Profile(o.Part.Profile)
	if err != nil {
		return nil, err
	}
	cutter, err := chunker.New(profile.Chunker, chunker.NewTable(r.GearMaterial()))
	if err != nil {
		return nil, err
	}
	x := &run{
		ctx: ctx, repo: r, src: src, opts: o, prog: p, cutter: cutter, maxChunk: profile.Chunker.Max, started: time.Now(),
		order: make(chan *batch, batchQueue), work: make(chan task, batchQueue),
		large: make(chan struct{}, largeFiles),
	}
	rep := &Report{}
	if !o.DryRun {
		if x.w, err = r.NewWriter(ctx, repo.WriterOptions{Level: o.Level}); err != nil {
			return nil, err
		}
		defer x.w.Close()
	}
	x.base, rep.Notes = findBase(ctx, r, &o, x.started)
	x.opts.Type = o.Type
	x.fresh = o.Type == Full

	m, err := x.stages()
	if err != nil {
		return nil, err
	}
	rep.Snapshot = m
	rep.Notes = append(rep.Notes, m.Parts[0].Notes[len(o.Part.Notes):]...)
	if o.DryRun {
		return rep, nil
	}
	if err := x.w.Commit(ctx, m); err != nil {
		return nil, err
	}
	if err := x.w.Close(); err != nil {
		// The snapshot is durable; what failed is a cache or a lock that ends
		// with the process.
		rep.Notes = append(rep.Notes, fmt.Sprintf("the snapshot is complete, but something beside it is not: %v", err))
	}
	return rep, nil
}

// check refuses what could not be written at the end, before hours are spent.
func (o *Options) check() error {
	switch {
	case o.Type != Full && o.Type != Incremental && o.Type != Differential:
		return fmt.Errorf("%q is no type of a backup", o.Type)
	case o.ID != "" && !repo.IsSnapshotID(o.ID):
		return fmt.Errorf("%q is no snapshot id", o.ID)
	case o.Part.Source == "" || o.Part.Kind == "":
		return errors.New("a part needs the name and the kind of its source")
	case len(o.Part.Paths) > repo.MaxPaths:
		return fmt.Errorf("%d paths, at most %d: name a directory above them", len(o.Part.Paths), repo.MaxPaths)
	}
	return nil
}

// stages runs scan, workers and builder until all are done.
func (x *run) stages() (*repo.Manifest, error) {
	ctx, cancel := context.WithCancelCause(x.ctx)
	x.ctx = ctx
	var wg sync.WaitGroup
	// However the stages end, none is left behind.
	defer wg.Wait()
	defer cancel(errStopped)
	x.fail = func(err error) {
		if err != nil {
			cancel(err)
		}
	}
	var senders sync.WaitGroup // of work: the scan, the readers of large files, the builder
	senders.Add(2)
	wg.Go(func() {
		defer senders.Done()
		defer close(x.order)
		x.fail(x.scan(&senders))
	})
	wg.Go(func() {
		senders.Wait()
		close(x.work)
	})
	for range x.opts.Workers {
		wg.Go(func() { x.fail(x.worker()) })
	}
	part, err := x.build()
	senders.Done()
	x.fail(err)
	if cause := context.Cause(x.ctx); cause != nil {
		return nil, cause
	}
	wg.Wait() // workers flush their lanes as they end
	if cause := context.Cause(x.ctx); cause != nil {
		return nil, cause
	}
	if x.w != nil {
		part.Counts.BytesStored = x.w.StoredBytes()
	}
	return x.manifest(part), nil
}

var errStopped = errors.New("the run has ended")

// manifest puts the snapshot's record together.
func (x *run) manifest(part repo.Part) *repo.Manifest {
	x.mu.Lock()
	defer x.mu.Unlock()
	m := &repo.Manifest{
		ID: x.opts.ID, Type: string(x.opts.Type), CreatedAt: x.opts.CreatedAt, StartedAt: x.started, FinishedAt: time.Now(),
		Host: x.opts.Host, Tags: x.opts.Tags, Status: "completed", Parts: []repo.Part{part}, Totals: part.Counts,
		Problems: x.problems, ProblemCount: x.count,
	}
	if x.count > 0 {
		m.Status = "completed_with_problems"
	}
	if x.base.snapshot != nil {
		m.BaseID = x.base.snapshot.ID
	}
	return m
}

// problem records something that could not be done. The run goes on.
func (x *run) problem(path []byte, op string, err error) {
	x.prog.Problems.Add(1)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.count++
	if len(x.problems) < maxProblems {
		// A path may have megabytes, and whoever can make one can make a thousand.
		path = bytes.Clone(path[:min(len(path), maxProblemPath)])
		x.problems = append(x.problems, repo.Problem{Path: path, Op: op, Text: err.Error()})
	}
}

// send gives work to the workers, unless the run ends.
func (x *run) send(t task) error {
	select {
	case x.work <- t:
		return nil
	case <-x.ctx.Done():
		return context.Cause(x.ctx)
	}
}
