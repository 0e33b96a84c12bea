package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/durable/crashfs"
	"github.com/generalbots/backupd/internal/store"
)

// crashScale says how much more than usual the long batteries do; make crash
// sets it.
func crashScale() int {
	n, _ := strconv.Atoi(os.Getenv("CRASH_SCALE"))
	return max(1, n)
}

// below is a directory of another tree as a tree of its own, so that a
// repository and its state directories lose their power at the same moment.
type below struct {
	durable.FS
	dir string
}

func (b below) at(name string) string { return strings.TrimSuffix(path.Join(b.dir, name), "/") }

func (b below) Create(name string) (durable.File, error)    { return b.FS.Create(b.at(name)) }
func (b below) Open(name string) (durable.File, error)      { return b.FS.Open(b.at(name)) }
func (b below) OpenWrite(name string) (durable.File, error) { return b.FS.OpenWrite(b.at(name)) }
func (b below) Stat(name string) (durable.Info, error)      { return b.FS.Stat(b.at(name)) }
func (b below) ReadDir(name string) ([]durable.Info, error) { return b.FS.ReadDir(b.at(name)) }
func (b below) Mkdir(name string) error                     { return b.FS.Mkdir(b.at(name)) }
func (b below) Link(old, name string) error                 { return b.FS.Link(b.at(old), b.at(name)) }
func (b below) Rename(old, name string) error               { return b.FS.Rename(b.at(old), b.at(name)) }
func (b below) RenameNoReplace(old, name string) error {
	return b.FS.RenameNoReplace(b.at(old), b.at(name))
}
func (b below) Unlink(name string) error  { return b.FS.Unlink(b.at(name)) }
func (b below) SyncDir(name string) error { return b.FS.SyncDir(b.at(name)) }
func (b below) Lock(name string, m durable.LockMode, owner string) (io.Closer, error) {
	return b.FS.Lock(b.at(name), m, owner)
}

// fate is what may have become of a snapshot: a set.
type fate uint8

const (
	absent fate = 1 << iota
	live
	forgotten
)

// oracle knows what was acknowledged. It lies outside of what crashes.
type oracle struct {
	mu     sync.Mutex // guards all below
	inited bool
	fates  map[string]fate
	files  map[string]version
}

func newOracle() *oracle { return &oracle{fates: map[string]fate{}, files: map[string]version{}} }

func (o *oracle) clone() *oracle {
	o.mu.Lock()
	defer o.mu.Unlock()
	return &oracle{inited: o.inited, fates: maps.Clone(o.fates), files: maps.Clone(o.files)}
}

func (o *oracle) set(id string, f fate) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fates[id] = f
}

// hosts are the state directories of the machines that use a repository.
var hosts = []string{"a", "b"}

// openHost opens the repository of a tree as one of the hosts.
func openHost(ctx context.Context, tree durable.FS, host string) (*Repo, error) {
	return openWith(ctx, store.NewDir(below{tree, "repo"}), []crypto.Credential{testKey}, Options{}, below{tree, host})
}

// initTree makes a repository; what is above it exists already.
func initTree(ctx context.Context, tree durable.FS) error {
	st := store.NewDir(below{tree, "repo"})
	if err := st.Init(ctx); err != nil {
		return err
	}
	cfg := DefaultConfig(time.Now())
	cfg.PackSize = MinPackSize
	_, err := Init(ctx, st, InitOptions{Config: cfg, Slots: []NewSlot{{Label: "test", Credential: testKey}}})
	return err
}

// newTree is an empty disk with the directories people make.
func newTree() *crashfs.FS {
	tree := crashfs.New()
	if err := durable.MakeDirs(tree, append([]string{"repo"}, hosts...)...); err != nil {
		panic(err)
	}
	return tree
}

// scripted is a life of a repository, step by step. It ends with the first
// error.
type scripted struct {
	tree   durable.FS
	o      *oracle
	commit func(*Writer, context.Context, *Manifest) error
}

func (s *scripted) backup(ctx context.Context, host string, files version, withBase bool) (id string, err error) {
	r, err := openHost(ctx, s.tree, host)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var base *Snapshot
	if withBase {
		if base, err = r.Resolve("latest"); err != nil {
			return "", err
		}
	}
	if id, err = r.NewID(time.Now()); err != nil {
		return "", err
	}
	s.o.mu.Lock()
	s.o.files[id], s.o.fates[id] = files, absent|live
	s.o.mu.Unlock()
	if _, err = commitFilesAs(ctx, r, id, files, base, s.commit); err != nil {
		return "", err
	}
	s.o.set(id, live)
	return id, nil
}

