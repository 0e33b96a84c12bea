package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/repo"
)

// tree is what a snapshot holds, seen from a command line.
type tree struct {
	r     *repo.Repo
	rd    *repo.Reader
	snap  *repo.Snapshot
	roots []*repo.Entry // of the parts that have one
}

// openTree finds a snapshot and its roots.
func openTree(r *repo.Repo, query string) (*tree, error) {
	s, err := named(r.Resolve(query))
	if err != nil {
		return nil, err
	}
	return treeOf(r, s)
}

func treeOf(r *repo.Repo, s *repo.Snapshot) (*tree, error) {
	t := &tree{r: r, rd: r.Reader(), snap: s}
	for i := range s.Parts {
		e, err := r.Root(&s.Parts[i])
		if errors.Is(err, repo.ErrNotFound) {
			continue // a failed part holds nothing
		}
		if err != nil {
			return nil, err
		}
		t.roots = append(t.roots, e)
	}
	return t, nil
}

// noPath is about a path that a snapshot does not hold. Paths in a snapshot are those of the host: who stands in a
// directory and names a file of it is told so.
func (t *tree) noPath(ctx context.Context, name string) error {
	hint := fmt.Sprintf("'backupd repo ls %s' lists what it holds", t.snap.ID)
	if !path.IsAbs(name) {
		if abs, err := filepath.Abs(name); err == nil {
			if found, err := t.look(ctx, abs); err == nil && len(found) > 0 {
				hint = "paths are whole in a snapshot, and it has " + abs
			}
		}
	}
	return &absent{fmt.Errorf("%s: %w in %s; %s", clean(name), repo.ErrNotFound, t.snap.ID, hint)}
}

// pathArgument is the PATH of "ID [PATH]", or the root.
func pathArgument(args []string) string {
	if len(args) < 2 {
		return "/"
	}
	return args[1]
}

// clean makes a path of a command line absolute within the snapshot.
func clean(name string) string { return path.Clean("/" + name) }

// find returns the entries a path of a command line leads to, one for each part that has it.
func (t *tree) find(ctx context.Context, name string) ([]*repo.Entry, error) {
	at := clean(name)
	if at == "/" {
		return t.roots, nil
	}
	found, err := t.look(ctx, at)
	if err == nil && len(found) == 0 {
		err = t.noPath(ctx, name)
	}
	return found, err
}

// look is find for a clean path that may lead nowhere.
func (t *tree) look(ctx context.Context, name string) ([]*repo.Entry, error) {
	var found []*repo.Entry
	for _, root := range t.roots {
		e := root
		for part := range strings.SplitSeq(name[1:], "/") {
			next, err := t.child(ctx, e, part)
			if err != nil {
				return nil, err
			}
			if e = next; e == nil {
				break
			}
		}
		if e != nil {
			found = append(found, e)
		}
	}
	return found, nil
}

// child returns the entry of a directory with that name, or nil.
func (t *tree) child(ctx context.Context, e *repo.Entry, name string) (*repo.Entry, error) {
	if e.Type != repo.TypeDirectory {
		return nil, nil
	}
	raw, ok, err := t.rd.Dir(e.Dir).Find(ctx, name)
	if err != nil || !ok {
		return nil, err
	}
	var c repo.Entry
	if err := raw.Entry(&c); err != nil {
		return nil, err
	}
	return &c, nil
}

// walk visits the entries below a directory in the order of their names, directories before what they hold. enter may
// be nil; where it returns false a directory is not gone into.
func (t *tree) walk(ctx context.Context, d repo.Dir, at string, depth int, visit func(at string, e *repo.Entry) error, enter func(at string, e *repo.Entry) bool) error {
	if depth > repo.MaxTreeDepth {
		return fmt.Errorf("%s: %w: nested too deep", printable(at), repo.ErrDamaged)
	}
	dr := t.rd.Dir(d)
	for {
		raw, ok, err := dr.Next(ctx)
		if err != nil || !ok {
			return err
		}
		var e repo.Entry
		if err := raw.Entry(&e); err != nil {
			return err
		}
		name := path.Join(at, e.Name)
		if at == "/" || at == "" {
			name = at + e.Name
		}
		if err := visit(name, &e); err != nil {
			return err
		}
		if e.Type == repo.TypeDirectory && (enter == nil || enter(name, &e)) {
			if err := t.walk(ctx, e.Dir, name, depth+1, visit, enter); err != nil {
				return err
			}
		}
	}
}

// content writes what a regular file holds, its holes as zeros.
func (t *tree) content(ctx context.Context, w io.Writer, e *repo.Entry) error {
	out := &spread{w: w, entry: e}
	cr := t.rd.Content(&e.Content)
	var buf []byte
	for {
		ref, ok, err := cr.Next(ctx)
		if err != nil {
			return err
		}
		if !ok {
			return out.end()
		}
		if buf, err = t.rd.AppendChunk(ctx, buf[:0], ref.ID); err != nil {
			return err
		}
		if err := out.write(buf); err != nil {
			return err
		}
	}
}

// spread puts the chunks of a file, which hold its data ranges one after the other, back to their places.
type spread struct {
	w     io.Writer
	entry *repo.Entry
	at    int64 // written so far
	next  int   // extent
	used  int64 // of that extent
}

func (s *spread) write(b []byte) error {
	for len(b) > 0 {
		n := int64(len(b))
		if s.entry.Sparse {
			if s.next == len(s.entry.Extents) {
				return fmt.Errorf("%w: more content than its ranges hold", repo.ErrDamaged)
			}
			x := s.entry.Extents[s.next]
			if err := s.zeros(x.Off + s.used - s.at); err != nil {
				return err
			}
			n = min(n, x.Len-s.used)
			if s.used += n; s.used == x.Len {
				s.next, s.used = s.next+1, 0
			}
		}
		if _, err := s.w.Write(b[:n]); err != nil {
			return err
		}
		s.at += n
		b = b[n:]
	}
	return nil
}

func (s *spread) zeros(n int64) error {
	var page [32 << 10]byte
	for n > 0 {
		m := min(n, int64(len(page)))
		if _, err := s.w.Write(page[:m]); err != nil {
			return err
		}
		s.at += m
		n -= m
	}
	return nil
}

func (s *spread) end() error {
	if err := s.zeros(s.entry.Size - s.at); err != nil {
		return err
	}
	if s.at != s.entry.Size {
		return fmt.Errorf("%w: %d bytes of content, %d were recorded", repo.ErrDamaged, s.at, s.entry.Size)
	}
	return nil
}

// dirSet remembers directories by their content.
type dirSet map[crypto.ID]struct{}

// maxDirSet bounds what is remembered, in directories.
const maxDirSet = 1 << 20

func (s dirSet) has(d repo.Dir) bool {
	_, ok := s[d.Root]
	return ok
}

func (s dirSet) add(d repo.Dir) {
	if len(s) < maxDirSet {
		s[d.Root] = struct{}{}
	}
}
