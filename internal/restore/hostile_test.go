package restore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/restore"
	"github.com/generalbots/backupd/internal/target"
	"github.com/generalbots/backupd/repo"
)

// forge commits a snapshot whose parts' root directories make builds, one
// after the other, so that it says what no backup would.
func (f *fixture) forge(t testing.TB, make ...func(fg *forger) []*repo.Entry) *repo.Manifest {
	t.Helper()
	ctx := t.Context()
	w, err := f.NewWriter(ctx, repo.WriterOptions{})
	must(t, err)
	defer w.Close()
	lane, err := w.NewLane()
	must(t, err)
	now := time.Now()
	m := &repo.Manifest{Type: "full", Host: "evil", Status: "completed", CreatedAt: now, StartedAt: now, FinishedAt: now}
	fg := &forger{t: t, ctx: ctx, w: w, lane: lane, rd: f.Reader()}
	for i, build := range make {
		root := fg.dir("", build(fg)...)
		part := repo.Part{Source: string(rune('a' + i)), Kind: "files", Profile: "files", StartedAt: now, FinishedAt: now}
		must(t, part.SetRoot(root))
		m.Parts = append(m.Parts, part)
	}
	must(t, lane.Flush(ctx))
	m.ID, err = f.NewID(now)
	must(t, err)
	must(t, w.Commit(ctx, m))
	return m
}

type forger struct {
	t    testing.TB
	ctx  context.Context
	w    *repo.Writer
	lane *repo.Lane
	rd   *repo.Reader
}

func (fg *forger) dir(name string, entries ...*repo.Entry) *repo.Entry {
	fg.t.Helper()
	w := fg.w.Tree().NewDir(nil, fg.rd)
	for _, e := range entries {
		must(fg.t, w.Add(fg.ctx, e))
	}
	d, err := w.Close(fg.ctx)
	must(fg.t, err)
	return &repo.Entry{Name: name, Type: repo.TypeDirectory, Mode: 0o755, Nlink: 2, Dir: d}
}

func (fg *forger) file(name string, content string) *repo.Entry {
	return fg.lie(name, content, len(content))
}

// lie makes a file of one chunk that the entry says is of another length.
func (fg *forger) lie(name, content string, length int) *repo.Entry {
	fg.t.Helper()
	ref := fg.lane.Ref([]byte(content))
	_, err := fg.lane.Put(fg.ctx, []byte(content), ref, nil)
	must(fg.t, err)
	ref.Len = uint32(length)
	return &repo.Entry{Name: name, Type: repo.TypeRegular, Mode: 0o644, Nlink: 1, Size: int64(length),
		Content: repo.Content{Inline: []repo.Ref{ref}, Chunks: 1, Bytes: int64(length)}}
}

func link(name, to string) *repo.Entry {
	return &repo.Entry{Name: name, Type: repo.TypeSymlink, Mode: 0o777, Nlink: 1, Target: to}
}

// problemOf finds the problem of a path.
func problemOf(rep *restore.Report, path string) string {
	for _, p := range rep.Problems {
		if string(p.Path) == path {
			return p.Op + ": " + p.Text
		}
	}
	return ""
}

