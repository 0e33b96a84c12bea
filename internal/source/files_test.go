package source_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/source/sourcetest"
)

func wantLines(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestScan_YieldsNestedEventsSortedByNameBytes(t *testing.T) {
	root := t.TempDir()
	write(t, root, "b/x", "a.b", "a/z", "a/b/c", "B", "a-", "\xff\xfe")
	wantLines(t, scanned(t, root, source.FilesOptions{Paths: []string{root}}),
		"B", "a/", "a/b/", "a/b/c", "a/z", "a-", "a.b", "b/", "b/x", "\xff\xfe")
}

func TestNewFiles_RefusesWhatItCanNotMean(t *testing.T) {
	for _, c := range []struct {
		name string
		o    source.FilesOptions
	}{
		{"no path", source.FilesOptions{}},
		{"empty path", source.FilesOptions{Paths: []string{""}}},
		{"relative path", source.FilesOptions{Paths: []string{"etc"}}},
		{"zero byte", source.FilesOptions{Paths: []string{"/etc\x00"}}},
		{"component too long", source.FilesOptions{Paths: []string{"/" + strings.Repeat("x", 256)}}},
		{"path too long", source.FilesOptions{Paths: []string{strings.Repeat("/x", 1<<16)}}},
		{"pattern", source.FilesOptions{Paths: []string{"/"}, Exclude: []string{"[a"}}},
		{"pattern line", source.FilesOptions{Paths: []string{"/"}, ExcludeLines: []string{"# fine", "x\\"}}},
		{"workers", source.FilesOptions{Paths: []string{"/"}, Workers: 1000}},
		{"workers", source.FilesOptions{Paths: []string{"/"}, Workers: -1}},
	} {
		if _, err := source.NewFiles(c.o); err == nil {
			t.Errorf("%s: got no error", c.name)
		}
	}
}

func TestScan_NamesThePathThatDoesNotExist(t *testing.T) {
	root := t.TempDir()
	write(t, root, "here", "file")
	for _, gone := range []string{"gone", "gone/x", "file/x"} {
		missing := filepath.Join(root, gone)
		for e, err := range newFiles(t, source.FilesOptions{Paths: []string{root, missing}}).Scan(t.Context()) {
			if err == nil || !strings.Contains(err.Error(), filepath.Join(root, strings.TrimSuffix(gone, "/x"))) {
				t.Errorf("%s: got entry %+v and error %v; want an error that names it", gone, e, err)
			}
			if gone == "gone" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: got error %v, want one that is fs.ErrNotExist", gone, err)
			}
		}
	}
}

func TestScan_EndsWhenAPathVanishesMeanwhile(t *testing.T) {
	root := t.TempDir()
	write(t, root, "a/x", "b/y")
	f := newFiles(t, source.FilesOptions{Paths: []string{root + "/a", root + "/b"}})
	check := sourcetest.NoLeaks(t)
	var ended error
	for e, err := range f.Scan(t.Context()) {
		if ended = err; err != nil {
			break
		}
		// The root is yielded before anything below is examined, unless the workers are faster.
		if e.Event == source.Enter && e.Name == "" {
			must(t, os.RemoveAll(root+"/b"))
		}
		if e.Event == source.Leave {
			f.Release(&e)
		}
	}
	if ended != nil && (!errors.Is(ended, fs.ErrNotExist) || !strings.Contains(ended.Error(), root+"/b")) {
		t.Errorf("got error %v, want one that names %s", ended, root+"/b")
	}
	check()
}

func TestScan_YieldsWhatIsAboveAPathWithNothingElse(t *testing.T) {
	root := t.TempDir()
	write(t, root, "a/b/c/wanted", "a/b/other", "a/other/x", "z")
	must(t, os.Chmod(root+"/a", 0o751))
	o := source.FilesOptions{Paths: []string{root + "/a/b/c"}}
	wantLines(t, scanned(t, root, o), "a/", "a/b/", "a/b/c/", "a/b/c/wanted")
	seen := collected(t, root, o)
	if e := seen["a"].Entry; e.Mode != 0o751 || e.Ino == 0 || e.Mtime.Sec == 0 {
		t.Errorf("got %+v, want the metadata of the directory", e)
	}
}

func TestScan_MergesPaths(t *testing.T) {
	root := t.TempDir()
	write(t, root, "a/1", "a/2/x", "a/2/y", "b/1", "b/2", "c", "d/1")
	for _, c := range []struct {
		paths string
		want  string
	}{
		{"a", "a/ a/1 a/2/ a/2/x a/2/y"},
		{"a a", "a/ a/1 a/2/ a/2/x a/2/y"},
		{"a/2/x a", "a/ a/1 a/2/ a/2/x a/2/y"},
		{"a a/2 a/2/y", "a/ a/1 a/2/ a/2/x a/2/y"},
		{"b/2 a/2", "a/ a/2/ a/2/x a/2/y b/ b/2"},
		{"b/2 c a/2/y a/1", "a/ a/1 a/2/ a/2/y b/ b/2 c"},
		{"./a/../b//1 c/", "b/ b/1 c"},
		{"d b/../d", "d/ d/1"},
	} {
		var paths []string
		for p := range strings.FieldsSeq(c.paths) {
			paths = append(paths, root+"/"+p)
		}
		wantLines(t, scanned(t, root, source.FilesOptions{Paths: paths}), strings.Fields(c.want)...)
	}
}

func TestScan_OfTheRootBeginsThere(t *testing.T) {
	f := newFiles(t, source.FilesOptions{Paths: []string{"/"}, Exclude: []string{"/*", "!/etc", "/etc/*", "!/etc/passwd"}})
	var got []string
	for p, e := range sourcetest.Checked(t, f, t.Context()) {
		if e.Event == source.Leave {
			f.Release(&e)
		} else {
			got = append(got, p)
		}
	}
	wantLines(t, got, "", "etc", "etc/passwd")
}

