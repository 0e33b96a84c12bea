package index_test

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/index"
)

var (
	testRepo = crypto.RepoID{1, 2, 3}
	testKey  = crypto.Key{4, 5, 6}
)

func options(dir string) index.Options {
	return index.Options{Dir: dir, Repo: testRepo, Key: testKey}
}

func mustOpen(t testing.TB, dir string) *index.Index {
	t.Helper()
	x, err := index.Open(options(dir))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = x.Close() })
	return x
}

func mustClose(t testing.TB, x *index.Index) {
	t.Helper()
	if err := x.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// chunkID is the id of the nth chunk of a series: evenly spread, like real ones.
func chunkID(series, n uint32) crypto.ID {
	var b [8]byte
	binary.BigEndian.PutUint32(b[:], series)
	binary.BigEndian.PutUint32(b[4:], n)
	return crypto.ID(crypto.Sum256(b[:]))
}

func packID(n uint32) crypto.PackID {
	id := chunkID(0xffffffff, n)
	return crypto.PackID(id[:])
}

// packEntries are the n chunks of pack p.
func packEntries(p uint32, n int) []index.Entry {
	entries := make([]index.Entry, n)
	for i := range entries {
		entries[i] = index.Entry{ID: chunkID(p, uint32(i)), Place: index.Place{
			Pack: packID(p), Block: uint32(i / 4), Offset: uint32(i%4) << 16, Length: 65536 - uint32(i%100), Depth: uint8(i % 3),
		}}
	}
	return entries
}

func mustAdd(t testing.TB, x *index.Index, p uint32, entries []index.Entry) {
	t.Helper()
	if err := x.AddPack(packID(p), entries); err != nil {
		t.Fatalf("AddPack(%d): %v", p, err)
	}
}

func wantPlace(t testing.TB, x *index.Index, id crypto.ID, want index.Place) {
	t.Helper()
	got, ok, err := x.Lookup(id)
	if err != nil || !ok || got != want {
		t.Fatalf("Lookup(%s) = %+v, %v, %v; want %+v", id, got, ok, err, want)
	}
}

func wantMissing(t testing.TB, x *index.Index, id crypto.ID) {
	t.Helper()
	if got, ok, err := x.Lookup(id); err != nil || ok {
		t.Fatalf("Lookup(%s) = %+v, %v, %v; want not found", id, got, ok, err)
	}
}

func TestIndex_FindsWhatWasAddedAlsoAfterReopen(t *testing.T) {
	dir := t.TempDir()
	x := mustOpen(t, dir)
	for p := range uint32(5) {
		mustAdd(t, x, p, packEntries(p, 500))
	}
	for range 3 {
		for p := range uint32(5) {
			for _, e := range packEntries(p, 500) {
				wantPlace(t, x, e.ID, e.Place)
			}
		}
		wantMissing(t, x, chunkID(99, 0))
		packs, err := x.Packs()
		if err != nil || len(packs) != 5 {
			t.Fatalf("Packs = %d, %v; want 5", len(packs), err)
		}
		mustClose(t, x)
		x = mustOpen(t, dir)
	}
}

func TestAddPack_TakesMoreEntriesThanATransactionHolds(t *testing.T) {
	const entries = 300_000
	dir := memoryDir(t)
	x := mustOpen(t, dir)
	all := packEntries(1, entries)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := x.AddPack(packID(1), all); err != nil {
			t.Error(err)
		}
	}()
	// Before the record is there, nothing of the pack is.
	early := 0
	for adding := true; adding; {
		_, first, err := x.Lookup(all[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		packs, err := x.Packs()
		if err != nil {
			t.Fatal(err)
		}
		_, recorded := packs[packID(1)]
		if first && !recorded {
			t.Fatal("an entry is found before the pack has a record")
		}
		select {
		case <-done:
			adding = false
		case <-time.After(time.Millisecond):
			early++
		}
	}
	if early == 0 {
		t.Error("nothing was looked up while the pack was being added")
	}
	for range 2 {
		for i := 0; i < entries; i += 7 {
			wantPlace(t, x, all[i].ID, all[i].Place)
		}
		mustClose(t, x)
		x = mustOpen(t, dir)
	}
}

func TestAddPack_KeepsTheCopyOfLowerDepth(t *testing.T) {
	id := chunkID(7, 7)
	place := func(p uint32, depth uint8) index.Place {
		return index.Place{Pack: packID(p), Block: p, Length: 10, Depth: depth}
	}
	dir := memoryDir(t)
	x := mustOpen(t, dir)
	for _, step := range []struct {
		pack        uint32
		depth       uint8
		askedBefore bool
		wantPack    uint32
		wantDepth   uint8
	}{
		{pack: 1, depth: 5, askedBefore: true, wantPack: 1, wantDepth: 5},
		{pack: 2, depth: 6, wantPack: 1, wantDepth: 5}, // deeper: the old one stays
		{pack: 3, depth: 5, wantPack: 1, wantDepth: 5}, // equal: the old one stays
		{pack: 4, depth: 2, wantPack: 4, wantDepth: 2}, // less deep: the new one
		{pack: 5, depth: 3, askedBefore: true, wantPack: 4, wantDepth: 2},
	} {
		if step.askedBefore {
			if _, _, err := x.Lookup(id); err != nil {
				t.Fatal(err)
			}
		}
		mustAdd(t, x, step.pack, []index.Entry{{ID: id, Place: place(step.pack, step.depth)}})
		wantPlace(t, x, id, place(step.wantPack, step.wantDepth))
	}
	// A copy in a pack without a record does not count, however shallow.
	if err := x.RemovePack(packID(4), nil); err != nil {
		t.Fatal(err)
	}
	wantMissing(t, x, id)
	mustAdd(t, x, 6, []index.Entry{{ID: id, Place: place(6, 9)}})
	wantPlace(t, x, id, place(6, 9))
	mustClose(t, x)
	x = mustOpen(t, dir)
	wantPlace(t, x, id, place(6, 9))
	// Twice in one pack: the lower again, wherever it stands.
	twice := chunkID(7, 8)
	mustAdd(t, x, 7, []index.Entry{
		{ID: twice, Place: place(70, 4)}, {ID: twice, Place: place(71, 1)}, {ID: twice, Place: place(72, 4)},
	})
	want := place(71, 1)
	want.Pack = packID(7)
	wantPlace(t, x, twice, want)
}

func TestAddPack_AcceptsAnEmptyPackAndTheSamePackTwice(t *testing.T) {
	x := mustOpen(t, memoryDir(t))
	mustAdd(t, x, 1, nil)
	mustAdd(t, x, 2, packEntries(2, 10))
	mustAdd(t, x, 2, packEntries(2, 10))
	packs, err := x.Packs()
	if err != nil || len(packs) != 2 {
		t.Errorf("Packs = %d, %v; want 2", len(packs), err)
	}
	wantPlace(t, x, packEntries(2, 1)[0].ID, packEntries(2, 1)[0].Place)
}

func TestRemovePack_ForgetsThePackOnly(t *testing.T) {
	dir := memoryDir(t)
	x := mustOpen(t, dir)
	for p := range uint32(3) {
		mustAdd(t, x, p, packEntries(p, 5000))
	}
	remove := func(p uint32, entries []index.Entry) {
		var ids []crypto.ID
		for _, e := range entries {
			ids = append(ids, e.ID)
		}
		if err := x.RemovePack(packID(p), ids); err != nil {
			t.Fatal(err)
		}
	}
	remove(0, packEntries(0, 5000))
	remove(1, append(packEntries(1, 5000)[:10], packEntries(2, 10)...)) // some of its own, and a stranger's
	remove(9, packEntries(2, 10))                                       // never there
	for range 2 {
		for i := range 5000 {
			wantMissing(t, x, chunkID(0, uint32(i)))
			wantMissing(t, x, chunkID(1, uint32(i)))
		}
		for _, e := range packEntries(2, 5000) {
			wantPlace(t, x, e.ID, e.Place)
		}
		packs, err := x.Packs()
		if _, ok := packs[packID(2)]; err != nil || len(packs) != 1 || !ok {
			t.Errorf("Packs = %v, %v; want the third only", packs, err)
		}
		mustClose(t, x)
		x = mustOpen(t, dir)
	}
	mustAdd(t, x, 1, packEntries(1, 5000))
	wantPlace(t, x, packEntries(1, 5000)[4999].ID, packEntries(1, 5000)[4999].Place)
}

func TestIndex_IsSafeForConcurrentUse(t *testing.T) {
	x := mustOpen(t, memoryDir(t))
	var group sync.WaitGroup
	for w := range uint32(4) {
		group.Go(func() {
			for p := w * 100; p < w*100+10; p++ {
				entries := packEntries(p, 200)
				if err := x.AddPack(packID(p), entries); err != nil {
					t.Error(err)
					return
				}
				for _, e := range entries {
					if got, ok, err := x.Lookup(e.ID); err != nil || !ok || got != e.Place {
						t.Errorf("Lookup = %+v, %v, %v; want %+v", got, ok, err, e.Place)
						return
					}
				}
				if p%2 == 0 {
					if err := x.RemovePack(packID(p), nil); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
	if packs, err := x.Packs(); err != nil || len(packs) != 20 {
		t.Errorf("Packs = %d, %v; want 20", len(packs), err)
	}
}
