package repo

import (
	"context"
	"fmt"
	"math/bits"
	"sync"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/index"
	"github.com/generalbots/backupd/internal/pace"
	"github.com/generalbots/backupd/internal/store"
)

// newBlock is a block on its way into a pack: encoded, verified, not sealed.
type newBlock struct {
	payload []byte
	codec   codec
	plain   int
	depth   uint8
	reach   uint32
	dict    []crypto.ID
	chunks  []Ref
}

// packStream writes the packs of one kind, one after the other. Any number of
// goroutines add blocks; only reserving a place is serial, sealing and writing
// are not. A full pack is published by a goroutine of its own, so that the
// next one fills meanwhile.
//
// Crash windows: until Commit of the store object returns there is at most a
// temporary file. Between it and the index there is a pack that no index
// knows, which the next start reads again. Nothing refers to either.
type packStream struct {
	ctx      context.Context // of the writer: packs are published under it, whoever filled them
	kind     packKind
	epoch    uint32
	repo     crypto.RepoID
	writer   writerID
	key      crypto.Key
	size     int64
	store    store.Store
	pace     *pace.Pace
	publish  func(ctx context.Context, p *packResult) error // records a durable pack
	slots    chan struct{}                                  // bounds packs being published
	buffers  chan []byte                                    // for sealed parts, to be used again
	tables   chan packTable                                 // of a pack that is done, to be used again
	failed   func(error)                                    // told once of the first failure
	finished sync.WaitGroup

	mu  sync.Mutex // guards cur and its table
	cur *openPack
}

// packResult is a durable pack and what it holds.
type packResult struct {
	id      crypto.PackID
	kind    packKind
	size    int64
	entries []index.Entry
	trailer *trailer
}

// openPack is a pack that still takes blocks.
type openPack struct {
	id     crypto.PackID
	obj    store.Writer
	sealer *crypto.PackSealer
	header [headerSize]byte
	used   int64
	packTable

	inflight sync.WaitGroup // blocks reserved and not yet written
	mu       sync.Mutex     // guards err
	err      error
}

// packTable is what the trailer of a pack will say.
type packTable struct {
	blocks []blockRec
	dicts  []byte
	chunks []byte
}

// What is kept to be used again, so that it is not made anew for each pack or
// after each collection of garbage: buffers for sealed parts, of which there are
// more when there are more lanes, and the table of one pack that is done.
const (
	sealedSpare = 4
	tablesSpare = 1
)

// publishing is how many packs of one kind may be on their way to the disk
// while another one fills.
const publishing = 2

// packIDs is where a pack is closed, however few bytes it has: that many ids of
// chunks and dictionaries stand in its table. What a writer keeps of a pack that
// is open or on its way, and a reader of its trailer, is bounded by it; without
// it that would grow as files get smaller.
const packIDs = 16 << 10

// crowded says whether the table of a pack may be so long that another block
// finds no place in it.
func crowded(dicts, chunks int) bool {
	return dicts+chunks > packIDs-MaxDictionaryChunks-MaxChunksPerBlock
}

// space says whether there is room in the table for so many ids more.
func (p *openPack) space(dicts, chunks int) bool {
	return len(p.dicts)/idSize+dicts+len(p.chunks)/chunkRecSize+chunks <= packIDs
}

// room says whether a block with these figures still fits, leaving place for
// a pad, the trailer and the footer.
func (p *openPack) room(size int64, sealed, dicts, chunks int) bool {
	if len(p.blocks)+2 > MaxBlocksPerPack || !p.space(dicts, chunks) {
		return false
	}
	tr := trailerPlainSize(len(p.blocks)+2, len(p.dicts)/idSize+dicts, len(p.chunks)/chunkRecSize+chunks)
	return p.used+int64(sealed)+crypto.Overhead+int64(tr)+crypto.Overhead+footerSize <= size
}

