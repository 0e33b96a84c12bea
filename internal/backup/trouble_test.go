package backup_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/source/sourcetest"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

// meddle runs a backup of two files of which one is treated by what while it
// is read, up to times times.
func meddle(t *testing.T, size, times int, what func(path string)) (*vault, *repo.Manifest, string) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "f", random(1, size))
	write(t, dir, "other", []byte("other"))
	v := newVault(t, store.NewMem())
	src := newTree(t, dir)
	src.open = func(name string, f source.File, err error) (source.File, error) {
		if name != "f" || err != nil {
			return f, err
		}
		return &hooked{File: f, before: func(reads int) error {
			if reads == 0 && times > 0 {
				times--
				what(filepath.Join(dir, name))
			}
			return nil
		}}, nil
	}
	leaks := sourcetest.NoLeaks(t)
	m := v.run(t, src, backup.Full)
	leaks()
	if got := v.read(t, m)["other"]; string(got.data) != "other" {
		t.Error("the file beside it suffered")
	}
	return v, m, dir
}

// sizes of the small and the large path.
var sizes = []int{100_000, backup.LargeFile + 100_000}

func TestRun_FileThatChangesOnceIsReadAgain(t *testing.T) {
	for name, what := range map[string]func(t *testing.T, path string){
		"grows":            func(t *testing.T, path string) { must(t, os.WriteFile(path, random(2, 150_000), 0o644)) },
		"shrinks":          func(t *testing.T, path string) { must(t, os.Truncate(path, 10)) },
		"vanishes in part": func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			v, m, dir := meddle(t, sizes[0], 1, func(path string) { settle(); what(t, path) })
			v.wantTree(t, clean(t, m), dir)
		})
	}
}

func TestRun_FileThatKeepsChangingIsReported(t *testing.T) {
	for _, size := range sizes {
		for name, what := range map[string]func(path string){
			"grows": func(path string) {
				f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
				must(t, err)
				_, err = f.Write([]byte("more"))
				must(t, err)
				must(t, f.Close())
			},
			"shrinks": func(path string) {
				st, err := os.Stat(path)
				must(t, err)
				must(t, os.Truncate(path, st.Size()/2))
			},
		} {
			v, m, dir := meddle(t, size, 9, func(path string) { settle(); what(path) })
			if m.Status != "completed_with_problems" || m.ProblemCount != 1 || !strings.Contains(problems(m), "changed while it was read") {
				t.Errorf("%s: got %s:\n%s", name, m.Status, problems(m))
			}
			if got := v.read(t, m)["f"]; int64(len(got.data)) != got.Size || got.Size == 0 {
				t.Errorf("%s: got %d bytes for a size of %d", name, len(got.data), got.Size)
			}
			m = clean(t, v.run(t, newTree(t, dir), backup.Incremental))
			v.wantTree(t, m, dir)
		}
	}
}

func TestRun_FileThatVanishesWhileReadIsKeptAsItWasRead(t *testing.T) {
	v, m, _ := meddle(t, sizes[0], 1, func(path string) { settle(); must(t, os.Remove(path)) })
	if m.ProblemCount != 1 {
		t.Errorf("got %d problems, want one:\n%s", m.ProblemCount, problems(m))
	}
	if got := v.read(t, m)["f"]; !bytes.Equal(got.data, random(1, sizes[0])) {
		t.Errorf("got %d bytes, want those of the file that was opened", len(got.data))
	}
}

func saveByRename(t *testing.T, path string) {
	must(t, os.WriteFile(path+".tmp", []byte("another file"), 0o644))
	must(t, os.Rename(path+".tmp", path))
}

func TestRun_FileThatIsReplacedWhileReadIsReadAnew(t *testing.T) {
	v, m, dir := meddle(t, sizes[0], 1, func(path string) { settle(); saveByRename(t, path) })
	v.wantTree(t, clean(t, m), dir)
}

