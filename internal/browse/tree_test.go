package browse_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/browse"
	"github.com/generalbots/backupd/repo"
)

// listed is what List yields, as "source:name".
func listed(t testing.TB, tree *browse.Tree, at string, offset, limit uint64) (names []string) {
	t.Helper()
	for e, err := range tree.List(t.Context(), at, offset, limit) {
		must(t, err)
		names = append(names, e.Source+":"+e.Name)
	}
	return names
}

func TestList_MergesPartsInTheOrderOfNames(t *testing.T) {
	f := newRepo(t)
	random := rand.New(rand.NewPCG(1, 2))
	var want []string
	var parts []func(*forger) []*repo.Entry
	for part := range 3 {
		names := map[string]bool{}
		for range 300 {
			// Few enough that parts share many of them, and bytes on either side of the slash in order.
			names[fmt.Sprintf("n%c%d", ".-0\xff"[random.IntN(4)], random.IntN(400))] = true
		}
		parts = append(parts, func(fg *forger) []*repo.Entry {
			var entries []*repo.Entry
			for name := range names {
				entries = append(entries, fg.file(name, ""))
			}
			return []*repo.Entry{fg.dir("d", entries...)}
		})
		for name := range names {
			want = append(want, string(rune('a'+part))+":"+name)
		}
	}
	slices.SortFunc(want, func(a, b string) int {
		if order := strings.Compare(a[2:], b[2:]); order != 0 {
			return order
		}
		return strings.Compare(a, b)
	})
	tree := f.forge(t, parts...)
	if got := listed(t, tree, "/d", 0, 0); !slices.Equal(got, want) {
		t.Fatalf("got %q\nwant %q", got, want)
	}
	for offset := uint64(0); offset <= uint64(len(want))+1; offset += 7 {
		for _, limit := range []uint64{1, 2, 50, 2000} {
			from := min(int(offset), len(want))
			if got := listed(t, tree, "d", offset, limit); !slices.Equal(got, want[from:min(from+int(limit), len(want))]) {
				t.Fatalf("from %d, %d of them: %q", offset, limit, got)
			}
		}
	}
	found, err := tree.Find(t.Context(), "d")
	must(t, err)
	var total uint64
	for _, e := range found {
		total += e.Dir.Entries
	}
	if total != uint64(len(want)) {
		t.Errorf("the parts say %d entries, there are %d", total, len(want))
	}
}

func TestList_SaysWhatIsNoDirectoryAndWhatIsNotThere(t *testing.T) {
	f := newRepo(t)
	tree := f.forge(t,
		func(fg *forger) []*repo.Entry { return []*repo.Entry{fg.file("x", "1"), fg.file("y", "2")} },
		func(fg *forger) []*repo.Entry { return []*repo.Entry{fg.dir("y", fg.file("in", "3"))} }, nil)
	for at, want := range map[string]error{"/x": browse.ErrNotDirectory, "/z": browse.ErrNoPath, "/x/in": browse.ErrNoPath} {
		count := 0
		for _, err := range tree.List(t.Context(), at, 0, 0) {
			if count++; !errors.Is(err, want) || count > 1 {
				t.Errorf("%s: %v", at, err)
			}
		}
		if count == 0 {
			t.Errorf("%s: an empty list", at)
		}
	}
	if got := listed(t, tree, "y", 0, 0); !slices.Equal(got, []string{"b:in"}) {
		t.Errorf("of a file and a directory: %q", got)
	}
	s := tree.Snapshot()
	if _, err := browse.Open(f.Repo, s, "nobody"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("a source that is not there: %v", err)
	}
	only, err := browse.Open(f.Repo, s, "b")
	must(t, err)
	if got := listed(t, only, "/", 0, 0); !slices.Equal(got, []string{"b:y"}) {
		t.Errorf("only b: %q", got)
	}
	none, err := browse.Open(f.Repo, s, "c")
	must(t, err)
	if got := listed(t, none, "/", 0, 0); len(got) > 0 {
		t.Errorf("a part that failed has %q", got)
	}
}

// hardNames are those that careless code changes.
var hardNames = []string{"...", "..a", "a..", ". .", " ", "a\\..\\b", "line\nbreak", "caf\xe9", "\xff\xfe", "C:", "~", "-rf", "\x1b[2J", strings.Repeat("n", 255)}

func TestFind_TakesNamesAsTheyAre(t *testing.T) {
	f := newRepo(t)
	tree := f.forge(t, func(fg *forger) []*repo.Entry {
		var top []*repo.Entry
		for _, name := range hardNames {
			var below []*repo.Entry
			for _, sub := range hardNames {
				below = append(below, fg.file(sub, name+sub))
			}
			top = append(top, fg.dir(name, below...))
		}
		return top
	})
	count := 0
	root, err := tree.Find(t.Context(), "/")
	must(t, err)
	must(t, tree.Walk(t.Context(), root[0].Dir, "/", func(at string, e *repo.Entry) error {
		count++
		if browse.Clean(at) != at {
			t.Errorf("%q is cleaned to %q", at, browse.Clean(at))
		}
		found, err := tree.Find(t.Context(), at)
		if err != nil || len(found) != 1 || found[0].Name != e.Name || found[0].Size != e.Size {
			t.Errorf("%q: %v %v", at, found, err)
		}
		return nil
	}, nil))
	if want := len(hardNames) * (len(hardNames) + 1); count != want {
		t.Errorf("walked past %d entries of %d", count, want)
	}
}

