package durable_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/durable"
)

// resident counts the pages of a file that are in the page cache.
func resident(t *testing.T, path string) (pages int) {
	t.Helper()
	f, err := os.Open(path)
	ok(t, err)
	defer f.Close()
	info, err := f.Stat()
	ok(t, err)
	m, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	ok(t, err)
	defer unix.Munmap(m)
	there := make([]byte, (len(m)+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, errno := syscall.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&there[0]))); errno != 0 {
		t.Fatal(errno)
	}
	for _, b := range there {
		pages += int(b & 1)
	}
	return pages
}

func TestPassing_LeavesNothingInThePageCache(t *testing.T) {
	// Below the temporary directory or else beside this test: one of them is on a disk where there is one.
	dir := t.TempDir()
	var st unix.Statfs_t
	ok(t, unix.Statfs(dir, &st))
	if st.Type == unix.TMPFS_MAGIC {
		var err error
		dir, err = os.MkdirTemp(".", "passing-test-")
		ok(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		ok(t, unix.Statfs(dir, &st))
	}
	f, err := durable.OS(dir)
	ok(t, err)
	defer f.Close()
	const size = 4 << 20
	pages := size / os.Getpagesize()
	for name, passing := range map[string]bool{"passes": true, "stays": false} {
		w, err := durable.CreateTemp(f, "tmp-"+name, size)
		ok(t, err)
		if passing {
			w.Passing()
		}
		_, err = w.WriteAt(make([]byte, size), 0)
		ok(t, err)
		ok(t, w.Publish(name))
		want := pages
		if passing && st.Type != unix.TMPFS_MAGIC { // in memory there is nothing to give back
			want = 0
		}
		if got := resident(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s: %d pages are in the page cache, want %d of %d", name, got, want, pages)
		}
	}
}
