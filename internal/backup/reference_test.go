package backup_test

import (
	"math/rand/v2"
	"testing"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/repo"
)

// list makes a chunk list of random lengths.
func list(rng *rand.Rand, n int) []repo.Ref {
	refs := make([]repo.Ref, n)
	for i := range refs {
		refs[i] = chunk(rng, 16<<10+rng.IntN(240<<10))
	}
	return refs
}

func chunk(rng *rand.Rand, n int) repo.Ref {
	r := repo.Ref{Len: uint32(n)}
	for i := range r.ID {
		r.ID[i] = byte(rng.Uint32())
	}
	return r
}

func offsets(refs []repo.Ref) map[crypto.ID]int64 {
	at := make(map[crypto.ID]int64)
	var off int64
	for _, r := range refs {
		at[r.ID] = off
		off += int64(r.Len)
	}
	return at
}

func has(refs []repo.Ref, id crypto.ID) bool {
	for _, r := range refs {
		if r.ID == id {
			return true
		}
	}
	return false
}

func TestReference_FindsTheChunkThatWasEdited(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	old := list(rng, 500)
	g := backup.ReferenceOf(old)
	var off int64
	for i, was := range old {
		now := was
		if i%3 > 0 { // two of three have other bytes and nearly the same length
			now = chunk(rng, int(was.Len)+rng.IntN(200)-100)
		}
		like := g.Like(off, now)
		if i%3 == 0 && like != nil {
			t.Fatalf("chunk %d is stored already, and gets a dictionary", i)
		}
		if i%3 > 0 && !has(like, was.ID) {
			t.Fatalf("chunk %d: what it was is not in its dictionary", i)
		}
		off += int64(now.Len)
	}
}

func TestReference_FollowsTheDrift(t *testing.T) {
	for _, shift := range []int{-3_000_000, 0, 1, 5_000_000} {
		rng := rand.New(rand.NewPCG(3, 4))
		old := list(rng, 300)
		g := backup.ReferenceOf(old)
		at := offsets(old)
		kept := old[60:]
		off := at[kept[0].ID] + int64(shift) // rows were inserted, or taken out, in front
		if like := g.Like(off, kept[0]); like != nil || g.Drift() != int64(-shift) {
			t.Fatalf("shift %d: got drift %d", shift, g.Drift())
		}
		off += int64(kept[0].Len)
		for i, was := range kept[1:] {
			now := chunk(rng, int(was.Len))
			if !has(g.Like(off, now), was.ID) {
				t.Fatalf("shift %d: lost the place at chunk %d", shift, i)
			}
			off += int64(now.Len)
		}
	}
}

func TestReference_FindsThePlaceAgainByLengthsAlone(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	old := list(rng, 2000)
	g := backup.ReferenceOf(old)
	off := int64(7_000_000) // inserted in front, and not one chunk is unchanged
	missed := 0
	for _, was := range old {
		now := chunk(rng, int(was.Len)+rng.IntN(100)-50)
		if !has(g.Like(off, now), was.ID) {
			missed++
		}
		off += int64(now.Len)
	}
	if missed > 3 {
		t.Errorf("got %d chunks without what they were, want the first three only", missed)
	}
}

// A table whose rows move: after eight days every chunk has lost and won some
// rows, so that none has nearly its old length, and one boundary in seven is gone.
func TestReference_KeepsThePlaceWhereEveryChunkHasAnotherLength(t *testing.T) {
	missed, all := 0, 0
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 14))
		var old []repo.Ref
		for range 700 {
			old = append(old, chunk(rng, 16<<10+rng.IntN(48<<10)+rng.IntN(48<<10)))
		}
		g := backup.ReferenceOf(old)
		var off int64
		for i := 0; i < len(old); {
			first, stood := i, int64(0)
			for more := true; more; more = i < len(old) && stood < 128<<10 && rng.IntN(7) == 0 {
				stood += int64(old[i].Len)
				i++
			}
			now := chunk(rng, int(stood)-900+int(rng.NormFloat64()*1500))
			if like := g.Like(off, now); !has(like, old[first].ID) || !has(like, old[i-1].ID) {
				missed++
			}
			off += int64(now.Len)
			all++
		}
	}
	if t.Logf("%d of %d chunks without what they were", missed, all); missed > all/50 {
		t.Errorf("got %d of %d chunks without what they were, want one in fifty at most", missed, all)
	}
}

