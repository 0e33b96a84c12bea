package repo

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/generalbots/backupd/crypto"
)

// some proves single snapshots: their manifests are read again, their trees
// walked, and then the blocks that these need looked at, those of one pack
// together and in their order. Nothing else of the packs is read but, where
// that has not been done since the repository was opened, their trailers.
func (c *checker) some(ctx context.Context, o CheckOptions) error {
	c.r.mu.Lock()
	chain := c.r.chain
	c.r.mu.Unlock()
	var chosen []*Snapshot
	for _, id := range o.Snapshots {
		s := chain.find(id)
		if s == nil {
			return fmt.Errorf("snapshot %.80q: %w", id, ErrNotFound)
		}
		if !slices.Contains(chosen, s) {
			chosen = append(chosen, s)
			c.report.Only = append(c.report.Only, s.ID)
		}
	}
	for _, s := range chosen {
		if err := c.manifest(ctx, chain, s); err != nil {
			return err
		}
	}
	if err := c.listed(ctx); err != nil {
		return err
	}
	if err := c.small(ctx); err != nil {
		return err
	}
	if err := c.makeTables(ctx, c.r.catalog.all(0)); err != nil {
		return err
	}
	c.want = make(map[uint32]bitset)
	parts, err := c.survey(ctx, chosen)
	if err != nil {
		return err
	}
	if err := c.packs(ctx, c.sized(ctx), o.ReadData); err != nil {
		return err
	}
	for _, w := range parts {
		// A block that can not be read may hold chunks of others only: each file is asked.
		if w.whole && len(c.bad) == 0 {
			continue
		}
		if err := c.name(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// manifest reads the file of a snapshot again and compares it with what the
// chain says of it.
func (c *checker) manifest(ctx context.Context, chain *chain, s *Snapshot) error {
	name := s.at.name()
	for _, p := range chain.problems {
		if p.name == name {
			c.find(s.ID, p.Error())
		}
	}
	f, _ := loadFile(ctx, c.r.store, c.r.files, name, nil)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	known, ok := chain.hashAt(s.at)
	switch {
	case f.err != nil:
		c.find(s.ID, "manifest: "+f.err.Error())
	case !ok || f.hash != known:
		c.find(s.ID, fmt.Sprintf("manifest: %v", damagedFile(name, "it is another file than it was")))
	}
	return nil
}

// survey walks the trees of snapshots and notes in want what they need.
func (c *checker) survey(ctx context.Context, chosen []*Snapshot) (parts []walked, err error) {
	for _, s := range chosen {
		for i := range s.Parts {
			w, err := c.walk(ctx, s, &s.Parts[i])
			if err != nil {
				return nil, err
			}
			if w.root == nil {
				c.rootless(&w)
				continue
			}
			parts = append(parts, w)
			if w.err == nil {
				continue
			}
			c.torn = true
			// The walk ended at something that can not be read. What lies behind
			// it is to be proven as well.
			if err := c.files(ctx, w.root, func(_ []byte, content *Content) { c.needs(ctx, content) }, func([]byte, string) {}); err != nil {
				return nil, err
			}
		}
		c.report.Snapshots++
		c.prog.Snapshots.Add(1)
	}
	return parts, nil
}

// needs notes what a file needs, as far as its list can be read.
func (c *checker) needs(ctx context.Context, content *Content) {
	cr := c.rd.Content(content)
	for {
		ref, ok, err := cr.Next(ctx)
		if err != nil || !ok {
			return // found again when files are named
		}
		spots, _ := c.copies(ctx, kindData, &ref.ID)
		c.need(ctx, spots)
	}
}

// copies finds the confirmed copies of a chunk, the one a restore tries first
// at the front; where that one can not be bettered, it alone. They are valid
// until the next call; one goroutine at a time. The error is of a pack that
// could not be read and may hold another.
func (c *checker) copies(ctx context.Context, kind packKind, id *crypto.ID) ([]spot, error) {
	if kind == kindData && c.near.known && c.near.next(ctx, id) {
		p := c.near.last
		c.spots = append(c.spots[:0], spot{p.Pack, uint16(p.Block), p.chunk})
		return c.spots, nil
	}
	var err error
	c.spots, err = c.rd.candidates(ctx, kind, id, anyDepth, c.spots[:0])
	if kind == kindData && len(c.spots) > 0 {
		s := c.spots[0]
		c.near.last, c.near.known = Place{s.pack, uint32(s.block), s.chunk}, true
	}
	return c.spots, err
}

// need notes which block a chunk is decoded from: of its copies the one that a
// restore takes, as Locate has it. Where all is looked at there is nothing to note.
func (c *checker) need(ctx context.Context, spots []spot) {
	if c.want == nil {
		return
	}
	for i, s := range spots {
		if i < len(spots)-1 {
			if whole, _ := c.rd.whole(ctx, blockKey{s.pack, uint32(s.block)}); !whole {
				continue
			}
		}
		b := c.want[s.pack]
		if b == nil {
			e, err := c.rd.pack(ctx, s.pack)
			if err != nil {
				continue // it was there a moment ago; who asks for the chunk finds out
			}
			b = newBitset(len(e.val.trailer.blocks))
			c.rd.packs.release(e)
			c.want[s.pack] = b
		}
		b.set(int(s.block))
		return
	}
}

// sized lists the packs of which something is wanted, and tells the progress
// how much that is.
func (c *checker) sized(ctx context.Context) []uint32 {
	numbers := slices.Sorted(maps.Keys(c.want))
	for _, n := range numbers {
		e, err := c.rd.pack(ctx, n)
		if err != nil {
			continue // found again when it is read
		}
		if e.val.trailer.header.kind == kindData {
			for b := range e.val.trailer.blocks {
				if c.want[n].has(b) {
					c.prog.TotalBytes.Add(int64(e.val.trailer.blocks[b].sealed))
				}
			}
		}
		c.rd.packs.release(e)
	}
	return numbers
}
