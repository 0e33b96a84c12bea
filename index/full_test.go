package index_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/index"
)

// fullEnv tells a child process to work with an index on a file system that gets full: its size in KiB, a
// seed, how it gets full, and the directory to mount it on.
const fullEnv = "BACKUPD_INDEX_FULL"

// How the file system gets full.
const (
	fullBefore  = "before"  // but for a random rest, before the index is opened
	fullDuring  = "during"  // by somebody who takes and gives back space all the time
	fullAtOnce  = "at-once" // after some packs, at once
	fullControl = "control" // as at-once, without the guard
)

const fullPacks = 24

// fillDisk is the child. It ends with an error when something is not as it should be, and prints how many
// writes were lost.
func fillDisk(spec string) error {
	var kib, seed uint64
	var how, dir string
	if _, err := fmt.Sscan(spec, &kib, &seed, &how, &dir); err != nil {
		return err
	}
	if err := unix.Mount("full", dir, "tmpfs", 0, fmt.Sprintf("size=%dk", kib)); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	// What the index is told is always enough: somebody else takes it a moment later.
	open := func() (*index.Index, error) {
		return index.OpenWithSpace(options(filepath.Join(dir, "index")), func() uint64 { return 1 << 40 })
	}
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		return err
	}
	fill := func(leave int64) error {
		block := make([]byte, 4096)
		for {
			if _, err := filler.Write(block); err != nil {
				break
			}
		}
		size, err := filler.Seek(0, 1)
		if err == nil {
			err = filler.Truncate(max(0, size-leave))
		}
		return err
	}
	stop, stopped := make(chan struct{}), sync.WaitGroup{}
	switch how {
	case fullBefore:
		if err := fill(rng.Int64N(int64(kib) << 10)); err != nil {
			return err
		}
	case fullDuring:
		stopped.Go(func() {
			r := rand.New(rand.NewPCG(seed, 2))
			for {
				select {
				case <-stop:
					return
				default:
				}
				_ = fill(r.Int64N(4 << 20))
				_, _ = filler.Seek(0, 2)
				time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
			}
		})
	}
	after := rng.Uint32N(fullPacks)
	x, err := open()
	var unusable *index.UnusableError
	added := uint32(0)
	if err == nil {
		for added < fullPacks && err == nil {
			if added == after && (how == fullAtOnce || how == fullControl) {
				if how == fullControl {
					if err := index.DropGuard(); err != nil {
						return err
					}
				}
				if err := fill(0); err != nil {
					return err
				}
			}
			if err = x.AddPack(packID(added), packEntries(added, 3000)); err == nil {
				added++
			}
			for range 50 {
				p := rng.Uint32N(fullPacks)
				e := packEntries(p, 1+rng.IntN(100))
				want := e[len(e)-1]
				if got, ok, err := x.Lookup(want.ID); err == nil && ok && (got != want.Place || p >= added) {
					return fmt.Errorf("pack %d of %d: got %+v", p, added, got)
				}
			}
		}
		begun := time.Now()
		cerr := x.Close()
		if took := time.Since(begun); took > 2*time.Minute {
			return fmt.Errorf("closing took %v", took)
		}
		if cerr == nil && index.LostPages() > 0 {
			return errors.New("writes were lost, and the index was closed as if nothing were")
		}
		if cerr != nil {
			err = cerr
		}
	}
	if err != nil && !errors.As(err, &unusable) {
		return fmt.Errorf("got %v, want an *UnusableError", err)
	}
	close(stop)
	stopped.Wait()

	// With space again it is as it was, or made anew.
	if err := unix.Mount("full", dir, "tmpfs", unix.MS_REMOUNT, "size=512m"); err != nil {
		return err
	}
	if err := os.Remove(filler.Name()); err != nil {
		return err
	}
	for range 2400 {
		if x, err = open(); err == nil {
			break
		}
		if !errors.As(err, &unusable) {
			return err
		}
		if !unusable.Locked {
			if err := index.Reset(filepath.Join(dir, "index")); err != nil {
				return err
			}
			continue
		}
		time.Sleep(50 * time.Millisecond) // Badger has still to notice that there is space
	}
	if err != nil {
		return err
	}
	have, err := x.Packs()
	if err != nil {
		return err
	}
	for p := range uint32(fullPacks) {
		if _, ok := have[packID(p)]; ok && p > added {
			return fmt.Errorf("pack %d was never added", p)
		}
		entries := packEntries(p, 3000)
		if err := x.AddPack(packID(p), entries); err != nil {
			return err
		}
	}
	if err := x.Close(); err != nil {
		return err
	}
	if x, err = open(); err != nil {
		return err
	}
	for p := range uint32(fullPacks) {
		for _, e := range packEntries(p, 3000) {
			if got, ok, err := x.Lookup(e.ID); err != nil || !ok || got != e.Place {
				return fmt.Errorf("pack %d in the end: got %+v, %v, %v", p, got, ok, err)
			}
		}
	}
	fmt.Println("lost", index.LostPages())
	return x.Close()
}

// runFull runs one child, in a mount namespace of its own.
func runFull(t *testing.T, kib int, seed int, how string) (lost int, stderr string, err error) {
	t.Helper()
	cmd := exec.Command("unshare", "-rm", os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %s %s", fullEnv, kib, seed, how, t.TempDir()))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if err == nil {
		if _, err := fmt.Sscanf(out.String(), "lost %d", &lost); err != nil {
			t.Fatalf("the child said %q: %v", out.String(), err)
		}
	}
	return lost, errs.String(), err
}

// Whatever space there is and whoever takes it: the process lives, what is looked up is right, Close
// returns, and with space again the index works.
func TestIndex_SurvivesAFullFileSystem(t *testing.T) {
	rounds := 6
	if n, err := strconv.Atoi(os.Getenv("CRASH_SCALE")); err == nil {
		rounds *= n
	}
	for _, how := range []string{fullBefore, fullDuring, fullAtOnce} {
		t.Run(how, func(t *testing.T) {
			t.Parallel() // they wait most of the time
			lost, hit := 0, 0
			for seed := range rounds {
				kib := 1024 + (seed*7919)%(15<<10)
				n, stderr, err := runFull(t, kib, seed, how)
				if err != nil {
					t.Errorf("%d KiB, seed %d: %v\n%s", kib, seed, err, stderr)
				}
				if n > 0 {
					hit++
				}
				lost += n
			}
			t.Logf("%d rounds, in %d of them %d writes found no space", rounds, hit, lost)
			if hit == 0 {
				t.Error("no write ever met a full file system, so nothing was shown")
			}
		})
	}
}

// Without the guard the same ends the process.
func TestIndex_WithoutTheGuardAFullFileSystemEndsTheProcess(t *testing.T) {
	died := 0
	for seed := range 4 {
		if _, stderr, err := runFull(t, 12<<10, seed, fullControl); err != nil && strings.Contains(stderr, "SIGBUS") {
			died++
		}
	}
	if died == 0 {
		t.Error("it never did, so the guard is not what keeps it alive")
	}
}
