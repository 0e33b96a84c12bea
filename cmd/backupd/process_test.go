package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bench is a place to run backupd in: a source, a repository, a key.
type bench struct {
	t   *testing.T
	dir string
	exe string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return newBenchIn(t, t.TempDir())
}

func newBenchIn(t *testing.T, dir string) *bench {
	t.Helper()
	b := &bench{t: t, dir: dir}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Under this name the test binary is backupd.
	b.exe = filepath.Join(b.dir, "bin", "backupd")
	if err := os.Mkdir(filepath.Dir(b.exe), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, b.exe); err != nil {
		t.Fatal(err)
	}
	b.must("repo", "init")
	return b
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// command prepares a run of backupd.
func (b *bench) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.exe, args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "BACKUPD_REPO="+b.path("repo"), "BACKUPD_KEY_FILE="+b.path("key"), "BACKUPD_STATE_DIR="+b.path("state"))
	return cmd
}

// run runs backupd to its end.
func (b *bench) run(args ...string) (stdout, stderr string, code int) {
	b.t.Helper()
	var out, errs bytes.Buffer
	cmd := b.command(context.Background(), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		b.t.Fatal(err)
	}
	return out.String(), errs.String(), code
}

// must runs backupd, which must succeed, and returns its standard output.
func (b *bench) must(args ...string) string {
	b.t.Helper()
	stdout, stderr, code := b.run(args...)
	if code != 0 {
		b.t.Fatalf("backupd %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// digest is a hash over everything below a directory that a restore brings back, apart from owners.
func digest(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(h, "%q %v %v\n", rel, st.Mode(), st.ModTime().UnixNano())
		switch {
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(path)
			fmt.Fprintf(h, "%q\n", to)
			return err
		case d.Type().IsRegular():
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(h, f)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// holding starts a backup of a pipe that does not end, and returns when it holds the repository.
func (b *bench) holding() (cmd *exec.Cmd, feed io.WriteCloser, stderr *bytes.Buffer) {
	b.t.Helper()
	cmd = b.command(context.Background(), "repo", "backup", "--stdin", "endless")
	stderr = &bytes.Buffer{}
	cmd.Stderr = stderr
	feed, err := cmd.StdinPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		feed.Close()
		_ = cmd.Process.Kill() // it has ended in a test that passed
	})
	want := fmt.Sprint(cmd.Process.Pid)
	for range 12_000 {
		pid, _ := os.ReadFile(b.path("repo/locks/writer"))
		if strings.TrimSpace(string(pid)) == want {
			return cmd, feed, stderr
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatalf("the backup never took the lock:\n%s", stderr)
	return nil, nil, nil
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err == nil {
		return 0
	}
	if !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return exit.ExitCode()
}

func TestTwoProcesses_OneWritesTheOthersSayWho(t *testing.T) {
	b := newBench(t)
	if err := sow(b.path("src"), 1, 200_000); err != nil {
		t.Fatal(err)
	}
	b.must("repo", "backup", "src")
	cmd, feed, stderr := b.holding()
	want := fmt.Sprintf("another backupd holds this repository (pid %d)", cmd.Process.Pid)
	for _, args := range [][]string{{"backup", "src"}, {"forget", "latest"}, {"gc"}, {"key", "add", "--new-key-file", "other"}} {
		_, said, code := b.run(append([]string{"repo"}, args...)...)
		if code != exitLocked || !strings.Contains(said, "another backupd holds this repository") {
			t.Errorf("%v beside a backup: got exit code %d, want %d\n%s", args, code, exitLocked, said)
		}
		if args[0] != "gc" && !strings.Contains(said, want) {
			t.Errorf("%v beside a backup: %q is not in:\n%s", args, want, said)
		}
	}
	// Readers come and go.
	for _, args := range [][]string{{"snapshots"}, {"ls", "latest"}, {"restore", "latest", "--target", "back"}, {"check"}, {"stats"}} {
		b.must(append([]string{"repo"}, args...)...)
	}
	if got, want := digest(t, b.path("back"+b.path("src"))), digest(t, b.path("src")); got != want {
		t.Error("restored beside a backup: not the same")
	}
	fmt.Fprint(feed, "that was all")
	feed.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the backup itself: %v\n%s", err, stderr)
	}
	if got := b.must("repo", "cat", "latest", "endless"); got != "that was all" {
		t.Errorf("got %q", got)
	}
	b.must("repo", "check", "--read-data")
}

func TestSignals_EndTheRunAndLeaveTheRepositorySound(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			b := newBench(t)
			cmd, feed, stderr := b.holding()
			if _, err := feed.Write(make([]byte, 3<<20)); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if got := exitCode(t, cmd.Wait()); got != exitInterrupted {
				t.Errorf("got exit code %d, want %d\n%s", got, exitInterrupted, stderr)
			}
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("it took %v to end", took)
			}
			if !strings.Contains(stderr.String(), "interrupted") {
				t.Errorf("it did not say so:\n%s", stderr)
			}
			if got := b.must("repo", "snapshots", "--json"); got != "[]\n" {
				t.Errorf("got snapshots %s", got)
			}
			if err := sow(b.path("src"), 1, 100_000); err != nil {
				t.Fatal(err)
			}
			b.must("repo", "backup", "src")
			b.must("repo", "check", "--read-data")
		})
	}
}

