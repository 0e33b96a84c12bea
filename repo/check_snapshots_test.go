package repo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/store"
)

// tolled counts the bytes that are read from the packs of a store.
type tolled struct {
	store.Store
	read atomic.Int64
}

func (s *tolled) Open(ctx context.Context, name string) (store.Object, error) {
	o, err := s.Store.Open(ctx, name)
	if err != nil || !strings.HasPrefix(name, "packs/") {
		return o, err
	}
	return tolledObject{o, &s.read}, nil
}

type tolledObject struct {
	store.Object
	read *atomic.Int64
}

func (o tolledObject) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.Object.ReadAt(p, off)
	o.read.Add(int64(n))
	return n, err
}

func checked(t testing.TB, r *Repo, o CheckOptions) *CheckReport {
	t.Helper()
	rep, err := r.Check(t.Context(), o, new(CheckProgress))
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func commit(t testing.TB, r *Repo, v version, base *Snapshot) *Snapshot {
	t.Helper()
	s, err := commitFiles(t.Context(), r, v, base)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A small snapshot costs as much in a large repository as in a small one, but
// for the trailers of the packs, which are read once.
func TestCheckSnapshots_ASmallOneInALargeRepositoryCostsLittle(t *testing.T) {
	st := &tolled{Store: store.NewMem()}
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{})
	defer func() { r.Close() }()
	rng := rand.New(rand.NewPCG(21, 1))
	small := commit(t, r, version{"a": randomChunks(rng, 1, 300_000, 300_000)[0], "b": textRows(rng, 900)}, nil)
	cost := func(o CheckOptions) (rep *CheckReport, read int64) {
		r.Close()
		r = openTestRepo(t, st, Options{})
		st.read.Store(0)
		rep = checked(t, r, o)
		if !rep.Sound() {
			t.Fatalf("%+v %+v", rep.Findings, rep.DamagedFiles)
		}
		return rep, st.read.Load()
	}
	only := CheckOptions{ReadData: true, Snapshots: []string{small.ID}}
	alone, aloneRead := cost(only)
	for i := range 4 {
		v := version{}
		for f := range 20 {
			v[fmt.Sprint("large", i, f)] = randomChunks(rng, 1, 300_000, 400_000)[0]
		}
		commit(t, r, v, nil)
	}
	among, amongRead := cost(only)
	_, wholeRead := cost(CheckOptions{ReadData: true})
	if among.PackBytes != alone.PackBytes || among.Blocks != alone.Blocks || among.Snapshots != 1 || !slices.Equal(among.Only, []string{small.ID}) {
		t.Errorf("%d blocks with %d bytes of %d snapshots, alone in the repository %d with %d", among.Blocks, among.PackBytes, among.Snapshots, alone.Blocks, alone.PackBytes)
	}
	if among.PackBytes < 300_000 || among.PackBytes > 500_000 {
		t.Errorf("the blocks of a snapshot of 300 KB of noise and some text have %d bytes", among.PackBytes)
	}
	// The repository has grown by 28 MB, what is read by less than a hundredth of that.
	if amongRead-aloneRead > 280_000 || wholeRead < 27_000_000 {
		t.Errorf("read %d bytes, %d when it was alone, %d for all", amongRead, aloneRead, wholeRead)
	}
	// Each block once: what was read is the blocks, the trailers and little more.
	if amongRead > among.PackBytes+300_000 {
		t.Errorf("read %d bytes for blocks of %d", amongRead, among.PackBytes)
	}
	t.Logf("snapshot of %d bytes: %d read alone, %d among others, %d for the whole repository", alone.PackBytes, aloneRead, amongRead, wholeRead)
}

func damagedOf(rep *CheckReport, id string) map[string]bool {
	out := map[string]bool{}
	for _, d := range rep.DamagedFiles {
		if d.Snapshot == id {
			out[string(d.Path)] = true
		}
	}
	return out
}

// flipTrees damages some blocks of tree packs.
func flipTrees(t testing.TB, r *Repo, st store.Store, rng *rand.Rand) {
	t.Helper()
	for _, n := range r.catalog.all(kindTree) {
		e, err := r.reader.pack(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		tr := e.val.trailer
		r.reader.packs.release(e)
		at := tr.blocks[rng.IntN(len(tr.blocks)-1)].offset
		if rng.IntN(3) == 0 {
			overwrite(t, st, packName(tr.header.pack, kindTree), func(b []byte) []byte { b[at] ^= 1; return b })
		}
	}
}

// Whatever is damaged, the check of one snapshot names the files of it that the
// check of the whole repository names, with delta blocks among them.
func TestCheckSnapshots_NamesWhatTheWholeCheckNames(t *testing.T) {
	named := 0
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 77))
		st := store.NewMem()
		initTestRepo(t, st, MinPackSize)
		r := openTestRepo(t, st, Options{})
		var snaps []*Snapshot
		v := version{"dump": textRows(rng, 2500), "noise": randomChunks(rng, 1, 90_000, 90_000)[0], "still": textRows(rng, 300)}
		var last *Snapshot
		for range 4 {
			last = commit(t, r, v, last)
			snaps = append(snaps, last)
			v = maps.Clone(mutate(rng, v))
		}
		every := 2 + rng.IntN(6)
		damageBlocks(t, r, st, func(n int) bool { return n%every == 1 })
		if seed%3 == 0 {
			flipTrees(t, r, st, rng)
		}
		r.Close()
		r = openTestRepo(t, st, Options{})
		whole := checked(t, r, CheckOptions{ReadData: true})
		for _, s := range snaps {
			only := checked(t, r, CheckOptions{ReadData: true, Snapshots: []string{s.ID}})
			if got, want := damagedOf(only, s.ID), damagedOf(whole, s.ID); !maps.Equal(got, want) || len(only.DamagedFiles) != len(want) {
				t.Errorf("seed %d: %s: got %v, the whole check names %v", seed, s.ID, got, want)
			}
			named += len(only.DamagedFiles)
		}
		r.Close()
	}
	if named < 12 {
		t.Errorf("only %d damaged files in all: this proves little", named)
	}
}