// Between its listing and its reading lie up to thousands of entries: long
// enough for any program that saves by rename.
func TestRun_FileThatIsReplacedBeforeItIsReadIsThere(t *testing.T) {
	for _, size := range sizes {
		dir := t.TempDir()
		write(t, dir, "f", random(1, size))
		must(t, os.Link(filepath.Join(dir, "f"), filepath.Join(dir, "other name")))
		v := newVault(t, store.NewMem())
		src := newTree(t, dir)
		src.enter = func(e *source.Entry) {
			if e.Name == "f" {
				saveByRename(t, filepath.Join(dir, "f"))
			}
		}
		m := clean(t, v.run(t, src, backup.Full))
		v.wantTree(t, m, dir)
		settle()
		v.wantTree(t, clean(t, v.run(t, newTree(t, dir), backup.Incremental)), dir)
	}
}

// half makes the attributes of some entries unreadable.
type half struct {
	*tree
	broken bool
}

func (h *half) Details(e *source.Entry) (source.Details, error) {
	d, err := h.tree.Details(e)
	if h.broken && (e.Name == "dir" || e.Name == "link") {
		err = errors.New("no attributes today")
	}
	return d, err
}

func (h *half) Open(e *source.Entry) (source.File, error) {
	f, err := h.tree.Open(e)
	if err == nil && h.broken && e.Name != "good" {
		f = halfFile{f}
	}
	return f, err
}

type halfFile struct{ source.File }

func (halfFile) Details() (source.Details, error) {
	return source.Details{}, errors.New("no attributes today")
}

// An entry that is not whole must be tried again, and reported again, however
// little the file changes: a run that says nothing vouches for everything.
func TestRun_TakesNothingOverThatWasStoredWithAProblem(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "dir/small", []byte("small"))
	write(t, dir, "dir/large", random(1, backup.LargeFile+1))
	write(t, dir, "good", []byte("good"))
	write(t, dir, "name1", []byte("names"))
	must(t, os.Link(filepath.Join(dir, "name1"), filepath.Join(dir, "name2")))
	must(t, os.Symlink("good", filepath.Join(dir, "link")))
	settle()
	v := newVault(t, store.NewMem())
	for i, want := range []struct {
		broken bool
		read   int64
	}{{true, backup.LargeFile + 15}, {true, backup.LargeFile + 11}, {false, backup.LargeFile + 11}, {false, 0}} {
		m := v.run(t, &half{newTree(t, dir), want.broken}, backup.Incremental)
		if got := m.ProblemCount > 0; got != want.broken {
			t.Errorf("run %d: got %d problems, want some %v:\n%s", i, m.ProblemCount, want.broken, problems(m))
		}
		if m.Totals.BytesRead != want.read {
			t.Errorf("run %d: read %d bytes, want %d", i, m.Totals.BytesRead, want.read)
		}
		v.wantTree(t, m, dir)
	}
}

// nameless knows no owners, as a host does for the files of containers, and one attribute.
type nameless struct{ *tree }

func (nameless) Owner(*source.Entry) (user, group string) { return "", "" }

func (n nameless) Details(e *source.Entry) (source.Details, error) {
	d, err := n.tree.Details(e)
	d.User, d.Group = "", ""
	if e.Name == "dir" {
		d.Xattrs = []source.Xattr{{Name: "user.note", Value: []byte("of dir")}}
	}
	return d, err
}

// Of a directory that could not be listed the attributes are not known: what lstat tells of it may stay for ever.
func TestRun_TakesNoDirectoryOverThatCouldNotBeListed(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "dir"), 0o755))
	settle()
	v := newVault(t, store.NewMem())
	src := nameless{newTree(t, dir)}
	src.enter = func(e *source.Entry) {
		if e.Name == "dir" {
			e.Err = unix.EIO
		}
	}
	if m := v.run(t, src, backup.Full); m.ProblemCount != 1 {
		t.Fatalf("got %d problems, want one", m.ProblemCount)
	}
	settle()
	m := clean(t, v.run(t, nameless{newTree(t, dir)}, backup.Incremental))
	if got := v.read(t, m)["dir"].Xattrs; len(got) != 1 || string(got[0].Value) != "of dir" {
		t.Errorf("the attributes of the directory are %v in a snapshot without problems", got)
	}
}

