package target_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/target"
)

// FuzzName: whatever name is asked for, it is refused or it is exactly one entry of the target.
func FuzzName(f *testing.F) {
	for _, name := range []string{"", ".", "..", "/", "a/b", "../x", "a\x00", "\x00", "...", "a", strings.Repeat("n", 255), strings.Repeat("n", 256), "\xff"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		base := t.TempDir()
		d, err := target.OpenDirectory(filepath.Join(base, "target"), target.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		_, _, err = d.Root().Symlink(name, &target.Meta{Type: target.TypeSymlink, Target: "x"})
		_, folderErr := d.Root().Folder(name)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		names, listErr := os.ReadDir(filepath.Join(base, "target"))
		if listErr != nil {
			t.Fatal(listErr)
		}
		if errors.Is(err, target.ErrName) != errors.Is(folderErr, target.ErrName) {
			t.Errorf("%q: got %v for a link and %v for a folder", name, err, folderErr)
		}
		if err != nil {
			if !errors.Is(err, target.ErrName) || len(names) != 0 {
				t.Errorf("%q: got %v and %v", name, err, names)
			}
		} else if len(names) != 1 || names[0].Name() != name || !errors.Is(folderErr, target.ErrNotDirectory) {
			t.Errorf("%q: got %v and %v", name, names, folderErr)
		}
		if above, err := os.ReadDir(base); len(above) != 1 || err != nil {
			t.Errorf("%q: got %v beside the target, %v", name, above, err)
		}
	})
}
