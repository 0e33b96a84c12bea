package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/durable/crashfs"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/internal/store/storetest"
)

func dice(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 2)) }

// promises is what a store has told its user: acked objects are durable (nil:
// durably absent), doing are on their way.
type promises struct {
	acked map[string][]byte
	doing map[string][]byte
}

// life puts and removes objects of sizes around the block sizes, several writes
// each, and keeps account. It ends with the first error.
func (p *promises) life(ctx context.Context, d *store.Dir) error {
	for i, size := range []int{0, 1, 511, 4097, 9000} {
		name := fmt.Sprintf("packs/%02x/%d", i, i)
		data := storetest.Bytes(uint64(i), size)
		p.doing = map[string][]byte{name: data}
		if err := putInParts(ctx, d, name, data); err != nil {
			return err
		}
		p.acked[name], p.doing = data, nil
		// An attempt that is given up, and one whose name is taken.
		w, err := d.Create(ctx, "config", 100)
		if err != nil {
			return err
		}
		if _, err := w.WriteAt(data[:min(size, 100)], 0); err != nil {
			return err
		}
		if err := w.Abort(); err != nil {
			return err
		}
		if err := storetest.Put(ctx, d, name, []byte("x")); !errors.Is(err, store.ErrExist) {
			return fmt.Errorf("put over %s: %v", name, err)
		}
	}
	gone := []string{"packs/01/1", "packs/03/3", "packs/09/missing"}
	p.doing = map[string][]byte{gone[0]: nil, gone[1]: nil}
	if err := d.Remove(ctx, gone...); err != nil {
		return err
	}
	p.acked[gone[0]], p.acked[gone[1]], p.doing = nil, nil, nil
	data := storetest.Bytes(9, 700)
	p.doing = map[string][]byte{gone[0]: data}
	if err := putInParts(ctx, d, gone[0], data); err != nil {
		return err
	}
	p.acked[gone[0]], p.doing = data, nil
	return nil
}

// putInParts writes from the end to the beginning and reserves too much, as a
// pack writer may.
func putInParts(ctx context.Context, d *store.Dir, name string, data []byte) error {
	w, err := d.Create(ctx, name, int64(len(data))+1000)
	if err != nil {
		return err
	}
	defer w.Abort()
	for end := len(data); end > 0; {
		start := max(0, end-3000)
		if _, err := w.WriteAt(data[start:end], int64(start)); err != nil {
			return err
		}
		end = start
	}
	return w.Commit(ctx)
}

// broken compares a store with the promises.
func (p *promises) broken(ctx context.Context, d *store.Dir) error {
	list, err := d.List(ctx, "")
	if err != nil {
		return err
	}
	there := map[string][]byte{}
	for _, info := range list {
		data, err := storetest.Get(ctx, d, info.Name)
		if err != nil || int64(len(data)) != info.Size {
			return fmt.Errorf("listed object of %d bytes: %d read, %v", info.Size, len(data), err)
		}
		there[info.Name] = data
	}
	same := func(name string, want []byte) bool {
		got, ok := there[name]
		return ok == (want != nil) && bytes.Equal(got, want)
	}
	for name := range there {
		if _, ok := p.acked[name]; !ok {
			if _, ok := p.doing[name]; !ok {
				return fmt.Errorf("%s is there and nobody wrote it", name)
			}
		}
	}
	for name, want := range p.acked {
		doing, on := p.doing[name]
		if !same(name, want) && !(on && same(name, doing)) {
			return fmt.Errorf("%s was acknowledged with %d bytes and has %d", name, len(want), len(there[name]))
		}
	}
	for name, doing := range p.doing {
		if _, ok := p.acked[name]; !ok && !same(name, doing) && !same(name, nil) {
			return fmt.Errorf("%s is on its way with %d bytes and has %d", name, len(doing), len(there[name]))
		}
	}
	return nil
}

