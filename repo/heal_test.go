package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// overwrite puts other bytes under the name of an object.
func overwrite(t testing.TB, st store.Store, name string, change func(b []byte) []byte) {
	t.Helper()
	b, err := readObject(t.Context(), st, name, 1<<30, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Remove(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if b = change(bytes.Clone(b)); b == nil {
		return
	}
	if err := writeObject(t.Context(), st, name, b); err != nil {
		t.Fatal(err)
	}
}

// damageBlocks flips a byte in some blocks of data packs and returns how many.
func damageBlocks(t testing.TB, r *Repo, st store.Store, pick func(n int) bool) (damaged int) {
	t.Helper()
	n := 0
	at := map[string][]uint32{}
	err := r.eachTrailer(t.Context(), r.catalog.all(kindData), func(_ uint32, tr *trailer) error {
		for b := range tr.blocks[:len(tr.blocks)-1] {
			if n++; pick(n) {
				name := packName(tr.header.pack, kindData)
				at[name] = append(at[name], tr.blocks[b].offset+1)
				damaged++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, offsets := range at {
		overwrite(t, st, name, func(b []byte) []byte {
			for _, o := range offsets {
				b[o] ^= 4
			}
			return b
		})
	}
	return damaged
}

// healed repeats the backups of all versions, reading everything, as runs do
// that distrust the repository.
func healed(t testing.TB, st store.Store, state string, model []version) (stored int64) {
	t.Helper()
	r := openTestRepo(t, st, Options{StateDir: state})
	defer r.Close()
	for i, v := range model {
		w, err := r.NewWriter(t.Context(), WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 && !w.Distrusts() {
			t.Error("the run trusts its base")
		}
		w.Close()
		if _, err := commitFilesAs(t.Context(), r, mustID(t, r), v, nil, func(w *Writer, ctx context.Context, m *Manifest) error {
			stored += w.NewBytes()
			return w.Commit(ctx, m)
		}); err != nil {
			t.Fatal(err)
		}
	}
	return stored
}

func mustID(t testing.TB, r *Repo) string {
	t.Helper()
	return bareManifest(t, r).ID
}

// wantAll demands that every live snapshot holds the version it is said to.
func wantAll(t testing.TB, r *Repo, want map[string]version) {
	t.Helper()
	for _, s := range r.Snapshots() {
		v, ok := want[s.ID]
		if !ok {
			continue
		}
		got, err := readFiles(t.Context(), r, s)
		if err != nil || !sameFiles(got, v) {
			t.Fatalf("snapshot %s is not what it was (%v)", s.ID, err)
		}
	}
}

func TestRepoHeal_DamagedBlocksAreStoredAgainByTheNextBackup(t *testing.T) {
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 9))
		st, state := store.NewMem(), t.TempDir()
		initTestRepo(t, st, MinPackSize)
		r := openTestRepo(t, st, Options{StateDir: state})
		v := version{"dump": textRows(rng, 3000), "noise": randomChunks(rng, 1, 90_000, 90_000)[0]}
		var model []version
		want := map[string]version{}
		var last *Snapshot
		for range 5 {
			s, err := commitFiles(t.Context(), r, v, last)
			if err != nil {
				t.Fatal(err)
			}
			model, want[s.ID], last = append(model, v), v, s
			v = mutate(rng, v)
		}
		damaged := damageBlocks(t, r, st, func(n int) bool { return n%2 == int(seed%2) })
		r.Close()

		r = openTestRepo(t, st, Options{StateDir: state})
		rep, err := r.Check(t.Context(), CheckOptions{ReadData: true}, &CheckProgress{})
		if err != nil || rep.Sound() || len(rep.DamagedFiles) == 0 || damaged == 0 {
			t.Fatalf("%d blocks damaged: %v %+v", damaged, err, rep)
		}
		r.Close()
		if healed(t, st, state, model) == 0 {
			t.Fatal("nothing was stored again")
		}
		// Once more: what was healed is known, from the index or not.
		if again := healed(t, st, state, model); again != 0 {
			t.Errorf("the backup after the healing one stored %d bytes again", again)
		}
		r = openTestRepo(t, st, Options{StateDir: state})
		rep, err = r.Check(t.Context(), CheckOptions{ReadData: true}, &CheckProgress{})
		if err != nil || len(rep.DamagedFiles) > 0 {
			t.Fatalf("after the healing: %v %v", err, rep.DamagedFiles)
		}
		wantAll(t, r, want)
		// gc takes the damaged copies out, in the end.
		for range 3 {
			gc(t, r)
		}
		rep, err = r.Check(t.Context(), CheckOptions{ReadData: true}, &CheckProgress{})
		if err != nil || !rep.Sound() {
			t.Errorf("after gc: %v %v %v", err, rep.Findings, rep.DamagedFiles)
		}
		wantAll(t, r, want)
		r.Close()
	}
}

func TestRepoHeal_APackThatVanishedIsStoredAgain(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	st, state := store.NewMem(), t.TempDir()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{StateDir: state})
	v := version{"dump": textRows(rng, 3000), "other": textRows(rng, 20)}
	s, err := commitFiles(t.Context(), r, v, nil)
	if err != nil {
		t.Fatal(err)
	}
	extra, err := commitFiles(t.Context(), r, version{"dump": v["dump"], "more": textRows(rng, 10)}, s)
	if err != nil {
		t.Fatal(err)
	}
	lost := r.catalog.info(r.catalog.all(kindData)[0])
	r.Close()
	if err := st.Remove(t.Context(), packName(lost.id, lost.kind)); err != nil {
		t.Fatal(err)
	}
	r = openTestRepo(t, st, Options{StateDir: state})
	// Whatever writes in between must not let the loss be forgotten.
	if err := r.Forget(t.Context(), extra.ID); err != nil {
		t.Fatal(err)
	}
	r.Close()
	r = openTestRepo(t, st, Options{StateDir: state})
	w, err := r.NewWriter(t.Context(), WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !w.Distrusts() {
		t.Error("after a forget the run trusts its base although a pack is gone")
	}
	root, err := r.Root(&s.Parts[0])
	if err != nil {
		t.Fatal(err)
	}
	raw, _, err := r.Reader().Dir(root.Dir).Find(t.Context(), "dump")
	if err != nil {
		t.Fatal(err)
	}
	var e Entry
	if err := raw.Entry(&e); err != nil {
		t.Fatal(err)
	}
	if has, err := w.Has(t.Context(), &e.Content); has || err != nil {
		t.Errorf("Has: got %v, %v of a content whose pack is gone", has, err)
	}
	w.Close()
	if _, err := commitFiles(t.Context(), r, v, s); err != nil {
		t.Fatal(err)
	}
	wantAll(t, r, map[string]version{s.ID: v})
	r.Close()
	r = openTestRepo(t, st, Options{StateDir: state})
	defer r.Close()
	mustBeSound(t, r)
	w, err = r.NewWriter(t.Context(), WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if w.Distrusts() {
		t.Error("after a check that found all sound the run distrusts the repository")
	}
}

// gc deletes what a dead delta block leans on while the block itself stays in
// its pack. A later backup that has the block's chunks again must store them.
func TestRepoHeal_ADeadDeltaBlockWhoseDictionaryWentIsNoCopy(t *testing.T) {
	for _, withIndex := range []bool{false, true} {
		t.Run(fmt.Sprintf("index %v", withIndex), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(2, 9))
			st := store.NewMem()
			initTestRepo(t, st, MinPackSize)
			var o Options
			if withIndex {
				o.StateDir = t.TempDir()
			}
			r := openTestRepo(t, st, o)
			defer func() { r.Close() }()
			base := textRows(rng, 500)
			leans := bytes.Clone(base)
			for range 10 {
				leans[rng.IntN(len(leans))] = '#'
			}
			first, err := commitFiles(t.Context(), r, version{"dump": base}, nil)
			if err != nil {
				t.Fatal(err)
			}
			// The delta block shares its pack with much that stays.
			big := randomChunks(rng, 1, 900_000, 900_000)[0]
			second, err := commitFiles(t.Context(), r, version{"dump": leans, "big": big}, first)
			if err != nil {
				t.Fatal(err)
			}
			third, err := commitFiles(t.Context(), r, version{"big": big}, second)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Forget(t.Context(), first.ID, second.ID); err != nil {
				t.Fatal(err)
			}
			gc(t, r)
			mustBeSound(t, r)
			broken := 0
			if err := r.eachTrailer(t.Context(), r.catalog.all(kindData), func(n uint32, tr *trailer) error {
				for b := range tr.blocks {
					if ok, err := r.reader.whole(t.Context(), blockKey{n, uint32(b)}); !ok && err == nil {
						broken++
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if broken == 0 {
				t.Fatal("there is no broken block, so the test shows nothing")
			}
			r.Close()
			r = openTestRepo(t, st, o)
			again, err := commitFiles(t.Context(), r, version{"dump": leans, "big": big}, third)
			if err != nil {
				t.Fatal(err)
			}
			wantAll(t, r, map[string]version{again.ID: {"dump": leans, "big": big}, third.ID: {"big": big}})
			mustBeSound(t, r)
			gc(t, r)
			wantAll(t, r, map[string]version{again.ID: {"dump": leans, "big": big}, third.ID: {"big": big}})
			mustBeSound(t, r)
			if !slices.ContainsFunc(r.Snapshots(), func(s *Snapshot) bool { return s.ID == again.ID }) {
				t.Error("the snapshot is gone")
			}
		})
	}
}

// A check of one snapshot reads only what that needs. What else leans on a block that it could not read is no copy
// either, whoever has not read it yet.
func TestRepoHeal_WhatLeansOnADamagedBlockIsNoCopy(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 9))
	st, state := store.NewMem(), t.TempDir()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{StateDir: state})
	dump := textRows(rng, 2500)
	edited := func(at int) version {
		b := bytes.Clone(dump)
		copy(b[at*testChunk+500:], "something else")
		return version{"dump": b}
	}
	first := commit(t, r, version{"dump": dump}, nil)
	one, other := edited(2), edited(5)
	commit(t, r, one, first)
	third := commit(t, r, other, first)
	if damageBlocks(t, r, st, func(n int) bool { return n == 1 }) != 1 {
		t.Fatal("there is no block to damage")
	}
	r.Close()
	r = openTestRepo(t, st, Options{StateDir: state})
	rep := checked(t, r, CheckOptions{ReadData: true, Snapshots: []string{third.ID}})
	known := 0
	for _, blocks := range r.damaged.Load().blocks {
		known += len(blocks)
	}
	if known != 2 {
		t.Fatalf("%d blocks are known to be damaged, want the first and the one of %s that leans on it: %+v", known, third.ID, rep.Findings)
	}
	s := commit(t, r, one, nil)
	r.Close()
	r = openTestRepo(t, st, Options{StateDir: state})
	defer r.Close()
	if got, err := readFiles(t.Context(), r, s); err != nil || !sameFiles(got, one) {
		t.Errorf("what was backed up after the damage was known can not be read: %v", err)
	}
}

// A block that a check could not read may be read again, as when a cable was loose. What is stored anew does not lean on
// it all the same, and is stored once.
func TestRepoHeal_WhatIsStoredAnewLeansOnNothingDamaged(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	st, state := store.NewMem(), t.TempDir()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{StateDir: state})
	v := version{"dump": textRows(rng, 2500)}
	first := commit(t, r, v, nil)
	edited := bytes.Clone(v["dump"])
	copy(edited[2*testChunk:], "something else")
	next := version{"dump": edited}
	second := commit(t, r, next, first)
	found := &damageList{blocks: map[crypto.PackID][]uint32{}}
	info := r.catalog.info(r.catalog.all(kindData)[0])
	found.add(info.id, 0)
	if err := writeDamage(r.state, r.id, found); err != nil {
		t.Fatal(err)
	}
	r.Close()
	var last *Snapshot
	for round := range 3 {
		r = openTestRepo(t, st, Options{StateDir: state})
		var stored int64
		s, err := commitFilesAs(t.Context(), r, mustID(t, r), next, second, func(w *Writer, ctx context.Context, m *Manifest) error {
			stored = w.NewBytes()
			return w.Commit(ctx, m)
		})
		if err != nil {
			t.Fatal(err)
		}
		if last = s; (round == 0) != (stored > 0) {
			t.Errorf("the backup %d after the check stored %d bytes", round, stored)
		}
		r.Close()
	}
	overwrite(t, st, packName(info.id, info.kind), func(b []byte) []byte { b[headerSize] ^= 1; return b })
	r = openTestRepo(t, st, Options{StateDir: state})
	defer r.Close()
	if got, err := readFiles(t.Context(), r, last); err != nil || !sameFiles(got, next) {
		t.Errorf("what was stored anew is gone with the damaged block: %v", err)
	}
}

// A daemon has blocks in memory that rot on the disk meanwhile. Once a check has found them, what it remembers is no base
// and no dictionary for what it stores anew.
func TestRepoHeal_WhatIsInMemoryDoesNotStandInForTheDisk(t *testing.T) {
	for _, kind := range []packKind{kindData, kindTree} {
		t.Run(kind.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(9, 9))
			st, state := store.NewMem(), t.TempDir()
			initTestRepo(t, st, MinPackSize)
			r := openTestRepo(t, st, Options{StateDir: state})
			defer func() { r.Close() }()
			v := version{"dump": textRows(rng, 2500), "small": []byte("x")}
			last := commit(t, r, v, nil)
			if _, err := readFiles(t.Context(), r, last); err != nil {
				t.Fatal(err)
			}
			info := r.catalog.info(r.catalog.all(kind)[0])
			overwrite(t, st, packName(info.id, info.kind), func(b []byte) []byte { b[headerSize] ^= 1; return b })
			if got, err := readFiles(t.Context(), r, last); err != nil || !sameFiles(got, v) {
				t.Fatalf("it is not in memory, so the test shows nothing: %v", err)
			}
			if rep := checked(t, r, CheckOptions{ReadData: true}); rep.Sound() || r.damaged.Load().count() != 1 {
				t.Fatalf("%+v", rep)
			}
			last, err := commitFiles(t.Context(), r, v, last)
			if errors.Is(err, ErrDamaged) {
				last, err = commitFiles(t.Context(), r, v, nil) // a run takes a base that can not be read for none
			}
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			r = openTestRepo(t, st, Options{StateDir: state})
			if got, err := readFiles(t.Context(), r, last); err != nil || !sameFiles(got, v) {
				t.Errorf("what was backed up after the damage was known can not be read: %v", err)
			}
		})
	}
}
