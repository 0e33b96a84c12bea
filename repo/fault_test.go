package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/durable/crashfs"
	"github.com/generalbots/backupd/internal/durable/errfs"
	"github.com/generalbots/backupd/internal/store"
)

// ordeal is one command that is put through faults: from a prepared tree, it
// either does what the oracle is told or returns an error.
type ordeal struct {
	name string
	run  func(ctx context.Context, s *scripted) error
}

// preparedTree is a repository with snapshots, live and forgotten, delta
// blocks and a second key, and what is known of it.
func preparedTree(t *testing.T) (*crashfs.FS, *oracle, []string) {
	t.Helper()
	ctx := t.Context()
	tree, o := newTree(), newOracle()
	s := &scripted{tree: tree, o: o, commit: (*Writer).Commit}
	if err := initTree(ctx, tree); err != nil {
		t.Fatal(err)
	}
	o.inited = true
	rng := rand.New(rand.NewPCG(4, 4))
	v := version{"dump": textRows(rng, 900), "small": []byte("x")}
	var ids []string
	for i := range 4 {
		id, err := s.backup(ctx, "a", v, i > 0)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		v = maps.Clone(v)
		p := bytes.Clone(v["dump"])
		for range 20 {
			p[rng.IntN(len(p))] = byte('a' + rng.IntN(26))
		}
		v["dump"] = p
	}
	if err := s.forget(ctx, "a", ids[0], ids[2]); err != nil {
		t.Fatal(err)
	}
	if err := s.with(ctx, "a", func(r *Repo) error {
		_, err := r.AddKey(ctx, NewSlot{Label: "second", Credential: keyOf("second")})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return tree, o, ids
}

// ordeals are the commands, by what they are run on: nothing, or preparedTree.
func ordeals(ids []string) (bare, prepared []ordeal) {
	rng := rand.New(rand.NewPCG(5, 5))
	fresh := version{"dump": textRows(rng, 950), "other": textRows(rng, 100), "small": []byte("x")}
	bare = []ordeal{{"init", func(ctx context.Context, s *scripted) error {
		if err := initTree(ctx, s.tree); err != nil {
			return err
		}
		s.o.inited = true
		return nil
	}}}
	prepared = []ordeal{
		{"backup", func(ctx context.Context, s *scripted) error {
			_, err := s.backup(ctx, "a", fresh, true)
			return err
		}},
		{"forget", func(ctx context.Context, s *scripted) error { return s.forget(ctx, "a", ids[1]) }},
		{"undelete", func(ctx context.Context, s *scripted) error {
			return s.with(ctx, "a", func(r *Repo) error {
				s.o.set(ids[0], live|forgotten)
				if err := r.Undelete(ctx, ids[0]); err != nil {
					return err
				}
				s.o.set(ids[0], live)
				return nil
			})
		}},
		{"gc", func(ctx context.Context, s *scripted) error { return s.gc(ctx, "a") }},
		{"key add", func(ctx context.Context, s *scripted) error {
			return s.with(ctx, "a", func(r *Repo) error {
				_, err := r.AddKey(ctx, NewSlot{Label: "third", Credential: keyOf("third")})
				return err
			})
		}},
		{"key remove", func(ctx context.Context, s *scripted) error {
			return s.with(ctx, "a", func(r *Repo) error {
				keys, err := r.Keys(ctx)
				if err != nil {
					return err
				}
				for _, k := range keys {
					if k.Label == "second" {
						return r.RemoveKey(ctx, fmt.Sprintf("%08x", k.ID))
					}
				}
				return errors.New("no second key is listed")
			})
		}},
	}
	return bare, prepared
}

var hexName = regexp.MustCompile(`[0-9a-f]{8,}`)

// sampled picks the calls worth failing: of those that are alike a few, as a
// writer looks at 256 like directories.
func sampled(calls []errfs.Call, each int) (numbers []int) {
	seen := map[string]int{}
	for i, c := range calls {
		name := c.Name
		if strings.HasPrefix(name, "repo/packs/") {
			name = "repo/packs/*/" + path.Base(path.Dir(name))[:0]
			if strings.Contains(c.Name[len("repo/packs/"):], "/") {
				name += "file" + path.Ext(c.Name)
			}
		}
		class := c.Op.String() + " " + hexName.ReplaceAllString(name, "*")
		if seen[class]++; seen[class] <= each {
			numbers = append(numbers, i+1)
		}
	}
	return numbers
}

func TestRepoFault_NoErrorIsASuccessAndNothingCommittedIsLost(t *testing.T) {
	tree, known, ids := preparedTree(t)
	bare, prepared := ordeals(ids)
	each := crashScale()
	before := runtime.NumGoroutine()
	var runs, failed atomic.Int64
	var mu sync.Mutex
	reported := 0
	report := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		if reported++; reported < 20 {
			t.Errorf(format, args...)
		}
	}
	jobs := make(chan func())
	var workers sync.WaitGroup
	for range max(2, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for job := range jobs {
				job()
			}
		})
	}
	for i, od := range append(bare, prepared...) {
		base, o := tree, known
		if i < len(bare) {
			base, o = newTree(), newOracle()
		}
		start := func() (*crashfs.FS, *errfs.FS, *scripted) {
			disk := base.Crash(rand.New(rand.NewPCG(1, 1)), 100)
			faulty := errfs.New(disk)
			return disk, faulty, &scripted{tree: faulty, o: o.clone(), commit: (*Writer).Commit}
		}
		_, faulty, s := start()
		if err := od.run(t.Context(), s); err != nil {
			t.Fatalf("%s without faults: %v", od.name, err)
		}
		calls := faulty.Calls()
		for _, n := range sampled(calls, each) {
			for kind := range 8 {
				form, errno, sticky := errfs.Form(kind&1), error(syscall.EIO), kind&4 != 0
				if each == 1 && (n+kind>>1)%2 != 0 {
					continue // the other half is for the long run
				}
				if kind&2 != 0 {
					if calls[n-1].Op&(errfs.Grow|errfs.Rename|errfs.RenameNoReplace|errfs.SyncDir|errfs.Sync) == 0 {
						continue // no space is needed there
					}
					errno = syscall.ENOSPC
				}
				jobs <- func() {
					what := fmt.Sprintf("%s, call %d (%v), form %d, %v, sticky %v", od.name, n, calls[n-1], form, errno, sticky)
					disk, faulty, s := start()
					faulty.Fail(errfs.Fault{Ops: errfs.Any, N: n, Form: form, Err: errno, Sticky: sticky})
					err := od.run(t.Context(), s)
					runs.Add(1)
					if err != nil {
						failed.Add(1)
						if sticky && form == errfs.Failed && errno == syscall.ENOSPC && calls[n-1].Op&errfs.Grow != 0 && !errors.Is(err, store.ErrNoSpace) && strings.HasPrefix(calls[n-1].Name, "repo/packs/") {
							report("%s: got %v, want ErrNoSpace", what, err)
						}
					}
					cut := disk.Crash(rand.New(rand.NewPCG(uint64(n), uint64(kind))), 50*(kind%3))
					if n%2 == 0 || each > 1 {
						if err := s.o.clone().survives(t.Context(), cut); err != nil {
							report("%s, then a power cut: %v", what, err)
						}
					}
					again := &scripted{tree: disk.Restart(), o: s.o, commit: (*Writer).Commit}
					if err == nil || od.name == "init" || od.name == "undelete" || strings.HasPrefix(od.name, "key") || od.name == "forget" {
						// What was done, wholly or not, is not done twice.
					} else if err := od.run(t.Context(), again); err != nil {
						report("%s: again without faults: %v", what, err)
					}
					if err := s.o.survives(t.Context(), again.tree); err != nil {
						report("%s: %v", what, err)
					}
				}
			}
		}
	}
	close(jobs)
	workers.Wait()
	t.Logf("%d faults, %d of them made the command fail, %d wrong", runs.Load(), failed.Load(), reported)
	if failed.Load() < runs.Load()/3 {
		t.Errorf("only %d of %d faults were noticed", failed.Load(), runs.Load())
	}
	for range 3000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d goroutines were left behind", runtime.NumGoroutine()-before)
}

