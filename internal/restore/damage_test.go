package restore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/restore"
	"github.com/generalbots/backupd/internal/target"
)

// packs are the files of the repository that hold chunks, largest first.
func (f *fixture) packs(t testing.TB) (list []string) {
	t.Helper()
	must(t, filepath.WalkDir(f.dir+"/packs", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, p)
		}
		return err
	}))
	size := func(p string) int64 { st, _ := os.Stat(p); return st.Size() }
	for i := range list {
		if size(list[i]) > size(list[0]) {
			list[0], list[i] = list[i], list[0]
		}
	}
	return list
}

// A flipped byte costs the files of one block; all else is restored.
func TestRun_ReportsDamage(t *testing.T) {
	src := filepath.Join(scratch(t), "s")
	for i := range 60 {
		write(t, src, map[string]string{fmt.Sprintf("d%d/f%02d", i%7, i): string(noise(uint64(i)+100, 40<<10))})
	}
	write(t, src, map[string]string{"big": string(noise(999, 3<<20)), "empty": ""})
	must(t, os.Link(src+"/big", src+"/d0/big link"))
	stamp(t, src)
	f := newRepo(t)
	m := f.backup(t, src)
	want := snapshotOf(t, src)
	pack := f.packs(t)[0]
	whole := readAll(t, pack)
	name := strings.TrimSuffix(filepath.Base(pack), filepath.Ext(pack))
	damagedOnce := false
	for _, at := range []int{1 << 10, len(whole) / 3, len(whole) / 2, len(whole) * 2 / 3} {
		b := bytes.Clone(whole)
		b[at] ^= 1
		must(t, os.Chmod(pack, 0o600))
		must(t, os.WriteFile(pack, b, 0o600))
		out := scratch(t)
		rep := into(t, f.reopen(t), m, out, restore.Options{})
		if rep.ProblemCount > 0 {
			damagedOnce = true
		}
		lost := make(map[string]bool)
		for _, p := range rep.Problems {
			lost[strings.TrimPrefix(string(p.Path), src)] = true
			if p.Op != "read" || !strings.Contains(p.Text, name) {
				t.Errorf("problem %+v does not name the pack %s", p, name)
			}
		}
		got := snapshotOf(t, out+src)
		for p, line := range want {
			if _, there := got[p]; there == lost[p] {
				t.Errorf("byte %d: %s: there %v, reported %v", at, p, there, lost[p])
			} else if there && got[p] != line && !(lost["/big"] && strings.Contains(p, "big")) {
				t.Errorf("byte %d: %s: got %s, want %s", at, p, got[p], line)
			}
		}
		if lost["/big"] != lost["/d0/big link"] {
			t.Errorf("byte %d: of a file with two names one is lost: %v", at, lost)
		}
		if rep.Status != "completed_with_problems" && len(lost) > 0 || len(lost) == 0 && rep.Status != "completed" {
			t.Errorf("byte %d: status %s with %d lost", at, rep.Status, len(lost))
		}
		if rep.Damaged != rep.ProblemCount {
			t.Errorf("byte %d: %d of %d problems count as damage", at, rep.Damaged, rep.ProblemCount)
		}
		if len(lost) > 20 {
			t.Errorf("byte %d: %d files lost to one byte", at, len(lost))
		}
	}
	if !damagedOnce {
		t.Error("no flipped byte was ever noticed")
	}

	// Without its table of contents all of a pack is lost, and a note says why.
	b := bytes.Clone(whole)
	b[len(b)-100] ^= 1
	must(t, os.WriteFile(pack, b, 0o600))
	if rep := into(t, f.reopen(t), m, scratch(t), restore.Options{}); rep.Damaged < 50 || !strings.Contains(strings.Join(rep.Notes, "\n"), name) {
		t.Errorf("pack without its trailer: %d damaged, notes %q", rep.Damaged, rep.Notes)
	}
	b[len(b)-100] ^= 1
	b[len(b)/2] ^= 1
	must(t, os.WriteFile(pack, b, 0o600))

	// A damaged file under a name that is taken leaves what stands there.
	out := scratch(t)
	for p := range want {
		if st, err := os.Stat(src + p); err == nil && !st.IsDir() {
			write(t, out+src, map[string]string{p: "old"})
		}
	}
	rep := into(t, f.reopen(t), m, out, restore.Options{Overwrite: target.Always})
	for _, p := range rep.Problems {
		if got := string(readAll(t, out+string(p.Path))); got != "old" {
			t.Errorf("%s was lost, and what stood there too", p.Path)
		}
	}
	if strings.Contains(listing(t, out), ".backupd-") {
		t.Error("temporary files were left")
	}

	// A pack that is gone: the dry run knows.
	must(t, os.Remove(pack))
	dry, err := restore.Run(t.Context(), f.reopen(t), m, nil, restore.Options{DryRun: true}, nil)
	must(t, err)
	if rep = into(t, f.reopen(t), m, scratch(t), restore.Options{}); rep.ProblemCount < 50 || dry.ProblemCount+1 != rep.ProblemCount {
		t.Errorf("without the pack: %d problems, %d in the dry run", rep.ProblemCount, dry.ProblemCount)
	}
}

