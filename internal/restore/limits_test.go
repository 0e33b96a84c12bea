package restore_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/restore"
	"github.com/generalbots/backupd/internal/target"
)

// A full file system ends the run; what is complete by then stays, no half
// file does.
func TestRun_EndsWhenTheTargetIsFull(t *testing.T) {
	src := filepath.Join(scratch(t), "s")
	for i := range 20 {
		write(t, src, map[string]string{string(rune('a' + i)): string(noise(uint64(i), 300<<10))})
	}
	f := newRepo(t)
	m := f.backup(t, src)
	out := scratch(t)
	if err := unix.Mount("small", out, "tmpfs", 0, "size=2m"); err != nil {
		t.Logf("can not mount a small file system: %v", err)
		return
	}
	defer unix.Unmount(out, unix.MNT_DETACH)
	rep, err := tryInto(t, f.Repo, m, out, restore.Options{})
	if !errors.Is(err, syscall.ENOSPC) || rep == nil || rep.ProblemCount != 0 {
		t.Fatalf("got %v and %+v, want ENOSPC and a report without problems", err, rep)
	}
	want := snapshotOf(t, src)
	for p, line := range snapshotOf(t, out+src) {
		if p != "" && line != want[p] {
			t.Errorf("%s is not complete", p)
		}
	}
}

const (
	unprivilegedChild = "BACKUPD_TEST_UNPRIVILEGED_DIR" // tells the child where it may write
	somebody          = 65534
)

// TestRun_WithoutPrivileges restores as somebody else what root backed up.
func TestRun_WithoutPrivileges(t *testing.T) {
	if dir := os.Getenv(unprivilegedChild); dir != "" {
		restoreUnprivileged(t, dir)
		return
	}
	if os.Geteuid() != 0 {
		restoreUnprivileged(t, scratch(t))
		return
	}
	dir := scratch(t)
	must(t, os.Chmod(dir, 0o777))
	// Somebody else may run this program, whatever umask it was built with.
	program, err := os.Executable()
	must(t, errors.Join(err, os.Chmod(program, 0o755)))
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestRun_WithoutPrivileges$", "-test.v")
	cmd.Env = append(os.Environ(), unprivilegedChild+"="+dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: somebody, Gid: somebody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as user %d: %v\n%s", somebody, err, out)
	}
}

func restoreUnprivileged(t *testing.T, dir string) {
	// All kinds somebody may make come back whole, directories of mode 0555 included.
	src := filepath.Join(dir, "src")
	must(t, os.Mkdir(src, 0o755))
	plantAllKinds(t, src)
	f := newRepo(t)
	m := f.backup(t, src)
	out := filepath.Join(dir, "out")
	rep := into(t, f.Repo, m, out, restore.Options{Paths: paths(src), Verify: true})
	wantClean(t, rep)
	wantSame(t, snapshotOf(t, src), snapshotOf(t, out+src))
	rep = into(t, f.Repo, m, out, restore.Options{Paths: paths(src), Overwrite: target.Always})
	wantClean(t, rep)
	wantSame(t, snapshotOf(t, src), snapshotOf(t, out+src))
	for _, p := range []string{src, out + src} {
		must(t, os.Chmod(p+"/ro", 0o755)) // so that it can be removed
	}
}

// Without privileges setuid bits, devices, capabilities and trusted
// attributes are left off, and the report says so; that is no problem.
func TestRun_LeavesOffWhatNeedsPrivileges(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can plant what is left off")
		return
	}
	src := filepath.Join(scratch(t), "src")
	must(t, os.Mkdir(src, 0o755))
	plantAllKinds(t, src)
	f := newRepo(t)
	m := f.backup(t, src)
	out := scratch(t)
	d, err := target.OpenDirectory(out, target.Options{})
	must(t, err)
	defer d.Close()
	rep, err := restore.Run(t.Context(), f.Repo, m, d, restore.Options{}, nil)
	must(t, err)
	var left []string
	for _, p := range rep.LeftOff {
		left = append(left, strings.TrimPrefix(string(p.Path), src))
	}
	for _, p := range []string{"/char", "/block", "/suid", "/sgid", "/small"} {
		if !strings.Contains(strings.Join(left, " "), p) {
			t.Errorf("%s is not reported as left off: %v", p, left)
		}
	}
	if rep.Status != "completed" || rep.LeftOffCount != 5+2*2 || rep.Specials != 2 {
		t.Errorf("got %+v", rep)
	}
	if _, err := os.Lstat(out + src + "/char"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a device was made: %v", err)
	}
}
