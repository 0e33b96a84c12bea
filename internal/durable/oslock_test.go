package durable_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/durable"
)

// lockEnv makes the test binary a process that takes the lock in the directory
// it names and waits to be killed, or for the end of its input, which is the end
// of who started it. Waiting for nothing at all would be a deadlock, of which
// the runtime ends the process a moment later.
const lockEnv = "DURABLE_TEST_LOCK"

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockEnv); dir != "" {
		f, err := durable.OS(dir)
		if err == nil {
			_, err = f.Lock("lock", durable.Exclusive, strconv.Itoa(os.Getpid()))
		}
		if err != nil {
			os.Stdout.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Stdout.WriteString("locked\n")
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func wantHeld(t *testing.T, f durable.FS, mode durable.LockMode, owner string) {
	t.Helper()
	_, err := f.Lock("lock", mode, "me")
	var held *durable.HeldError
	if !errors.As(err, &held) {
		t.Fatalf("got %v, want a HeldError", err)
	}
	if held.Owner != owner {
		t.Fatalf("got owner %q, want %q", held.Owner, owner)
	}
}

func TestLock_EndsWithTheProcessThatHeldIt(t *testing.T) {
	f, dir := openOS(t)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), lockEnv+"="+dir)
	out, err := child.StdoutPipe()
	ok(t, err)
	in, err := child.StdinPipe()
	ok(t, err)
	defer in.Close()
	ok(t, child.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "locked\n" {
		t.Fatalf("child says %q, %v", line, err)
	}
	pid := strconv.Itoa(child.Process.Pid)
	wantHeld(t, f, durable.Exclusive, pid)
	wantHeld(t, f, durable.Shared, pid)
	ok(t, child.Process.Kill())
	if err := child.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child ended by itself: %v", err)
	}

	reader, err := f.Lock("lock", durable.Shared, "")
	ok(t, err)
	// The killed owner's text is still in the file, and is nobody's.
	if data, _ := os.ReadFile(filepath.Join(dir, "lock")); strings.TrimSpace(string(data)) != pid {
		t.Fatalf("lock file holds %q", data)
	}
	wantHeld(t, f, durable.Exclusive, "")
	ok(t, reader.Close())
	writer, err := f.Lock("lock", durable.Exclusive, "me")
	ok(t, err)
	wantHeld(t, f, durable.Shared, "me")
	ok(t, writer.Close())
	if data, err := os.ReadFile(filepath.Join(dir, "lock")); len(data) != 0 || err != nil {
		t.Fatalf("released lock file holds %q, %v", data, err)
	}
}

func TestLock_ShowsOnlyPrintableOwners(t *testing.T) {
	f, dir := openOS(t)
	l, err := f.Lock("lock", durable.Exclusive, "x")
	ok(t, err)
	defer l.Close()
	ok(t, os.WriteFile(filepath.Join(dir, "lock"), []byte("\x1b[31m42\xff\nmore"), 0o600))
	wantHeld(t, f, durable.Shared, "[31m42")
	ok(t, os.WriteFile(filepath.Join(dir, "lock"), []byte(strings.Repeat("9", 1<<20)), 0o600))
	wantHeld(t, f, durable.Shared, strings.Repeat("9", durable.MaxOwner))
}

func TestLock_IsNotFooledByAReplacedFile(t *testing.T) {
	f, dir := openOS(t)
	l, err := f.Lock("lock", durable.Exclusive, "old")
	ok(t, err)
	defer l.Close()
	ok(t, os.Remove(filepath.Join(dir, "lock")))
	again, err := f.Lock("lock", durable.Exclusive, "new")
	ok(t, err)
	defer again.Close()
	wantHeld(t, f, durable.Exclusive, "new")
}
