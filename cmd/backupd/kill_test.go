package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// kills is how many processes TestKill kills: CRASH_KILLS, or a few times CRASH_SCALE.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("CRASH_KILLS")); err == nil {
		return n
	}
	if n, err := strconv.Atoi(os.Getenv("CRASH_SCALE")); err == nil {
		return 30 * n
	}
	if testing.Short() {
		return 8
	}
	return 30
}

// killer remembers what the repository must hold.
type killer struct {
	*bench
	rng   *rand.Rand
	seed  uint64
	live  map[string]string // snapshot id to the digest of what it was made of
	gone  map[string]bool   // forgotten
	took  map[string]time.Duration
	died  map[string]int
	round int
}

// TestKill kills backupd with SIGKILL at random moments of backup, forget, gc and restore. After each the repository is
// whole to its last byte, holds every snapshot it has reported, and the same command run again does its work.
func TestKill_AtAnyMomentLosesNothingCommitted(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("CRASH_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("CRASH_SEED=%d", seed)
	k := &killer{
		bench: newBench(t), rng: rand.New(rand.NewPCG(seed, 0)), seed: seed,
		live: map[string]string{}, gone: map[string]bool{}, took: map[string]time.Duration{}, died: map[string]int{},
	}
	k.change()
	k.backup(false)
	// Which commands are killed is drawn: a long run goes on until it has been three of the four kinds.
	few := func() bool { return kills() > 20 && len(k.died) < 3 }
	for k.round = 0; k.round < kills() || few() && k.round < 10*kills(); k.round++ {
		switch k.rng.IntN(8) {
		case 0:
			k.restore(true)
		case 1, 2:
			k.forget()
		case 3, 4:
			k.gc()
		default:
			k.change()
			k.backup(true)
		}
		if t.Failed() {
			t.Fatalf("round %d of CRASH_SEED=%d", k.round, seed)
		}
	}
	for id := range k.live {
		k.compare(id)
	}
	t.Logf("killed in time: %v", k.died)
	if few() {
		t.Errorf("hardly a process was killed before its end: %v", k.died)
	}
}

// change makes the source another one.
func (k *killer) change() {
	if err := sow(k.path("src"), k.rng.Uint64N(4), 1_500_000); err != nil {
		k.t.Fatal(err)
	}
	if err := os.WriteFile(k.path(fmt.Sprintf("src/extra-%d", k.rng.IntN(10))), fmt.Appendf(nil, "%x", k.rng.Uint64()), 0o644); err != nil {
		k.t.Fatal(err)
	}
}

// kill runs a command and kills it at a random moment, unless it ends before. It tells whether it ended by itself.
func (k *killer) kill(what string, args ...string) (ended bool) {
	k.t.Helper()
	usual := k.took[what]
	if usual == 0 {
		usual = 300 * time.Millisecond
	}
	cmd := k.command(context.Background(), args...)
	// The whole group, as the helpers of a test binary must not survive.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	timer := time.AfterFunc(time.Duration(k.rng.Int64N(int64(usual*5/4))), func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	timer.Stop()
	if code := -1; err == nil {
		k.took[what] = time.Since(start)
		return true
	} else if exit, ok := err.(*exec.ExitError); ok {
		code = exit.ExitCode()
		if what == "restore" && code == exitProblems {
			return true // what is there already is listed
		}
		if code >= 0 {
			k.t.Errorf("%v ended with exit code %d by itself", args, code)
		}
	}
	k.died[what]++
	return false
}

// sound checks everything the repository has promised.
func (k *killer) sound() (ids []string) {
	k.t.Helper()
	if stdout, stderr, code := k.run("repo", "check", "--read-data"); code != 0 {
		k.t.Fatalf("check: exit code %d\n%s%s", code, stdout, stderr)
	}
	var list []struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(k.must("repo", "snapshots", "--json")), &list); err != nil {
		k.t.Fatal(err)
	}
	for _, s := range list {
		ids = append(ids, s.ID)
	}
	return ids
}

func (k *killer) backup(kill bool) {
	k.t.Helper()
	want := digest(k.t, k.path("src"))
	if kill {
		k.kill("backup", "repo", "backup", "src")
		for _, id := range k.sound() {
			if k.live[id] == "" {
				k.live[id] = want // its manifest was in place when the process died
			}
		}
	}
	start := time.Now()
	k.must("repo", "backup", "src")
	if !kill {
		k.took["backup"] = time.Since(start)
	}
	k.expect(want)
}

// expect compares the list of snapshots with what is known; what is new was made of want.
func (k *killer) expect(want string) {
	k.t.Helper()
	ids := k.sound()
	for _, id := range ids {
		if k.live[id] == "" {
			if want == "" || k.gone[id] {
				k.t.Errorf("snapshot %s came from nowhere", id)
			}
			k.live[id] = want
		}
	}
	for id := range k.live {
		if !slices.Contains(ids, id) {
			k.t.Errorf("snapshot %s is lost", id)
		}
	}
}

func (k *killer) any() string {
	ids := make([]string, 0, len(k.live))
	for id := range k.live {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids[k.rng.IntN(len(ids))]
}

func (k *killer) forget() {
	if len(k.live) < 2 {
		return
	}
	id := k.any()
	ended := k.kill("forget", "repo", "forget", id)
	switch there := slices.Contains(k.sound(), id); {
	case there && ended:
		k.t.Errorf("%s was forgotten and is there", id)
	case there:
		k.must("repo", "forget", id)
	}
	delete(k.live, id)
	k.gone[id] = true
	k.expect("")
}

func (k *killer) gc() {
	k.kill("gc", "repo", "gc")
	k.expect("")
	k.compare(k.any())
	k.must("repo", "gc")
	k.expect("")
	k.compare(k.any())
}

// compare restores a snapshot and looks whether it is what it was made of.
func (k *killer) compare(id string) {
	k.t.Helper()
	to := k.path("back")
	if err := os.RemoveAll(to); err != nil {
		k.t.Fatal(err)
	}
	k.must("repo", "restore", id, "--target", to)
	if got := digest(k.t, to+k.path("src")); got != k.live[id] {
		k.t.Errorf("snapshot %s came back as something else", id)
	}
}

func (k *killer) restore(kill bool) {
	id, to := k.any(), k.path("back")
	if err := os.RemoveAll(to); err != nil {
		k.t.Fatal(err)
	}
	if kill {
		k.kill("restore", "repo", "restore", id, "--target", to)
		// What is there is whole and stays, the rest is added.
		if stdout, stderr, code := k.run("repo", "restore", id, "--target", to); code != exitDone && code != exitProblems {
			k.t.Fatalf("restore again: exit code %d\n%s%s", code, stdout, stderr)
		}
		if got := digest(k.t, to+k.path("src")); got != k.live[id] {
			k.t.Errorf("snapshot %s came back as something else", id)
		}
	}
	k.expect("")
}