// naive is what a search has to find, without remembering anything.
func naive(t testing.TB, tree *browse.Tree, pattern string) (found []string, entries int64) {
	roots, err := tree.Find(t.Context(), "/")
	must(t, err)
	for _, root := range roots {
		must(t, tree.Walk(t.Context(), root.Dir, "/", func(at string, e *repo.Entry) error {
			entries++
			against := e.Name
			if strings.Contains(pattern, "/") {
				against = at
			}
			if ok, _ := path.Match(pattern, against); ok {
				found = append(found, at)
			}
			return nil
		}, nil))
	}
	return found, entries
}

// Directories are told by their content: one that stands under two names, in two parts and in many snapshots is the same,
// wherever it was found to hold nothing or something.
func TestSearch_FindsAllWhereSubtreesAreShared(t *testing.T) {
	f := newRepo(t)
	random := rand.New(rand.NewPCG(3, 4))
	var shelf []*repo.Entry // directories to be used again
	var trees []*browse.Tree
	for range 6 {
		build := func(fg *forger) (entries []*repo.Entry) {
			for range 12 {
				below := map[string]*repo.Entry{}
				for range random.IntN(5) {
					name := string(rune('a' + random.IntN(6)))
					switch {
					case random.IntN(2) == 0:
						below[name] = fg.file(name, name)
					case len(shelf) > 0:
						below[name] = renamed(shelf[random.IntN(len(shelf))], name)
					default:
						below[name] = fg.dir(name)
					}
				}
				var list []*repo.Entry
				for _, e := range below {
					list = append(list, e)
				}
				shelf = append(shelf, fg.dir("", list...))
			}
			for i := range 4 {
				entries = append(entries, renamed(shelf[len(shelf)-1-random.IntN(12)], fmt.Sprintf("top%d", i)))
			}
			return entries
		}
		trees = append(trees, f.forge(t, build, build))
	}
	for _, pattern := range []string{"a", "[bc]", "top?", "?", "nothing", "/top1/?", "/*/a/b", "*", "top1/a"} {
		s, err := browse.NewSearch(pattern)
		must(t, err)
		var all int64
		for i, tree := range trees {
			whole := pattern
			if pattern == "top1/a" {
				whole = "/top1/a"
			}
			want, entries := naive(t, tree, whole)
			all += entries
			var got []string
			must(t, s.In(t.Context(), tree, func(at string, _ *repo.Entry) error {
				got = append(got, at)
				return nil
			}))
			if !slices.Equal(got, want) {
				t.Fatalf("%q in tree %d:\n got %q\nwant %q", pattern, i, got, want)
			}
		}
		if seen := s.Entries.Load(); pattern == "nothing" && seen >= all/2 || strings.Contains(pattern, "/") && seen != all {
			t.Errorf("%q: looked at %d of %d entries", pattern, seen, all)
		}
	}
}

// What was not gone through to its end is not known to hold nothing.
func TestSearch_ForgetsWhatItBroke(t *testing.T) {
	f := newRepo(t)
	build := func(fg *forger) []*repo.Entry {
		return []*repo.Entry{fg.dir("d", fg.file("a", "1"), fg.dir("e", fg.file("b", "2")), fg.file("z", "3"))}
	}
	tree := f.forge(t, build)
	s, err := browse.NewSearch("[bz]")
	must(t, err)
	stop := errors.New("stop")
	if err := s.In(t.Context(), tree, func(string, *repo.Entry) error { return stop }); err != stop {
		t.Fatalf("stopped with %v", err)
	}
	var got []string
	must(t, s.In(t.Context(), tree, func(at string, _ *repo.Entry) error { got = append(got, at); return nil }))
	if !slices.Equal(got, []string{"/d/e/b", "/d/z"}) {
		t.Errorf("then found %q", got)
	}
	for _, pattern := range []string{"[", "a\\", "[]a]"} {
		if _, err := browse.NewSearch(pattern); err != browse.ErrPattern {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}

// A page that is lost is damage. It must not look like a path that is not there.
func TestFind_TellsALostPageFromAPathThatIsNotThere(t *testing.T) {
	f := newRepo(t)
	f.damaged = true
	id := f.forge(t, func(fg *forger) []*repo.Entry { return []*repo.Entry{fg.file("x", "1")} }).Snapshot().ID
	must(t, filepath.WalkDir(f.dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(p, "/packs/") {
			err = os.Remove(p)
		}
		return err
	}))
	tree := f.tree(t, f.reopen(t), id)
	for _, at := range []string{"/x", "/none"} {
		if _, err := tree.Find(t.Context(), at); err == nil || errors.Is(err, browse.ErrNoPath) {
			t.Errorf("%s: %v", at, err)
		}
	}
	for _, err := range tree.List(t.Context(), "/", 0, 0) {
		if err == nil || errors.Is(err, browse.ErrNoPath) {
			t.Errorf("list: %v", err)
		}
	}
	s, err := browse.NewSearch("x")
	must(t, err)
	for range 2 { // the second time nothing is remembered as empty
		if err := s.In(t.Context(), tree, func(string, *repo.Entry) error { return nil }); err == nil {
			t.Error("searched to its end")
		}
	}
}
