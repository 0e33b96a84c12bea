package repo

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/generalbots/backupd/internal/store"
)

// aheadStore notes what is read of its objects, and what was announced before.
type aheadStore struct {
	store.Store
	mu   sync.Mutex // guards told and read
	told []stretch
	read []stretch
}

// stretch is a part of an object; told says that it was announced when it was
// read.
type stretch struct {
	name   string
	off, n int64
	told   bool
}

type aheadObject struct {
	store.Object
	s    *aheadStore
	name string
}

func (s *aheadStore) Open(ctx context.Context, name string) (store.Object, error) {
	o, err := s.Store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return aheadObject{o, s, name}, nil
}

func (o aheadObject) WillRead(off, n int64) {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	o.s.told = append(o.s.told, stretch{name: o.name, off: off, n: n})
}

func (o aheadObject) ReadAt(p []byte, off int64) (int, error) {
	o.s.mu.Lock()
	x := stretch{name: o.name, off: off, n: int64(len(p))}
	told := slices.Contains(o.s.told, x)
	x.told = told
	o.s.read = append(o.s.read, x)
	o.s.mu.Unlock()
	return o.Object.ReadAt(p, off)
}

// What a chunk is compared with is announced when the chunk is put, block by
// block, so that it has come when the block of the chunk is full; nothing else is.
func TestLane_WhatADeltaLeansOnIsAnnouncedBeforeItIsRead(t *testing.T) {
	st := &aheadStore{Store: store.NewMem()}
	initTestRepo(t, st, MinPackSize)
	chunks := randomChunks(rand.New(rand.NewPCG(8, 1)), 40, 30_000, 60_000)
	r := openTestRepo(t, st, Options{})
	old := put(t, r, chunks, nil)
	r.Close()
	st.told, st.read = nil, nil
	var changed [][]byte
	for i := 0; i < len(chunks); i += 8 {
		c := slices.Clone(chunks[i])
		c[len(c)/2]++
		changed = append(changed, c)
	}
	r = openTestRepo(t, st, Options{})
	put(t, r, changed, func(i int) []Ref { return old[8*i : 8*i+1] })
	r.Close()

	r = openTestRepo(t, st, Options{})
	defer r.Close()
	blocks := make(map[stretch]bool)
	told, read := st.told, st.read
	for _, n := range r.catalog.all(kindData) {
		e, err := r.reader.pack(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range e.val.trailer.blocks {
			blocks[stretch{name: packName(e.val.trailer.header.pack, kindData), off: int64(b.offset), n: int64(b.sealed)}] = true
		}
		r.reader.packs.release(e)
	}
	opened := make(map[stretch]bool)
	for _, x := range read {
		was := x.told
		if x.told = false; blocks[x] {
			opened[x] = true
			if !was {
				t.Errorf("block at %d of %s was read unannounced", x.off, x.name)
			}
		}
	}
	for _, x := range told {
		if !opened[x] {
			t.Errorf("%d bytes at %d of %s were announced and not read as one block", x.n, x.off, x.name)
		}
	}
	if len(opened) != 5 || len(told) != 5 {
		t.Errorf("%d blocks were read and %d announced, want 5: one for each changed chunk", len(opened), len(told))
	}
	mustBeSound(t, r)
}
