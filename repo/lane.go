package repo

import (
	"context"
	"fmt"
	"slices"

	"github.com/generalbots/backupd/crypto"
)

// dictionaryTarget is where a dictionary stops growing: longer ones take
// longer to encode with than they save.
const dictionaryTarget = 320 << 10

// apartFrom: a delta block of that size takes no chunk that leans on nothing the block leans on, and a plain one none of an
// old file that stands behind a known chunk. Chunks changed here and there in a file would else come to lie in one block,
// and a restore, which goes through the file, would decode it and all it leads to for each of the places, as the cache can
// not keep all of them until the next.
const apartFrom = 32 << 10

// Lane turns the chunks of one stream into blocks. A lane belongs to one
// goroutine, which spends its own time on hashing, compressing and sealing,
// so a backup uses as many cores as it has lanes. Flush before
// Writer.Commit.
type Lane struct {
	Identifier
	w     *Writer
	kind  packKind
	enc   *blockEncoder
	plain openBlock
	delta openBlock
	dict  []byte
	gap   bool // what was put last is stored elsewhere
}

// Identifier names chunks as one repository does. One goroutine at a time.
type Identifier struct{ hasher *crypto.Hasher }

// Ref names a chunk. It allocates nothing.
func (i *Identifier) Ref(chunk []byte) Ref {
	return Ref{ID: i.hasher.Sum(chunk), Len: uint32(len(chunk))}
}

// openBlock collects chunks until there are enough for a block.
type openBlock struct {
	buf    []byte
	chunks []Ref
	like   []Ref    // chunks of the dictionary, in order, each once
	where  []spot   // they are; chunk is anyChunk where that is not known
	size   int      // bytes of like
	of     []*Guess // whose chunks there are, each once
}

// Identifier returns a namer of data chunks for one goroutine that has no lane.
func (w *Writer) Identifier() Identifier {
	return Identifier{crypto.NewHasher(w.r.idKey(kindData))}
}

// NewLane returns a lane for data chunks.
func (w *Writer) NewLane() (*Lane, error) { return w.newLane(kindData) }

func (w *Writer) newLane(kind packKind) (*Lane, error) {
	enc, err := newBlockEncoder(w.level)
	if err != nil {
		return nil, err
	}
	enc.log = w.r.log
	return &Lane{Identifier: Identifier{crypto.NewHasher(w.r.idKey(kind))}, w: w, kind: kind, enc: enc}, nil
}

// Put stores a chunk, named ref by Ref, unless the repository or this writer
// has it. like names chunks of the base version that stood where this one
// stands, in order; the chunk is then written as a delta against them where
// that pays. isNew tells whether the chunk was not known before. The chunk is
// copied.
//
// An error is final for the writer: nothing it has put can be committed.
func (l *Lane) Put(ctx context.Context, chunk []byte, ref Ref, like []Ref) (isNew bool, err error) {
	return l.PutGuess(ctx, chunk, ref, like, nil)
}

// PutGuess is Put for a chunk of which g has been asked and is to hear whether
// what it was compared with was any good.
func (l *Lane) PutGuess(ctx context.Context, chunk []byte, ref Ref, like []Ref, g *Guess) (isNew bool, err error) {
	if len(chunk) == 0 || len(chunk) > MaxChunkSize || int(ref.Len) != len(chunk) {
		return false, fmt.Errorf("chunk of %d bytes, named as %d: a chunk has 1 to %d", len(chunk), ref.Len, MaxChunkSize)
	}
	known, err := l.w.known(ctx, l.kind, &ref.ID)
	if err != nil || known {
		l.gap = true
		return false, l.w.check(err)
	}
	if len(like) > 0 {
		err = l.putDelta(ctx, chunk, ref, like, g)
	} else {
		if l.gap && g != nil && len(l.plain.buf) >= apartFrom {
			err = l.flushPlain(ctx, &l.plain)
		}
		if err == nil {
			err = l.putPlain(ctx, chunk, ref)
		}
	}
	l.gap = false
	return true, l.w.check(err)
}

// Gap says that known chunks, which are not put, stand between the last one put and the next.
func (l *Lane) Gap() { l.gap = true }

