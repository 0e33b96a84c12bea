package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/source/sourcetest"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

// sample is a small tree with some of everything.
func sample(t testing.TB, dir string) {
	t.Helper()
	for i := range 40 {
		write(t, dir, fmt.Sprintf("docs/%02d/note-%d.txt", i%7, i), random(uint64(i), 100*i))
	}
	write(t, dir, "empty", nil)
	write(t, dir, "large.bin", random(99, backup.LargeFile+300_000))
	write(t, dir, "not-utf8-\xff\xfe\x80", []byte("a name of any bytes"))
	write(t, dir, strings.Repeat("n", 255), []byte("a long name"))
	must(t, os.Symlink("docs/00", filepath.Join(dir, "link")))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "nothing in it"), 0o700))
}

func TestRun_SaysByHowMuchTheRepositoryGrew(t *testing.T) {
	dir := t.TempDir()
	sample(t, dir)
	v := newVault(t, store.NewMem())
	all := func() (bytes int64) {
		for _, folder := range []string{"packs", "snapshots"} {
			infos, err := v.st.List(context.Background(), folder)
			must(t, err)
			for _, in := range infos {
				bytes += in.Size
			}
		}
		return bytes
	}
	for i := range 3 {
		before := all()
		m := clean(t, v.run(t, newTree(t, dir), backup.Incremental))
		if grew := all() - before; m.Totals.BytesStored != grew || grew == 0 {
			t.Errorf("run %d: it says %d bytes, the files grew by %d", i, m.Totals.BytesStored, grew)
		}
		if part := m.Parts[0].Counts.BytesStored; part >= m.Totals.BytesStored {
			t.Errorf("run %d: its blocks take %d bytes of %d", i, part, m.Totals.BytesStored)
		}
		write(t, dir, "large.bin", random(uint64(i), 3<<20))
	}
}

func TestRun_KeepsEverythingAndReadsNothingAgain(t *testing.T) {
	dir := t.TempDir()
	sample(t, dir)
	settle()
	v := newVault(t, store.NewMem())
	v.state = t.TempDir()
	leaks := sourcetest.NoLeaks(t)
	first := clean(t, v.run(t, newTree(t, dir), backup.Full))
	v.wantTree(t, first, dir)
	c := first.Totals
	if c.Files != 46 || c.New != 46 || c.Changed+c.Removed+c.Unchanged != 0 || c.Dirs != 10 {
		t.Errorf("first run: got %+v", c)
	}
	if c.BytesRead != c.BytesTotal || c.BytesNew == 0 || c.BytesStored < c.BytesNew {
		t.Errorf("first run: got %+v; want every byte read once, and random bytes stored as they are", c)
	}

	before, packs := v.size(t)
	src := newTree(t, dir)
	second := clean(t, v.run(t, src, backup.Incremental))
	leaks()
	v.wantTree(t, second, dir)
	c = second.Totals
	if c.Unchanged != 46 || c.New+c.Changed+c.Removed != 0 || c.BytesRead != 0 || c.BytesNew != 0 || src.opened.Load() != 0 {
		t.Errorf("unchanged: got %+v and %d files opened", c, src.opened.Load())
	}
	if second.BaseID != first.ID || second.Type != "incremental" {
		t.Errorf("got type %s on %q, want incremental on %s", second.Type, second.BaseID, first.ID)
	}
	// The root is described anew each time; what it is made of is the same.
	if after, n := v.size(t); after != before || n != packs {
		t.Errorf("unchanged: the packs grew from %d bytes in %d to %d in %d", before, packs, after, n)
	}
	if src.left.Load() != src.released.Load() {
		t.Errorf("%d directories were left and %d released", src.left.Load(), src.released.Load())
	}
}