func TestRun_SparseFileThatShrinksEndsWhereItsDataEnd(t *testing.T) {
	for _, size := range []int64{2 << 20, 3 * backup.LargeFile} {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		f, err := os.Create(path)
		must(t, err)
		must(t, f.Truncate(size))
		for _, off := range []int64{0, size / 2, size - 100_000} {
			_, err = f.WriteAt(random(1, 100_000), off)
			must(t, err)
		}
		must(t, f.Close())
		v := newVault(t, store.NewMem())
		src := newTree(t, dir)
		cut := size/2 + 50_000
		src.open = func(_ string, f source.File, err error) (source.File, error) {
			return &hooked{File: f, before: func(reads int) error {
				if reads == 0 {
					settle()
					must(t, os.Truncate(path, cut))
					cut--
				}
				return nil
			}}, err
		}
		m := v.run(t, src, backup.Full)
		if m.ProblemCount != 1 {
			t.Errorf("got %d problems:\n%s", m.ProblemCount, problems(m))
		}
		got := v.read(t, m)["f"]
		want, err := os.ReadFile(path)
		must(t, err)
		if n := len(want); len(got.data) < n || !bytes.Equal(got.data[:n-1], want[:n-1]) || len(got.data) > n+1 {
			t.Errorf("got %d bytes, want about %d", len(got.data), n)
		}
	}
}

func TestRun_LeavesOutWhatCanNotBeRead(t *testing.T) {
	for _, size := range sizes {
		for _, c := range []struct {
			name string
			open error
			at   int // the read that fails
			err  error
			want int
		}{
			{"no permission", unix.EACCES, 0, nil, 1},
			{"vanished", os.ErrNotExist, 0, nil, 0},
			{"bad disk at the beginning", nil, 0, unix.EIO, 1},
			{"bad disk in the middle", nil, 1, unix.EIO, 1},
		} {
			dir := t.TempDir()
			write(t, dir, "f", random(1, size))
			write(t, dir, "g", []byte("kept"))
			v := newVault(t, store.NewMem())
			clean(t, v.run(t, newTree(t, dir), backup.Full))
			src := newTree(t, dir)
			src.open = func(name string, f source.File, err error) (source.File, error) {
				if name != "f" {
					return f, err
				}
				if c.open != nil {
					f.Close()
					return nil, c.open
				}
				return &hooked{File: f, before: func(n int) error {
					if n >= c.at {
						return c.err
					}
					return nil
				}}, err
			}
			m := v.run(t, src, backup.Full)
			if int(m.ProblemCount) != c.want {
				t.Errorf("%s: got %d problems, want %d", c.name, m.ProblemCount, c.want)
			}
			got := v.read(t, m)
			if _, there := got["f"]; there || len(got) != 1 {
				t.Errorf("%s: got %d entries, want only the file that could be read", c.name, len(got))
			}
			if removed := m.Totals.Removed; (removed == 1) != (c.want == 0) {
				t.Errorf("%s: %d counted as removed", c.name, removed)
			}
		}
	}
}

