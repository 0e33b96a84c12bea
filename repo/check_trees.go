package repo

import (
	"context"
	"fmt"

	"github.com/generalbots/backupd/crypto"
)

// trouble says why a chunk can not be read; "" when it can, as far as is known.
func (c *checker) trouble(ctx context.Context, kind packKind, id *crypto.ID) string {
	c.mu.Lock()
	why, bad := c.bad[*id]
	if bad && c.good[*id] {
		bad = false
	}
	c.mu.Unlock()
	if bad {
		// A good copy may have been passed before the bad one was met.
		if _, err := c.rd.appendChunk(ctx, kind, nil, id); err == nil {
			c.mu.Lock()
			c.good[*id] = true
			c.mu.Unlock()
			return ""
		}
		return why
	}
	if !c.r.present(kind, id) {
		return fmt.Sprintf("chunk %s is in no pack", id.Short())
	}
	return ""
}

// untrue says what is wrong with what a file's list says of a chunk, of which
// these copies are known: that it can not be read, or has another length, which
// a restore takes at its word.
func (c *checker) untrue(ctx context.Context, ref *Ref, copies []spot) string {
	if why := c.trouble(ctx, kindData, &ref.ID); why != "" {
		return why
	}
	if len(copies) == 0 {
		return fmt.Sprintf("chunk %s is in no pack that can be read", ref.ID.Short())
	}
	if n, ok := c.rd.lengthAt(ctx, copies[0]); ok && n != ref.Len {
		return fmt.Sprintf("%v: its list says that chunk %s has %d bytes, it has %d", ErrDamaged, ref.ID.Short(), ref.Len, n)
	}
	return ""
}

// snapshots walks the trees of all snapshots, forgotten ones included, pages
// that several share once. Where something is missing, the files concerned
// are looked up by name.
func (c *checker) snapshots(ctx context.Context, chain *chain) error {
	visited := make(map[crypto.ID]struct{})
	for _, list := range [][]*Snapshot{chain.snapshots, chain.forgotten} {
		for _, s := range list {
			for i := range s.Parts {
				if err := c.part(ctx, s, &s.Parts[i], visited); err != nil {
					return err
				}
			}
			c.report.Snapshots++
			c.prog.Snapshots.Add(1)
		}
	}
	return nil
}

func (c *checker) part(ctx context.Context, s *Snapshot, p *Part, visited map[crypto.ID]struct{}) error {
	w, err := c.walk(ctx, s, p, visited)
	if err != nil || w.whole {
		return err
	}
	return c.name(ctx, w)
}

// walked is what a walk has found of a part.
type walked struct {
	s     *Snapshot
	p     *Part
	root  *Entry
	whole bool  // nothing is missing, as far as is known
	err   error // it could not go to its end
}

// walk goes through the tree of a part, apart from the pages in visited, to
// which it adds those that are in order. A part without a tree is whole.
func (c *checker) walk(ctx context.Context, s *Snapshot, p *Part, visited map[crypto.ID]struct{}) (walked, error) {
	w := walked{s: s, p: p, whole: true}
	if p.Failed && len(p.Root) == 0 {
		return w, nil
	}
	var err error
	if w.root, err = c.r.Root(p); err != nil {
		c.find(s.ID, fmt.Sprintf("part %s: %v", p.Source, err))
		return w, nil
	}
	var fresh []crypto.ID
	w.err = walkTree(ctx, c.rd, w.root.Dir, func(id crypto.ID, _ pageKind) bool {
		if _, seen := visited[id]; seen {
			return false
		}
		visited[id] = struct{}{}
		fresh = append(fresh, id)
		if c.want != nil {
			c.need(ctx, c.copies(ctx, kindTree, &id))
		}
		w.whole = w.whole && c.trouble(ctx, kindTree, &id) == ""
		return w.whole || c.want != nil
	}, func(ref Ref) {
		if !w.whole && c.want == nil {
			return
		}
		copies := c.copies(ctx, kindData, &ref.ID)
		c.need(ctx, copies)
		w.whole = w.whole && c.untrue(ctx, &ref, copies) == ""
	})
	if ctx.Err() != nil {
		return w, context.Cause(ctx)
	}
	w.whole = w.whole && w.err == nil
	if !w.whole {
		// Pages of a damaged tree are looked at again for the other snapshots that
		// share them, since each is to be named.
		for _, id := range fresh {
			delete(visited, id)
		}
	}
	return w, nil
}

// name lists the files of a part that a missing page or chunk reaches.
func (c *checker) name(ctx context.Context, w walked) error {
	if w.root == nil {
		return nil
	}
	before := len(c.report.DamagedFiles)
	add := func(path []byte, text string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.report.DamagedFiles) == maxFindings {
			c.report.Truncated = true
			return
		}
		c.report.DamagedFiles = append(c.report.DamagedFiles, DamagedFile{w.s.ID, append([]byte(nil), path...), text})
	}
	err := c.files(ctx, w.root, func(path []byte, content *Content) {
		if why := c.content(ctx, content); why != "" {
			add(path, why)
		}
	}, add)
	if err == nil && w.err != nil && before == len(c.report.DamagedFiles) {
		c.find(w.s.ID, fmt.Sprintf("part %s: %v", w.p.Source, w.err))
	}
	return err
}

// files goes through all files below a directory, past what can not be read.
func (c *checker) files(ctx context.Context, root *Entry, file func(path []byte, content *Content), unreadable func(path []byte, why string)) error {
	type open struct {
		reader *DirReader
		path   int // length of the path up to here
	}
	var path []byte
	stack := []open{{c.rd.Dir(root.Dir), 0}}
	var e Entry
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		raw, ok, err := top.reader.Next(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			unreadable(append(path[:top.path:top.path], '/'), "this directory can not be read: "+err.Error())
		}
		if err != nil || !ok {
			stack = stack[:len(stack)-1]
			continue
		}
		path = append(append(path[:top.path], '/'), raw.Name()...)
		if err := raw.Entry(&e); err != nil {
			unreadable(path, err.Error())
			continue
		}
		switch {
		case e.Type == TypeDirectory && len(stack) < MaxTreeDepth:
			stack = append(stack, open{c.rd.Dir(e.Dir), len(path)})
		case e.Type == TypeRegular:
			file(path, &e.Content)
		}
	}
	return nil
}

// content says what keeps a file from being restored, "" for nothing.
func (c *checker) content(ctx context.Context, content *Content) string {
	cr := c.rd.Content(content)
	for {
		ref, ok, err := cr.Next(ctx)
		if err != nil {
			return err.Error()
		}
		if !ok {
			return ""
		}
		if why := c.untrue(ctx, &ref, c.copies(ctx, kindData, &ref.ID)); why != "" {
			return why
		}
	}
}
