package repo

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// What a writer keeps of a pack, and a reader of its trailer, must not grow as files get smaller: packs are closed after
// so many ids, and gc takes such a pack for full, not for a tail that it merges again and again.
func TestWriter_BoundsTheTableOfAPack(t *testing.T) {
	st := store.NewMem()
	initTestRepo(t, st, DefaultPackSize)
	r := openTestRepo(t, st, Options{})
	const chunks = 2*packIDs + 1000
	v := version{}
	var all []byte
	for i := range uint64(chunks) {
		all = binary.LittleEndian.AppendUint64(all, i*0x9e3779b97f4a7c15)
	}
	w, err := r.NewWriter(t.Context(), WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lane, err := w.NewLane()
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for rest := all; len(rest) > 0; rest = rest[8:] {
		if _, err := lane.Put(t.Context(), rest[:8], lane.Ref(rest[:8]), nil); err != nil {
			t.Fatal(err)
		}
		pending := 0
		if len(rest)%(8<<10) == 0 {
			for i := range w.pending {
				w.pending[i].mu.Lock()
				pending += len(w.pending[i].ids)
				w.pending[i].mu.Unlock()
			}
		}
		most = max(most, pending)
	}
	if err := lane.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.data.flush(); err != nil {
		t.Fatal(err)
	}
	if bound := (publishing+1)*packIDs + MaxChunksPerBlock; most > bound {
		t.Errorf("%d ids were on their way into packs, want at most %d", most, bound)
	}
	var full, crowdedPacks int
	for _, n := range r.catalog.all(kindData) {
		e, err := r.reader.pack(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		tr := e.val.trailer
		if c := tr.chunkCount(); c > packIDs {
			t.Errorf("a pack has %d chunks, want at most %d", c, packIDs)
		}
		if crowded(len(tr.dicts)/idSize, tr.chunkCount()) {
			crowdedPacks++
		}
		if tr.size == DefaultPackSize {
			full++
		}
		r.reader.packs.release(e)
	}
	if crowdedPacks != 2 || full != 0 {
		t.Errorf("%d packs are crowded and %d of full size, want 2 and none", crowdedPacks, full)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	one := commit(t, r, v, nil)
	wantAll(t, r, map[string]version{one.ID: v})
}

func TestPlanPacks_LeavesCrowdedPacksAlone(t *testing.T) {
	use := []packUse{
		{number: 1, kind: kindData, size: 1 << 20, used: 1000, live: 1000, crowded: true},
		{number: 2, kind: kindData, size: 1 << 20, used: 1000, live: 1000, crowded: true},
	}
	if p := planPacks(use, DefaultPackSize); len(p.repack) > 0 {
		t.Errorf("crowded packs are merged: %v", p.repack)
	}
	use[0].crowded, use[1].crowded = false, false
	if p := planPacks(use, DefaultPackSize); len(p.repack) != 2 {
		t.Errorf("tails are not merged: %v", p.repack)
	}
}

// Each part of a cache keeps to its own bound, also when a value in use moves to another.
func TestCache_PartsKeepToTheirBounds(t *testing.T) {
	limits := []int64{20, 30}
	dropped := 0
	c := newPartedCache[int](func(v int) int { return v % 2 }, func(int) { dropped++ }, limits...)
	rng := rand.New(rand.NewPCG(5, 6))
	loaded := 0
	for range 2000 {
		k := rng.IntN(40)
		e, err := c.get(k, func() (int, int64, error) { loaded++; return k, int64(1 + k%7), nil })
		if err != nil || e.val != k {
			t.Fatalf("get %d: %v", k, err)
		}
		if k%8 == 0 {
			c.move(e, 1)
		}
		c.release(e)
		for i := range c.parts {
			if p := &c.parts[i]; p.used > p.limit || p.used < 0 {
				t.Fatalf("part %d has %d bytes of %d", i, p.used, p.limit)
			}
		}
	}
	if loaded-dropped != len(c.entries) {
		t.Errorf("%d were loaded and %d dropped, %d are there", loaded, dropped, len(c.entries))
	}
	c.clear()
	if c.size() != 0 || len(c.entries) != 0 {
		t.Errorf("an empty cache has %d bytes", c.size())
	}
}

// Blocks that are read one after the other take no more than their part, however many there are.
func TestReader_KeepsFewBlocksThatNothingLeansOn(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 32))
	st := store.NewMem()
	initTestRepo(t, st, DefaultPackSize)
	r := openTestRepo(t, st, Options{})
	v := version{}
	for i, c := range randomChunks(rng, 60, 150_000, 160_000) {
		v[string(rune('A'+i))] = c
	}
	one := commit(t, r, v, nil)
	wantAll(t, r, map[string]version{one.ID: v})
	if have := r.reader.blocks.parts[partRead].used; have > readCacheSize || have == 0 {
		t.Errorf("%d bytes of blocks are kept, want at most %d", have, readCacheSize)
	}
	if have := r.reader.blocks.parts[partLeanedOn].used; have != 0 {
		t.Errorf("%d bytes of blocks count as leaned on, and nothing leans", have)
	}
}

// Chunks asked for in the order they were stored in need no table; others, and those in a damaged block, are found too.
func TestLocator_FollowsTheOrderInPacks(t *testing.T) {
	rng := rand.New(rand.NewPCG(41, 42))
	st := store.NewMem()
	initTestRepo(t, st, DefaultPackSize)
	r := openTestRepo(t, st, Options{})
	var ids []crypto.ID
	w, err := r.NewWriter(t.Context(), WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lane, err := w.NewLane()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range randomChunks(rng, 500, 3000, 9000) {
		ref := lane.Ref(c)
		if _, err := lane.Put(t.Context(), c, ref, nil); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, ref.ID)
	}
	if err := lane.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.data.flush(); err != nil {
		t.Fatal(err)
	}
	same := func(l *Locator, id crypto.ID) {
		t.Helper()
		got, err := l.Locate(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		want, err := r.reader.Locate(t.Context(), id)
		if err != nil || got != want {
			t.Fatalf("chunk %s: got %v, want %v (%v)", id.Short(), got, want, err)
		}
	}
	l := r.reader.Locator()
	for _, id := range ids {
		same(l, id)
	}
	if l.asked != 1 {
		t.Errorf("the table was asked %d times for chunks in order, want once", l.asked)
	}
	for range 500 {
		same(l, ids[rng.IntN(len(ids))])
	}
	if _, err := l.Locate(t.Context(), crypto.ID{1}); err == nil {
		t.Error("a chunk that is not there is found")
	}
	same(l, ids[0])
	p := l.last
	r.damaged.Store(&damageList{blocks: map[crypto.PackID][]uint32{r.catalog.info(p.Pack).id: {p.Block}}})
	before := l.asked
	same(l, ids[1])
	if l.asked != before+1 {
		t.Error("a block that a check has found damaged is taken without looking for another copy")
	}
	r.damaged.Store(nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