func (s *scripted) with(ctx context.Context, host string, do func(r *Repo) error) error {
	r, err := openHost(ctx, s.tree, host)
	if err != nil {
		return err
	}
	return errors.Join(do(r), r.Close())
}

func (s *scripted) forget(ctx context.Context, host string, ids ...string) error {
	return s.with(ctx, host, func(r *Repo) error {
		for _, id := range ids {
			s.o.set(id, live|forgotten)
			if err := r.Forget(ctx, id); err != nil {
				return err
			}
			s.o.set(id, forgotten)
		}
		return nil
	})
}

func (s *scripted) gc(ctx context.Context, host string) error {
	return s.with(ctx, host, func(r *Repo) error {
		gone := s.o.gcBegins()
		if _, err := r.GC(ctx, GCOptions{}, &GCProgress{}); err != nil {
			return err
		}
		for _, id := range gone {
			s.o.set(id, absent)
		}
		return nil
	})
}

// gcBegins makes what is forgotten removable and returns it.
func (o *oracle) gcBegins() (gone []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, f := range o.fates {
		if f == forgotten {
			o.fates[id], gone = forgotten|absent, append(gone, id)
		}
	}
	return gone
}

// run lives the life: backups with and without base, with delta blocks,
// forgetting, undeleting, gc that repacks, a second writer, a key.
func (s *scripted) run(ctx context.Context) error {
	if err := initTree(ctx, s.tree); err != nil {
		return err
	}
	s.o.mu.Lock()
	s.o.inited = true
	s.o.mu.Unlock()

	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 30_000)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	v := version{"dump": textRows(rng, 900), "noise": noise, "small": []byte("x"), "empty": nil}
	edit := func() {
		v = maps.Clone(v)
		p := bytes.Clone(v["dump"])
		for range 20 {
			p[rng.IntN(len(p))] = byte('a' + rng.IntN(26))
		}
		v["dump"] = p
	}
	var ids []string
	backup := func(host string, withBase bool) error {
		id, err := s.backup(ctx, host, v, withBase)
		ids = append(ids, id)
		edit()
		return err
	}
	steps := []func() error{
		func() error { return backup("a", false) },
		func() error { return backup("a", true) },
		func() error { return backup("a", true) },
		func() error { return s.forget(ctx, "a", ids[0]) },
		func() error {
			return s.with(ctx, "a", func(r *Repo) error {
				s.o.set(ids[0], forgotten|live)
				if err := r.Undelete(ctx, ids[0]); err != nil {
					return err
				}
				s.o.set(ids[0], live)
				return nil
			})
		},
		func() error { return s.forget(ctx, "a", ids[1], ids[0]) },
		func() error { return s.gc(ctx, "a") },
		func() error { return backup("b", true) },
		func() error {
			return s.with(ctx, "b", func(r *Repo) error {
				_, err := r.AddKey(ctx, NewSlot{Label: "second", Credential: keyOf("second")})
				return err
			})
		},
		func() error { delete(v, "noise"); return backup("a", false) },
		func() error { return s.forget(ctx, "b", ids[2], ids[3]) },
		func() error { return s.gc(ctx, "b") },
		func() error { return backup("a", true) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// compare opens the repository as one host and holds it against the oracle:
// all that was acknowledged is there and equal, nothing is half there.
func (o *oracle) compare(ctx context.Context, r *Repo) error {
	if r.rollback != nil {
		return fmt.Errorf("opened read only: %w", r.rollback)
	}
	rep, err := r.Check(ctx, CheckOptions{ReadData: true}, &CheckProgress{})
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if !rep.Sound() {
		return fmt.Errorf("check: %v %v", rep.Findings, rep.DamagedFiles)
	}
	found := map[string]fate{}
	for is, list := range map[fate][]*Snapshot{live: r.Snapshots(), forgotten: r.Forgotten()} {
		for _, snap := range list {
			found[snap.ID] = is
			want, ok := o.files[snap.ID]
			if !ok {
				return fmt.Errorf("snapshot %s: nobody made it", snap.ID)
			}
			got, err := readFiles(ctx, r, snap)
			if err != nil || !sameFiles(got, want) {
				return fmt.Errorf("snapshot %s is not what it was (%w)", snap.ID, err)
			}
		}
	}
	for id, may := range o.fates {
		is, ok := found[id]
		if !ok {
			is = absent
		}
		if is&may == 0 {
			return fmt.Errorf("snapshot %s: found %03b, want one of %03b (live 010, forgotten 100)", id, is, may)
		}
	}
	return nil
}

// settle narrows the oracle to what is there after a crash.
func (o *oracle) settle(r *Repo) {
	for id := range o.fates {
		o.fates[id] = absent
	}
	for _, s := range r.Snapshots() {
		o.fates[s.ID] = live
	}
	for _, s := range r.Forgotten() {
		o.fates[s.ID] = forgotten
	}
}

// survives proves a tree found after a crash: it is compared, lived on with
// for one backup and one gc, and compared again.
func (o *oracle) survives(ctx context.Context, tree durable.FS) error {
	for _, host := range hosts {
		r, err := openHost(ctx, tree, host)
		if !o.inited && err != nil {
			if !errors.Is(err, ErrNoRepository) && !errors.Is(err, ErrDamaged) && !errors.Is(err, store.ErrNotExist) {
				return fmt.Errorf("an interrupted init: %w", err)
			}
			if err := initTree(ctx, tree); err != nil {
				return fmt.Errorf("init again: %w", err)
			}
			o.inited = true
			r, err = openHost(ctx, tree, host)
		}
		if err != nil {
			return fmt.Errorf("open as %s: %w", host, err)
		}
		if host == "a" {
			err = o.compare(ctx, r)
			o.settle(r)
		} else if r.rollback != nil {
			err = r.rollback
		}
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	o.inited = true
	s := &scripted{tree: tree, o: o, commit: (*Writer).Commit}
	rng := rand.New(rand.NewPCG(8, 8))
	if _, err := s.backup(ctx, "a", version{"after": textRows(rng, 300), "small": []byte("y")}, false); err != nil {
		return fmt.Errorf("a backup afterwards: %w", err)
	}
	if err := s.gc(ctx, "a"); err != nil {
		return fmt.Errorf("a gc afterwards: %w", err)
	}
	if left, err := tree.ReadDir("repo/tmp"); err != nil || len(left) > 0 {
		return fmt.Errorf("left in tmp: %v (%v)", left, err)
	}
	if left, err := tree.ReadDir("repo/gc"); err != nil || len(left) > 0 {
		return fmt.Errorf("left in gc: %v (%v)", left, err)
	}
	return s.with(ctx, "a", func(r *Repo) error { return o.compare(ctx, r) })
}

// watcher hands out the state of a tree before each operation that follows on
// one which changed anything: of the 256 like directories that every writer
// syncs most calls change nothing.
type watcher struct {
	made  map[string]bool
	dirty map[string]bool
	same  bool // the operation before changed nothing
}

func newWatcher() *watcher { return &watcher{made: map[string]bool{}, dirty: map[string]bool{}} }

func (w *watcher) skip(op crashfs.Op) bool {
	same := w.same
	dir := path.Dir(op.Name)
	w.same = false
	switch op.Kind {
	case "mkdir":
		w.same = w.made[op.Name]
		w.made[op.Name] = true
		if !w.same {
			w.dirty[dir] = true
		}
	case "syncdir":
		w.same = !w.dirty[op.Name]
		delete(w.dirty, op.Name)
	case "create", "rename", "link", "unlink", "lock":
		w.dirty[dir] = true
		if op.Kind == "rename" {
			w.dirty["repo/tmp"] = true
		}
	}
	return same
}

// crashes are the choices of one battery.
type crashes struct {
	lies     crashfs.Lies // from after init
	seeds    int
	percents []int
	again    int // every so many states the recovery is crashed, too
	commit   func(*Writer, context.Context, *Manifest) error
	enough   bool // stop at the first loss
}

// everywhere lives the scripted life once and lets the power fail before
// every operation of it. It returns how many states it has seen and what was
// wrong with some.
func (c crashes) everywhere(t *testing.T) (states, operations int, losses []error) {
	t.Helper()
	ctx := t.Context()
	if c.commit == nil {
		c.commit = (*Writer).Commit
	}
	type job struct {
		tree *crashfs.FS
		o    *oracle
		what string
		deep uint64 // seed of crashes during the recovery; 0 is none
	}
	jobs := make(chan job, 4)
	var mu sync.Mutex
	var count atomic.Int64
	lost := func(err error) {
		mu.Lock()
		losses = append(losses, err)
		mu.Unlock()
	}
	stop := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return c.enough && len(losses) > 0 || len(losses) > 20
	}
	var workers sync.WaitGroup
	for range max(2, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for j := range jobs {
				if stop() {
					continue
				}
				if j.deep != 0 {
					rng := rand.New(rand.NewPCG(j.deep, 3))
					w := newWatcher()
					inner := j.o.clone()
					j.tree.Before(func(op crashfs.Op) {
						if w.skip(op) || rng.IntN(12) != 0 || stop() {
							return
						}
						count.Add(1)
						o := inner.clone()
						o.fates, o.files = j.o.clone().fates, j.o.clone().files
						if err := o.survives(ctx, j.tree.Crash(rng, rng.IntN(101))); err != nil {
							lost(fmt.Errorf("%s, then before %v during the recovery: %w", j.what, op, err))
						}
					})
				}
				count.Add(1)
				if err := j.o.survives(ctx, j.tree); err != nil {
					lost(fmt.Errorf("%s: %w", j.what, err))
				}
			}
		})
	}
	o := newOracle()
	tree := newTree()
	w := newWatcher()
	n := 0
	tree.Before(func(op crashfs.Op) {
		if w.skip(op) || stop() {
			return
		}
		if inited := o.clone().inited; !inited && strings.HasPrefix(op.Name, "repo/packs/") && op.Kind == "mkdir" && op.N%40 != 0 {
			return // 256 times the same
		} else if !inited && c.enough {
			return // a control is about backups
		} else if inited {
			tree.Lie(c.lies)
		}
		operations++
		for seed := range c.seeds {
			for _, p := range c.percents {
				n++
				rng := rand.New(rand.NewPCG(uint64(op.N), uint64(seed*1000+p)))
				j := job{tree: tree.Crash(rng, p), o: o.clone(), what: fmt.Sprintf("power cut before operation %d, %s %s, seed %d, %d%%", op.N, op.Kind, op.Name, seed, p)}
				if c.again > 0 && n%c.again == 0 {
					j.deep = uint64(n)
				}
				jobs <- j
			}
		}
	})
	life := &scripted{tree: tree, o: o, commit: c.commit}
	err := life.run(ctx)
	close(jobs)
	workers.Wait()
	if err != nil {
		t.Fatalf("the life itself: %v", err)
	}
	return int(count.Load()), operations, losses
}

