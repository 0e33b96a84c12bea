package repo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/generalbots/backupd/crypto"
)

// chunkTable finds the block of every chunk of some packs in three to five bytes
// a copy, where places takes 24 to 48. It is made once and takes nothing in
// later. What it gives are claims, that the trailer has to confirm; it never
// leaves out a copy that is there.
type chunkTable struct {
	packs  []tabledPack // by number, and one more behind the last
	shift  int          // the first 64 bits of an id without so many are its bucket
	starts []uint32     // of each bucket, in copies; and one more
	marks  []uint8      // of each copy, a byte of its id
	blocks packed       // of each copy, its block and markBits bits more of its id
	ids    []uint32     // copies of each bucket while packs are counted, finer than starts
}

// tabledPack says what the first block and chunk of a pack count as.
type tabledPack struct{ number, block, chunk uint32 }

const (
	// bucketBits: a bucket has eight to sixteen copies.
	bucketBits = 4
	// mostBuckets bounds the buckets, and with them what counting takes.
	mostBuckets = 20
	// markBits are kept beside the byte, so that of a thousand look-ups three
	// open a trailer in vain, which may have to be read.
	markBits = 4
)

// newChunkTables makes the tables of tree and data packs. Their trailers are read
// twice. A pack that can not be read is left out with a warning.
func newChunkTables(ctx context.Context, rd *Reader, numbers []uint32) (of [2]*chunkTable, err error) {
	var bytes [2]int64
	for _, n := range numbers {
		info := rd.repo.catalog.info(n)
		bytes[info.kind-1] += info.size
	}
	for i := range of {
		// No more chunks than their records fill.
		fine := min(mostBuckets, bits.Len64(uint64(bytes[i])/chunkRecSize>>bucketBits))
		of[i] = &chunkTable{shift: 64 - fine, ids: make([]uint32, 1<<fine)}
	}
	var seen []uint32
	if err := rd.eachTrailer(ctx, numbers, func(n uint32, t *trailer) error {
		seen = append(seen, n)
		of[t.header.kind-1].count(n, t)
		return nil
	}); err != nil {
		return of, err
	}
	for _, t := range of {
		t.makeRoom()
	}
	slices.Sort(seen)
	return of, rd.eachTrailer(ctx, seen, func(n uint32, t *trailer) error {
		of[t.header.kind-1].enter(n, t)
		return nil
	})
}

func (c *chunkTable) count(n uint32, t *trailer) {
	c.packs = append(c.packs, tabledPack{n, uint32(len(t.blocks)), uint32(t.chunkCount())})
	for rec := t.chunks; len(rec) > 0; rec = rec[chunkRecSize:] {
		c.ids[binary.BigEndian.Uint64(rec)>>c.shift]++
	}
}

// makeRoom turns counts into sums, and counted buckets into wider ones where
// they are so many that their starts would be most of the table.
func (c *chunkTable) makeRoom() {
	slices.SortFunc(c.packs, func(a, b tabledPack) int { return cmp.Compare(a.number, b.number) })
	var sum tabledPack
	for i, p := range c.packs {
		c.packs[i].block, c.packs[i].chunk = sum.block, sum.chunk
		sum.block, sum.chunk = sum.block+p.block, sum.chunk+p.chunk
	}
	c.packs = append(c.packs, sum)
	wider := max(0, 64-c.shift-max(0, bits.Len32(sum.chunk)-bucketBits))
	c.shift += wider
	c.starts = make([]uint32, (len(c.ids)-1)>>wider+2)
	// Each start is where the next bucket begins, until the copies are put in.
	var at uint32
	for i, n := range c.ids {
		at += n
		c.starts[i>>wider] = at
	}
	c.starts[len(c.starts)-1], c.ids = at, nil
	c.marks = make([]uint8, at)
	c.blocks = newPacked(int(at), bits.Len32(sum.block)+markBits)
}

// enter puts in a pack that was counted.
func (c *chunkTable) enter(n uint32, t *trailer) {
	i, found := slices.BinarySearchFunc(c.packs[:len(c.packs)-1], n, func(p tabledPack, n uint32) int { return cmp.Compare(p.number, n) })
	if !found || c.packs[i+1].block-c.packs[i].block != uint32(len(t.blocks)) || c.packs[i+1].chunk-c.packs[i].chunk != uint32(t.chunkCount()) {
		return
	}
	rec := t.chunks
	for b := range t.blocks {
		block := uint64(c.packs[i].block+uint32(b)) << markBits
		for range t.blocks[b].chunks {
			start := &c.starts[binary.BigEndian.Uint64(rec)>>c.shift]
			if *start > 0 { // it is, as long as a trailer holds what was counted
				*start--
				c.marks[*start] = rec[15]
				c.blocks.put(int(*start), block|uint64(rec[14]&(1<<markBits-1)))
			}
			rec = rec[chunkRecSize:]
		}
	}
}

// spots appends where copies of a chunk may lie.
func (c *chunkTable) spots(id *crypto.ID, dst []spot) []spot {
	b := binary.BigEndian.Uint64(id[:]) >> c.shift
	for at, end := c.starts[b], c.starts[b+1]; at < end; at++ {
		next := bytes.IndexByte(c.marks[at:end], id[15])
		if next < 0 {
			break
		}
		at += uint32(next)
		v := c.blocks.get(int(at))
		if byte(v)&(1<<markBits-1) != id[14]&(1<<markBits-1) {
			continue
		}
		block := uint32(v >> markBits)
		p := c.packs[c.holding(block)]
		dst = append(dst, spot{pack: p.number, block: uint16(block - p.block), chunk: anyChunk})
	}
	return dst
}

// holding is the place among packs of the one with a block.
func (c *chunkTable) holding(block uint32) int {
	lo, hi := 0, len(c.packs)-1
	for lo+1 < hi {
		if mid := (lo + hi) / 2; c.packs[mid].block <= block {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// chunks is how many copies there are.
func (c *chunkTable) chunks() int { return len(c.marks) }

// number is what the chunk at a confirmed spot, of the pack with this trailer,
// counts as among all copies.
func (c *chunkTable) number(s spot, t *trailer) (n int, ok bool) {
	i, found := slices.BinarySearchFunc(c.packs[:len(c.packs)-1], s.pack, func(p tabledPack, n uint32) int { return cmp.Compare(p.number, n) })
	if !found {
		return 0, false
	}
	n = int(c.packs[i].chunk + t.blocks[s.block].chunkAt + uint32(s.chunk))
	return n, n < int(c.packs[i+1].chunk)
}
