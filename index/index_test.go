package index_test

import (
	"encoding/binary"
	"testing"

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
