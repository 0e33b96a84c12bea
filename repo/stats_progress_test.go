package repo

import (
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/store"
)

func TestStats_CountsWhatItHasGoneThrough(t *testing.T) {
	st := store.NewMem()
	initTestRepo(t, st, 0)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	for _, name := range []string{"a", "b", "c"} {
		commitFile(t, r, name)
	}
	var p StatsProgress
	if _, err := r.Stats(t.Context(), &p); err != nil {
		t.Fatal(err)
	}
	// Each has a page and a chunk.
	if p.Snapshots.Load() != 3 || p.TotalSnapshots.Load() != 3 || p.Chunks.Load() != 6 {
		t.Errorf("gone through %d of %d snapshots, %d chunks", p.Snapshots.Load(), p.TotalSnapshots.Load(), p.Chunks.Load())
	}
	if _, err := r.Stats(t.Context(), nil); err != nil {
		t.Errorf("without a progress: %v", err)
	}
	rep, err := r.Check(t.Context(), CheckOptions{ReadData: true}, new(CheckProgress))
	if err != nil || !rep.Sound() {
		t.Errorf("check: %v %+v", err, rep)
	}
}

// commitFile makes a snapshot of one file that holds its name.
func commitFile(t *testing.T, r *Repo, name string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	w, err := r.NewWriter(ctx, WriterOptions{})
	check(err)
	defer w.Close()
	lane, err := w.NewLane()
	check(err)
	ref := lane.Ref([]byte(name))
	_, err = lane.Put(ctx, []byte(name), ref, nil)
	check(err)
	d := w.Tree().NewDir(nil, r.Reader())
	size := int64(len(name))
	check(d.Add(ctx, &Entry{Name: name, Type: TypeRegular, Nlink: 1, Size: size, Content: Content{Inline: []Ref{ref}, Chunks: 1, Bytes: size}}))
	dir, err := d.Close(ctx)
	check(err)
	check(lane.Flush(ctx))
	now := time.Now()
	m := &Manifest{Type: "full", CreatedAt: now, StartedAt: now, FinishedAt: now, Host: "test", Status: "completed",
		Parts: []Part{{Source: "test", Kind: "files", Profile: "files", StartedAt: now, FinishedAt: now}}}
	check(m.Parts[0].SetRoot(&Entry{Type: TypeDirectory, Mode: 0o755, Nlink: 2, Dir: dir}))
	m.ID, err = r.NewID(now)
	check(err)
	check(w.Commit(ctx, m))
}