// add seals b into the open pack and returns when its bytes are written. The
// payload may be reused then.
func (s *packStream) add(ctx context.Context, b *newBlock) error {
	sealed := len(b.payload) + crypto.Overhead
	s.mu.Lock()
	if s.cur != nil && !s.cur.room(s.size, sealed, len(b.dict), len(b.chunks)) {
		last := s.cur
		s.cur = nil
		if err := s.hand(last, last.space(len(b.dict), len(b.chunks))); err != nil {
			s.mu.Unlock()
			return err
		}
	}
	if s.cur == nil {
		p, err := s.open(s.ctx)
		if err != nil {
			s.mu.Unlock()
			return err
		}
		s.cur = p
		if !p.room(s.size, sealed, len(b.dict), len(b.chunks)) {
			s.mu.Unlock()
			return fmt.Errorf("a block of %d bytes does not fit a pack of %d", sealed, s.size)
		}
	}
	p := s.cur
	ordinal := uint32(len(p.blocks))
	offset := p.used
	p.used += int64(sealed)
	p.blocks = append(p.blocks, blockRec{
		sealed: uint32(sealed), plain: uint32(b.plain), reach: b.reach, codec: b.codec, depth: b.depth,
		dicts: uint16(len(b.dict)), chunks: uint16(len(b.chunks)), offset: uint32(offset),
		dictAt: uint32(len(p.dicts) / idSize), chunkAt: uint32(len(p.chunks) / chunkRecSize),
	})
	for i := range b.dict {
		p.dicts = append(p.dicts, b.dict[i][:]...)
	}
	for i := range b.chunks {
		p.chunks = appendChunkRec(p.chunks, &b.chunks[i])
	}
	p.inflight.Add(1)
	s.mu.Unlock()

	err := s.write(p, partBlock, b.codec, ordinal, b.payload, offset)
	if err != nil {
		p.fail(err)
	}
	p.inflight.Done()
	if err == nil {
		err = s.pace.Spend(ctx, sealed)
	}
	return err
}

func appendChunkRec(dst []byte, r *Ref) []byte {
	dst = append(dst, r.ID[:]...)
	return append(dst, byte(r.Len), byte(r.Len>>8), byte(r.Len>>16), byte(r.Len>>24))
}

func (p *openPack) fail(err error) {
	p.mu.Lock()
	if p.err == nil {
		p.err = err
	}
	p.mu.Unlock()
}

// write seals one part and puts it at its offset. Each (part, ordinal) of a
// pack passes here once; the caller hands the ordinals out.
func (s *packStream) write(p *openPack, part byte, c codec, ordinal uint32, plain []byte, offset int64) error {
	var buf []byte
	select {
	case buf = <-s.buffers:
	default:
	}
	var aadBuf [aadSize]byte
	aad := appendAAD(aadBuf[:0], &p.header, part, c, ordinal, len(plain), len(plain)+crypto.Overhead)
	if n := len(plain) + crypto.Overhead; cap(buf) < n {
		buf = make([]byte, 0, max(n, BlockSize/2))
	}
	buf = p.sealer.Seal(buf[:0], plain, aad, part, ordinal)
	_, err := p.obj.WriteAt(buf, offset)
	if cap(buf) <= 2*BlockSize {
		select {
		case s.buffers <- buf:
		default:
		}
	}
	return err
}

// open starts a pack. Space for a full one is reserved here, so that a full
// disk shows before work is spent.
func (s *packStream) open(ctx context.Context) (*openPack, error) {
	id, err := crypto.NewPackID()
	if err != nil {
		return nil, err
	}
	obj, err := s.store.Create(ctx, packName(id, s.kind), s.size)
	if err != nil {
		return nil, err
	}
	if s.kind == kindData {
		store.Passing(obj) // trees are read by the next backup, data by who restores
	}
	h := packHeader{kind: s.kind, epoch: s.epoch, repo: s.repo, pack: id, writer: s.writer}
	p := &openPack{id: id, obj: obj, sealer: crypto.NewPackSealer(s.key, id), header: h.encode(), used: headerSize}
	select {
	case p.packTable = <-s.tables:
	default:
	}
	if _, err := obj.WriteAt(p.header[:], 0); err != nil {
		obj.Abort()
		return nil, err
	}
	return p, nil
}

// hand gives a pack to a publisher; it waits while too many are under way. A
// full one gets the size of a pack, another that of what is in it. mu is held.
func (s *packStream) hand(p *openPack, full bool) error {
	select {
	case s.slots <- struct{}{}:
	case <-s.ctx.Done():
		p.inflight.Wait()
		p.obj.Abort()
		return context.Cause(s.ctx)
	}
	s.finished.Go(func() {
		defer func() { <-s.slots }()
		s.pace.Thread()
		if err := s.finish(s.ctx, p, full); err != nil {
			s.failed(err)
		}
	})
	return nil
}