func TestRun_CountsWhatChanged(t *testing.T) {
	dir := t.TempDir()
	sample(t, dir)
	write(t, dir, "was a file", []byte("x"))
	write(t, dir, "was a directory/a", []byte("a"))
	write(t, dir, "was a directory/b", []byte("b"))
	settle()
	v := newVault(t, store.NewMem())
	clean(t, v.run(t, newTree(t, dir), backup.Full))

	write(t, dir, "docs/00/note-0.txt", []byte("changed"))                                              // 1 changed
	write(t, dir, "docs/new", []byte("new"))                                                            // 1 new
	must(t, os.Remove(filepath.Join(dir, "docs/01/note-1.txt")))                                        // 1 removed
	must(t, os.RemoveAll(filepath.Join(dir, "docs/06")))                                                // 5 removed
	must(t, os.Rename(filepath.Join(dir, "docs/02/note-2.txt"), filepath.Join(dir, "docs/02/renamed"))) // 1 new, 1 removed
	must(t, os.Chmod(filepath.Join(dir, "docs/03/note-3.txt"), 0o600))                                  // 1 changed
	must(t, os.Remove(filepath.Join(dir, "was a file")))                                                // 1 removed
	write(t, dir, "was a file/now a directory", nil)                                                    // 1 new
	must(t, os.RemoveAll(filepath.Join(dir, "was a directory")))                                        // 2 removed
	write(t, dir, "was a directory", []byte("now a file"))                                              // 1 new
	m := clean(t, v.run(t, newTree(t, dir), backup.Incremental))
	v.wantTree(t, m, dir)
	c := m.Totals
	if c.Changed != 2 || c.New != 4 || c.Removed != 10 || c.Unchanged != 49-2-10 {
		t.Errorf("got %+v, want 2 changed, 4 new, 10 removed, 37 unchanged", c)
	}
}

func TestRun_ReadsRacyFilesAgain(t *testing.T) {
	var dir string
	var v *vault
	var m *repo.Manifest
	// On a busy machine a run may begin so late that the file has settled.
	for tries := 0; tries == 0 || m.Totals.BytesRead == 0 && tries < 20; tries++ {
		dir = t.TempDir()
		write(t, dir, "old", random(1, 1000))
		settle()
		v = newVault(t, store.NewMem())
		write(t, dir, "fresh", random(2, 1000))
		clean(t, v.run(t, newTree(t, dir), backup.Full))
		m = clean(t, v.run(t, newTree(t, dir), backup.Incremental))
	}
	if c := m.Totals; c.BytesRead != 1000 || c.Unchanged != 2 || c.Changed != 0 || c.BytesNew != 0 {
		t.Errorf("got %+v, want the file read that was written right before the run, and found the same", c)
	}
	settle()
	clean(t, v.run(t, newTree(t, dir), backup.Incremental))
	m = clean(t, v.run(t, newTree(t, dir), backup.Incremental))
	if c := m.Totals; c.BytesRead != 0 {
		t.Errorf("got %d bytes read after the file settled", c.BytesRead)
	}
}

func TestRun_SeesAChangeUnderTheSameSizeAndMtime(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "f", []byte("one"))
	write(t, dir, "g", []byte("one"))
	at := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(filepath.Join(dir, "f"), at, at))
	settle()
	v := newVault(t, store.NewMem())
	clean(t, v.run(t, newTree(t, dir), backup.Full))
	write(t, dir, "f", []byte("two"))
	must(t, os.Chtimes(filepath.Join(dir, "f"), at, at))
	m := clean(t, v.run(t, newTree(t, dir), backup.Incremental))
	v.wantTree(t, m, dir)
	if c := m.Totals; c.Changed != 1 || c.Unchanged != 1 {
		t.Errorf("got %+v", c)
	}
}

// Times come from a synthetic source, since nobody can set a change time.
func TestRun_TrustsOnlyChangeTimesThatProveSomething(t *testing.T) {
	for _, c := range []struct {
		name  string
		ctime func(now time.Time) time.Time
		read  bool
	}{
		{"an hour ago", func(now time.Time) time.Time { return now.Add(-time.Hour).Truncate(time.Second).Add(1) }, false},
		{"within the margin", func(now time.Time) time.Time { return now }, true},
		{"in the future, as when the clock went back", func(now time.Time) time.Time { return now.Add(time.Hour) }, true},
		{"long ago in whole seconds", func(now time.Time) time.Time { return now.Add(-time.Minute).Truncate(time.Second) }, false},
		{"a moment ago in whole seconds, as FAT keeps them", func(now time.Time) time.Time { return now.Add(-time.Second).Truncate(time.Second) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := false
			// On a busy machine a run may begin so late that the moment is long past.
			for tries := 0; tries == 0 || c.read && !got && tries < 20; tries++ {
				v := newVault(t, store.NewMem())
				at := c.ctime(time.Now())
				src := &synthetic{dirs: 1, perDir: 3, content: func(string) []byte { return []byte("content") },
					at: source.Time{Sec: at.Unix(), Nsec: uint32(at.Nanosecond())}}
				clean(t, v.run(t, src, backup.Full))
				m := clean(t, v.run(t, src, backup.Incremental))
				got = m.Totals.BytesRead > 0
			}
			if got != c.read {
				t.Errorf("read: got %v, want %v", got, c.read)
			}
		})
	}
}