// Whenever it is cancelled, a run leaves no goroutine, no descriptor and no
// file that is not complete.
func TestRun_CancelledAtAnyMoment(t *testing.T) {
	src := filepath.Join(scratch(t), "s")
	must(t, os.MkdirAll(src, 0o755))
	plantRandom(t, rand.New(rand.NewPCG(9, 9)), src, 600)
	must(t, os.WriteFile(src+"/large", noise(4, 8<<20), 0o600))
	stamp(t, src)
	f := newRepo(t)
	m := f.backup(t, src)
	want := snapshotOf(t, src)
	whole := time.Hour
	for range 3 {
		start := time.Now()
		into(t, f.Repo, m, scratch(t), restore.Options{})
		whole = min(whole, time.Since(start))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	cancelled := 0
	// A machine that has less to do than while it was measured ends sooner: then there are more of them.
	for round := 0; round < 30 || cancelled < 10 && round < 300; round++ {
		overwrite := target.Overwrite(rng.IntN(2) * 2)
		out := scratch(t)
		if overwrite == target.Always {
			write(t, out+src, map[string]string{"large": "old"})
		}
		before := descriptors(t)
		goroutines := runtime.NumGoroutine()
		reason := errors.New("that is enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		timer := time.AfterFunc(time.Duration(rng.Int64N(int64(whole))), func() { cancel(reason) })
		d, err := target.OpenDirectory(out, target.Options{Privileged: true, Overwrite: overwrite})
		must(t, err)
		rep, err := restore.Run(ctx, f.Repo, m, d, restore.Options{Overwrite: overwrite}, nil)
		timer.Stop()
		cancel(nil)
		must(t, d.Close())
		if errors.Is(err, reason) {
			cancelled++
		} else if err != nil {
			t.Fatal(err)
		}
		if rep != nil && rep.ProblemCount > 0 {
			t.Errorf("a cancelled run reports %+v", rep.Problems)
		}
		for range 20_000 {
			if runtime.NumGoroutine() <= goroutines {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if n := runtime.NumGoroutine(); n > goroutines {
			t.Errorf("%d goroutines are left, were %d", n, goroutines)
		}
		if n := descriptors(t); n > before+len(f.packs(t)) { // packs stay open in the repository's cache
			t.Errorf("%d descriptors are left, were %d", n, before)
		}
		if _, err := os.Stat(out + src); err != nil {
			continue
		}
		for p, line := range snapshotOf(t, out+src) {
			if strings.Contains(p, "/.backupd-") {
				t.Errorf("%s is left", p)
			}
			st, err := os.Lstat(out + src + p)
			must(t, err)
			if st.Mode().IsRegular() && withoutLinks(line) != withoutLinks(want[p]) &&
				!(p == "/large" && overwrite == target.Always && string(readAll(t, out+src+p)) == "old") {
				t.Errorf("%s is not complete:\n got %s\nwant %s", p, line, want[p])
			}
		}
	}
	if cancelled < 10 {
		t.Errorf("only %d of 300 runs were cancelled before their end", cancelled)
	}
}

// withoutLinks leaves out what depends on the other names of a file.
func withoutLinks(line string) string {
	before, _, _ := strings.Cut(line, " nlink ")
	return before
}

func descriptors(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(list)
}
