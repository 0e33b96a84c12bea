package source_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/source"
)

func TestRunHook_SaysWhatWentWrong(t *testing.T) {
	must(t, source.RunHook(t.Context(), []string{"true"}, 0))
	for _, c := range []struct {
		argv []string
		want string
	}{
		{nil, "without a command"},
		{[]string{"/does/not/exist"}, "no such file"},
		{[]string{"sh", "-c", "echo one; echo two >&2; exit 3"}, "exit status 3: one\ntwo"},
		{[]string{"sh", "-c", "yes x | head -c 100000; exit 1"}, "exit status 1: x"},
		{[]string{"sh", "-c", `printf '\377'; exit 1`}, "exit status 1: ?"},
	} {
		err := source.RunHook(t.Context(), c.argv, 0)
		if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 3000 {
			t.Errorf("%q: got %.200v, want %q", c.argv, err, c.want)
		}
	}
}

// No shell looks at the arguments, and nothing of this process's surroundings
// is handed on.
func TestRunHook_HandsOnNothing(t *testing.T) {
	t.Setenv("BACKUPD_TOKEN", "secret")
	dir := t.TempDir()
	must(t, source.RunHook(t.Context(), []string{"sh", "-c", `env >"$1"; printf '%s' "$2" >"$1.arg"; cat >"$1.in"`, "sh", filepath.Join(dir, "env"), "$(id); *"}, 0))
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	must(t, err)
	if strings.Contains(string(env), "secret") || !strings.Contains(string(env), "PATH=") {
		t.Errorf("got %s", env)
	}
	if arg, _ := os.ReadFile(filepath.Join(dir, "env.arg")); string(arg) != "$(id); *" {
		t.Errorf("got argument %q", arg)
	}
	if in, err := os.ReadFile(filepath.Join(dir, "env.in")); err != nil || len(in) > 0 {
		t.Errorf("got input %q, %v", in, err)
	}
}

// stopWhenThere calls cancel when there is a file, and tells when that was.
func stopWhenThere(t *testing.T, path string, cancel func()) <-chan time.Time {
	begun := make(chan time.Time, 1)
	go func() {
		for t.Context().Err() == nil {
			if _, err := os.Stat(path); err == nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		begun <- time.Now()
		cancel()
	}()
	return begun
}

// A command that is stopped takes what it has started with it.
func TestRunHook_StopsAllOfIt(t *testing.T) {
	dir := t.TempDir()
	alive := filepath.Join(dir, "alive")
	ctx, cancel := context.WithCancel(t.Context())
	begun := stopWhenThere(t, alive, cancel)
	err := source.RunHook(ctx, []string{"sh", "-c", `(while :; do date >"$1"; sleep 0.05; done) & wait`, "sh", alive}, 0)
	if err == nil || !strings.Contains(err.Error(), "the backup was stopped") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(<-begun); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	must(t, os.Remove(alive)) // it was there
	time.Sleep(200 * time.Millisecond)
	if _, err := os.Stat(alive); err == nil {
		t.Error("what it started goes on")
	}
}

func TestRunHook_EndsWhenItsTimeIsOver(t *testing.T) {
	begun := time.Now()
	err := source.RunHook(t.Context(), []string{"sleep", "60"}, 200*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "longer than 200ms") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begun); took > 50*time.Second {
		t.Errorf("it took %v", took)
	}
}

// A command that starts something that stays, such as a mount, has done its work when it ends: that the
// other one holds its output is neither a failure nor waited for.
func TestRunHook_SucceedsWhateverItLeavesRunning(t *testing.T) {
	dir := t.TempDir()
	end, stays := filepath.Join(dir, "end"), filepath.Join(dir, "stays")
	t.Cleanup(func() { os.WriteFile(end, nil, 0o600) }) // it must not outlive a test that fails
	// What it left running ends when this test says so, so that a hook which waits for it is beyond its time.
	must(t, source.RunHook(t.Context(), []string{"sh", "-c", `(while [ ! -e "$2" ]; do sleep 0.05; done; echo late; : >"$1") & echo started`, "sh", stays, end}, time.Minute))
	must(t, os.WriteFile(end, nil, 0o600))
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(stays); err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal("what it left running was ended")
		}
	}
}

// A gigabyte of output is read, so that the command does not block, and kept nowhere.
func TestRunHook_OutputOfAnyLengthIsNotKept(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	err := source.RunHook(t.Context(), []string{"sh", "-c", "head -c 1000000000 /dev/zero; echo end >&2; exit 3"}, time.Minute)
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "end") || len(err.Error()) > 3000 {
		t.Errorf("got %.300v", err)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("it took %d bytes", grown)
	}
}

func readPID(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// One that heeds no signal and left its group is not waited for.
func TestRunHook_StopsWaitingForWhatFledItsGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	fled := filepath.Join(t.TempDir(), "fled")
	begun := stopWhenThere(t, fled, cancel)
	t.Cleanup(func() {
		if pid, err := readPID(fled); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	})
	err := source.RunHook(ctx, []string{"sh", "-c", `trap '' TERM INT HUP; setsid sh -c 'echo $$ >"$0.new"; mv "$0.new" "$0"; exec sleep 300' "$0" & wait`, fled}, 0)
	if err == nil || !strings.Contains(err.Error(), "the backup was stopped") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(<-begun); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}
