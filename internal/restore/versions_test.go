package restore_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/restore"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

// dumpOf are the rows of a dump.
type dumpOf [][]byte

func (d dumpOf) rewrite(rng *rand.Rand, i int) {
	d[i] = fmt.Appendf(nil, "%08d\tuser%d@example.org\t%016x%08x\t%d\t%d\n", i, rng.IntN(1e6), rng.Uint64(), rng.Uint32(), rng.IntN(1000), rng.IntN(1000))
}

// What a restore decodes is counted, not timed: it is the same on a busy machine. A version leans on three others at
// most, so each of its bytes takes four at most, and some more for blocks of which only a part is used. The caches are
// made small beside the dump, as they are beside a large one: what is decoded twice shows.
func TestRun_DecodesLittleForALateVersion(t *testing.T) {
	const size, rowBytes, versions = 8 << 20, 68, 32
	for _, c := range []struct {
		name string
		most float64
		turn func(d dumpOf, rng *rand.Rand)
	}{
		{"rows at random", 4.8, func(d dumpOf, rng *rand.Rand) {
			for range len(d) / 100 {
				d.rewrite(rng, rng.IntN(len(d)))
			}
		}},
		// Most chunks were changed last in an earlier version, each in another. More than 8 were decoded when chunks from all over
		// the dump came to lie in one block; now 3.5 to 4.3, as the repository's key has the dump cut.
		{"hot ranges and a few rows at random", 6, func(d dumpOf, rng *rand.Rand) {
			for range 14 {
				d.rewrite(rng, rng.IntN(len(d)))
			}
			for k := range len(d) / 100 {
				d.rewrite(rng, (k%4*2+1)*len(d)/9+rng.IntN(len(d)/200))
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(15, 3))
			d := make(dumpOf, size/rowBytes)
			for i := range d {
				d.rewrite(rng, i)
			}
			f := newRepo(t)
			from := scratch(t)
			var first, last *repo.Manifest
			for n := range versions {
				if n > 0 {
					c.turn(d, rng)
				}
				must(t, os.WriteFile(filepath.Join(from, "dump.sql"), bytes.Join(d, nil), 0o600))
				last = f.version(t, from)
				if n == 0 {
					first = last
				}
			}
			if got := f.decoded(t, first, nil); got > 1.2 {
				t.Errorf("the first version: %.2f bytes decoded for each", got)
			}
			if got := f.decoded(t, last, bytes.Join(d, nil)); got > c.most || got < 1.5 {
				t.Errorf("the last of %d versions: %.2f bytes decoded for each, want %.2f at most, and more than for one that leans on nothing", versions, got, c.most)
			}
			sound, err := f.Check(t.Context(), repo.CheckOptions{ReadData: true}, new(repo.CheckProgress))
			must(t, err)
			if !sound.Sound() {
				t.Errorf("the repository is not sound: %+v", sound.Findings)
			}
		})
	}
}

// Small files that change here and there lean on blocks all over the tree. More than four bytes were decoded for each
// when they came to lie in one block.
func TestRun_DecodesLittleForATreeWhereFilesChangeHereAndThere(t *testing.T) {
	rng := rand.New(rand.NewPCG(15, 4))
	f := newRepo(t)
	from := scratch(t)
	files := make([]dumpOf, 1200)
	var first, last *repo.Manifest
	for n := range 6 {
		for i := range files {
			if n == 0 {
				files[i] = make(dumpOf, 20+rng.IntN(160))
				for k := range files[i] {
					files[i].rewrite(rng, k)
				}
			} else if rng.IntN(14) > 0 {
				continue
			}
			files[i].rewrite(rng, rng.IntN(len(files[i])))
			name := filepath.Join(from, fmt.Sprint(i/30), fmt.Sprint(i))
			must(t, os.MkdirAll(filepath.Dir(name), 0o700))
			must(t, os.WriteFile(name, bytes.Join(files[i], nil), 0o600))
		}
		last = f.version(t, from)
		if n == 0 {
			first = last
		}
	}
	if got := f.decoded(t, first, nil); got > 1.3 {
		t.Errorf("the first version: %.2f bytes decoded for each", got)
	}
	if got := f.decoded(t, last, nil); got > 2.2 || got < 1.1 {
		t.Errorf("the last version: %.2f bytes decoded for each, want 2.2 at most, and more than for what leans on nothing", got)
	}
}

// version backs up a directory on the base of the last version of it.
func (f *fixture) version(t *testing.T, dir string) *repo.Manifest {
	t.Helper()
	src, err := source.NewFiles(source.FilesOptions{Paths: []string{dir}})
	must(t, err)
	part := repo.Part{Source: "files", Kind: "files", Profile: "files", Paths: [][]byte{[]byte(dir)}}
	rep, err := backup.Run(t.Context(), f.Repo, []backup.Part{{Part: part, From: src}},
		backup.Options{Type: backup.Incremental, Host: "here", Workers: 1}, new(backup.Progress))
	must(t, err)
	return rep.Snapshot
}

// decoded restores a snapshot of one file, which has to be want unless that is nil, as a process with little memory does,
// and returns how many bytes were decoded for each byte of it.
func (f *fixture) decoded(t *testing.T, m *repo.Manifest, want []byte) float64 {
	t.Helper()
	st, err := store.OpenDir(f.dir)
	must(t, err)
	defer st.Close()
	r, err := repo.Open(t.Context(), st, []crypto.Credential{f.cred}, repo.Options{Memory: 40 << 20})
	must(t, err)
	defer r.Close()
	to := scratch(t)
	rep := into(t, r, m, to, restore.Options{Workers: 1})
	wantClean(t, rep)
	if want != nil {
		found, err := filepath.Glob(filepath.Join(to, "*", "*", "*", "dump.sql"))
		must(t, err)
		if len(found) != 1 || !bytes.Equal(readAll(t, found[0]), want) {
			t.Error("the last version came back with other bytes")
		}
	}
	return float64(r.Reader().Decoded()) / float64(rep.Bytes)
}
