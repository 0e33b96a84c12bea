package repo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/pace"
	"github.com/generalbots/backupd/internal/store"
)

// Reader decodes blocks and hands out verified chunks. It is the one place
// where bytes of the repository become trusted: every chunk is compared with
// its id before a caller sees it. Safe for concurrent use.
//
// Where a chunk lies comes from a table made of pack trailers, or from the
// index; either is a claim that the trailer has to confirm. Of several copies
// the one of lowest depth counts, the next is tried when it can not be read.
type Reader struct {
	repo   *Repo
	tree   func(ctx context.Context, id *crypto.ID, dst []spot) ([]spot, error)
	data   func(ctx context.Context, id *crypto.ID, dst []spot) ([]spot, error)
	packs  *cache[uint32, *pack]
	files  *cache[uint32, store.Object] // those of packs that are open
	blocks *cache[blockKey, *block]
	bare   bool // it has no other look-ups than tree and data

	decoded atomic.Int64 // see Decoded

	wholeMu sync.Mutex // guards isWhole
	isWhole map[blockKey]wholeness

	decoders sync.Pool // *blockDecoder
	hashers  [2]sync.Pool
	buffers  sync.Pool // *[]byte of at least BlockSize, for blocks
	dicts    sync.Pool // *[]byte of MaxDictionarySize: kept apart, or every block would come to hold one
}

const (
	// packCacheSize bounds the trailers kept. Of decoded blocks there are three
	// parts: read ones, whose chunks were asked for, soon to be asked for once
	// more if at all; those that others lean on, wanted again by the neighbours of
	// the one that did; those with tree pages, which are read one after the other.
	packCacheSize     = 8 << 20
	readCacheSize     = 3 << 20
	leanedOnCacheSize = 12 << 20
	treeCacheSize     = 3 << 20
	// maxOpenPacks bounds the files kept open, beside those in use.
	maxOpenPacks = 256
	// readReach is what a reader accepts where a writer stays within
	// MaxReach: gc may have moved chunks into other blocks since.
	readReach = 2 * MaxReach
	// failuresAllowed bounds the copies that one decoding tries in vain: a failure is
	// not kept, and of two copies a step the 16 steps would make 65,536.
	failuresAllowed = 256
	// anyDepth is above the depth of every block.
	anyDepth = MaxDepth + 1
)

type blockKey struct{ pack, block uint32 }

// block is a decoded block.
type block struct {
	trailer *trailer
	rec     *blockRec
	plain   []byte
	buffer  *[]byte // to give back, when pooled
}

// Place says which block a chunk is decoded from. Places order reads: those
// of one pack lie together, blocks ascending.
type Place struct {
	Pack  uint32 // number of the pack in this process
	Block uint32 // ordinal in the pack
	chunk uint16
}

// Block is a decoded block that its caller holds until Release.
type Block struct {
	rd    *Reader
	entry *cached[blockKey, *block]
	held  []*cached[blockKey, *block]
}

func newReader(r *Repo) *Reader {
	rd := &Reader{repo: r}
	rd.packs = newCache[uint32, *pack](r.bounds.packs, nil)
	rd.files = newCache[uint32](r.bounds.files, func(o store.Object) { o.Close() })
	rd.blocks = newPartedCache[blockKey](blockPart, func(b *block) {
		if b.buffer != nil {
			rd.buffers.Put(b.buffer)
		}
	}, r.bounds.read, r.bounds.leanedOn, r.bounds.trees)
	return rd
}

// The parts of the cache of blocks, see readCacheSize.
const (
	partRead = iota
	partLeanedOn
	partTrees
)

func blockPart(b *block) int {
	if b.trailer.header.kind == kindTree {
		return partTrees
	}
	return partRead
}

// close drops what is cached. Blocks still held stay valid.
func (rd *Reader) close() {
	rd.packsChanged()
	rd.blocks.clear()
	rd.packs.clear()
	rd.files.clear()
}

func (rd *Reader) pack(ctx context.Context, number uint32) (*cached[uint32, *pack], error) {
	return rd.packs.get(number, func() (*pack, int64, error) {
		p, err := rd.openPack(ctx, number)
		if err != nil {
			return nil, 0, err
		}
		return p, p.memory(), nil
	})
}

