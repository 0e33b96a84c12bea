package browse_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/browse"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fixture is a repository, which is checked when the test ends.
type fixture struct {
	*repo.Repo
	dir     string
	cred    crypto.Credential
	damaged bool // on purpose
	lies    bool // its lists of chunks do, which a check need not find
}

func newRepo(t testing.TB) *fixture {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	cred, err := crypto.KeyFileCredential(key)
	must(t, err)
	f := &fixture{dir: filepath.Join(t.TempDir(), "repo"), cred: cred}
	st, err := store.MakeDir(t.Context(), f.dir)
	must(t, err)
	_, err = repo.Init(t.Context(), st, repo.InitOptions{Slots: []repo.NewSlot{{Label: "test", Credential: cred}}})
	must(t, err)
	must(t, st.Close())
	f.Repo = f.reopen(t)
	t.Cleanup(func() {
		r := f.reopen(t)
		rep, err := r.Check(context.Background(), repo.CheckOptions{ReadData: true}, new(repo.CheckProgress))
		must(t, err)
		if rep.Sound() == f.damaged && !f.lies {
			t.Errorf("sound is %v: %+v %+v", rep.Sound(), rep.Findings, rep.DamagedFiles)
		}
	})
	return f
}

// reopen gives the repository as a new process finds it.
func (f *fixture) reopen(t testing.TB) *repo.Repo {
	t.Helper()
	st, err := store.OpenDir(f.dir)
	must(t, err)
	r, err := repo.Open(context.Background(), st, []crypto.Credential{f.cred}, repo.Options{})
	must(t, err)
	t.Cleanup(func() {
		r.Close()
		st.Close()
	})
	return r
}

// backup keeps real files and opens what it kept.
func (f *fixture) backup(t testing.TB, root string) *browse.Tree {
	t.Helper()
	src, err := source.NewFiles(source.FilesOptions{Paths: []string{root}})
	must(t, err)
	part := repo.Part{Source: "files", Kind: "files", Profile: "files", Paths: [][]byte{[]byte(root)}}
	rep, err := backup.Run(t.Context(), f.Repo, []backup.Part{{Part: part, From: src}}, backup.Options{Type: backup.Full, Host: "here"}, new(backup.Progress))
	must(t, err)
	return f.tree(t, f.Repo, rep.Snapshot.ID)
}

func (f *fixture) tree(t testing.TB, r *repo.Repo, id string) *browse.Tree {
	t.Helper()
	s, err := r.Resolve(id)
	must(t, err)
	tree, err := browse.Open(r, s)
	must(t, err)
	return tree
}

// forge commits a snapshot with one part, called a, b, …, for each function, whose entries are its root. It says what no
// backup would. nil makes a part that failed.
func (f *fixture) forge(t testing.TB, parts ...func(fg *forger) []*repo.Entry) *browse.Tree {
	t.Helper()
	w, err := f.NewWriter(t.Context(), repo.WriterOptions{})
	must(t, err)
	defer w.Close()
	lane, err := w.NewLane()
	must(t, err)
	now := time.Now()
	m := &repo.Manifest{Type: "full", Host: "here", Status: "completed", CreatedAt: now, StartedAt: now, FinishedAt: now}
	fg := &forger{t: t, w: w, lane: lane, rd: f.Reader()}
	for i, build := range parts {
		part := repo.Part{Source: string(rune('a' + i)), Kind: "files", Profile: "files", StartedAt: now, FinishedAt: now}
		if build == nil {
			part.Failed = true
		} else {
			must(t, part.SetRoot(fg.dir("", build(fg)...)))
		}
		m.Parts = append(m.Parts, part)
	}
	must(t, lane.Flush(t.Context()))
	m.ID, err = f.NewID(now)
	must(t, err)
	must(t, w.Commit(t.Context(), m))
	return f.tree(t, f.Repo, m.ID)
}

type forger struct {
	t    testing.TB
	w    *repo.Writer
	lane *repo.Lane
	rd   *repo.Reader
}

// dir makes a directory of entries in any order.
func (fg *forger) dir(name string, entries ...*repo.Entry) *repo.Entry {
	fg.t.Helper()
	w := fg.w.Tree().NewDir(nil, fg.rd)
	slices.SortFunc(entries, func(a, b *repo.Entry) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range entries {
		must(fg.t, w.Add(fg.t.Context(), e))
	}
	d, err := w.Close(fg.t.Context())
	must(fg.t, err)
	return &repo.Entry{Name: name, Type: repo.TypeDirectory, Mode: 0o755, Nlink: 2, Dir: d}
}

func (fg *forger) ref(content string) repo.Ref {
	fg.t.Helper()
	ref := fg.lane.Ref([]byte(content))
	_, err := fg.lane.Put(fg.t.Context(), []byte(content), ref, nil)
	must(fg.t, err)
	return ref
}

func (fg *forger) file(name, content string) *repo.Entry {
	e := &repo.Entry{Name: name, Type: repo.TypeRegular, Mode: 0o644, Nlink: 1, Size: int64(len(content))}
	if content != "" {
		e.Content = repo.Content{Inline: []repo.Ref{fg.ref(content)}, Chunks: 1, Bytes: e.Size}
	}
	return e
}

func symlink(name, to string) *repo.Entry {
	return &repo.Entry{Name: name, Type: repo.TypeSymlink, Mode: 0o777, Nlink: 1, Target: to}
}

// renamed is the same entry under another name.
func renamed(e *repo.Entry, name string) *repo.Entry {
	c := *e
	c.Name = name
	return &c
}

// noise is n bytes that do not compress, the same for the same seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		seed = seed*6364136223846793005 + 1442695040888963407
		b[i] = byte(seed >> 56)
	}
	return b
}

// describe tells of everything below root what an archive has to bring back: by path one line, with hard links named by
// their first path.
func describe(t testing.TB, root string) map[string]string {
	t.Helper()
	seen := make(map[string]string)
	first := make(map[uint64]string)
	must(t, filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
		must(t, err)
		rel := strings.TrimPrefix(p, root)
		if rel == "" {
			return nil
		}
		var st unix.Stat_t
		must(t, unix.Lstat(p, &st))
		line := fmt.Sprintf("mode %o owner %d:%d", st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(p)
			must(t, err)
			line += fmt.Sprintf(" mtime %d.%09d size %d nlink %d sum %x", st.Mtim.Sec, st.Mtim.Nsec, st.Size, st.Nlink, sha256.Sum256(b))
			if other, ok := first[st.Ino]; ok {
				line += " link to " + other
			} else if st.Nlink > 1 {
				first[st.Ino] = rel
			}
		case unix.S_IFDIR:
			line += fmt.Sprintf(" mtime %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		case unix.S_IFLNK:
			to, err := os.Readlink(p)
			must(t, err)
			line += " to " + to
		}
		buf := make([]byte, 1024)
		if n, err := unix.Lgetxattr(p, "user.note", buf); err == nil {
			line += fmt.Sprintf(" note %q", buf[:n])
		}
		seen[rel] = line
		return nil
	}))
	return seen
}

func wantSame(t testing.TB, want, got map[string]string) {
	t.Helper()
	for p, line := range want {
		if got[p] != line {
			t.Errorf("%q:\n got %s\nwant %s", p, got[p], line)
		}
	}
	for p, line := range got {
		if _, ok := want[p]; !ok {
			t.Errorf("%q: should not be there: %s", p, line)
		}
	}
}

// quiet fails the test for a problem of an archive.
func quiet(t testing.TB) func(at, text string) {
	return func(at, text string) { t.Errorf("problem: %q: %s", at, text) }
}
