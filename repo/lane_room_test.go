package repo

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/generalbots/backupd/internal/store"
)

// What is read into the block itself is what comes back, whichever of its chunks
// are new, known, deltas or too many for the block, and where its chunks are new
// the bytes stay where they are.
func TestLane_RoomTakesWhatIsReadIntoIt(t *testing.T) {
	ctx := t.Context()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 5))
		st := store.NewMem()
		initTestRepo(t, st, MinPackSize)
		r := openTestRepo(t, st, Options{})
		base := make([][]byte, 12)
		for i := range base {
			base[i] = textRows(rng, 1+rng.IntN(300))
		}
		old := put(t, r, base, nil)

		w, err := r.NewWriter(ctx, WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		l, err := w.NewLane()
		if err != nil {
			t.Fatal(err)
		}
		var chunks [][]byte
		var refs []Ref
		inRoom := 0
		guess := []*Guess{nil, new(Guess)}[seed%2] // with one a block ends early, behind what is known
		for range 60 {
			// A file of a few chunks, which begins anew when they do not fit.
			var file []byte
			var ends []int
			var likes [][]Ref
			for range 1 + rng.IntN(5) {
				var like []Ref
				chunk := randomChunks(rng, 1, 1, 9_000)[0]
				switch rng.IntN(4) {
				case 0: // known
					chunk = base[rng.IntN(len(base))]
				case 1: // near to another
					i := rng.IntN(len(base))
					chunk = bytes.Clone(base[i])
					chunk[rng.IntN(len(chunk))] ^= 1
					like = old[i : i+1]
				}
				file = append(file, chunk...)
				ends, likes = append(ends, len(file)), append(likes, like)
			}
			spare := rng.IntN(2)
			buf := l.Room(len(file) + spare)
			if buf == nil {
				buf = make([]byte, len(file))
			} else if len(buf) != len(file)+spare {
				t.Fatalf("room for %d bytes, want %d", len(buf), len(file)+spare)
			} else {
				inRoom++
			}
			copy(buf, file)
			for i, end := range ends {
				from := 0
				if i > 0 {
					from = ends[i-1]
				}
				ref := l.Ref(buf[from:end])
				if _, err := l.PutGuess(ctx, buf[from:end], ref, likes[i], guess); err != nil {
					t.Fatal(err)
				}
				chunks, refs = append(chunks, file[from:end]), append(refs, ref)
				if !bytes.Equal(buf[end:len(file)], file[end:]) {
					t.Fatalf("seed %d: putting a chunk changed those behind it", seed)
				}
			}
		}
		if err := l.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(ctx, bareManifest(t, r)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		wantChunks(t, r, refs, chunks)
		r.Close()
		if inRoom < 20 {
			t.Errorf("seed %d: %d of 60 files found room: this proves nothing", seed, inRoom)
		}
	}
}

func TestLane_RoomIsNotCopied(t *testing.T) {
	st := store.NewMem()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	w, err := r.NewWriter(t.Context(), WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	l, err := w.NewLane()
	if err != nil {
		t.Fatal(err)
	}
	if l.Room(BlockSize+1) != nil {
		t.Error("there is room for more than a block")
	}
	chunk := l.Room(1000)
	chunk[0] = 1
	if _, err := l.Put(t.Context(), chunk, l.Ref(chunk), nil); err != nil {
		t.Fatal(err)
	}
	chunk[0] = 2 // seen in the block only when it is the same memory
	if l.plain.buf[0] != 2 || len(l.plain.buf) != 1000 {
		t.Error("the chunk was copied")
	}
	if l.Room(BlockSize-999) != nil || len(l.Room(BlockSize-1000)) != BlockSize-1000 {
		t.Error("the room is not what the chunk left of the block")
	}
}