// Two images made to be reproducible agree in all that lstat tells, inode and
// change time included, and may be mounted one after the other.
func TestRun_TrustsNoChangeTimeOfAFileSystemThatKeepsNone(t *testing.T) {
	for _, timeless := range []bool{true, false} {
		v := newVault(t, store.NewMem())
		image := func(version string) *synthetic {
			return &synthetic{dirs: 1, perDir: 3, content: func(string) []byte { return []byte(version) }, at: source.Time{Sec: 1e9}, timeless: timeless}
		}
		clean(t, v.run(t, image("version 1"), backup.Full))
		m := clean(t, v.run(t, image("version 2"), backup.Incremental))
		for name, f := range v.read(t, m) {
			if seen := string(f.data) == "version 2"; f.Type == repo.TypeRegular && seen != timeless {
				t.Errorf("timeless %v: %s: got %q", timeless, name, f.data)
			}
		}
	}
}

func TestRun_KeepsFilesOfTheGreatestSizeAndWhatComesAfterThem(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "greatest") // which knows such sizes, unlike ext4
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, name := range []string{"a", "b", "c/d"} {
		write(t, dir, name, nil)
		must(t, os.Truncate(filepath.Join(dir, name), math.MaxInt64))
	}
	write(t, dir, "z", []byte("after them"))
	settle()
	v := newVault(t, store.NewMem())
	for _, typ := range []backup.Type{backup.Full, backup.Incremental, backup.Full} {
		m := clean(t, v.run(t, newTree(t, dir), typ))
		if m.Totals.Files != 4 || m.Totals.BytesTotal != math.MaxInt64 {
			t.Errorf("got %+v, want 4 files and the greatest total", m.Totals)
		}
	}
}

func TestRun_KeepsHardLinks(t *testing.T) {
	for _, size := range []int{10, backup.LargeFile + 10} {
		dir := t.TempDir()
		write(t, dir, "b", random(3, size))
		must(t, os.Link(filepath.Join(dir, "b"), filepath.Join(dir, "d")))
		must(t, os.Mkdir(filepath.Join(dir, "c"), 0o755))
		must(t, os.Link(filepath.Join(dir, "b"), filepath.Join(dir, "c/inner")))
		settle()
		v := newVault(t, store.NewMem())
		src := newTree(t, dir)
		m := clean(t, v.run(t, src, backup.Full))
		v.wantTree(t, m, dir)
		got := v.read(t, m)
		for _, name := range []string{"b", "c/inner", "d"} {
			if f := got[name]; f.Nlink != 3 || f.Inode != got["b"].Inode {
				t.Errorf("%s: got inode %d with %d names", name, f.Inode, f.Nlink)
			}
		}
		if src.opened.Load() != 1 {
			t.Errorf("a file with three names was read %d times", src.opened.Load())
		}
		if c := clean(t, v.run(t, newTree(t, dir), backup.Incremental)).Totals; c.BytesRead != 0 || c.Unchanged != 3 {
			t.Errorf("unchanged: got %+v", c)
		}
		must(t, os.Link(filepath.Join(dir, "b"), filepath.Join(dir, "a new one in front")))
		m = clean(t, v.run(t, newTree(t, dir), backup.Incremental))
		v.wantTree(t, m, dir)
		if c := m.Totals; c.New != 1 || c.BytesNew != 0 {
			t.Errorf("with a fourth name: got %+v", c)
		}
	}
}

func TestRun_ReadsAFurtherNameWhenTheFirstFails(t *testing.T) {
	for _, size := range []int{10, backup.LargeFile + 10} {
		for _, trouble := range []error{os.ErrNotExist, unix.EIO} {
			dir := t.TempDir()
			write(t, dir, "a", random(3, size))
			must(t, os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")))
			must(t, os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "c")))
			v := newVault(t, store.NewMem())
			src := newTree(t, dir)
			src.open = func(name string, f source.File, err error) (source.File, error) {
				if name == "a" {
					f.Close()
					return nil, trouble
				}
				return f, err
			}
			m := v.run(t, src, backup.Full)
			if want := trouble == unix.EIO; (m.ProblemCount > 0) != want {
				t.Errorf("got %d problems after %v", m.ProblemCount, trouble)
			}
			got := v.read(t, m)
			if !bytes.Equal(got["b"].data, random(3, size)) || !bytes.Equal(got["c"].data, random(3, size)) {
				t.Errorf("%v: the further names are not in the snapshot", trouble)
			}
			if n := src.opened.Load(); n != 2 {
				t.Errorf("got %d opens, want one of the first name and one of the second", n)
			}
		}
	}
}

