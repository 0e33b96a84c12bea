package backup_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

// closing is a source that tells when it is closed and has remarks.
type closing struct {
	source.Source
	name    string
	log     *[]string
	remarks []source.Remark
	err     error
}

func (c *closing) Scan(ctx context.Context) iter.Seq2[source.Entry, error] {
	*c.log = append(*c.log, "scan "+c.name)
	return c.Source.Scan(ctx)
}
func (c *closing) Close() error             { *c.log = append(*c.log, "close "+c.name); return c.err }
func (c *closing) Remarks() []source.Remark { return c.remarks }

func (v *vault) parts(t testing.TB, typ backup.Type, parts ...backup.Part) (*backup.Report, error) {
	t.Helper()
	r := v.open(t)
	defer r.Close()
	return backup.Run(t.Context(), r, parts, backup.Options{Type: typ, Host: "here", Workers: 2}, new(backup.Progress))
}

func partOf(name string, from source.Source) backup.Part {
	return backup.Part{Part: repo.Part{Source: name, Kind: "files", Profile: "files", Paths: [][]byte{[]byte("/" + name)}}, From: from}
}

func TestParts_EachHasItsOwnBaseAndCounts(t *testing.T) {
	v := newVault(t, store.NewMem())
	a, b := t.TempDir(), t.TempDir()
	write(t, a, "one", random(1, 300_000))
	write(t, b, "two", random(2, 500_000))
	settle()
	first, err := v.parts(t, backup.Incremental, partOf("a", newTree(t, a)))
	must(t, err)
	if first.Snapshot.Type != "full" || first.Snapshot.BaseID != "" {
		t.Errorf("got %s on %s", first.Snapshot.Type, first.Snapshot.BaseID)
	}
	both, err := v.parts(t, backup.Incremental, partOf("a", newTree(t, a)), partOf("b", newTree(t, b)))
	must(t, err)
	m := clean(t, both.Snapshot)
	pa, pb := m.Parts[0], m.Parts[1]
	if m.Type != "incremental" || m.BaseID != first.Snapshot.ID || pa.BaseID != m.BaseID || pb.BaseID != "" {
		t.Errorf("got %s on %s, parts on %s and %s", m.Type, m.BaseID, pa.BaseID, pb.BaseID)
	}
	if pa.Counts.Unchanged != 1 || pa.Counts.BytesRead != 0 || pb.Counts.New != 1 || pb.Counts.BytesRead != 500_000 || pb.Counts.BytesNew != 500_000 {
		t.Errorf("got %+v and %+v", pa.Counts, pb.Counts)
	}
	if sum := pa.Counts.BytesTotal + pb.Counts.BytesTotal; m.Totals.BytesTotal != sum || m.Totals.BytesStored < pa.Counts.BytesStored+pb.Counts.BytesStored {
		t.Errorf("got totals %+v", m.Totals)
	}
	// Each part goes on from where it was last, wherever that is.
	again, err := v.parts(t, backup.Incremental, partOf("b", newTree(t, b)), partOf("a", newTree(t, a)))
	must(t, err)
	for _, p := range clean(t, again.Snapshot).Parts {
		if p.BaseID != m.ID || p.Counts.Unchanged != 1 || p.Counts.BytesRead != 0 {
			t.Errorf("%s: got %+v", p.Source, p)
		}
	}
	diff, err := v.parts(t, backup.Differential, partOf("a", newTree(t, a)))
	must(t, err)
	if diff.Snapshot.BaseID != first.Snapshot.ID || diff.Snapshot.Type != "differential" {
		t.Errorf("got %s on %s, want the latest full one", diff.Snapshot.Type, diff.Snapshot.BaseID)
	}
}

