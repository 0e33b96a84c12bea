package repo

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/generalbots/backupd/crypto"
)

// modelTree is a tree as maps: the entries of a directory, and the directories.
type modelTree struct {
	files map[string]*Entry
	dirs  map[string]*modelTree
	meta  map[string]*Entry // of the directories
}

func newModelTree() *modelTree {
	return &modelTree{map[string]*Entry{}, map[string]*modelTree{}, map[string]*Entry{}}
}

func randomTree(rng *rand.Rand, depth, width int) *modelTree {
	m := newModelTree()
	for range rng.IntN(width) + 1 {
		e := randomEntry(rng, randomName(rng))
		if e.Content.Level > 0 { // its pages would have to exist
			e.Content, e.Size, e.Sparse, e.Extents = Content{}, 0, false, nil
		}
		m.files[e.Name] = e
	}
	for range rng.IntN(4) {
		name := randomName(rng)
		if depth == 0 || m.files[name] != nil {
			continue
		}
		m.dirs[name] = randomTree(rng, depth-1, width)
		m.meta[name] = &Entry{Name: name, Type: TypeDirectory, Mode: rng.Uint32N(0o1000), Mtime: Time{rng.Int64N(1e9), 1}}
	}
	return m
}

// mutate changes a few places of a copy.
func (m *modelTree) mutate(rng *rand.Rand) *modelTree {
	out := newModelTree()
	maps.Copy(out.files, m.files)
	maps.Copy(out.meta, m.meta)
	maps.Copy(out.dirs, m.dirs)
	names := slices.Sorted(maps.Keys(m.files))
	for range min(rng.IntN(3), len(names)) {
		name := names[rng.IntN(len(names))]
		switch e := *m.files[name]; rng.IntN(5) {
		case 0:
			delete(out.files, name)
		case 1:
			e.Mode ^= 0o100
			out.files[name] = &e
		case 2:
			e.Inode, e.Ctime, e.Nlink, e.Device = 1, Time{1, 1}, 1, 1 // no change
			out.files[name] = &e
		case 3:
			out.files[name] = plainFile(name, rng.Uint64N(1000))
		case 4:
			name = randomName(rng)
			if out.dirs[name] == nil {
				out.files[name] = plainFile(name, 5)
			}
		}
	}
	dirs := slices.Sorted(maps.Keys(out.dirs))
	for _, name := range dirs {
		switch rng.IntN(6) {
		case 0, 1:
			out.dirs[name] = m.dirs[name].mutate(rng)
		case 2:
			if rng.IntN(4) == 0 {
				delete(out.dirs, name)
				delete(out.meta, name)
				if rng.IntN(2) == 0 {
					out.files[name] = plainFile(name, 3)
				}
			}
		case 3:
			e := *m.meta[name]
			e.Mtime.Sec++
			out.meta[name] = &e
		}
	}
	if rng.IntN(4) == 0 {
		name := randomName(rng)
		if out.files[name] == nil && out.dirs[name] == nil {
			out.dirs[name] = randomTree(rng, 1, 5)
			out.meta[name] = &Entry{Name: name, Type: TypeDirectory}
		}
	}
	return out
}

// write writes the tree and returns its root.
func (m *modelTree) write(t testing.TB, w *TreeWriter) Dir {
	all := maps.Clone(m.files)
	for name, sub := range m.dirs {
		e := *m.meta[name]
		e.Dir = sub.write(t, w)
		m.meta[name] = &e
		all[name] = &e
	}
	return writeDir(t, w, all, nil, nil)
}

// flatten returns all entries by path.
func (m *modelTree) flatten(path string, out map[string]*Entry) {
	for name, e := range m.files {
		out[path+name] = e
	}
	for name, sub := range m.dirs {
		out[path+name] = m.meta[name]
		sub.flatten(path+name+"/", out)
	}
}

