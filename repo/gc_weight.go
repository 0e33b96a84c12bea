package repo

import (
	"context"
	"math"
)

// deadWeight finds delta blocks whose dictionaries keep more alive than they
// save; nil when there are none. A chunk that is only needed as dictionary,
// so live but not in reach, weighs what it takes in its pack and, in its turn,
// its share of what its own block leans on; its weight is divided among the
// blocks that lean on it. A block of a live snapshot whose share of weights is
// above what it saves against being stored plain is to be stored plain.
//
// It keeps a byte for each such chunk: how many lean on it until its own block
// was weighed, then what it costs each of them. All of it are estimates, and a
// wrong one costs space and no data.
func (g *garbage) deadWeight(ctx context.Context, reach bitset) (bitset, error) {
	kept := g.live.clone()
	kept.without(reach)
	n := kept.count()
	if n == 0 {
		return nil, nil
	}
	ranks := kept.ranks()
	byteOf := make([]uint8, n)
	weighed := newBitset(n)

	eachOf := func(d int, use func(n uint32, b int, t *trailer, rec *blockRec)) error {
		packs := g.packs
		if d > 0 {
			packs = g.deep[d]
		}
		return g.each(ctx, packs, func(n uint32, t *trailer) error {
			for b := range t.blocks {
				if rec := &t.blocks[b]; int(rec.depth) == d && rec.chunks > 0 && g.anyIn(t, rec, g.live) {
					use(n, b, t, rec)
				}
			}
			return nil
		})
	}
	dictionary := func(t *trailer, rec *blockRec, use func(k int)) {
		for i := range uint32(rec.dicts) {
			id := t.dict(rec.dictAt + i)
			if m := g.roll.number(&id); kept.has(m) {
				use(kept.rank(ranks, m))
			}
		}
	}
	for d := 1; d <= MaxDepth; d++ {
		if err := eachOf(d, func(_ uint32, _ int, t *trailer, rec *blockRec) {
			dictionary(t, rec, func(k int) { byteOf[k] = min(byteOf[k], math.MaxUint8-1) + 1 })
		}); err != nil {
			return nil, err
		}
	}
	out, any := newBitset(g.blocks), false
	for d := 0; d <= MaxDepth; d++ {
		// Chunks of one depth do not lean on each other, so it does not matter
		// in which order the blocks of a depth are weighed.
		if err := eachOf(d, func(n uint32, b int, t *trailer, rec *blockRec) {
			var debt float64
			dictionary(t, rec, func(k int) {
				if weighed.has(k) {
					debt += costOf[byteOf[k]]
				}
			})
			// Half as much again, since what it takes plain is an estimate.
			saved := float64(rec.plain)*g.plainly[t.header.kind] - float64(rec.sealed)
			if debt > 0 && debt > saved*3/2 && g.anyIn(t, rec, reach) {
				out.set(g.block(n, b))
				any, debt = true, 0
			}
			for c := range uint32(rec.chunks) {
				m := g.number(t, rec.chunkAt+c)
				if !kept.has(m) {
					continue
				}
				k := kept.rank(ranks, m)
				if weighed.has(k) {
					continue // by another copy, of this depth or a lower one
				}
				_, length := t.chunk(rec.chunkAt + c)
				share := float64(length) / float64(rec.plain)
				byteOf[k] = costByte(share * (float64(rec.sealed) + debt) / float64(max(1, byteOf[k])))
				weighed.set(k)
			}
		}); err != nil {
			return nil, err
		}
	}
	if !any {
		return nil, nil
	}
	return out, nil
}

// A cost is kept as a logarithm in a byte, to seven parts in a hundred.
const costSteps = 10 // in an octave

var costOf = func() (out [256]float64) {
	for i := range out {
		out[i] = math.Exp2(float64(i)/costSteps) - 1
	}
	return out
}()

func costByte(cost float64) uint8 {
	return uint8(min(math.MaxUint8, math.Round(costSteps*math.Log2(1+cost))))
}