func TestParts_ALostSourceFailsAlone(t *testing.T) {
	v := newVault(t, store.NewMem())
	dir := t.TempDir()
	for i := range 600 {
		write(t, dir, fmt.Sprintf("d%d/f%d", i%7, i), random(uint64(i), 2000))
	}
	gone := errors.New("the disk was pulled")
	breaking := func() *tree {
		s, n := newTree(t, dir), 0
		s.fail = func(*source.Entry) error {
			if n++; n > 500 {
				return gone
			}
			return nil
		}
		return s
	}
	var log []string
	rep, err := v.parts(t, backup.Full,
		partOf("good", &closing{Source: newTree(t, dir), name: "good", log: &log, remarks: []source.Remark{{Path: "/x", Text: "fine"}}}),
		partOf("lost", &closing{Source: breaking(), name: "lost", log: &log, err: errors.New("and left a mess")}),
		partOf("odd", &closing{Source: newTree(t, dir), name: "odd", log: &log, remarks: []source.Remark{{Path: "/y", Text: "broken", Problem: true}}}))
	must(t, err)
	m := rep.Snapshot
	if got := strings.Join(log, ", "); got != "scan good, close good, scan lost, close lost, scan odd, close odd" {
		t.Errorf("got %s", got)
	}
	lost := m.Parts[1]
	if m.Status != "completed_with_problems" || m.ProblemCount != 2 || !lost.Failed || len(lost.Root) > 0 || lost.Counts.Files > 0 || lost.BaseID != "" {
		t.Errorf("got %s with %s, part %+v", m.Status, problems(m), lost)
	}
	if m.Parts[0].Counts.Files != 600 || m.Parts[2].Counts.Files != 600 || m.Parts[0].Notes[0] != "/x: fine" || !strings.Contains(strings.Join(rep.Notes, "\n"), "source lost: and left a mess") {
		t.Errorf("got notes %q %q", m.Parts[0].Notes, rep.Notes)
	}
	// A failed part is nobody's base, and everything else treats the snapshot as one without it.
	next, err := v.parts(t, backup.Incremental, partOf("lost", newTree(t, dir)))
	must(t, err)
	if clean(t, next.Snapshot).BaseID != "" {
		t.Errorf("a failed part is a base")
	}
	r := v.open(t)
	st, err := r.Stats(t.Context(), nil)
	must(t, err)
	if len(st.Snapshots) != 2 || st.Snapshots[0].Files != 1200 {
		t.Errorf("got %+v", st.Snapshots)
	}
	snaps, changes := r.Snapshots(), 0
	for _, err := range r.Diff(t.Context(), snaps[0], snaps[1]) {
		must(t, err)
		changes++
	}
	if changes == 0 {
		t.Error("a part that failed there and is here differs in nothing")
	}
	must(t, r.Close())
	r = v.open(t)
	if _, err := r.GC(t.Context(), repo.GCOptions{}, new(repo.GCProgress)); err != nil {
		t.Error(err)
	}
	must(t, r.Close())

	log = nil
	_, err = v.parts(t, backup.Full, partOf("lost", &closing{Source: breaking(), name: "1", log: &log}), partOf("lost too", &closing{Source: breaking(), name: "2", log: &log}))
	if !errors.Is(err, gone) || !strings.Contains(err.Error(), "lost too") || len(log) != 4 {
		t.Errorf("with all sources lost: %v, %v", err, log)
	}
}

// onePipe is a connection that yields one stream at a time, in order.
type onePipe struct {
	t      *testing.T
	open   bool
	last   string
	opened int
}

func (c *onePipe) list(paths map[string]int, order []string) func(context.Context) iter.Seq2[source.StreamFile, error] {
	return func(context.Context) iter.Seq2[source.StreamFile, error] {
		return func(yield func(source.StreamFile, error) bool) {
			for _, p := range order {
				if !yield(source.StreamFile{Path: p, Open: func(context.Context) (io.ReadCloser, error) {
					if c.open || source.ComparePaths(c.last, p) >= 0 {
						c.t.Errorf("%s is opened behind %s, which is open: %v", p, c.last, c.open)
					}
					c.open, c.last = true, p
					c.opened++
					return &onePipeFile{strings.NewReader(strings.Repeat(p, paths[p]/len(p)+1)[:paths[p]]), c}, nil
				}}, nil) {
					return
				}
			}
		}
	}
}

type onePipeFile struct {
	io.Reader
	c *onePipe
}

func (f *onePipeFile) Close() error { f.c.open = false; return nil }

func TestParts_StreamsAreReadOneAfterTheOther(t *testing.T) {
	v := newVault(t, store.NewMem())
	sizes, order := make(map[string]int), []string(nil)
	for i := range 40 {
		p := fmt.Sprintf("db/t%02d.sql", i)
		sizes[p], order = []int{0, 1, 1000, 3 << 20, 9 << 20}[i%5], append(order, p)
	}
	c := &onePipe{t: t}
	rep, err := v.parts(t, backup.Incremental, partOf("db", source.NewStreams(c.list(sizes, order))))
	must(t, err)
	got := v.read(t, clean(t, rep.Snapshot))
	for p, n := range sizes {
		if f := got[p]; f.Size != int64(n) || len(f.data) != n {
			t.Errorf("%s: got %d of %d bytes", p, len(f.data), n)
		}
	}
	if c.opened != len(sizes) {
		t.Errorf("opened %d of %d", c.opened, len(sizes))
	}
}