// finish pads a pack, writes its trailer, makes it durable and has it
// recorded: the order of P3 to P8 of the publish protocol.
func (s *packStream) finish(ctx context.Context, p *openPack, full bool) error {
	defer p.obj.Abort()
	p.inflight.Wait()
	if p.err != nil {
		return p.err
	}
	plainTrailer := trailerPlainSize(len(p.blocks)+1, len(p.dicts)/idSize, len(p.chunks)/chunkRecSize)
	end := int64(plainTrailer) + crypto.Overhead + footerSize
	size := s.size
	if !full {
		size = min(s.size, tailSize(p.used+crypto.Overhead+end))
	}
	pad := size - p.used - end - crypto.Overhead
	if pad < 0 {
		return fmt.Errorf("pack layout: %d bytes too many", -pad) // room was wrong: our bug
	}
	ordinal := uint32(len(p.blocks))
	p.blocks = append(p.blocks, blockRec{sealed: uint32(pad) + crypto.Overhead, plain: uint32(pad), codec: codecPad, offset: uint32(p.used)})
	if err := s.write(p, partPad, codecPad, ordinal, make([]byte, pad), p.used); err != nil {
		return err
	}
	plain := encodeTrailer(p.blocks, p.dicts, p.chunks)
	select {
	case s.tables <- packTable{p.blocks[:0], p.dicts[:0], p.chunks[:0]}:
	default:
	}
	p.packTable = packTable{}
	at := size - end
	if err := s.write(p, partTrailer, codecStored, 0, plain, at); err != nil {
		return err
	}
	footer := encodeFooter(len(plain) + crypto.Overhead)
	if _, err := p.obj.WriteAt(footer[:], size-footerSize); err != nil {
		return err
	}
	if err := p.obj.Commit(ctx); err != nil {
		return err
	}
	t, err := decodeTrailer(plain, size, len(plain)+crypto.Overhead)
	if err != nil {
		return fmt.Errorf("pack %s: what was written does not read back: %v", p.id, err)
	}
	t.header = packHeader{kind: s.kind, epoch: s.epoch, repo: s.repo, pack: p.id, writer: s.writer}
	return s.publish(ctx, &packResult{id: p.id, kind: s.kind, size: size, entries: t.entries(), trailer: t})
}

// flush closes the open pack as a tail and waits until every pack is durable
// and recorded. Failures have reached failed by then.
func (s *packStream) flush() error {
	s.mu.Lock()
	p := s.cur
	s.cur = nil
	var err error
	if p != nil {
		err = s.hand(p, false)
	}
	s.mu.Unlock()
	s.finished.Wait()
	return err
}

// abandon drops what is not published yet.
func (s *packStream) abandon() {
	s.mu.Lock()
	p := s.cur
	s.cur = nil
	s.mu.Unlock()
	if p != nil {
		p.inflight.Wait()
		p.obj.Abort()
	}
	s.finished.Wait()
}

// entries lists what an index keeps of a pack.
func (t *trailer) entries() []index.Entry {
	out := make([]index.Entry, 0, t.chunkCount())
	for b := range t.blocks {
		r := &t.blocks[b]
		var off uint32
		for c := range uint32(r.chunks) {
			id, n := t.chunk(r.chunkAt + c)
			out = append(out, index.Entry{ID: id, Place: index.Place{
				Pack: t.header.pack, Block: uint32(b), Offset: off, Length: n, Depth: r.depth,
			}})
			off += n
		}
	}
	return out
}

// tailSize is the size of a pack that was closed before it was full: at least
// MinTailSize and a Padmé size above, which leaks O(log log n) bits of the
// true one (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files
// and Communication with PURBs", 2019).
func tailSize(n int64) int64 {
	if n <= MinTailSize {
		return MinTailSize
	}
	e := bits.Len64(uint64(n)) - 1
	s := bits.Len64(uint64(e))
	mask := int64(1)<<(e-s) - 1
	return (n + mask) &^ mask
}
