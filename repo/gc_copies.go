package repo

import (
	"context"

	"github.com/generalbots/backupd/crypto"
)

// chooseCopies decides, for live chunks that lie in several places, which copy
// stays: the one of lowest depth that really can be read, since two blocks
// may lean on each other's other copies. Where none can be read all stay.
func (g *garbage) chooseCopies(ctx context.Context) error {
	if g.roll.count == g.copies {
		return nil // each chunk lies in one place
	}
	several, seen, any := g.roll.set(), g.roll.set(), false
	eachLive := func(use func(m int, n, chunk uint32)) error {
		return g.each(ctx, g.packs, func(n uint32, t *trailer) error {
			for c := range uint32(t.chunkCount()) {
				if m := g.number(t, c); g.live.has(m) {
					use(m, n, c)
				}
			}
			return nil
		})
	}
	err := eachLive(func(m int, _, _ uint32) {
		if seen.has(m) {
			several.set(m)
			any = true
		}
		seen.set(m)
	})
	if err != nil || !any {
		return err
	}
	chosen, found := newBitset(g.copies), seen
	clear(found)
	open := func(m int) bool { return several.has(m) && !found.has(m) }
	for d := 0; d <= MaxDepth; d++ {
		packs := g.packs
		if d > 0 {
			packs = g.deep[d]
		}
		asked := func(n uint32, b int, t *trailer) bool {
			rec := &t.blocks[b]
			if int(rec.depth) != d || g.isAnew(n, b) {
				return false
			}
			for c := range uint32(rec.chunks) {
				if open(g.number(t, rec.chunkAt+c)) {
					return true
				}
			}
			return false
		}
		err := g.inBatches(ctx, packs, d > 0, asked, func(packs []uint32) error {
			return g.each(ctx, packs, func(n uint32, t *trailer) error {
				for b := range t.blocks {
					if !asked(n, b, t) {
						continue
					}
					err := g.goodChunks(ctx, n, b, func(chunk uint32) bool { return open(g.number(t, chunk)) }, func(chunk uint32) {
						found.set(g.number(t, chunk))
						chosen.set(g.copy(n, chunk))
						g.chosen[n] = true
					})
					if err != nil {
						return err
					}
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	// What was chosen becomes what was not.
	g.spare = chosen
	return eachLive(func(m int, n, chunk uint32) {
		if at := g.copy(n, chunk); several.has(m) && found.has(m) && !chosen.has(at) {
			g.spare.set(at)
		} else {
			g.spare.unset(at)
		}
	})
}

// goodChunks decodes a block, and hands those of the chunks that are wanted to
// use that really have their id. Damage is no error here.
func (g *garbage) goodChunks(ctx context.Context, n uint32, b int, want func(chunk uint32) bool, use func(chunk uint32)) error {
	var req request
	e, err := g.rd.decode(ctx, blockKey{n, uint32(b)}, &req)
	defer func() { g.rd.releaseAll(req.held) }()
	if ctx.Err() != nil {
		if err == nil {
			g.rd.blocks.release(e)
		}
		return context.Cause(ctx)
	}
	if err != nil {
		return nil
	}
	defer g.rd.blocks.release(e)
	rec := e.val.rec
	for c := range rec.chunks {
		if chunk := rec.chunkAt + uint32(c); want(chunk) {
			if _, err := g.rd.verified(e.val, c); err == nil {
				use(chunk)
			}
		}
	}
	return nil
}

// findableAtOnce is how many copies of data chunks can be looked up at once, at
// least; findableShare the share of all when that is more.
const (
	findableAtOnce = 1 << 18
	findableShare  = 128
)

// inBatches hands packs to use, as many at once as all that the dictionaries
// of the blocks picked lead to can be looked up for meanwhile. Without delta
// blocks among those picked no look-ups are needed, and it is all packs.
func (g *garbage) inBatches(ctx context.Context, packs []uint32, deltas bool, pick func(n uint32, b int, t *trailer) bool, use func(packs []uint32) error) error {
	if !deltas {
		return use(packs)
	}
	defer g.findNoData()
	for n := len(packs); len(packs) > 0; n *= 2 {
		n = min(n, len(packs))
		for {
			fits, err := g.findData(ctx, packs[:n], pick)
			if err != nil {
				return err
			}
			if fits || n == 1 {
				break
			}
			n = (n + 1) / 2
		}
		if err := use(packs[:n]); err != nil {
			return err
		}
		packs = packs[n:]
	}
	return nil
}

func (g *garbage) findNoData() { g.rd.data = noSpots }

// noSpots is a look-up that finds nothing.
func noSpots(_ context.Context, _ *crypto.ID, dst []spot) ([]spot, error) { return dst, nil }

// findData has the reader find all data chunks that it takes to decode the
// delta blocks picked. It tells whether their number keeps the bound; that of
// a single pack need not.
func (g *garbage) findData(ctx context.Context, packs []uint32, pick func(n uint32, b int, t *trailer) bool) (fits bool, err error) {
	g.findNoData()
	want, any := g.roll.set(), false
	if err := g.each(ctx, packs, func(n uint32, t *trailer) error {
		for b := range t.blocks {
			if rec := &t.blocks[b]; t.header.kind == kindData && rec.dicts > 0 && pick(n, b, t) {
				g.addDictionary(want, t, rec)
				any = true
			}
		}
		return nil
	}); err != nil || !any {
		return true, err
	}
	if err := g.closeOver(ctx, want, &g.deep, nil); err != nil {
		return false, err
	}
	limit := max(findableAtOnce, g.copies/findableShare)
	table := newPlaces()
	err = g.each(ctx, g.packs, func(n uint32, t *trailer) error {
		if t.header.kind == kindData && (table.used <= limit || len(packs) == 1) {
			table.addWanted(n, t, func(chunk uint32) bool { return want.has(g.number(t, chunk)) })
		}
		return nil
	})
	g.rd.data = func(_ context.Context, id *crypto.ID, dst []spot) ([]spot, error) {
		return table.candidates(id, dst), nil
	}
	return table.used <= limit, err
}
