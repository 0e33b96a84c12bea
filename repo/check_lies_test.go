package repo

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/store"
)

// commitRoot makes a snapshot whose only part has this root.
func commitRoot(t testing.TB, w *Writer, r *Repo, dir Dir) string {
	t.Helper()
	m := bareManifest(t, r)
	m.Parts = []Part{{Source: "test", Kind: "files", Profile: "files", StartedAt: time.Now(), FinishedAt: time.Now()}}
	if err := m.Parts[0].SetRoot(&Entry{Type: TypeDirectory, Mode: 0o755, Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return m.ID
}

// firstBranch is a copy of the page that a directory of two levels begins with, and where the count of entries stands
// in its first item and in its second.
func firstBranch(t testing.TB, r *Repo, d Dir) (page []byte, counts [2]int) {
	t.Helper()
	p, err := r.Reader().page(t.Context(), d.Root)
	if err != nil {
		t.Fatal(err)
	}
	page = append([]byte(nil), p...)
	dec := treeDecoder{b: page, off: 1}
	for i := range counts {
		dec.bytes(MaxNameLength)
		dec.id()
		counts[i] = dec.off
		dec.uvarint()
	}
	if dec.bad != "" || d.Level != 1 {
		t.Fatalf("level %d, %s", d.Level, dec.bad)
	}
	return page, counts
}

// readsWhole tells whether a directory, without what is below it, is read to its end.
func readsWhole(ctx context.Context, r *Repo, d Dir) error {
	rd := r.Reader().Dir(d)
	for {
		if _, ok, err := rd.Next(ctx); err != nil || !ok {
			return err
		}
	}
}

// What is said of a page is compared with it however often the page was met before: what a restore finds wrong a check
// of everything does.
func TestCheck_FindsATreeThatLiesAboutPagesOthersShare(t *testing.T) {
	st := store.NewMem()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	ctx := t.Context()
	write := func(make func(w *Writer) Dir) (string, Dir) {
		w, err := r.NewWriter(ctx, WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		d := make(w)
		return commitRoot(t, w, r, d), d
	}
	of := func(n int) func(w *Writer) Dir {
		return func(w *Writer) Dir {
			dw := w.Tree().NewDir(nil, r.Reader())
			for i := range n {
				if err := dw.Add(ctx, &Entry{Name: fmt.Sprintf("%06d", i), Type: TypeSymlink, Target: "there", Mode: 0o777, Nlink: 1}); err != nil {
					t.Fatal(err)
				}
			}
			d, err := dw.Close(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
	}
	_, small := write(of(20))
	_, large := write(of(3000))
	mustBeSound(t, r)

	lies := map[string]func(w *Writer) Dir{
		"fewer entries than the page has": func(*Writer) Dir { d := small; d.Entries--; return d },
		"more entries than the page has":  func(*Writer) Dir { d := small; d.Entries++; return d },
		"more files than there are":       func(*Writer) Dir { d := small; d.Files++; return d },
		"bytes where there are none":      func(*Writer) Dir { d := small; d.Bytes++; return d },
		"another level":                   func(*Writer) Dir { d := small; d.Level++; return d },
		"a branch taken for a leaf":       func(*Writer) Dir { d := large; d.Level--; return d },
		"a branch that counts its pages wrongly": func(w *Writer) Dir {
			d := large
			page, at := firstBranch(t, r, d)
			for i, by := range []uint64{1, ^uint64(0)} {
				n, size := binary.Uvarint(page[at[i]:])
				if len(binary.AppendUvarint(nil, n+by)) != size {
					t.Fatal("the count would take another length")
				}
				binary.PutUvarint(page[at[i]:], n+by)
			}
			id, err := w.tree.putPage(ctx, page, nil)
			if err != nil {
				t.Fatal(err)
			}
			d.Root = id
			return d
		},
	}
	for what, lie := range lies {
		t.Run(what, func(t *testing.T) {
			id, d := write(lie)
			if readsWhole(ctx, r, d) == nil {
				t.Fatal("a reader finds nothing wrong, so the test shows nothing")
			}
			for _, o := range []CheckOptions{{}, {ReadData: true}, {Snapshots: []string{id}}} {
				rep := checked(t, r, o)
				named := len(damagedOf(rep, id)) > 0
				for _, f := range rep.Findings {
					named = named || f.Object == id
				}
				if !named {
					t.Errorf("%+v: findings %v, files %v", o, rep.Findings, rep.DamagedFiles)
				}
			}
			if err := r.Forget(ctx, id); err != nil {
				t.Fatal(err)
			}
			if _, err := r.GC(ctx, GCOptions{}, new(GCProgress)); err != nil {
				t.Fatal(err)
			}
			mustBeSound(t, r)
		})
	}
}
