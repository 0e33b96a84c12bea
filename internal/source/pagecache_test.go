package source_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/source"
	"golang.org/x/sys/unix"
)

// onDisk returns a directory that is not all in memory: below the temporary directory, or else beside this test. On a
// machine without a disk it is in memory all the same, and everything stays where it is.
func onDisk(t *testing.T) (dir string, memory bool) {
	t.Helper()
	for _, base := range []string{"", "."} {
		dir, err := os.MkdirTemp(base, "pagecache-test-")
		must(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		var st unix.Statfs_t
		must(t, unix.Statfs(dir, &st))
		if st.Type != unix.TMPFS_MAGIC && st.Type != unix.RAMFS_MAGIC {
			dir, err = filepath.Abs(dir)
			must(t, err)
			return dir, false
		}
	}
	return t.TempDir(), true
}

// share is how much of a range of a file is in the page cache.
func share(t *testing.T, path string, off, n int64) float64 {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	pages, err := source.MappedPages(int(f.Fd()), off, int(n))
	must(t, err)
	return float64(pages) / float64(n/int64(os.Getpagesize()))
}

// grow writes a file and takes it out of the page cache.
func grow(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	piece := make([]byte, 1<<20)
	for i := range piece {
		piece[i] = byte(i*7 + i>>8)
	}
	for at := int64(0); at < size; at += int64(len(piece)) {
		_, err := f.Write(piece[:min(int64(len(piece)), size-at)])
		must(t, err)
	}
	must(t, f.Sync())
	must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

// touch reads a range of a file as a program would that needs it.
func touch(t *testing.T, path string, off, n int64) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM)) // and nothing beyond
	_, err = io.Copy(io.Discard, io.NewSectionReader(f, off, n))
	must(t, err)
}

func TestOpen_LeavesThePageCacheAsItWas(t *testing.T) {
	for _, c := range []struct {
		name   string
		kernel bool // is asked by cachestat, where it can be
		at     bool // read by ReadAt
	}{{"cachestat", true, false}, {"mincore", false, false}, {"in pieces", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			defer source.WithoutCachestat(!c.kernel)()
			// A system that is short of memory takes pages from the cache when it likes: once of three times it has to be right.
			for try := 1; ; try++ {
				wrong := leftInPageCache(t, c.at)
				if len(wrong) == 0 {
					return
				}
				if try == 3 {
					t.Errorf("three times: %s", strings.Join(wrong, "; "))
					return
				}
			}
		})
	}
}

// leftInPageCache backs up files of which some are in the page cache, by ReadAt or Read, and tells what is not as it was.
func leftInPageCache(t *testing.T, at bool) (wrong []string) {
	const large, small = 12 << 20, 128 << 10
	dir, memory := onDisk(t)
	for _, name := range []string{"cold", "warm", "half", "left"} {
		grow(t, dir+"/"+name, large)
	}
	grow(t, dir+"/small-cold", small)
	grow(t, dir+"/small-warm", small)
	touch(t, dir+"/warm", 0, large)
	touch(t, dir+"/small-warm", 0, small)
	touch(t, dir+"/half", 5<<20, 2<<20)

	files, err := source.NewFiles(source.FilesOptions{Paths: []string{dir}, Exclude: []string{"left"}})
	must(t, err)
	for e, err := range files.Scan(context.Background()) {
		must(t, err)
		if e.Event == source.Leave {
			files.Release(&e)
		}
		if e.Type != source.Regular {
			continue
		}
		f, err := files.Open(&e)
		must(t, err)
		var n int64
		if at {
			buf := make([]byte, 1<<20)
			for k := 1; k > 0 && err == nil; n += int64(k) {
				k, err = f.ReadAt(buf, n)
			}
		} else {
			n, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{f}, make([]byte, 1<<20))
		}
		if err != nil && err != io.EOF || n != e.Size {
			t.Fatalf("%s: read %d of %d bytes: %v", e.Name, n, e.Size, err)
		}
		must(t, f.Close())
	}
	for _, w := range []struct {
		name   string
		off, n int64
		stays  bool
	}{
		{"cold", 0, large, false}, {"warm", 0, large, true}, {"small-cold", 0, small, false}, {"small-warm", 0, small, true},
		{"half", 0, 5 << 20, false}, {"half", 5 << 20, 2 << 20, true}, {"half", 7 << 20, 5 << 20, false},
	} {
		got := share(t, dir+"/"+w.name, w.off, w.n)
		if w.stays = w.stays || memory; w.stays && got < 0.95 || !w.stays && got > 0.05 {
			wrong = append(wrong, fmt.Sprintf("%s from %d: %.0f %% is in the page cache, stays: %v", w.name, w.off, got*100, w.stays))
		}
	}
	// The control: who reads without giving back leaves all of it.
	touch(t, dir+"/left", 0, large)
	if got := share(t, dir+"/left", 0, large); got < 0.95 {
		wrong = append(wrong, fmt.Sprintf("only %.0f %% of what was just read is in the page cache: the test proves nothing here", got*100))
	}
	return wrong
}
