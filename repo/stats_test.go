package repo

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// slowStats counts with maps and reads every snapshot whole.
func slowStats(t testing.TB, r *Repo) (used, dead, slack int64, alone map[string]int64) {
	t.Helper()
	ctx := context.Background()
	owners := map[crypto.ID]map[string]bool{}
	for _, s := range r.Snapshots() {
		own := func(id crypto.ID) {
			if owners[id] == nil {
				owners[id] = map[string]bool{}
			}
			owners[id][s.ID] = true
		}
		root, err := r.Root(&s.Parts[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := walkTree(ctx, r.reader, root.Dir, func(id crypto.ID, _ pageKind, _ uint32) bool { own(id); return true }, func(ref Ref) { own(ref.ID) }); err != nil {
			t.Fatal(err)
		}
	}
	alone = map[string]int64{}
	type copyOf struct {
		depth uint8
		share int64
	}
	best := map[crypto.ID]copyOf{}
	if err := r.eachTrailer(ctx, r.catalog.all(0), func(_ uint32, tr *trailer) error {
		for b := range tr.blocks {
			rec := &tr.blocks[b]
			for c := range uint32(rec.chunks) {
				id, length := tr.chunk(rec.chunkAt + c)
				share := int64(rec.sealed) * int64(length) / int64(rec.plain)
				dead += share
				was, again := best[id]
				if again && rec.depth == was.depth {
					// Either copy counts, and which one the order of reading decides.
					slack += max(share-was.share, was.share-share)
				}
				if !again || rec.depth < was.depth {
					best[id] = copyOf{rec.depth, share}
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for id, who := range owners {
		used += best[id].share
		dead -= best[id].share
		for name := range who {
			if len(who) == 1 {
				alone[name] += best[id].share
			}
		}
	}
	return used, dead, slack, alone
}

func TestStats_SaysWhatEachSnapshotAloneHolds(t *testing.T) {
	sum := int64(0)
	for seed := range uint64(4) {
		st, _ := someVersions(t, seed)
		if seed == 3 {
			st = newTangledOfDistinctDepths(t)
		}
		r := openTestRepo(t, st, Options{})
		used, dead, slack, alone := slowStats(t, r)
		got, err := r.Stats(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if off := got.UsedBytes - used; off > slack || -off > slack || got.UsedBytes+got.DeadBytes != used+dead || len(got.Snapshots) != len(r.Snapshots()) {
			t.Errorf("seed %d: got %d bytes in use and %d dead of %d snapshots, want %d and %d of %d", seed, got.UsedBytes, got.DeadBytes, len(got.Snapshots), used, dead, len(r.Snapshots()))
		}
		for _, s := range got.Snapshots {
			if off := s.Alone - alone[s.ID]; off > slack || -off > slack {
				t.Errorf("seed %d: snapshot %s holds %d bytes alone, want %d", seed, s.ID, s.Alone, alone[s.ID])
			}
			sum += s.Alone
		}
		mustBeSound(t, r)
		r.Close()
	}
	if sum == 0 {
		t.Error("no snapshot holds anything alone, so the test shows nothing")
	}
}

// newTangledOfDistinctDepths stores a chunk plain and again as a delta.
func newTangledOfDistinctDepths(t testing.TB) *store.Mem {
	rng := rand.New(rand.NewPCG(8, 8))
	st := store.NewMem()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	a, b := textRows(rng, 40), textRows(rng, 40)
	ident := Identifier{crypto.NewHasher(r.idKey(kindData))}
	commitAgain(t, r, version{"a": a, "b": b}, nil)
	commitAgain(t, r, version{"b": b}, map[string][]Ref{"b": {ident.Ref(a)}})
	return st
}
