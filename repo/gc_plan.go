package repo

import (
	"cmp"
	"context"
	"slices"
)

// packUse is how much of a pack is live.
type packUse struct {
	number     uint32
	kind       packKind
	size       int64 // of the file
	used, live int64 // sealed bytes of blocks; of live chunks, by their share
	moves      int64 // sealed bytes of what repacking it writes: of blocks that go as they are all
	crowded    bool  // closed because of its table: nothing can be added
	reencode   bool  // a block of it is to lose its dictionary
	leaned     bool  // such a block still leans on it
}

// gcPlan is what is to be done. It is made from figures alone.
type gcPlan struct {
	dead   []uint32 // nothing in them is live
	later  []uint32 // nothing will be once the repacked ones are gone
	repack []uint32 // their live blocks go to new packs
	moved  int64    // bytes that takes, about
	made   int      // packs that takes, about
	freed  int64    // bytes that come back, about
}

const (
	// sparseShare: a pack is packed anew when a quarter of it is dead.
	sparseShare = 4
)

// planPacks decides what happens to each pack: dead ones go, sparse ones and
// those with a block to encode anew are repacked, and tails are merged while
// the largest of them is not twice as large as the others together, so that a
// byte is moved a logarithmic number of times.
func planPacks(use []packUse, packSize int64) gcPlan {
	var p gcPlan
	tails := map[packKind][]packUse{}
	var moved [2]int64 // by kind-1
	repack := func(u packUse) {
		p.repack = append(p.repack, u.number)
		moved[u.kind-1] += u.moves
		p.freed += u.size
	}
	for _, u := range use {
		switch {
		case u.live == 0 && u.leaned:
			p.later = append(p.later, u.number)
			p.freed += u.size
		case u.live == 0:
			p.dead = append(p.dead, u.number)
			p.freed += u.size
		case u.reencode || (u.used-u.live)*sparseShare >= u.used:
			repack(u)
		case u.size < packSize && !u.crowded:
			tails[u.kind] = append(tails[u.kind], u)
		}
	}
	for _, kind := range []packKind{kindData, kindTree} {
		t := tails[kind]
		slices.SortFunc(t, func(a, b packUse) int { return cmp.Or(cmp.Compare(a.live, b.live), cmp.Compare(a.number, b.number)) })
		for len(t) > 1 {
			var others int64
			for _, u := range t[:len(t)-1] {
				others += u.live
			}
			if t[len(t)-1].live < 2*others {
				break
			}
			t = t[:len(t)-1]
		}
		if len(t) > 1 {
			for _, u := range t {
				repack(u)
			}
		}
	}
	// The new packs of each kind end in a tail of their own, padded.
	for _, n := range moved {
		if n > 0 {
			p.moved += n
			p.made += int(n/packSize) + 1
			p.freed -= n/packSize*packSize + tailSize(n%packSize+MinTailSize/2)
		}
	}
	return p
}

// plan measures the packs and decides.
func (g *garbage) plan(ctx context.Context) (*gcPlan, error) {
	leaned := g.live
	if g.leaned != nil {
		leaned = g.leaned
	}
	var use []packUse
	err := g.each(ctx, g.packs, func(n uint32, t *trailer) error {
		u := packUse{number: n, kind: t.header.kind, size: t.size, crowded: crowded(len(t.dicts)/idSize, t.chunkCount())}
		for b := range t.blocks[:len(t.blocks)-1] {
			rec := &t.blocks[b]
			u.used += int64(rec.sealed)
			sealed, live := int64(rec.sealed), g.liveBytes(n, rec, t)
			if g.isAnew(n, b) {
				sealed, u.reencode = max(1, int64(float64(rec.plain)*g.plainly[t.header.kind])), true
			}
			// Rounded up: a single live byte keeps a block.
			share := (sealed*live + int64(rec.plain) - 1) / int64(rec.plain)
			u.live += share
			if live > 0 && !g.takesApart(n, b, rec, live) {
				share = sealed
			}
			u.moves += share
			u.leaned = u.leaned || g.counts(n, rec, t, leaned)
		}
		use = append(use, u)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(use, func(a, b packUse) int { return cmp.Compare(a.number, b.number) })
	p := planPacks(use, int64(g.r.config.PackSize))
	if p.freed > 0 || len(p.repack) == 0 {
		return &p, nil
	}
	if g.reencode != nil {
		// It does not pay together, whatever each block's sum said.
		g.reencode, g.live, g.leaned = nil, g.leaned, nil
		return g.plan(ctx)
	}
	p.repack, p.moved, p.made, p.freed = nil, 0, 0, 0
	return &p, nil
}

// liveBytes is the plaintext of a block that is needed. It is at least one
// where anything is.
func (g *garbage) liveBytes(n uint32, rec *blockRec, t *trailer) (sum int64) {
	for c := range uint32(rec.chunks) {
		if g.isLive(n, t, rec.chunkAt+c) {
			_, length := t.chunk(rec.chunkAt + c)
			sum += int64(length)
		}
	}
	return sum
}

// counts tells whether a block that stays has to be readable: it has a chunk
// that is in live, and not only such whose other copy was chosen.
func (g *garbage) counts(n uint32, rec *blockRec, t *trailer, live bitset) bool {
	for c := range uint32(rec.chunks) {
		if at := rec.chunkAt + c; !g.isSpare(n, at) && live.has(g.number(t, at)) {
			return true
		}
	}
	return false
}
