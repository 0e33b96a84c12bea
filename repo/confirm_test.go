package repo

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/generalbots/backupd/internal/store"
)

// removeNewPacks removes the packs that are in the store beside those of
// before, and returns how many there were.
func removeNewPacks(t testing.TB, st store.Store, before map[string]bool) (n int) {
	t.Helper()
	list, err := st.List(t.Context(), "packs")
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range list {
		if before != nil && before[in.Name] {
			continue
		}
		if err := st.Remove(t.Context(), in.Name); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// What one writer has published and another process deletes, because it took
// the lock for free, must not be committed.
func TestCommit_FailsWhenAPackOfThisRunIsGone(t *testing.T) {
	st := store.NewMem()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	chunks := randomChunks(rand.New(rand.NewPCG(1, 2)), 20, 1000, 90_000)
	w, err := r.NewWriter(t.Context(), WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	l, err := w.NewLane()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chunks {
		if _, err := l.Put(t.Context(), c, l.Ref(c), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.data.flush(); err != nil {
		t.Fatal(err)
	}
	if removeNewPacks(t, st, nil) == 0 {
		t.Fatal("there is no pack to remove")
	}
	if err := w.Commit(t.Context(), bareManifest(t, r)); !errors.Is(err, ErrDamaged) {
		t.Errorf("commit without its packs: got error %v, want ErrDamaged", err)
	}
	if n := len(r.Snapshots()); n != 0 {
		t.Errorf("%d snapshots whose packs are gone", n)
	}
}

// A base's chunks are relied upon without being asked for.
func TestCommit_FailsWhenAPackOfTheBaseIsGone(t *testing.T) {
	st := store.NewMem()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	put(t, r, randomChunks(rand.New(rand.NewPCG(1, 3)), 5, 1000, 90_000), nil)
	w, err := r.NewWriter(t.Context(), WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	removeNewPacks(t, st, nil)
	if err := w.Commit(t.Context(), bareManifest(t, r)); !errors.Is(err, ErrDamaged) {
		t.Errorf("commit over a base whose packs are gone: got error %v, want ErrDamaged", err)
	}
}

// Whoever removes the file of a lock that looks stale, and then collects
// garbage, takes it from under the writer.
func TestCommit_FailsWhenTheLockWasTakenAway(t *testing.T) {
	dir := t.TempDir()
	st, err := store.MakeDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	initTestRepo(t, st, MinPackSize)
	for _, removed := range []bool{false, true} {
		r := openTestRepo(t, st, Options{})
		w, err := r.NewWriter(t.Context(), WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if removed {
			if err := os.Remove(filepath.Join(dir, "locks", writerLock)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Commit(t.Context(), bareManifest(t, r)); (err != nil) != removed {
			t.Errorf("lock taken away: %v, got error %v", removed, err)
		}
		w.Close()
		r.Close()
	}
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	if n := len(r.Snapshots()); n != 1 {
		t.Errorf("%d snapshots, want the one before", n)
	}
}
