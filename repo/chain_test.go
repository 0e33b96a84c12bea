package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/store"
)

// testChain is a repository's snapshots directory and two writers of it.
type testChain struct {
	testing.TB
	st   store.Store
	keys *fileKeys
	a, b writerID
	ids  int
}

func newTestChain(t testing.TB) *testChain {
	t.Helper()
	return &testChain{TB: t, st: store.NewMem(), keys: testKeys(t), a: writerID{0xaa}, b: writerID{0xbb}}
}

func (t *testChain) load() *chain {
	t.Helper()
	c, err := loadChain(t.Context(), t.st, t.keys)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (t *testChain) as(w writerID) *publisher {
	t.Helper()
	return &publisher{st: t.st, keys: t.keys, writer: w, chain: t.load()}
}

// snapshot publishes a manifest and returns its id.
func (t *testChain) snapshot(w writerID) string {
	t.Helper()
	t.ids++
	m := testManifest(testID(t.ids))
	m.CreatedAt = testNow.Add(time.Duration(t.ids) * time.Minute)
	if _, err := t.as(w).snapshot(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return m.ID
}

func (t *testChain) forget(w writerID, id string) {
	t.Helper()
	if err := t.as(w).forget(t.Context(), id, testNow); err != nil {
		t.Fatal(err)
	}
}

func (t *testChain) undelete(w writerID, id string) {
	t.Helper()
	if err := t.as(w).undelete(t.Context(), id, testNow); err != nil {
		t.Fatal(err)
	}
}

// gc removes what gc may remove.
func (t *testChain) gc() {
	t.Helper()
	if err := t.st.Remove(t.Context(), t.load().removable()...); err != nil {
		t.Fatal(err)
	}
}

func (t *testChain) remove(w writerID, seq uint64) {
	t.Helper()
	if err := t.st.Remove(t.Context(), place{w, seq}.name()); err != nil {
		t.Fatal(err)
	}
}

func (t *testChain) read(name string) []byte {
	t.Helper()
	b, err := readObject(t.Context(), t.st, name, MaxSealedFileSize, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (t *testChain) write(name string, b []byte) {
	t.Helper()
	if err := t.st.Remove(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if err := writeObject(t.Context(), t.st, name, b); err != nil {
		t.Fatal(err)
	}
}

func (t *testChain) damage(w writerID, seq uint64) {
	t.Helper()
	name := place{w, seq}.name()
	b := t.read(name)
	b[len(b)/2] ^= 1
	t.write(name, b)
}

func ids(list []*Snapshot) (out []string) {
	for _, s := range list {
		out = append(out, s.ID)
	}
	return out
}

// expect checks which snapshots are live and forgotten, and that there are
// exactly the problems that have these words, in order.
func (t *testChain) expect(live, forgotten []string, problems ...string) *chain {
	t.Helper()
	c := t.load()
	if !slices.Equal(ids(c.snapshots), live) {
		t.Errorf("live: got %v, want %v", ids(c.snapshots), live)
	}
	if !slices.Equal(ids(c.forgotten), forgotten) {
		t.Errorf("forgotten: got %v, want %v", ids(c.forgotten), forgotten)
	}
	var got []string
	for _, p := range c.problems {
		got = append(got, p.Error())
	}
	ok := len(got) == len(problems)
	for i := range min(len(got), len(problems)) {
		ok = ok && strings.Contains(got[i], problems[i])
	}
	if !ok {
		t.Errorf("problems: got\n\t%s\nwant %q", strings.Join(got, "\n\t"), problems)
	}
	if (c.err() == nil) != (len(problems) == 0) || len(problems) > 0 && !errors.Is(c.err(), ErrDamaged) {
		t.Errorf("err: got %v for %d problems", c.err(), len(problems))
	}
	return c
}

func TestChain_TwoWritersHaveChainsOfTheirOwn(t *testing.T) {
	c := newTestChain(t)
	a1, b1, a2, b2 := c.snapshot(c.a), c.snapshot(c.b), c.snapshot(c.a), c.snapshot(c.b)
	got := c.expect([]string{a1, b1, a2, b2}, nil)
	for w, want := range map[writerID]uint64{c.a: 2, c.b: 2} {
		if end := got.ends[w]; end.seq != want || end.wholeSeq != want {
			t.Errorf("writer %x: got end %+v, want %d", w[:1], end, want)
		}
	}
}

func TestChain_ListsWritersByTimeAndEachInItsOrder(t *testing.T) {
	c := newTestChain(t)
	for i, at := range []struct {
		writer writerID
		minute int
	}{{c.a, 5}, {c.a, 30}, {c.a, 10}, {c.b, 20}, {c.a, 10}, {c.b, 40}, {c.a, 35}} { // the clock of a went back
		m := testManifest(testID(9 - i))
		m.CreatedAt = testNow.Add(time.Duration(at.minute) * time.Minute)
		if _, err := c.as(at.writer).snapshot(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	c.expect([]string{testID(9), testID(6), testID(8), testID(7), testID(5), testID(3), testID(4)}, nil)
}

func TestChain_FindsAGap(t *testing.T) {
	c := newTestChain(t)
	var all []string
	for range 7 {
		all = append(all, c.snapshot(c.a))
	}
	c.remove(c.a, 2)
	c.remove(c.a, 4)
	c.remove(c.a, 5)
	c.expect([]string{all[0], all[2], all[5], all[6]}, nil, "-0000000002: the file is missing", "-0000000004: this file and those up to number 5")
}

func TestChain_FindsAFirstFileThatIsMissing(t *testing.T) {
	c := newTestChain(t)
	c.snapshot(c.a)
	second := c.snapshot(c.a)
	c.remove(c.a, 1)
	c.expect([]string{second}, nil, "-0000000001: the file is missing")
}

func TestChain_FindsADamagedMiddleAndReadsTheRest(t *testing.T) {
	c := newTestChain(t)
	first, _, third := c.snapshot(c.a), c.snapshot(c.a), c.snapshot(c.a)
	c.damage(c.a, 2)
	c.expect([]string{first, third}, nil, "-0000000002: the repository is damaged: its bytes were altered")
	fourth := c.snapshot(c.a)
	c.expect([]string{first, third, fourth}, nil, "-0000000002: ")
}

func TestChain_FindsTruncatedAndEmptyFiles(t *testing.T) {
	c := newTestChain(t)
	for range 4 {
		c.snapshot(c.a)
	}
	c.write(place{c.a, 1}.name(), nil)
	c.write(place{c.a, 3}.name(), c.read(place{c.a, 3}.name())[:700])
	c.expect([]string{testID(2), testID(4)}, nil, "-0000000001: the repository is damaged: it is cut short", "-0000000003: the repository is damaged: 700 bytes")
}

// Two writers with one id on two copies of a repository, which were then mixed.
func TestChain_FindsABrokenLink(t *testing.T) {
	c := newTestChain(t)
	c.snapshot(c.a)
	c.snapshot(c.a)
	third := c.snapshot(c.a)
	name := place{c.a, 2}.name()
	other := &testChain{TB: t, st: store.NewMem(), keys: c.keys, a: c.a, ids: 10}
	first := place{c.a, 1}.name()
	other.write(first, c.read(first))
	forked := other.snapshot(c.a)
	c.write(name, other.read(name))
	c.expect([]string{testID(1), forked, third}, nil, "-0000000003: it does not follow on "+name)
}

func TestChain_FindsADuplicate(t *testing.T) {
	c := newTestChain(t)
	id := c.snapshot(c.a)
	t.Run("of a file", func(t *testing.T) {
		c := &testChain{TB: t, st: c.st, keys: c.keys, a: c.a, b: c.b}
		copied := place{c.a, 2}.name()
		c.write(copied, c.read(place{c.a, 1}.name()))
		c.expect([]string{id}, nil, copied+": the repository is damaged: its bytes were altered, or it was stored under another name")
		c.remove(c.a, 2)
	})
	t.Run("of an id", func(t *testing.T) {
		other := &testChain{TB: t, st: store.NewMem(), keys: c.keys, b: c.b}
		if got := other.snapshot(c.b); got != id {
			t.Fatalf("got id %s, want %s again", got, id)
		}
		name := place{c.b, 1}.name()
		c.write(name, other.read(name))
		c.expect([]string{id, id}, nil, name+": it has the snapshot id "+id)
	})
}

func TestChain_ReportsForeignNames(t *testing.T) {
	c := newTestChain(t)
	id := c.snapshot(c.a)
	good := place{c.a, 1}.name()
	for _, name := range []string{"snapshots/x", good + "0", "snapshots/" + strings.Repeat("0", 32) + "-0000000001", strings.Replace(good, "-0000000001", "-1", 1), strings.Replace(good, "-0000000001", "-0000000000", 1)} {
		c.write(name, c.read(good))
		c.expect([]string{id}, nil, name+": the repository is damaged: no file of a repository has such a name")
		if err := c.st.Remove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChain_StaysWholeThroughForgetUndeleteForgetAndGC(t *testing.T) {
	c := newTestChain(t)
	first := c.snapshot(c.a)
	second := c.snapshot(c.a)
	third := c.snapshot(c.a)
	c.forget(c.b, second)
	got := c.expect([]string{first, third}, []string{second})
	if s := got.forgotten[0]; !s.Forgotten || !s.ForgottenAt.Equal(testNow) {
		t.Errorf("got forgotten %v at %v", s.Forgotten, s.ForgottenAt)
	}
	c.forget(c.a, second) // once is enough
	if got := c.load().ends[c.a].seq; got != 3 {
		t.Errorf("forgetting twice wrote file %d", got)
	}
	c.undelete(c.a, second)
	got = c.expect([]string{first, second, third}, nil)
	if got := got.removable(); len(got) != 0 {
		t.Errorf("gc may remove %v", got)
	}
	c.undelete(c.a, second) // nothing to do
	c.forget(c.a, second)
	c.expect([]string{first, third}, []string{second})
	c.gc()
	c.expect([]string{first, third}, nil)
	if err := c.as(c.a).undelete(t.Context(), second, testNow); !errors.Is(err, ErrNotFound) {
		t.Errorf("undelete after gc: got error %v, want ErrNotFound", err)
	}
	fourth := c.snapshot(c.a)
	c.expect([]string{first, third, fourth}, nil)

	// Everything goes, the chain stays.
	for _, id := range []string{first, third, fourth} {
		c.forget(c.b, id)
	}
	c.gc()
	c.expect(nil, nil)
	fifth := c.snapshot(c.a)
	c.expect([]string{fifth}, nil)
}

// The last files of a writer are gone, and only another writer's record knows
// of them: their numbers must not be used again.
func TestChain_GoesOnBehindAManifestThatGCRemoved(t *testing.T) {
	c := newTestChain(t)
	c.snapshot(c.a)
	last := c.snapshot(c.a)
	seen := (*head)(nil).forward(c.keys.repo, c.load())
	c.forget(c.b, last)
	c.gc()
	got := c.expect([]string{testID(1)}, nil)
	if err := got.compareHead(seen); err != nil {
		t.Errorf("compareHead: %v", err)
	}
	id := c.snapshot(c.a)
	got = c.expect([]string{testID(1), id}, nil)
	if got.find(id).at.seq != 3 {
		t.Errorf("got number %d, want 3", got.find(id).at.seq)
	}
}

func TestChain_FindsThatALiveManifestIsGone(t *testing.T) {
	c := newTestChain(t)
	id := c.snapshot(c.a)
	c.snapshot(c.a)
	c.forget(c.b, id)
	c.undelete(c.b, id)
	c.remove(c.a, 1)
	c.expect([]string{testID(2)}, nil, "-0000000001: the manifest of snapshot "+id+" is gone, though it was undeleted")
	if err := c.as(c.a).forgetLost(t.Context(), place{c.a, 1}, testNow); err != nil {
		t.Fatal(err)
	}
	c.expect([]string{testID(2)}, nil)
}

func TestChain_ALostRecordLeavesTheSnapshotLiveAndStopsGC(t *testing.T) {
	c := newTestChain(t)
	id := c.snapshot(c.a)
	c.forget(c.a, id)
	c.snapshot(c.a)
	c.damage(c.a, 2)
	c.expect([]string{id, testID(2)}, nil, "-0000000002: ")
	c.remove(c.a, 2)
	c.expect([]string{id, testID(2)}, nil, "-0000000002: the file is missing")
}

// A file that is lost for good can be given up, so that gc works again.
func TestForgetLost_MakesTheChainWholeAgain(t *testing.T) {
	lost := func(c *testChain, w writerID, seqs ...uint64) {
		t.Helper()
		for _, seq := range seqs {
			if err := c.as(w).forgetLost(t.Context(), place{c.a, seq}, testNow); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("damaged middle", func(t *testing.T) {
		c := newTestChain(t)
		c.snapshot(c.a)
		c.snapshot(c.a)
		c.snapshot(c.a)
		whole := c.read(place{c.a, 2}.name())
		c.damage(c.a, 2)
		lost(c, c.a, 2)
		got := c.expect([]string{testID(1), testID(3)}, nil)
		if got := got.removable(); !slices.Equal(got, []string{place{c.a, 2}.name()}) {
			t.Errorf("gc may remove %v, want the damaged file", got)
		}
		c.gc()
		c.expect([]string{testID(1), testID(3)}, nil)
		c.write(place{c.a, 2}.name(), whole) // found again
		c.expect([]string{testID(1), testID(2), testID(3)}, nil)
	})
	t.Run("gap of two", func(t *testing.T) {
		c := newTestChain(t)
		for range 4 {
			c.snapshot(c.a)
		}
		c.remove(c.a, 2)
		c.remove(c.a, 3)
		lost(c, c.a, 2)
		c.expect([]string{testID(1), testID(4)}, nil, "-0000000003: the file is missing")
		lost(c, c.a, 3)
		c.expect([]string{testID(1), testID(4)}, nil)
	})
	t.Run("damaged end", func(t *testing.T) {
		c := newTestChain(t)
		c.snapshot(c.a)
		c.snapshot(c.a)
		c.damage(c.a, 2)
		if c.load().canContinue(c.a) {
			t.Error("a writer whose last file is damaged goes on")
		}
		if _, err := c.as(c.a).snapshot(t.Context(), testManifest(testID(9))); !errors.Is(err, ErrDamaged) {
			t.Errorf("publish behind a damaged file: got error %v, want ErrDamaged", err)
		}
		lost(c, c.b, 2)
		c.expect([]string{testID(1)}, nil)
		c.gc()
		c.expect([]string{testID(1)}, nil)
		c.snapshot(c.a)
		c.expect([]string{testID(1), testID(3)}, nil)
	})
	t.Run("a whole file", func(t *testing.T) {
		c := newTestChain(t)
		c.snapshot(c.a)
		if err := c.as(c.a).forgetLost(t.Context(), place{c.a, 1}, testNow); err == nil {
			t.Error("a whole file was given up as lost")
		}
		if err := c.as(c.a).forgetLost(t.Context(), place{c.a, 2}, testNow); !errors.Is(err, ErrNotFound) {
			t.Errorf("a file that never was: got error %v, want ErrNotFound", err)
		}
	})
}

// Whoever can write the store can put a file of any number there.
func TestChain_AFileOfAGreatNumberProvesNoGap(t *testing.T) {
	c := newTestChain(t)
	id := c.snapshot(c.a)
	junk := place{c.a, maxSeq}
	c.write(junk.name(), []byte("junk"))
	c.expect([]string{id}, nil, "-9999999999: the repository is damaged")
	if err := c.as(c.b).forgetLost(t.Context(), junk, testNow); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("got error %v, want to be told to move it away", err)
	}
	if c.load().canContinue(c.a) {
		t.Error("the writer goes on beside the file")
	}
}

type listFault struct {
	store.Store
	err error
}

func (s *listFault) List(ctx context.Context, prefix string) ([]store.Info, error) {
	list, err := s.Store.List(ctx, prefix)
	if s.err != nil {
		return nil, s.err
	}
	return list, err
}

func TestLoadChain_AListingErrorIsAnError(t *testing.T) {
	c := newTestChain(t)
	c.snapshot(c.a)
	if _, err := loadChain(t.Context(), &listFault{c.st, io.ErrUnexpectedEOF}, c.keys); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got error %v, want the listing's", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := loadChain(ctx, c.st, c.keys); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
}

// openFault makes objects whose name has a suffix unreadable.
type openFault struct {
	store.Store
	suffix string
	err    error
	times  int
}

func (s *openFault) Open(ctx context.Context, name string) (store.Object, error) {
	if strings.HasSuffix(name, s.suffix) && s.times != 0 {
		s.times--
		return nil, s.err
	}
	return s.Store.Open(ctx, name)
}

func TestLoadChain_AFileThatCanNotBeReadIsAProblem(t *testing.T) {
	c := newTestChain(t)
	first := c.snapshot(c.a)
	c.snapshot(c.a)
	c.st = &openFault{c.st, "-0000000002", errors.New("input/output error"), -1}
	c.expect([]string{first}, nil, "input/output error")
}

// gc removes files while a reader, which holds no lock, loads.
func TestLoadChain_ListsAgainWhenAFileVanished(t *testing.T) {
	c := newTestChain(t)
	first := c.snapshot(c.a)
	inner := c.st
	c.st = &openFault{inner, "-0000000001", store.ErrNotExist, loadAttempts - 1}
	c.expect([]string{first}, nil)
	if _, err := loadChain(t.Context(), &openFault{inner, "-0000000001", store.ErrNotExist, -1}, c.keys); err == nil {
		t.Error("a file that is listed and never there was passed over")
	}
}

func TestReadSnapshot_BringsTheProblems(t *testing.T) {
	c := newTestChain(t)
	id := c.snapshot(c.a)
	s := c.load().find(id)
	if s.Problems != nil || s.ProblemCount != 1 {
		t.Errorf("got %d problems of %d in the chain, want none of 1", len(s.Problems), s.ProblemCount)
	}
	m, err := readSnapshot(t.Context(), c.st, c.keys, s)
	if err != nil || len(m.Problems) != 1 {
		t.Fatalf("got %+v, %v", m, err)
	}
	c.damage(c.a, 1)
	if _, err := readSnapshot(t.Context(), c.st, c.keys, s); !errors.Is(err, ErrDamaged) {
		t.Errorf("damaged: got error %v", err)
	}
	c.remove(c.a, 1)
	if _, err := readSnapshot(t.Context(), c.st, c.keys, s); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed: got error %v", err)
	}
}

// Random lives of a repository against a plain model.
func TestChain_FollowsAModel(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		c := newTestChain(t)
		live, gone := map[string]bool{}, map[string]bool{}
		pick := func(m map[string]bool) string {
			all := slices.Sorted(maps.Keys(m))
			if len(all) == 0 {
				return ""
			}
			return all[rng.IntN(len(all))]
		}
		writers := []writerID{c.a, c.b, {0xcc}}
		var seen *head
		for range 60 {
			w := writers[rng.IntN(len(writers))]
			switch op := rng.IntN(8); {
			case op < 3:
				live[c.snapshot(w)] = true
			case op < 5:
				if id := pick(live); id != "" {
					c.forget(w, id)
					delete(live, id)
					gone[id] = true
				}
			case op < 7:
				if id := pick(gone); id != "" {
					c.undelete(w, id)
					delete(gone, id)
					live[id] = true
				}
			default:
				c.gc()
				clear(gone)
			}
			got := c.load()
			if err := got.compareHead(seen); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			seen = seen.forward(c.keys.repo, got)
		}
		c.expect(slices.Sorted(maps.Keys(live)), slices.Sorted(maps.Keys(gone)))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func BenchmarkLoadChain1000(b *testing.B) {
	c := newTestChain(b)
	p := c.as(c.a)
	for i := range 1000 {
		m := testManifest(testID(i))
		f, sealed, err := p.next(&chainBody{Snapshot: m.fit()})
		if err != nil {
			b.Fatal(err)
		}
		c.write(f.name, sealed)
		end := chainEnd{f.at.seq, f.at.seq, f.hash}
		p.chain.ends[c.a] = end
	}
	dir, err := store.MakeDir(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer dir.Close()
	list, _ := c.st.List(b.Context(), snapshotDir)
	for _, o := range list {
		if err := writeObject(b.Context(), dir, o.Name, c.read(o.Name)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		got, err := loadChain(b.Context(), dir, c.keys)
		if err != nil || len(got.snapshots) != 1000 || got.err() != nil {
			b.Fatal(fmt.Sprint(len(got.snapshots), err, got.err()))
		}
	}
}
