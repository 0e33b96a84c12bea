package source_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/generalbots/backupd/internal/source"
	"golang.org/x/sys/unix"
)

const (
	unprivilegedTree = "BACKUPD_TEST_UNPRIVILEGED_TREE" // tells the child where the tree is
	somebody         = 65534
)

// asSomebody runs one test of this binary again, as a user who may do nothing special.
func asSomebody(t *testing.T, test, tree string, more ...string) {
	t.Helper()
	if !isRoot() {
		t.Logf("only root can become somebody else: %s runs in its tree", test)
		return
	}
	// Somebody else may run this program, whatever umask it was built with.
	program, err := os.Executable()
	must(t, errors.Join(err, os.Chmod(program, 0o755)))
	cmd := exec.Command("/proc/self/exe", append([]string{"-test.run=^" + test + "$", "-test.v"}, more...)...)
	// The directory for what is temporary may be one of ours alone.
	own := ramDir(t)
	must(t, os.Chmod(own, 0o777))
	cmd.Env = append(os.Environ(), unprivilegedTree+"="+tree, "TMPDIR="+own)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: somebody, Gid: somebody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("as user %d: %v\n%s", somebody, err, out)
	}
}

// TestScan_GoesOnWhereItMayNot plants a tree as root and scans it as somebody else.
func TestScan_GoesOnWhereItMayNot(t *testing.T) {
	if root := os.Getenv(unprivilegedTree); root != "" {
		scanAsSomebody(t, root)
		return
	}
	root := ramDir(t)
	write(t, root, "closed/x", "listed/d/", "listed/f", "passed/in/x", "passed/other", "readable", "secret", "z/z")
	must(t, unix.Setxattr(root+"/secret", "user.x", []byte("y"), 0))
	for name, mode := range map[string]os.FileMode{"closed": 0o700, "listed": 0o744, "passed": 0o711, "secret": 0o600} {
		must(t, os.Chmod(root+"/"+name, mode))
	}
	asSomebody(t, "TestScan_GoesOnWhereItMayNot", root)
}

func scanAsSomebody(t *testing.T, root string) {
	o := source.FilesOptions{Paths: []string{root}}
	wantLines(t, scanned(t, root, o),
		"closed/ !", "listed/", "listed/d/ !", "listed/f !", "passed/ !", "readable", "secret", "z/", "z/z")
	seen := collected(t, root, o)
	for _, p := range []string{"closed", "listed/d", "listed/f", "passed", "secret"} {
		if s := seen[p]; !errors.Is(s.Err, fs.ErrPermission) {
			t.Errorf("%s: got error %v, want fs.ErrPermission", p, s.Err)
		}
	}
	for _, p := range []string{"readable", "z/z"} {
		if s := seen[p]; s.Err != nil || string(s.Content) != p {
			t.Errorf("%s: got %q and error %v", p, s.Content, s.Err)
		}
	}
	if e := seen["closed"].Entry; e.Type != source.Directory || e.Mode != 0o700 || e.Ino == 0 {
		t.Errorf("closed: got %+v, want what lstat tells", e)
	}
	if e := seen["listed/d"].Entry; e.Type != source.Directory {
		t.Errorf("listed/d: got %+v, want a directory", e)
	}
	if e := seen["listed/f"].Entry; e.Type != source.Regular {
		t.Errorf("listed/f: got %+v, want a regular file", e)
	}

	// Passing through needs no leave to list.
	wantLines(t, scanned(t, root, source.FilesOptions{Paths: []string{root + "/passed/in"}}), "passed/", "passed/in/", "passed/in/x")

	f := newFiles(t, o)
	for e, err := range f.Scan(t.Context()) {
		must(t, err)
		switch {
		case e.Event == source.Leave:
			f.Release(&e)
		case e.Name == "secret":
			if _, err := f.Open(&e); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("secret: got error %v from Open, want fs.ErrPermission", err)
			}
			if d, err := f.Details(&e); !errors.Is(err, fs.ErrPermission) || d.User != "root" {
				t.Errorf("secret: got %+v and error %v from Details, want fs.ErrPermission and the owner all the same", d, err)
			}
		case e.Name == "closed":
			if d, err := f.Details(&e); err != nil || d.User != "root" {
				t.Errorf("closed: got %+v and error %v from Details, want what can be had", d, err)
			}
		}
	}

	// A PATH that can not be reached is an error, not an empty backup.
	for e, err := range newFiles(t, source.FilesOptions{Paths: []string{root + "/closed/x"}}).Scan(t.Context()) {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("closed/x as PATH: got entry %+v and error %v, want fs.ErrPermission", e, err)
		}
	}
}

// TestScan_LivesWithFewDescriptors lowers the limit of a child below what a scan would like to keep open.
func TestScan_LivesWithFewDescriptors(t *testing.T) {
	if root := os.Getenv(unprivilegedTree); root != "" {
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 48, Max: 48}))
		seen := collected(t, root, source.FilesOptions{Paths: []string{root}})
		files := 0
		for p, s := range seen {
			if s.Err != nil {
				t.Errorf("%s: %v", p, s.Err)
			}
			if s.Entry.Type == source.Regular {
				files++
			}
		}
		if files != 600 {
			t.Errorf("got %d files, want 600", files)
		}
		return
	}
	root := ramDir(t)
	for i := range 300 {
		p := string(rune('a'+i%26)) + "/" + string(rune('a'+i/26)) + "/x/y"
		write(t, root, p, p+"2")
	}
	asSomebody(t, "TestScan_LivesWithFewDescriptors", root)
}