// candidates gives the spots to try for a chunk, the lowest depth first, each
// confirmed by its pack's trailer, and those of depth below or more left out.
// Spots in packs that can not be read are left out too; the first such error
// is returned with what is left.
func (rd *Reader) candidates(ctx context.Context, kind packKind, id *crypto.ID, below uint8, dst []spot) ([]spot, error) {
	find := rd.data
	if kind == kindTree {
		find = rd.tree
	}
	all, err := find(ctx, id, dst)
	if err != nil {
		return nil, err
	}
	var trouble error
	good := all[:len(dst)]
	var depths [4]uint8
	for _, s := range all[len(dst):] {
		if _, there := rd.repo.catalog.alive(s.pack); !there {
			continue // gc has removed it since the table was made
		}
		e, err := rd.pack(ctx, s.pack)
		if err != nil {
			if trouble == nil {
				trouble = err
			}
			continue
		}
		ok, depth := e.val.trailer.confirm(&s, id)
		rd.packs.release(e)
		if !ok || depth >= below {
			continue
		}
		if rd.repo.isDamaged(s.pack, uint32(s.block)) {
			depth = anyDepth // tried last
		}
		// Insertion by depth; there is hardly ever more than one copy.
		at := len(good)
		for n := at - len(dst); n > 0 && n <= len(depths) && depths[n-1] > depth; n-- {
			at--
		}
		good = append(good, spot{})
		copy(good[at+1:], good[at:])
		good[at] = s
		if i := at - len(dst); i < len(depths) {
			copy(depths[i+1:], depths[i:])
			depths[i] = depth
		}
	}
	return good, trouble
}

// searchAll makes sure that look-ups find every copy of a chunk, not only the
// one the index names. It tells whether that is news, so that it pays to try
// again.
func (rd *Reader) searchAll(ctx context.Context, kind packKind) bool {
	t := &rd.repo.tables[kind-1]
	return !rd.bare && !t.loaded.Load() && rd.repo.loadTable(ctx, kind) == nil
}

// anyChunk marks a spot whose place in the block is not known.
const anyChunk = 0xffff

// confirm checks that a spot of this pack really is a copy of id, and fills
// in its place in the block when the spot does not say.
func (t *trailer) confirm(s *spot, id *crypto.ID) (ok bool, depth uint8) {
	if int(s.block) >= len(t.blocks) {
		return false, 0
	}
	r := &t.blocks[s.block]
	if s.chunk == anyChunk {
		first := binary.LittleEndian.Uint64(id[:])
		recs := t.chunks[int(r.chunkAt)*chunkRecSize:][:int(r.chunks)*chunkRecSize]
		for c := 0; len(recs) > 0; c, recs = c+1, recs[chunkRecSize:] {
			if binary.LittleEndian.Uint64(recs) == first && crypto.ID(recs[:idSize]) == *id {
				s.chunk = uint16(c)
				return true, r.depth
			}
		}
		return false, 0
	}
	if s.chunk >= r.chunks {
		return false, 0
	}
	got, _ := t.chunk(r.chunkAt + uint32(s.chunk))
	return got == *id, r.depth
}

// request holds what one decoding keeps alive and counts what it decodes.
type request struct {
	held   []*cached[blockKey, *block]
	bytes  int64
	failed int // copies that could not be decoded
	read   int // bytes of the store, not yet paid for
}

// pay spends what a request has read. It is called when nothing is being loaded any more, so that who shares a block
// with a job that is held back does not wait with it.
func (req *request) pay(ctx context.Context) error {
	if req.read == 0 {
		return nil
	}
	n := req.read
	req.read = 0
	return pace.Of(ctx).Spend(ctx, n)
}

func (rd *Reader) releaseAll(held []*cached[blockKey, *block]) {
	for _, e := range held {
		rd.blocks.release(e)
	}
}

