package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A restore killed at random moments leaves whole files and nothing else under their names, time after time; the same
// command again, which leaves alone what is there, then comes to a tree in which rsync finds no difference, and nothing
// of the dead is left.
func TestRestore_KilledAtAnyMomentLeavesWholeFilesAndIsCompletedByARerun(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("CRASH_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("CRASH_SEED=%d", seed)
	k := &killer{
		bench: newBenchIn(t, fastDir(t)), rng: rand.New(rand.NewPCG(seed, 0)), seed: seed,
		took: map[string]time.Duration{}, died: map[string]int{},
	}
	src, to := k.path("src"), k.path("out")
	sowEverything(t, src, 4000)
	sowWindows(t, src)
	k.must("repo", "backup", src)
	args := []string{"repo", "restore", "latest", "--target", to}
	start := time.Now()
	k.must(args...)
	k.took["restore"] = time.Since(start)
	tally := map[string]int{}
	for round := 0; round < kills()/4+1 || tally["killed"] < 3 && round < 100; round++ {
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
		for range 1 + k.rng.IntN(3) { // also what is completed is killed
			if !k.kill("restore", args...) {
				tally["killed"]++
			}
			whole, partial := compareFiles(t, src, to+src)
			tally["whole"] += whole
			for _, p := range partial {
				t.Errorf("after a kill, under its own name: %s", p)
			}
		}
		if stdout, stderr, code := k.run(args...); code != exitDone && code != exitProblems {
			t.Fatalf("restored again: exit code %d\n%s%s", code, stdout, stderr)
		}
		got, err := exec.Command("rsync", "-aHAXn", "--checksum", "--itemize-changes", "--delete", src+"/", to+src+"/").CombinedOutput()
		if err != nil || len(got) > 0 {
			t.Errorf("rsync finds differences after a rerun: %v\n%.4000s", err, got)
		}
		for _, p := range leftBehind(t, to) {
			t.Errorf("left behind: %s", p)
		}
		if t.Failed() {
			t.Fatalf("round %d of CRASH_SEED=%d", round, seed)
		}
	}
	t.Logf("%v", tally)
	if tally["killed"] < 3 || tally["whole"] == 0 {
		t.Errorf("hardly a restore was killed between its first file and its end: %v", tally)
	}
	// The control: the same kills of a restore that writes under the final names.
	k.exe = filepath.Join(filepath.Dir(k.exe), "restore-in-place")
	if err := os.Symlink(must(os.Executable()), k.exe); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
		ended := k.kill("in place", src, to+src)
		_, partial := compareFiles(t, src, to+src)
		if len(partial) > 0 && ended {
			t.Fatalf("this control proves nothing, as it is wrong at its end: %s", partial[0])
		}
		if len(partial) > 0 {
			return
		}
	}
	t.Error("a restore that writes under the final names was never caught")
}

// Two restores into one place at the same time do not take each other's things for leftovers: both end well, and the
// tree is as after one.
func TestRestore_TwoIntoOnePlaceLeaveEachOtherAlone(t *testing.T) {
	b := newBenchIn(t, fastDir(t))
	src, to := b.path("src"), b.path("out")
	sowEverything(t, src, 4000)
	b.must("repo", "backup", src)
	for range 3 {
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
		var both [2]*exec.Cmd
		var said [2]bytes.Buffer
		for i := range both {
			both[i] = b.command(t.Context(), "repo", "restore", "latest", "--target", to)
			both[i].Stderr = &said[i]
			if err := both[i].Start(); err != nil {
				t.Fatal(err)
			}
		}
		for i := range both {
			if code := exitCode(t, both[i].Wait()); code != exitDone && code != exitProblems || strings.Contains(said[i].String(), "create") {
				t.Errorf("one of two: exit code %d\n%.2000s", code, said[i].String())
			}
		}
		got, err := exec.Command("rsync", "-aHAXn", "--checksum", "--itemize-changes", "--delete", src+"/", to+src+"/").CombinedOutput()
		if err != nil || len(got) > 0 {
			t.Errorf("rsync finds differences: %v\n%.4000s", err, got)
		}
		for _, p := range leftBehind(t, to) {
			t.Errorf("left behind: %s", p)
		}
	}
}

