package repo

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// fileByFile reads each file of a snapshot on its own: nil for one that can not be read. ok is false when the directory
// can not be listed to its end.
func fileByFile(ctx context.Context, r *Repo, s *Snapshot) (files version, ok bool) {
	files = version{}
	root, err := r.Root(&s.Parts[0])
	if err != nil {
		return files, false
	}
	dr := r.Reader().Dir(root.Dir)
	for {
		raw, more, err := dr.Next(ctx)
		if err != nil || !more {
			return files, err == nil
		}
		var e Entry
		if raw.Entry(&e) != nil {
			return files, false
		}
		p := []byte{}
		cr := r.Reader().Content(&e.Content)
		for {
			ref, more, err := cr.Next(ctx)
			if err == nil && more {
				p, err = r.Reader().AppendChunk(ctx, p, ref.ID)
			}
			if err != nil {
				p = nil
			}
			if err != nil || !more {
				break
			}
		}
		files[e.Name] = p
	}
}

// severalCopies is a repository of some versions in which about half of the blocks have another copy, of any depth, and
// what is in it by snapshot.
func severalCopies(t *testing.T, rng *rand.Rand, packSize int) (st *store.Mem, model map[string]version) {
	t.Helper()
	st, model = store.NewMem(), map[string]version{}
	initTestRepo(t, st, packSize)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	v := version{"dump": textRows(rng, 6000), "still": textRows(rng, 300), "noise": randomChunks(rng, 1, 2_000_000, 3_000_000)[0]}
	var last *Snapshot
	for range 3 {
		for range 2 {
			last = commit(t, r, v, last)
			model[last.ID] = v
			// What is taken for damaged is stored again, against a base or without one.
			taken := &damageList{blocks: map[crypto.PackID][]uint32{}}
			for _, n := range r.catalog.all(kindData) {
				for b := range uint32(40) {
					if rng.IntN(2) == 0 {
						taken.add(r.catalog.info(n).id, b)
					}
				}
			}
			r.damaged.Store(taken)
			if rng.IntN(2) == 0 {
				last = nil
			}
		}
		r.damaged.Store(nil)
		v = maps.Clone(mutate(rng, v))
	}
	if rng.IntN(3) == 0 {
		for id := range model {
			if err := r.Forget(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			delete(model, id)
			break
		}
		gc(t, r)
	}
	return st, model
}

// hurt damages a repository in some places, and says how. Only what a check without ReadData can see when coarse.
func hurt(t *testing.T, rng *rand.Rand, st store.Store, coarse bool) (what string) {
	t.Helper()
	infos, err := st.List(t.Context(), "packs")
	if err != nil {
		t.Fatal(err)
	}
	sortInfos(infos)
	for range 1 + rng.IntN(4) {
		in, other := infos[rng.IntN(len(infos))], infos[rng.IntN(len(infos))]
		how := rng.IntN(7)
		if coarse {
			how = 3 + rng.IntN(4)
		}
		overwrite(t, st, in.Name, func(b []byte) []byte {
			if len(b) == 0 {
				return b
			}
			switch how {
			case 0, 1, 2:
				for range 1 + rng.IntN(3) {
					b[rng.IntN(len(b))] ^= byte(1 + rng.IntN(255))
				}
			case 3:
				b = b[:rng.IntN(len(b))]
			case 4:
				b[len(b)-1-rng.IntN(TrailerBucket)] ^= 1
			case 5:
				c, err := readObject(t.Context(), st, other.Name, 1<<30, nil)
				if err == nil && !bytes.Equal(b, c) {
					b = c
				} else {
					b[rng.IntN(8)] ^= byte(1 + rng.IntN(255)) // not the same when it is drawn again: that would mend it
				}
			case 6:
				b = b[:len(b)/2]
			}
			return b
		})
		what += fmt.Sprintf("%d of %s; ", how, in.Name)
	}
	return what
}

// Whatever happened to the packs and however many copies there are, a check names the files that can not be read and no
// others, and where a directory can not be listed it says so. What can be read are the right bytes.
func TestCheck_NamesTheFilesThatCanNotBeReadAndNoOthers(t *testing.T) {
	lost, saved := 0, 0
	for seed := range uint64(12 * crashScale()) {
		rng := rand.New(rand.NewPCG(seed, 2026))
		size := MinPackSize
		if seed%2 == 0 {
			size = DefaultPackSize
		}
		st, model := severalCopies(t, rng, size)
		o := CheckOptions{ReadData: seed%3 > 0}
		what := hurt(t, rng, st, !o.ReadData)
		r := openTestRepo(t, st, Options{})
		rep := checked(t, r, o)
		r.Close()
		if len(rep.Findings) == 0 {
			t.Errorf("seed %d: nothing found of %s", seed, what)
		}
		r = openTestRepo(t, st, Options{})
		for _, s := range r.Snapshots() {
			files, listed := fileByFile(t.Context(), r, s)
			named := damagedOf(rep, s.ID)
			if !listed && len(named) == 0 {
				t.Errorf("seed %d: %s can not be listed and nothing of it is named after %s", seed, s.ID, what)
			}
			for name, got := range files {
				switch want := model[s.ID][name]; {
				case got == nil && !named["/"+name]:
					t.Errorf("seed %d: %s of %s can not be read and is not named after %s", seed, name, s.ID, what)
				case got == nil:
					lost++
				case !bytes.Equal(got, want):
					t.Errorf("seed %d: %s of %s was read with other bytes after %s", seed, name, s.ID, what)
				case named["/"+name]:
					t.Errorf("seed %d: %s of %s can be read and is named after %s", seed, name, s.ID, what)
				default:
					saved++
				}
			}
		}
		r.Close()
	}
	if lost < 3 || saved < 3 { // which packs are hit hangs on their names: 21 to 84 and 98 to 155 in eight runs
		t.Errorf("%d files lost and %d not: this proves little", lost, saved)
	}
	t.Logf("%d files can not be read, %d can", lost, saved)
}
