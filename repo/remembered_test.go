package repo

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/store"
)

func TestDistrusts_AfterAPackWasCutShort(t *testing.T) {
	st, state := store.NewMem(), t.TempDir()
	initTestRepo(t, st, MinPackSize)
	rng := rand.New(rand.NewPCG(1, 4))
	files := version{"a": textRows(rng, 4000)}
	r := openTestRepo(t, st, Options{StateDir: state})
	if _, err := commitFiles(t.Context(), r, files, nil); err != nil {
		t.Fatal(err)
	}
	w, err := r.NewWriter(t.Context(), WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if w.Distrusts() {
		t.Error("a sound repository is distrusted")
	}
	w.Close()
	name := packName(r.catalog.info(r.catalog.all(kindData)[0]).id, kindData)
	r.Close()
	overwrite(t, st, name, func(b []byte) []byte { return b[:len(b)/2] })

	r = openTestRepo(t, st, Options{StateDir: state})
	defer r.Close()
	for range 2 { // what was noticed once is not forgotten by the next run
		w, err := r.NewWriter(t.Context(), WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !w.Distrusts() {
			t.Fatal("a pack was cut to half its size, and the run trusts its base")
		}
		if err := w.Commit(t.Context(), bareManifest(t, r)); err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
}

// A state directory that could not be made, as its disk is full, tells no more than one that was lost.
func TestDistrusts_WhereNothingCouldBeRemembered(t *testing.T) {
	st := store.NewMem()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	for _, want := range []bool{false, true} {
		r.options.StateDir = "full" // what is left of it when makeState found no space
		r.findGone()
		if r.distrust != want {
			t.Errorf("with %d snapshots: distrusted is %v, want %v", len(r.chain.snapshots), r.distrust, want)
		}
		r.options.StateDir = ""
		put(t, r, randomChunks(rand.New(rand.NewPCG(1, 5)), 2, 1000, 2000), nil)
	}
}

// A crash right after a snapshot was published, or a state directory without space, leaves the list of packs and the head
// of the run before: what the snapshot's packs were is not known.
func TestDistrusts_WhereTheLastRunWasNotRemembered(t *testing.T) {
	for _, old := range [][]string{{headName, packListName}, {headName}, nil} {
		st, state := store.NewMem(), t.TempDir()
		initTestRepo(t, st, MinPackSize)
		r := openTestRepo(t, st, Options{StateDir: state})
		rng := rand.New(rand.NewPCG(1, 8))
		put(t, r, randomChunks(rng, 2, 1000, 2000), nil)
		r.Close()
		before := make(map[string][]byte)
		for _, name := range old {
			b, err := os.ReadFile(filepath.Join(state, name))
			if err != nil {
				t.Fatal(err)
			}
			before[name] = b
		}
		r = openTestRepo(t, st, Options{StateDir: state})
		put(t, r, randomChunks(rng, 2, 1000, 2000), nil)
		r.Close()
		for name, b := range before {
			if err := os.WriteFile(filepath.Join(state, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r = openTestRepo(t, st, Options{StateDir: state})
		for i, want := range []bool{len(old) > 0, false} {
			w, err := r.NewWriter(t.Context(), WriterOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if w.Distrusts() != want {
				t.Errorf("run %d with an old %v: distrusted is %v, want %v", i, old, w.Distrusts(), want)
			}
			if err := w.Commit(t.Context(), bareManifest(t, r)); err != nil {
				t.Fatal(err)
			}
			w.Close()
		}
		r.Close()
	}
}

// What can not be noted for want of space leaves the head where it was, which says so to the next run.
func TestRemember_MovesNoHeadWithoutTheListOfPacks(t *testing.T) {
	st, state := store.NewMem(), t.TempDir()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{StateDir: state})
	defer r.Close()
	rng := rand.New(rand.NewPCG(1, 9))
	put(t, r, randomChunks(rng, 2, 1000, 2000), nil)
	w, err := r.NewWriter(t.Context(), WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	whole := r.state
	r.state = noRoomFor{whole, packListName}
	if err := w.Commit(t.Context(), bareManifest(t, r)); err != nil {
		t.Fatalf("a state directory without space fails a run: %v", err)
	}
	w.Close()
	r.state = whole
	if !r.head.behind(r.chain, r.writer) {
		t.Error("the head says that the packs of the last run were noted")
	}
}

// noRoomFor is a directory where one file finds no space.
type noRoomFor struct {
	durable.FS
	name string
}

func (d noRoomFor) Rename(from, to string) error {
	if to == d.name {
		return syscall.ENOSPC
	}
	return d.FS.Rename(from, to)
}

// A process may keep a repository open while another one writes with the same
// state directory.
func TestWriter_ReadsTheHeadAgainBeforeItWrites(t *testing.T) {
	st, state := store.NewMem(), t.TempDir()
	initTestRepo(t, st, MinPackSize)
	first := openTestRepo(t, st, Options{StateDir: state})
	defer first.Close()
	put(t, first, randomChunks(rand.New(rand.NewPCG(1, 6)), 2, 1000, 2000), nil)
	second := openTestRepo(t, st, Options{StateDir: state})
	old := copyMem(t, st)
	put(t, second, randomChunks(rand.New(rand.NewPCG(1, 7)), 2, 1000, 2000), nil)
	second.Close()

	// The repository goes back to what first knows.
	list, err := st.List(t.Context(), snapshotDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range list {
		if o, err := old.Open(t.Context(), in.Name); err != nil {
			if err := st.Remove(t.Context(), in.Name); err != nil {
				t.Fatal(err)
			}
		} else {
			o.Close()
		}
	}
	if w, err := first.NewWriter(t.Context(), WriterOptions{}); !errors.Is(err, ErrRollback) {
		if err == nil {
			w.Close()
		}
		t.Errorf("a repository older than the head on disk: got error %v, want ErrRollback", err)
	}
}

func TestHead_JunkAtItsPlaceHidesNoRollback(t *testing.T) {
	c := newTestChain(t)
	c.snapshot(c.a)
	old := c.clone()
	for range 4 {
		c.snapshot(c.a)
	}
	seen := c.head()
	old.write(place{c.a, 5}.name(), []byte("junk"))
	if err := old.load().compareHead(seen); !errors.Is(err, ErrRollback) || !strings.Contains(err.Error(), "-0000000002 up to number 4 are missing") {
		t.Errorf("got error %v, want ErrRollback and what is missing", err)
	}
}

func TestAcceptHead_ThatFailsLeavesTheRepositoryReadOnly(t *testing.T) {
	st, state := store.NewMem(), t.TempDir()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{StateDir: state})
	put(t, r, randomChunks(rand.New(rand.NewPCG(1, 8)), 2, 1000, 2000), nil)
	r.Close()
	list, err := st.List(t.Context(), snapshotDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range list {
		if err := st.Remove(t.Context(), in.Name); err != nil {
			t.Fatal(err)
		}
	}
	r = openTestRepo(t, st, Options{StateDir: state})
	defer r.Close()
	lock, err := st.Lock(t.Context(), writerLock, store.LockExclusive)
	if err != nil {
		t.Fatal(err)
	}
	var held *store.LockedError
	if err := r.AcceptHead(t.Context()); !errors.As(err, &held) {
		t.Fatalf("got error %v, want that the lock is held", err)
	}
	lock.Close()
	if w, err := r.NewWriter(t.Context(), WriterOptions{}); !errors.Is(err, ErrReadOnly) {
		if err == nil {
			w.Close()
		}
		t.Errorf("after an acceptance that failed: got error %v, want ErrReadOnly", err)
	}
	if err := r.AcceptHead(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, r, randomChunks(rand.New(rand.NewPCG(1, 9)), 2, 1000, 2000), nil)
}

func TestAcceptHead_RefusesTheStateDirectoryOfAnotherRepository(t *testing.T) {
	state := t.TempDir()
	one, two := store.NewMem(), store.NewMem()
	for _, st := range []store.Store{one, two} {
		initTestRepo(t, st, MinPackSize)
	}
	r := openTestRepo(t, one, Options{StateDir: state})
	put(t, r, randomChunks(rand.New(rand.NewPCG(2, 1)), 2, 1000, 2000), nil)
	r.Close()
	r = openTestRepo(t, two, Options{StateDir: state})
	if err := r.AcceptHead(t.Context()); err == nil || !strings.Contains(err.Error(), "--state-dir") {
		t.Errorf("got error %v, want that the state directory is another repository's", err)
	}
	r.Close()
	r = openTestRepo(t, one, Options{StateDir: state})
	defer r.Close()
	if r.rollback != nil || r.head == nil {
		t.Errorf("the head of the other repository is lost: %v", r.rollback)
	}
}

func TestCheck_RemembersDamageAlsoWhereNothingWasRemembered(t *testing.T) {
	st := store.NewMem()
	initTestRepo(t, st, MinPackSize)
	rng := rand.New(rand.NewPCG(2, 2))
	files := version{"a": textRows(rng, 4000), "b": textRows(rng, 3000)}
	r := openTestRepo(t, st, Options{StateDir: t.TempDir()})
	if _, err := commitFiles(t.Context(), r, files, nil); err != nil {
		t.Fatal(err)
	}
	if damageBlocks(t, r, st, func(n int) bool { return n == 1 }) != 1 {
		t.Fatal("nothing was damaged")
	}
	r.Close()
	state := t.TempDir() + "/lost"
	r = openTestRepo(t, st, Options{StateDir: state})
	rep, err := r.Check(t.Context(), CheckOptions{ReadData: true}, new(CheckProgress))
	if err != nil || rep.Sound() {
		t.Fatalf("the damage was not found: %v, %+v", err, rep)
	}
	r.Close()
	if stored := healed(t, st, state, []version{files}); stored == 0 {
		t.Error("the next backup did not store what the check found damaged")
	}
}

func TestCheck_OfAnotherProcessIsHeardByTheNextRun(t *testing.T) {
	st, state := store.NewMem(), t.TempDir()
	initTestRepo(t, st, MinPackSize)
	files := version{"a": textRows(rand.New(rand.NewPCG(2, 3)), 4000)}
	r := openTestRepo(t, st, Options{StateDir: state})
	defer r.Close()
	if _, err := commitFiles(t.Context(), r, files, nil); err != nil {
		t.Fatal(err)
	}
	damageBlocks(t, r, st, func(n int) bool { return n == 1 })
	other := openTestRepo(t, st, Options{StateDir: state})
	if _, err := other.Check(t.Context(), CheckOptions{ReadData: true}, new(CheckProgress)); err != nil {
		t.Fatal(err)
	}
	other.Close()
	w, err := r.NewWriter(t.Context(), WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if !w.Distrusts() {
		t.Error("another process found damage, and the run trusts its base")
	}
}

func TestHead_RemembersMoreWritersThanAYearOfHoursHas(t *testing.T) {
	state, _ := stateDir(t)
	h := &head{Repository: crypto.RepoID{1}}
	for i := range 9000 {
		h.Writers = append(h.Writers, headWriter{Writer: writerID{1, byte(i >> 8), byte(i)}, Seq: 1, Hash: hash{1}})
	}
	if err := writeHead(state, h); err != nil {
		t.Fatal(err)
	}
	if got, err := readHead(state, h.Repository); err != nil || len(got.Writers) != len(h.Writers) {
		t.Errorf("got %v", err)
	}
}

// committing is a store in which somebody commits when the snapshots have been
// listed.
type committing struct {
	store.Store
	commit func()
}

func (c *committing) List(ctx context.Context, prefix string) ([]store.Info, error) {
	list, err := c.Store.List(ctx, prefix)
	if do := c.commit; prefix == snapshotDir && do != nil {
		c.commit = nil
		do()
	}
	return list, err
}

func TestOpen_TakesNoCommitMeanwhileForARollback(t *testing.T) {
	st, state := store.NewMem(), t.TempDir()
	initTestRepo(t, st, MinPackSize)
	rng := rand.New(rand.NewPCG(2, 9))
	r := openTestRepo(t, st, Options{StateDir: state})
	put(t, r, randomChunks(rng, 2, 1000, 2000), nil)
	r.Close()
	beside := &committing{Store: st, commit: func() {
		other := openTestRepo(t, st, Options{StateDir: state})
		defer other.Close()
		put(t, other, randomChunks(rng, 2, 1000, 2000), nil)
	}}
	r = openTestRepo(t, beside, Options{StateDir: state})
	defer r.Close()
	if r.rollback != nil {
		t.Errorf("opened read only: %v", r.rollback)
	}
	put(t, r, randomChunks(rng, 2, 1000, 2000), nil)
}
