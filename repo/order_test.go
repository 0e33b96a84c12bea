package repo

import (
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/store"
)

func TestSnapshots_OfOneWriterStandInTheirOrderWhenTheClockGoesBack(t *testing.T) {
	st, state := store.NewMem(), t.TempDir()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{StateDir: state})
	defer func() { r.Close() }()
	var want []string
	now := time.Now()
	for _, at := range []time.Time{now, now.AddDate(14, 0, 0), now.Add(time.Hour), now.Add(-time.Hour)} {
		w, err := r.NewWriter(t.Context(), WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		m := bareManifest(t, r)
		m.CreatedAt = at
		if err := w.Commit(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		w.Close()
		want = append(want, m.ID)
	}
	for range 2 {
		for i, s := range r.Snapshots() {
			if s.ID != want[i] {
				t.Errorf("place %d: got the snapshot of %v", i, s.CreatedAt)
			}
		}
		if s, err := r.Resolve("latest"); err != nil || s.ID != want[3] {
			t.Errorf("latest is of %v, %v: the clock, not the chain, decided", s.CreatedAt, err)
		}
		r.Close()
		r = openTestRepo(t, st, Options{StateDir: state})
	}
}
