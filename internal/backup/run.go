package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/generalbots/backupd/chunker"
	"github.com/generalbots/backupd/internal/pace"
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
	Workers   int // 0 for one a core
	Level     repo.Level
	DryRun    bool // scan and compare only: nothing is read or written
}

// Part is one source of a run and what the snapshot says of it. A source that is
// an io.Closer is closed as soon as its part is done, and one that is a
// source.Remarker is asked for its remarks before.
type Part struct {
	repo.Part // Source, Kind, Profile, Paths and options; the run fills in the rest
	From      source.Source
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
	batchEntries  = 128      // entries of a batch at most; each takes half a KiB
	batchBytes    = 1 << 20  // bytes to read of a batch, about
	batchQueue    = 24       // batches under way
	largeFile     = 4 << 20  // from here on a file has a reader of its own
	largeFiles    = 2        // large files under way at once
	segmentBytes  = 1 << 20  // of a large file that go to a worker at once
	segmentQueue  = 64       // segments of one large file that wait for the builder, without their bytes
	segmentMemory = 12 << 20 // bytes of segments under way
	readAhead     = 2        // segments read and not yet being cut, of a large file
	maxProblems   = 1000     // kept with their words; the rest is counted

	maxProblemPath = 4096 // bytes kept of the path of a problem; the manifest has room for no more
)

// session is the state of one Run: what its parts share.
type session struct {
	repo    *repo.Repo
	opts    Options
	prog    *Progress
	w       *repo.Writer // nil in a dry run
	started time.Time
	free    spare[*batch]
	notes   []string

	mu       sync.Mutex // guards the two below
	problems []repo.Problem
	count    uint64
}

// run is the state of one part of a Run.
type run struct {
	*session
	ctx      context.Context
	fail     func(error) // ends the run, unless the error is nil
	src      source.Source
	part     *repo.Part // as it was asked for
	cutter   *chunker.Cutter
	maxChunk int // bytes
	base     *base
	pace     *pace.Pace
	begun    time.Time
	fresh    bool       // nothing of the base is taken over unread
	small    repo.Guess // of all files below largeFile
	earlier  past       // what earlier parts have done

	order    chan *batch   // every batch, in the order of the scan
	work     chan task     // for the workers
	large    chan struct{} // bounds readers of large files
	bufs     chan []byte   // of segments; nil is one that is still to be made
	segments sync.Pool     // *segment, without buffers

	// Of the scan; the builder reads them when the scan is over.
	removed  uint64
	baseLost error // the first trouble with the base's tree
	lost     error // why the source could not be scanned to its end
}

// Run makes one snapshot of what the sources of its parts yield, one part after
// the other. The context ends it at any moment. What could not be read is no
// error but in the report and the manifest, whose status then is
// completed_with_problems. It is not in the snapshot either, even where the base
// has an older state of it: a snapshot never passes off the past as the present.
// A directory that can not be listed is there, empty. A part whose source can
// not be had at all is marked as failed and holds nothing; when all are, there
// is no snapshot.
//
// An error means that there is no snapshot, with the exception that
// repo.Writer.Commit names. Input that can not be read a second time and
// breaks off is one: source.ErrBrokenOff.
//
// The run keeps to the pace of its context; the caller's goroutine builds the
// tree.
func Run(ctx context.Context, r *repo.Repo, parts []Part, o Options, p *Progress) (*Report, error) {
	if err := o.check(parts); err != nil {
		return nil, err
	}
	if o.Workers <= 0 {
		o.Workers = pace.Cores()
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
	s := &session{repo: r, opts: o, prog: p, started: time.Now(), free: spare[*batch]{most: batchQueue}}
	if !o.DryRun {
		w, err := r.NewWriter(ctx, repo.WriterOptions{Level: o.Level})
		if err != nil {
			return nil, err
		}
		s.w = w
		defer w.Close()
	}
	m, err := s.parts(ctx, parts)
	if err != nil {
		return nil, err
	}
	rep := &Report{Snapshot: m, Notes: s.notes}
	if o.DryRun {
		return rep, nil
	}
	if err := s.w.Commit(ctx, m); err != nil {
		return nil, err
	}
	if err := s.w.Close(); err != nil {
		// The snapshot is durable; what failed is a cache or a lock that ends
		// with the process.
		rep.Notes = append(rep.Notes, fmt.Sprintf("the snapshot is complete, but something beside it is not: %v", err))
	}
	return rep, nil
}

// check refuses what could not be written at the end, before hours are spent.
func (o *Options) check(parts []Part) error {
	switch {
	case o.Type != Full && o.Type != Incremental && o.Type != Differential:
		return fmt.Errorf("%q is no type of a backup", o.Type)
	case o.ID != "" && !repo.IsSnapshotID(o.ID):
		return fmt.Errorf("%q is no snapshot id", o.ID)
	case len(parts) == 0:
		return errors.New("a backup needs a source")
	}
	for i := range parts {
		switch p := &parts[i]; {
		case p.Source == "" || p.Kind == "":
			return errors.New("a part needs the name and the kind of its source")
		case len(p.Paths) > repo.MaxPaths:
			return fmt.Errorf("%d paths, at most %d: name a directory above them", len(p.Paths), repo.MaxPaths)
		}
	}
	return nil
}

// stages runs scan, workers and builder until all are done.
func (x *run) stages() (part repo.Part, err error) {
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
		x.pace.Thread()
		x.fail(x.scan(&senders))
	})
	wg.Go(func() {
		senders.Wait()
		close(x.work)
	})
	for range x.opts.Workers {
		wg.Go(func() { x.fail(x.worker()) })
	}
	part, err = x.build()
	senders.Done()
	x.fail(err)
	if cause := context.Cause(x.ctx); cause != nil {
		return part, cause
	}
	wg.Wait() // workers flush their lanes as they end
	if cause := context.Cause(x.ctx); cause != nil {
		return part, cause
	}
	part.Counts.BytesStored = x.stored() - x.earlier.stored
	return part, nil
}

var errStopped = errors.New("the run has ended")

// problem records something that could not be done. The run goes on.
func (s *session) problem(path []byte, op string, err error) {
	s.prog.Problems.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	if len(s.problems) < maxProblems {
		// A path may have megabytes, and whoever can make one can make a thousand.
		path = bytes.Clone(path[:min(len(path), maxProblemPath)])
		s.problems = append(s.problems, repo.Problem{Path: path, Op: op, Text: err.Error()})
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