// decode returns a decoded block, decoding it and what its dictionary leads
// to where it is not cached. A block's dictionary is only taken from blocks of
// lower depth, so no cycle is ever followed and no two loads wait for each
// other.
func (rd *Reader) decode(ctx context.Context, key blockKey, req *request) (*cached[blockKey, *block], error) {
	return rd.blocks.get(key, func() (*block, int64, error) {
		if err := ctx.Err(); err != nil {
			return nil, 0, context.Cause(ctx)
		}
		pe, err := rd.pack(ctx, key.pack)
		if err != nil {
			return nil, 0, err
		}
		defer rd.packs.release(pe)
		p := pe.val
		if int(key.block) >= len(p.trailer.blocks)-1 {
			return nil, 0, fmt.Errorf("%w: pack %s has no block %d", ErrDamaged, p.trailer.header.pack, key.block)
		}
		rec := &p.trailer.blocks[key.block]
		if req.bytes += int64(rec.plain); req.bytes > readReach {
			return nil, 0, fmt.Errorf("%w: pack %s block %d needs more than %d bytes of other blocks", ErrDamaged, p.trailer.header.pack, key.block, readReach)
		}
		in := rd.buffer(int(rec.sealed))
		req.read += int(rec.sealed)
		payload, err := p.payload(key.block, *in)
		if err == nil && rec.codec == codecStored {
			return &block{trailer: p.trailer, rec: rec, plain: payload, buffer: in}, int64(cap(*in)), nil
		}
		defer rd.buffers.Put(in)
		if err != nil {
			return nil, 0, err
		}
		b := &block{trailer: p.trailer, rec: rec, buffer: rd.buffer(int(rec.plain))}
		var dict []byte
		if rec.codec == codecDelta {
			db, _ := rd.dicts.Get().(*[]byte)
			if db == nil {
				db = new([]byte)
				*db = make([]byte, MaxDictionarySize)
			}
			defer rd.dicts.Put(db)
			if dict, err = rd.dictionary(ctx, p, rec, req, (*db)[:0]); err != nil {
				return nil, 0, fmt.Errorf("pack %s block %d: dictionary: %w", p.trailer.header.pack, key.block, err)
			}
		}
		dec, err := rd.decoder()
		if err != nil {
			return nil, 0, err
		}
		b.plain, err = dec.decode((*b.buffer)[:0], payload, dict, int(rec.plain))
		rd.decoders.Put(dec)
		if err != nil {
			rd.buffers.Put(b.buffer)
			return nil, 0, fmt.Errorf("pack %s block %d: %w", p.trailer.header.pack, key.block, err)
		}
		rd.decoded.Add(int64(rec.plain))
		return b, int64(cap(*b.buffer)), nil
	})
}

// Decoded is how many bytes of plaintext this reader has decoded so far: blocks that others lean on, trees and what was
// decoded more than once included. What is stored as it is does not count. It says what versions of a file that lean on
// each other cost to read.
func (rd *Reader) Decoded() int64 { return rd.decoded.Load() }

// dictionary puts the raw dictionary of a delta block together. Its blocks
// stay held by req, so that one request decodes each at most once.
func (rd *Reader) dictionary(ctx context.Context, p *pack, rec *blockRec, req *request, dst []byte) ([]byte, error) {
	for i := range uint32(rec.dicts) {
		id := p.trailer.dict(rec.dictAt + i)
		e, s, err := rd.openAny(ctx, p.trailer.header.kind, &id, rec.depth, req)
		if err != nil {
			return nil, err
		}
		req.held = append(req.held, e)
		chunk := e.val.chunkBytes(s.chunk)
		if len(dst)+len(chunk) > MaxDictionarySize {
			return nil, fmt.Errorf("%w: longer than %d bytes", ErrDamaged, MaxDictionarySize)
		}
		dst = append(dst, chunk...)
	}
	return dst, nil
}

// openAny decodes the block of the first copy of a chunk that can be read,
// among those of a depth below limit.
func (rd *Reader) openAny(ctx context.Context, kind packKind, id *crypto.ID, below uint8, req *request) (*cached[blockKey, *block], spot, error) {
	e, s, err := rd.openKnown(ctx, kind, id, below, req)
	if err != nil && ctx.Err() == nil && rd.searchAll(ctx, kind) {
		return rd.openKnown(ctx, kind, id, below, req)
	}
	return e, s, err
}

