package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// someVersions is a repository of versions of a dump, noise and a small file,
// some of them forgotten.
func someVersions(t testing.TB, seed uint64) (st *store.Mem, live map[string]version) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 21))
	return versionsOf(t, rng, version{"dump": textRows(rng, 4000), "small": []byte("x"), "noise": randomChunks(rng, 1, 300_000, 300_000)[0]})
}

// versionsOf is someVersions with other files to begin with.
func versionsOf(t testing.TB, rng *rand.Rand, v version) (st *store.Mem, live map[string]version) {
	t.Helper()
	st, live = store.NewMem(), map[string]version{}
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	var last *Snapshot
	for range 10 {
		s, err := commitFiles(t.Context(), r, v, last)
		if err != nil {
			t.Fatal(err)
		}
		last, live[s.ID] = s, v
		v = mutate(rng, v)
		if v["noise"] != nil && rng.IntN(3) == 0 {
			v["noise"] = randomChunks(rng, 1, 300_000, 300_000)[0]
		}
	}
	for _, s := range slices.Clone(r.Snapshots()) {
		if s.ID != last.ID && rng.IntN(2) == 0 {
			if err := r.Forget(t.Context(), s.ID); err != nil {
				t.Fatal(err)
			}
			delete(live, s.ID)
		}
	}
	return st, live
}

// A dry run says what the real one then does. What is encoded anew it can only
// estimate, from what others take that were: so all is text here.
func TestGC_DoesWhatTheDryRunSaid(t *testing.T) {
	freed, repacked := int64(0), 0
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 21))
		st, live := versionsOf(t, rng, version{"dump": textRows(rng, 4000), "small": []byte("x")})
		r := openTestRepo(t, st, Options{StateDir: t.TempDir()})
		for range 2 {
			had := storeBytes(t, st)
			var p GCProgress
			said, err := r.GC(t.Context(), GCOptions{DryRun: true}, &p)
			if err != nil {
				t.Fatal(err)
			}
			if got := storeBytes(t, st); got != had || !said.DryRun {
				t.Fatalf("a dry run made %d bytes of %d", got, had)
			}
			did := gc(t, r)
			if said.BytesBefore != did.BytesBefore || did.BytesBefore != had || said.PacksBefore != did.PacksBefore || said.DeadPacks != did.DeadPacks ||
				said.RepackedPacks != did.RepackedPacks || said.ReencodedBlocks != did.ReencodedBlocks || said.RemovedSnapshots != did.RemovedSnapshots {
				t.Errorf("seed %d: said %+v, did %+v", seed, said, did)
			}
			if got := storeBytes(t, st); got != did.BytesAfter {
				t.Errorf("seed %d: gc says it left %d bytes, there are %d", seed, did.BytesAfter, got)
			}
			// Padding of two tails, and estimates of what is encoded anew.
			slack := 2*MinTailSize + did.MovedBytes/8
			if did.RepackedPacks == 0 {
				slack = 0
			}
			if diff := said.BytesAfter - did.BytesAfter; max(diff, -diff) > slack {
				t.Errorf("seed %d: said %d bytes would be left, %d are; %d were moved", seed, said.BytesAfter, did.BytesAfter, did.MovedBytes)
			}
			freed, repacked = freed+did.BytesBefore-did.BytesAfter, repacked+did.RepackedPacks
			mustBeSound(t, r)
			wantAll(t, r, live)
		}
		r.Close()
	}
	if freed == 0 || repacked == 0 {
		t.Errorf("%d bytes were freed, %d packs repacked, so the test shows nothing", freed, repacked)
	}
}

