package repo

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/generalbots/backupd/internal/store"
)

// rewrite stores chunks and then others in their place, half of them noise and then half of them edited, and returns
// how many blocks of each half were tried and how many chunks of the second became deltas.
func rewrite(t *testing.T, g *Guess) (triedNew, weighed, triedEdited int, deltas int64) {
	t.Helper()
	const n = 192 // chunks of 64 KiB in each half; no two lean on the same, so each is a block
	ctx := t.Context()
	st := store.NewMem()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	rng := rand.New(rand.NewPCG(4, 4))
	chunks := randomChunks(rng, 2*n, 64<<10, 64<<10)
	refs := put(t, r, chunks, nil)
	w, err := r.NewWriter(ctx, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	l, err := w.NewLane()
	if err != nil {
		t.Fatal(err)
	}
	var stored []Ref
	for i, was := range chunks {
		now := bytes.Clone(was)
		for range 5 {
			now[rng.IntN(len(now))] ^= 1
		}
		if i < n {
			now = randomChunks(rng, 1, len(was), len(was))[0]
		}
		if i == n {
			triedNew, weighed = l.enc.tried, l.enc.weighed
		}
		var like []Ref
		if !g.Skip(len(now)) {
			like = refs[i : i+1]
		}
		ref := l.Ref(now)
		if _, err := l.PutGuess(ctx, now, ref, like, g); err != nil {
			t.Fatal(err)
		}
		chunks[i], stored = now, append(stored, ref)
	}
	if err := l.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	deltas = w.deltaBlocks.Load()
	if err := w.Commit(ctx, bareManifest(t, r)); err != nil {
		t.Fatal(err)
	}
	wantChunks(t, r, stored, chunks)
	return triedNew, weighed, l.enc.tried - triedNew, deltas
}

func TestGuess_TriesFewBlocksOfAFileThatWasRewritten(t *testing.T) {
	tried, weighed, _, deltas := rewrite(t, new(Guess))
	if tried > 32 {
		t.Errorf("%d of 192 blocks of noise were tried, want 32 at most", tried)
	}
	if weighed > 0 {
		t.Errorf("%d blocks of noise were compressed against noise to see that nothing is gained", weighed)
	}
	if deltas < 32 {
		t.Errorf("after noise %d of 192 edited blocks are deltas, want that it begins anew", deltas)
	}
	// The control: nobody keeps count.
	if tried, _, edited, deltas := rewrite(t, nil); tried < 191 || edited < 191 || deltas < 191 {
		t.Errorf("without a guess %d and %d blocks were tried and %d are deltas, want all", tried, edited, deltas)
	}
}

func TestGuess_LosesNoMoreThanWasLostAndTriesLessAndLess(t *testing.T) {
	g := new(Guess)
	const chunk = 64 << 10
	tried, open := 0, 0
	pass := func(mib int, right bool) (skipped int) {
		for range mib << 20 / chunk {
			if g.Skip(chunk) {
				skipped += chunk
				continue
			}
			tried += chunk
			if open += chunk; open >= BlockSize {
				g.note(right, open)
				open = 0
			}
		}
		return skipped
	}
	pass(1024, false)
	if tried > 16<<20 {
		t.Errorf("of 1 GiB that was wrong %d MiB were tried", tried>>20)
	}
	if lost := pass(1024, true); lost > mostSkipped+BlockSize {
		t.Errorf("%d MiB that were right again were not tried, want 32 at most", lost>>20)
	}
	if lost := pass(64, true); lost > 0 {
		t.Errorf("%d bytes of what is right were not tried", lost)
	}
	pass(1, false)
	if lost := pass(64, true); lost > 2<<20 {
		t.Errorf("after 1 MiB that was wrong %d bytes were not tried", lost)
	}
	// Right and wrong by turns is tried always.
	tried = 0
	for range 100 {
		g.note(false, BlockSize)
		g.note(true, BlockSize)
		if g.Skip(chunk) {
			t.Fatal("one wrong guess after a right one ends it")
		}
	}
}
