package backup_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

// TestMain has the modes of what tests make be those that they name, whatever umask they were started with.
func TestMain(m *testing.M) {
	syscall.Umask(0o022)
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testKey(t testing.TB) crypto.Credential {
	t.Helper()
	key := sha256.Sum256([]byte("the key of all test repositories"))
	c, err := crypto.KeyFileCredential(key[:])
	must(t, err)
	return c
}

// vault is a repository in a store; each run opens it anew, as each process
// does.
type vault struct {
	st    store.Store
	state string // state directory, or none
}

// newVault makes a repository that has to be sound when the test ends.
func newVault(t testing.TB, st store.Store) *vault {
	t.Helper()
	v := &vault{st: st}
	_, err := repo.Init(t.Context(), st, repo.InitOptions{Slots: []repo.NewSlot{{Label: "test", Credential: testKey(t)}}})
	must(t, err)
	t.Cleanup(func() { v.check(t) })
	return v
}

func (v *vault) open(t testing.TB) *repo.Repo {
	t.Helper()
	r, err := repo.Open(context.Background(), v.st, []crypto.Credential{testKey(t)}, repo.Options{StateDir: v.state})
	must(t, err)
	return r
}

// check reads every byte.
func (v *vault) check(t testing.TB) {
	t.Helper()
	r := v.open(t)
	defer r.Close()
	rep, err := r.Check(context.Background(), repo.CheckOptions{ReadData: true}, new(repo.CheckProgress))
	must(t, err)
	if !rep.Sound() {
		t.Errorf("the repository is not sound: %+v %+v", rep.Findings, rep.DamagedFiles)
	}
}

// size is what all packs of the store take.
func (v *vault) size(t testing.TB) (bytes int64, packs int) {
	t.Helper()
	infos, err := v.st.List(context.Background(), "packs")
	must(t, err)
	for _, in := range infos {
		bytes += in.Size
	}
	return bytes, len(infos)
}

// options are those of a test's run.
func options(typ backup.Type) asked {
	return asked{backup.Options{Type: typ, Host: "here", Workers: 2},
		repo.Part{Source: "files", Kind: "files", Profile: "files", Paths: [][]byte{[]byte("/data")}}}
}

// asked is what a test asks of a run of one part.
type asked struct {
	backup.Options
	Part repo.Part
}

func (v *vault) try(t testing.TB, ctx context.Context, src source.Source, o asked) (*backup.Report, error) {
	t.Helper()
	r := v.open(t)
	defer r.Close()
	return backup.Run(ctx, r, []backup.Part{{Part: o.Part, From: src}}, o.Options, new(backup.Progress))
}

func (v *vault) run(t testing.TB, src source.Source, typ backup.Type) *repo.Manifest {
	t.Helper()
	rep, err := v.try(t, t.Context(), src, options(typ))
	must(t, err)
	return rep.Snapshot
}

// clean wants a run without problems.
func clean(t testing.TB, m *repo.Manifest) *repo.Manifest {
	t.Helper()
	if m.Status != "completed" || m.ProblemCount > 0 {
		t.Errorf("got %s with problems %s", m.Status, problems(m))
	}
	return m
}

func problems(m *repo.Manifest) string {
	var b strings.Builder
	for _, p := range m.Problems {
		fmt.Fprintf(&b, "%s: %s: %s\n", p.Path, p.Op, p.Text)
	}
	return b.String()
}

// file is an entry of a snapshot and its bytes, holes included.
type file struct {
	repo.Entry
	data []byte
}

// read returns everything in a snapshot, by path without the slash in front.
func (v *vault) read(t testing.TB, m *repo.Manifest) map[string]file {
	t.Helper()
	r := v.open(t)
	defer r.Close()
	return readAll(t, r, m)
}

// readAll is read of an open repository.
func readAll(t testing.TB, r *repo.Repo, m *repo.Manifest) map[string]file {
	t.Helper()
	root, err := r.Root(&m.Parts[0])
	must(t, err)
	all := make(map[string]file)
	var walk func(prefix string, d repo.Dir)
	walk = func(prefix string, d repo.Dir) {
		dr := r.Reader().Dir(d)
		for {
			raw, ok, err := dr.Next(t.Context())
			must(t, err)
			if !ok {
				return
			}
			var f file
			must(t, raw.Entry(&f.Entry))
			if f.Type == repo.TypeRegular {
				f.data = contentOf(t, r, &f.Entry)
			}
			all[prefix+f.Name] = f
			if f.Type == repo.TypeDirectory {
				walk(prefix+f.Name+"/", f.Dir)
			}
		}
	}
	walk("", root.Dir)
	return all
}

func contentOf(t testing.TB, r *repo.Repo, e *repo.Entry) []byte {
	t.Helper()
	var data []byte
	cr := r.Reader().Content(&e.Content)
	for {
		ref, ok, err := cr.Next(t.Context())
		must(t, err)
		if !ok {
			break
		}
		data, err = r.Reader().AppendChunk(t.Context(), data, ref.ID)
		must(t, err)
	}
	if !e.Sparse {
		return data
	}
	whole := make([]byte, e.Size)
	for _, x := range e.Extents {
		data = data[copy(whole[x.Off:x.Off+x.Len], data):]
	}
	return whole
}

// wantTree compares a snapshot with what is below dir.
func (v *vault) wantTree(t testing.TB, m *repo.Manifest, dir string) {
	t.Helper()
	got := v.read(t, m)
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name := strings.TrimPrefix(path, dir+"/")
		f, ok := got[name]
		delete(got, name)
		if !ok {
			t.Errorf("%q is not in the snapshot", name)
			return nil
		}
		if d.Type().IsRegular() {
			if want, err := os.ReadFile(path); err != nil || !bytes.Equal(f.data, want) {
				t.Errorf("%q: other bytes are in the snapshot (%d, want %d)", name, len(f.data), len(want))
			}
		}
		return nil
	}))
	for name := range got {
		t.Errorf("%q is in the snapshot only", name)
	}
}