func TestScan_YieldsAPathThatIsALinkAsThatLink(t *testing.T) {
	root := t.TempDir()
	write(t, root, "real/x")
	must(t, os.Symlink("real", root+"/link"))
	o := source.FilesOptions{Paths: []string{root + "/link/"}}
	wantLines(t, scanned(t, root, o), "link")
	if s := collected(t, root, o)["link"]; s.Details.Target != "real" || s.Err != nil {
		t.Errorf("got target %q, error %v", s.Details.Target, s.Err)
	}
}

func TestScan_GoesThroughALinkAboveAPath(t *testing.T) {
	root := t.TempDir()
	write(t, root, "real/deep/x", "real/y", "other/z")
	must(t, os.Symlink("step", root+"/link"))
	must(t, os.Symlink(root+"/other/../real", root+"/step"))
	wantLines(t, scanned(t, root, source.FilesOptions{Paths: []string{root + "/link/deep"}}), "link/", "link/deep/", "link/deep/x")
	wantLines(t, scanned(t, root, source.FilesOptions{Paths: []string{root + "/link/y", root}}),
		"link/", "link/y", "other/", "other/z", "real/", "real/deep/", "real/deep/x", "real/y", "step")
	must(t, os.Symlink("round", root+"/round"))
	for _, err := range newFiles(t, source.FilesOptions{Paths: []string{root + "/round/x"}}).Scan(t.Context()) {
		if err == nil {
			t.Error("got an entry through a link that leads to itself")
		}
	}
}

func TestScan_RefusesALinkOfSomebodyElseAboveAPath(t *testing.T) {
	if !isRoot() {
		return // only root can make one
	}
	root := t.TempDir()
	write(t, root, "real/x")
	must(t, os.Symlink("real", root+"/link"))
	must(t, os.Lchown(root+"/link", 4711, 4711))
	for _, err := range newFiles(t, source.FilesOptions{Paths: []string{root + "/link/x"}}).Scan(t.Context()) {
		if err == nil || !strings.Contains(err.Error(), "symbolic link of user 4711") {
			t.Errorf("got error %v, want one about the owner of the link", err)
		}
	}
}

func TestScan_Excludes(t *testing.T) {
	root := t.TempDir()
	write(t, root, "a.log", "b.txt", "keep.log", "d.log/x", "cache/y", "s/cache/z", "s/cache.txt")
	for _, c := range []struct {
		name    string
		exclude []string
		lines   []string
		want    string
	}{
		{"names at every depth", []string{"*.log", "cache"}, nil, "b.txt s/ s/cache.txt"},
		{"taken back", []string{"*.log", "!keep.log", "cache/"}, nil, "b.txt keep.log s/ s/cache.txt"},
		{"lines after patterns", []string{"*.log"}, []string{"# comment", "", "!keep.log   ", "cache", "/nothing"}, "b.txt keep.log s/ s/cache.txt"},
		{"whole paths", []string{root + "/cache", root + "/s/**/z"}, nil, "a.log b.txt d.log/ d.log/x keep.log s/ s/cache/ s/cache.txt"},
		{"directories only", []string{"*.log/"}, nil, "a.log b.txt cache/ cache/y keep.log s/ s/cache/ s/cache/z s/cache.txt"},
	} {
		got := scanned(t, root, source.FilesOptions{Paths: []string{root}, Exclude: c.exclude, ExcludeLines: c.lines})
		t.Run(c.name, func(t *testing.T) { wantLines(t, got, strings.Fields(c.want)...) })
	}
}

func TestScan_NeverExcludesAPath(t *testing.T) {
	root := t.TempDir()
	write(t, root, "a/b/c/x", "a/b/y", "a/z")
	o := source.FilesOptions{Paths: []string{root, root + "/a/b/c"}, Exclude: []string{"b", "c"}}
	wantLines(t, scanned(t, root, o), "a/", "a/b/", "a/b/c/", "a/b/c/x", "a/z")
}

func TestScan_ExcludesWhatIsInCaches(t *testing.T) {
	const signature = "Signature: 8a477f597d28d172789f06886806bc55"
	root := t.TempDir()
	write(t, root, "cache/sub/x", "cache/y", "liar/y", "short/y", "named/wanted", "named/sub/CACHEDIR.TAG/")
	for dir, content := range map[string]string{"cache": signature + "\n# comment", "liar": strings.ToUpper(signature), "short": signature[:20], "named": signature} {
		must(t, os.WriteFile(filepath.Join(root, dir, "CACHEDIR.TAG"), []byte(content), 0o644))
	}
	must(t, os.Mkdir(root+"/linked", 0o755))
	must(t, os.Symlink("../cache/CACHEDIR.TAG", root+"/linked/CACHEDIR.TAG"))
	wantLines(t, scanned(t, root, source.FilesOptions{Paths: []string{root, root + "/named"}, ExcludeCaches: true}),
		"cache/", "cache/CACHEDIR.TAG", "liar/", "liar/CACHEDIR.TAG", "liar/y", "linked/", "linked/CACHEDIR.TAG",
		"named/", "named/CACHEDIR.TAG", "named/sub/", "named/sub/CACHEDIR.TAG/", "named/wanted", "short/", "short/CACHEDIR.TAG", "short/y")
	wantLines(t, scanned(t, root, source.FilesOptions{Paths: []string{root + "/cache"}}), "cache/", "cache/CACHEDIR.TAG", "cache/sub/", "cache/sub/x", "cache/y")
}
