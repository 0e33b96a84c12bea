package restore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/restore"
	"github.com/generalbots/backupd/internal/target"
)

// occupy puts things in the way below root, which holds a restored snapshot of plantMixed.
func occupy(t testing.TB, root, outside string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(root, name) }
	replace := func(name string, make func(at string) error) {
		must(t, os.RemoveAll(at(name)))
		must(t, make(at(name)))
	}
	replace("gone", func(string) error { return nil })
	replace("gonedir", func(string) error { return nil })
	replace("changed", func(p string) error { return os.WriteFile(p, []byte("other and longer"), 0o644) })
	replace("emptied", func(p string) error { return os.Mkdir(p, 0o755) })
	replace("filled", func(p string) error { return os.MkdirAll(p+"/with", 0o755) })
	replace("turned", func(p string) error { return os.Symlink("elsewhere", p) })
	replace("towards", func(p string) error { return os.Symlink("another", p) })
	replace("pipe", func(p string) error { return os.WriteFile(p, nil, 0o644) })
	// Ways out: what is outside looks just as what would be restored.
	replace("linkeddir", func(p string) error { return os.Symlink(outside, p) })
	replace("linkedfile", func(p string) error { return os.Symlink(outside+"/f", p) })
	replace("filedir", func(p string) error { return os.WriteFile(p, []byte("in the way"), 0o644) })
	must(t, os.Remove(at("hard2")))
	replace("hard5", func(p string) error { return os.WriteFile(p, []byte("no link"), 0o644) })
}

func plantMixed(t testing.TB) string {
	root := scratch(t)
	write(t, root, map[string]string{
		"same": "1", "gone": "2", "gonedir/a": "3", "gonedir/b/c": "4", "changed": "5", "emptied": "6", "filled": "7", "turned": "8",
		"linkeddir/f": "9", "linkeddir/g/h": "10", "linkedfile": "9", "filedir/a": "11", "filedir/b/c": "12", "deep/er/same": "13", "hard1": "14", "hard4": "15",
	})
	for _, names := range [][2]string{{"hard1", "hard2"}, {"hard1", "hard3"}, {"hard4", "hard5"}, {"hard4", "deep/hard6"}} {
		must(t, os.Link(root+"/"+names[0], root+"/"+names[1]))
	}
	must(t, os.Symlink("x", root+"/points"))
	must(t, os.Symlink("y", root+"/towards"))
	must(t, unix.Mkfifo(root+"/pipe", 0o600))
	return root
}

// state is everything about a tree that looking must not change, times of change among it.
func state(t testing.TB, root string) map[string]string {
	t.Helper()
	seen := snapshotOf(t, root)
	for p := range seen {
		var st unix.Stat_t
		must(t, unix.Lstat(root+p, &st))
		seen[p] += fmt.Sprintf(" inode %d ctime %d.%09d", st.Ino, st.Ctim.Sec, st.Ctim.Nsec)
	}
	return seen
}

// A dry run is a promise: in each mode the restore after it does what it said.
func TestRun_DryRunForetellsTheRestore(t *testing.T) {
	src := plantMixed(t)
	f := newRepo(t)
	m := f.backup(t, src)
	for mode, want := range map[target.Overwrite]struct{ identical, replaced, existing, problems uint64 }{
		target.Never:     {0, 0, 15, 2},
		target.IfChanged: {7, 7, 0, 3},
		target.Always:    {0, 16, 0, 1},
	} {
		out := scratch(t)
		into(t, f.Repo, m, out, restore.Options{})
		outside := scratch(t)
		must(t, os.CopyFS(outside, os.DirFS(out+src+"/linkeddir")))
		occupy(t, out+src, outside)
		before, beyond := state(t, out), state(t, outside)

		view, err := target.OpenView(out, target.Options{Overwrite: mode, Privileged: os.Geteuid() == 0, MaxOpen: 2})
		must(t, err)
		dry, err := restore.Run(t.Context(), f.Repo, m, nil, restore.Options{DryRun: true, Overwrite: mode, View: view}, nil)
		must(t, err)
		must(t, view.Close())
		wantSame(t, before, state(t, out))

		rep := into(t, f.Repo, m, out, restore.Options{Overwrite: mode})
		wantSame(t, beyond, state(t, outside))
		type sums struct{ Files, Dirs, Links, Symlinks, Specials, Identical, Existing, Problems uint64 }
		sum := func(r *restore.Report) sums {
			return sums{r.Files, r.Dirs, r.Links, r.Symlinks, r.Specials, r.Identical, r.ExistingCount, r.ProblemCount}
		}
		if sum(dry) != sum(rep) || dry.Bytes != rep.Bytes {
			t.Errorf("mode %d:\nforetold %+v\n    done %+v\n%+v\n%+v", mode, sum(dry), sum(rep), dry.Problems, rep.Problems)
		}
		slices.Sort(rep.Existing)
		slices.Sort(dry.Existing)
		if !slices.Equal(dry.Existing, rep.Existing) {
			t.Errorf("mode %d: existing:\n%q\n%q", mode, dry.Existing, rep.Existing)
		}
		after := state(t, out)
		for _, p := range dry.WouldReplace {
			if inode := func(line string) string { return line[strings.Index(line, " inode "):strings.Index(line, " ctime ")] }; inode(before[string(p)]) == inode(after[string(p)]) {
				t.Errorf("mode %d: %s was not replaced", mode, p)
			}
		}
		got := struct{ identical, replaced, existing, problems uint64 }{dry.Identical, dry.WouldReplaceCount, dry.ExistingCount, dry.ProblemCount}
		if got != want {
			t.Errorf("mode %d: %+v, want %+v\n%q\n%+v", mode, got, want, dry.WouldReplace, dry.Problems)
		}
	}
}

func TestOpenView_SaysWhatIsNotThere(t *testing.T) {
	root := scratch(t)
	write(t, root, map[string]string{"file": "1"})
	if _, err := target.OpenView(root+"/none", target.Options{}); !os.IsNotExist(err) {
		t.Errorf("nothing there: %v", err)
	}
	if l := listing(t, root); l != "file" {
		t.Errorf("looking made %s", l)
	}
	if _, err := target.OpenView(root+"/file", target.Options{}); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a file there: %v", err)
	}
}
