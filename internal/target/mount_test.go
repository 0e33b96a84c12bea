package target_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/target"
)

// mount puts a small RAM disk below dir, if this process may.
func mount(t *testing.T, dir, options string) bool {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("target", dir, "tmpfs", 0, options); err != nil {
		if os.Geteuid() == 0 {
			t.Logf("not allowed to mount: %v", err)
		}
		return false
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return true
}

func restoreFile(f *target.Folder, name string, content []byte) error {
	w, err := f.Create(name, int64(len(content)), target.Time{})
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.WriteAt(content, 0); err != nil {
		return err
	}
	_, err = w.Finish(&target.Meta{Type: target.TypeRegular, Mode: 0o600})
	return err
}

func TestDirectory_CrossesMounts(t *testing.T) {
	root := t.TempDir()
	if !mount(t, filepath.Join(root, "a", "mnt"), "size=1m") {
		return
	}
	d, err := target.OpenDirectory(root, target.Options{MaxOpen: 1, Overwrite: target.Always})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	a, err := d.Root().Folder("a")
	if err != nil {
		t.Fatal(err)
	}
	mnt, err := a.Folder("mnt")
	if err != nil {
		t.Fatal(err)
	}
	sub, err := mnt.Folder("sub")
	if err != nil {
		t.Fatal(err)
	}
	// Twice, so that something is replaced; MaxOpen 1 makes every folder be opened again across the mount.
	for range 2 {
		for _, f := range []*target.Folder{sub, a, mnt, d.Root()} {
			if err := restoreFile(f, "file", []byte("x")); err != nil {
				t.Error(err)
			}
			if _, _, err := f.Symlink("link", &target.Meta{Type: target.TypeSymlink, Target: "x"}); err != nil {
				t.Error(err)
			}
		}
	}
	w, err := a.Create("source", 0, target.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(&target.Meta{Type: target.TypeRegular}); err != nil {
		t.Fatal(err)
	}
	if err := mnt.Link("link2", w.Made()); !errors.Is(err, syscall.EXDEV) {
		t.Errorf("hard link across: got %v, want EXDEV", err)
	}
	for _, f := range []*target.Folder{sub, mnt, a} {
		if _, err := f.Finish(&target.Meta{Type: target.TypeDirectory, Mode: 0o755}); err != nil {
			t.Error(err)
		}
	}
	if err := d.SyncAll(); err != nil {
		t.Error(err)
	}
	// A mount point is a directory in the way that nobody can remove.
	if err := restoreFile(a, "mnt", nil); !errors.Is(err, target.ErrNotEmpty) {
		t.Errorf("got %v, want ErrNotEmpty", err)
	}
}

func TestFile_FullDiskLeavesNothingBehind(t *testing.T) {
	root := filepath.Join(t.TempDir(), "full")
	if !mount(t, root, "size=64k") {
		return
	}
	old := []byte("what was there")
	if err := os.WriteFile(filepath.Join(root, "old"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := target.OpenDirectory(root, target.Options{Overwrite: target.Always})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, name := range []string{"new", "old"} {
		if err := restoreFile(d.Root(), name, make([]byte, 1<<20)); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: got %v, want ENOSPC", name, err)
		}
	}
	names, err := os.ReadDir(root)
	if len(names) != 1 || err != nil {
		t.Errorf("got %v, %v", names, err)
	}
	if got, err := os.ReadFile(filepath.Join(root, "old")); string(got) != string(old) || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := restoreFile(d.Root(), "small", []byte("x")); err != nil {
		t.Error(err)
	}
}

func TestDirectory_ReadOnlyIsAnError(t *testing.T) {
	root := filepath.Join(t.TempDir(), "ro")
	if !mount(t, root, "size=64k") {
		return
	}
	if err := os.Mkdir(filepath.Join(root, "there"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=64k"); err != nil {
		t.Fatal(err)
	}
	d, err := target.OpenDirectory(root, target.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := restoreFile(d.Root(), "new", nil); !errors.Is(err, syscall.EROFS) {
		t.Errorf("file: got %v, want EROFS", err)
	}
	if _, err := d.Root().Folder("new"); !errors.Is(err, syscall.EROFS) {
		t.Errorf("new folder: got %v, want EROFS", err)
	}
	f, err := d.Root().Folder("there")
	if err != nil {
		t.Fatalf("folder that exists: %v", err)
	}
	if problems, err := f.Finish(&target.Meta{Type: target.TypeDirectory, Mode: 0o700}); err != nil || len(problems) == 0 {
		t.Errorf("got %v, %v, want problems", problems, err)
	}
}