func (rd *Reader) openKnown(ctx context.Context, kind packKind, id *crypto.ID, below uint8, req *request) (*cached[blockKey, *block], spot, error) {
	var buf [4]spot
	spots, trouble := rd.candidates(ctx, kind, id, below, buf[:0])
	for _, s := range spots {
		if req.failed >= failuresAllowed {
			return nil, spot{}, fmt.Errorf("chunk %s: %w: %d copies of what it leans on can not be decoded", id.Short(), ErrDamaged, req.failed)
		}
		e, err := rd.decode(ctx, blockKey{s.pack, uint32(s.block)}, req)
		if err == nil {
			if kind == kindData {
				rd.blocks.move(e, partLeanedOn)
			}
			return e, s, nil
		}
		req.failed++
		if trouble == nil {
			trouble = err
		}
	}
	if trouble != nil {
		return nil, spot{}, fmt.Errorf("chunk %s: %w", id.Short(), trouble)
	}
	return nil, spot{}, fmt.Errorf("chunk %s: %w in any pack", id.Short(), ErrNotFound)
}

func (rd *Reader) buffer(size int) *[]byte {
	b, _ := rd.buffers.Get().(*[]byte)
	if b == nil || cap(*b) < size+decodeSlack {
		s := make([]byte, max(size, BlockSize)+decodeSlack)
		b = &s
	}
	*b = (*b)[:cap(*b)]
	return b
}

func (rd *Reader) decoder() (*blockDecoder, error) {
	if d, ok := rd.decoders.Get().(*blockDecoder); ok {
		return d, nil
	}
	return newBlockDecoder()
}

func (rd *Reader) hasher(kind packKind) *crypto.Hasher {
	if h, ok := rd.hashers[kind-1].Get().(*crypto.Hasher); ok {
		return h
	}
	return crypto.NewHasher(rd.repo.idKey(kind))
}

// chunkBytes returns one chunk of a block, not verified.
func (b *block) chunkBytes(chunk uint16) []byte {
	off := 0
	for c := range uint32(chunk) {
		_, n := b.trailer.chunk(b.rec.chunkAt + c)
		off += int(n)
	}
	_, n := b.trailer.chunk(b.rec.chunkAt + uint32(chunk))
	return b.plain[off : off+int(n)]
}

// verified returns one chunk after comparing it with its id.
func (rd *Reader) verified(b *block, chunk uint16) ([]byte, error) {
	p := b.chunkBytes(chunk)
	kind := b.trailer.header.kind
	h := rd.hasher(kind)
	got := h.Sum(p)
	rd.hashers[kind-1].Put(h)
	if want, _ := b.trailer.chunk(b.rec.chunkAt + uint32(chunk)); got != want {
		return nil, fmt.Errorf("pack %s: chunk %s: %w: its content has another id", b.trailer.header.pack, want.Short(), ErrDamaged)
	}
	return p, nil
}

// Locate says where a data chunk is decoded from: its copy of lowest depth.
// ErrNotFound when no pack holds it.
func (rd *Reader) Locate(ctx context.Context, id crypto.ID) (Place, error) {
	var buf [4]spot
	spots, err := rd.candidates(ctx, kindData, &id, anyDepth, buf[:0])
	for i, s := range spots {
		whole, _ := rd.whole(ctx, blockKey{s.pack, uint32(s.block)})
		if whole || i == len(spots)-1 {
			return Place{Pack: s.pack, Block: uint32(s.block), chunk: s.chunk}, nil
		}
	}
	if ctx.Err() == nil && rd.searchAll(ctx, kindData) {
		return rd.Locate(ctx, id)
	}
	if err == nil {
		err = fmt.Errorf("chunk %s: %w in any pack", id.Short(), ErrNotFound)
	}
	return Place{}, err
}