// Lengths crowd above the least one a chunk is cut at, so that after some new
// chunks one that is near by chance has about the length looked for. Four in a
// row are believed before that one.
func TestReference_NewChunksInFrontDoNotHideThePlace(t *testing.T) {
	const inFront, tries = 20, 1000
	late := 0
	for seed := range uint64(tries) {
		missed := 0
		rng := rand.New(rand.NewPCG(15, seed))
		crowded := func() repo.Ref { return chunk(rng, 60<<10+int(rng.ExpFloat64()*12_000)) }
		var off int64
		var old []repo.Ref
		for range 60 {
			old = append(old, crowded())
		}
		g := backup.ReferenceOf(old)
		for range inFront {
			now := crowded()
			g.Like(off, now)
			off += int64(now.Len)
		}
		for _, was := range old[4:] {
			now := chunk(rng, int(was.Len)+rng.IntN(20)-10)
			if !has(g.Like(off, now), was.ID) {
				missed++
			}
			off += int64(now.Len)
		}
		if missed > 3 {
			late++
		}
	}
	if late > tries/20 {
		t.Errorf("of %d versions %d had more than the first three chunks without what they were", tries, late)
	}
}

// Of a list that is too long to be in memory there is a window, which moves on as far as the file is read.
func TestReference_MovesAlongALongList(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	old := list(rng, 20_000)
	g := backup.WindowOf(old, 1000)
	off, missed, unknown := int64(0), 0, 0
	for i, was := range old {
		switch {
		case i%2000 == 1000:
			off += int64(rng.IntN(500_000)) // inserted
			fallthrough
		case i%7 == 0: // unchanged
			if like := g.Like(off, was); like != nil {
				unknown++
			}
			off += int64(was.Len)
		default:
			now := chunk(rng, int(was.Len)+rng.IntN(100)-50)
			if !has(g.Like(off, now), was.ID) {
				missed++
			}
			off += int64(now.Len)
		}
	}
	if missed > 20 || unknown > 20 {
		t.Errorf("of 20,000 chunks %d edited ones came without what they were and %d unchanged ones were not found", missed, unknown)
	}
	if n := g.Held(); n > 1000 {
		t.Errorf("%d chunks are in memory, want 1,000 at most", n)
	}
}

func TestReference_NeverReturnsChunksFarAway(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 40 {
		old := list(rng, 1+rng.IntN(200))
		g := backup.ReferenceOf(old)
		at := offsets(old)
		off := int64(0)
		for range 200 {
			now := chunk(rng, 16<<10+rng.IntN(240<<10))
			if rng.IntN(5) == 0 {
				now = old[rng.IntN(len(old))]
			}
			drift := g.Drift()
			like := g.Like(off, now)
			from := off + drift - backup.Margin - backup.NearEnough
			to := off + drift + int64(now.Len) + backup.Margin + backup.NearEnough
			var sum int64
			for i, r := range like {
				if o := at[r.ID]; o > to || o+int64(r.Len) < from {
					t.Fatalf("a chunk at %d for one expected at %d", o, off+drift)
				}
				if i > 0 && at[r.ID] != at[like[i-1].ID]+int64(like[i-1].Len) {
					t.Fatal("the chunks are not neighbours in order")
				}
				sum += int64(r.Len)
			}
			if most := int64(now.Len) + 2*(backup.Margin+256<<10); sum > most {
				t.Fatalf("%d bytes for a chunk of %d", sum, now.Len)
			}
			off += int64(now.Len)
		}
	}
}

func TestReference_ChunkThatStandsAllOverDoesNotMoveThePlace(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	zeros := chunk(rng, 256<<10)
	var old []repo.Ref
	for range 20 {
		old = append(append(old, list(rng, 10)...), zeros, zeros, zeros)
	}
	g := backup.ReferenceOf(old)
	var off int64
	for i, was := range old {
		now := was
		if was.ID != zeros.ID {
			now = chunk(rng, int(was.Len))
		}
		if like := g.Like(off, now); now.ID != zeros.ID && !has(like, was.ID) || g.Drift() != 0 {
			t.Fatalf("chunk %d: the drift is %d", i, g.Drift())
		}
		off += int64(now.Len)
	}
}

func TestReference_OfNothingGivesNothing(t *testing.T) {
	g := backup.ReferenceOf(nil)
	rng := rand.New(rand.NewPCG(9, 10))
	if like := g.Like(1<<40, chunk(rng, 1000)); len(like) != 0 {
		t.Errorf("got %d chunks", len(like))
	}
}
