package restore_test

import (
	"encoding/json"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/restore"
	"github.com/generalbots/backupd/internal/target"
	"github.com/generalbots/backupd/repo"
)

func plantPlain(t testing.TB) string {
	t.Helper()
	src := filepath.Join(scratch(t), "s")
	write(t, src, map[string]string{
		"a/1": "one", "a/2.log": "two", "a/b/3": "three", "a/b/4.log": "four", "c/5": "five", "c/e/": "", "z": "zed",
	})
	stamp(t, src)
	return src
}

func paths(list ...string) (p [][]byte) {
	for _, s := range list {
		p = append(p, []byte(s))
	}
	return p
}

// glob matches names against a pattern, as cmd does with the source's.
func glob(pattern string) restore.Match {
	return func(_ []string, name string, _ bool) bool {
		ok, _ := path.Match(pattern, name)
		return ok
	}
}

func TestRun_RestoresWhatIsAskedFor(t *testing.T) {
	src := plantPlain(t)
	f := newRepo(t)
	m := f.backup(t, src)
	for name, c := range map[string]struct {
		o    restore.Options
		want string
	}{
		"a directory":           {restore.Options{Paths: paths(src + "/a/b")}, "a/ a/b/ a/b/3 a/b/4.log"},
		"a file":                {restore.Options{Paths: paths(src + "/a/1")}, "a/ a/1"},
		"an empty directory":    {restore.Options{Paths: paths(src + "/c/e/")}, "c/ c/e/"},
		"no leading slash":      {restore.Options{Paths: paths(src[1:] + "/z")}, "z"},
		"several":               {restore.Options{Paths: paths(src+"/z", src+"/a/b/3", src+"/a/1")}, "a/ a/1 a/b/ a/b/3 z"},
		"one inside another":    {restore.Options{Paths: paths(src+"/a/b/3", src+"/a", src+"/a/b")}, "a/ a/1 a/2.log a/b/ a/b/3 a/b/4.log"},
		"excluded":              {restore.Options{Exclude: glob("*.log")}, "a/ a/1 a/b/ a/b/3 c/ c/5 c/e/ z"},
		"excluded directory":    {restore.Options{Exclude: glob("b")}, "a/ a/1 a/2.log c/ c/5 c/e/ z"},
		"included":              {restore.Options{Include: glob("*.log")}, "a/ a/2.log a/b/ a/b/4.log"},
		"included directory":    {restore.Options{Include: glob("b")}, "a/ a/b/ a/b/3 a/b/4.log"},
		"included and excluded": {restore.Options{Include: glob("b"), Exclude: glob("*.log")}, "a/ a/b/ a/b/3"},
		"path and included":     {restore.Options{Paths: paths(src + "/a/b"), Include: glob("*.log")}, "a/ a/b/ a/b/4.log"},
		"everything":            {restore.Options{Paths: paths("/")}, "a/ a/1 a/2.log a/b/ a/b/3 a/b/4.log c/ c/5 c/e/ z"},
	} {
		t.Run(name, func(t *testing.T) {
			out := scratch(t)
			var p restore.Progress
			d, err := target.OpenDirectory(out, target.Options{Privileged: true})
			must(t, err)
			defer d.Close()
			rep, err := restore.Run(t.Context(), f.Repo, m, d, c.o, &p)
			must(t, err)
			wantClean(t, rep)
			if got := listing(t, out+src); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if p.Phase() != restore.PhaseDone || p.Dirs.Load() != int64(rep.Dirs) || p.Files.Load() != int64(rep.Files) {
				t.Errorf("progress: phase %v, %d files, %d dirs", p.Phase(), p.Files.Load(), p.Dirs.Load())
			}
			if c.o.Include == nil && len(c.o.Paths) < 3 && (p.Files.Load() != p.TotalFiles.Load() || p.Bytes.Load() != p.TotalBytes.Load()) {
				t.Errorf("progress: %d of %d files, %d of %d bytes at the end",
					p.Files.Load(), p.TotalFiles.Load(), p.Bytes.Load(), p.TotalBytes.Load())
			}
			want := snapshotOf(t, src)
			for p, line := range snapshotOf(t, out+src) {
				if p != "" && want[p] != line {
					t.Errorf("%s: got %s, want %s", p, line, want[p])
				}
			}
		})
	}
}