func TestRepoCrash_WhatWasCommittedSurvivesAPowerCutAnywhere(t *testing.T) {
	scale := crashScale()
	c := crashes{seeds: 1, percents: []int{0, 50, 100}, again: 60}
	if scale > 1 {
		c.seeds, c.again = scale, 7
	}
	if testing.Short() {
		c.percents, c.again = []int{50}, 400
	}
	began := time.Now()
	states, operations, losses := c.everywhere(t)
	for _, err := range losses {
		t.Error(err)
	}
	t.Logf("%d operations, %d states, %d losses, %v", operations, states, len(losses), time.Since(began).Round(time.Second))
	if min := 200; operations < min {
		t.Errorf("got %d operations, want %d: the life has become too short", operations, min)
	}
}

func TestRepoCrash_NoticesADiskThatLiesAndAnEarlyCommit(t *testing.T) {
	early := func(w *Writer, ctx context.Context, m *Manifest) error {
		if err := w.r.commitManifest(ctx, m); err != nil {
			return err
		}
		return errors.Join(w.tree.Flush(ctx), w.data.flush(), w.pages.flush())
	}
	for name, c := range map[string]crashes{
		"files are not synced":            {lies: crashfs.Lies{IgnoreSync: true}},
		"directories are not synced":      {lies: crashfs.Lies{IgnoreSyncDir: true}},
		"names come before contents":      {lies: crashfs.Lies{EarlyRename: true}},
		"the manifest comes before packs": {commit: early},
	} {
		c.seeds, c.percents, c.enough = 1, []int{0, 50}, true
		if _, _, losses := c.everywhere(t); len(losses) == 0 {
			t.Errorf("%s: no loss was found, so the test finds none", name)
		} else {
			t.Logf("%s: %v", name, losses[0])
		}
	}
}
