package browse

import (
	"context"
	"errors"
	"path"
	"strings"
	"sync/atomic"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/repo"
)

// Search finds entries by name in many snapshots of one repository. One
// goroutine at a time searches.
type Search struct {
	// Entries counts what was looked at. The search writes it, anybody may read
	// it at any time.
	Entries atomic.Int64

	pattern string
	whole   bool // of the path
	// Directories below which nothing matched. They are told by their content,
	// so one that stands elsewhere too, in another part or another snapshot, is
	// not gone through again. Of no use when the path matters.
	barren map[crypto.ID]struct{}
}

// maxBarren bounds what is remembered, in directories of about 60 bytes each.
// Beyond it a search only takes longer.
const maxBarren = 1 << 18

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

// In calls found for each entry of a tree that matches, part after part, in the
// order in which Walk comes by. An entry is valid until found has returned. An
// error of found ends the search.
func (s *Search) In(ctx context.Context, t *Tree, found func(at string, e *repo.Entry) error) error {
	in := searching{s, t, found, repo.Entry{}}
	for _, p := range t.parts {
		if _, err := in.below(ctx, p.root.Dir, "/", 0); err != nil {
			return err
		}
	}
	return nil
}

// searching is a search in one tree.
type searching struct {
	*Search
	t     *Tree
	found func(at string, e *repo.Entry) error
	entry repo.Entry
}

// below reports whether anything matched below a directory.
func (s *searching) below(ctx context.Context, d repo.Dir, at string, depth int) (matched bool, err error) {
	if depth > repo.MaxTreeDepth {
		return false, errTooDeep
	}
	if _, known := s.barren[d.Root]; known {
		return false, nil
	}
	dr := s.t.rd.Dir(d)
	for {
		raw, ok, err := dr.Next(ctx)
		if err != nil {
			return matched, err
		}
		if !ok {
			break
		}
		s.Entries.Add(1)
		directory := raw.Type() == repo.TypeDirectory
		name := ""
		var match bool
		if s.whole {
			name = join(at, string(raw.Name()))
			match, _ = path.Match(s.pattern, name)
		} else {
			match, _ = path.Match(s.pattern, string(raw.Name()))
		}
		if !match && !directory {
			continue
		}
		// Only these are worth to be decoded.
		if err := raw.Entry(&s.entry); err != nil {
			return matched, err
		}
		name, sub := join(at, s.entry.Name), s.entry.Dir
		if match {
			matched = true
			if err := s.found(name, &s.entry); err != nil {
				return matched, err
			}
		}
		if !directory {
			continue
		}
		more, err := s.below(ctx, sub, name, depth+1)
		if err != nil {
			return matched, err
		}
		matched = matched || more
	}
	// Only what was gone through to its end is known to hold nothing.
	if !matched && !s.whole && len(s.barren) < maxBarren {
		s.barren[d.Root] = struct{}{}
	}
	return matched, nil
}
