package repo

import (
	"context"
	"fmt"
	"sync"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/pace"
)

// wholeShare: a plain block of which at least this share of a hundred is live
// is moved as it is; below it the live chunks are encoded anew.
const wholeShare = 70

// repacker moves live blocks into new packs.
type repacker struct {
	g       *garbage
	prog    *GCProgress
	enc     *blockEncoder
	streams [2]*packStream // by kind-1
	open    [2]openBlock   // chunks to be encoded anew
	moved   int64
	mu      sync.Mutex // guards failed
	failed  error
}

// repack writes the live blocks of the plan's packs into new ones. When it
// returns, those are durable and in the catalog; the old ones are untouched.
func (g *garbage) repack(ctx context.Context, plan *gcPlan, p *GCProgress) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	enc, err := newBlockEncoder(LevelDefault)
	if err != nil {
		return 0, err
	}
	rp := &repacker{g: g, prog: p, enc: enc}
	for _, kind := range []packKind{kindData, kindTree} {
		s := g.r.newStream(ctx, kind)
		// The index hears of it when the old packs are gone: until then the
		// chunks' old places stand in it.
		s.publish = func(_ context.Context, res *packResult) error { g.r.enterPack(res); return nil }
		s.failed = func(err error) { rp.fail(err); cancel() }
		rp.streams[kind-1] = s
	}
	defer func() {
		for _, s := range rp.streams {
			s.abandon()
		}
	}()
	err = g.inBatches(ctx, plan.repack, g.reencode != nil, func(n uint32, b int, _ *trailer) bool { return g.isAnew(n, b) }, func(packs []uint32) error {
		for _, n := range packs {
			if err := rp.pack(ctx, n); err != nil {
				return err
			}
			p.Packs.Add(1)
		}
		return nil
	})
	if err != nil {
		return 0, rp.cause(err)
	}
	for i := range rp.open {
		if err := rp.flush(ctx, packKind(i+1)); err != nil {
			return 0, rp.cause(err)
		}
	}
	for _, s := range rp.streams {
		if err := rp.cause(s.flush()); err != nil {
			return 0, err
		}
	}
	return rp.moved, rp.cause(nil)
}

func (rp *repacker) fail(err error) {
	rp.mu.Lock()
	if rp.failed == nil {
		rp.failed = err
	}
	rp.mu.Unlock()
}

// cause prefers what a stream reported to the cancellation that followed.
func (rp *repacker) cause(err error) error {
	rp.mu.Lock()
	defer rp.mu.Unlock()
	if rp.failed != nil {
		return rp.failed
	}
	return err
}

// takesApart tells whether of a block with so many live bytes the live chunks are
// encoded anew; else it is moved as it is.
func (g *garbage) takesApart(n uint32, b int, rec *blockRec, live int64) bool {
	return g.isAnew(n, b) || rec.codec != codecDelta && live*100 < int64(rec.plain)*wholeShare
}

func (rp *repacker) pack(ctx context.Context, n uint32) error {
	e, err := rp.g.rd.pack(ctx, n)
	if err != nil {
		return err
	}
	defer rp.g.rd.packs.release(e)
	t := e.val.trailer
	for b := range t.blocks[:len(t.blocks)-1] {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		rec := &t.blocks[b]
		live := rp.g.liveBytes(n, rec, t)
		if live == 0 {
			continue
		}
		if rp.g.takesApart(n, b, rec, live) {
			err = rp.encode(ctx, n, uint32(b), t)
		} else {
			err = rp.move(ctx, e.val, uint32(b))
		}
		if err != nil {
			return fmt.Errorf("pack %s block %d: %w", t.header.pack, b, err)
		}
	}
	return nil
}

// move puts a block into a new pack as it is. Its seal proves it whole.
func (rp *repacker) move(ctx context.Context, p *pack, block uint32) error {
	payload, err := p.payload(block, nil)
	if err != nil {
		return err
	}
	t := p.trailer
	rec := &t.blocks[block]
	nb := &newBlock{payload: payload, codec: rec.codec, plain: int(rec.plain), depth: rec.depth, reach: rec.reach}
	for i := range uint32(rec.dicts) {
		nb.dict = append(nb.dict, t.dict(rec.dictAt+i))
	}
	for i := range uint32(rec.chunks) {
		id, n := t.chunk(rec.chunkAt + i)
		nb.chunks = append(nb.chunks, Ref{ID: id, Len: n})
	}
	rp.count(len(payload))
	if err := pace.Of(ctx).Spend(ctx, len(payload)); err != nil {
		return err
	}
	return rp.streams[t.header.kind-1].add(ctx, nb)
}

func (rp *repacker) count(payload int) {
	rp.moved += int64(payload + crypto.Overhead)
	rp.prog.Moved.Store(rp.moved)
}

// encode takes the live chunks of a block out of it.
func (rp *repacker) encode(ctx context.Context, n, block uint32, t *trailer) error {
	rd := rp.g.rd
	var req request
	e, err := rd.decode(ctx, blockKey{n, block}, &req)
	defer func() { rd.releaseAll(req.held) }()
	if err != nil {
		return err
	}
	defer rd.blocks.release(e)
	if err := req.pay(ctx); err != nil {
		return err
	}
	rec := &t.blocks[block]
	open := &rp.open[t.header.kind-1]
	for c := range uint32(rec.chunks) {
		if !rp.g.isLive(n, t, rec.chunkAt+c) {
			continue
		}
		id, length := t.chunk(rec.chunkAt + c)
		chunk, err := rd.verified(e.val, uint16(c))
		if err != nil {
			return err
		}
		if !open.fits(chunk) {
			if err := rp.flush(ctx, t.header.kind); err != nil {
				return err
			}
		}
		open.add(chunk, Ref{ID: id, Len: length})
	}
	return nil
}

func (rp *repacker) flush(ctx context.Context, kind packKind) error {
	open := &rp.open[kind-1]
	if len(open.chunks) == 0 {
		return nil
	}
	payload, c, err := rp.enc.plain(open.buf)
	if err != nil {
		return err
	}
	rp.count(len(payload))
	err = rp.streams[kind-1].add(ctx, &newBlock{payload: payload, codec: c, plain: len(open.buf), reach: uint32(len(open.buf)), chunks: open.chunks})
	open.reset()
	return err
}
