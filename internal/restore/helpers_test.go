package restore_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/restore"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/internal/target"
	"github.com/generalbots/backupd/repo"
)

// TestMain has the modes of what tests make be those that they name, whatever umask they were started with.
func TestMain(m *testing.M) {
	unix.Umask(0o022)
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fixture is a repository with what opens it.
type fixture struct {
	*repo.Repo
	dir  string
	cred crypto.Credential
}

func newRepo(t testing.TB) *fixture {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	cred, err := crypto.KeyFileCredential(key)
	must(t, err)
	f := &fixture{dir: filepath.Join(scratch(t), "repo"), cred: cred}
	st, err := store.MakeDir(t.Context(), f.dir)
	must(t, err)
	_, err = repo.Init(t.Context(), st, repo.InitOptions{Slots: []repo.NewSlot{{Label: "test", Credential: cred}}})
	must(t, err)
	must(t, st.Close())
	f.Repo = f.reopen(t)
	return f
}

// reopen gives the repository as a new process finds it.
func (f *fixture) reopen(t testing.TB) *repo.Repo {
	t.Helper()
	st, err := store.OpenDir(f.dir)
	must(t, err)
	r, err := repo.Open(t.Context(), st, []crypto.Credential{f.cred}, repo.Options{})
	must(t, err)
	t.Cleanup(func() {
		r.Close()
		st.Close()
	})
	return r
}

func (f *fixture) backup(t testing.TB, paths ...string) *repo.Manifest {
	t.Helper()
	src, err := source.NewFiles(source.FilesOptions{Paths: paths})
	must(t, err)
	part := repo.Part{Source: "files", Kind: "files", Profile: "files"}
	for _, p := range paths {
		part.Paths = append(part.Paths, []byte(p))
	}
	rep, err := backup.Run(t.Context(), f.Repo, []backup.Part{{Part: part, From: src}}, backup.Options{Type: backup.Full, Host: "here"}, new(backup.Progress))
	must(t, err)
	if len(rep.Snapshot.Problems) > 0 {
		t.Fatalf("backup has problems: %+v", rep.Snapshot.Problems)
	}
	return rep.Snapshot
}

// into restores below to, in a mode, and fails the test for an error.
func into(t testing.TB, r *repo.Repo, m *repo.Manifest, to string, o restore.Options) *restore.Report {
	t.Helper()
	rep, err := tryInto(t, r, m, to, o)
	if err != nil {
		t.Fatalf("restore: %v\n%+v", err, rep)
	}
	return rep
}

func tryInto(t testing.TB, r *repo.Repo, m *repo.Manifest, to string, o restore.Options) (*restore.Report, error) {
	t.Helper()
	d, err := target.OpenDirectory(to, target.Options{Overwrite: o.Overwrite, Privileged: os.Geteuid() == 0})
	must(t, err)
	defer d.Close()
	if o.Verify && o.TargetPath == "" {
		o.TargetPath = to
	}
	return restore.Run(t.Context(), r, m, d, o, nil)
}

func wantClean(t testing.TB, rep *restore.Report) {
	t.Helper()
	if rep.Status != "completed" || rep.ProblemCount > 0 || rep.LeftOffCount > 0 || rep.ExistingCount > 0 {
		t.Errorf("report is not clean: %+v", rep)
	}
}

// snapshotOf describes everything below root that a restore has to bring
// back: by path one line, with hard links named by their first path.
func snapshotOf(t testing.TB, root string) map[string]string {
	t.Helper()
	seen := make(map[string]string)
	first := make(map[uint64]string)
	var names []string
	must(t, filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
		names = append(names, p)
		return err
	}))
	sort.Strings(names)
	for _, p := range names {
		var st unix.Stat_t
		must(t, unix.Lstat(p, &st))
		rel := strings.TrimPrefix(p, root)
		line := fmt.Sprintf("mode %o owner %d:%d mtime %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(p)
			must(t, err)
			line += fmt.Sprintf(" size %d sum %x", st.Size, sha256.Sum256(b))
		case unix.S_IFLNK:
			to, err := os.Readlink(p)
			must(t, err)
			line += " to " + to
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" device %d", st.Rdev)
		}
		line += xattrsOf(t, p)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			line += fmt.Sprintf(" nlink %d", st.Nlink)
			if other, ok := first[st.Ino]; ok {
				line += " link to " + other
			} else {
				first[st.Ino] = rel
			}
		}
		seen[rel] = line
	}
	return seen
}

func xattrsOf(t testing.TB, p string) string {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, buf)
	if err == unix.ENOTSUP {
		return ""
	}
	must(t, err)
	var lines []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		m, err := unix.Lgetxattr(p, name, value)
		must(t, err)
		lines = append(lines, fmt.Sprintf(" %s=%x", name, value[:m]))
	}
	sort.Strings(lines)
	return strings.Join(lines, "")
}

func wantSame(t testing.TB, want, got map[string]string) {
	t.Helper()
	for p, line := range want {
		if got[p] != line {
			t.Errorf("%q:\n got %s\nwant %s", p, got[p], line)
		}
	}
	for p, line := range got {
		if _, ok := want[p]; !ok {
			t.Errorf("%q: should not be there: %s", p, line)
		}
	}
}

// listing is the paths below root, directories with a slash.
func listing(t testing.TB, root string) string {
	t.Helper()
	var names []string
	must(t, filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if p == root {
			return err
		}
		name := strings.TrimPrefix(p, root+"/")
		if d.IsDir() {
			name += "/"
		}
		names = append(names, name)
		return err
	}))
	return strings.Join(names, " ")
}

// write makes files with the content given; a name with a slash at its end
// becomes a directory.
func write(t testing.TB, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		p := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(p, 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte(content), 0o644))
	}
}

// noise is n bytes that do not compress, the same for the same seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		seed = seed*6364136223846793005 + 1442695040888963407
		b[i] = byte(seed >> 56)
	}
	return b
}

func readAll(t testing.TB, p string) []byte {
	t.Helper()
	b, err := os.ReadFile(p)
	must(t, err)
	return bytes.Clone(b)
}

// scratch is a directory in memory where there is one: a restore ends with
// syncfs, which on a disk waits for whatever else is being written there.
func scratch(t testing.TB) string {
	t.Helper()
	if dir, err := os.MkdirTemp("/dev/shm", "restore-test-"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	return t.TempDir()
}
