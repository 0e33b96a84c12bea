package repo

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/generalbots/backupd/chunker"
	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/store"
)

// treeOf is what a snapshot is to hold: entries by path, and the bytes of
// regular files, holes included.
type treeOf struct {
	entries map[string]*Entry
	data    map[string][]byte
}

func (m *treeOf) add(path string, e Entry, data []byte) {
	e.Name = path[strings.LastIndexByte(path, '/')+1:]
	e.Mode, e.UID, e.GID, e.User, e.Group = 0o640, 1000, 100, "ada", "users"
	e.Mtime, e.Ctime, e.Inode, e.Device, e.Nlink = Time{-7, 999_999_999}, Time{1 << 40, 1}, 1<<63+uint64(len(m.entries)), 42, 1
	e.Size = int64(len(data))
	m.entries[path], m.data[path] = &e, data
}

// save writes the tree as backups do, with the chunks of the file of the same
// path in base as dictionaries, and commits it.
func (m *treeOf) save(t *testing.T, r *Repo, base map[string][]Ref) (refs map[string][]Ref, s *Snapshot) {
	t.Helper()
	ctx := t.Context()
	w, err := r.NewWriter(ctx, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	lane, err := w.NewLane()
	if err != nil {
		t.Fatal(err)
	}
	cutter, err := chunker.New(chunker.Params{Min: 1 << 10, Avg: 4 << 10, Max: 16 << 10, Normalisation: 2}, chunker.NewTable(r.GearMaterial()))
	if err != nil {
		t.Fatal(err)
	}
	tree := w.Tree()
	refs = map[string][]Ref{}
	var fill func(at string) Dir
	fill = func(at string) Dir {
		d := tree.NewDir(nil, nil)
		var names []string
		for path := range m.entries {
			if path[:strings.LastIndexByte(path, '/')] == at {
				names = append(names, path)
			}
		}
		for _, path := range slices.Sorted(slices.Values(names)) {
			e := *m.entries[path]
			switch e.Type {
			case TypeDirectory:
				e.Dir = fill(path)
			case TypeRegular:
				data := m.data[path]
				if e.Sparse {
					data = nil
					for _, x := range e.Extents {
						data = append(data, m.data[path][x.Off:x.Off+x.Len]...)
					}
				}
				c := tree.NewContent(nil, nil)
				for i := 0; len(data) > 0; i++ {
					n := cutter.Cut(data, true)
					ref := lane.Ref(data[:n])
					var like []Ref
					if b := base[path]; i < len(b) {
						like = b[max(0, i-1):min(len(b), i+2)]
					}
					if _, err := lane.Put(ctx, data[:n], ref, like); err != nil {
						t.Fatal(err)
					}
					if err := c.Add(ctx, ref); err != nil {
						t.Fatal(err)
					}
					refs[path] = append(refs[path], ref)
					data = data[n:]
				}
				if e.Content, err = c.Close(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.Add(ctx, &e); err != nil {
				t.Fatal(err)
			}
		}
		dir, err := d.Close(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	root := Entry{Type: TypeDirectory, Dir: fill("")}
	if err := lane.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	man := bareManifest(t, r)
	man.Parts[0].Failed = false
	if err := man.Parts[0].SetRoot(&root); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(ctx, man); err != nil {
		t.Fatal(err)
	}
	if s, err = r.Resolve(man.ID); err != nil {
		t.Fatal(err)
	}
	return refs, s
}

// sameAs compares what a stranger reads with what was written.
func (m *treeOf) sameAs(r *stranger, root *strangeEntry) error {
	left := maps.Clone(m.entries)
	err := r.directory(root, "", func(path string, g *strangeEntry) error {
		e := left[path]
		if e == nil {
			return fmt.Errorf("%s was never written, or is there twice", path)
		}
		delete(left, path)
		var xattrs []string
		for _, x := range e.Xattrs {
			xattrs = append(xattrs, x.Name, string(x.Value))
		}
		if g.kind != byte(e.Type) || g.mode != uint64(e.Mode) || g.uid != uint64(e.UID) || g.gid != uint64(e.GID) || g.user != e.User || g.group != e.Group ||
			g.mtime != [2]int64{e.Mtime.Sec, int64(e.Mtime.Nsec)} || g.target != e.Target || !slices.Equal(g.xattrs, xattrs) {
			return fmt.Errorf("%s: got %+v, want %+v", path, g, e)
		}
		if e.Type != TypeRegular {
			return nil
		}
		got, err := r.content(g)
		if err == nil && !bytes.Equal(got, m.data[path]) {
			err = fmt.Errorf("%d other bytes than the %d written", len(got), len(m.data[path]))
		}
		if err != nil {
			return fmt.Errorf("%s: %v", path, err)
		}
		return nil
	})
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d entries are missing", len(left))
	}
	return err
}

func TestFormat_IndependentReader(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	dir := t.TempDir()
	disk, err := durable.OS(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	st := store.NewDir(disk)
	if err := st.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{})
	defer r.Close()

	first := &treeOf{map[string]*Entry{}, map[string][]byte{}}
	first.add("/empty", Entry{Type: TypeRegular}, nil)
	first.add("/dump.sql", Entry{Type: TypeRegular}, textRows(rng, 30_000))
	first.add("/noise", Entry{Type: TypeRegular}, slices.Concat(randomChunks(rng, 30, 40_000, 60_000)...))
	holes := make([]byte, 500_000)
	copy(holes[100_000:], textRows(rng, 1000)[:50_000])
	copy(holes[499_000:], randomChunks(rng, 1, 1000, 1000)[0])
	first.add("/sparse", Entry{Type: TypeRegular, Sparse: true, Extents: []Extent{{100_000, 50_000}, {499_000, 1000}}}, holes)
	first.add("/link", Entry{Type: TypeSymlink, Target: "../\xff"}, nil)
	first.add("/null", Entry{Type: TypeCharDevice, Major: 1, Minor: 3}, nil)
	first.add("/pipe", Entry{Type: TypeFIFO, Xattrs: []Xattr{{"user.a", []byte("1")}, {"user.b", nil}}}, nil)
	first.add("/void", Entry{Type: TypeDirectory}, nil)
	first.add("/many", Entry{Type: TypeDirectory}, nil)
	for i := range 2000 {
		first.add(fmt.Sprintf("/many/%d \xfe", i), Entry{Type: TypeRegular}, fmt.Appendf(nil, "file %d", i))
	}
	refs, one := first.save(t, r, nil)

	second := &treeOf{maps.Clone(first.entries), maps.Clone(first.data)}
	dump := bytes.Clone(first.data["/dump.sql"])
	for range 60 {
		copy(dump[rng.IntN(len(dump)-10):], "xxxxxxxxxx")
	}
	second.add("/dump.sql", Entry{Type: TypeRegular}, dump)
	refs, two := second.save(t, r, refs)
	third := &treeOf{maps.Clone(second.entries), maps.Clone(second.data)}
	third.add("/dump.sql", Entry{Type: TypeRegular}, append(bytes.Clone(dump[:len(dump)/2]), dump[len(dump)/3:]...))
	_, three := third.save(t, r, refs)
	for _, change := range []func(context.Context, ...string) error{r.Forget, r.Undelete, r.Forget} {
		if err := change(t.Context(), two.ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Forget(t.Context(), one.ID); err != nil {
		t.Fatal(err)
	}
	if err := r.Undelete(t.Context(), one.ID); err != nil {
		t.Fatal(err)
	}
	if len(r.Snapshots()) != 2 {
		t.Fatalf("%d snapshots, want 2", len(r.Snapshots()))
	}

	secret := crypto.Sum256([]byte("test"))
	for _, gc := range []bool{false, true} {
		if gc {
			if _, err := r.GC(t.Context(), GCOptions{}, new(GCProgress)); err != nil {
				t.Fatal(err)
			}
		}
		s, parts, err := openStranger(os.DirFS(dir), secret[:])
		if err != nil {
			t.Fatal(err)
		}
		if len(parts) != 2 {
			t.Fatalf("gc %v: the stranger finds %d snapshots, want 2", gc, len(parts))
		}
		for id, want := range map[string]*treeOf{one.ID: first, three.ID: third} {
			if len(parts[id]) != 1 {
				t.Fatalf("gc %v: snapshot %s has %d parts", gc, id, len(parts[id]))
			}
			root, err := strangeDecode(parts[id][0].Root)
			if err == nil {
				err = want.sameAs(s, root)
			}
			if err != nil {
				t.Errorf("gc %v: snapshot %s: %v", gc, id, err)
			}
		}
		if s.deltas == 0 {
			t.Errorf("gc %v: no block had a dictionary", gc)
		}
	}
	if _, _, err := openStranger(os.DirFS(dir), make([]byte, 32)); err == nil {
		t.Error("the stranger opens the repository with another key")
	}
}

// The stranger proves nothing when it uses what it is to prove.
func TestFormat_IndependentReaderUsesNothingOfThePackage(t *testing.T) {
	own := map[string]bool{}
	eachProductFile(t, ".", func(f *ast.File) {
		for name := range f.Scope.Objects {
			own[name] = true
		}
	})
	for _, name := range []string{"stranger_test.go", "stranger_tree_test.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range f.Unresolved {
			if own[id.Name] {
				t.Errorf("%s uses %s", name, id.Name)
			}
		}
	}
}

// Section 9 of FORMAT.md, byte by byte.
func TestFormat_ChunkBoundariesAreThoseDescribed(t *testing.T) {
	b, err := os.ReadFile(formatDocument)
	if err != nil {
		t.Fatal(err)
	}
	factors := []uint64{45426, 53145, 58496, 61752}
	if !bytes.Contains(b, []byte(strings.Trim(strings.ReplaceAll(fmt.Sprint(factors), " ", ", "), "[]"))) {
		t.Errorf("FORMAT.md does not name the factors %v", factors)
	}
	rng := rand.New(rand.NewPCG(7, 8))
	data := randomChunks(rng, 1, 1<<18, 1<<18)[0]
	material := (*[2048]byte)(randomChunks(rng, 1, 2048, 2048)[0])
	for _, p := range []chunker.Params{{Min: 64, Avg: 256, Max: 300}, {Min: 200, Avg: 1 << 10, Max: 5000, Normalisation: 1},
		{Min: 1 << 10, Avg: 4 << 10, Max: 16 << 10, Normalisation: 2}, {Min: 127, Avg: 128, Max: 4000, Normalisation: 3}} {
		c, err := chunker.New(p, chunker.NewTable(material))
		if err != nil {
			t.Fatal(err)
		}
		d, n := uint64(p.Avg-p.Min), p.Normalisation
		turn, hard, easy := min(p.Min+int(d*factors[n]>>16), p.Max), (1<<64-1)/(d<<n), uint64(1<<64-1)
		if d >= 1<<n {
			easy = (1<<64 - 1) / d << n
		}
		for rest := data; len(rest) > 0; {
			want := min(p.Max, len(rest))
			h := uint64(0)
			for i, x := range rest[:want] {
				h = 2*h + binary.LittleEndian.Uint64(material[8*int(x):])
				if l := i + 1; l >= p.Min && (l < turn && h < hard || l >= turn && h < easy) {
					want = l
					break
				}
			}
			if got := c.Cut(rest, true); got != want {
				t.Fatalf("%+v: got a chunk of %d bytes at %d, want %d", p, got, len(data)-len(rest), want)
			}
			rest = rest[want:]
		}
	}
}
