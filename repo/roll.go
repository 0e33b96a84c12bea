package repo

import (
	"cmp"
	"context"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/generalbots/backupd/crypto"
)

// roll gives each chunk of a set of packs a number of its own, the copies of a
// chunk the same one, in about three bits a chunk: a minimal perfect hash
// (levels of bits as in Limasset et al., "Fast and scalable minimal perfect
// hashing for massive key sets", 2017). What is to be known of chunks is then a
// bit for each number.
//
// The number of an id that is in none of the packs is that of some other
// chunk. So a mark is never lost, whatever the id, but a mark set for an id that
// is nowhere shows at a chunk that is somewhere.
type roll struct {
	parts []rollPart // by slice of the space of ids, equally wide
	count int        // numbers are below
}

type rollPart struct {
	first  int      // number of the part's first chunk
	bits   bitset   // of all levels, one after the other
	ranks  []uint32 // of bits
	levels []uint32 // bits of each level
	count  int
}

// tag is the part of an id that tells chunks apart here. Ids are keyed hashes,
// and two chunks with the same sixteen bytes do not happen.
type tag struct{ hi, lo uint64 }

func tagOfID(id *crypto.ID) tag {
	return tag{binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:16])}
}

func compareTags(a, b tag) int {
	switch {
	case a.hi < b.hi:
		return -1
	case a.hi > b.hi:
		return 1
	}
	return cmp.Compare(a.lo, b.lo)
}

// slice is the slice of n that the tag falls in.
func (t tag) slice(n int) int {
	hi, _ := bits.Mul64(t.hi, uint64(n))
	return int(hi)
}

const (
	// sliceTags is how many tags are sorted at once at least, sliceShare the
	// share of all that is taken when that is more: the trailers are read once
	// for each slice, at most sliceShare times, and four bits a chunk are used.
	sliceTags  = 1 << 19
	sliceShare = 32
	// rollLevels is above any number of levels that distinct tags need.
	rollLevels = 64
)

// sliceCount is into how many slices that many chunks are cut.
func sliceCount(chunks, atOnce int) int {
	atOnce = max(atOnce, chunks/sliceShare)
	return max(1, (chunks+atOnce-1)/atOnce)
}

// eachSlice hands on the tags of all chunks of the packs, sorted and each once,
// slice after slice in ascending order. The tags are valid until use returns,
// and may be reordered. each reads trailers; chunks is how many they hold.
func eachSlice(ctx context.Context, chunks, atOnce int, each func(context.Context, func(n uint32, t *trailer) error) error, use func(slice, of int, tags []tag) error) error {
	of := sliceCount(chunks, atOnce)
	room := chunks / of
	tags := make([]tag, 0, room+room/64+256)
	for s := range of {
		tags = tags[:0]
		err := each(ctx, func(_ uint32, t *trailer) error {
			for c := t.chunks; len(c) > 0; c = c[chunkRecSize:] {
				tg := tag{binary.BigEndian.Uint64(c), binary.BigEndian.Uint64(c[8:])}
				if of == 1 || tg.slice(of) == s {
					tags = append(tags, tg)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		slices.SortFunc(tags, compareTags)
		tags = slices.Compact(tags)
		if err := use(s, of, tags); err != nil {
			return err
		}
	}
	return nil
}

// newRoll numbers the chunks that each goes through.
func newRoll(ctx context.Context, chunks, atOnce int, each func(context.Context, func(n uint32, t *trailer) error) error) (*roll, error) {
	r := &roll{}
	err := eachSlice(ctx, chunks, atOnce, each, func(_, _ int, tags []tag) error {
		p := newRollPart(tags)
		p.first = r.count
		r.count += p.count
		r.parts = append(r.parts, p)
		return nil
	})
	return r, err
}

// place is where a tag falls among the bits of a level.
func (t tag) place(level int, size uint32) int {
	h := t.lo + uint64(level+1)*t.hi
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	hi, _ := bits.Mul64(h^h>>33, uint64(size))
	return int(hi)
}

// newRollPart numbers sorted distinct tags. A tag is placed at the first level
// where no other of those left falls on its bit. It reorders tags.
func newRollPart(tags []tag) rollPart {
	p := rollPart{count: len(tags)}
	level := func(left int) uint32 { return uint32(max(left+left/2, 64)+63) &^ 63 }
	taken, twice := newBitset(int(level(len(tags)))), newBitset(int(level(len(tags))))
	p.bits = make(bitset, 0, len(tags)*3/64+64)
	for l := 0; len(tags) > 0 && l < rollLevels; l++ {
		size := level(len(tags))
		taken, twice := taken[:size/64], twice[:size/64]
		clear(taken)
		clear(twice)
		for _, t := range tags {
			if i := t.place(l, size); taken.has(i) {
				twice.set(i)
			} else {
				taken.set(i)
			}
		}
		left := tags[:0]
		for _, t := range tags {
			if twice.has(t.place(l, size)) {
				left = append(left, t)
			}
		}
		tags = left
		taken.without(twice)
		p.bits = append(p.bits, taken...)
		p.levels = append(p.levels, size)
	}
	p.bits = slices.Clip(p.bits)
	p.ranks = p.bits.ranks()
	return p
}

// number is that of the chunk with the id, if it is in a pack of the roll, and
// else any.
func (r *roll) number(id *crypto.ID) int { return r.numberOf(tagOfID(id)) }

func (r *roll) numberOf(t tag) int {
	p := &r.parts[t.slice(len(r.parts))]
	base := 0
	for l, size := range p.levels {
		if i := base + t.place(l, size); p.bits.has(i) {
			return p.first + p.bits.rank(p.ranks, i)
		}
		base += int(size)
	}
	if p.first < r.count {
		return p.first
	}
	return 0
}

// set makes an empty set of numbers.
func (r *roll) set() bitset { return newBitset(max(1, r.count)) }
