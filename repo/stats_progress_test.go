package repo

import (
	"testing"

	"github.com/generalbots/backupd/internal/store"
)

func TestStats_CountsWhatItHasGoneThrough(t *testing.T) {
	st := store.NewMem()
	initTestRepo(t, st, 0)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	for _, name := range []string{"a", "b", "c"} {
		if _, err := commitFiles(t.Context(), r, version{name: []byte(name)}, nil); err != nil {
			t.Fatal(err)
		}
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
