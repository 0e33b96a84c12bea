package repo

import (
	"context"
	"fmt"
	"slices"
)

// prove makes sure that nothing is lost when packs go. It trusts no earlier
// mark: manifests and trailers are read again, trees too, and from the packs
// that stay alone. Then it demands that each chunk that is needed has a copy,
// among those chosen to stay, in a block that stays and can be put together:
// one without a dictionary, or one whose dictionary's chunks all lie in blocks
// of lower depth that can be put together. So no two lean on each other, and
// none is deeper than it says.
func (g *garbage) prove(ctx context.Context, packs []uint32) error {
	r := g.r
	chain, err := loadChain(ctx, r.store, r.files)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.chain = chain
	r.mu.Unlock()
	if err := r.sound(); err != nil {
		return err
	}
	goes := make(map[uint32]bool, len(packs))
	for _, n := range packs {
		goes[n] = true
	}
	all := r.catalog.all(0)
	stay := slices.DeleteFunc(slices.Clone(all), func(n uint32) bool { return goes[n] })
	if err := g.readTreesFrom(ctx, stay); err != nil {
		return err
	}
	var deep [MaxDepth + 1][]uint32
	if err := g.each(ctx, stay, func(n uint32, t *trailer) error {
		if n > g.last {
			g.enter(n, t)
		}
		noteDepths(&deep, n, t)
		return nil
	}); err != nil {
		return err
	}
	broken, err := g.census(ctx, all, &deep)
	if err != nil {
		return err
	}
	live, err := g.follow(ctx, chain.snapshots)
	if err != nil {
		return err
	}
	if err := g.closeOver(ctx, live, &deep, nil); err != nil {
		return err
	}
	kept, err := g.putTogether(ctx, stay, &deep, broken)
	if err != nil {
		return err
	}
	live.without(kept)
	if live.count() == 0 {
		return nil
	}
	lost := fmt.Errorf("%w: a chunk that is needed is in no pack", ErrDamaged)
	err = g.each(ctx, all, func(_ uint32, t *trailer) error {
		for c := range uint32(t.chunkCount()) {
			if live.has(g.number(t, c)) {
				id, _ := t.chunk(c)
				lost = fmt.Errorf("%w: chunk %s would be lost or a delta block left without it, so nothing more is deleted; run a check with --read-data", ErrDamaged, id.Short())
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return lost
}

// census makes sure of what the bits stand for. It compares the ids that all
// packs hold now, slice by slice: two of them must not share a number, or a
// copy of one would stand for the other. And it finds the blocks, of packs
// that stay, whose dictionary names a chunk that no pack holds, as its number
// is that of another one; so all other dictionaries can be looked up by number.
func (g *garbage) census(ctx context.Context, all []uint32, deep *[MaxDepth + 1][]uint32) (broken bitset, err error) {
	var deltas []uint32
	for _, packs := range deep {
		deltas = append(deltas, packs...)
	}
	slices.Sort(deltas)
	deltas = slices.Compact(deltas)
	broken = newBitset(g.blocks)
	taken := g.roll.set()
	each := func(ctx context.Context, use func(uint32, *trailer) error) error { return g.each(ctx, all, use) }
	err = eachSlice(ctx, g.copies, g.r.bounds.tags, each, func(s, of int, tags []tag) error {
		for _, t := range tags {
			n := g.roll.numberOf(t)
			if taken.has(n) {
				return fmt.Errorf("%w: two chunks, one of them with an id that begins with %016x, can not be told apart, so nothing is deleted", ErrDamaged, t.hi)
			}
			taken.set(n)
		}
		return g.each(ctx, deltas, func(n uint32, t *trailer) error {
			for b := range t.blocks {
				rec := &t.blocks[b]
				for i := range uint32(rec.dicts) {
					id := t.dict(rec.dictAt + i)
					want := tagOfID(&id)
					if want.slice(of) != s {
						continue
					}
					if _, found := slices.BinarySearchFunc(tags, want, compareTags); !found {
						broken.set(g.block(n, b))
					}
				}
			}
			return nil
		})
	})
	return broken, err
}

// putTogether finds the chunks of which a copy that was chosen to stay lies in
// a block that can be put together from the packs that stay.
func (g *garbage) putTogether(ctx context.Context, stay []uint32, deep *[MaxDepth + 1][]uint32, broken bitset) (kept bitset, err error) {
	kept = g.roll.set()
	there, now := g.roll.set(), g.roll.set() // in a block of lower depth; of this one
	for d := 0; d <= MaxDepth; d++ {
		packs := stay
		if d > 0 {
			packs = deep[d]
		}
		err := g.each(ctx, packs, func(n uint32, t *trailer) error {
			for b := range t.blocks {
				rec := &t.blocks[b]
				if int(rec.depth) != d || rec.dicts > 0 && broken.has(g.block(n, b)) || !g.allIn(t, rec, there) {
					continue
				}
				for c := range uint32(rec.chunks) {
					m := g.number(t, rec.chunkAt+c)
					now.set(m)
					if !g.isSpare(n, rec.chunkAt+c) {
						kept.set(m)
					}
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		there.add(now)
	}
	return kept, nil
}

// allIn tells whether all that a block's dictionary names is in f.
func (g *garbage) allIn(t *trailer, rec *blockRec, f bitset) bool {
	for i := range uint32(rec.dicts) {
		id := t.dict(rec.dictAt + i)
		if !f.has(g.roll.number(&id)) {
			return false
		}
	}
	return true
}