// A check asks the disk, whatever this process has read before.
func TestCheck_ReadsTheDiskAndNoCache(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for _, part := range []string{"block", "trailer"} {
		st := store.NewMem()
		initTestRepo(t, st, MinPackSize)
		r := openTestRepo(t, st, Options{})
		s := commit(t, r, version{"a": randomChunks(rng, 1, 100_000, 100_000)[0]}, nil)
		only := CheckOptions{ReadData: true, Snapshots: []string{s.ID}}
		for _, o := range []CheckOptions{{ReadData: true}, only} {
			if rep := checked(t, r, o); !rep.Sound() {
				t.Fatalf("%+v", rep)
			}
		}
		if _, err := readFiles(t.Context(), r, s); err != nil {
			t.Fatal(err)
		}
		info := r.catalog.info(r.catalog.all(kindData)[0])
		overwrite(t, st, packName(info.id, info.kind), func(b []byte) []byte {
			if part == "block" {
				b[headerSize+1000] ^= 1
			} else {
				b[len(b)-footerSize-1] ^= 1
			}
			return b
		})
		for _, o := range []CheckOptions{{ReadData: true}, only} {
			if rep := checked(t, r, o); len(rep.DamagedFiles) != 1 {
				t.Errorf("%s, %v: not found in a repository that was read before: %+v", part, o.Snapshots, rep)
			}
		}
		r.Close()
	}
}

