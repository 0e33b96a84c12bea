package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/generalbots/backupd/chunker"
	"github.com/generalbots/backupd/internal/pace"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/repo"
)

// past is what a session had counted before a part.
type past struct {
	read, new, stored int64
	problems          int
	count             uint64
}

// parts runs one part after the other and puts the snapshot's record together.
// The order is that of the parts asked for: what is captured first tells less
// of what happens meanwhile, so the caller decides.
func (s *session) parts(ctx context.Context, parts []Part) (*repo.Manifest, error) {
	m := &repo.Manifest{
		ID: s.opts.ID, CreatedAt: s.opts.CreatedAt, StartedAt: s.started,
		Host: s.opts.Host, Tags: s.opts.Tags, Status: "completed",
	}
	var bases []*base
	var lost []error // of parts
	for i := range parts {
		x, err := s.newRun(ctx, &parts[i])
		if err != nil {
			return nil, err
		}
		done, err := x.stages()
		if err == nil && x.lost != nil {
			x.lose(&done)
		}
		if c, ok := parts[i].From.(io.Closer); ok {
			// What it leaves behind is its own; the part is read.
			if lost := c.Close(); lost != nil {
				s.notes = append(s.notes, fmt.Sprintf("source %s: %v", parts[i].Source, lost))
			}
		}
		if err != nil {
			return nil, err
		}
		if x.lost != nil {
			lost = append(lost, fmt.Errorf("source %s: %w", parts[i].Source, x.lost))
		}
		s.notes = append(s.notes, done.Notes[len(parts[i].Notes):]...)
		m.Parts = append(m.Parts, done)
		m.Totals.Add(done.Counts)
		bases = append(bases, x.base)
	}
	if len(lost) == len(parts) {
		if len(lost) == 1 {
			return nil, errors.Unwrap(lost[0]) // whoever asked knows the one source
		}
		return nil, errors.Join(lost...)
	}
	m.Type = string(s.conclude(m, bases))
	m.FinishedAt = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	m.Problems, m.ProblemCount = s.problems, s.count
	if s.count > 0 {
		m.Status = "completed_with_problems"
	}
	return m, nil
}

// newRun prepares the run of one part.
func (s *session) newRun(ctx context.Context, p *Part) (*run, error) {
	profile, err := s.repo.Config().Profile(p.Profile)
	if err != nil {
		return nil, err
	}
	cutter, err := chunker.New(profile.Chunker, chunker.NewTable(s.repo.GearMaterial()))
	if err != nil {
		return nil, err
	}
	x := &run{
		session: s, ctx: ctx, src: p.From, part: &p.Part, cutter: cutter, maxChunk: profile.Chunker.Max, pace: pace.Of(ctx), begun: time.Now(),
		fresh:   s.opts.Type == Full,
		earlier: past{s.prog.BytesRead.Load(), s.prog.BytesNew.Load(), s.stored(), len(s.problems), s.count},
		order:   make(chan *batch, batchQueue), work: make(chan task, batchQueue),
		large: make(chan struct{}, largeFiles),
	}
	x.bufs = make(chan []byte, x.segmentBuffers())
	for range cap(x.bufs) {
		x.bufs <- nil
	}
	var notes []string
	x.base, notes = findBase(ctx, s.repo, &s.opts, x.part, x.begun)
	s.notes = append(s.notes, notes...)
	return x, nil
}

// stored is what the writer has stored so far.
func (s *session) stored() int64 {
	if s.w == nil {
		return 0
	}
	return s.w.StoredBytes()
}

// conclude names the snapshot's base, the latest of its parts' bases, and its
// type: without any base it is a full one whatever was asked for.
func (s *session) conclude(m *repo.Manifest, bases []*base) Type {
	var latest *repo.Snapshot
	for i, b := range bases {
		if b.snapshot == nil {
			if s.opts.Type != Full && len(bases) > 1 {
				s.notes = append(s.notes, fmt.Sprintf("source %s: there is no snapshot to compare with, it was read whole", m.Parts[i].Source))
			}
			continue
		}
		if latest == nil || b.snapshot.CreatedAt.After(latest.CreatedAt) {
			latest = b.snapshot
		}
	}
	if latest != nil {
		m.BaseID = latest.ID
		return s.opts.Type
	}
	if s.opts.Type != Full {
		s.notes = append(s.notes, "there is no snapshot to base this backup on: it becomes a full one")
	}
	return Full
}

var errNoRoot = errors.New("the source ended before its root directory did")

// remarks takes over what the source has to say.
func (b *builder) remarks(part *repo.Part) {
	r, ok := b.src.(source.Remarker)
	if !ok {
		return
	}
	for _, m := range r.Remarks() {
		if m.Problem {
			b.problem([]byte(m.Path), "examine", errors.New(m.Text))
		}
		part.Notes = append(part.Notes, strings.TrimPrefix(m.Path+": "+m.Text, ": "))
	}
}

// lose closes a part whose source was lost: it holds nothing, and says why. What
// else went wrong in it follows from that and says nothing more. All stages of
// the part have ended.
func (x *run) lose(part *repo.Part) {
	stored := part.Counts.BytesStored
	*part = *x.part
	part.StartedAt, part.FinishedAt, part.Failed = x.begun, time.Now(), true
	part.Notes = append(slices.Clone(part.Notes), fmt.Sprintf("failed: %v", x.lost))
	part.Counts.BytesStored = stored // what is in packs is there
	x.mu.Lock()
	x.prog.Problems.Add(int64(x.earlier.count) - int64(x.count))
	x.problems, x.count = x.problems[:x.earlier.problems], x.earlier.count
	x.mu.Unlock()
	x.problem(nil, "read source "+part.Source, x.lost)
}