func naiveDiff(a, b map[string]*Entry) map[string]ChangeKind {
	out := map[string]ChangeKind{}
	for path, e := range a {
		switch n := b[path]; {
		case n == nil:
			out[path] = Removed
		case compareEntries(e, n) != 0:
			out[path] = compareEntries(e, n)
		}
	}
	for path := range b {
		if a[path] == nil {
			out[path] = Added
		}
	}
	return out
}

func rootEntry(d Dir) *Entry { return &Entry{Type: TypeDirectory, Mode: 0o755, Dir: d} }

// comparePaths is the order of paths whose names are compared one by one.
func comparePaths(a, b string) int {
	return slices.CompareFunc(strings.Split(a, "/"), strings.Split(b, "/"), cmp.Compare)
}

func TestDiffTrees_TellsWhatAComparisonOfAllPathsTells(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 120 {
		m := newMemPages()
		w := newTreeWriter(m)
		width := []int{3, 30, 800}[round%3]
		depth := []int{4, 3, 1}[round%3]
		old := randomTree(rng, depth, width)
		now := old
		for range 1 + rng.IntN(3) {
			now = now.mutate(rng)
		}
		a, b := rootEntry(old.write(t, w)), rootEntry(now.write(t, w))
		x, y := map[string]*Entry{}, map[string]*Entry{}
		old.flatten("", x)
		now.flatten("", y)
		want := naiveDiff(x, y)
		got := map[string]ChangeKind{}
		last := ""
		for c, err := range diffTrees(t.Context(), m, a, b) {
			if err != nil {
				t.Fatal(err)
			}
			if len(got) > 0 && comparePaths(last, c.Path) >= 0 {
				t.Fatalf("%q comes after %q", c.Path, last)
			}
			last = c.Path
			got[c.Path] = c.Kind
			for _, side := range []struct {
				got, want *Entry
			}{{c.Old, x[c.Path]}, {c.New, y[c.Path]}} {
				if (side.got == nil) != (side.want == nil) || side.got != nil && !reflect.DeepEqual(norm(side.got), norm(side.want)) {
					t.Fatalf("%q: got %+v, want %+v", c.Path, side.got, side.want)
				}
			}
		}
		if !maps.Equal(got, want) {
			t.Fatalf("round %d: got %v, want %v", round, got, want)
		}
	}
}

func TestDiffTrees_ReadsNothingOfEqualTrees(t *testing.T) {
	m := newMemPages()
	d := rootEntry(randomTree(rand.New(rand.NewPCG(3, 2)), 3, 100).write(t, newTreeWriter(m)))
	m.reset()
	for c, err := range diffTrees(t.Context(), m, d, d) {
		t.Errorf("got %+v, %v, want nothing", c, err)
	}
	if m.reads != 0 {
		t.Errorf("got %d pages read, want 0", m.reads)
	}
}

func TestDiffTrees_ReadsOnlyThePagesAroundAChange(t *testing.T) {
	m := newMemPages()
	w := newTreeWriter(m)
	model := map[string]*Entry{}
	for i := range 60000 {
		e := plainFile(fmt.Sprintf("file-%07d", i), uint64(i))
		model[e.Name] = e
	}
	for i := range 50 {
		name := fmt.Sprintf("dir-%03d", i)
		sub := writeDir(t, w, map[string]*Entry{"f": plainFile("f", uint64(i)), "g": plainFile("g", 1)}, nil, nil)
		model[name] = &Entry{Name: name, Type: TypeDirectory, Dir: sub}
	}
	a := writeDir(t, w, model, nil, nil)
	pages := len(m.pages)
	for what, change := range map[string]func(){
		"a file changed":   func() { model["file-0030000"] = plainFile("file-0030000", 1) },
		"a name added":     func() { model["file-0050000a"] = plainFile("file-0050000a", 1) },
		"a name removed":   func() { delete(model, "file-0012345") },
		"first name added": func() { model["a"] = plainFile("a", 1) },
		"last name added":  func() { model["z"] = plainFile("z", 1) },
	} {
		before := maps.Clone(model)
		change()
		b := writeDir(t, w, model, &a, m)
		model = before
		m.reset()
		n := 0
		for c, err := range diffTrees(t.Context(), m, rootEntry(a), rootEntry(b)) {
			if err != nil {
				t.Fatalf("%s: %+v, %v", what, c, err)
			}
			n++
		}
		t.Logf("%s: %d of %d pages read", what, m.reads, pages)
		if n != 1 || m.reads > 8 {
			t.Errorf("%s: got %d changes and %d pages read, want 1 and 8 at most", what, n, m.reads)
		}
	}
}

