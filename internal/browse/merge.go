package browse

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"reflect"

	"github.com/generalbots/backupd/repo"
)

// List yields the entries of one directory in the order of their names: what all
// parts have there as one list, in which a name that several parts have comes
// once for each, in the order of the parts. The first offset entries are left
// out, and it ends after limit of them; 0 is all. How many there are in all is
// the sum of Dir.Entries over what Find returns.
//
// An entry is valid until the next is asked for. It holds a page of each part in
// memory, however long the list. An error is the last that is yielded:
// ErrNoPath, ErrNotDirectory, or what could not be read, so that no list
// is complete that ended with one.
func (t *Tree) List(ctx context.Context, at string, offset, limit uint64) iter.Seq2[Found, error] {
	return func(yield func(Found, error) bool) {
		at := Clean(at)
		here, err := t.find(ctx, at)
		m := merge{}
		for _, v := range here {
			m.add(t.rd, v)
		}
		if err == nil && len(m.heads) == 0 && len(here) > 0 {
			err = fmt.Errorf("%s: %w", at, ErrNotDirectory)
		}
		var e repo.Entry
		for left := limit; err == nil; {
			var group []*head
			if group, err = m.next(ctx); err != nil {
				break
			}
			if len(group) == 0 {
				return
			}
			for _, h := range group {
				if offset > 0 {
					offset--
					continue
				}
				if err = h.cur.Entry(&e); err != nil {
					break
				}
				if !yield(Found{t.parts[h.part].source, &e}, nil) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
		}
		yield(Found{}, err)
	}
}

// merge goes through one directory as several parts have it.
type merge struct {
	heads []head // in the order of the parts
	group []*head
}

// head is where it is in one part's version.
type head struct {
	part int
	rd   *repo.DirReader
	cur  repo.RawEntry
	have bool // cur is still to come
	done bool
}

// add takes a version in, if it is a directory.
func (m *merge) add(rd *repo.Reader, v version) {
	if v.entry.Type == repo.TypeDirectory {
		m.heads = append(m.heads, head{part: v.part, rd: rd.Dir(v.entry.Dir)})
	}
}

// next returns who has the next name, each with its entry in cur, and nobody at
// the end. The result is valid until the next call.
func (m *merge) next(ctx context.Context) (group []*head, err error) {
	m.group = m.group[:0]
	var least []byte
	for i := range m.heads {
		h := &m.heads[i]
		if !h.have && !h.done {
			if h.cur, h.have, err = h.rd.Next(ctx); err != nil {
				return nil, err
			}
			h.done = !h.have
		}
		if !h.have {
			continue
		}
		order := -1
		if len(m.group) > 0 {
			order = bytes.Compare(h.cur.Name(), least)
		}
		if order < 0 {
			m.group, least = m.group[:0], h.cur.Name()
		}
		if order <= 0 {
			m.group = append(m.group, h)
		}
	}
	for _, h := range m.group {
		h.have = false
	}
	return m.group, nil
}

// whole goes through all parts as the one tree that a restore makes of them: of
// several entries with one name the first counts, several directories are one
// with the metadata of the first.
type whole struct {
	*Tree
	visit   func(at string, part int, e *repo.Entry) error
	problem func(at, text string)
	entry   repo.Entry // the one visited
	other   repo.Entry
}

// from visits what is at a clean path, unless that is the root, and all below.
func (w *whole) from(ctx context.Context, at string) error {
	here, err := w.find(ctx, at)
	if err != nil {
		return err
	}
	for _, source := range w.failed {
		w.problem("/", "part "+source+" failed when it was backed up and holds nothing")
	}
	if len(here) == 0 {
		return nil
	}
	if at != "/" {
		for _, v := range here[1:] {
			w.compare(at, here[0].entry, v)
		}
		if err := w.visit(at, here[0].part, here[0].entry); err != nil {
			return err
		}
	}
	m := merge{}
	if here[0].entry.Type == repo.TypeDirectory {
		for _, v := range here {
			m.add(w.rd, v)
		}
	}
	return w.below(ctx, &m, at, 0)
}

func (w *whole) below(ctx context.Context, m *merge, at string, depth int) error {
	if depth > repo.MaxTreeDepth {
		return errTooDeep
	}
	for {
		group, err := m.next(ctx)
		if err != nil || len(group) == 0 {
			return err
		}
		if err := group[0].cur.Entry(&w.entry); err != nil {
			return err
		}
		name := join(at, w.entry.Name)
		sub := merge{}
		if w.entry.Type == repo.TypeDirectory {
			sub.add(w.rd, version{group[0].part, &w.entry})
		}
		for _, h := range group[1:] {
			if err := h.cur.Entry(&w.other); err != nil {
				return err
			}
			v := version{h.part, &w.other}
			w.compare(name, &w.entry, v)
			if len(sub.heads) > 0 {
				sub.add(w.rd, v)
			}
		}
		if err := w.visit(name, group[0].part, &w.entry); err != nil {
			return err
		}
		if len(sub.heads) > 0 {
			if err := w.below(ctx, &sub, name, depth+1); err != nil {
				return err
			}
		}
	}
}

// compare tells of what is left out because another part has the name already.
func (w *whole) compare(at string, first *repo.Entry, v version) {
	directory := first.Type == repo.TypeDirectory
	if directory != (v.entry.Type == repo.TypeDirectory) || !directory && !reflect.DeepEqual(first, v.entry) {
		w.problem(at, "part "+w.parts[v.part].source+" has something else under this name, which is left out")
	}
}
