package backup_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

// Each repository cuts by a key of its own, and how soon an insertion is found
// out hangs on the cuts: the limits leave room for an unlucky key.
func TestRun_StoresLittleMoreThanTheChangedRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	dump := rows(rng, 20<<20)
	dir := t.TempDir()
	v := newVault(t, store.NewMem())
	store := func(data []byte) int64 {
		write(t, dir, "dump.sql", data)
		m := clean(t, v.run(t, newTree(t, dir), backup.Incremental))
		v.wantTree(t, m, dir)
		return m.Parts[0].Counts.BytesStored
	}
	first := store(dump)
	if first < 1<<20 || first > 20<<20 {
		t.Fatalf("the first version took %d bytes", first)
	}

	dump = rewrite(dump, rng, 0.01)
	if got := store(dump); got > first/20 {
		t.Errorf("1 %% of the rows rewritten: got %d bytes, the first version took %d", got, first)
	}
	if got := store(rewrite(dump, rng, 0.16)); got > first*2/5 {
		t.Errorf("16 %% of the rows rewritten: got %d bytes, the first version took %d", got, first)
	}
	dump = append(rows(rng, 300_000), dump...)
	if got := store(dump); got > first/8 {
		t.Errorf("rows inserted at the front: got %d bytes, the first version took %d", got, first)
	}
	// Both at once: the drift is not told by unchanged chunks alone.
	dump = append(rows(rng, 100_000), rewrite(dump, rng, 0.01)...)
	if got := store(dump); got > first/5 {
		t.Errorf("1 %% rewritten behind an insertion: got %d bytes, the first version took %d", got, first)
	}
	if got := store(rows(rand.New(rand.NewPCG(2, 2)), len(dump))); got > first*21/20*int64(len(dump))/(20<<20) {
		t.Errorf("rewritten from end to end: got %d bytes, the first version took %d", got, first)
	}
}

func TestRun_SmallFilesAreDeltasToo(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	dir := t.TempDir()
	v := newVault(t, store.NewMem())
	text := rows(rng, 200_000)
	write(t, dir, "page.html", text)
	first := clean(t, v.run(t, newTree(t, dir), backup.Full)).Parts[0].Counts.BytesStored
	write(t, dir, "page.html", rewrite(text, rng, 0.005))
	m := clean(t, v.run(t, newTree(t, dir), backup.Incremental))
	v.wantTree(t, m, dir)
	if got := m.Parts[0].Counts.BytesStored; got > first/8 {
		t.Errorf("got %d bytes, the first version took %d", got, first)
	}
}

// deepest is the depth of the deepest chunk of a file that the version before
// has not: one it has stays where it is, however deep that is.
func deepest(t *testing.T, r *repo.Repo, s, before *repo.Snapshot, name string) (depth uint8) {
	t.Helper()
	had := make(map[crypto.ID]bool)
	for _, ref := range chunksOf(t, r, before, name) {
		had[ref.ID] = true
	}
	fresh := 0
	for _, ref := range chunksOf(t, r, s, name) {
		if !had[ref.ID] {
			depth = max(depth, r.Reader().Depth(t.Context(), ref.ID))
			fresh++
		}
	}
	if fresh < 10 {
		t.Errorf("%d new chunks: this proves nothing", fresh)
	}
	return depth
}

func chunksOf(t *testing.T, r *repo.Repo, s *repo.Snapshot, name string) (refs []repo.Ref) {
	t.Helper()
	root, err := r.Root(&s.Parts[0])
	must(t, err)
	raw, _, err := r.Reader().Dir(root.Dir).Find(t.Context(), name)
	must(t, err)
	var e repo.Entry
	must(t, raw.Entry(&e))
	for cr := r.Reader().Content(&e.Content); ; {
		ref, ok, err := cr.Next(t.Context())
		must(t, err)
		if !ok {
			return refs
		}
		refs = append(refs, ref)
	}
}

func TestRun_ManyVersionsAllComeBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	dir := t.TempDir()
	v := newVault(t, store.NewMem())
	v.state = t.TempDir()
	text := rows(rng, 2<<20)
	var versions [][]byte
	for range 20 {
		write(t, dir, "dump.sql", text)
		clean(t, v.run(t, newTree(t, dir), backup.Incremental))
		versions = append(versions, text)
		text = rewrite(text, rng, 0.01)
	}
	r := v.open(t)
	snaps := r.Snapshots()
	r.Close()
	if len(snaps) != len(versions) {
		t.Fatalf("got %d snapshots, want %d", len(snaps), len(versions))
	}
	for i, s := range snaps {
		if got := v.read(t, &s.Manifest)["dump.sql"]; !bytes.Equal(got.data, versions[i]) {
			t.Errorf("version %d came back with other bytes", i)
		}
	}
	r = v.open(t)
	defer r.Close()
	if depth := deepest(t, r, snaps[19], snaps[18], "dump.sql"); depth > 2 { // 19 is 103 in base four
		t.Errorf("version 19 lies %d deep, want 2 at most", depth)
	}
	if depth := deepest(t, r, snaps[16], snaps[15], "dump.sql"); depth != 1 {
		t.Errorf("version 16 lies %d deep, want 1", depth)
	}
}
