package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inMemory is a directory that no disk is waited for in, where there is such.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "backupd-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// timed runs backupd, which must succeed, and returns how long that took and the processor time of it.
func (b *bench) timed(args ...string) (took, used time.Duration) {
	b.t.Helper()
	cmd := b.command(context.Background(), args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	began := time.Now()
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("backupd %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return time.Since(began), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// noise is incompressible and the same each time.
func noise(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(p)
	return p
}

// bare removes what the last backup made, and makes the repository again.
func (b *bench) bare() {
	for _, name := range []string{"repo", "state", "key", "out"} {
		if err := os.RemoveAll(b.path(name)); err != nil {
			b.t.Fatal(err)
		}
	}
	b.must("repo", "init")
}

func TestIOLimit_HoldsForWhateverReadsAndWrites(t *testing.T) {
	b := newBenchIn(t, inMemory(t))
	const size, rate = 2 << 20, 8 << 20
	if err := os.WriteFile(b.path("file"), noise(size), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		moves float64 // bytes, of the content
		args  []string
	}{
		{"backup", 2, []string{"repo", "backup", b.path("file")}},
		{"check", 1, []string{"repo", "check", "--read-data"}},
		{"restore", 2, []string{"repo", "restore", "latest", "--target", b.path("out")}},
	} {
		// What is worked on is as new each time.
		anew := func() {
			switch c.name {
			case "backup":
				b.bare()
			case "restore":
				if err := os.RemoveAll(b.path("out")); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := time.Duration(c.moves * size / rate * float64(time.Second))
		for try := 1; ; try++ {
			paced, _ := b.timed(append(c.args, fmt.Sprintf("--io-limit=%d", rate)+"B")...)
			anew()
			free, _ := b.timed(c.args...) // the control: the same work without a limit
			// What idle time has saved at the beginning is spent at once: 50 ms of it. It is never too fast; how late the
			// end is neighbours and disks have a say in, so once of three times it has to be in time.
			early, late := paced < want*9/10-50*time.Millisecond, paced > want*11/10+2*free+time.Second
			if early || late && try == 3 {
				t.Errorf("%s: took %v, want about %v (without a limit %v)", c.name, paced, want, free)
			}
			if !late || try == 3 {
				break
			}
			anew()
		}
	}
}

func TestCPULimit_Holds(t *testing.T) {
	b := newBenchIn(t, inMemory(t))
	// Text, which is slow to compress.
	var text bytes.Buffer
	r := rand.New(rand.NewPCG(1, 2))
	for text.Len() < 12<<20 {
		fmt.Fprintf(&text, "%d %s %d\n", r.IntN(1000), strings.Repeat("ab", r.IntN(9)), r.IntN(1e6))
	}
	if err := os.WriteFile(b.path("file"), text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	took, used := b.timed("repo", "backup", b.path("file"), "--cpu-limit=50%")
	b.bare()
	_, free := b.timed("repo", "backup", b.path("file"))
	// What it takes to begin and to end is not in anybody's hands: the processor time of doing nothing.
	_, idle := b.timed("version")
	if share := (used - idle).Seconds() / took.Seconds(); share > 0.55 {
		t.Errorf("%v of processor time in %v: %.2f cores, want 0.5 at most (without a limit it takes %v)", used, took, share, free)
	}
	if took < used {
		t.Errorf("took %v for %v of processor time", took, used)
	}
}

func TestIOLimit_IsCancelledAtOnce(t *testing.T) {
	b := newBench(t)
	if err := os.WriteFile(b.path("file"), noise(8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := b.command(context.Background(), "repo", "backup", b.path("file"), "--io-limit=64K") // four minutes
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.awaitLock(cmd)
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, ok := cmd.Wait().(*exec.ExitError); !ok || cmd.ProcessState.ExitCode() != exitInterrupted {
		t.Errorf("ended with %v, want exit code %d", cmd.ProcessState, exitInterrupted)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v to end", took)
	}
}

// awaitLock returns when a process holds the repository for writing.
func (b *bench) awaitLock(cmd *exec.Cmd) {
	b.t.Helper()
	want := fmt.Sprint(cmd.Process.Pid)
	for range 12_000 {
		if pid, _ := os.ReadFile(b.path("repo/locks/writer")); strings.TrimSpace(string(pid)) == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatal("the backup never took the lock")
}

// peakOf runs backupd and returns the most anonymous memory that was seen of it, in bytes.
func (b *bench) peakOf(args ...string) (peak int64) {
	b.t.Helper()
	cmd := b.command(context.Background(), args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			if err != nil {
				b.t.Fatalf("backupd %s: %v\n%s", strings.Join(args, " "), err, errs.String())
			}
			return peak
		case <-time.After(2 * time.Millisecond):
			if now, err := anonymous(cmd.Process.Pid); err == nil { // it may be over
				peak = max(peak, now)
			}
		}
	}
}

func TestMemory_StaysBelowWhatWasAskedFor(t *testing.T) {
	b := newBenchIn(t, inMemory(t))
	const most = 64 << 20
	files := 50_000
	if testing.Short() {
		files = 5_000
	}
	text := noise(54_096)
	for i := range files {
		dir := b.path(fmt.Sprintf("src/%03d", i/500))
		if i%500 == 0 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(fmt.Sprintf("%s/%d", dir, i), text[i:i+i%1500], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	large := noise(24 << 20) // several large ones go their own way, each with buffers
	for i := range 3 {
		large[0] = byte(i)
		if err := os.WriteFile(b.path(fmt.Sprintf("src/large%d", i)), large[i*1000:], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"repo", "backup", b.path("src")},
		{"repo", "check", "--read-data"},
		{"repo", "restore", "latest", b.path("src/large0"), b.path("src/001"), "--target", b.path("out")},
	} {
		peak := b.peakOf(append(args, "--memory=64M")...)
		if peak > most || peak == 0 {
			t.Errorf("%s --memory=64M: %.1f MiB of anonymous memory", strings.Join(args, " "), float64(peak)/(1<<20))
		}
	}
	// The control: the hashing of a passphrase needs more than that, and is seen, once of a few times however busy the
	// machine is: it takes a fraction of a second.
	if err := os.WriteFile(b.path("passphrase"), []byte("a long one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.must("repo", "key", "add", "--new-passphrase-file", b.path("passphrase"))
	var peak int64
	for try := 0; try < 10 && peak < most; try++ {
		peak = max(peak, b.peakOf("repo", "snapshots", "--key-file=", "--passphrase-file", b.path("passphrase")))
	}
	if peak < most {
		t.Errorf("%.1f MiB for the hashing of a passphrase: memory is not measured", float64(peak)/(1<<20))
	}
	for _, bad := range []string{"63M", "0", "lots", "64"} {
		_, stderr, code := b.run("repo", "snapshots", "--memory="+bad)
		if code != 1 || !strings.Contains(stderr, "--memory: want ") || strings.Count(stderr, "\n") > 2 {
			t.Errorf("--memory=%s: exit code %d\n%s", bad, code, stderr)
		}
	}
}