func TestDiffTrees_CanBeLeftInTheMidst(t *testing.T) {
	m := newMemPages()
	w := newTreeWriter(m)
	a := writeDir(t, w, nil, nil, nil)
	b := writeDir(t, w, map[string]*Entry{"a": plainFile("a", 1), "b": plainFile("b", 1)}, nil, nil)
	n := 0
	for range diffTrees(t.Context(), m, rootEntry(a), rootEntry(b)) {
		n++
		break
	}
	if n != 1 {
		t.Errorf("got %d changes", n)
	}
}

func TestDiffTrees_EndsWithTheErrorOfAPage(t *testing.T) {
	m := newMemPages()
	w := newTreeWriter(m)
	a := writeDir(t, w, map[string]*Entry{"a": plainFile("a", 1)}, nil, nil)
	b := writeDir(t, w, map[string]*Entry{"b": plainFile("b", 1)}, nil, nil)
	m.lost = map[crypto.ID]bool{b.Root: true}
	var errs []error
	for _, err := range diffTrees(t.Context(), m, rootEntry(a), rootEntry(b)) {
		errs = append(errs, err)
	}
	if len(errs) != 1 || !errors.Is(errs[0], ErrNotFound) {
		t.Errorf("got %v, want one ErrNotFound", errs)
	}
	for _, root := range []*Entry{plainFile("f", 1), {Type: TypeDirectory, Dir: Dir{Level: 1}}} {
		for _, err := range diffTrees(t.Context(), m, rootEntry(a), root) {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("a root that is none: got %v", err)
			}
		}
	}
}

func TestWalkTree_ReachesAllPagesAndChunksOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	m := newMemPages()
	w := newTreeWriter(m)
	tree := randomTree(rng, 4, 300)
	want := map[Ref]int{}
	for i, n := range []int{17, 1000, 30000} {
		refs := randomRefs(rng, n)
		for _, r := range refs {
			want[r]++
		}
		c := writeContent(t, w, refs, nil, nil)
		name := fmt.Sprintf("long-%d", i)
		tree.files[name] = &Entry{Name: name, Type: TypeRegular, Size: c.Bytes, Content: c}
	}
	d := tree.write(t, w)
	all := map[string]*Entry{}
	tree.flatten("", all)
	for _, e := range all {
		for _, r := range e.Content.Inline {
			want[r]++
		}
	}

	got := map[Ref]int{}
	seen := map[crypto.ID]int{}
	visit := func(id crypto.ID, kind pageKind, _ uint32) bool {
		if isContent := m.pages[id][0]&0xf0 == contentPageKind; isContent != (kind == contentPage) {
			t.Errorf("page %s: got kind %d", id.Short(), kind)
		}
		seen[id]++
		return seen[id] == 1
	}
	chunk := func(r Ref) { got[r]++ }
	m.reset()
	if err := walkTree(t.Context(), m, d, visit, chunk); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %d chunks, want %d, or other ones", len(got), len(want))
	}
	if len(seen) != len(m.pages) || m.reads != len(m.pages) {
		t.Errorf("got %d pages and %d reads, want %d", len(seen), m.reads, len(m.pages))
	}
	// A second version shares all but a few pages, and costs only those.
	e := *tree.files["long-0"]
	e.Mode = 0o600
	tree.files["long-0"] = &e
	next := tree.write(t, w)
	m.reset()
	if err := walkTree(t.Context(), m, next, visit, chunk); err != nil {
		t.Fatal(err)
	}
	if m.reads > 3 {
		t.Errorf("got %d pages read for a small change, want 3 at most", m.reads)
	}
	if err := walkTree(t.Context(), m, next, nil, nil); err != nil {
		t.Errorf("without callbacks: %v", err)
	}
}