func TestRun_UnreadableDirectoryIsEmptyAndReported(t *testing.T) {
	dir := t.TempDir()
	sample(t, dir)
	settle()
	v := newVault(t, store.NewMem())
	clean(t, v.run(t, newTree(t, dir), backup.Full))
	src := newTree(t, dir)
	hidden := false
	src.Source = &masked{Source: src.Source, hide: func(e *source.Entry) bool {
		switch {
		case e.Name == "docs" && e.Event == source.Enter:
			hidden, e.Err = true, unix.EACCES
			return false
		case e.Name == "docs" && e.Event == source.Leave:
			hidden = false
		case hidden && e.Event == source.Leave:
			src.Source.Release(e)
		}
		return hidden
	}}
	m := v.run(t, src, backup.Incremental)
	if m.ProblemCount != 1 || string(m.Problems[0].Path) != "/docs" || m.Problems[0].Op != "scan" {
		t.Errorf("got %s:\n%s", m.Status, problems(m))
	}
	if m.Totals.Removed != 0 {
		t.Errorf("%d files count as removed that nobody could look for", m.Totals.Removed)
	}
	if got := v.read(t, m)["docs"]; got.Type != repo.TypeDirectory || got.Dir.Entries != 0 {
		t.Errorf("got %+v, want an empty directory", got.Dir)
	}
	m = clean(t, v.run(t, newTree(t, dir), backup.Incremental))
	v.wantTree(t, m, dir)
	if m.Totals.BytesNew != 0 {
		t.Errorf("%d bytes were stored twice", m.Totals.BytesNew)
	}
}

// masked takes entries out of a scan.
type masked struct {
	source.Source
	hide func(e *source.Entry) bool
}

