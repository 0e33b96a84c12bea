package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
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
)

const namespaceEnv = "BACKUPD_TEST_IN_NAMESPACE"

// inNamespace runs the calling test again in a mount namespace of its own, where it may mount. It tells the caller
// whether it is that one.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(namespaceEnv) == t.Name() {
		return true
	}
	cmd := exec.Command("unshare", "-rm", os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), namespaceEnv+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("in a namespace: %v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
	return false
}

// smallDisk mounts a file system of so many KiB.
func (b *bench) smallDisk(name string, kib int) *smallDisk {
	b.t.Helper()
	d := &smallDisk{t: b.t, dir: b.path(name)}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := unix.Mount("small", d.dir, "tmpfs", 0, fmt.Sprintf("size=%dk", kib)); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := unix.Unmount(d.dir, unix.MNT_DETACH); err != nil {
			b.t.Error(err)
		}
	})
	return d
}

type smallDisk struct {
	t   *testing.T
	dir string
}

// fill takes all space but leave bytes of it. It takes no error for one: who races with it may win.
func (d *smallDisk) fill(leave int64) {
	f, err := os.OpenFile(filepath.Join(d.dir, "filler"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); err != nil {
			break
		}
	}
	if st, err := f.Stat(); err == nil && leave > 0 {
		_ = f.Truncate(max(0, st.Size()-leave))
	}
}

func (d *smallDisk) unfill() {
	if err := os.Remove(filepath.Join(d.dir, "filler")); err != nil && !os.IsNotExist(err) {
		d.t.Fatal(err)
	}
}

func (d *smallDisk) free() uint64 {
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		d.t.Fatal(err)
	}
	return st.Bavail * uint64(st.Bsize)
}

// race fills and frees the disk until it is told to stop.
func (d *smallDisk) race(seed uint64) (stop func()) {
	end := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		r := rand.New(rand.NewPCG(seed, 3))
		for {
			select {
			case <-end:
				return
			case <-time.After(time.Duration(r.IntN(4000)) * time.Microsecond):
			}
			// Back above the index's reserve now and then, so that it begins, and then all at once.
			d.fill(r.Int64N(80 << 20))
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
			d.fill(0)
		}
	})
	return func() { close(end); done.Wait() }
}

func (b *bench) snapshotCount() int {
	b.t.Helper()
	var list []json.RawMessage
	if err := json.Unmarshal([]byte(b.must("repo", "snapshots", "--json")), &list); err != nil {
		b.t.Fatal(err)
	}
	return len(list)
}

// unbroken fails when a process did not end by itself.
func unbroken(t *testing.T, what, stderr string, code int) {
	t.Helper()
	for _, word := range []string{"SIGBUS", "SIGSEGV", "goroutine ", "panic", "internal error"} {
		if strings.Contains(stderr, word) || code < 0 || code == 2 {
			t.Fatalf("%s: exit code %d\n%s", what, code, stderr)
		}
	}
}