func (b *openBlock) fits(chunk []byte) bool {
	return len(b.buf)+len(chunk) <= BlockSize && len(b.chunks) < MaxChunksPerBlock
}

func (b *openBlock) add(chunk []byte, ref Ref) {
	if free := b.free(); len(free) >= len(chunk) && &free[0] == &chunk[0] {
		b.buf = b.buf[:len(b.buf)+len(chunk)] // it stands there already
	} else {
		b.buf = append(b.buf, chunk...)
	}
	b.chunks = append(b.chunks, ref)
}

// free is the rest of the block's buffer.
func (b *openBlock) free() []byte {
	if b.buf == nil {
		b.buf = make([]byte, 0, BlockSize)
	}
	return b.buf[len(b.buf):cap(b.buf)]
}

// Room returns n bytes of the block being filled, nil when it has not as many
// left. What is read into them and put as chunks, in order and before anything
// else asks for room, is copied no further where it is new. They are valid until
// the next Room or Flush; what Put does with the block between two of the chunks
// leaves those behind as they are.
func (l *Lane) Room(n int) []byte {
	free := l.plain.free()
	if n > len(free) {
		return nil
	}
	return free[:n:n]
}

func (b *openBlock) reset() {
	if cap(b.buf) > BlockSize {
		b.buf = nil
	}
	clear(b.of)
	b.buf, b.chunks, b.like, b.where, b.size, b.of = b.buf[:0], b.chunks[:0], b.like[:0], b.where[:0], 0, b.of[:0]
}

func (l *Lane) putPlain(ctx context.Context, chunk []byte, ref Ref) error {
	if !l.plain.fits(chunk) {
		if err := l.flushPlain(ctx, &l.plain); err != nil {
			return err
		}
	}
	l.plain.add(chunk, ref)
	return nil
}

func (l *Lane) putDelta(ctx context.Context, chunk []byte, ref Ref, like []Ref, g *Guess) error {
	more, all := l.delta.missing(like)
	apart := more == all && len(l.delta.buf) >= apartFrom
	if len(l.delta.chunks) > 0 && (apart || !l.delta.fits(chunk) || l.delta.size+more > dictionaryTarget) {
		if err := l.flushDelta(ctx); err != nil {
			return err
		}
	}
	l.delta.add(chunk, ref)
	if g != nil && !slices.Contains(l.delta.of, g) {
		l.delta.of = append(l.delta.of, g)
	}
	for _, r := range like {
		if l.delta.has(r.ID) {
			continue
		}
		if l.delta.size+int(r.Len) > MaxDictionarySize || len(l.delta.like) == MaxDictionaryChunks {
			break
		}
		// The block is full some chunks later: until then it is read.
		s, ok := l.w.r.reader.locate(ctx, l.kind, &r.ID)
		if !ok {
			s.chunk = anyChunk
		}
		l.delta.like, l.delta.where = append(l.delta.like, r), append(l.delta.where, s)
		l.delta.size += int(r.Len)
	}
	return nil
}

// has looks backwards, as the likes of neighbours overlap at the end.
func (b *openBlock) has(id crypto.ID) bool {
	for i := len(b.like) - 1; i >= 0; i-- {
		if b.like[i].ID == id {
			return true
		}
	}
	return false
}

// missing returns how many bytes of like the dictionary has not yet, and how many there are.
func (b *openBlock) missing(like []Ref) (bytes, all int) {
	for _, r := range like {
		all += int(r.Len)
		if !b.has(r.ID) {
			bytes += int(r.Len)
		}
	}
	return bytes, all
}

// Flush writes the blocks that are still open. The lane can go on afterwards.
func (l *Lane) Flush(ctx context.Context) error {
	if err := l.flushDelta(ctx); err != nil {
		return l.w.check(err)
	}
	return l.w.check(l.flushPlain(ctx, &l.plain))
}

func (l *Lane) flushPlain(ctx context.Context, b *openBlock) error {
	if len(b.chunks) == 0 {
		return nil
	}
	payload, c, err := l.enc.plain(b.buf)
	if err != nil {
		return err
	}
	return l.store(ctx, b, &newBlock{payload: payload, codec: c, reach: uint32(len(b.buf))})
}

