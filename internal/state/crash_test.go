package state_test

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/state"
)

const childMode, childPath = "STATE_TEST_MODE", "STATE_TEST_PATH"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		if err := beChild(mode, os.Getenv(childPath)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(t *testing.T, mode, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childMode+"="+mode, childPath+"="+path)
	return cmd
}

// beChild writes for ever, telling on stdout what it was promised.
func beChild(mode, path string) error {
	if mode == "unjudged" {
		if err := state.OpenUnjudged(path); err != nil {
			fmt.Println(err) // an error is a good end
		}
		return nil
	}
	db, err := state.Open(path, repository)
	if err != nil {
		return err
	}
	_, n, err := db.Jobs(nil, 0, 1)
	if err != nil {
		return err
	}
	for ; ; n++ {
		if mode == "early" { // the control: a promise before the deed
			fmt.Println(n)
		}
		id := fmt.Sprint("job-", n)
		err := db.Update(func(tx *state.Tx) error {
			at := epoch.Add(time.Duration(n) * time.Second)
			j := state.Job{ID: id, State: "pending", CreatedAt: at, ErrorMessage: strings.Repeat("x", n*97%9000)}
			a := state.Answer{Principal: "p", Status: 201, Resource: id, CreatedAt: at}
			if n > 20 && n%3 == 0 {
				old, err := tx.Job(fmt.Sprint("job-", n-20))
				if err != nil {
					return err
				}
				old.State, old.ErrorMessage = "completed", ""
				if err := tx.PutJob(old); err != nil {
					return err
				}
			}
			return errors.Join(tx.PutJob(j), tx.PutAnswer("key-"+id, a))
		})
		if err != nil {
			return err
		}
		if mode != "early" {
			fmt.Println(n)
		}
	}
}

// killed runs a child and kills it at a random moment; acked is the last number it printed.
func killed(t *testing.T, r *rand.Rand, mode, path string) (acked int) {
	t.Helper()
	cmd := child(t, mode, path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	acked = -1
	first := true
	for lines.Scan() {
		if acked, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(err)
		}
		if first {
			first = false
			time.AfterFunc(time.Duration(r.IntN(60_000))*time.Microsecond, func() { cmd.Process.Kill() })
		}
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") || acked < 0 {
		t.Fatalf("child ended with %v at %d", err, acked)
	}
	return acked
}

// lost opens what the killed child left and returns how many of its promises are broken.
func lost(t *testing.T, path string, acked int) (missing int) {
	t.Helper()
	db, err := state.Open(path, repository)
	must(t, err)
	defer db.Close()
	jobs, total, err := db.Jobs(nil, 0, 0)
	must(t, err)
	for i, j := range jobs { // newest first and without a gap: a job never stands without the one before
		if want := fmt.Sprint("job-", total-1-i); j.ID != want {
			t.Fatalf("%s where %s should be", j.ID, want)
		}
		if a, err := db.Answer("p", "key-"+j.ID); err != nil || a.Resource != j.ID {
			t.Fatalf("%s has no answer: %+v %v", j.ID, a, err)
		}
	}
	if _, err := db.Answer("p", fmt.Sprint("key-job-", total)); !errors.Is(err, state.ErrNotFound) {
		t.Fatalf("an answer without its job: %v", err)
	}
	return max(0, acked+1-total)
}

func TestState_KeepsWhatItAcknowledgedThroughKill(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 4))
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	if scale, err := strconv.Atoi(os.Getenv("CRASH_SCALE")); err == nil {
		rounds *= scale
	}
	path := filepath.Join(t.TempDir(), "state.db")
	for range rounds {
		if n := lost(t, path, killed(t, r, "write", path)); n > 0 {
			t.Fatalf("%d acknowledged jobs are gone", n)
		}
	}
	for range 100 { // the control: whoever promises first is caught
		path := filepath.Join(t.TempDir(), "state.db")
		if lost(t, path, killed(t, r, "early", path)) > 0 {
			return
		}
	}
	t.Error("a child that acknowledges before it writes was never caught")
}

// unwritten is how many pages of a file are not on the disk yet; ok is false
// where the kernel or the file system does not know.
func unwritten(t *testing.T, path string) (n uint64, ok bool) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	var stat unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &stat, 0); err != nil {
		t.Logf("cachestat: %v", err)
		return 0, false
	}
	return stat.Dirty + stat.Writeback, true
}

// A kill does not lose what the kernel has, so it can not tell whether the data
// is on the disk. The kernel can: after a Put no page of the file waits to be written.
func TestPut_IsOnTheDiskWhenItReturns(t *testing.T) {
	// A temporary directory may lie in memory; the checkout mostly does not.
	beside, err := os.MkdirTemp(".", "durable-test-")
	must(t, err)
	defer os.RemoveAll(beside)
	for _, dir := range []string{t.TempDir(), beside} {
		loose, err := state.OpenUnsynced(filepath.Join(dir, "loose.db"), repository)
		must(t, err)
		must(t, loose.PutJob(state.Job{ID: "a", CreatedAt: epoch}))
		n, known := unwritten(t, filepath.Join(dir, "loose.db"))
		must(t, loose.Close())
		if !known || n == 0 {
			t.Logf("%s: nothing is ever seen to wait for the disk there", dir)
			continue
		}
		path := filepath.Join(dir, "state.db")
		db := openAt(t, path)
		for i := range 50 {
			must(t, db.PutJob(state.Job{ID: fmt.Sprint(i), CreatedAt: epoch, ErrorMessage: strings.Repeat("x", i*300)}))
			if n, _ := unwritten(t, path); n != 0 {
				t.Fatalf("%d pages wait for the disk after a Put", n)
			}
		}
		must(t, db.Close())
		return
	}
}
