package durable_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/generalbots/backupd/internal/durable"

	"golang.org/x/sys/unix"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("%s: got error %v, want %v", what, got, want)
	}
}

func openOS(t *testing.T) (*durable.OSFS, string) {
	t.Helper()
	dir := t.TempDir()
	f, err := durable.OS(dir)
	ok(t, err)
	t.Cleanup(func() { f.Close() })
	return f, dir
}

func TestOS_DoesWhatItSays(t *testing.T) {
	f, dir := openOS(t)
	ok(t, f.Mkdir("d"))
	h, err := f.Create("d/a")
	ok(t, err)
	ok(t, h.Fallocate(100))
	if size, err := h.Size(); size != 100 || err != nil {
		t.Fatalf("size after fallocate: %d, %v", size, err)
	}
	_, err = h.WriteAt([]byte("hello"), 3)
	ok(t, err)
	ok(t, h.Truncate(8))
	ok(t, h.Sync())
	ok(t, h.Close())
	wantErr(t, "second close", h.Close(), fs.ErrClosed)
	_, err = f.Create("d/a")
	wantErr(t, "create over a name", err, fs.ErrExist)
	wantErr(t, "mkdir over a name", f.Mkdir("d"), fs.ErrExist)

	ok(t, f.RenameNoReplace("d/a", "b"))
	ok(t, f.SyncDir(""))
	ok(t, f.SyncDir("d"))
	ok(t, f.Link("b", "d/c"))
	wantErr(t, "link over a name", f.Link("b", "d/c"), fs.ErrExist)
	wantErr(t, "rename over a name", f.RenameNoReplace("b", "d/c"), fs.ErrExist)
	ok(t, os.WriteFile(filepath.Join(dir, "e"), []byte("e"), 0o600))
	ok(t, f.Rename("e", "d/c"))
	got, err := durable.ReadFile(f, "b", 100)
	if want := "\x00\x00\x00hello"; string(got) != want || err != nil {
		t.Fatalf("got %q, %v, want %q", got, err, want)
	}
	_, err = durable.ReadFile(f, "b", 7)
	if err == nil {
		t.Fatal("a file beyond the limit was read")
	}
	info, err := f.Stat("d")
	if err != nil || !info.Mode.IsDir() || info.Mode.Perm() != 0o700 {
		t.Fatalf("stat of a directory: %+v, %v", info, err)
	}
	info, err = f.Stat("b")
	if want := (durable.Info{Name: "b", Size: 8, Mode: 0o600}); info != want || err != nil {
		t.Fatalf("stat: got %+v, %v, want %+v", info, err, want)
	}
	ok(t, f.Unlink("d/c"))
	wantErr(t, "unlink of nothing", f.Unlink("d/c"), fs.ErrNotExist)
	wantErr(t, "unlink of a directory", f.Unlink("d"), syscall.EISDIR)
	sp, err := f.Statfs()
	if err != nil || sp.Free <= 0 || sp.Total < sp.Free {
		t.Fatalf("statfs: %+v, %v", sp, err)
	}
	_, err = durable.OS(dir + "/nowhere")
	wantErr(t, "open of no root", err, fs.ErrNotExist)
}