func must(path string, err error) string {
	if err != nil {
		panic(err)
	}
	return path
}

// sowWindows adds a file that is spread over several windows of the plan, and one with holes.
func sowWindows(t *testing.T, src string) {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{1})
	f, err := os.Create(filepath.Join(src, "d000", "windows"))
	if err == nil {
		_, err = io.CopyN(f, rng, 80<<20)
		f.Close()
	}
	if err == nil {
		f, err = os.Create(filepath.Join(src, "d001", "sparse"))
	}
	if err == nil {
		for off := int64(0); off < 64<<20 && err == nil; off += 8 << 20 {
			_, err = f.Seek(off, io.SeekStart)
			if err == nil {
				_, err = io.CopyN(f, rng, 100_000)
			}
		}
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// compareFiles looks at everything in got that is no directory. It counts what is as in want, and describes the rest.
func compareFiles(t *testing.T, want, got string) (whole int, partial []string) {
	t.Helper()
	err := filepath.WalkDir(got, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if path == got {
				return nil // not even begun
			}
			return err
		}
		if d.IsDir() {
			return nil
		}
		rel := strings.TrimPrefix(path, got)
		var a, b unix.Stat_t
		if err := unix.Lstat(path, &a); err != nil {
			return err
		}
		switch err := unix.Lstat(want+rel, &b); {
		case err == unix.ENOENT:
			partial = append(partial, rel+": nobody knows it")
			return nil
		case err != nil:
			return err
		}
		if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev || a.Size != b.Size || a.Mtim != b.Mtim || attributes(path) != attributes(want+rel) {
			partial = append(partial, fmt.Sprintf("%s: %+v, want %+v", rel, a, b))
			return nil
		}
		same := true
		switch d.Type() {
		case 0:
			same, err = sameBytes(path, want+rel)
		case fs.ModeSymlink:
			x, errX := os.Readlink(path)
			y, errY := os.Readlink(want + rel)
			same = x == y && errX == nil && errY == nil
		}
		if err == nil && !same {
			partial = append(partial, rel+": other bytes")
		} else {
			whole++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return whole, partial
}

// attributes are the names of the extended attributes with their values.
func attributes(path string) string {
	var names [4096]byte
	var value [4096]byte
	var all strings.Builder
	n, err := unix.Llistxattr(path, names[:])
	if err != nil {
		return err.Error()
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if n, err := unix.Lgetxattr(path, name, value[:]); err == nil {
			fmt.Fprintf(&all, "%s=%x\n", name, value[:n])
		}
	}
	return all.String()
}

func sameBytes(a, b string) (bool, error) {
	x, err := os.ReadFile(a)
	if err != nil {
		return false, err
	}
	y, err := os.ReadFile(b)
	return bytes.Equal(x, y), err
}

// leftBehind is what only a restore that did not come to its end leaves: stages, and directories that are not finished.
func leftBehind(t *testing.T, dir string) (left []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		st, err := d.Info()
		if strings.HasPrefix(d.Name(), ".backupd-") || st.Sys().(*syscall.Stat_t).Mode&0o7777 == 0o1700 {
			left = append(left, fmt.Sprint(path, " ", st.Mode()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// restoreInPlace is what this test must catch: it copies the files of a tree the plain way, each under its name from the
// beginning.
func restoreInPlace() {
	from, to := os.Args[1], os.Args[2]
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(path, from)
		if d.IsDir() {
			return os.MkdirAll(to+rel, 0o700)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		return copyInPlace(path, to+rel)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func copyInPlace(from, to string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return err
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for len(b) > 0 {
		n := min(len(b), 64<<10)
		if _, err := f.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	var names, value [4096]byte
	n, err := unix.Llistxattr(from, names[:])
	if err != nil {
		return err
	}
	if err := unix.Fchmod(int(f.Fd()), st.Mode&0o7777); err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if n, err := unix.Lgetxattr(from, name, value[:]); err == nil {
			if err := unix.Setxattr(to, name, value[:n], 0); err != nil {
				return err
			}
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{st.Atim, st.Mtim}, 0)
}