// A state disk of any size, full to any degree, and filled by somebody while the backup runs: each backup is made, one
// warning says what to do, and with room again everything is as it should be.
func TestFullDisk_StateNeverCostsABackup(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	rounds := 10
	if n, err := strconv.Atoi(os.Getenv("CRASH_SCALE")); err == nil {
		rounds *= n
	}
	rng := rand.New(rand.NewPCG(6, 6))
	without, with := 0, 0
	for round := range rounds {
		b := newBench(t)
		kib := 64 + rng.IntN(64<<10)
		if round%2 == 1 {
			kib = 70<<10 + rng.IntN(40<<10) // above the reserve: the index begins
		}
		d := b.smallDisk("state", kib)
		if round%4 < 2 {
			d.fill(rng.Int64N(int64(kib)<<10 + 1))
		}
		racing := func() {}
		if round%3 != 0 {
			racing = d.race(uint64(round))
		}
		for run := range 3 {
			if err := sow(b.path("src"), uint64(10*round+run), 4_000_000); err != nil {
				t.Fatal(err)
			}
			stdout, stderr, code := b.run("repo", "backup", "src")
			what := fmt.Sprintf("round %d, run %d, %d KiB", round, run, kib)
			unbroken(t, what, stderr, code)
			if code != exitDone || !strings.HasPrefix(stdout, "backup-") {
				t.Errorf("%s: exit code %d\n%s", what, code, stderr)
			}
			switch n := strings.Count(stderr, "going on without the index"); {
			case n > 1:
				t.Errorf("%s: warned %d times\n%s", what, n, stderr)
			case n == 1:
				without++
			default:
				with++
			}
		}
		for _, args := range [][]string{{"forget", "latest"}, {"gc"}} {
			_, stderr, code := b.run(append([]string{"repo"}, args...)...)
			unbroken(t, args[0], stderr, code)
			if code != exitDone {
				t.Errorf("round %d, %s: exit code %d\n%s", round, args[0], code, stderr)
			}
		}
		racing()
		d.unfill()
		if err := unix.Mount("small", d.dir, "tmpfs", unix.MS_REMOUNT, "size=256m"); err != nil {
			t.Fatal(err)
		}
		if got := b.snapshotCount(); got != 2 {
			t.Errorf("round %d: %d snapshots, want 2", round, got)
		}
		_, stderr, code := b.run("repo", "backup", "src")
		if code != exitDone || strings.Contains(stderr, "gone") || strings.Contains(stderr, "without the index") {
			t.Errorf("round %d, with room again: exit code %d\n%s", round, code, stderr)
		}
		b.must("repo", "check", "--read-data")
		b.must("repo", "restore", "latest", "--target", "back")
		if digest(t, b.path("back"+b.path("src"))) != digest(t, b.path("src")) {
			t.Errorf("round %d: not the same", round)
		}
	}
	t.Logf("%d backups with the index to the end, %d without", with, without)
	if with == 0 || without == 0 {
		t.Error("only one of the two was shown")
	}
}

// A full repository: the backup fails and says what to do, what was there can be read, forgotten space comes back by a gc
// that has not one byte, and then the backup is made.
func TestFullDisk_RepositoryStaysWholeAndGCNeedsNoSpace(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for round := range 4 {
		rng := rand.New(rand.NewPCG(uint64(round), 7))
		b := newBench(t)
		if err := os.RemoveAll(b.path("repo")); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(b.path("key")); err != nil {
			t.Fatal(err)
		}
		d := b.smallDisk("repo", 200<<10)
		b.must("repo", "init")
		for i := range 2 {
			if err := sow(b.path("src"), uint64(100*round+i), 6_000_000); err != nil {
				t.Fatal(err)
			}
			b.must("repo", "backup", "src")
		}
		was := digest(t, b.path("src"))
		b.must("repo", "forget", strings.Fields(firstID(t, b))[0])
		if err := sow(b.path("big"), 9, 40_000_000); err != nil {
			t.Fatal(err)
		}
		racing := func() {}
		if round%2 == 1 {
			racing = d.race(uint64(round))
		}
		d.fill(rng.Int64N(24 << 20))
		for range 2 {
			_, stderr, code := b.run("repo", "backup", "big")
			unbroken(t, "backup", stderr, code)
			if code == exitDone {
				continue // the racer left enough
			}
			if code != exitFailed || !strings.Contains(stderr, "make room") {
				t.Errorf("backup into a full repository: exit code %d\n%s", code, stderr)
			}
		}
		racing()
		d.fill(0)
		if free := d.free(); free != 0 {
			t.Fatalf("%d bytes are free", free)
		}
		for _, args := range [][]string{{"forget", "latest"}, {"key", "add", "--new-key-file", "second"}, {"backup", "big"}} {
			_, stderr, code := b.run(append([]string{"repo"}, args...)...)
			unbroken(t, args[0], stderr, code)
			if code != exitFailed || !strings.Contains(stderr, "make room") {
				t.Errorf("%v without space: exit code %d\n%s", args, code, stderr)
			}
		}
		before := b.snapshotCount()
		b.must("repo", "check", "--read-data")
		if before == 1 { // the racer left no room for a snapshot without src
			b.must("repo", "restore", "latest", b.path("src"), "--target", "back")
			if digest(t, b.path("back"+b.path("src"))) != was {
				t.Error("what was there is not the same")
			}
		}
		_, stderr, code := b.run("repo", "gc")
		if code != exitDone || d.free() == 0 {
			t.Fatalf("gc with no byte free: exit code %d, %d bytes freed\n%s", code, d.free(), stderr)
		}
		t.Logf("gc with no byte free gave back %d MB", d.free()>>20)
		b.must("repo", "check", "--read-data")
		if got := b.snapshotCount(); got != before {
			t.Errorf("%d snapshots, there were %d", got, before)
		}
		d.unfill()
		b.must("repo", "backup", "big")
		b.must("repo", "check", "--read-data")
	}
}

