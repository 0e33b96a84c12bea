package source_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/source/sourcetest"
)

// TestMain has the modes of what tests make be those that they name, whatever umask they were started with.
func TestMain(m *testing.M) {
	unix.Umask(0o022)
	os.Exit(m.Run())
}

// ramDir is TempDir in memory where there is such a place: many tests make thousands of files.
func ramDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "source-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newFiles(t testing.TB, o source.FilesOptions) *source.Files {
	t.Helper()
	f, err := source.NewFiles(o)
	must(t, err)
	return f
}

// plant makes the nodes below dir.
func plant(t testing.TB, dir string, nodes []sourcetest.Node) {
	t.Helper()
	for _, n := range nodes {
		p := filepath.Join(dir, n.Path)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		switch n.Type {
		case source.Regular:
			must(t, os.WriteFile(p, []byte(n.Content), 0o600))
			must(t, os.Chmod(p, goMode(n.Mode)))
		case source.Directory:
			must(t, os.MkdirAll(p, 0o755))
			must(t, os.Chmod(p, goMode(n.Mode)))
		case source.Symlink:
			must(t, os.Symlink(n.Target, p))
		default:
			t.Fatalf("%q: no way to make a %v", n.Path, n.Type)
		}
	}
}

func goMode(mode uint32) os.FileMode {
	m := os.FileMode(mode & 0o777)
	for bit, goBit := range map[uint32]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if mode&bit != 0 {
			m |= goBit
		}
	}
	return m
}

// write makes files that hold their own name, and directories where a name ends with a slash.
func write(t testing.TB, root string, names ...string) {
	t.Helper()
	for _, n := range names {
		p := filepath.Join(root, n)
		if strings.HasSuffix(n, "/") {
			must(t, os.MkdirAll(p, 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte(n), 0o644))
	}
}

// scanned walks everything and returns a line for each event below root, which is cut off: directories end with a
// slash, what could not be examined with " !".
func scanned(t testing.TB, root string, o source.FilesOptions) []string {
	t.Helper()
	f := newFiles(t, o)
	var lines []string
	for p, e := range sourcetest.Checked(t, f, t.Context()) {
		if e.Event == source.Leave {
			f.Release(&e)
			continue
		}
		p, ok := strings.CutPrefix("/"+p, root+"/")
		if !ok || p == "" {
			continue
		}
		if e.Event == source.Enter {
			p += "/"
		}
		if e.Err != nil {
			p += " !"
		}
		lines = append(lines, p)
	}
	return lines
}

// collected is everything below root, by its path there.
func collected(t testing.TB, root string, o source.FilesOptions) map[string]sourcetest.Seen {
	t.Helper()
	seen := map[string]sourcetest.Seen{}
	for p, s := range sourcetest.Collect(t, newFiles(t, o)) {
		if p, ok := strings.CutPrefix("/"+p, root+"/"); ok {
			seen[p] = s
		}
	}
	return seen
}

// isRoot tells whether the tests may make devices, mount and become somebody else. Those that need it do less
// elsewhere, and CI runs them as root.
func isRoot() bool { return os.Geteuid() == 0 }
