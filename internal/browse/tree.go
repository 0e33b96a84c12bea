package browse

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/generalbots/backupd/repo"
)

// Tree is what a snapshot holds. One goroutine at a time uses it.
type Tree struct {
	Snapshot *repo.Snapshot
	rd       *repo.Reader
	parts    []part
}

type part struct {
	source string
	root   *repo.Entry
}

// Found is an entry with the part it is in.
type Found struct {
	Source string
	*repo.Entry
}

// Open returns the tree of a snapshot: of the parts of the named sources, or of
// all when none is named. A part that failed holds nothing. repo.ErrNotFound when
// a source is named that the snapshot does not have.
func Open(r *repo.Repo, s *repo.Snapshot, sources ...string) (*Tree, error) {
	t := &Tree{Snapshot: s, rd: r.Reader()}
	for _, name := range sources {
		if !slices.ContainsFunc(s.Parts, func(p repo.Part) bool { return p.Source == name }) {
			return nil, fmt.Errorf("source %s: %w in %s", name, repo.ErrNotFound, s.ID)
		}
	}
	for i := range s.Parts {
		p := &s.Parts[i]
		if len(sources) > 0 && !slices.Contains(sources, p.Source) {
			continue
		}
		e, err := r.Root(p)
		if errors.Is(err, repo.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		t.parts = append(t.parts, part{p.Source, e})
	}
	return t, nil
}

// Clean makes a path absolute within a snapshot.
func Clean(name string) string { return path.Clean("/" + name) }

// Find returns the entries a path leads to, one for each part that has it.
// repo.ErrNotFound when none has.
func (t *Tree) Find(ctx context.Context, name string) ([]Found, error) {
	name = Clean(name)
	var found []Found
	for _, p := range t.parts {
		e := p.root
		if name != "/" {
			for component := range strings.SplitSeq(name[1:], "/") {
				next, err := t.child(ctx, e, component)
				if err != nil {
					return nil, err
				}
				if e = next; e == nil {
					break
				}
			}
		}
		if e != nil {
			found = append(found, Found{p.source, e})
		}
	}
	if len(found) == 0 && name != "/" {
		return nil, fmt.Errorf("%s: %w in %s", name, repo.ErrNotFound, t.Snapshot.ID)
	}
	return found, nil
}

// child returns the entry of a directory with that name, or nil.
func (t *Tree) child(ctx context.Context, e *repo.Entry, name string) (*repo.Entry, error) {
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

// Walk visits the entries below a directory that stands at the path at, in the
// order of their names, directories before what they hold. enter may be nil;
// where it returns false a directory is not gone into. An error of visit ends
// the walk.
func (t *Tree) Walk(ctx context.Context, d repo.Dir, at string, visit func(at string, e *repo.Entry) error, enter func(at string, e *repo.Entry) bool) error {
	return t.walk(ctx, d, at, 0, visit, enter)
}

func (t *Tree) walk(ctx context.Context, d repo.Dir, at string, depth int, visit func(at string, e *repo.Entry) error, enter func(at string, e *repo.Entry) bool) error {
	if depth > repo.MaxTreeDepth {
		return fmt.Errorf("%w: directories nested deeper than %d", repo.ErrDamaged, repo.MaxTreeDepth)
	}
	dr := t.rd.Dir(d)
	for {
		raw, ok, err := dr.Next(ctx)
		if err != nil || !ok {
			return err
		}
		// An entry of its own: visit may keep it.
		e := new(repo.Entry)
		if err := raw.Entry(e); err != nil {
			return err
		}
		name := join(at, e.Name)
		if err := visit(name, e); err != nil {
			return err
		}
		if e.Type == repo.TypeDirectory && (enter == nil || enter(name, e)) {
			if err := t.walk(ctx, e.Dir, name, depth+1, visit, enter); err != nil {
				return err
			}
		}
	}
}

// join adds a name to a path as it is: names are any bytes, so that path.Join
// could change them.
func join(at, name string) string {
	if at == "/" || at == "" {
		return at + name
	}
	return at + "/" + name
}