func (s *masked) Scan(ctx context.Context) iter.Seq2[source.Entry, error] {
	return func(yield func(source.Entry, error) bool) {
		for e, err := range s.Source.Scan(ctx) {
			if err == nil && s.hide(&e) {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestRun_EntryTheFormatHasNoRoomForIsReported(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "f", []byte("x"))
	write(t, dir, "d/g", []byte("x"))
	v := newVault(t, store.NewMem())
	src := newTree(t, dir)
	src.open = func(name string, f source.File, err error) (source.File, error) {
		return &overloaded{f, name}, err
	}
	m := v.run(t, src, backup.Full)
	if m.ProblemCount != 1 || m.Totals.Files != 1 {
		t.Errorf("got %d files and:\n%s", m.Totals.Files, problems(m))
	}
}

// overloaded has an attribute without a name when its file is called f.
type overloaded struct {
	source.File
	name string
}

func (f *overloaded) Details() (source.Details, error) {
	d, err := f.File.Details()
	if f.name == "f" {
		d.Xattrs = []source.Xattr{{Name: ""}}
	}
	return d, err
}

func TestRun_SourceThatFailsLeavesNoSnapshot(t *testing.T) {
	dir := t.TempDir()
	sample(t, dir)
	broken := errors.New("the disk fell out")
	for _, at := range []int{1, 5, 30, 60} {
		v := newVault(t, store.NewMem())
		src := newTree(t, dir)
		n := 0
		src.fail = func(*source.Entry) error {
			if n++; n >= at {
				return broken
			}
			return nil
		}
		leaks := sourcetest.NoLeaks(t)
		if _, err := v.try(t, t.Context(), src, options(backup.Full)); !errors.Is(err, broken) {
			t.Errorf("after %d entries: got %v", at, err)
		}
		leaks()
		r := v.open(t)
		if n := len(r.Snapshots()); n != 0 {
			t.Errorf("after %d entries: %d snapshots", at, n)
		}
		r.Close()
	}
}

func TestRun_VanishedRootIsAnError(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	write(t, dir, "f", []byte("x"))
	v := newVault(t, store.NewMem())
	clean(t, v.run(t, newTree(t, dir), backup.Full))
	src := newTree(t, dir)
	must(t, os.RemoveAll(dir))
	if _, err := v.try(t, t.Context(), src, options(backup.Incremental)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that it does not exist", err)
	}
}

// What goes between being listed and being read is as if the scan had come a
// moment later: no problem, and not in the snapshot.
func TestRun_DirectoryThatVanishesTakesItsFilesAlong(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		write(t, dir, "d/"+name, random(1, 100))
	}
	write(t, dir, "z", []byte("kept"))
	v := newVault(t, store.NewMem())
	src := newTree(t, dir)
	src.enter = func(e *source.Entry) {
		if e.Name == "a" {
			must(t, os.RemoveAll(filepath.Join(dir, "d")))
		}
	}
	m := v.run(t, src, backup.Full)
	if m.ProblemCount > 1 {
		t.Errorf("got %d problems:\n%s", m.ProblemCount, problems(m))
	}
	got := v.read(t, m)
	if string(got["z"].data) != "kept" {
		t.Error("what comes after it suffered")
	}
	if f, there := got["d/b"]; there && len(f.data) != 100 {
		t.Errorf("a file that was gone is in the snapshot with %d bytes", len(f.data))
	}
}

func TestRun_NotesAShrunkenSource(t *testing.T) {
	for _, c := range []struct {
		name string
		keep int
		note bool
	}{{"empty", 0, true}, {"a third", 3, true}, {"most", 8, false}} {
		dir := t.TempDir()
		name := func(i int) string { return string(rune('a' + i)) }
		for i := range 10 {
			write(t, dir, name(i), random(uint64(i), 1000))
		}
		v := newVault(t, store.NewMem())
		clean(t, v.run(t, newTree(t, dir), backup.Full))
		for i := c.keep; i < 10; i++ {
			must(t, os.Remove(filepath.Join(dir, name(i))))
		}
		rep, err := v.try(t, t.Context(), newTree(t, dir), options(backup.Incremental))
		must(t, err)
		notes := strings.Join(rep.Snapshot.Parts[0].Notes, "\n")
		if got := strings.HasPrefix(notes, "suspicious: "); got != c.note || strings.Join(rep.Notes, "\n") != notes {
			t.Errorf("%s: got notes %q and %q", c.name, notes, rep.Notes)
		}
	}
}

func TestRun_TakesAStream(t *testing.T) {
	data := random(20, 9<<20)
	v := newVault(t, store.NewMem())
	for _, n := range []int{0, 100, len(data)} {
		src, err := source.NewStream("dump.sql", io.LimitReader(bytes.NewReader(data), int64(n)))
		must(t, err)
		m := clean(t, v.run(t, src, backup.Incremental))
		if got := v.read(t, m)["dump.sql"]; !bytes.Equal(got.data, data[:n]) || got.Size != int64(n) || m.Totals.BytesTotal != int64(n) {
			t.Errorf("%d bytes: got %d, a size of %d and %+v", n, len(got.data), got.Size, m.Totals)
		}
	}
}

// broken gives some bytes and then an error, as a pipe does whose other end is gone by force.
type broken struct {
	left int
	err  error
}

func (r *broken) Read(p []byte) (int, error) {
	n := min(r.left, len(p))
	if n == 0 {
		return 0, r.err
	}
	r.left -= n
	return n, nil
}

// Half of a stream is no state of anything: no snapshot, lest it be the latest and the base of the next. One whose writer
// closes it early is whole as far as anybody can tell.
func TestRun_MakesNoSnapshotOfAStreamThatBreaksOff(t *testing.T) {
	v := newVault(t, store.NewMem())
	o := options(backup.Incremental)
	o.Part.Source = "stdin"
	stream := func(size int, end error) (*backup.Report, error) {
		src, err := source.NewStream("dump", &broken{size, end})
		must(t, err)
		return v.try(t, t.Context(), src, o)
	}
	whole, err := stream(3<<20, io.EOF)
	must(t, err)
	if got := v.read(t, clean(t, whole.Snapshot))["dump"]; got.Size != 3<<20 {
		t.Errorf("a whole stream: %d bytes", got.Size)
	}
	for _, size := range []int{0, 10, 3 << 20, 30 << 20} {
		rep, err := stream(size, io.ErrUnexpectedEOF)
		if err == nil || !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "no snapshot was made") {
			t.Errorf("broken off after %d bytes: %v, %v", size, rep, err)
		}
	}
	r := v.open(t)
	defer r.Close()
	if snaps := r.Snapshots(); len(snaps) != 1 || snaps[0].ID != whole.Snapshot.ID {
		t.Errorf("got %d snapshots, want the whole stream's", len(snaps))
	}
}