// An inode that is freed and taken again while the scan goes on.
func TestRun_DoesNotMistakeAReusedInodeForALink(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "z"} {
		write(t, dir, name, []byte("content of "+name))
		must(t, os.Link(filepath.Join(dir, name), filepath.Join(dir, name+"2")))
	}
	v := newVault(t, store.NewMem())
	src := newTree(t, dir)
	var first uint64
	real := map[string]uint64{}
	src.enter = func(e *source.Entry) {
		if e.Type != source.Regular {
			return
		}
		if first == 0 {
			first = e.Ino
		}
		real[e.Name], e.Ino = e.Ino, first
	}
	src.Source = &inodes{src.Source, real}
	m := clean(t, v.run(t, src, backup.Full))
	v.wantTree(t, m, dir)
}

// inodes opens entries that were given another inode by the test.
type inodes struct {
	source.Source
	real map[string]uint64
}

func (s *inodes) Open(e *source.Entry) (source.File, error) {
	c := *e
	c.Ino = s.real[e.Name]
	return s.Source.Open(&c)
}

func TestRun_KeepsHoles(t *testing.T) {
	dir := t.TempDir()
	size := int64(backup.LargeFile)
	for i, name := range []string{"small", "large", "only a hole"} {
		f, err := os.Create(filepath.Join(dir, name))
		must(t, err)
		must(t, f.Truncate(size/2+int64(i)*size))
		if i < 2 {
			_, err = f.WriteAt(random(5, 50_000), 1<<20)
			must(t, err)
			_, err = f.WriteAt(random(6, 50_000), size/2-50_000+int64(i)*size)
			must(t, err)
		}
		must(t, f.Close())
	}
	v := newVault(t, store.NewMem())
	m := clean(t, v.run(t, newTree(t, dir), backup.Full))
	v.wantTree(t, m, dir)
	if c := m.Totals; c.BytesRead > 300_000 {
		t.Errorf("%d bytes read of files that hold 200,000", c.BytesRead)
	}
	for name, f := range v.read(t, m) {
		if !f.Sparse {
			t.Errorf("%s is not sparse", name)
		}
	}
}

func TestRun_CutsLargeFilesLikeSmallOnes(t *testing.T) {
	data := random(7, 40<<20)
	dir := t.TempDir()
	write(t, dir, "f", data)
	v := newVault(t, store.NewMem())
	m := clean(t, v.run(t, newTree(t, dir), backup.Full))
	v.wantTree(t, m, dir)

	// The small path, by a source that shows the file's size too late.
	src := newTree(t, dir)
	src.enter = func(e *source.Entry) { e.Size = min(e.Size, 100) }
	again := clean(t, v.run(t, src, backup.Full))
	a, b := v.read(t, m)["f"], v.read(t, again)["f"]
	if again.Totals.BytesNew != 0 || again.Totals.BytesRead != int64(len(data)) || a.Content.Root != b.Content.Root || a.Content.Chunks < 300 {
		t.Errorf("got %+v with %d chunks, want the same %d chunks", again.Totals, b.Content.Chunks, a.Content.Chunks)
	}
}

func TestRun_CutsWithEveryProfile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "large", random(8, 3*backup.LargeFile))
	write(t, dir, "small", random(9, backup.LargeFile-1))
	write(t, dir, "one byte", []byte{1})
	for _, profile := range []string{"files", "database", "media"} {
		v := newVault(t, store.NewMem())
		o := options(backup.Full)
		o.Part.Profile = profile
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		rep, err := v.try(t, ctx, newTree(t, dir), o)
		cancel()
		must(t, err)
		v.wantTree(t, clean(t, rep.Snapshot), dir)
	}
}

