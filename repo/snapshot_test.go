package repo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"
	"time"
)

// version is the files of a snapshot made by commitFiles, by name.
type version map[string][]byte

const testChunk = 20_000

// commitFiles makes a snapshot of one directory of files. Chunks are cut at
// fixed places; base, when given, is where like chunks come from.
func commitFiles(ctx context.Context, r *Repo, files version, base *Snapshot) (*Snapshot, error) {
	id, err := r.NewID(time.Now())
	if err != nil {
		return nil, err
	}
	return commitFilesAs(ctx, r, id, files, base, (*Writer).Commit)
}

// commitFilesAs is commitFiles under an id that is known before, with a commit
// of the caller's choice.
func commitFilesAs(ctx context.Context, r *Repo, id string, files version, base *Snapshot, commit func(*Writer, context.Context, *Manifest) error) (*Snapshot, error) {
	w, err := r.NewWriter(ctx, WriterOptions{})
	if err != nil {
		return nil, err
	}
	defer w.Close()
	l, err := w.NewLane()
	if err != nil {
		return nil, err
	}
	var old *Dir
	if base != nil {
		root, err := r.Root(&base.Parts[0])
		if err != nil {
			return nil, err
		}
		old = &root.Dir
	}
	tw := w.Tree()
	dw := tw.NewDir(old, r.Reader())
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var was []Ref
		var wasContent *Content
		if old != nil {
			if raw, ok, err := r.Reader().Dir(*old).Find(ctx, name); err != nil {
				return nil, err
			} else if ok {
				var e Entry
				if err := raw.Entry(&e); err != nil {
					return nil, err
				}
				wasContent = &e.Content
				if was, err = contentRefs(ctx, r, &e.Content); err != nil {
					return nil, err
				}
			}
		}
		cw := tw.NewContent(wasContent, r.Reader())
		i := 0
		for p := files[name]; len(p) > 0; i++ {
			c := p[:min(testChunk, len(p))]
			p = p[len(c):]
			ref := l.Ref(c)
			var like []Ref
			if i < len(was) {
				like = was[max(0, i-1):min(len(was), i+2)]
			}
			if _, err := l.Put(ctx, c, ref, like); err != nil {
				return nil, err
			}
			if err := cw.Add(ctx, ref); err != nil {
				return nil, err
			}
		}
		content, err := cw.Close(ctx)
		if err != nil {
			return nil, err
		}
		e := Entry{Name: name, Type: TypeRegular, Mode: 0o644, Nlink: 1, Size: int64(len(files[name])), Content: content}
		if err := dw.Add(ctx, &e); err != nil {
			return nil, err
		}
	}
	dir, err := dw.Close(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.Flush(ctx); err != nil {
		return nil, err
	}
	now := time.Now()
	p := Part{Source: "test", Kind: "files", Profile: "files", StartedAt: now, FinishedAt: now}
	if err := p.SetRoot(&Entry{Type: TypeDirectory, Mode: 0o755, Dir: dir}); err != nil {
		return nil, err
	}
	m := &Manifest{ID: id, Type: "full", CreatedAt: now, StartedAt: now, FinishedAt: now, Host: "test", Status: "completed", Parts: []Part{p}}
	if err := commit(w, ctx, m); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return r.Resolve(id)
}

func contentRefs(ctx context.Context, r *Repo, c *Content) (refs []Ref, err error) {
	cr := r.Reader().Content(c)
	for {
		ref, ok, err := cr.Next(ctx)
		if err != nil || !ok {
			return refs, err
		}
		refs = append(refs, ref)
	}
}

// readFiles is the inverse of commitFiles.
func readFiles(ctx context.Context, r *Repo, s *Snapshot) (version, error) {
	root, err := r.Root(&s.Parts[0])
	if err != nil {
		return nil, err
	}
	files := version{}
	dr := r.Reader().Dir(root.Dir)
	for {
		raw, ok, err := dr.Next(ctx)
		if err != nil {
			return nil, err
		}
		if !ok {
			return files, nil
		}
		var e Entry
		if err := raw.Entry(&e); err != nil {
			return nil, err
		}
		refs, err := contentRefs(ctx, r, &e.Content)
		if err != nil {
			return nil, err
		}
		p := make([]byte, 0, e.Size)
		for _, ref := range refs {
			if p, err = r.Reader().AppendChunk(ctx, p, ref.ID); err != nil {
				return nil, fmt.Errorf("%s: %w", e.Name, err)
			}
		}
		if int64(len(p)) != e.Size {
			return nil, fmt.Errorf("%s: %d bytes, %w", e.Name, len(p), io.ErrUnexpectedEOF)
		}
		files[string(raw.Name())] = p
	}
}

func sameFiles(a, b version) bool { return maps.EqualFunc(a, b, bytes.Equal) }

// mustBeSound ends a test that opened a repository: everything is checked.
func mustBeSound(t testing.TB, r *Repo) {
	t.Helper()
	rep, err := r.Check(context.Background(), CheckOptions{ReadData: true}, &CheckProgress{})
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	if !rep.Sound() {
		t.Fatalf("check: %+v %+v", rep.Findings, rep.DamagedFiles)
	}
}