// deepTree writes a chain of directories, each with a file on either side.
func deepTree(t testing.TB, w *TreeWriter, depth int, leaf uint64) Dir {
	d := Dir{}
	for i := range depth {
		d = writeDir(t, w, map[string]*Entry{
			"a": plainFile("a", uint64(i)), "d": {Name: "d", Type: TypeDirectory, Dir: d}, "z": plainFile("z", leaf),
		}, nil, nil)
	}
	return d
}

func TestTree_AsDeepAsMayBeIsWalkedAndComparedAndNoDeeper(t *testing.T) {
	m := newMemPages()
	w := newTreeWriter(m)
	d := deepTree(t, w, MaxTreeDepth, 1)
	chunks := 0
	if err := walkTree(t.Context(), m, d, nil, func(Ref) { chunks++ }); err != nil || chunks != 2*MaxTreeDepth {
		t.Errorf("walk: got %d chunks, %v, want %d", chunks, err, 2*MaxTreeDepth)
	}
	other := deepTree(t, w, MaxTreeDepth, 2)
	n := 0
	for _, err := range diffTrees(t.Context(), m, rootEntry(d), rootEntry(other)) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != MaxTreeDepth {
		t.Errorf("diff: got %d changes, want %d", n, MaxTreeDepth)
	}
	deeper := deepTree(t, w, MaxTreeDepth+1, 1)
	if err := walkTree(t.Context(), m, deeper, nil, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("walk of a deeper tree: got %v, want ErrDamaged", err)
	}
	var last error
	for _, err := range diffTrees(t.Context(), m, rootEntry(Dir{}), rootEntry(deeper)) {
		last = err
	}
	if !errors.Is(last, ErrDamaged) {
		t.Errorf("diff of a deeper tree: got %v, want ErrDamaged", last)
	}
}

// TestWalkTree_KeepsFewPagesOfADeepTree has directories with several pages on
// the way down, which must be let go and found again.
func TestWalkTree_KeepsFewPagesOfADeepTree(t *testing.T) {
	m := newMemPages()
	w := newTreeWriter(m)
	const depth, files = 100, 500
	d := Dir{}
	for i := range depth {
		model := map[string]*Entry{"x-300": {Name: "x-300", Type: TypeDirectory, Dir: d}}
		for j := range files {
			name := fmt.Sprintf("x-%03d.txt", j)
			model[name] = plainFile(name, uint64(i*files+j))
		}
		d = writeDir(t, w, model, nil, nil)
	}
	chunks := 0
	if err := walkTree(t.Context(), m, d, nil, func(Ref) { chunks++ }); err != nil || chunks != depth*files {
		t.Errorf("got %d chunks, %v, want %d", chunks, err, depth*files)
	}
	added := 0
	for c, err := range diffTrees(t.Context(), m, rootEntry(Dir{}), rootEntry(d)) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Kind == Added {
			added++
		}
	}
	if want := depth * (files + 1); added != want {
		t.Errorf("got %d added, want %d", added, want)
	}
}

func BenchmarkWalkTree(b *testing.B) {
	m := newMemPages()
	d := benchDirs(b, m, 1, 100000)[0]
	b.ReportAllocs()
	for b.Loop() {
		if err := walkTree(b.Context(), m, d, nil, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*100000), "ns/entry")
}
