package repo

import (
	"context"
	"fmt"
	"slices"

	"github.com/generalbots/backupd/crypto"
)

// garbage is what one gc knows. What it knows of chunks are bits, by their
// number in the roll or by their place among all copies.
type garbage struct {
	r     *Repo
	rd    *Reader // its own, which asks neither the index nor the tables
	packs []uint32
	last  uint32 // of packs; those above are new
	// first is what the first chunk and block of each pack count as among all
	// copies of chunks and all blocks, by pack number.
	first  []packFirst
	copies int // in packs
	blocks int // in packs and those entered since
	roll   *roll
	// deep lists, by depth, the packs that have delta blocks of it.
	deep [MaxDepth + 1][]uint32

	live     bitset // by number: what snapshots need, dictionaries included
	leaned   bitset // that, and dictionaries of blocks in reencode; nil when it is the same
	reencode bitset // by block: those better without their dictionary; nil when there is none
	spare    bitset // by copy: another copy of the chunk was chosen to stay; nil when there is none
	chosen   map[uint32]bool
	plainly  [3]float64 // by kind, what a byte takes in a block without a dictionary
}

type packFirst struct {
	chunk, block int
	known        bool
}

// newGarbage reads all trailers. A pack that can not be read stops gc: it may
// hold dictionaries, and lead to chunks that look dead without it.
func newGarbage(ctx context.Context, r *Repo) (*garbage, error) {
	g := &garbage{r: r, packs: r.catalog.all(0), chosen: make(map[uint32]bool)}
	g.rd = newReader(r)
	g.rd.bare = true
	g.findNoData()
	if len(g.packs) > 0 {
		g.last = g.packs[len(g.packs)-1]
	}
	seen := 0
	var plain, sealed [3]float64 // by kind, of blocks without a dictionary
	err := g.rd.eachTrailer(ctx, g.packs, func(n uint32, t *trailer) error {
		seen++
		g.enter(n, t)
		g.copies += t.chunkCount()
		noteDepths(&g.deep, n, t)
		for b := range t.blocks {
			if rec := &t.blocks[b]; rec.codec == codecZstd || rec.codec == codecStored {
				plain[t.header.kind] += float64(rec.plain)
				sealed[t.header.kind] += float64(rec.sealed)
			}
		}
		return nil
	})
	for kind := range plain {
		if g.plainly[kind] = 1; plain[kind] > 0 {
			g.plainly[kind] = sealed[kind] / plain[kind]
		}
	}
	if err == nil && seen != len(g.packs) {
		err = fmt.Errorf("%w: %d of %d packs can not be read, so nothing is deleted; \"backupd repo check\" names them", ErrDamaged, len(g.packs)-seen, len(g.packs))
	}
	if err != nil {
		return nil, err
	}
	g.roll, err = newRoll(ctx, g.copies, r.bounds.tags, func(ctx context.Context, use func(uint32, *trailer) error) error {
		return g.each(ctx, g.packs, use)
	})
	return g, err
}

// close gives back what the reader holds.
func (g *garbage) close() { g.rd.close() }

// enter counts the chunks and blocks of a pack.
func (g *garbage) enter(n uint32, t *trailer) {
	for int(n) >= len(g.first) {
		g.first = append(g.first, packFirst{})
	}
	if !g.first[n].known {
		g.first[n] = packFirst{chunk: g.copies, block: g.blocks, known: true}
		g.blocks += len(t.blocks)
	}
}

// leave takes the packs that were deleted off the lists.
func (g *garbage) leave() {
	gone := func(n uint32) bool { _, there := g.r.catalog.alive(n); return !there }
	g.packs = slices.DeleteFunc(g.packs, gone)
	for d := range g.deep {
		g.deep[d] = slices.DeleteFunc(g.deep[d], gone)
	}
}

func noteDepths(deep *[MaxDepth + 1][]uint32, n uint32, t *trailer) {
	var at [MaxDepth + 1]bool
	for i := range t.blocks {
		at[t.blocks[i].depth] = true
	}
	for d := 1; d <= MaxDepth; d++ {
		if at[d] {
			deep[d] = append(deep[d], n)
		}
	}
}

// mark finds what is live, and which delta blocks are better without their
// dictionary.
func (g *garbage) mark(ctx context.Context) error {
	if err := g.readTreesFrom(ctx, g.packs); err != nil {
		return err
	}
	reach, err := g.follow(ctx, g.r.Snapshots())
	if err != nil {
		return err
	}
	g.live = reach.clone()
	if err := g.closeOver(ctx, g.live, &g.deep, nil); err != nil {
		return err
	}
	if g.reencode, err = g.deadWeight(ctx, reach); err != nil {
		return err
	}
	if g.reencode != nil {
		g.leaned, g.live = g.live, reach
		if err := g.closeOver(ctx, g.live, &g.deep, g.reencode); err != nil {
			return err
		}
	}
	return g.chooseCopies(ctx)
}