// recovered sweeps a store after a crash and checks that it is whole, empty of
// temporary files and usable, also when it crashes again at any moment of that.
func (p *promises) recovered(ctx context.Context, disk *crashfs.FS, again bool) error {
	d := store.NewDir(disk)
	if again {
		disk.Before(func(op crashfs.Op) {
			// Of the 256 like directories some are enough.
			if strings.HasPrefix(op.Name, "packs/") && op.N%32 != 0 {
				return
			}
			if err := p.recovered(ctx, disk.Crash(dice(uint64(op.N)), 50), false); err != nil {
				panic(fmt.Sprintf("crash during recovery, before %+v: %v", op, err))
			}
		})
	}
	lock, err := d.Lock(ctx, "writer", store.LockExclusive)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := d.Sweep(ctx); err != nil {
		return err
	}
	if tmp, err := disk.ReadDir("tmp"); err != nil || len(tmp) > 0 {
		return fmt.Errorf("tmp holds %v, %v", tmp, err)
	}
	if err := p.broken(ctx, d); err != nil {
		return err
	}
	if again {
		return nil
	}
	if err := storetest.Put(ctx, d, "gc/next", []byte("next")); err != nil {
		return err
	}
	return nil
}

type tally struct {
	states, losses int
	first          error
}

func (y *tally) add(err error) {
	y.states++
	if err != nil {
		y.losses++
		if y.first == nil {
			y.first = err
		}
	}
}

