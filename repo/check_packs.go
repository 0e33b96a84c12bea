package repo

import (
	"context"
	"fmt"
	"sync"

	"github.com/generalbots/backupd/internal/pace"
)

// packQueue shares out packs among workers, a few blocks at a time: so that none
// is left with half a pack when the others have nothing to do any more.
type packQueue struct {
	mu      sync.Mutex // guards all below
	changed *sync.Cond // when a pack was opened, or could not be
	rest    []uint32   // packs not opened yet
	open    []*packJob // with blocks that nobody has taken
	opening int
}

// packJob is a pack being looked at.
type packJob struct {
	number uint32
	info   packInfo
	name   string
	want   bitset // nil wants all of it, its size and its padding too
	entry  *cached[uint32, *pack]
	blocks int // the padding not among them

	next, busy int // first block not taken, workers with blocks; guarded by the queue
	sums       packSums
}

type packSums struct{ blocks, deltas, chunks, sealed int64 }

func (s *packSums) add(o packSums) {
	s.blocks, s.deltas, s.chunks, s.sealed = s.blocks+o.blocks, s.deltas+o.deltas, s.chunks+o.chunks, s.sealed+o.sealed
}

// blocksAtOnce is what a worker takes: some two mebibytes.
const blocksAtOnce = 8

// packs looks at packs, on all cores.
func (c *checker) packs(ctx context.Context, numbers []uint32, readData bool) error {
	c.prog.TotalPacks.Store(int64(len(numbers)))
	q := &packQueue{rest: numbers}
	q.changed = sync.NewCond(&q.mu)
	var wg sync.WaitGroup
	for range pace.Cores() {
		wg.Go(func() {
			pace.Of(ctx).Thread()
			c.work(ctx, q, readData)
		})
	}
	wg.Wait()
	for _, j := range q.open { // of a check that was cancelled
		c.rd.packs.release(j.entry)
	}
	return context.Cause(ctx)
}

func (c *checker) work(ctx context.Context, q *packQueue, readData bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for ctx.Err() == nil {
		switch {
		// The next pack is opened while blocks of the last one are left for the others.
		case len(q.rest) > 0 && len(q.open) < 2 && (q.opening == 0 || len(q.open) == 0):
			n := q.rest[0]
			q.rest = q.rest[1:]
			q.opening++
			q.mu.Unlock()
			j := c.openJob(ctx, n)
			q.mu.Lock()
			q.opening--
			if j != nil {
				q.open = append(q.open, j)
			}
			q.changed.Broadcast()
		case len(q.open) > 0:
			j := q.open[0]
			from := j.next
			j.next = min(from+blocksAtOnce, j.blocks)
			to, last := j.next, j.next == j.blocks
			if last {
				q.open = q.open[1:]
			}
			j.busy++
			q.mu.Unlock()
			sums := c.someBlocks(ctx, j, from, to, readData)
			q.mu.Lock()
			j.busy--
			j.sums.add(sums)
			if j.busy == 0 && j.next == j.blocks {
				q.mu.Unlock()
				c.closeJob(ctx, j, readData)
				q.mu.Lock()
			}
		case q.opening > 0:
			q.changed.Wait()
		default:
			return
		}
	}
}

// openJob opens a pack; nil when that can not be done, which is a finding.
func (c *checker) openJob(ctx context.Context, number uint32) *packJob {
	j := &packJob{number: number, info: c.r.catalog.info(number), want: c.want[number]}
	j.name = packName(j.info.id, j.info.kind)
	var err error
	if j.entry, err = c.rd.pack(ctx, number); err != nil {
		c.find(j.name, err.Error())
		c.damage.add(j.info.id, wholePack)
		if j.want == nil {
			c.prog.Bytes.Add(j.info.size)
		}
		c.prog.Packs.Add(1)
		return nil
	}
	j.blocks = len(j.entry.val.trailer.blocks) - 1
	if size, full := j.info.size, int64(c.r.config.PackSize); j.want == nil && size != full && size != tailSize(size) && size > MinTailSize {
		c.find(j.name, fmt.Sprintf("%v: %d bytes is neither the size of a full pack nor that of a tail", ErrDamaged, size))
	}
	return j
}