func (l *Lane) store(ctx context.Context, b *openBlock, nb *newBlock) error {
	nb.plain, nb.chunks = len(b.buf), b.chunks
	if err := l.w.stream(l.kind).add(ctx, nb); err != nil {
		return err
	}
	l.w.newBytes.Add(int64(len(b.buf)))
	l.w.storedBytes.Add(int64(len(nb.payload) + crypto.Overhead))
	if nb.codec == codecDelta {
		l.w.deltaBlocks.Add(1)
	}
	b.reset()
	return nil
}

// flushDelta writes the delta block, or a plain one when its dictionary can
// not be had, lies too deep, reaches too far or does not pay.
func (l *Lane) flushDelta(ctx context.Context) error {
	b := &l.delta
	if len(b.chunks) == 0 {
		return nil
	}
	d, err := l.gather(ctx, b.like, b.where)
	if err != nil {
		return err
	}
	if d == nil {
		return l.flushPlain(ctx, b)
	}
	reach := d.reach + int64(len(b.buf))
	if d.depth > MaxDepth || reach > MaxReach {
		return l.flushPlain(ctx, b)
	}
	var payload []byte
	var c codec
	if l.kind == kindTree {
		payload, c, err = l.enc.page(b.buf, l.dict)
	} else {
		n := len(l.dict)
		l.dict = append(l.dict, b.buf...)
		payload, c, err = l.enc.withDictionary(l.dict, n)
	}
	if err != nil {
		return err
	}
	for _, g := range b.of {
		g.note(c == codecDelta, len(b.buf))
	}
	nb := &newBlock{payload: payload, codec: c, reach: uint32(len(b.buf))}
	if c == codecDelta {
		nb.depth, nb.reach, nb.dict = d.depth, uint32(reach), d.ids
	}
	return l.store(ctx, b, nb)
}

// dictionary describes the bytes in Lane.dict.
type dictionary struct {
	ids   []crypto.ID
	depth uint8 // of a block that leans on it
	reach int64 // plaintext bytes of all blocks it leads to
}

// gather reads the chunks of a dictionary, from where they are, into l.dict; nil
// when there is none to be had. A chunk that can not be read is left out rather than reported
// here: check finds it, and a dictionary is only worth having.
func (l *Lane) gather(ctx context.Context, like []Ref, where []spot) (*dictionary, error) {
	rd := l.w.r.reader
	damaged := l.w.r.damaged.Load().count() > 0
	var req request
	defer func() { rd.releaseAll(req.held) }()
	d := &dictionary{}
	from := make([]blockKey, 0, 8)
	l.dict = l.dict[:0]
	for i, r := range like {
		e, s, err := rd.openAt(ctx, l.kind, &r.ID, where[i], &req)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			continue
		}
		req.held = append(req.held, e)
		// A cache may still have what a check could not read any more.
		if damaged && !l.w.usable(ctx, s.pack, uint32(s.block)) {
			continue
		}
		// Compared with its id like any chunk: the block that leans on it is
		// verified against these very bytes, so a flipped bit would go unseen.
		chunk, err := rd.verified(e.val, s.chunk)
		if err != nil {
			continue
		}
		if len(l.dict)+len(chunk) > MaxDictionarySize {
			break
		}
		l.dict = append(l.dict, chunk...)
		d.ids = append(d.ids, r.ID)
		d.depth = max(d.depth, e.val.rec.depth+1)
		if key := (blockKey{s.pack, uint32(s.block)}); len(from) == 0 || from[len(from)-1] != key {
			from = append(from, key)
		}
	}
	if err := req.pay(ctx); err != nil {
		return nil, err
	}
	if len(d.ids) == 0 {
		return nil, nil
	}
	var err error
	d.reach, err = l.w.leaning.reach(ctx, from, MaxReach)
	return d, err
}

// putPage stores a tree page; it makes the tree lane a pageSink.
func (l *Lane) putPage(ctx context.Context, page []byte, like []crypto.ID) (crypto.ID, error) {
	refs := make([]Ref, 0, len(like))
	for i := range like {
		if n, ok := l.w.r.reader.length(ctx, kindTree, &like[i]); ok {
			refs = append(refs, Ref{ID: like[i], Len: n})
		}
	}
	ref := l.Ref(page)
	_, err := l.Put(ctx, page, ref, refs)
	return ref.ID, err
}