// What changes, shrinks and grows while it is read is in the report or stored whole; what was there at the start and is
// not touched is right.
func TestBackup_OfATreeThatMoves(t *testing.T) {
	b := newBench(t)
	if err := sow(b.path("src/still"), 1, 100_000); err != nil {
		t.Fatal(err)
	}
	if err := sow(b.path("src/moving"), 2, 4_000_000); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		name := b.path("src/moving/noise.bin")
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			switch i % 4 {
			case 0:
				_ = os.Truncate(name, 100)
			case 1:
				_ = os.WriteFile(name, make([]byte, 6<<20), 0o600)
			case 2:
				_ = os.RemoveAll(b.path("src/moving/d1"))
			case 3:
				_ = os.MkdirAll(b.path("src/moving/d1"), 0o755)
				_ = os.WriteFile(b.path("src/moving/d1/again"), []byte("x"), 0o644)
			}
		}
	}()
	for range 6 {
		stdout, stderr, code := b.run("repo", "backup", "src")
		if code != exitDone && code != exitProblems {
			t.Errorf("got exit code %d\n%s%s", code, stdout, stderr)
		}
	}
	close(stop)
	<-done
	b.must("repo", "check", "--read-data")
	b.must("repo", "restore", "latest", b.path("src/still"), "--target", "back")
	if digest(t, b.path("back"+b.path("src/still"))) != digest(t, b.path("src/still")) {
		t.Error("what nobody touched came back changed")
	}
}

// Who stops a command behind a pager that has seen enough gets the shell back, with one line and without a second signal.
func TestSignals_EndACommandWhoseOutputNobodyReads(t *testing.T) {
	b := newBench(t)
	ok(t, os.Mkdir(b.path("src"), 0o755))
	for i := range 3000 { // more than pipe and buffer hold
		ok(t, os.WriteFile(b.path(fmt.Sprintf("src/%0200d", i)), []byte("x"), 0o600))
	}
	b.must("repo", "backup", "src")
	empty := b.path("empty")
	ok(t, os.Mkdir(empty, 0o755))
	b.must("repo", "backup", "empty")
	ids := strings.Fields(b.must("repo", "snapshots"))
	ids = slices.DeleteFunc(ids, func(s string) bool { return !strings.HasPrefix(s, "backup-") })
	if len(ids) < 2 {
		t.Fatalf("got snapshots %q", ids)
	}
	whole, none := ids[0], ids[1]
	if b.must("repo", "ls", none) > b.must("repo", "ls", whole) {
		whole, none = none, whole
	}
	for _, args := range [][]string{{"ls", whole}, {"ls", whole, "--json"}, {"find", "0*"}, {"diff", none, whole}, {"dump", whole}} {
		cmd := b.command(t.Context(), append([]string{"repo"}, args...)...)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.StdoutPipe()
		ok(t, err)
		ok(t, cmd.Start())
		if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, &said)
		}
		start := time.Now()
		ok(t, cmd.Process.Signal(syscall.SIGINT))
		got := exitCode(t, cmd.Wait()) // which reads nothing more
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%v took %v to end", args, took)
		}
		if got != exitInterrupted {
			t.Errorf("%v: got exit code %d, want %d", args, got, exitInterrupted)
		}
		if got := said.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "interrupted") {
			t.Errorf("%v says %q, want one line", args, got)
		}
	}
}
