package repo

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/durable/crashfs"
	"github.com/generalbots/backupd/internal/store"
)

// stateDir returns an empty state directory and its path.
func stateDir(t *testing.T) (durable.FS, string) {
	t.Helper()
	path := t.TempDir()
	state, err := durable.OS(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { state.Close() })
	return state, path
}

// clone returns a copy of the repository as it is now.
func (t *testChain) clone() *testChain {
	t.Helper()
	other := &testChain{TB: t.TB, st: store.NewMem(), keys: t.keys, a: t.a, b: t.b, ids: t.ids}
	list, err := t.st.List(t.Context(), snapshotDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range list {
		other.write(o.Name, t.read(o.Name))
	}
	return other
}

func (t *testChain) head() *head {
	t.Helper()
	return (*head)(nil).forward(t.keys.repo, t.load())
}

func TestHead_ReadsWhatWasWritten(t *testing.T) {
	c := newTestChain(t)
	c.snapshot(c.b)
	c.snapshot(c.a)
	c.snapshot(c.b)
	state, _ := stateDir(t)
	if h, err := readHead(state, c.keys.repo); h != nil || err != nil {
		t.Fatalf("no head yet: got %+v, %v", h, err)
	}
	want := c.head()
	if len(want.Writers) != 2 || want.Writers[0].Seq != 1 || want.Writers[1].Seq != 2 {
		t.Errorf("got head %+v", want)
	}
	for range 2 {
		if err := writeHead(state, want); err != nil {
			t.Fatal(err)
		}
		if got, err := readHead(state, c.keys.repo); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	if _, err := readHead(state, crypto.RepoID{1}); err == nil || !strings.Contains(err.Error(), "give another --state-dir") {
		t.Errorf("of another repository: got error %v", err)
	}
}

func TestHead_RefusesEveryFlippedByteAndEveryLength(t *testing.T) {
	c := newTestChain(t)
	c.snapshot(c.a)
	state, path := stateDir(t)
	if err := writeHead(state, c.head()); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(path, headName)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readHead(state, c.keys.repo); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "--accept-head") {
			t.Fatalf("%s: got error %v, want ErrDamaged and what to do", what, err)
		}
	}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 4
		check(fmt.Sprintf("byte %d", i), b)
	}
	for n := range whole {
		check(fmt.Sprintf("cut to %d", n), whole[:n])
	}
	check("longer", append(bytes.Clone(whole), '\n'))
}

func TestHead_NoneYetTrustsTheRepository(t *testing.T) {
	c := newTestChain(t)
	c.snapshot(c.a)
	if err := c.load().compareHead(nil); err != nil {
		t.Errorf("got error %v", err)
	}
}