// A check that could not read something, or read it wrong, must not call the
// repository sound.
func TestRepoFault_CheckIsNotSoundWhenAReadFails(t *testing.T) {
	tree, _, _ := preparedTree(t)
	check := func(faulty *errfs.FS) (sound bool, err error) {
		r, err := openHost(t.Context(), faulty, "a")
		if err != nil {
			return false, err
		}
		defer r.Close()
		rep, err := r.Check(t.Context(), CheckOptions{ReadData: true}, &CheckProgress{})
		return err == nil && rep.Sound(), err
	}
	faulty := errfs.New(tree)
	if sound, err := check(faulty); !sound {
		t.Fatalf("without faults: %v", err)
	}
	for _, n := range sampled(faulty.Calls(), 10) {
		call := faulty.Calls()[n-1]
		if call.Op&(errfs.ReadAt|errfs.Open|errfs.ReadDir) == 0 || !strings.HasPrefix(call.Name, "repo/") {
			continue
		}
		for _, form := range []errfs.Form{errfs.Failed, errfs.Half, errfs.Flipped} {
			if form != errfs.Failed && call.Op != errfs.ReadAt || strings.HasPrefix(call.Name, "repo/keys/") {
				continue // another slot may open it
			}
			f := errfs.New(tree)
			f.Fail(errfs.Fault{Ops: call.Op, Name: call.Name, N: 1, Sticky: true, Form: form, Err: syscall.EIO})
			if sound, _ := check(f); sound {
				t.Errorf("%v, form %d: called sound", call, form)
			}
		}
	}
}

// The control: a command that takes errors for successes is found out.
func TestRepoFault_NoticesAFalseSuccess(t *testing.T) {
	tree, known, _ := preparedTree(t)
	disk := tree.Crash(rand.New(rand.NewPCG(1, 1)), 100)
	faulty := errfs.New(disk)
	faulty.Fail(errfs.Fault{Ops: errfs.Create, Name: "repo/tmp/", N: 1, Sticky: true, Err: syscall.EIO})
	o := known.clone()
	s := &scripted{tree: faulty, o: o, commit: func(*Writer, context.Context, *Manifest) error { return nil }}
	s.backup(t.Context(), "a", version{"new": []byte("new")}, false)
	for id, f := range o.fates {
		if f == absent|live {
			o.fates[id] = live // what a liar would have acknowledged
		}
	}
	if err := o.survives(t.Context(), disk.Restart()); err == nil {
		t.Error("a snapshot that was never written was not missed")
	}
}