// A link in one part and a directory of the same name in another must not
// combine to a way out.
func TestRun_NeverWritesThroughALink(t *testing.T) {
	outside := scratch(t)
	f := newRepo(t)
	for name, parts := range map[string][]func(*forger) []*repo.Entry{
		"link first": {
			func(fg *forger) []*repo.Entry { return []*repo.Entry{link("x", outside)} },
			func(fg *forger) []*repo.Entry { return []*repo.Entry{fg.dir("x", fg.file("pwned", "1"))} },
		},
		"directory first": {
			func(fg *forger) []*repo.Entry { return []*repo.Entry{fg.dir("x", fg.file("pwned", "1"))} },
			func(fg *forger) []*repo.Entry { return []*repo.Entry{link("x", outside)} },
		},
	} {
		m := f.forge(t, parts...)
		for _, mode := range []target.Overwrite{target.Never, target.IfChanged, target.Always} {
			out := scratch(t)
			rep := into(t, f.Repo, m, out, restore.Options{Overwrite: mode})
			if l := listing(t, outside); l != "" {
				t.Fatalf("%s: wrote outside: %s", name, l)
			}
			if problemOf(rep, "/x") == "" {
				t.Errorf("%s: got %+v, want a problem with /x", name, rep.Problems)
			}
		}
	}
	// A link that stands in the target, or comes there from another snapshot.
	first := f.forge(t, func(fg *forger) []*repo.Entry { return []*repo.Entry{link("x", outside)} })
	second := f.forge(t, func(fg *forger) []*repo.Entry {
		return []*repo.Entry{fg.dir("x", fg.file("pwned", "1"), fg.dir("y", fg.file("pwned", "2"))), fg.file("z", "3")}
	})
	for _, mode := range []target.Overwrite{target.Never, target.IfChanged, target.Always} {
		out := scratch(t)
		into(t, f.Repo, first, out, restore.Options{Overwrite: mode})
		rep := into(t, f.Repo, second, out, restore.Options{Overwrite: mode})
		if l := listing(t, outside); l != "" {
			t.Fatalf("mode %d: wrote outside: %s", mode, l)
		}
		if mode != target.Always && (problemOf(rep, "/x") == "" || rep.ProblemCount != 1) {
			t.Errorf("mode %d: got %+v, want one problem with /x", mode, rep.Problems)
		}
		if got := string(readAll(t, out+"/z")); got != "3" {
			t.Errorf("mode %d: what comes after is not restored", mode)
		}
	}
	// A file through a link of the same name: the link is replaced or stays.
	secret := filepath.Join(outside, "secret")
	must(t, os.WriteFile(secret, []byte("safe"), 0o600))
	third := f.forge(t, func(fg *forger) []*repo.Entry { return []*repo.Entry{fg.file("s", "overwritten")} })
	for _, mode := range []target.Overwrite{target.Never, target.IfChanged, target.Always} {
		out := scratch(t)
		must(t, os.Symlink(secret, out+"/s"))
		into(t, f.Repo, third, out, restore.Options{Overwrite: mode})
		if got := string(readAll(t, secret)); got != "safe" {
			t.Fatalf("mode %d: wrote through a link", mode)
		}
	}
}

// Parts of one snapshot are one tree, whose directories are merged.
func TestRun_RestoresAllPartsAsOneTree(t *testing.T) {
	f := newRepo(t)
	m := f.forge(t,
		func(fg *forger) []*repo.Entry {
			d := fg.dir("d", fg.file("1", "one"), fg.file("same", "same"), fg.file("x", "first"))
			d.Mtime = repo.Time{Sec: 1000}
			return []*repo.Entry{d}
		},
		func(fg *forger) []*repo.Entry {
			return []*repo.Entry{fg.file("a", "a"), fg.dir("d", fg.file("0", "zero"), fg.file("same", "same"), fg.file("x", "second")), fg.file("z", "z")}
		})
	out := scratch(t)
	rep := into(t, f.Repo, m, out, restore.Options{})
	if got, want := listing(t, out), "a d/ d/0 d/1 d/same d/x z"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := string(readAll(t, out+"/d/x")); got != "first" || rep.ProblemCount != 1 || problemOf(rep, "/d/x") == "" {
		t.Errorf("d/x holds %q, problems %+v", got, rep.Problems)
	}
	if st, err := os.Stat(out + "/d"); err != nil || st.ModTime().Unix() != 1000 {
		t.Errorf("directory of two parts has time %v", st.ModTime())
	}
}