func TestHead_FindsARepositoryThatWentBack(t *testing.T) {
	c := newTestChain(t)
	c.snapshot(c.a)
	old := c.clone()
	c.snapshot(c.a)
	c.snapshot(c.b)
	seen := c.head()
	if err := c.load().compareHead(seen); err != nil {
		t.Errorf("the repository itself: %v", err)
	}
	err := old.load().compareHead(seen)
	if !errors.Is(err, ErrRollback) {
		t.Fatalf("an older copy: got error %v, want ErrRollback", err)
	}
	for _, want := range []string{"ends with number 1, this host has seen 2", "all 1 files of writer bb", "--accept-head"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	// Writing on in the older copy does not hide it.
	old.snapshot(c.a)
	old.snapshot(c.a)
	if err := old.load().compareHead(seen); !errors.Is(err, ErrRollback) || !strings.Contains(err.Error(), "is another file than it was") {
		t.Errorf("an older copy with other files on top: got error %v, want ErrRollback", err)
	}
}

func TestHead_FindsThatTheEndWasRemoved(t *testing.T) {
	c := newTestChain(t)
	id := c.snapshot(c.a)
	c.forget(c.a, id) // whoever removes this brings the snapshot back
	seen := c.head()
	c.remove(c.a, 2)
	c.expect([]string{id}, nil)
	if err := c.load().compareHead(seen); !errors.Is(err, ErrRollback) {
		t.Errorf("got error %v, want ErrRollback", err)
	}
	// Neither does a file of a higher number, which anybody can put there.
	c.write(place{c.a, 3}.name(), []byte("junk"))
	if err := c.load().compareHead(seen); !errors.Is(err, ErrRollback) || !strings.Contains(err.Error(), "-0000000002 is missing") {
		t.Errorf("with junk behind it: got error %v, want ErrRollback", err)
	}
}

func TestHead_DamageIsNoRollback(t *testing.T) {
	c := newTestChain(t)
	c.snapshot(c.a)
	c.snapshot(c.a)
	seen := c.head()
	c.damage(c.a, 2)
	if err := c.load().compareHead(seen); err != nil {
		t.Errorf("a damaged last file: got error %v; the chain's problems tell of it", err)
	}
	next := seen.forward(c.keys.repo, c.load())
	if !reflect.DeepEqual(next, seen) {
		t.Errorf("the head went from %+v to %+v", seen, next)
	}
}

func TestHead_FollowsAManifestThatGCRemovedInTheMiddle(t *testing.T) {
	c := newTestChain(t)
	c.snapshot(c.a)
	id := c.snapshot(c.a)
	seen := c.head()
	c.forget(c.a, id)
	c.gc()
	if err := c.load().compareHead(seen); err != nil {
		t.Errorf("got error %v", err)
	}
}

func TestHead_NeverGoesBack(t *testing.T) {
	c := newTestChain(t)
	c.snapshot(c.a)
	old := c.clone()
	c.snapshot(c.a)
	c.snapshot(c.b)
	seen := c.head()
	if got := seen.forward(c.keys.repo, old.load()); !reflect.DeepEqual(got, seen) {
		t.Errorf("got %+v, want %+v", got, seen)
	}
}

func TestAcceptHead_TakesTheOlderCopyUnderANewWriter(t *testing.T) {
	c := newTestChain(t)
	state, _ := stateDir(t)
	c.snapshot(c.a)
	old := c.clone()
	w, err := writerFor(state, c.load())
	if err != nil {
		t.Fatal(err)
	}
	c.a = w
	c.snapshot(w)
	if again, err := writerFor(state, c.load()); err != nil || again != w {
		t.Fatalf("got writer %x, %v, want %x", again, err, w)
	}
	if err := writeHead(state, c.head()); err != nil {
		t.Fatal(err)
	}

	if err := acceptHead(state, c.keys.repo, old.load()); err != nil {
		t.Fatal(err)
	}
	h, err := readHead(state, c.keys.repo)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.load().compareHead(h); err != nil {
		t.Errorf("the accepted copy: %v", err)
	}
	next, err := writerFor(state, old.load())
	if err != nil || next == w {
		t.Errorf("got writer %x, %v, want another than %x", next, err, w)
	}
	// What was lost can come back without a conflict.
	old.ids = 10
	old.snapshot(next)
	name := place{w, 1}.name()
	old.write(name, c.read(name))
	old.expect([]string{testID(1), testID(2), testID(11)}, nil)
}

func TestAcceptHead_ReplacesADamagedHead(t *testing.T) {
	c := newTestChain(t)
	c.snapshot(c.a)
	state, path := stateDir(t)
	if err := os.WriteFile(filepath.Join(path, headName), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := acceptHead(state, c.keys.repo, c.load()); err != nil {
		t.Fatal(err)
	}
	if h, err := readHead(state, c.keys.repo); err != nil || len(h.Writers) != 1 {
		t.Errorf("got %+v, %v", h, err)
	}
}

func TestWriterFor_BeginsANewWriterWhereTheOldCanNotGoOn(t *testing.T) {
	c := newTestChain(t)
	state, path := stateDir(t)
	w, err := writerFor(state, c.load())
	if err != nil {
		t.Fatal(err)
	}
	c.a = w
	c.snapshot(w)
	c.damage(w, 1)
	next, err := writerFor(state, c.load())
	if err != nil || next == w {
		t.Errorf("behind a damaged file: got writer %x, %v, want a new one", next, err)
	}
	for _, text := range []string{"", "x\n", strings.Repeat("0", 32) + "\n", strings.Repeat("A", 32) + "\n"} {
		if err := os.WriteFile(filepath.Join(path, writerName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := writerFor(state, c.load())
		if err != nil || got == next || got == (writerID{}) {
			t.Errorf("file %q: got writer %x, %v, want a new one", text, got, err)
		}
		if kept, ok, err := readWriter(state); kept != got || !ok || err != nil {
			t.Errorf("file %q: the new writer was not kept: %x, %v, %v", text, kept, ok, err)
		}
	}
}

// At every operation of writing a head, a crash leaves the old or the new one.
func TestWriteHead_IsOldOrNewAfterACrash(t *testing.T) {
	c := newTestChain(t)
	c.snapshot(c.a)
	first := c.head()
	c.snapshot(c.a)
	second := c.head()
	state := crashfs.New()
	state.Before(func(crashfs.Op) {
		for seed := range uint64(20) {
			after := state.Crash(rand.New(rand.NewPCG(seed, 1)), int(seed%5)*25)
			h, err := readHead(after, c.keys.repo)
			if err != nil {
				t.Fatalf("after a crash: %v", err)
			}
			if h != nil && !reflect.DeepEqual(h, first) && !reflect.DeepEqual(h, second) {
				t.Fatalf("after a crash: got %+v", h)
			}
		}
	})
	for _, h := range []*head{first, second} {
		if err := writeHead(state, h); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzHead(f *testing.F) {
	c := newTestChain(f)
	c.snapshot(c.a)
	c.snapshot(c.b)
	b, err := c.head().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-checksumLine])
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, appendChecksum(b[:len(b):len(b)])} {
			h, err := decodeHead(b)
			if err != nil {
				continue
			}
			asEncodingJSON(t, b[:len(b)-checksumLine], h, new(head))
			again, err := h.encode()
			if err != nil {
				t.Fatalf("what was read can not be written: %v", err)
			}
			if h2, err := decodeHead(again); err != nil || !reflect.DeepEqual(h2, h) {
				t.Fatalf("got %+v, %v, want %+v", h2, err, h)
			}
		}
	})
}
