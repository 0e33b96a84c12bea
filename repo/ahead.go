package repo

import (
	"context"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// What a delta leans on lies here and there in the packs. Left to itself the kernel
// takes two blocks that follow each other for the beginning of a stream and reads on
// behind them for nothing, and who wants a block waits for it. So each is announced
// when a chunk is put that is compared with something in it, and read when the block
// of that chunk is full.

// willRead has a block fetched from the disk before it is read.
func (p *pack) willRead(block uint32) {
	file, release, err := p.file()
	if err != nil {
		return // who reads it says so
	}
	defer release()
	if a, ok := file.(store.Ahead); ok {
		r := &p.trailer.blocks[block]
		a.WillRead(int64(r.offset), int64(r.sealed))
	}
}

// locate finds where openAny will look for a chunk first, and has a block of
// data that has to be read for it fetched meanwhile. Not ok when no pack that can
// be read has the chunk.
func (rd *Reader) locate(ctx context.Context, kind packKind, id *crypto.ID) (s spot, ok bool) {
	var buf [4]spot
	spots, _ := rd.candidates(ctx, kind, id, MaxDepth, buf[:0])
	if len(spots) == 0 {
		return s, false
	}
	s = spots[0]
	if kind == kindData && !rd.blocks.has(blockKey{s.pack, uint32(s.block)}) {
		if e, err := rd.pack(ctx, s.pack); err == nil {
			e.val.willRead(uint32(s.block))
			rd.packs.release(e)
		}
	}
	return s, true
}

// openAt decodes the block at a spot that locate found. Where that can not be
// read, or s says that it found none, or something could not be read before, it is
// openAny, which bounds the attempts.
func (rd *Reader) openAt(ctx context.Context, kind packKind, id *crypto.ID, s spot, req *request) (*cached[blockKey, *block], spot, error) {
	if s.chunk == anyChunk || req.failed > 0 {
		return rd.openAny(ctx, kind, id, MaxDepth, req)
	}
	e, err := rd.decode(ctx, blockKey{s.pack, uint32(s.block)}, req)
	if err != nil {
		req.failed++
		return rd.openAny(ctx, kind, id, MaxDepth, req)
	}
	if kind == kindData {
		rd.blocks.move(e, partLeanedOn)
	}
	return e, s, nil
}