// Depth says how deep the block lies that a data chunk is decoded from; beyond
// MaxDepth when no pack that can be read holds the chunk.
func (rd *Reader) Depth(ctx context.Context, id crypto.ID) uint8 {
	var buf [4]spot
	spots, _ := rd.candidates(ctx, kindData, &id, anyDepth, buf[:0])
	if len(spots) == 0 {
		return anyDepth
	}
	e, err := rd.pack(ctx, spots[0].pack)
	if err != nil {
		return anyDepth
	}
	defer rd.packs.release(e)
	return e.val.trailer.blocks[spots[0].block].depth
}

// OpenBlock decodes the block of a place. Its bytes stay valid until Release.
func (rd *Reader) OpenBlock(ctx context.Context, p Place) (*Block, error) {
	var req request
	e, err := rd.decode(ctx, blockKey{p.Pack, p.Block}, &req)
	if err == nil {
		if err = req.pay(ctx); err != nil {
			rd.blocks.release(e)
		}
	}
	if err != nil {
		rd.releaseAll(req.held)
		return nil, err
	}
	return &Block{rd: rd, entry: e, held: req.held}, nil
}

// Chunk returns the verified bytes of the chunk at a place of this block,
// valid until Release.
func (b *Block) Chunk(p Place) ([]byte, error) { return b.rd.verified(b.entry.val, p.chunk) }

// Release gives the block back.
func (b *Block) Release() {
	b.rd.blocks.release(b.entry)
	b.rd.releaseAll(b.held)
}

// AppendChunk appends the verified bytes of a data chunk to dst, trying its
// copies one after the other. ErrNotFound when no pack holds it.
func (rd *Reader) AppendChunk(ctx context.Context, dst []byte, id crypto.ID) ([]byte, error) {
	return rd.appendChunk(ctx, kindData, dst, &id)
}

func (rd *Reader) appendChunk(ctx context.Context, kind packKind, dst []byte, id *crypto.ID) ([]byte, error) {
	out, err := rd.appendKnown(ctx, kind, dst, id)
	if err != nil && ctx.Err() == nil && rd.searchAll(ctx, kind) {
		return rd.appendKnown(ctx, kind, dst, id)
	}
	return out, err
}

func (rd *Reader) appendKnown(ctx context.Context, kind packKind, dst []byte, id *crypto.ID) ([]byte, error) {
	var buf [4]spot
	spots, trouble := rd.candidates(ctx, kind, id, anyDepth, buf[:0])
	for _, s := range spots {
		var req request
		e, err := rd.decode(ctx, blockKey{s.pack, uint32(s.block)}, &req)
		if err == nil {
			var p []byte
			if p, err = rd.verified(e.val, s.chunk); err == nil {
				dst = append(dst, p...)
			}
			rd.blocks.release(e)
		}
		rd.releaseAll(req.held)
		if perr := req.pay(ctx); perr != nil {
			return nil, perr
		}
		if err == nil {
			return dst, nil
		}
		if trouble == nil || errors.Is(trouble, ErrNotFound) {
			trouble = err
		}
	}
	if trouble == nil {
		trouble = fmt.Errorf("%w in any pack", ErrNotFound)
	}
	return nil, fmt.Errorf("chunk %s: %w", id.Short(), trouble)
}

// page returns the bytes of a tree page, for ever valid and never modified.
func (rd *Reader) page(ctx context.Context, id crypto.ID) ([]byte, error) {
	return rd.appendChunk(ctx, kindTree, nil, &id)
}

// length returns the length of a chunk, if any pack has it.
func (rd *Reader) length(ctx context.Context, kind packKind, id *crypto.ID) (uint32, bool) {
	var buf [4]spot
	spots, _ := rd.candidates(ctx, kind, id, anyDepth, buf[:0])
	if len(spots) == 0 {
		return 0, false
	}
	return rd.lengthAt(ctx, spots[0])
}

// lengthAt returns the length of the chunk at a confirmed spot, if its pack can
// be read.
func (rd *Reader) lengthAt(ctx context.Context, s spot) (uint32, bool) {
	e, err := rd.pack(ctx, s.pack)
	if err != nil {
		return 0, false
	}
	defer rd.packs.release(e)
	t := e.val.trailer
	_, n := t.chunk(t.blocks[s.block].chunkAt + uint32(s.chunk))
	return n, true
}