// readTreesFrom has pages read from these packs and no others. What was read
// before is forgotten.
func (g *garbage) readTreesFrom(ctx context.Context, packs []uint32) error {
	g.rd.close()
	var trees []uint32
	for _, n := range packs {
		if g.r.catalog.info(n).kind == kindTree {
			trees = append(trees, n)
		}
	}
	table, err := newPageTable(ctx, g.rd, trees, g.each)
	if err != nil {
		return err
	}
	g.rd.tree = table.spots
	return nil
}

// follow marks all pages and chunks the trees of snapshots name. A page is
// passed over only when it was read before, so that one is not told from the
// marks: a chunk that is in no pack has the number of another one, which may be
// a page. A page that is in no pack has such a number too, so that it is really
// there is made sure of before it is passed over.
func (g *garbage) follow(ctx context.Context, snaps []*Snapshot) (bitset, error) {
	f, visited := g.roll.set(), g.roll.set()
	for _, s := range snaps {
		for i := range s.Parts {
			if s.Parts[i].Failed && len(s.Parts[i].Root) == 0 {
				continue
			}
			root, err := g.r.Root(&s.Parts[i])
			if err == nil {
				err = walkTree(ctx, g.rd, root.Dir, func(id crypto.ID, _ pageKind, _ uint32) bool {
					n := g.roll.number(&id)
					if visited.has(n) && g.rd.stored(ctx, &id) {
						return false
					}
					visited.set(n)
					f.set(n)
					return true
				}, func(ref Ref) { f.set(g.roll.number(&ref.ID)) })
			}
			if err != nil {
				if ctx.Err() != nil {
					return nil, context.Cause(ctx)
				}
				return nil, fmt.Errorf("snapshot %s can not be followed, so nothing is deleted: %w", s.ID, err)
			}
		}
	}
	return f, nil
}

// stored tells whether a page is in a pack that can be read.
func (rd *Reader) stored(ctx context.Context, id *crypto.ID) bool {
	var buf [4]spot
	spots, err := rd.candidates(ctx, kindTree, id, anyDepth, buf[:0])
	return err == nil && len(spots) > 0
}

// closeOver adds to f what dictionaries of blocks with a chunk in f name. A
// block leans only on blocks of lower depth, so one pass from the deepest down
// is enough. Blocks in without are treated as if they had no dictionary.
func (g *garbage) closeOver(ctx context.Context, f bitset, deep *[MaxDepth + 1][]uint32, without bitset) error {
	for d := MaxDepth; d >= 1; d-- {
		err := g.each(ctx, deep[d], func(n uint32, t *trailer) error {
			for b := range t.blocks {
				rec := &t.blocks[b]
				if int(rec.depth) != d || without != nil && without.has(g.block(n, b)) || !g.anyIn(t, rec, f) {
					continue
				}
				g.addDictionary(f, t, rec)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *garbage) addDictionary(f bitset, t *trailer, rec *blockRec) {
	for i := range uint32(rec.dicts) {
		id := t.dict(rec.dictAt + i)
		f.set(g.roll.number(&id))
	}
}

// each is eachTrailer where a pack left out is an error.
func (g *garbage) each(ctx context.Context, packs []uint32, use func(n uint32, t *trailer) error) error {
	seen := 0
	err := g.rd.eachTrailer(ctx, packs, func(n uint32, t *trailer) error { seen++; return use(n, t) })
	if err == nil && seen != len(packs) {
		err = fmt.Errorf("%w: a pack can not be read any more, so nothing is deleted", ErrDamaged)
	}
	return err
}

// number is the roll's number of a chunk of a trailer.
func (g *garbage) number(t *trailer, chunk uint32) int {
	id, _ := t.chunk(chunk)
	return g.roll.number(&id)
}

// block is what a block counts as among all.
func (g *garbage) block(n uint32, b int) int { return g.first[n].block + b }

// copy is what a chunk of a pack's table counts as among all copies.
func (g *garbage) copy(n uint32, chunk uint32) int { return g.first[n].chunk + int(chunk) }

func (g *garbage) anyIn(t *trailer, rec *blockRec, f bitset) bool {
	for c := range uint32(rec.chunks) {
		if f.has(g.number(t, rec.chunkAt+c)) {
			return true
		}
	}
	return false
}

// isSpare tells whether a copy need not be kept, whatever the chunk is worth.
func (g *garbage) isSpare(n uint32, chunk uint32) bool {
	return g.spare != nil && n <= g.last && g.spare.has(g.copy(n, chunk))
}

// isLive tells whether a copy of a chunk is needed.
func (g *garbage) isLive(n uint32, t *trailer, chunk uint32) bool {
	return !g.isSpare(n, chunk) && g.live.has(g.number(t, chunk))
}

// isAnew tells whether a block is to lose its dictionary.
func (g *garbage) isAnew(n uint32, b int) bool {
	return g.reencode != nil && g.reencode.has(g.block(n, b))
}
