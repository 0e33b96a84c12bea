package target_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/generalbots/backupd/internal/target"
)

func TestFinish_GivesContentAndMetadata(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "b")
	d, err := target.OpenDirectory(root, target.Options{Privileged: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	etc, err := d.Root().Folder("etc")
	if err != nil {
		t.Fatal(err)
	}
	w, err := etc.Create("passwd", 5, target.Time{Sec: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.WriteAt([]byte("hello"), 0); err != nil {
		t.Fatal(err)
	}
	if p, err := w.Finish(&target.Meta{Type: target.TypeRegular, Mode: 0o400, Mtime: target.Time{Sec: 1}}); err != nil || len(p) != 0 {
		t.Fatal(p, err)
	}
	for _, step := range []func() ([]target.Problem, error){
		func() ([]target.Problem, error) {
			_, p, err := etc.Symlink("l", &target.Meta{Type: target.TypeSymlink, Target: "/x"})
			return p, err
		},
		func() ([]target.Problem, error) { return nil, d.Root().Link("hard", w.Made()) },
		func() ([]target.Problem, error) {
			_, p, err := d.Root().Fifo("f", &target.Meta{Type: target.TypeFIFO, Mode: 0o644})
			return p, err
		},
		func() ([]target.Problem, error) {
			return etc.Finish(&target.Meta{Type: target.TypeDirectory, Mode: 0o555})
		},
	} {
		if p, err := step(); err != nil || len(p) != 0 {
			t.Fatal(p, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(root, "hard")); string(b) != "hello" || err != nil {
		t.Error(string(b), err)
	}
	if err := d.SyncAll(); err != nil {
		t.Error(err)
	}
}
