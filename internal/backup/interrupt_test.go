package backup_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/durable/crashfs"
	"github.com/generalbots/backupd/internal/durable/errfs"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/source/sourcetest"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

// bulk is enough for several packs, in large files and small ones.
func bulk(t testing.TB, dir string) (size int64) {
	t.Helper()
	for i := range 3 {
		write(t, dir, fmt.Sprintf("large%d", i), random(uint64(1000+i), 2*backup.LargeFile))
		size += 2 * backup.LargeFile
	}
	for i := range 120 {
		write(t, dir, fmt.Sprintf("d%d/f%03d", i%5, i), random(uint64(i), 30_000))
		size += 30_000
	}
	return size
}

// smallPacks makes packs of 1 MiB, so that a run publishes some.
func smallPacks(t testing.TB, st store.Store) *vault {
	t.Helper()
	cfg := repo.DefaultConfig(time.Now())
	cfg.PackSize = repo.MinPackSize
	_, err := repo.Init(t.Context(), st, repo.InitOptions{Config: cfg, Slots: []repo.NewSlot{{Label: "test", Credential: testKey(t)}}})
	must(t, err)
	return &vault{st: st}
}

// heirs wants a second run to succeed after one that did not, and to store
// nothing that is there.
func heirs(t *testing.T, v *vault, dir string, size int64, what string) {
	t.Helper()
	v.check(t)
	before, _ := v.size(t)
	m := clean(t, v.run(t, newTree(t, dir), backup.Incremental))
	v.wantTree(t, m, dir)
	// What was published is full of random bytes, but for some padding of each pack.
	if most := size - before*7/10; m.Totals.BytesNew > most {
		t.Errorf("%s: %d bytes lay in packs, and %d of %d were stored again", what, before, m.Totals.BytesNew, size)
	}
	if again := clean(t, v.run(t, newTree(t, dir), backup.Full)); again.Totals.BytesNew != 0 {
		t.Errorf("%s: %d bytes were stored twice", what, again.Totals.BytesNew)
	}
	v.check(t)
}

func TestRun_CancelledAnywhereLeavesASoundRepository(t *testing.T) {
	dir := t.TempDir()
	size := bulk(t, dir)
	rng := rand.New(rand.NewPCG(1, 1))
	stop := errors.New("somebody pressed a key")
	for round := range 8 {
		v := smallPacks(t, store.NewMem())
		ctx, cancel := context.WithCancelCause(t.Context())
		src := newTree(t, dir)
		reads, at := make(chan int, 1), rng.IntN(400)
		reads <- 0
		src.open = func(_ string, f source.File, err error) (source.File, error) {
			if err != nil {
				return nil, err
			}
			return &hooked{File: f, before: func(int) error {
				n := <-reads
				if n == at {
					cancel(stop)
				}
				reads <- n + 1
				return nil
			}}, nil
		}
		leaks := sourcetest.NoLeaks(t)
		_, err := v.try(t, ctx, src, options(backup.Full))
		leaks()
		cancel(nil)
		if err != nil && !errors.Is(err, stop) {
			t.Errorf("round %d: got %v, want the cause", round, err)
		}
		if err == nil {
			t.Errorf("round %d: a run that was cancelled at read %d succeeded", round, at)
		}
		heirs(t, v, dir, size, fmt.Sprintf("cancelled at read %d", at))
	}
}

func TestRun_CancelledBeforeItBegins(t *testing.T) {
	dir := t.TempDir()
	sample(t, dir)
	v := newVault(t, store.NewMem())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.try(t, ctx, newTree(t, dir), options(backup.Full)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// faulty is a repository on a disk that fails as told.
func faulty(t *testing.T) (*vault, *errfs.FS) {
	t.Helper()
	fs := errfs.New(crashfs.New())
	st := store.NewDir(fs)
	must(t, st.Init(t.Context()))
	return smallPacks(t, st), fs
}

func TestRun_FailingStoreLeavesASoundRepository(t *testing.T) {
	dir := t.TempDir()
	size := bulk(t, dir)
	v, fs := faulty(t)
	fs.Forget()
	clean(t, v.run(t, newTree(t, dir), backup.Full))
	calls := 0
	for _, c := range fs.Calls() {
		if c.Op&errfs.Change != 0 {
			calls++
		}
	}
	rng := rand.New(rand.NewPCG(2, 2))
	for round := range 12 {
		v, fs := faulty(t)
		fault := errfs.Fault{Ops: errfs.Change, N: 1 + rng.IntN(calls), Err: syscall.EIO}
		if round >= 8 {
			fault.N = calls - 12 + round // the publishing of the manifest
		}
		fault.Form = []errfs.Form{errfs.Failed, errfs.Happened, errfs.Half}[round%3]
		if round%4 == 3 {
			fault.Err, fault.Sticky = syscall.ENOSPC, true
		}
		fs.Fail(fault)
		leaks := sourcetest.NoLeaks(t)
		rep, err := v.try(t, t.Context(), newTree(t, dir), options(backup.Full))
		leaks()
		hits := fs.Hits()
		fs.Heal()
		what := fmt.Sprintf("operation %d, %v, form %d", fault.N, fault.Err, fault.Form)
		if err == nil && rep.Snapshot == nil {
			t.Errorf("%s: neither error nor snapshot", what)
		}
		if err == nil && hits > 0 {
			// Only what no promise rests on may fail without a word.
			r := v.open(t)
			if len(r.Snapshots()) != 1 {
				t.Errorf("%s: success, and no snapshot", what)
			}
			r.Close()
		}
		if fault.Err == syscall.ENOSPC && err != nil && !errors.Is(err, store.ErrNoSpace) {
			t.Errorf("%s: got %v, want ErrNoSpace", what, err)
		}
		heirs(t, v, dir, size, what)
	}
}

func TestRun_PowerCutLeavesASoundRepository(t *testing.T) {
	dir := t.TempDir()
	size := bulk(t, dir)
	rng := rand.New(rand.NewPCG(3, 3))
	for range 6 {
		disk := crashfs.New()
		st := store.NewDir(disk)
		must(t, st.Init(t.Context()))
		v := smallPacks(t, st)
		disk.CrashAt(disk.Ops() + 1 + rng.IntN(600))
		_, err := v.try(t, t.Context(), newTree(t, dir), options(backup.Full))
		found := &vault{st: store.NewDir(disk.Crash(rng, rng.IntN(101)))}
		if err == nil {
			r := found.open(t)
			if len(r.Snapshots()) != 1 {
				t.Error("a run that had succeeded is gone after a power cut")
			}
			r.Close()
		}
		heirs(t, found, dir, size, "power cut")
	}
}

// A state directory that was lost costs time, not data and not space.
func TestRun_LostStateDirectoryStoresNothingTwice(t *testing.T) {
	dir := t.TempDir()
	bulk(t, dir)
	settle()
	v := newVault(t, store.NewMem())
	v.state = t.TempDir()
	clean(t, v.run(t, newTree(t, dir), backup.Full))
	v.state = filepath.Join(t.TempDir(), "anew")
	m := clean(t, v.run(t, newTree(t, dir), backup.Incremental))
	if c := m.Totals; c.BytesNew != 0 || c.Unchanged != 123 {
		t.Errorf("got %+v", c)
	}
	if strings.Contains(strings.Join(m.Parts[0].Notes, ""), "suspicious") {
		t.Errorf("got notes %q", m.Parts[0].Notes)
	}
}
