package source_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/source"
)

// scanned walks everything and returns a line for each event below root, which is cut off.
func scanned(t *testing.T, root string, o source.FilesOptions) []string {
	t.Helper()
	f, err := source.NewFiles(o)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	var at []string
	for e, err := range f.Scan(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		switch e.Event {
		case source.Enter:
			at = append(at, e.Name)
		case source.Leave:
			at = at[:len(at)-1]
			f.Release(&e)
			continue
		}
		p := strings.Join(at, "/")
		if e.Event == source.Item {
			p += "/" + e.Name
		} else {
			p += "/"
		}
		if p, ok := strings.CutPrefix(p, root+"/"); ok && p != "" {
			if e.Err != nil {
				p += " !"
			}
			lines = append(lines, p)
		}
	}
	return lines
}

func write(t *testing.T, root string, names ...string) {
	t.Helper()
	for _, n := range names {
		p := filepath.Join(root, n)
		if strings.HasSuffix(n, "/") {
			if err := os.MkdirAll(p, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestScan_YieldsNestedEventsSortedByNameBytes(t *testing.T) {
	root := t.TempDir()
	write(t, root, "b/x", "a.b", "a/z", "a/b/c", "B", "a-", "\xff\xfe")
	got := scanned(t, root, source.FilesOptions{Paths: []string{root}})
	want := []string{"B", "a/", "a/b/", "a/b/c", "a/z", "a-", "a.b", "b/", "b/x", "\xff\xfe"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestScan_NamesThePathThatDoesNotExist(t *testing.T) {
	root := t.TempDir()
	write(t, root, "here")
	missing := filepath.Join(root, "gone", "x")
	f, err := source.NewFiles(source.FilesOptions{Paths: []string{root, missing}})
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range f.Scan(t.Context()) {
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), filepath.Dir(missing)) {
			t.Fatalf("got entry %+v, error %v; want an error that names %s", e, err, missing)
		}
	}
}