// closeJob looks at the padding of a pack whose blocks are done, and gives it back.
func (c *checker) closeJob(ctx context.Context, j *packJob, readData bool) {
	defer c.prog.Packs.Add(1)
	defer c.rd.packs.release(j.entry)
	if ctx.Err() != nil {
		return
	}
	if j.want == nil {
		j.sums.sealed = j.info.size
		if readData {
			if _, err := j.entry.val.payload(uint32(j.blocks), nil); err != nil {
				c.find(j.name, "padding: "+err.Error())
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Packs++
	c.report.PackBytes += j.sums.sealed
	c.report.Blocks += j.sums.blocks
	c.report.DeltaBlocks += j.sums.deltas
	c.report.Chunks += j.sums.chunks
}

// someBlocks looks at those blocks of a pack, from one up to another, that are wanted.
func (c *checker) someBlocks(ctx context.Context, j *packJob, from, to int, readData bool) (sums packSums) {
	t := j.entry.val.trailer
	for b := from; b < to && ctx.Err() == nil; b++ {
		if j.want != nil && !j.want.has(b) {
			continue
		}
		rec := &t.blocks[b]
		sums.add(packSums{blocks: 1, chunks: int64(rec.chunks), sealed: int64(rec.sealed)})
		whole, err := true, error(nil)
		if rec.codec == codecDelta {
			sums.deltas++
			whole, err = c.rd.whole(ctx, blockKey{j.number, uint32(b)})
		}
		if err == nil && !whole {
			err = fmt.Errorf("block %d: %w: what its dictionary is made of is in no block of lower depth", b, ErrNotFound)
			c.miss(t, rec, err)
			c.mu.Lock()
			c.broken = append(c.broken, brokenBlock{j.name, j.info.id, uint32(b), err})
			c.mu.Unlock()
			continue
		}
		if err == nil {
			err = c.leaning.proveReach(ctx, blockKey{j.number, uint32(b)})
		}
		// A walk that is to find what is needed has read the blocks of trees; where
		// it could not, this says which are damaged.
		if err == nil && readData && (j.want == nil || j.info.kind == kindData || c.torn) {
			err = c.block(ctx, j.number, uint32(b))
			c.prog.Bytes.Add(int64(rec.sealed))
		}
		if err != nil && ctx.Err() == nil {
			c.find(j.name, err.Error())
			c.damage.add(j.info.id, uint32(b))
			c.miss(t, rec, err)
		} else {
			c.kept(t, rec)
		}
	}
	return sums
}

// block decodes one block and compares its chunks with their ids.
func (c *checker) block(ctx context.Context, number, block uint32) error {
	var req request
	e, err := c.rd.decode(ctx, blockKey{number, block}, &req)
	defer func() { c.rd.releaseAll(req.held) }()
	if err != nil {
		return err
	}
	defer c.rd.blocks.release(e)
	if err := c.rd.verifyAll(e.val); err != nil {
		return err
	}
	return req.pay(ctx)
}

// verifyAll compares all chunks of a block with their ids.
func (rd *Reader) verifyAll(b *block) error {
	kind := b.trailer.header.kind
	h := rd.hasher(kind)
	defer rd.hashers[kind-1].Put(h)
	p := b.plain
	for i := range uint32(b.rec.chunks) {
		want, n := b.trailer.chunk(b.rec.chunkAt + i)
		if h.Sum(p[:n]) != want {
			return fmt.Errorf("chunk %s: %w: its content has another id", want.Short(), ErrDamaged)
		}
		p = p[n:]
	}
	return nil
}

// miss notes chunks of which a copy can not be read.
func (c *checker) miss(t *trailer, rec *blockRec, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := why.Error()
	for i := range uint32(rec.chunks) {
		id, _ := t.chunk(rec.chunkAt + i)
		c.bad[id] = text
	}
}

// kept notes good copies, but only of chunks that have a bad one: those are
// few, all others need no memory.
func (c *checker) kept(t *trailer, rec *blockRec) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.bad) == 0 {
		return
	}
	for i := range uint32(rec.chunks) {
		id, _ := t.chunk(rec.chunkAt + i)
		if _, ok := c.bad[id]; ok {
			c.good[id] = true
		}
	}
}
