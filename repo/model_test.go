package repo

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// modelRun drives one repository and a map through the same random life.
type modelRun struct {
	t     *testing.T
	rng   *rand.Rand
	st    *store.Mem
	dirs  []string // state directories of the hosts; "" is one without
	open  []*Repo
	stale []bool   // a gc elsewhere, or an older index: a chunk may be stored once more
	saved []string // copies of index directories, older ones and of another repository

	log   [][2]int
	files map[string]version
	live  []string
	gone  []string // forgotten, may be undeleted
	last  version
}

func (m *modelRun) fatal(format string, args ...any) {
	m.t.Helper()
	m.t.Logf("the last steps (host, draw): %v", m.log[max(0, len(m.log)-40):])
	m.t.Fatalf(format, args...)
}

func (m *modelRun) repo(host int) *Repo {
	if m.open[host] == nil {
		m.open[host] = openTestRepo(m.t, m.st, Options{StateDir: m.dirs[host]})
	}
	return m.open[host]
}

func (m *modelRun) close(host int) {
	if r := m.open[host]; r != nil {
		if err := r.Close(); err != nil {
			m.fatal("close: %v", err)
		}
		m.open[host] = nil
	}
}

func (m *modelRun) step() {
	t, rng := m.t, m.rng
	ctx := t.Context()
	host := rng.IntN(len(m.dirs))
	r := m.repo(host)
	op := rng.IntN(20)
	m.log = append(m.log, [2]int{host, op})
	switch {
	case op < 7: // a backup, of changed files or of the same again
		if rng.IntN(4) > 0 {
			m.last = mutate(rng, m.last)
		}
		var base *Snapshot
		if list := r.Snapshots(); len(list) > 0 && rng.IntN(4) > 0 {
			// The handle may be older than what another host has done since.
			if s := list[rng.IntN(len(list))]; slices.Contains(m.live, s.ID) {
				base = s
			}
		}
		var stored int64
		s, err := commitFilesAs(ctx, r, mustID(t, r), m.last, base, func(w *Writer, ctx context.Context, man *Manifest) error {
			err := w.Commit(ctx, man)
			stored = w.NewBytes()
			return err
		})
		if err != nil {
			m.fatal("backup: %v", err)
		}
		known := slices.ContainsFunc(m.live, func(id string) bool { return sameFiles(m.files[id], m.last) })
		if known && stored > 0 && !m.stale[host] {
			m.fatal("files that a live snapshot has were stored again: %d bytes", stored)
		}
		m.files[s.ID], m.live = m.last, append(m.live, s.ID)
	case op < 9: // a run that fails or is given up
		ctx, cancel := context.WithCancel(ctx)
		_, err := commitFilesAs(ctx, r, mustID(t, r), mutate(rng, m.last), nil, func(w *Writer, ctx context.Context, man *Manifest) error {
			if rng.IntN(2) == 0 {
				return errors.New("given up")
			}
			cancel()
			return w.Commit(ctx, man)
		})
		cancel()
		if err == nil {
			m.fatal("a cancelled run was committed")
		}
	case op < 12: // forget
		if len(m.live) > 1 {
			i := rng.IntN(len(m.live))
			id := m.live[i]
			if err := r.Forget(ctx, id); err != nil {
				m.fatal("forget: %v", err)
			}
			m.live, m.gone = slices.Delete(m.live, i, i+1), append(m.gone, id)
		}
	case op < 13: // undelete
		if len(m.gone) > 0 {
			i := rng.IntN(len(m.gone))
			id := m.gone[i]
			if err := r.Undelete(ctx, id); err != nil {
				m.fatal("undelete: %v", err)
			}
			m.gone, m.live = slices.Delete(m.gone, i, i+1), append(m.live, id)
		}
	case op < 16: // gc
		for other := range m.open {
			if other != host && m.open[other] != nil {
				var locked *store.LockedError
				if _, err := r.GC(ctx, GCOptions{}, &GCProgress{}); !errors.As(err, &locked) {
					m.fatal("gc beside a reader: got %v, want a LockedError", err)
				}
				m.close(other)
			}
		}
		if _, err := r.GC(ctx, GCOptions{}, &GCProgress{}); err != nil {
			m.fatal("gc: %v", err)
		}
		for _, id := range m.gone {
			if err := r.Undelete(ctx, id); !errors.Is(err, ErrNotFound) {
				m.fatal("undelete after gc: got %v, want ErrNotFound", err)
			}
		}
		m.gone = nil
		for other := range m.stale {
			m.stale[other] = m.stale[other] || other != host && m.dirs[other] != ""
		}
	case op < 18: // the index is lost, or another one is found in its place
		m.close(host)
		if m.dirs[host] == "" {
			return
		}
		index := filepath.Join(m.dirs[host], "index")
		if rng.IntN(2) == 0 {
			keep := filepath.Join(m.t.TempDir(), "index")
			if os.CopyFS(keep, os.DirFS(index)) == nil {
				m.saved = append(m.saved, keep)
			}
		}
		if err := os.RemoveAll(index); err != nil {
			m.fatal("%v", err)
		}
		m.stale[host] = false
		if len(m.saved) > 0 && rng.IntN(3) > 0 {
			m.stale[host] = true
			if err := os.CopyFS(index, os.DirFS(m.saved[rng.IntN(len(m.saved))])); err != nil {
				m.fatal("%v", err)
			}
		}
	case op < 19: // the whole state directory is lost
		m.close(host)
		if m.dirs[host] != "" {
			if err := os.RemoveAll(m.dirs[host]); err != nil {
				m.fatal("%v", err)
			}
		}
	default:
		m.close(host)
	}
	if rng.IntN(3) == 0 {
		m.compare(rng.IntN(len(m.dirs)))
	}
}

