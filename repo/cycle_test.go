package repo

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// copyMem returns an independent copy of a store.
func copyMem(t testing.TB, st store.Store) *store.Mem {
	t.Helper()
	out := store.NewMem()
	infos, err := st.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range infos {
		b, err := readObject(t.Context(), st, in.Name, 1<<30, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeObject(t.Context(), out, in.Name, bytes.Clone(b)); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// commitAgain makes a snapshot of files of one chunk each and stores their
// chunks whether or not they are known, as a run does that has lost its
// index: as deltas on what like names.
func commitAgain(t testing.TB, r *Repo, files version, like map[string][]Ref) *Snapshot {
	t.Helper()
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
	for _, name := range slices.Sorted(maps.Keys(files)) {
		c := files[name]
		ref := l.Ref(c)
		if lk := like[name]; len(lk) > 0 {
			err = l.putDelta(ctx, c, ref, lk, nil)
		} else {
			err = l.putPlain(ctx, c, ref)
		}
		if err == nil {
			err = l.Flush(ctx)
		}
		cw := tw.NewContent(nil, r.Reader())
		if err == nil {
			err = cw.Add(ctx, ref)
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := cw.Close(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := dw.Add(ctx, &Entry{Name: name, Type: TypeRegular, Mode: 0o644, Nlink: 1, Size: int64(len(c)), Content: content}); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := dw.Close(ctx)
	if err != nil {
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
	s, err := r.Resolve(m.ID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tangled is a repository in which chunks are stored several times, as deltas
// on each other's copies.
type tangled struct {
	st     *store.Mem
	want   map[string]version
	order  []string
	copies int // chunks with more than one copy
}

func newTangled(t testing.TB, seed uint64) *tangled {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 31))
	g := &tangled{st: store.NewMem(), want: map[string]version{}}
	initTestRepo(t, g.st, MinPackSize)
	r := openTestRepo(t, g.st, Options{})
	defer r.Close()
	// Chunks that are each other's edits.
	chunks := [][]byte{textRows(rng, 40)}
	for range 3 {
		c := bytes.Clone(chunks[rng.IntN(len(chunks))])
		for range 3 {
			c[rng.IntN(len(c))] = byte('A' + rng.IntN(26))
		}
		chunks = append(chunks, c)
	}
	ident := Identifier{crypto.NewHasher(r.idKey(kindData))}
	stored := map[int]int{}
	for range 6 {
		files, like := version{}, map[string][]Ref{}
		for range 1 + rng.IntN(2) {
			i := rng.IntN(len(chunks))
			name := fmt.Sprintf("c%d", i)
			files[name] = chunks[i]
			if len(stored) > 0 && rng.IntN(5) > 0 {
				for j := range chunks {
					if j != i && stored[j] > 0 && rng.IntN(2) == 0 {
						like[name] = append(like[name], ident.Ref(chunks[j]))
					}
				}
			}
		}
		s := commitAgain(t, r, files, like)
		for name := range files {
			var i int
			fmt.Sscanf(name, "c%d", &i)
			if stored[i]++; stored[i] == 2 {
				g.copies++
			}
		}
		g.want[s.ID], g.order = files, append(g.order, s.ID)
	}
	mustBeSound(t, r)
	wantAll(t, r, g.want)
	return g
}

// untangled resolves all blocks of a repository without believing the depths
// they say: a block is reached when all its dictionary is. What live
// snapshots name must be reached, within MaxDepth.
func untangled(t testing.TB, r *Repo) error {
	t.Helper()
	ctx := context.Background()
	type blk struct {
		dicts, chunks []crypto.ID
		depth         int
	}
	var blocks []*blk
	if err := r.eachTrailer(ctx, r.catalog.all(0), func(_ uint32, tr *trailer) error {
		for i := range tr.blocks[:len(tr.blocks)-1] {
			rec, b := &tr.blocks[i], &blk{depth: -1}
			for d := range uint32(rec.dicts) {
				b.dicts = append(b.dicts, tr.dict(rec.dictAt+d))
			}
			for c := range uint32(rec.chunks) {
				id, _ := tr.chunk(rec.chunkAt + c)
				b.chunks = append(b.chunks, id)
			}
			blocks = append(blocks, b)
		}
		return nil
	}); err != nil {
		return err
	}
	reached := map[crypto.ID]bool{}
	for depth := 0; depth <= MaxDepth; depth++ {
		var fresh []crypto.ID
		for _, b := range blocks {
			if b.depth < 0 && !slices.ContainsFunc(b.dicts, func(id crypto.ID) bool { return !reached[id] }) {
				b.depth, fresh = depth, append(fresh, b.chunks...)
			}
		}
		for _, id := range fresh {
			reached[id] = true
		}
	}
	for _, s := range r.Snapshots() {
		root, err := r.Root(&s.Parts[0])
		if err != nil {
			return err
		}
		var lost error
		if err := walkTree(ctx, r.reader, root.Dir, func(id crypto.ID, _ pageKind, _ uint32) bool { return true }, func(ref Ref) {
			if !reached[ref.ID] {
				lost = fmt.Errorf("chunk %s of %s is in a cycle or gone", ref.ID.Short(), s.ID)
			}
		}); err != nil || lost != nil {
			return fmt.Errorf("%w %w", err, lost)
		}
	}
	return nil
}

func TestRepoCycles_GCLeavesNoneWhateverIsForgotten(t *testing.T) {
	seeds := uint64(12 * crashScale())
	tangles := 0
	for seed := range seeds {
		g := newTangled(t, seed)
		tangles += g.copies
		rng := rand.New(rand.NewPCG(seed, 1))
		for subset := range 1 << len(g.order) {
			if seeds == 12 && subset%3 != int(seed%3) {
				continue
			}
			st := copyMem(t, g.st)
			r := openTestRepo(t, st, Options{})
			var forget []string
			for i, id := range g.order {
				if subset>>i&1 == 1 {
					forget = append(forget, id)
				}
			}
			// In any order, with a gc after each or only at the end.
			rng.Shuffle(len(forget), func(i, j int) { forget[i], forget[j] = forget[j], forget[i] })
			for _, id := range forget {
				if err := r.Forget(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				if rng.IntN(3) == 0 {
					gc(t, r)
				}
			}
			gc(t, r)
			if err := untangled(t, r); err != nil {
				t.Fatalf("seed %d, %d of %d forgotten: %v", seed, len(forget), len(g.order), err)
			}
			mustBeSound(t, r)
			wantAll(t, r, g.want)
			if got := len(r.Snapshots()); got != len(g.order)-len(forget) {
				t.Fatalf("got %d snapshots, want %d", got, len(g.order)-len(forget))
			}
			gc(t, r)
			if rep := gc(t, r); rep.DeadPacks != 0 {
				t.Errorf("seed %d: the third gc in a row found %d dead packs", seed, rep.DeadPacks)
			}
			mustBeSound(t, r)
			wantAll(t, r, g.want)
			r.Close()
		}
	}
	if tangles < int(seeds) {
		t.Errorf("only %d chunks were stored twice", tangles)
	}
}

// The control: a gc that keeps the copy of greatest depth. Its proof must
// refuse what would lose something, and a check must find it when there is no
// proof.
func TestRepoCycles_NoticesAGCThatKeepsTheDeepCopy(t *testing.T) {
	losses, cycles := 0, 0
	for seed := range uint64(30) {
		g := newTangled(t, seed)
		r := openTestRepo(t, g.st, Options{})
		if err := r.lockForWriting(t.Context()); err != nil {
			t.Fatal(err)
		}
		gb, err := newGarbage(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if err := gb.mark(t.Context()); err != nil {
			t.Fatal(err)
		}
		copies := map[crypto.ID][][2]int{} // depth and what the copy counts as
		if err := gb.each(t.Context(), gb.packs, func(n uint32, tr *trailer) error {
			for b := range tr.blocks {
				rec := &tr.blocks[b]
				for c := range uint32(rec.chunks) {
					id, _ := tr.chunk(rec.chunkAt + c)
					copies[id] = append(copies[id], [2]int{int(rec.depth), gb.copy(n, rec.chunkAt+c)})
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for _, list := range copies {
			if gb.spare == nil || !slices.ContainsFunc(list, func(c [2]int) bool { return gb.spare.has(c[1]) }) {
				continue // one copy, or none that can be read
			}
			for _, c := range list {
				gb.spare.set(c[1])
			}
			gb.spare.unset(slices.MaxFunc(list, func(a, b [2]int) int { return a[0] - b[0] })[1])
		}
		plan, err := gb.plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		goes := append(plan.dead, plan.later...)
		refused := gb.prove(t.Context(), goes) != nil
		for _, n := range goes {
			info := r.catalog.info(n)
			if err := r.store.Remove(t.Context(), packName(info.id, info.kind)); err != nil {
				t.Fatal(err)
			}
		}
		r.endWriting()
		r.Close()
		r = openTestRepo(t, g.st, Options{})
		rep, err := r.Check(t.Context(), CheckOptions{ReadData: true}, &CheckProgress{})
		if err != nil {
			t.Fatal(err)
		}
		// A copy that is there, but too deep for who leans on it, is lost too.
		lost := len(rep.DamagedFiles) > 0
		if lost {
			losses++
		}
		if err := untangled(t, r); err != nil {
			cycles++
			if !lost {
				t.Errorf("seed %d: check finds nothing wrong, though %v", seed, err)
			}
		}
		if lost && !refused {
			t.Errorf("seed %d: the proof let something go that is needed", seed)
		}
		r.Close()
	}
	if losses == 0 || cycles == 0 {
		t.Error("nothing was ever lost, so the other test shows nothing")
	}
	t.Logf("%d of 30 repositories would have lost something, %d in cycles", losses, cycles)
}
