package repo

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/generalbots/backupd/crypto"
)

// tables makes trailers that hold ids drawn at random, some of them twice, and
// a function that goes through them.
func tables(rng *rand.Rand, chunks int) (ids []crypto.ID, each func(context.Context, func(uint32, *trailer) error) error) {
	var list []*trailer
	for len(ids) < chunks {
		t := &trailer{}
		for range min(100, chunks-len(ids)) {
			var id crypto.ID
			for at := 0; at < len(id); at += 8 {
				binary.LittleEndian.PutUint64(id[at:], rng.Uint64())
			}
			if len(ids) > 0 && rng.IntN(4) == 0 {
				id = ids[rng.IntN(len(ids))]
			}
			ids = append(ids, id)
			t.chunks = appendChunkRec(t.chunks, &Ref{ID: id, Len: 1})
		}
		list = append(list, t)
	}
	return ids, func(_ context.Context, use func(uint32, *trailer) error) error {
		for i, t := range list {
			if err := use(uint32(i), t); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestRoll_NumbersEachChunkOnceWithoutGaps(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, chunks := range []int{0, 1, 2, 63, 64, 65, 1000, 50_000} {
		for _, atOnce := range []int{1, 100, 1 << 20} {
			ids, each := tables(rng, chunks)
			r, err := newRoll(t.Context(), chunks, atOnce, each)
			if err != nil {
				t.Fatal(err)
			}
			distinct := map[crypto.ID]int{}
			taken := map[int]bool{}
			for i := range ids {
				n := r.number(&ids[i])
				if was, again := distinct[ids[i]]; again && was != n || !again && taken[n] || n < 0 || n >= r.count {
					t.Fatalf("%d chunks: number %d of %d: not the same for a chunk, or that of two", chunks, n, r.count)
				}
				distinct[ids[i]], taken[n] = n, true
			}
			if r.count != len(distinct) {
				t.Errorf("%d chunks: got %d numbers, want %d", chunks, r.count, len(distinct))
			}
			set := r.set()
			strangers, _ := tables(rng, 200)
			for i := range strangers { // any number, but one of the set
				set.set(r.number(&strangers[i]))
			}
			size := 0
			for i := range r.parts {
				size += len(r.parts[i].bits)*64 + len(r.parts[i].ranks)*32
			}
			if chunks >= 50_000 && float64(size) > 3.3*float64(r.count) {
				t.Errorf("%d chunks take %d bits", r.count, size)
			}
		}
	}
}

func TestBitset_RanksAndPackedAgreeWithSlices(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for _, n := range []int{1, 64, 511, 512, 513, 5000} {
		b, want := newBitset(n), []int{}
		for i := range n {
			if rng.IntN(3) == 0 {
				b.set(i)
				want = append(want, i)
			}
		}
		ranks := b.ranks()
		for i := range n {
			rank, in := slices.BinarySearch(want, i)
			if b.has(i) != in || b.rank(ranks, i) != rank {
				t.Fatalf("of %d: %d has rank %d, want %d", n, i, b.rank(ranks, i), rank)
			}
		}
		if b.count() != len(want) {
			t.Errorf("got %d members, want %d", b.count(), len(want))
		}
		for width := 1; width <= 32; width++ {
			p, list := newPacked(n, width), make([]uint64, n)
			for range 3 * n {
				i, v := rng.IntN(n), rng.Uint64()&(1<<width-1)
				p.put(i, v)
				list[i] = v
			}
			for i, v := range list {
				if p.get(i) != v {
					t.Fatalf("width %d: element %d of %d is %d, want %d", width, i, n, p.get(i), v)
				}
			}
		}
	}
}