func firstID(t *testing.T, b *bench) string {
	t.Helper()
	var list []struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(b.must("repo", "snapshots", "--json")), &list); err != nil || len(list) == 0 {
		t.Fatalf("%d snapshots, %v", len(list), err)
	}
	return list[0].ID
}

// A repository that can not be made for want of space is made when there is some, and a key that could not be written is
// not said to be there.
func TestFullDisk_InitAndRestore(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	b := newBench(t)
	if err := sow(b.path("src"), 1, 8_000_000); err != nil {
		t.Fatal(err)
	}
	b.must("repo", "backup", "src")

	failed := 0
	for kib := 4; kib <= 1<<11; kib *= 8 {
		d := b.smallDisk(fmt.Sprintf("disk%d", kib), kib)
		for _, where := range []struct{ repo, key string }{{d.dir + "/repo", b.path(fmt.Sprintf("k%d", kib))}, {b.path(fmt.Sprintf("r%d", kib)), d.dir + "/key"}} {
			if where.key == d.dir+"/key" {
				d.fill(0)
			}
			args := []string{"repo", "init", "--repo", where.repo, "--key-file", where.key}
			_, stderr, code := b.run(args...)
			unbroken(t, "init", stderr, code)
			if code != exitDone {
				if code != exitFailed || !strings.Contains(stderr, "make room") {
					t.Errorf("init with %d KiB: exit code %d\n%s", kib, code, stderr)
				}
				if _, err := os.Stat(where.repo + "/format"); err == nil {
					t.Errorf("init with %d KiB failed and left a repository", kib)
				}
				failed++
			}
			if err := unix.Mount("small", d.dir, "tmpfs", unix.MS_REMOUNT, "size=128m"); err != nil {
				t.Fatal(err)
			}
			d.unfill()
			if code != exitDone {
				_ = os.Remove(where.key) // where it was written it is of no use
				b.must(args...)
			}
			b.must("repo", "backup", "src", "--repo", where.repo, "--key-file", where.key, "--state-dir", where.repo+".state")
			b.must("repo", "check", "--read-data", "--repo", where.repo, "--key-file", where.key, "--state-dir", where.repo+".state")
			if err := os.RemoveAll(where.repo); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(where.repo + ".state"); err != nil {
				t.Fatal(err)
			}
		}
	}

	if failed == 0 {
		t.Error("every init found space")
	}

	for _, kib := range []int{64, 1 << 10, 3 << 10, 6 << 10} {
		d := b.smallDisk(fmt.Sprintf("target%d", kib), kib)
		_, stderr, code := b.run("repo", "restore", "latest", "--target", d.dir)
		unbroken(t, "restore", stderr, code)
		if code != exitFailed || !strings.Contains(stderr, "make room") || !strings.Contains(stderr, "the restore ends here") {
			t.Errorf("restore into %d KiB: exit code %d\n%s", kib, code, stderr)
		}
		// What has its name is whole.
		root := d.dir + b.path("src")
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return nil
			}
			got, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			want, err := os.ReadFile(b.path("src") + strings.TrimPrefix(path, root))
			if err == nil && !bytes.Equal(got, want) {
				t.Errorf("%s: %d of %d bytes", path, len(got), len(want))
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