// tree is a source of what is below dir, which is its root; it can be made to
// misbehave.
type tree struct {
	source.Source
	dir   string
	enter func(e *source.Entry)                                            // before an entry is handed on
	fail  func(e *source.Entry) error                                      // ends the scan
	open  func(name string, f source.File, err error) (source.File, error) // instead of a file that was opened

	left, released atomic.Int64
	opened         atomic.Int64
}

func newTree(t testing.TB, dir string) *tree {
	t.Helper()
	src, err := source.NewFiles(source.FilesOptions{Paths: []string{dir}, Workers: 2})
	must(t, err)
	return &tree{Source: src, dir: dir}
}

func (s *tree) Scan(ctx context.Context) iter.Seq2[source.Entry, error] {
	above := strings.Count(s.dir, "/")
	return func(yield func(source.Entry, error) bool) {
		depth := 0
		for e, err := range s.Source.Scan(ctx) {
			if err == nil && s.fail != nil {
				err = s.fail(&e)
			}
			if err != nil {
				yield(source.Entry{}, err)
				return
			}
			if e.Event == source.Enter {
				depth++
			}
			at := depth
			if e.Event == source.Leave {
				depth--
				if at <= above {
					s.Source.Release(&e)
				}
			}
			if at <= above {
				continue
			}
			if at == above+1 && e.Event != source.Item {
				e.Name = ""
			}
			if e.Event == source.Leave {
				s.left.Add(1)
			}
			if s.enter != nil {
				s.enter(&e)
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (s *tree) Release(e *source.Entry) {
	s.released.Add(1)
	s.Source.Release(e)
}

func (s *tree) Open(e *source.Entry) (source.File, error) {
	s.opened.Add(1)
	f, err := s.Source.Open(e)
	if s.open != nil {
		return s.open(e.Name, f, err)
	}
	return f, err
}

// hooked is a file that calls before each Read, which are short, and ReadAt.
type hooked struct {
	source.File
	before func(read int) error // read tells how many reads there were
	reads  int
}

func (f *hooked) Read(p []byte) (int, error) {
	err := f.before(f.reads)
	if f.reads++; err != nil {
		return 0, err
	}
	return f.File.Read(p[:min(len(p), 64<<10)])
}

func (f *hooked) ReadAt(p []byte, off int64) (int, error) {
	err := f.before(f.reads)
	if f.reads++; err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

// settle waits until what was just written is older than the next run by more
// than the margin for racy files.
func settle() { time.Sleep(130 * time.Millisecond) }

func write(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, data, 0o644))
}

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	rng.Read(b)
	return b
}

// rows is a text dump of about n bytes.
func rows(rng *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+128)
	for id := 0; len(b) < n; id++ {
		b = appendRow(b, rng, id)
	}
	return b
}

func appendRow(b []byte, rng *rand.Rand, id int) []byte {
	return fmt.Appendf(b, "INSERT INTO users VALUES (%08d, 'user%d@example.org', '%016x', %d);\n", id, rng.IntN(1e6), rng.Uint64(), rng.IntN(1000))
}

// rewrite changes that share of the rows of a dump.
func rewrite(b []byte, rng *rand.Rand, share float64) []byte {
	out := make([]byte, 0, len(b)+1024)
	for id, line := range bytes.SplitAfter(b, []byte("\n")) {
		if len(line) > 0 && rng.Float64() < share {
			out = appendRow(out, rng, id)
			continue
		}
		out = append(out, line...)
	}
	return out
}

// synthetic is a source of files that no disk holds.
type synthetic struct {
	perDir, dirs int
	content      func(name string) []byte
	at           source.Time
	seen         func(n int)
	timeless     bool
}

func (s *synthetic) entry(ev source.Event, typ source.Type, name string, ino uint64) source.Entry {
	e := source.Entry{Event: ev, Type: typ, Name: name, Mode: 0o644, Nlink: 1, Ino: ino, Mtime: s.at, Ctime: s.at, Timeless: s.timeless}
	if typ == source.Regular {
		e.Size = int64(len(s.content(name)))
		e.Blocks = (e.Size + 511) / 512
	}
	return e
}

func (s *synthetic) Scan(ctx context.Context) iter.Seq2[source.Entry, error] {
	return func(yield func(source.Entry, error) bool) {
		n := uint64(1)
		ok := yield(s.entry(source.Enter, source.Directory, "", n), nil)
		for d := 0; d < s.dirs && ok; d++ {
			dir := fmt.Sprintf("dir%06d", d)
			n++
			ok = yield(s.entry(source.Enter, source.Directory, dir, n), nil)
			for i := 0; i < s.perDir && ok; i++ {
				n++
				if s.seen != nil {
					s.seen(int(n))
				}
				ok = yield(s.entry(source.Item, source.Regular, fmt.Sprintf("file%06d-%06d", d, i), n), nil)
			}
			ok = ok && yield(s.entry(source.Leave, source.Directory, dir, n), nil)
		}
		if ok {
			yield(s.entry(source.Leave, source.Directory, "", 1), nil)
		}
	}
}

func (s *synthetic) Details(*source.Entry) (source.Details, error) { return source.Details{}, nil }
func (s *synthetic) Release(*source.Entry)                         {}

// Owner has no names.
func (s *synthetic) Owner(*source.Entry) (user, group string) { return "", "" }
func (s *synthetic) Open(e *source.Entry) (source.File, error) {
	return &memFile{Reader: bytes.NewReader(s.content(e.Name)), entry: *e}, nil
}

type memFile struct {
	*bytes.Reader
	entry source.Entry
}

func (f *memFile) Close() error                            { return nil }
func (f *memFile) Opened() source.Entry                    { return f.entry }
func (f *memFile) Stat() (source.Entry, error)             { return f.entry, nil }
func (f *memFile) Extents() ([]source.Extent, bool, error) { return nil, false, nil }
func (f *memFile) Details() (source.Details, error)        { return source.Details{}, nil }

var _ io.ReaderAt = (*memFile)(nil)
