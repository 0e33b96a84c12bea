package repo_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

// twice is a directory with a repository that two processes have open.
type twice struct {
	dir string
	key crypto.Credential
}

func newTwice(t *testing.T) *twice {
	t.Helper()
	key := sha256.Sum256([]byte("twice"))
	c, err := crypto.KeyFileCredential(key[:])
	if err != nil {
		t.Fatal(err)
	}
	w := &twice{dir: filepath.Join(t.TempDir(), "repo"), key: c}
	st, err := store.MakeDir(t.Context(), w.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if _, err := repo.Init(t.Context(), st, repo.InitOptions{Slots: []repo.NewSlot{{Label: "x", Credential: c}}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r := w.open(t, "")
		rep, err := r.Check(context.Background(), repo.CheckOptions{ReadData: true}, new(repo.CheckProgress))
		if err != nil || !rep.Sound() {
			t.Errorf("not sound: %v %+v", err, rep)
		}
	})
	return w
}

func (w *twice) open(t *testing.T, state string) *repo.Repo {
	t.Helper()
	st, err := store.OpenDir(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(context.Background(), st, []crypto.Credential{w.key}, repo.Options{StateDir: state})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); st.Close() })
	return r
}

// put makes a snapshot of one empty directory.
func (w *twice) put(t *testing.T, r *repo.Repo) string {
	t.Helper()
	ctx := t.Context()
	wr, err := r.NewWriter(ctx, repo.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer wr.Close()
	tree := wr.Tree()
	dir := tree.NewDir(nil, r.Reader())
	d, err := dir.Close(ctx)
	if err != nil {
		t.Fatal(err)
	}
	id, err := r.NewID(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	p := repo.Part{Source: "s", Kind: "files", Profile: "files", StartedAt: now, FinishedAt: now}
	if err := p.SetRoot(&repo.Entry{Type: repo.TypeDirectory, Mode: 0o755, Dir: d}); err != nil {
		t.Fatal(err)
	}
	m := &repo.Manifest{ID: id, Type: "full", Status: "completed", CreatedAt: now, StartedAt: now, FinishedAt: now, Parts: []repo.Part{p}}
	if err := wr.Commit(ctx, m); err != nil {
		t.Fatal(err)
	}
	return id
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func ids(r *repo.Repo) (list []string) {
	for _, s := range r.Snapshots() {
		list = append(list, s.ID)
	}
	return list
}

// One process writes and forgets, the other sees it when it refreshes, while
// readers of its own go on.
func TestRefresh_SeesWhatAnotherProcessDid(t *testing.T) {
	w := newTwice(t)
	here, other := w.open(t, t.TempDir()), w.open(t, t.TempDir())
	w.put(t, other)
	if len(ids(here)) != 0 {
		t.Fatal("it is seen before the refresh")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for ctx.Err() == nil {
				for _, s := range here.Snapshots() {
					root, err := here.Root(&s.Parts[0])
					if err == nil {
						_, _, err = here.Reader().Dir(root.Dir).Next(ctx)
					}
					if err != nil && ctx.Err() == nil {
						t.Errorf("a reader: %v", err)
					}
				}
			}
		})
	}
	for i := range 10 {
		id := w.put(t, other)
		if err := here.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := ids(here); len(got) != i+2 || got[i+1] != id {
			t.Fatalf("got %v, want %s last", got, id)
		}
	}
	if err := other.Forget(t.Context(), ids(other)[0]); err != nil {
		t.Fatal(err)
	}
	if err := here.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(ids(here)) != 10 || len(here.Forgotten()) != 1 {
		t.Errorf("got %d snapshots, %d forgotten", len(ids(here)), len(here.Forgotten()))
	}
	// A gc would pull packs away from under readers: it is kept out.
	var held *store.LockedError
	if _, err := other.GC(t.Context(), repo.GCOptions{}, new(repo.GCProgress)); !errors.As(err, &held) {
		t.Errorf("got %v, want *store.LockedError", err)
	}
	cancel()
	readers.Wait()
	// What was seen is written on.
	w.put(t, here)
	if err := other.Refresh(t.Context()); err != nil || len(ids(other)) != 11 {
		t.Errorf("got %d snapshots, %v", len(ids(other)), err)
	}
}

func TestRefresh_GoesReadOnlyWhenTheRepositoryWentBack(t *testing.T) {
	w := newTwice(t)
	here := w.open(t, t.TempDir())
	w.put(t, here)
	before := make(map[string]bool)
	for _, name := range files(t, w.dir+"/snapshots") {
		before[name] = true
	}
	w.put(t, here)
	for _, name := range files(t, w.dir+"/snapshots") {
		if !before[name] {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := here.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := here.NewWriter(t.Context(), repo.WriterOptions{}); !errors.Is(err, repo.ErrReadOnly) {
		t.Errorf("got %v, want ErrReadOnly", err)
	}
	if len(here.Warnings()) == 0 {
		t.Error("nobody is told")
	}
}

// Once somebody has accepted the repository as it is, or brought back what was
// missing, a process that is open sees it.
func TestRefresh_GoesOnWhenTheRepositoryWasAccepted(t *testing.T) {
	for _, how := range []string{"accepted", "brought back", "accepted before it was seen"} {
		w := newTwice(t)
		state := t.TempDir()
		here := w.open(t, state)
		w.put(t, here)
		before := make(map[string]bool)
		for _, name := range files(t, w.dir+"/snapshots") {
			before[name] = true
		}
		w.put(t, here)
		var lost string
		for _, name := range files(t, w.dir+"/snapshots") {
			if !before[name] {
				lost = name
			}
		}
		if err := os.Rename(lost, w.dir+"/lost"); err != nil {
			t.Fatal(err)
		}
		refreshed := func(want bool) {
			t.Helper()
			if err := here.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := here.ReadOnly(); (got == nil) != want || want && len(here.Warnings()) > 0 {
				t.Errorf("%s: got %v, warnings %v", how, got, here.Warnings())
			}
		}
		if how != "accepted before it was seen" {
			refreshed(false)
			refreshed(false)
		}
		if how == "brought back" {
			if err := os.Rename(w.dir+"/lost", lost); err != nil {
				t.Fatal(err)
			}
		} else {
			other := w.open(t, state)
			if err := other.AcceptHead(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := other.Close(); err != nil {
				t.Fatal(err)
			}
		}
		refreshed(true)
		w.put(t, here)
		refreshed(true)
	}
}
