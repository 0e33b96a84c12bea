package repo

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// storedTwice is a repository of n chunks of both kinds, part of them in several packs and some twice in one.
func storedTwice(t testing.TB, n int, seed uint64) *store.Mem {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 3))
	st := store.NewMem()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	var ids []crypto.ID
	for range 3 {
		w, err := r.NewWriter(t.Context(), WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for left := n / 3; left > 0; {
			b := &newBlock{codec: codecStored, plain: 0}
			for range min(left, 1+rng.IntN(100)) {
				var id crypto.ID
				if len(ids) > 0 && rng.IntN(5) == 0 {
					id = ids[rng.IntN(len(ids))]
				} else {
					for at := 0; at < len(id); at += 8 {
						binary.LittleEndian.PutUint64(id[at:], rng.Uint64())
					}
					ids = append(ids, id)
				}
				b.chunks = append(b.chunks, Ref{ID: id, Len: 3})
				b.plain += 3
			}
			left -= len(b.chunks)
			b.payload, b.reach = make([]byte, b.plain), uint32(b.plain)
			to := w.data
			if rng.IntN(4) == 0 {
				to = w.pages
			}
			err := to.add(t.Context(), b)
			if err == nil && rng.IntN(8) == 0 {
				err = to.flush()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.data.flush(), w.pages.flush()); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return st
}

// What places finds of a chunk the table finds as well, every copy of it, whatever the size.
func TestChunkTable_FindsEveryCopy(t *testing.T) {
	for seed, n := range []int{1, 7, 100, 3000, 20_000} {
		st := storedTwice(t, 3*n, uint64(seed))
		r := openTestRepo(t, st, Options{})
		ctx := t.Context()
		tables, err := newChunkTables(ctx, r.reader, r.catalog.all(0))
		if err != nil {
			t.Fatal(err)
		}
		copies, several, claims := 0, 0, 0
		for i, table := range tables {
			kind := packKind(i + 1)
			if err := r.loadTable(ctx, kind); err != nil {
				t.Fatal(err)
			}
			all := places2blocks(r, kind)
			numbers := newBitset(table.chunks())
			err := r.eachTrailer(ctx, r.catalog.all(kind), func(n uint32, tr *trailer) error {
				for c := range uint32(tr.chunkCount()) {
					id, _ := tr.chunk(c)
					got := blocksOf(t, r, kind, &id, func(_ context.Context, id *crypto.ID, dst []spot) ([]spot, error) {
						return table.spots(id, dst), nil
					})
					if want := all(t, &id); !slices.Equal(got, want) || len(want) == 0 {
						t.Fatalf("chunk %s: got blocks %v, want %v", id.Short(), got, want)
					} else if len(want) > 1 {
						several++
					}
					copies++
					claims += len(table.spots(&id, nil)) - len(got)
					s := spot{pack: n, block: tr.blockOf(c)}
					s.chunk = uint16(c - tr.blocks[s.block].chunkAt)
					if at, ok := table.number(s, tr); !ok || numbers.has(at) {
						t.Fatalf("chunk %d of pack %d has the number %d (%v), which another one has", c, n, at, ok)
					} else {
						numbers.set(at)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if numbers.count() != table.chunks() {
				t.Errorf("%d chunks have numbers of %d", numbers.count(), table.chunks())
			}
		}
		if copies != tables[0].chunks()+tables[1].chunks() || n > 100 && several == 0 {
			t.Errorf("%d copies, %d of chunks with several; the tables have %d and %d", copies, several, tables[0].chunks(), tables[1].chunks())
		}
		// Sixteen others in a bucket, told apart by twelve bits; two of one block are one.
		if claims > 200+copies/50 {
			t.Errorf("%d claims were wrong for %d copies", claims, copies)
		}
		if n == 20_000 {
			t.Logf("%d copies, %d claims wrong", copies, claims)
		}
		r.Close()
	}
}

// places2blocks looks up the blocks of a chunk in the table of a repository.
func places2blocks(r *Repo, kind packKind) func(testing.TB, *crypto.ID) []blockKey {
	return func(t testing.TB, id *crypto.ID) []blockKey {
		return blocksOf(t, r, kind, id, r.tableSpots(kind))
	}
}

// blocksOf is in which blocks a look-up finds a chunk, each once, compared with the trailers.
func blocksOf(t testing.TB, r *Repo, kind packKind, id *crypto.ID, find func(context.Context, *crypto.ID, []spot) ([]spot, error)) (out []blockKey) {
	rd := r.reader
	rd.tree, rd.data = find, find
	spots, err := rd.candidates(t.Context(), kind, id, anyDepth, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range spots {
		out = append(out, blockKey{s.pack, uint32(s.block)})
	}
	slices.SortFunc(out, func(a, b blockKey) int { return int(a.pack<<16|a.block) - int(b.pack<<16|b.block) })
	return slices.Compact(out)
}

// A pack that vanishes between the passes, or was not there in the first, is left out and harms no other.
func TestChunkTable_LeavesOutPacksThatComeAndGo(t *testing.T) {
	st := storedTwice(t, 5000, 9)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	ctx := t.Context()
	numbers := r.catalog.all(kindData)
	if len(numbers) < 4 {
		t.Fatal("too few packs")
	}
	// As newChunkTables does it, of which one pack is not counted and another not entered.
	table := &chunkTable{shift: 64 - 6, ids: make([]uint32, 1<<6)}
	if err := r.eachTrailer(ctx, numbers[1:], func(n uint32, tr *trailer) error { table.count(n, tr); return nil }); err != nil {
		t.Fatal(err)
	}
	table.makeRoom()
	if err := r.eachTrailer(ctx, append([]uint32{numbers[0]}, numbers[2:]...), func(n uint32, tr *trailer) error { table.enter(n, tr); return nil }); err != nil {
		t.Fatal(err)
	}
	find := func(_ context.Context, id *crypto.ID, dst []spot) ([]spot, error) { return table.spots(id, dst), nil }
	found := map[bool]int{}
	if err := r.eachTrailer(ctx, numbers, func(n uint32, tr *trailer) error {
		for c := range uint32(tr.chunkCount()) {
			id, _ := tr.chunk(c)
			got := slices.Contains(blocksOf(t, r, kindData, &id, find), blockKey{n, uint32(tr.blockOf(c))})
			if there := n != numbers[0] && n != numbers[1]; got != there {
				t.Fatalf("chunk %s of pack %d: found %v", id.Short(), n, got)
			}
			found[got]++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if found[true] == 0 || found[false] == 0 {
		t.Errorf("found %v, so the test shows nothing", found)
	}
}