// Lengths that contradict the chunks are found, and the file is not there.
func TestRun_FindsLies(t *testing.T) {
	f := newRepo(t)
	m := f.forge(t, func(fg *forger) []*repo.Entry {
		sparse := fg.file("sparse", "0123456789")
		sparse.Size, sparse.Sparse = 1<<20, true
		sparse.Extents = []repo.Extent{{Off: 5, Len: 3}, {Off: 1 << 19, Len: 7}}
		sparseLie := fg.lie("sparse-lie", "abc", 10)
		sparseLie.Size, sparseLie.Sparse, sparseLie.Extents = 1<<20, true, sparse.Extents
		missing := fg.file("unknown", "x")
		missing.Content.Inline[0].ID = crypto.ID{1}
		linked := []*repo.Entry{fg.file("l1", "first"), fg.file("l2", "other"), fg.file("l3", "first")}
		for _, e := range linked {
			e.Nlink, e.Inode, e.Device = 3, 42, 1
		}
		return []*repo.Entry{fg.file("good", "good"), linked[0], linked[1], linked[2], fg.lie("long", "abc", 100), fg.lie("short", "abcdef", 2), sparse, sparseLie, missing}
	})
	out := scratch(t)
	rep := into(t, f.Repo, m, out, restore.Options{Verify: true})
	if got, want := listing(t, out), "good l1 l2 l3 sparse"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, p := range []string{"/long", "/short", "/sparse-lie", "/unknown"} {
		if problemOf(rep, p) == "" {
			t.Errorf("%s: no problem reported: %+v", p, rep.Problems)
		}
	}
	if rep.ProblemCount != 4 || rep.Files != 4 || rep.Links != 1 {
		t.Errorf("%d problems, %d files, %d links: %+v", rep.ProblemCount, rep.Files, rep.Links, rep.Problems)
	}
	b := readAll(t, out+"/sparse")
	if len(b) != 1<<20 || string(b[5:8]) != "012" || string(b[1<<19:1<<19+7]) != "3456789" {
		t.Error("sparse file has its data elsewhere")
	}
	// Two names with one inode number and different contents are two files.
	if got := string(readAll(t, out+"/l2")); got != "other" {
		t.Errorf("l2 holds %q", got)
	}
}

// However much goes wrong, the report stays small and counts right.
func TestRun_BoundsTheReport(t *testing.T) {
	f := newRepo(t)
	m := f.forge(t, func(fg *forger) (list []*repo.Entry) {
		for i := range 1100 {
			e := fg.file(fmt.Sprintf("%04d", i), "x")
			e.Content.Inline[0].ID = crypto.ID{1, byte(i), byte(i >> 8)}
			list = append(list, e)
		}
		return append(list, fg.file("last", "good"))
	})
	out := scratch(t)
	rep := into(t, f.Repo, m, out, restore.Options{})
	if len(rep.Problems) != 1000 || rep.ProblemCount != 1100 || rep.Damaged != 1100 || listing(t, out) != "last" {
		t.Errorf("%d of %d problems listed, %d damaged, restored %.100s", len(rep.Problems), rep.ProblemCount, rep.Damaged, listing(t, out))
	}
}

// A link in the way of a directory is told once, whatever is wanted below.
func TestRun_TellsOnceOfADirectoryInTheWay(t *testing.T) {
	f := newRepo(t)
	m := f.forge(t, func(fg *forger) []*repo.Entry {
		return []*repo.Entry{fg.dir("x", fg.file("0.log", "0"), fg.dir("a", fg.file("1.log", "1")), fg.dir("b", fg.file("2.log", "2"))), fg.file("y.log", "y")}
	})
	out := scratch(t)
	must(t, os.Symlink("/", out+"/x"))
	rep := into(t, f.Repo, m, out, restore.Options{Include: glob("*.log")})
	if rep.ProblemCount != 1 || problemOf(rep, "/x") == "" || listing(t, out) != "x y.log" {
		t.Errorf("got %+v, there is %s", rep.Problems, listing(t, out))
	}
}

// A tree deeper than the format allows is restored as far as it may go.
func TestRun_EndsWhereATreeIsTooDeep(t *testing.T) {
	f := newRepo(t)
	m := f.forge(t, func(fg *forger) []*repo.Entry {
		e := fg.dir("d")
		for range target.MaxDepth + 50 {
			e = fg.dir("d", e)
		}
		return []*repo.Entry{e, fg.file("z", "z")}
	})
	out := scratch(t)
	rep := into(t, f.Repo, m, out, restore.Options{})
	if rep.ProblemCount != 1 || !strings.Contains(rep.Problems[0].Text, target.ErrDepth.Error()) || rep.Dirs != target.MaxDepth+1 {
		t.Errorf("%d dirs, %d problems", rep.Dirs, rep.ProblemCount)
	}
	if got := string(readAll(t, out+"/z")); got != "z" {
		t.Errorf("z holds %q", got)
	}
	dry, err := restore.Run(t.Context(), f.Repo, m, nil, restore.Options{DryRun: true}, nil)
	must(t, err)
	if dry.ProblemCount != 1 || dry.Dirs != rep.Dirs {
		t.Errorf("dry run: %d dirs, %d problems", dry.Dirs, dry.ProblemCount)
	}
}
