package source_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/source/sourcetest"
	"golang.org/x/sys/unix"
)

// chain makes n directories in each other, named by name, with a file in each, without ever using a long path. It
// tidies up the same way.
func chain(t testing.TB, root string, n int, name func(i int) string) {
	t.Helper()
	open := func(at int, name string) int {
		fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		return fd
	}
	at := open(unix.AT_FDCWD, root)
	for i := range n {
		must(t, unix.Mkdirat(at, name(i), 0o755))
		next := open(at, name(i))
		f, err := unix.Openat(at, "zz", unix.O_CREAT|unix.O_WRONLY, 0o644)
		must(t, err)
		unix.Close(f)
		unix.Close(at)
		at = next
	}
	unix.Close(at)
}

func TestScan_ReachesPathsOfAnyLength(t *testing.T) {
	root := ramDir(t)
	long := func(int) string { return strings.Repeat("d", 250) }
	chain(t, root, 40, long) // 10,000 bytes
	at, deepest := 0, 0
	f := newFiles(t, source.FilesOptions{Paths: []string{root}, Exclude: []string{"/never/**/zz"}})
	for p, s := range sourcetest.Collect(t, f) {
		if s.Err != nil {
			t.Errorf("%d bytes deep: %v", len(p), s.Err)
		}
		if strings.HasSuffix(p, "/zz") {
			at++
			deepest = max(deepest, len(p))
		}
	}
	if at != 40 || deepest < 9750 {
		t.Errorf("got %d files, the deepest %d bytes down; want 40 and 9750 or more", at, deepest)
	}
	// And a PATH of that length.
	path := root + strings.Repeat("/"+long(0), 39) + "/zz"
	got := scanned(t, root, source.FilesOptions{Paths: []string{path}})
	if len(got) != 40 || "/"+got[39] != path[len(root):] {
		t.Errorf("got %d lines, want 40", len(got))
	}
}

func TestScan_HoldsFewDescriptorsHoweverDeepTheTree(t *testing.T) {
	const depth = 3000
	root := ramDir(t)
	chain(t, root, depth, func(i int) string { return "d" })
	check := sourcetest.NoLeaks(t)
	before := descriptors(t)
	f := newFiles(t, source.FilesOptions{Paths: []string{root}})
	most, files := 0, 0
	var leaves []source.Entry
	for e, err := range f.Scan(t.Context()) {
		must(t, err)
		switch e.Event {
		case source.Item:
			// The files come on the way back up, when the directories had long been closed.
			file, err := f.Open(&e)
			must(t, err)
			must(t, file.Close())
			files++
		case source.Leave:
			leaves = append(leaves, e)
		}
		if files%500 == 1 {
			most = max(most, descriptors(t)-before)
		}
	}
	if files != depth {
		t.Errorf("got %d files, want %d", files, depth)
	}
	if most > 300 {
		t.Errorf("got %d descriptors open at once, want 300 at most", most)
	}
	for i := range leaves {
		f.Release(&leaves[i])
	}
	check()
}

func descriptors(t testing.TB) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(fds)
}

func TestScan_SortsADirectoryOfAHundredThousand(t *testing.T) {
	const n = 100_000
	root := ramDir(t)
	write(t, root, "0")
	dir, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(dir)
	for i := 1; i < n; i++ {
		// Of different lengths, with common beginnings, and each a hundredth a directory.
		if name := fmt.Sprintf("common prefix %d", i*7919%n); i%100 == 0 {
			must(t, unix.Mkdirat(dir, name, 0o755))
		} else {
			must(t, unix.Linkat(dir, "0", dir, name, 0))
		}
		if i%60_000 == 0 { // more than some file systems have links
			must(t, os.Rename(root+"/0", root+"/old"))
			write(t, root, "0")
			must(t, os.Remove(root+"/old"))
		}
	}
	got := scanned(t, root, source.FilesOptions{Paths: []string{root}, Exclude: []string{"nothing"}})
	if len(got) != n {
		t.Errorf("got %d names, want %d", len(got), n)
	}
	names := make([]string, len(got))
	for i, s := range got {
		names[i] = strings.TrimSuffix(s, "/")
	}
	if !slices.IsSorted(names) {
		t.Error("the names are not sorted")
	}
}

func TestScan_StaysOnOneFileSystem(t *testing.T) {
	if !isRoot() {
		return // only root mounts
	}
	root := t.TempDir()
	write(t, root, "a/x", "mnt/below", "mnt2/")
	for _, m := range []string{"/mnt", "/mnt2"} {
		if err := unix.Mount("none", root+m, "tmpfs", 0, "size=1m"); err != nil {
			t.Logf("no mounts here: %v", err)
			return
		}
		t.Cleanup(func() { must(t, unix.Unmount(root+m, 0)) })
	}
	write(t, root, "mnt/y", "mnt/sub/z", "mnt2/deep/wanted", "mnt2/deep/x", "mnt2/other")
	wantLines(t, scanned(t, root, source.FilesOptions{Paths: []string{root}}),
		"a/", "a/x", "mnt/", "mnt/sub/", "mnt/sub/z", "mnt/y", "mnt2/", "mnt2/deep/", "mnt2/deep/wanted", "mnt2/deep/x", "mnt2/other")
	wantLines(t, scanned(t, root, source.FilesOptions{Paths: []string{root}, OneFileSystem: true}), "a/", "a/x", "mnt/", "mnt2/")
	wantLines(t, scanned(t, root, source.FilesOptions{Paths: []string{root, root + "/mnt", root + "/mnt2/deep/wanted"}, OneFileSystem: true}),
		"a/", "a/x", "mnt/", "mnt/sub/", "mnt/sub/z", "mnt/y", "mnt2/", "mnt2/deep/", "mnt2/deep/wanted")
}
