package repo

import (
	"context"
	"fmt"

	"github.com/generalbots/backupd/crypto"
)

// trouble says why a chunk, of which copies has found these, can not be read; ""
// when it can, as far as is known.
func (c *checker) trouble(ctx context.Context, kind packKind, id *crypto.ID, copies []spot, err error) string {
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
	switch {
	case len(copies) > 0:
		return ""
	case err != nil:
		return fmt.Sprintf("chunk %s is in no pack that can be read", id.Short())
	}
	return fmt.Sprintf("chunk %s is in no pack", id.Short())
}

// untrue says what is wrong with what a file's list says of a chunk, of which
// these copies are known: that it can not be read, or has another length, which
// a restore takes at its word.
func (c *checker) untrue(ctx context.Context, ref *Ref, copies []spot, err error) string {
	if why := c.trouble(ctx, kindData, &ref.ID, copies, err); why != "" {
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

// ahead walks the trees of all snapshots, forgotten ones included, while packs
// are being looked at. It tells whether all is there, and ends where not.
func (c *checker) ahead(ctx context.Context, chain *chain) (whole bool, err error) {
	for _, list := range [][]*Snapshot{chain.snapshots, chain.forgotten} {
		for _, s := range list {
			for i := range s.Parts {
				if w, err := c.walk(ctx, s, &s.Parts[i]); err != nil || !w.whole {
					return false, err
				}
			}
			c.prog.Snapshots.Add(1)
		}
	}
	c.report.Snapshots = len(chain.snapshots) + len(chain.forgotten)
	return true, nil
}

// snapshots walks the trees of all snapshots, forgotten ones included, pages
// that several share once. Where something is missing, the files concerned
// are looked up by name.
func (c *checker) snapshots(ctx context.Context, chain *chain) error {
	clear(c.visited)
	c.report.Snapshots = 0
	c.prog.Snapshots.Store(0)
	for _, list := range [][]*Snapshot{chain.snapshots, chain.forgotten} {
		for _, s := range list {
			for i := range s.Parts {
				if err := c.part(ctx, s, &s.Parts[i]); err != nil {
					return err
				}
			}
			c.report.Snapshots++
			c.prog.Snapshots.Add(1)
		}
	}
	return nil
}

func (c *checker) part(ctx context.Context, s *Snapshot, p *Part) error {
	w, err := c.walk(ctx, s, p)
	if err != nil || w.whole {
		return err
	}
	if w.root == nil {
		c.rootless(&w)
		return nil
	}
	return c.name(ctx, w)
}

// walked is what a walk has found of a part.
type walked struct {
	s     *Snapshot
	p     *Part
	root  *Entry // nil when the part has none, or none that can be read
	whole bool   // nothing is missing, as far as is known
	err   error  // it could not go to its end
}

// rootless reports a part whose root can not be read.
func (c *checker) rootless(w *walked) {
	if w.err != nil {
		c.find(w.s.ID, fmt.Sprintf("part %s: %v", w.p.Source, w.err))
	}
}

// walk goes through the tree of a part, apart from the pages in visited of which
// the same is said here, and adds those that are in order. A part without a tree is whole.
func (c *checker) walk(ctx context.Context, s *Snapshot, p *Part) (walked, error) {
	w := walked{s: s, p: p, whole: true}
	if p.Failed && len(p.Root) == 0 {
		return w, nil
	}
	if w.root, w.err = c.r.Root(p); w.err != nil {
		w.root, w.whole = nil, false
		return w, nil
	}
	var fresh []uint32
	w.err = proveTree(ctx, c.rd, w.root.Dir, func(id crypto.ID, _ pageKind, claim uint32) bool {
		copies, err := c.copies(ctx, kindTree, &id)
		if n, ok := c.pageNumber(ctx, copies); ok {
			if c.visited[n] == claim {
				return false
			}
			c.visited[n] = claim
			fresh = append(fresh, uint32(n))
		}
		c.need(ctx, copies)
		w.whole = w.whole && c.trouble(ctx, kindTree, &id, copies, err) == ""
		return w.whole || c.want != nil
	}, func(ref Ref) {
		if !w.whole && c.want == nil {
			return
		}
		copies, err := c.copies(ctx, kindData, &ref.ID)
		c.need(ctx, copies)
		w.whole = w.whole && c.untrue(ctx, &ref, copies, err) == ""
	})
	if ctx.Err() != nil {
		return w, context.Cause(ctx)
	}
	w.whole = w.whole && w.err == nil
	if !w.whole {
		// Pages of a damaged tree are looked at again for the other snapshots that
		// share them, since each is to be named.
		for _, n := range fresh {
			c.visited[n] = 0
		}
	}
	return w, nil
}

// pageNumber is the number of a page in visited, by the first of its copies.
func (c *checker) pageNumber(ctx context.Context, copies []spot) (int, bool) {
	if len(copies) == 0 {
		return 0, false
	}
	e, err := c.rd.pack(ctx, copies[0].pack)
	if err != nil {
		return 0, false
	}
	defer c.rd.packs.release(e)
	return c.tables[kindTree-1].number(copies[0], e.val.trailer)
}

// name lists the files of a part that a missing page or chunk reaches.
func (c *checker) name(ctx context.Context, w walked) error {
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
		copies, err := c.copies(ctx, kindData, &ref.ID)
		if why := c.untrue(ctx, &ref, copies, err); why != "" {
			return why
		}
	}
}