func TestOS_ListsManyNamesOnce(t *testing.T) {
	f, dir := openOS(t)
	ok(t, f.Mkdir("d"))
	want := map[string]bool{}
	for i := range 700 {
		name := "file-with-a-name-that-fills-the-buffer-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		want[name] = true
		ok(t, os.WriteFile(filepath.Join(dir, "d", name), nil, 0o600))
	}
	for range 2 {
		list, err := f.ReadDir("d")
		ok(t, err)
		if len(list) != len(want) {
			t.Fatalf("got %d names, want %d", len(list), len(want))
		}
		for _, info := range list {
			if !want[info.Name] {
				t.Fatalf("got unknown name %q", info.Name)
			}
		}
		slices.SortFunc(list, func(a, b durable.Info) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
		if len(slices.CompactFunc(list, func(a, b durable.Info) bool { return a.Name == b.Name })) != len(want) {
			t.Fatal("a name came twice")
		}
	}
	_, err := f.ReadDir("nowhere")
	wantErr(t, "list of nothing", err, fs.ErrNotExist)
}

func TestOS_NeverLeavesTheRoot(t *testing.T) {
	f, dir := openOS(t)
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	ok(t, os.WriteFile(secret, []byte("s"), 0o600))
	ok(t, os.Symlink(outside, filepath.Join(dir, "link")))
	ok(t, os.Symlink(secret, filepath.Join(dir, "filelink")))
	ok(t, os.Symlink(filepath.Join(outside, "new"), filepath.Join(dir, "dangling")))
	ok(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	ok(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o600))

	for _, name := range []string{"link/secret", "filelink", "../a", "link/../a", "..", ".", "", "/a", "a/..", "fifo", "link"} {
		if h, err := f.Open(name); err == nil {
			h.Close()
			t.Errorf("open of %q succeeded", name)
		}
		if name == "a" || name == "fifo" {
			continue
		}
		if h, err := f.Create(name); err == nil {
			h.Close()
			t.Errorf("create of %q succeeded", name)
		}
	}
	for what, err := range map[string]error{
		"mkdir":           f.Mkdir("link/d"),
		"unlink":          f.Unlink("link/secret"),
		"rename out":      f.RenameNoReplace("a", "link/a"),
		"replace out":     f.Rename("a", "link/a"),
		"rename in":       f.RenameNoReplace("link/secret", "b"),
		"link":            f.Link("link/secret", "b"),
		"sync":            f.SyncDir("link"),
		"dotdot":          f.Rename("a", "../a"),
		"create dangling": second(f.Create("dangling")),
		"list":            second(f.ReadDir("link")),
		"lock":            second(f.Lock("filelink", durable.Exclusive, "me")),
		"lock dangling":   second(f.Lock("dangling", durable.Exclusive, "me")),
	} {
		if err == nil {
			t.Errorf("%s through a link succeeded", what)
		}
	}
	left, err := os.ReadDir(outside)
	if err != nil || len(left) != 1 {
		t.Fatalf("outside now holds %v, %v", left, err)
	}
	if data, _ := os.ReadFile(secret); string(data) != "s" {
		t.Fatalf("secret is now %q", data)
	}
}

func second[T any](_ T, err error) error { return err }

func TestOS_KeepsNoMoreDirectoriesThanItMay(t *testing.T) {
	f, _ := openOS(t)
	for i := range 400 {
		name := "d" + string(rune('a'+i%20)) + string(rune('a'+i/20))
		ok(t, f.Mkdir(name))
		ok(t, durable.WriteFile(f, name+"/a", []byte(name)))
	}
	fds, err := os.ReadDir("/proc/self/fd")
	ok(t, err)
	if len(fds) > 360 {
		t.Fatalf("%d descriptors are open", len(fds))
	}
	got, err := durable.ReadFile(f, "dtt/a", 10)
	if string(got) != "dtt" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestMakeRoot_MakesWhatIsMissing(t *testing.T) {
	root := t.TempDir()
	ok(t, durable.MakeRoot(root+"/a/b/c/"))
	ok(t, durable.MakeRoot(root+"/a/b/c"))
	if info, err := os.Stat(root + "/a/b/c"); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v, %v", info, err)
	}
	ok(t, os.WriteFile(root+"/f", nil, 0o600))
	wantErr(t, "root is a file", durable.MakeRoot(root+"/f"), syscall.ENOTDIR)
	if err := durable.MakeRoot(root + "/f/g"); err == nil {
		t.Fatal("made a directory below a file")
	}
	t.Chdir(root)
	ok(t, durable.MakeRoot("x/y"))
	if _, err := os.Stat(root + "/x/y"); err != nil {
		t.Fatal(err)
	}
}
