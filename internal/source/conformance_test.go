package source_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/source/sourcetest"
)

func newFiles(t testing.TB, o source.FilesOptions) *source.Files {
	t.Helper()
	f, err := source.NewFiles(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// plant makes the nodes below dir.
func plant(t testing.TB, dir string, nodes []sourcetest.Node) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		p := filepath.Join(dir, n.Path)
		must(os.MkdirAll(filepath.Dir(p), 0o755))
		switch n.Type {
		case source.Regular:
			must(os.WriteFile(p, []byte(n.Content), 0o600))
			must(os.Chmod(p, goMode(n.Mode)))
		case source.Directory:
			must(os.MkdirAll(p, 0o755))
			must(os.Chmod(p, goMode(n.Mode)))
		case source.Symlink:
			must(os.Symlink(n.Target, p))
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

func TestFiles_Conforms(t *testing.T) {
	for _, workers := range []int{0, 1, 7} {
		sourcetest.Run(t, func(t *testing.T, nodes []sourcetest.Node) (source.Source, string) {
			root := t.TempDir()
			plant(t, root, nodes)
			return newFiles(t, source.FilesOptions{Paths: []string{root}, Workers: workers}), strings.TrimPrefix(root, "/")
		})
	}
}
