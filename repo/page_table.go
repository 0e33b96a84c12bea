package repo

import (
	"context"
	"math/bits"
	"slices"

	"github.com/generalbots/backupd/crypto"
)

// pageTable finds the chunks of tree packs in six bytes a copy, a quarter of
// what places takes; it is made once and takes nothing in later. Every spot it
// gives was compared with the trailer.
type pageTable struct {
	rd     *Reader
	packs  []uint32 // numbers, ascending
	first  []uint32 // of each pack, what its first chunk counts as; and one more
	starts []uint32 // of each bucket, in chunks and marks; and one more
	chunks []uint32 // by bucket
	marks  []uint8  // a byte of each one's id
}

// bucketChunks is how many chunks share a bucket, on average.
const bucketChunks = 4

// newPageTable reads the trailers of tree packs three times.
func newPageTable(ctx context.Context, rd *Reader, packs []uint32, each func(context.Context, []uint32, func(n uint32, t *trailer) error) error) (*pageTable, error) {
	p := &pageTable{rd: rd, packs: slices.Sorted(slices.Values(packs))}
	p.first = make([]uint32, len(p.packs)+1)
	err := each(ctx, p.packs, func(n uint32, t *trailer) error {
		i, _ := slices.BinarySearch(p.packs, n)
		p.first[i+1] = uint32(t.chunkCount())
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range p.packs {
		p.first[i+1] += p.first[i]
	}
	total := int(p.first[len(p.packs)])
	p.starts = make([]uint32, max(1, total/bucketChunks)+1)
	p.chunks, p.marks = make([]uint32, total), make([]uint8, total)
	// Counted, then summed so that each start is where the next bucket begins,
	// then moved down to where its own does as the chunks are put in.
	if err := each(ctx, p.packs, func(_ uint32, t *trailer) error {
		for i := range t.chunkCount() {
			id, _ := t.chunk(uint32(i))
			p.starts[p.bucket(&id)]++
		}
		return nil
	}); err != nil {
		return nil, err
	}
	var sum uint32
	for i := range p.starts {
		sum += p.starts[i]
		p.starts[i] = sum
	}
	return p, each(ctx, p.packs, func(n uint32, t *trailer) error {
		i, _ := slices.BinarySearch(p.packs, n)
		for c := range uint32(t.chunkCount()) {
			id, _ := t.chunk(c)
			b := p.bucket(&id)
			p.starts[b]--
			p.chunks[p.starts[b]], p.marks[p.starts[b]] = p.first[i]+c, id[15]
		}
		return nil
	})
}

func (p *pageTable) bucket(id *crypto.ID) int {
	hi, _ := bits.Mul64(tagOfID(id).hi, uint64(len(p.starts)-1))
	return int(hi)
}

// spots appends all copies of a page.
func (p *pageTable) spots(ctx context.Context, id *crypto.ID, dst []spot) ([]spot, error) {
	b := p.bucket(id)
	for at := p.starts[b]; at < p.starts[b+1]; at++ {
		if p.marks[at] != id[15] {
			continue
		}
		i, found := slices.BinarySearch(p.first, p.chunks[at])
		if !found {
			i--
		}
		for p.first[i+1] == p.chunks[at] { // an empty pack before it
			i++
		}
		e, err := p.rd.pack(ctx, p.packs[i])
		if err != nil {
			return nil, err
		}
		t, c := e.val.trailer, p.chunks[at]-p.first[i]
		if got, _ := t.chunk(c); got == *id {
			dst = append(dst, spot{pack: p.packs[i], block: t.blockOf(c), chunk: uint16(c - t.blocks[t.blockOf(c)].chunkAt)})
		}
		p.rd.packs.release(e)
	}
	return dst, nil
}

// blockOf is the block that holds a chunk of the table.
func (t *trailer) blockOf(chunk uint32) uint16 {
	lo, hi := 0, len(t.blocks)-1
	for lo < hi {
		if mid := (lo + hi + 1) / 2; t.blocks[mid].chunkAt <= chunk {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	for t.blocks[lo].chunks == 0 { // the pad begins where the last block ends
		lo--
	}
	return uint16(lo)
}