// cutAtEveryOperation runs a life and crashes it before every operation and at
// the end, with every percentage and so many seeds.
func cutAtEveryOperation(t *testing.T, lies crashfs.Lies, seeds uint64) tally {
	t.Helper()
	disk := crashfs.New()
	d := laidOut(t, disk)
	disk.Lie(lies)
	p := &promises{acked: map[string][]byte{}}
	var y tally
	cut := func() {
		for _, percent := range []int{0, 50, 100} {
			for seed := range seeds {
				after := disk.Crash(dice(seed), percent)
				after.Lie(crashfs.Lies{})
				err := p.broken(t.Context(), store.NewDir(after))
				if err == nil {
					err = p.recovered(t.Context(), after, false)
				}
				y.add(err)
			}
		}
	}
	disk.Before(func(crashfs.Op) { cut() })
	if err := p.life(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	cut()
	return y
}

func TestDir_LosesNothingInAPowerCutAtAnyOperation(t *testing.T) {
	y := cutAtEveryOperation(t, crashfs.Lies{}, 20)
	if y.losses > 0 {
		t.Fatalf("%d of %d states lost something: %v", y.losses, y.states, y.first)
	}
	t.Logf("%d states", y.states)
}

// Negative controls: without the step that a lying disk leaves out, the test
// above fails.
func TestDir_PowerCutTestFeelsALyingDisk(t *testing.T) {
	for name, lies := range map[string]crashfs.Lies{
		"no fsync":           {IgnoreSync: true},
		"no directory fsync": {IgnoreSyncDir: true},
		"early rename":       {EarlyRename: true},
	} {
		t.Run(name, func(t *testing.T) {
			y := cutAtEveryOperation(t, lies, 4)
			if y.losses == 0 {
				t.Fatalf("nothing was lost in %d states", y.states)
			}
			t.Logf("%d of %d states lost something", y.losses, y.states)
		})
	}
}

func TestDir_RecoversFromAPowerCutDuringRecovery(t *testing.T) {
	ops := crashfs.New()
	p := &promises{acked: map[string][]byte{}}
	d := laidOut(t, ops)
	first := ops.Ops()
	if err := p.life(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	for n := first + 1; n <= ops.Ops(); n += 2 {
		disk := crashfs.New()
		d := laidOut(t, disk)
		disk.CrashAt(n)
		p := &promises{acked: map[string][]byte{}}
		if err := p.life(t.Context(), d); err == nil {
			t.Fatalf("operation %d was not reached", n)
		}
		if err := p.recovered(t.Context(), disk.Crash(dice(uint64(n)), 50), true); err != nil {
			t.Fatalf("crash at %d: %v", n, err)
		}
	}
}

// killedThenCut kills the process before every operation, lets the next one make
// its beginning, and then cuts the power: what the next process saw must stay,
// because it may rely on it.
func killedThenCut(t *testing.T, begin func(ctx context.Context, d *store.Dir) error) tally {
	t.Helper()
	disk := crashfs.New()
	var y tally
	d := laidOut(t, disk)
	first := disk.Ops()
	p := &promises{acked: map[string][]byte{}}
	if err := p.life(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	for n := first + 1; n <= disk.Ops(); n++ {
		victim := crashfs.New()
		d := laidOut(t, victim)
		victim.CrashAt(n)
		p := &promises{acked: map[string][]byte{}}
		p.life(t.Context(), d)
		next := victim.Restart()
		d = store.NewDir(next)
		if err := begin(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		seen := &promises{acked: map[string][]byte{}}
		list, err := d.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range list {
			data, err := storetest.Get(t.Context(), d, info.Name)
			if err != nil {
				t.Fatal(err)
			}
			seen.acked[info.Name] = data
		}
		for _, percent := range []int{0, 50} {
			y.add(seen.broken(t.Context(), store.NewDir(next.Crash(dice(uint64(n)), percent))))
		}
	}
	return y
}

func TestDir_WhatSweepFoundStays(t *testing.T) {
	y := killedThenCut(t, func(ctx context.Context, d *store.Dir) error { return d.Sweep(ctx) })
	if y.losses > 0 {
		t.Fatalf("%d of %d states lost something: %v", y.losses, y.states, y.first)
	}
	if y := killedThenCut(t, func(context.Context, *store.Dir) error { return nil }); y.losses == 0 {
		t.Fatalf("control: nothing was lost without Sweep in %d states", y.states)
	}
}

func TestDir_InitIsDurableAndRepeats(t *testing.T) {
	done := crashfs.New()
	laidOut(t, done)
	for n := 1; n <= done.Ops(); n += 7 {
		disk := crashfs.New()
		disk.CrashAt(n)
		if err := store.NewDir(disk).Init(t.Context()); err == nil {
			t.Fatalf("operation %d was not reached", n)
		}
		after := disk.Crash(dice(uint64(n)), 50)
		d := laidOut(t, after)
		if err := storetest.Put(t.Context(), d, "packs/fe/a", []byte("a")); err != nil {
			t.Fatal(err)
		}
		got, err := storetest.Get(t.Context(), store.NewDir(after.Crash(dice(1), 0)), "packs/fe/a")
		if string(got) != "a" || err != nil {
			t.Fatalf("crash at %d: got %q, %v", n, got, err)
		}
	}
}

func TestDir_LocksEndWithACrash(t *testing.T) {
	disk := crashfs.New()
	d := laidOut(t, disk)
	if _, err := d.Lock(t.Context(), "writer", store.LockExclusive); err != nil {
		t.Fatal(err)
	}
	for _, after := range []durable.FS{disk.Crash(dice(1), 100), disk.Restart()} {
		l, err := store.NewDir(after).Lock(t.Context(), "writer", store.LockExclusive)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}

func TestDir_SweepMakesWhatCopyingToolsDrop(t *testing.T) {
	disk := crashfs.New()
	if err := disk.Mkdir("snapshots"); err != nil {
		t.Fatal(err)
	}
	d := store.NewDir(disk)
	if err := storetest.Put(t.Context(), d, "snapshots/1", nil); !errors.Is(err, store.ErrNotExist) {
		t.Fatalf("got %v, want ErrNotExist: there is no tmp", err)
	}
	lock, err := d.Lock(t.Context(), "writer", store.LockExclusive)
	if err != nil {
		t.Fatalf("lock without a directory of locks: %v", err)
	}
	defer lock.Close()
	if err := d.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := storetest.Put(t.Context(), d, "packs/ab/1", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tmp", "gc", "keys"} {
		if _, err := disk.Stat(name); errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s is missing", name)
		}
	}
	if got := strings.Join(names(t, d), " "); got != "packs/ab/1" {
		t.Fatalf("got %q", got)
	}
}

func names(t *testing.T, d *store.Dir) []string {
	t.Helper()
	list, err := d.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, info := range list {
		all = append(all, info.Name)
	}
	return all
}