// A block that goes as it is takes all it took, however little of it is needed:
// a dry run that counted what is needed promised space that did not come.
func TestGC_TheDryRunCountsWholeBlocksThatGoAsTheyAre(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 21))
	st := store.NewMem()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	// Blocks of which one is needed but for a fifth, and others not at all.
	both, kept := version{}, version{}
	for i := range 40 {
		name := fmt.Sprintf("f%02d", i)
		both[name] = randomChunks(rng, 1, 15_000, 15_000)[0]
		if i < 13 {
			kept[name] = both[name]
		}
	}
	first := commit(t, r, both, nil)
	commit(t, r, kept, nil) // with no page that leans on another
	if err := r.Forget(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	said, err := r.GC(t.Context(), GCOptions{DryRun: true}, &GCProgress{})
	if err != nil {
		t.Fatal(err)
	}
	did := gc(t, r)
	if did.RepackedPacks == 0 || did.ReencodedBlocks > 0 || did.MovedBytes < 15*15_000 {
		t.Fatalf("no block goes as it is, so the test shows nothing: %+v", did)
	}
	// What is estimated are pages of the tree.
	if diff := did.MovedBytes - said.MovedBytes; max(diff, -diff) > 2000 || said.PacksAfter != did.PacksAfter {
		t.Errorf("said %d bytes would be moved and %d packs left, %d were and %d are", said.MovedBytes, said.PacksAfter, did.MovedBytes, did.PacksAfter)
	}
	if diff := did.BytesAfter - said.BytesAfter; max(diff, -diff) > MinTailSize {
		t.Errorf("said %d bytes would be left, %d are", said.BytesAfter, did.BytesAfter)
	}
	mustBeSound(t, r)
}