func TestRun_MovesProgressDuringALargeFile(t *testing.T) {
	dir := t.TempDir()
	data := random(10, 60<<20)
	write(t, dir, "f", data)
	v := newVault(t, store.NewMem())
	src := newTree(t, dir)
	var prog backup.Progress
	seen := int64(0)
	src.open = func(_ string, f source.File, err error) (source.File, error) {
		return &hooked{File: f, before: func(int) error {
			seen = max(seen, prog.Bytes.Load())
			return nil
		}}, err
	}
	r := v.open(t)
	defer r.Close()
	rep, err := backup.Run(t.Context(), r, []backup.Part{{Part: options(backup.Full).Part, From: src}}, options(backup.Full).Options, &prog)
	must(t, err)
	clean(t, rep.Snapshot)
	if seen < int64(len(data))/4 || seen > int64(len(data)) {
		t.Errorf("got %d bytes shown when the last of %d was read", seen, len(data))
	}
	if got := prog.Bytes.Load(); got != int64(len(data)) {
		t.Errorf("got %d bytes at the end, want %d", got, len(data))
	}
}

func TestRun_DryRunCountsWhatARunWould(t *testing.T) {
	dir := t.TempDir()
	sample(t, dir)
	must(t, os.Link(filepath.Join(dir, "empty"), filepath.Join(dir, "empty too")))
	settle()
	v := newVault(t, store.NewMem())
	for i := range 2 {
		o := options(backup.Incremental)
		o.DryRun = true
		before, _ := v.size(t)
		src := newTree(t, dir)
		dry, err := v.try(t, t.Context(), src, o)
		must(t, err)
		if after, _ := v.size(t); after != before || src.opened.Load() != 0 || src.left.Load() != src.released.Load() {
			t.Errorf("run %d: a dry run wrote or read something, or kept a directory", i)
		}
		m := clean(t, v.run(t, newTree(t, dir), backup.Incremental))
		got, want := dry.Snapshot.Totals, m.Totals
		got.BytesRead, got.BytesNew, got.BytesStored = want.BytesRead, want.BytesNew, want.BytesStored
		if got != want || dry.Snapshot.Type != m.Type {
			t.Errorf("run %d: got %+v, want %+v", i, got, want)
		}
		write(t, dir, "docs/00/note-0.txt", []byte("changed"))
		must(t, os.RemoveAll(filepath.Join(dir, "docs/01/note-1.txt")))
	}
}

func TestRun_RefusesWhatCouldNotBeWrittenAtTheEnd(t *testing.T) {
	v := newVault(t, store.NewMem())
	src := newTree(t, t.TempDir())
	for name, change := range map[string]func(o *asked){
		"type":           func(o *asked) { o.Type = "partial" },
		"id":             func(o *asked) { o.ID = "my-backup" },
		"source":         func(o *asked) { o.Part.Source = "" },
		"profile":        func(o *asked) { o.Part.Profile = "films" },
		"too many paths": func(o *asked) { o.Part.Paths = slices.Repeat([][]byte{[]byte("/a")}, repo.MaxPaths+1) },
	} {
		o := options(backup.Full)
		change(&o)
		if _, err := v.try(t, t.Context(), src, o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if src.left.Load() > 0 {
		t.Error("the source was scanned all the same")
	}
}

func TestRun_OneWriterAtATime(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "f", []byte("x"))
	v := newVault(t, store.NewMem())
	src := newTree(t, dir)
	entered := 0
	src.fail = func(*source.Entry) error {
		if entered++; entered > 1 {
			return nil
		}
		var locked *store.LockedError
		if _, err := v.try(t, t.Context(), newTree(t, dir), options(backup.Full)); !errors.As(err, &locked) {
			t.Errorf("second run: got %v, want a LockedError", err)
		}
		return nil
	}
	clean(t, v.run(t, src, backup.Full))
	clean(t, v.run(t, newTree(t, dir), backup.Full))
}

func TestRun_LeavesNothingBehindAfterRandomTrees(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	dir := t.TempDir()
	v := newVault(t, store.NewMem())
	leaks := sourcetest.NoLeaks(t)
	for round := range 6 {
		for range 60 {
			name := fmt.Sprintf("d%d/e%d/f%d", rng.IntN(5), rng.IntN(4), rng.IntN(8))
			if rng.IntN(4) == 0 {
				must(t, os.RemoveAll(filepath.Join(dir, filepath.Dir(name))))
			} else {
				write(t, dir, name, random(rng.Uint64()%1000, rng.IntN(200_000)))
			}
		}
		typ := []backup.Type{backup.Full, backup.Incremental, backup.Differential}[round%3]
		v.wantTree(t, clean(t, v.run(t, newTree(t, dir), typ)), dir)
	}
	leaks()
}
