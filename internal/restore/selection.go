package restore

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/generalbots/backupd/repo"
)

// maxPathBytes bounds one path that is asked for.
const maxPathBytes = 1 << 20

// selection is the part of the tree that paths ask for: a directory of which
// only some names are wanted. All below a nil selection is wanted.
type selection struct {
	names []string              // sorted, what below has
	below map[string]*selection // nil for a name that is wanted with all below
}

// selectPaths makes the selection of paths, nil for all.
func selectPaths(paths [][]byte) (*selection, error) {
	root := &selection{below: make(map[string]*selection)}
	for _, p := range paths {
		names, err := splitPath(p)
		if err != nil {
			return nil, err
		}
		if len(names) == 0 {
			return nil, nil
		}
		at := root
		for i, name := range names {
			next, ok := at.below[name]
			if i == len(names)-1 {
				at.below[name] = nil
			} else if !ok {
				next = &selection{below: make(map[string]*selection)}
				at.below[name] = next
			} else if next == nil {
				break // all of it is wanted already
			}
			at = next
		}
	}
	if len(paths) == 0 {
		return nil, nil
	}
	for todo := []*selection{root}; len(todo) > 0; {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for name, below := range s.below {
			s.names = append(s.names, name)
			if below != nil {
				todo = append(todo, below)
			}
		}
		slices.Sort(s.names)
	}
	return root, nil
}

func splitPath(p []byte) (names []string, err error) {
	if len(p) > maxPathBytes {
		return nil, fmt.Errorf("path %.100q…: longer than %d bytes", p, maxPathBytes)
	}
	for part := range bytes.SplitSeq(p, []byte{'/'}) {
		switch string(part) {
		case "", ".":
		case "..":
			return nil, fmt.Errorf("path %q: %q is not a name in a snapshot", p, part)
		default:
			names = append(names, string(part))
		}
	}
	return names, nil
}

// extent adds up what a list of paths holds. repo.ErrNotFound names a path
// that no part has.
func extent(ctx context.Context, rd *repo.Reader, roots []*repo.Entry, paths [][]byte) (files, size int64, err error) {
	for _, p := range paths {
		names, err := splitPath(p)
		if err != nil {
			return 0, 0, err
		}
		found := false
		var trouble error
		for _, root := range roots {
			e, ok, err := lookup(ctx, rd, root, names)
			if err != nil && trouble == nil {
				trouble = err
			}
			if !ok {
				continue
			}
			found = true
			if e.Type == repo.TypeDirectory {
				files, size = files+int64(e.Dir.Files), size+e.Dir.Bytes
			} else {
				files, size = files+1, size+e.Size
			}
		}
		switch {
		case found:
		case trouble != nil:
			return 0, 0, fmt.Errorf("path %q: %w", p, trouble)
		default:
			return 0, 0, fmt.Errorf("path %q: %w in the snapshot", p, repo.ErrNotFound)
		}
	}
	return files, size, nil
}

func lookup(ctx context.Context, rd *repo.Reader, root *repo.Entry, names []string) (*repo.Entry, bool, error) {
	at := root
	for _, name := range names {
		if at.Type != repo.TypeDirectory {
			return nil, false, nil
		}
		raw, ok, err := rd.Dir(at.Dir).Find(ctx, name)
		if err != nil || !ok {
			return nil, false, err
		}
		at = new(repo.Entry)
		if err := raw.Entry(at); err != nil {
			return nil, false, err
		}
	}
	return at, true, nil
}