func TestRun_NamesAPathThatIsNotThere(t *testing.T) {
	src := plantPlain(t)
	f := newRepo(t)
	m := f.backup(t, src)
	for _, p := range []string{src + "/a/missing", src + "/z/below a file", "/nowhere"} {
		out := scratch(t)
		_, err := tryInto(t, f.Repo, m, out, restore.Options{Paths: paths(src+"/a", p)})
		if !errors.Is(err, repo.ErrNotFound) || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: got %v, want repo.ErrNotFound and the path", p, err)
		}
		if got := listing(t, out); got != "" {
			t.Errorf("%s: %s was restored", p, got)
		}
	}
	if _, err := tryInto(t, f.Repo, m, scratch(t), restore.Options{Paths: paths("/a/../b")}); err == nil {
		t.Error("a path with .. was accepted")
	}
}

func TestRun_DryRunMakesNothing(t *testing.T) {
	src := plantPlain(t)
	must(t, os.Link(src+"/z", src+"/zz"))
	f := newRepo(t)
	m := f.backup(t, src)
	rep, err := restore.Run(t.Context(), f.Repo, m, nil, restore.Options{DryRun: true, Exclude: glob("*.log")}, nil)
	must(t, err)
	wantClean(t, rep)
	got := into(t, f.Repo, m, scratch(t), restore.Options{Exclude: glob("*.log")})
	if rep.Files != got.Files || rep.Dirs != got.Dirs || rep.Bytes != got.Bytes || rep.Links != 1 || got.Links != 1 || rep.Excluded != 2 {
		t.Errorf("plan %+v\nrun  %+v", rep, got)
	}
	out := scratch(t)
	into(t, f.Repo, m, out, restore.Options{DryRun: true})
	if l := listing(t, out); l != "" {
		t.Errorf("a dry run made %s", l)
	}
}

