package browse

import (
	"context"
	"errors"
	"path"
	"strings"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/repo"
)

// Search finds entries by name in many snapshots.
type Search struct {
	pattern string
	whole   bool // of the path
	// What matched nothing below it once is not gone through again in the next
	// snapshot, unless the path matters.
	barren map[crypto.ID]struct{}
}

// maxBarren bounds what is remembered, in directories.
const maxBarren = 1 << 20

// ErrPattern says that a pattern can not be read.
var ErrPattern = errors.New("not a pattern: a [ has no end, or a \\ stands last")

// NewSearch looks for entries called pattern, which may hold *, ? and [a-z]. One
// with a slash in it is compared with the whole path. ErrPattern.
func NewSearch(pattern string) (*Search, error) {
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, ErrPattern
	}
	s := &Search{pattern: pattern, whole: strings.Contains(pattern, "/"), barren: make(map[crypto.ID]struct{})}
	if s.whole && pattern[0] != '/' {
		s.pattern = "/" + pattern
	}
	return s, nil
}

// In calls found for each entry of a tree that matches. An error of found ends
// the search.
func (s *Search) In(ctx context.Context, t *Tree, found func(at string, e *repo.Entry) error) error {
	for _, p := range t.parts {
		if _, err := s.below(ctx, t, p.root.Dir, "/", 0, found); err != nil {
			return err
		}
	}
	return nil
}

func (s *Search) below(ctx context.Context, t *Tree, d repo.Dir, at string, depth int, found func(string, *repo.Entry) error) (any bool, err error) {
	if _, known := s.barren[d.Root]; known && !s.whole {
		return false, nil
	}
	type directory struct {
		at string
		d  repo.Dir
	}
	var dirs []directory
	err = t.walk(ctx, d, at, depth, func(name string, e *repo.Entry) error {
		if e.Type == repo.TypeDirectory {
			dirs = append(dirs, directory{name, e.Dir})
		}
		against := e.Name
		if s.whole {
			against = name
		}
		if ok, _ := path.Match(s.pattern, against); !ok {
			return nil
		}
		any = true
		return found(name, e)
	}, func(string, *repo.Entry) bool { return false })
	if err != nil {
		return any, err
	}
	for _, sub := range dirs {
		more, err := s.below(ctx, t, sub.d, sub.at, depth+1, found)
		if err != nil {
			return any, err
		}
		any = any || more
	}
	if !any && len(s.barren) < maxBarren {
		s.barren[d.Root] = struct{}{}
	}
	return any, nil
}