func TestCheckSnapshots_FindsADamagedManifest(t *testing.T) {
	st := store.NewMem()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	s, other := commit(t, r, version{"a": []byte("1")}, nil), commit(t, r, version{"a": []byte("2")}, nil)
	overwrite(t, st, s.at.name(), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	rep := checked(t, r, CheckOptions{Snapshots: []string{s.ID}})
	if len(rep.Findings) != 1 || rep.Findings[0].Object != s.ID {
		t.Errorf("got %+v", rep.Findings)
	}
	if rep := checked(t, r, CheckOptions{Snapshots: []string{other.ID}}); !rep.Sound() {
		t.Errorf("the other snapshot has nothing to do with it: %+v", rep.Findings)
	}
	if _, err := r.Check(t.Context(), CheckOptions{Snapshots: []string{"backup-none"}}, new(CheckProgress)); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

// What a check of one snapshot finds damaged is known to the next backup, and
// what was known before is not forgotten for it.
func TestCheckSnapshots_AddsToWhatIsKnownToBeDamaged(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	st, state := store.NewMem(), t.TempDir()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{StateDir: state})
	model := []version{{"a": randomChunks(rng, 1, 50_000, 50_000)[0]}, {"b": randomChunks(rng, 1, 50_000, 50_000)[0]}}
	var snaps []*Snapshot
	for _, v := range model {
		snaps = append(snaps, commit(t, r, v, nil))
	}
	damageBlocks(t, r, st, func(int) bool { return true })
	// The tree of the second is damaged as well.
	tree := r.catalog.info(r.catalog.all(kindTree)[1])
	overwrite(t, st, packName(tree.id, kindTree), func(b []byte) []byte { b[headerSize] ^= 1; return b })
	for i, s := range snaps {
		if rep := checked(t, r, CheckOptions{ReadData: true, Snapshots: []string{s.ID}}); len(rep.DamagedFiles) != 1 {
			t.Fatalf("%+v", rep)
		}
		// Behind a damaged tree nothing is known to be needed.
		if n := r.damaged.Load().count(); n != i+1 {
			t.Errorf("after %d checks %d packs are known to be damaged", i+1, n)
		}
	}
	if !r.damaged.Load().has(tree.id, 0) {
		t.Error("the damaged tree is not known")
	}
	// So the data of the second is found when its tree can be read again.
	if healed(t, st, state, model) == 0 {
		t.Fatal("nothing was stored again")
	}
	checked(t, r, CheckOptions{ReadData: true, Snapshots: []string{snaps[1].ID}})
	r.Close()
	if healed(t, st, state, model) == 0 {
		t.Fatal("nothing was stored again")
	}
	r = openTestRepo(t, st, Options{StateDir: state})
	defer r.Close()
	for i, s := range snaps {
		if rep := checked(t, r, CheckOptions{ReadData: true, Snapshots: []string{s.ID}}); len(rep.DamagedFiles) > 0 {
			t.Errorf("%+v", rep.DamagedFiles)
		}
		wantAll(t, r, map[string]version{s.ID: model[i]})
	}
}

// A list may say other lengths than its chunks have, with the right sum. A
// restore refuses the file then, so a check must name it.
func TestCheck_FindsAListThatLiesAboutLengths(t *testing.T) {
	st := store.NewMem()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	ctx := t.Context()
	w, err := r.NewWriter(ctx, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	l, err := w.NewLane()
	if err != nil {
		t.Fatal(err)
	}
	tw := w.Tree()
	dw := tw.NewDir(nil, r.Reader())
	// "many" has more chunks than stand in its entry.
	for _, f := range []struct {
		name         string
		chunks, lies int
	}{{"good", 3, 0}, {"lies", 3, 1}, {"many", 3000, 1}} {
		cw := tw.NewContent(nil, r.Reader())
		size := 0
		for i := range f.chunks {
			c := fmt.Appendf(nil, "chunk %06d of the file %s", i, f.name)
			ref := l.Ref(c)
			if _, err := l.Put(ctx, c, ref, nil); err != nil {
				t.Fatal(err)
			}
			size += len(c)
			switch i {
			case f.chunks - 2:
				ref.Len += uint32(f.lies)
			case f.chunks - 1:
				ref.Len -= uint32(f.lies)
			}
			if err := cw.Add(ctx, ref); err != nil {
				t.Fatal(err)
			}
		}
		content, err := cw.Close(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := dw.Add(ctx, &Entry{Name: f.name, Type: TypeRegular, Mode: 0o644, Nlink: 1, Size: int64(size), Content: content}); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := dw.Close(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	m := bareManifest(t, r)
	m.Parts = []Part{{Source: "test", Kind: "files", Profile: "files", StartedAt: time.Now(), FinishedAt: time.Now()}}
	if err := m.Parts[0].SetRoot(&Entry{Type: TypeDirectory, Mode: 0o755, Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(ctx, m); err != nil {
		t.Fatal(err)
	}
	for _, o := range []CheckOptions{{}, {ReadData: true}, {Snapshots: []string{m.ID}}, {Snapshots: []string{m.ID}, ReadData: true}} {
		rep := checked(t, r, o)
		if got := damagedOf(rep, m.ID); len(got) != 2 || !got["/lies"] || !got["/many"] {
			t.Errorf("%+v: got %v %v", o, rep.DamagedFiles, rep.Findings)
		}
	}
}