// The names in the report are what scripts read.
func TestReport_HasStableNames(t *testing.T) {
	rep := restore.Report{
		Existing: []restore.Path{"/a\xffb/ü�"}, Problems: []restore.Problem{{Path: "/p", Op: "read", Text: "t"}},
		LeftOff: []restore.Problem{{}},
	}
	b, err := json.Marshal(&rep)
	must(t, err)
	const want = `{"snapshot":"","status":"","dry_run":false,"started_at":"0001-01-01T00:00:00Z","finished_at":"0001-01-01T00:00:00Z",` +
		`"files":0,"dirs":0,"links":0,"symlinks":0,"specials":0,"bytes":0,"verified":0,"identical":0,"excluded":0,` +
		`"existing":["/a\\xffb/ü�"],"existing_count":0,"would_replace_count":0,"left_off":[{"path":"","op":"","text":""}],"left_off_count":0,` +
		`"problems":[{"path":"/p","op":"read","text":"t"}],"problem_count":0,"damaged":0}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}

// What stood in the target before keeps its metadata unless it is to be
// overwritten; the target itself keeps its own.
func TestRun_MergesDirectories(t *testing.T) {
	src := plantPlain(t)
	must(t, os.Chmod(src+"/a", 0o711))
	f := newRepo(t)
	m := f.backup(t, src)
	for mode, want := range map[target.Overwrite]os.FileMode{target.Never: 0o750, target.IfChanged: 0o711, target.Always: 0o711} {
		out := scratch(t)
		write(t, out+src, map[string]string{"a/1": "mine", "a/mine": "too"})
		must(t, os.Chmod(out+src+"/a", 0o750))
		must(t, os.Chmod(out, 0o705))
		rep := into(t, f.Repo, m, out, restore.Options{Overwrite: mode})
		for p, want := range map[string]os.FileMode{out + src + "/a": want, out: 0o705} {
			if st, err := os.Stat(p); err != nil || st.Mode().Perm() != want {
				t.Errorf("mode %d: %s has %v, want %o", mode, p, st.Mode(), want)
			}
		}
		if got := string(readAll(t, out+src+"/a/mine")); got != "too" {
			t.Errorf("mode %d: a/mine holds %q", mode, got)
		}
		content, existing := "one", 0
		if mode == target.Never {
			content, existing = "mine", 1
		}
		if got := string(readAll(t, out+src+"/a/1")); got != content || len(rep.Existing) != existing {
			t.Errorf("mode %d: a/1 holds %q, existing %q", mode, got, rep.Existing)
		}
	}
}

// Who asks for one file has not asked for the mode /home had back then.
func TestRun_LeavesAloneTheDirectoriesOnTheWay(t *testing.T) {
	src := plantPlain(t)
	must(t, os.Chmod(src+"/a", 0o711))
	must(t, os.Chmod(src+"/a/b", 0o711))
	f := newRepo(t)
	m := f.backup(t, src)
	for name, o := range map[string]restore.Options{
		"a path":   {Paths: paths(src + "/a/b")},
		"included": {Include: glob("b")},
	} {
		for _, mode := range []target.Overwrite{target.IfChanged, target.Always} {
			out := scratch(t)
			write(t, out+src, map[string]string{"a/b/3": "mine"})
			for _, d := range []string{"/a", "/a/b"} {
				must(t, os.Chmod(out+src+d, 0o750))
			}
			o.Overwrite = mode
			wantClean(t, into(t, f.Repo, m, out, o))
			for d, want := range map[string]os.FileMode{"/a": 0o750, "/a/b": 0o711} {
				if st, err := os.Stat(out + src + d); err != nil || st.Mode().Perm() != want {
					t.Errorf("%s, mode %d: %s has %v, want %o", name, mode, d, st.Mode(), want)
				}
			}
		}
	}
}

// Reading again finds what is not as it was written: here in another directory.
func TestRun_VerifyFindsWhatDiffers(t *testing.T) {
	src := plantPlain(t)
	sparse, err := os.Create(src + "/sparse")
	must(t, err)
	_, err = sparse.WriteAt(noise(3, 5000), 1<<20)
	must(t, err)
	must(t, sparse.Truncate(4<<20))
	must(t, sparse.Close())
	f := newRepo(t)
	m := f.backup(t, src)
	copied := scratch(t)
	wantClean(t, into(t, f.Repo, m, copied, restore.Options{Verify: true}))
	w, err := os.OpenFile(copied+src+"/sparse", os.O_WRONLY, 0)
	must(t, err)
	_, err = w.WriteAt([]byte{1}, 3<<20)
	must(t, err)
	must(t, w.Close())
	must(t, os.WriteFile(copied+src+"/a/1", []byte("0ne"), 0o644))
	must(t, os.WriteFile(copied+src+"/z", []byte("zed and more"), 0o644))
	must(t, os.RemoveAll(copied+src+"/c"))
	must(t, os.Symlink(src+"/c", copied+src+"/c"))

	rep := into(t, f.Repo, m, scratch(t), restore.Options{Verify: true, TargetPath: copied})
	wrong := make(map[string]bool)
	for _, p := range rep.Problems {
		if p.Op == "verify" {
			wrong[strings.TrimPrefix(string(p.Path), src)] = true
		}
	}
	if len(wrong) != 4 || !wrong["/sparse"] || !wrong["/a/1"] || !wrong["/z"] || !wrong["/c/5"] {
		t.Errorf("found %v to differ: %+v", wrong, rep.Problems)
	}
	if rep.Verified+4 != rep.Files {
		t.Errorf("%d of %d verified", rep.Verified, rep.Files)
	}
}
