package repo

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/generalbots/backupd/internal/store"
)

// mutate rewrites some rows, adds, removes and replaces files.
func mutate(rng *rand.Rand, v version) version {
	out := version{}
	for _, name := range slices.Sorted(maps.Keys(v)) { // in one order, so that a seed makes the same of it
		p := bytes.Clone(v[name])
		switch rng.IntN(6) {
		case 0, 1, 2:
			for range 1 + len(p)/4000 {
				if len(p) > 0 {
					p[rng.IntN(len(p))] = byte('a' + rng.IntN(26))
				}
			}
		case 3:
			if rng.IntN(4) == 0 {
				continue
			}
		case 4:
			p = append(p, textRows(rng, 1+rng.IntN(30))...)
		}
		out[name] = p
	}
	for range rng.IntN(3) {
		out[fmt.Sprintf("f%03d", rng.IntN(200))] = textRows(rng, rng.IntN(2500))
	}
	return out
}

func gc(t testing.TB, r *Repo) *GCReport {
	t.Helper()
	rep, err := r.GC(t.Context(), GCOptions{}, &GCProgress{})
	if err != nil {
		t.Fatalf("gc: %v", err)
	}
	return rep
}

func TestGC_KeepsWhatIsLeftAndGivesBackWhatIsForgotten(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 77))
		st := store.NewMem()
		initTestRepo(t, st, MinPackSize)
		r := openTestRepo(t, st, Options{StateDir: t.TempDir()})
		v := version{"dump": textRows(rng, 6000), "small": []byte("x")}
		model := map[string]version{}
		var last *Snapshot
		for range 14 {
			v = mutate(rng, v)
			s, err := commitFiles(t.Context(), r, v, last)
			if err != nil {
				t.Fatal(err)
			}
			last, model[s.ID] = s, v
		}
		for round := range 4 {
			snaps := r.Snapshots()
			for _, s := range snaps {
				if rng.IntN(3) == 0 && len(model) > 1 {
					if err := r.Forget(t.Context(), s.ID); err != nil {
						t.Fatal(err)
					}
					delete(model, s.ID)
				}
			}
			before := storeBytes(t, st)
			gc(t, r)
			if after := storeBytes(t, st); after > before {
				t.Errorf("seed %d round %d: gc made %d bytes out of %d", seed, round, after, before)
			}
			mustBeSound(t, r)
			if got := len(r.Snapshots()); got != len(model) {
				t.Fatalf("got %d snapshots, want %d", got, len(model))
			}
			for _, s := range r.Snapshots() {
				got, err := readFiles(t.Context(), r, s)
				if err != nil || !sameFiles(got, model[s.ID]) {
					t.Fatalf("seed %d round %d: snapshot %s is not what it was (%v)", seed, round, s.ID, err)
				}
			}
		}
		again := gc(t, r)
		if again.DeadPacks != 0 {
			t.Errorf("a gc right after a gc found %d dead packs", again.DeadPacks)
		}
		r.Close()
	}
}

func TestGC_SpaceOfFiftyForgottenVersionsComesBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	st := store.NewMem()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{StateDir: t.TempDir()})
	defer r.Close()
	v := version{"dump": textRows(rng, 9000)}
	var last *Snapshot
	for range 50 {
		p := bytes.Clone(v["dump"])
		for range 60 {
			p[rng.IntN(len(p))] = byte('a' + rng.IntN(26))
		}
		v = version{"dump": p}
		s, err := commitFiles(t.Context(), r, v, last)
		if err != nil {
			t.Fatal(err)
		}
		last = s
	}
	full := storeBytes(t, st)
	for _, s := range slices.Clone(r.Snapshots()) {
		if s.ID != last.ID {
			if err := r.Forget(t.Context(), s.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	gc(t, r)
	gc(t, r)
	mustBeSound(t, r)
	got, err := readFiles(t.Context(), r, last)
	if err != nil || !sameFiles(got, v) {
		t.Fatalf("the last version is not what it was (%v)", err)
	}
	one := store.NewMem()
	initTestRepo(t, one, MinPackSize)
	fresh := openTestRepo(t, one, Options{})
	defer fresh.Close()
	if _, err := commitFiles(t.Context(), fresh, v, nil); err != nil {
		t.Fatal(err)
	}
	left, want := storeBytes(t, st), storeBytes(t, one)
	t.Logf("fifty versions %d bytes, after gc %d, one alone %d", full, left, want)
	if left > want*5/4 {
		t.Errorf("after gc %d bytes are left, a repository of the last version alone has %d", left, want)
	}
}