// compare opens the repository anew and holds it against the model.
func (m *modelRun) compare(host int) {
	m.t.Helper()
	m.close(host)
	r := m.repo(host)
	for name, want := range map[string][]string{"live": m.live, "forgotten": m.gone} {
		got := ids(r.Snapshots())
		if name == "forgotten" {
			got = ids(r.Forgotten())
		}
		want = slices.Sorted(slices.Values(want))
		slices.Sort(got)
		if !slices.Equal(got, want) {
			m.fatal("%s: got %v, want %v", name, got, want)
		}
	}
	if r.rollback != nil {
		m.fatal("opened read only: %v", r.rollback)
	}
	mustBeSound(m.t, r)
	wantAll(m.t, r, m.files)
}

func TestRepoModel_FollowsAMapThroughARandomLife(t *testing.T) {
	steps, budget := 120, 6*time.Second
	if scale := crashScale(); scale > 1 {
		steps, budget = 400, time.Duration(scale)*30*time.Second
	}
	began, total := time.Now(), 0
	for seed := uint64(0); seed < 3 || time.Since(began) < budget; seed++ {
		m := &modelRun{t: t, rng: rand.New(rand.NewPCG(seed, 55)), st: store.NewMem(), files: map[string]version{}}
		initTestRepo(t, m.st, MinPackSize)
		m.dirs = []string{filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b"), ""}
		m.open, m.stale = make([]*Repo, len(m.dirs)), make([]bool, len(m.dirs))
		m.last = version{"dump": textRows(m.rng, 1500), "small": []byte("x"), "noise": randomChunks(m.rng, 1, 50_000, 50_000)[0]}
		m.saved = append(m.saved, foreignIndex(t))
		for range steps {
			m.step()
		}
		for host := range m.dirs {
			m.compare(host)
		}
		for host := range m.dirs {
			m.close(host)
		}
		total += steps
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d operations", total)
}

// foreignIndex is the index of another repository.
func foreignIndex(t *testing.T) string {
	st, state := store.NewMem(), t.TempDir()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{StateDir: state})
	defer r.Close()
	if _, err := commitFiles(t.Context(), r, version{"foreign": []byte("foreign")}, nil); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(state, "index")
}

// hurtStore lists and opens what it is told to.
type hurtStore struct {
	store.Store
	list    func(prefix string, infos []store.Info) ([]store.Info, error)
	removed []string
}

func (s *hurtStore) List(ctx context.Context, prefix string) ([]store.Info, error) {
	infos, err := s.Store.List(ctx, prefix)
	if err == nil && s.list != nil {
		return s.list(prefix, infos)
	}
	return infos, err
}

func (s *hurtStore) Remove(ctx context.Context, names ...string) error {
	s.removed = append(s.removed, names...)
	return s.Store.Remove(ctx, names...)
}

// Whatever gc can not read or list may be needed: it deletes nothing then.
func TestRepoGuards_GCDeletesNothingWhenItDoesNotSeeAll(t *testing.T) {
	ctx := t.Context()
	build := func() (*store.Mem, string, []string) {
		rng := rand.New(rand.NewPCG(3, 3))
		st, state := store.NewMem(), t.TempDir()
		initTestRepo(t, st, MinPackSize)
		r := openTestRepo(t, st, Options{StateDir: state})
		defer r.Close()
		v := version{"dump": textRows(rng, 1500)}
		var names []string
		var last *Snapshot
		for range 4 {
			s, err := commitFiles(ctx, r, v, last)
			if err != nil {
				t.Fatal(err)
			}
			last, names = s, append(names, s.ID)
			v = mutate(rng, v)
		}
		if err := r.Forget(ctx, names[0], names[1]); err != nil {
			t.Fatal(err)
		}
		return st, state, names
	}
	manifest := func(st store.Store, id string) string {
		r := openTestRepo(t, st, Options{})
		defer r.Close()
		s, err := r.Resolve(id)
		if err != nil {
			t.Fatal(err)
		}
		return s.at.name()
	}
	pack := func(st store.Store, kind packKind, nth int) string {
		r := openTestRepo(t, st, Options{})
		defer r.Close()
		all := r.catalog.all(kind)
		info := r.catalog.info(all[nth%len(all)])
		return packName(info.id, info.kind)
	}
	rootPack := func(st store.Store, id string) string {
		r := openTestRepo(t, st, Options{})
		defer r.Close()
		s, err := r.Resolve(id)
		if err != nil {
			t.Fatal(err)
		}
		root, err := r.Root(&s.Parts[0])
		if err != nil {
			t.Fatal(err)
		}
		spots, err := r.reader.candidates(ctx, kindTree, &root.Dir.Root, anyDepth, nil)
		if err != nil || len(spots) == 0 {
			t.Fatalf("the root page of %s is nowhere: %v", id, err)
		}
		info := r.catalog.info(spots[0].pack)
		return packName(info.id, info.kind)
	}
	flip := func(at int) func(b []byte) []byte {
		return func(b []byte) []byte { b[(len(b)+at)%len(b)] ^= 1; return b }
	}
	gone := func([]byte) []byte { return nil }
	cases := map[string]func(h *hurtStore, state string, ids []string){
		"listing of packs fails":     func(h *hurtStore, _ string, _ []string) { h.list = failList("packs") },
		"listing of snapshots fails": func(h *hurtStore, _ string, _ []string) { h.list = failList("snapshots") },
		"listing of snapshots is empty": func(h *hurtStore, _ string, _ []string) {
			h.list = shortList("snapshots", func(n int) int { return 0 })
		},
		"listing of snapshots is short": func(h *hurtStore, _ string, _ []string) {
			h.list = shortList("snapshots", func(n int) int { return n - 1 })
		},
		"listing of packs is empty": func(h *hurtStore, _ string, _ []string) {
			h.list = shortList("packs", func(n int) int { return 0 })
		},
		"listing of packs is short": func(h *hurtStore, _ string, ids []string) {
			needed := rootPack(h, ids[3])
			h.list = func(prefix string, infos []store.Info) ([]store.Info, error) {
				return slices.DeleteFunc(infos, func(i store.Info) bool { return i.Name == needed }), nil
			}
		},
		"a manifest is damaged": func(h *hurtStore, _ string, ids []string) { overwrite(t, h.Store, manifest(h, ids[2]), flip(-1)) },
		"a manifest is missing": func(h *hurtStore, _ string, ids []string) { overwrite(t, h.Store, manifest(h, ids[2]), gone) },
		"the head is damaged": func(_ *hurtStore, state string, _ []string) {
			b, err := os.ReadFile(filepath.Join(state, "head"))
			if err != nil {
				t.Fatal(err)
			}
			b[20] ^= 1
			if err := os.WriteFile(filepath.Join(state, "head"), b, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a tree pack's trailer is damaged": func(h *hurtStore, _ string, _ []string) {
			overwrite(t, h.Store, pack(h, kindTree, 1), flip(-100))
		},
		"a data pack's trailer is damaged": func(h *hurtStore, _ string, _ []string) {
			overwrite(t, h.Store, pack(h, kindData, 2), flip(-100))
		},
		"every tree pack's blocks are damaged": func(h *hurtStore, _ string, _ []string) {
			for i := range 4 {
				overwrite(t, h.Store, pack(h, kindTree, i), flip(headerSize+3))
			}
		},
		// Not any: one that only forgotten snapshots need is none to wait for.
		"a tree pack is missing": func(h *hurtStore, _ string, ids []string) { overwrite(t, h.Store, rootPack(h, ids[3]), gone) },
		"a pack has a foreign copy": func(h *hurtStore, _ string, _ []string) {
			name := pack(h, kindData, 0)
			b, err := readObject(ctx, h, name, 1<<30, nil)
			if err != nil {
				t.Fatal(err)
			}
			id, kind, _ := parsePackName(name)
			id[3] ^= 1
			if err := writeObject(ctx, h.Store, packName(id, kind), b); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, hurt := range cases {
		st, state, ids := build()
		h := &hurtStore{Store: st}
		hurt(h, state, ids)
		h.removed = nil
		r, err := Open(ctx, h, []crypto.Credential{testKey}, Options{StateDir: state})
		if err == nil {
			_, err = r.GC(ctx, GCOptions{}, &GCProgress{})
			r.Close()
		}
		if err == nil {
			t.Errorf("%s: gc went on", name)
		}
		if len(h.removed) > 0 {
			t.Errorf("%s: gc removed %v (%v)", name, h.removed, err)
		}
	}
	// The control: with nothing wrong it does delete.
	st, state, _ := build()
	h := &hurtStore{Store: st}
	r := openTestRepo(t, h, Options{StateDir: state})
	defer r.Close()
	gc(t, r)
	mustBeSound(t, r)
	if len(h.removed) == 0 {
		t.Error("a sound repository: nothing was removed, so the cases above show nothing")
	}
}

func failList(dir string) func(string, []store.Info) ([]store.Info, error) {
	return func(prefix string, infos []store.Info) ([]store.Info, error) {
		if prefix == dir {
			return nil, fmt.Errorf("list %s: input/output error", dir)
		}
		return infos, nil
	}
}

func shortList(dir string, keep func(n int) int) func(string, []store.Info) ([]store.Info, error) {
	return func(prefix string, infos []store.Info) ([]store.Info, error) {
		if prefix == dir {
			return infos[:keep(len(infos))], nil
		}
		return infos, nil
	}
}

// gc opens the index only when it comes to deleting, when old and new copies
// of what it has moved are there.
func TestGC_LeavesAnIndexThatKnowsWhatWasMoved(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	st, state := store.NewMem(), t.TempDir()
	initTestRepo(t, st, MinPackSize)
	v := version{}
	var last *Snapshot
	for i := range 4 {
		r := openTestRepo(t, st, Options{StateDir: state})
		v = maps.Clone(v)
		v[fmt.Sprintf("f%d", i)] = textRows(rng, 300)
		var err error
		if last, err = commitFiles(t.Context(), r, v, last); err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	r := openTestRepo(t, st, Options{StateDir: state})
	if rep := gc(t, r); rep.RepackedPacks == 0 {
		t.Fatal("nothing was moved, so the test shows nothing")
	}
	r.Close()
	r = openTestRepo(t, st, Options{StateDir: state})
	defer r.Close()
	if _, err := commitFilesAs(t.Context(), r, mustID(t, r), v, nil, func(w *Writer, ctx context.Context, m *Manifest) error {
		if n := w.NewBytes(); n > 0 {
			t.Errorf("%d bytes were stored again after gc", n)
		}
		return w.Commit(ctx, m)
	}); err != nil {
		t.Fatal(err)
	}
	mustBeSound(t, r)
}
