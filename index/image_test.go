package index_test

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/index"
)

// memoryDir is a temporary directory in memory where there is one: hundreds of opens and closes, each
// with its fsyncs, take minutes on a busy disk.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "index-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// image is the contents of an index directory. Files are kept up to their last byte that is not zero,
// because Badger's logs are mostly holes.
type image map[string]*file

type file struct {
	data []byte
	size int // at least len(data); the rest is zeros
}

// readImage reads a directory that may be in use, once Badger has come to rest: what it reads is then
// what a kill would have left.
func readImage(t testing.TB, dir string) image {
	t.Helper()
	var before image
	for range 6000 {
		im, err := readOnce(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err == nil && before != nil && maps.EqualFunc(im, before, func(f, g *file) bool {
			return f.size == g.size && bytes.Equal(f.data, g.data)
		}) {
			return im
		}
		before = im
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("Badger does not come to rest")
	return nil
}

func readOnce(dir string) (image, error) {
	im := image{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		im[name] = &file{data: bytes.TrimRight(b, "\x00"), size: len(b)}
		return err
	})
	if err != nil {
		return nil, err
	}
	return im, nil
}

// clone copies the image so that one file of it may be changed.
func (im image) clone() image {
	c := image{}
	for name, f := range im {
		c[name] = &file{data: f.data, size: f.size}
	}
	return c
}

func (im image) write(t testing.TB, dir string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, f := range im {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, f.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, int64(f.size)); err != nil {
			t.Fatal(err)
		}
	}
}

// names returns the names of the files of one kind: a suffix.
func (im image) names(suffix string) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(im)) {
		if strings.HasSuffix(name, suffix) {
			names = append(names, name)
		}
	}
	return names
}

func (im image) one(t testing.TB, suffix string) *file {
	t.Helper()
	names := im.names(suffix)
	if len(names) != 1 {
		t.Fatalf("%d files end in %s, want 1", len(names), suffix)
	}
	return im[names[0]]
}

// set changes a byte.
func (f *file) set(at int, b byte) {
	data := make([]byte, max(len(f.data), at+1))
	copy(data, f.data)
	data[at] = b
	f.data = data
}

func (f *file) at(i int) byte {
	if i < len(f.data) {
		return f.data[i]
	}
	return 0
}

const (
	imagePacks   = 6
	imageEntries = 300
)

// cleanImage is an index with tables, closed.
func cleanImage(t testing.TB) image {
	t.Helper()
	dir := memoryDir(t)
	for half := range uint32(2) {
		x := mustOpen(t, dir)
		for p := range uint32(imagePacks / 2) {
			mustAdd(t, x, half*imagePacks/2+p, packEntries(half*imagePacks/2+p, imageEntries))
		}
		mustClose(t, x)
	}
	return readImage(t, dir)
}

// crashedImage is an index with two tables and a log, as a killed process leaves it.
func crashedImage(t testing.TB) image {
	t.Helper()
	dir := memoryDir(t)
	var im image
	for third := range uint32(3) {
		x := mustOpen(t, dir)
		for p := range uint32(imagePacks / 3) {
			mustAdd(t, x, third*imagePacks/3+p, packEntries(third*imagePacks/3+p, imageEntries))
		}
		im = readImage(t, dir)
		mustClose(t, x)
	}
	return im
}

// checkImage opens an image and looks everything up: what is found must be right, and a recorded pack
// must be whole if whole is wanted. It returns how many were found, or Open's error.
func checkImage(t testing.TB, im image, dir string, whole bool) (found int, err error) {
	t.Helper()
	im.write(t, dir)
	x, err := index.Open(options(dir))
	if err != nil {
		return 0, err
	}
	packs, err := x.Packs()
	if err != nil {
		t.Fatal(err)
	}
	for p := range uint32(imagePacks) {
		n := 0
		for _, e := range packEntries(p, imageEntries) {
			got, ok, err := x.Lookup(e.ID)
			if ok && (err != nil || got != e.Place) {
				t.Fatalf("Lookup of a chunk of pack %d = %+v, %v; want %+v or not found", p, got, err, e.Place)
			}
			if ok {
				n++
			}
		}
		if _, recorded := packs[packID(p)]; whole && (recorded && n != imageEntries || !recorded && n != 0) {
			t.Fatalf("pack %d: recorded %v, found %d of %d", p, recorded, n, imageEntries)
		}
		found += n
	}
	_ = x.Close()
	return found, nil
}
