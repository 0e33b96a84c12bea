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

// Tree is what a snapshot holds. It does not change, and any number of
// goroutines may look into it.
type Tree struct {
	snapshot *repo.Snapshot
	rd       *repo.Reader
	parts    []part
	failed   []string // sources of the parts that hold nothing
}

type part struct {
	source string
	root   *repo.Entry
}

// Found is an entry with the part it is in.
type Found struct {
	Source string // of the part
	*repo.Entry
}

var (
	// ErrNoPath says that no part has a path. It wraps repo.ErrNotFound, as does
	// a page or chunk that the repository has lost, which is not this.
	ErrNoPath = fmt.Errorf("%w", repo.ErrNotFound)
	// ErrNotDirectory says that a path leads to something that holds no entries.
	ErrNotDirectory = errors.New("not a directory")
)

// Open returns the tree of a snapshot: of the parts of the named sources, or of
// all when none is named. A part that failed holds nothing. repo.ErrNotFound when
// a source is named that the snapshot does not have.
func Open(r *repo.Repo, s *repo.Snapshot, sources ...string) (*Tree, error) {
	t := &Tree{snapshot: s, rd: r.Reader()}
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
		if len(p.Root) == 0 && p.Failed {
			t.failed = append(t.failed, p.Source)
			continue
		}
		e, err := r.Root(p)
		if err != nil {
			return nil, err
		}
		t.parts = append(t.parts, part{p.Source, e})
	}
	return t, nil
}

// Snapshot is what the tree was opened from.
func (t *Tree) Snapshot() *repo.Snapshot { return t.snapshot }

// Clean makes what somebody typed an absolute path within a snapshot. It takes
// away "", "." and ".." as components, which no entry is called, so a path made
// of names of entries stays as it is, whatever bytes they are.
func Clean(name string) string { return path.Clean("/" + name) }

// Find returns the entries a path leads to, one for each part that has it, in
// the order of the parts; do not change them. ErrNoPath when none has; the root is
// never missing, but of a snapshot whose parts all failed nothing is returned.
func (t *Tree) Find(ctx context.Context, name string) ([]Found, error) {
	name = Clean(name)
	here, err := t.find(ctx, name)
	if err != nil {
		return nil, err
	}
	found := make([]Found, len(here))
	for i, v := range here {
		found[i] = Found{t.parts[v.part].source, v.entry}
	}
	return found, nil
}

// version is what one part has under a name.
type version struct {
	part  int
	entry *repo.Entry
}

// find is Find for a clean path.
func (t *Tree) find(ctx context.Context, name string) (found []version, err error) {
	for i, p := range t.parts {
		e := p.root
		if name != "/" {
			for component := range strings.SplitSeq(name[1:], "/") {
				if e, err = t.child(ctx, e, component); err != nil {
					return nil, err
				}
				if e == nil {
					break
				}
			}
		}
		if e != nil {
			found = append(found, version{i, e})
		}
	}
	if len(found) == 0 && name != "/" {
		return nil, fmt.Errorf("%s: %w in %s", name, ErrNoPath, t.snapshot.ID)
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

// Walk visits the entries below a directory of one part, which stands at the
// path at, in the order of their names, directories before what they hold. enter
// may be nil; where it returns false a directory is not gone into. An entry is
// valid until visit and enter have returned. An error of visit ends the walk.
func (t *Tree) Walk(ctx context.Context, d repo.Dir, at string, visit func(at string, e *repo.Entry) error, enter func(at string, e *repo.Entry) bool) error {
	return t.walk(ctx, d, at, 0, new(repo.Entry), visit, enter)
}

// walk reads every entry into e: directories are gone into by a copy.
func (t *Tree) walk(ctx context.Context, d repo.Dir, at string, depth int, e *repo.Entry, visit func(at string, e *repo.Entry) error, enter func(at string, e *repo.Entry) bool) error {
	if depth > repo.MaxTreeDepth {
		return errTooDeep
	}
	dr := t.rd.Dir(d)
	for {
		raw, ok, err := dr.Next(ctx)
		if err != nil || !ok {
			return err
		}
		if err := raw.Entry(e); err != nil {
			return err
		}
		name, below := join(at, e.Name), e.Dir
		if err := visit(name, e); err != nil {
			return err
		}
		if raw.Type() == repo.TypeDirectory && (enter == nil || enter(name, e)) {
			if err := t.walk(ctx, below, name, depth+1, e, visit, enter); err != nil {
				return err
			}
		}
	}
}

var errTooDeep = fmt.Errorf("%w: directories nested deeper than %d", repo.ErrDamaged, repo.MaxTreeDepth)

// join adds a name to a path as it is: names are any bytes, so that path.Join
// could change them.
func join(at, name string) string {
	if at == "/" || at == "" {
		return at + name
	}
	return at + "/" + name
}