// The proof lets a pack go exactly when all snapshots are whole without it.
func TestGC_TheProofRefusesEachPackThatIsNeeded(t *testing.T) {
	needed, free := 0, 0
	for seed := range uint64(4) {
		st, _ := someVersions(t, seed)
		if seed%2 == 1 {
			st = newTangled(t, seed).st
		}
		r := openTestRepo(t, st, Options{})
		all := r.catalog.all(0)
		r.Close()
		for _, n := range all {
			r := openTestRepo(t, st, Options{})
			g, err := newGarbage(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if err := g.mark(t.Context()); err != nil {
				t.Fatal(err)
			}
			said := g.prove(t.Context(), []uint32{n})
			g.close()
			r.Close()

			// Without believing a mark: take it out and look.
			cut := copyMem(t, st)
			info := r.catalog.info(n)
			if err := cut.Remove(t.Context(), packName(info.id, info.kind)); err != nil {
				t.Fatal(err)
			}
			r = openTestRepo(t, cut, Options{})
			broken := untangled(t, r)
			r.Close()
			switch {
			case said == nil && broken != nil:
				t.Fatalf("seed %d: the proof lets pack %d go, but %v", seed, n, broken)
			case said == nil:
				free++
			case broken != nil:
				needed++
			}
		}
	}
	if needed == 0 || free == 0 {
		t.Errorf("%d packs were needed, %d not, so the test shows nothing", needed, free)
	}
	t.Logf("%d packs were needed, %d not", needed, free)
}

// A trailer whose chunks are not those that the roll was made of is noticed,
// and so is a dictionary that names what no pack holds.
func TestGC_TheCensusFindsWhatHasNoNumberOfItsOwn(t *testing.T) {
	st, _ := someVersions(t, 3)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	g, err := newGarbage(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	broken, err := g.census(t.Context(), g.packs, &g.deep)
	if err != nil || broken.count() != 0 {
		t.Fatalf("a sound repository: %v, %d broken", err, broken.count())
	}
	// The packs that lower depths lie in are not there any more.
	var without []uint32
	for _, n := range g.packs {
		if slices.Contains(g.deep[1], n) || r.catalog.info(n).kind == kindTree {
			without = append(without, n)
		}
	}
	if len(without) == len(g.packs) || len(g.deep[1]) == 0 {
		t.Fatal("every pack has delta blocks, or none has, so the test shows nothing")
	}
	if broken, err = g.census(t.Context(), without, &g.deep); err != nil || broken.count() == 0 {
		t.Errorf("without the packs that dictionaries lie in: %v, %d broken", err, broken.count())
	}
	// A roll of a part of the packs gives others' numbers to the rest.
	g.roll, err = newRoll(t.Context(), g.copies, 1<<10, func(ctx context.Context, use func(uint32, *trailer) error) error {
		return g.each(ctx, g.packs[:len(g.packs)-1], use)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.census(t.Context(), g.packs, &g.deep); !errors.Is(err, ErrDamaged) {
		t.Errorf("a roll of some packs: got %v, want ErrDamaged", err)
	}
}

// A chunk that is in no pack has the number of another one. When that is a
// page, the page must be read all the same.
func TestGC_KeepsWhatAPageNamesWhoseNumberAMissingChunkHas(t *testing.T) {
	shared := 0
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 5))
		st := store.NewMem()
		initTestRepo(t, st, MinPackSize)
		r := openTestRepo(t, st, Options{})
		// What is lost comes first, in hundreds of chunks; what is not, in the
		// pages behind it.
		lost, kept := version{}, version{}
		for i := range 300 {
			lost[fmt.Sprintf("a%04d", i)] = randomChunks(rng, 1, 60, 60)[0]
			kept[fmt.Sprintf("b%04d", i)] = randomChunks(rng, 1, 60, 60)[0]
		}
		both := maps.Clone(lost)
		maps.Copy(both, kept)
		first, err := commitFiles(t.Context(), r, lost, nil)
		if err != nil {
			t.Fatal(err)
		}
		gone := r.catalog.all(kindData)
		if _, err := commitFiles(t.Context(), r, both, first); err != nil {
			t.Fatal(err)
		}
		for range 3 { // something to delete
			s, err := commitFiles(t.Context(), r, version{"c": randomChunks(rng, 1, 90_000, 90_000)[0]}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Forget(t.Context(), s.ID); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Forget(t.Context(), first.ID); err != nil {
			t.Fatal(err)
		}
		for _, n := range gone {
			info := r.catalog.info(n)
			if err := st.Remove(t.Context(), packName(info.id, info.kind)); err != nil {
				t.Fatal(err)
			}
		}
		r.Close()

		r = openTestRepo(t, st, Options{})
		g, err := newGarbage(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		pages := map[int]bool{}
		if err := g.each(t.Context(), r.catalog.all(kindTree), func(_ uint32, tr *trailer) error {
			for c := range uint32(tr.chunkCount()) {
				pages[g.number(tr, c)] = true
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		ident := Identifier{crypto.NewHasher(r.idKey(kindData))}
		for _, p := range lost {
			ref := ident.Ref(p)
			if pages[g.roll.number(&ref.ID)] {
				shared++
			}
		}
		g.close()
		gc(t, r)
		r.Close()
		r = openTestRepo(t, st, Options{})
		got, _ := readFiles(t.Context(), r, r.Snapshots()[0])
		for name, p := range kept {
			if b, ok := got[name]; ok && !bytes.Equal(b, p) {
				t.Fatalf("seed %d: %s is not what it was", seed, name)
			}
			root, err := r.Root(&r.Snapshots()[0].Parts[0])
			if err != nil {
				t.Fatal(err)
			}
			if raw, ok, err := r.Reader().Dir(root.Dir).Find(t.Context(), name); err != nil || !ok {
				t.Fatalf("seed %d: %s is gone: %v", seed, name, err)
			} else {
				var e Entry
				if err := raw.Entry(&e); err != nil {
					t.Fatal(err)
				}
				for _, ref := range e.Content.Inline {
					if b, err := r.Reader().AppendChunk(t.Context(), nil, ref.ID); err != nil || !bytes.Equal(b, p) {
						t.Fatalf("seed %d: %s lost its bytes: %v", seed, name, err)
					}
				}
			}
		}
		r.Close()
	}
	if shared == 0 {
		t.Error("no missing chunk has the number of a page, so the test shows nothing")
	}
	t.Logf("%d missing chunks had the number of a page", shared)
}
