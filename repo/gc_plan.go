package repo

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/generalbots/backupd/crypto"
)

// packUse is how much of a pack is live.
type packUse struct {
	number     uint32
	kind       packKind
	size       int64 // of the file
	used, live int64 // sealed bytes of blocks; of live chunks, by their share
	reencode   bool  // a block of it is to lose its dictionary
	leaned     bool  // such a block still leans on it
}

// gcPlan is what is to be done. It is made from figures alone.
type gcPlan struct {
	dead   []uint32 // nothing in them is live
	later  []uint32 // nothing will be once the repacked ones are gone
	repack []uint32 // their live blocks go to new packs
	moved  int64    // bytes that takes, about
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
	repack := func(u packUse) {
		p.repack = append(p.repack, u.number)
		p.moved += u.live
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
		case u.size < packSize:
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
	// The new packs end in a tail of their own, padded.
	if len(p.repack) > 0 {
		p.freed -= tailSize(p.moved + MinTailSize/2)
	}
	return p
}

// plan measures the packs and decides.
func (g *garbage) plan(ctx context.Context) (*gcPlan, error) {
	var use []packUse
	err := g.each(ctx, g.packs, func(n uint32, t *trailer) error {
		u := packUse{number: n, kind: t.header.kind, size: t.size}
		for b := range t.blocks[:len(t.blocks)-1] {
			rec := &t.blocks[b]
			u.used += int64(rec.sealed)
			sealed := int64(rec.sealed)
			if anew := g.reencode[blockKey{n, uint32(b)}]; anew > 0 {
				sealed, u.reencode = anew, true
			}
			// Rounded up: a single live byte keeps a block.
			u.live += (sealed*g.liveBytes(n, uint32(b), t) + int64(rec.plain) - 1) / int64(rec.plain)
			u.leaned = u.leaned || g.counts(n, uint32(b), t, g.leaned)
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
	if len(g.reencode) > 0 {
		// It does not pay together, whatever each block's sum said.
		g.reencode, g.live = nil, g.leaned
		return g.plan(ctx)
	}
	p.repack, p.moved, p.freed = nil, 0, 0
	return &p, nil
}

// liveBytes is the plaintext of a block that is needed. It is at least one
// where anything is.
func (g *garbage) liveBytes(n, b uint32, t *trailer) (sum int64) {
	rec := &t.blocks[b]
	for c := range uint32(rec.chunks) {
		id, length := t.chunk(rec.chunkAt + c)
		if g.isLive(&id, spot{n, uint16(b), uint16(c)}) {
			sum += int64(length)
		}
	}
	return sum
}

// counts tells whether a delta block that stays has to be readable: it has a
// live chunk, and not only such whose other copy was chosen.
func (g *garbage) counts(n, b uint32, t *trailer, live *idFilter) bool {
	rec := &t.blocks[b]
	for c := range uint32(rec.chunks) {
		id, _ := t.chunk(rec.chunkAt + c)
		if !live.has(&id) {
			continue
		}
		w, several := g.winners[id]
		if !several || w == (spot{n, uint16(b), uint16(c)}) || n > g.packs[len(g.packs)-1] {
			return true
		}
	}
	return false
}

// maxProof bounds the ids one pass of a proof keeps in memory.
const maxProof = 1 << 20

// prove makes sure that nothing is lost when packs go. It reads the manifests
// again, marks again from scratch, and then demands of the packs that stay:
// each live chunk of the packs that go has a copy there, and each dictionary
// chunk of their live delta blocks has one in a block of lower depth, so that
// no two lean on each other.
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
	var stay []uint32
	for _, n := range r.catalog.all(0) {
		if !goes[n] {
			stay = append(stay, n)
		}
	}
	// The size and salt of the first mark: what was false then is false again.
	reach, err := g.follow(ctx, chain.snapshots)
	if err != nil {
		return err
	}
	var deep garbage
	if err := g.each(ctx, stay, func(n uint32, t *trailer) error { deep.noteDepths(n, t); return nil }); err != nil {
		return err
	}
	live, err := g.close(ctx, reach, &deep.deep, nil)
	if err != nil {
		return err
	}
	need := make(map[crypto.ID]uint8) // chunk -> the depth its copy must be below
	settle := func() error {
		if len(need) == 0 {
			return nil
		}
		err := g.each(ctx, stay, func(_ uint32, t *trailer) error {
			for b := range t.blocks {
				rec := &t.blocks[b]
				for c := range uint32(rec.chunks) {
					id, _ := t.chunk(rec.chunkAt + c)
					if below, ok := need[id]; ok && rec.depth < below {
						delete(need, id)
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for id := range need {
			return fmt.Errorf("%w: chunk %s would be lost or a delta block left without it, so nothing more is deleted; run a check with --read-data", ErrDamaged, id.Short())
		}
		return nil
	}
	ask := func(id crypto.ID, below uint8) {
		if old, ok := need[id]; !ok || below < old {
			need[id] = below
		}
	}
	for _, n := range packs {
		if err := g.each(ctx, []uint32{n}, func(_ uint32, t *trailer) error {
			for i := range t.chunkCount() {
				if id, _ := t.chunk(uint32(i)); live.has(&id) {
					ask(id, anyDepth)
				}
			}
			return nil
		}); err != nil {
			return err
		}
		if len(need) >= maxProof {
			if err := settle(); err != nil {
				return err
			}
		}
	}
	for d := 1; d <= MaxDepth; d++ {
		for _, n := range deep.deep[d] {
			if err := g.each(ctx, []uint32{n}, func(_ uint32, t *trailer) error {
				for b := range t.blocks {
					rec := &t.blocks[b]
					if int(rec.depth) != d || !g.counts(n, uint32(b), t, live) {
						continue
					}
					for i := range uint32(rec.dicts) {
						ask(t.dict(rec.dictAt+i), rec.depth)
					}
				}
				return nil
			}); err != nil {
				return err
			}
			if len(need) >= maxProof {
				if err := settle(); err != nil {
					return err
				}
			}
		}
	}
	return settle()
}
