package repo

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/generalbots/backupd/index"
	"github.com/generalbots/backupd/internal/store"
)

// A reader of a repository with more chunks than a table should hold asks the index, beside writers that come and go,
// and takes the table all the same where the index is somebody else's.
func TestReader_AsksTheIndexWhereATableWouldBeTooLarge(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(21, 22))
	st, state := store.NewMem(), t.TempDir()
	initTestRepo(t, st, MinPackSize)
	first := version{}
	for i, c := range randomChunks(rng, 60, 40_000, 60_000) {
		first[string(rune('A'+i))] = c
	}
	r := openTestRepo(t, st, Options{StateDir: state})
	one := commit(t, r, first, nil)
	must(r.Close())

	few := func(r *Repo) *Repo { r.bounds.table = 20; return r }
	r = few(openTestRepo(t, st, Options{StateDir: state}))
	table := &r.tables[kindData-1]
	wantAll(t, r, map[string]version{one.ID: first})
	if r.index.Load() == nil || table.loaded.Load() || table.places.count() > 0 {
		t.Fatalf("index open: %v, table of %d chunks loaded: %v", r.index.Load() != nil, table.places.count(), table.loaded.Load())
	}

	// A chunk that another process has stored since is unknown to the index that this one has open.
	second := version{"new": randomChunks(rng, 1, 50_000, 50_000)[0]}
	other := openTestRepo(t, st, Options{})
	two := commit(t, other, second, nil)
	must(other.Close())
	must(r.Refresh(t.Context()))
	wantAll(t, r, map[string]version{one.ID: first, two.ID: second})

	// A writer finds what both have stored, and takes the index along when it ends.
	before := len(r.catalog.all(kindData))
	three := commit(t, r, version{"a": first["A"], "b": second["new"]}, nil)
	if n := len(r.catalog.all(kindData)); n != before {
		t.Errorf("a run with nothing new made %d packs", n-before)
	}
	wantAll(t, r, map[string]version{one.ID: first, two.ID: second, three.ID: {"a": first["A"], "b": second["new"]}})
	must(r.Close())

	held, err := index.Open(index.Options{Dir: filepath.Join(state, "index"), Repo: r.id, Key: r.keys.index})
	must(err)
	defer held.Close()
	r = few(openTestRepo(t, st, Options{StateDir: state}))
	defer r.Close()
	wantAll(t, r, map[string]version{one.ID: first, two.ID: second})
	if !r.tables[kindData-1].loaded.Load() {
		t.Error("another opener has the index, and the table is not loaded")
	}
	if w := r.Warnings(); len(w) > 0 {
		t.Errorf("a reader warns: %q", w)
	}
}
