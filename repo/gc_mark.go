package repo

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/generalbots/backupd/crypto"
)

// idFilter is a Bloom filter over chunk ids. Ids are keyed hashes, so their
// words serve as the hash functions (Kirsch and Mitzenmacher, "Less Hashing,
// Same Performance", 2006); the salt makes false positives others in every run.
type idFilter struct {
	bits []uint64
	mask uint64
	salt [2]uint64
}

const (
	// filterBits is the size of a filter in bits a chunk, filterHashes the
	// positions of each: false positives below 0.06 %.
	filterBits   = 16
	filterHashes = 8
)

func newIDFilter(chunks int, salt [2]uint64) *idFilter {
	n := max(1<<12, 1<<bits.Len(uint(chunks*filterBits-1)))
	return &idFilter{bits: make([]uint64, n/64), mask: uint64(n - 1), salt: salt}
}

func (f *idFilter) words(id *crypto.ID) (a, b uint64) {
	a = (binary.LittleEndian.Uint64(id[8:]) ^ f.salt[0]) * 0x9e3779b97f4a7c15
	b = (binary.LittleEndian.Uint64(id[16:])^f.salt[1])*0xc2b2ae3d27d4eb4f | 1
	return a ^ a>>29, b
}

func (f *idFilter) add(id *crypto.ID) {
	a, b := f.words(id)
	for range filterHashes {
		f.bits[a&f.mask/64] |= 1 << (a % 64)
		a += b
		b += 0x9e3779b9
	}
}

func (f *idFilter) has(id *crypto.ID) bool {
	a, b := f.words(id)
	for range filterHashes {
		if f.bits[a&f.mask/64]&(1<<(a%64)) == 0 {
			return false
		}
		a += b
		b += 0x9e3779b9
	}
	return true
}

func (f *idFilter) clone() *idFilter {
	c := *f
	c.bits = append([]uint64(nil), f.bits...)
	return &c
}

// garbage is what one gc knows.
type garbage struct {
	r      *Repo
	packs  []uint32
	chunks int
	salt   [2]uint64
	// deep lists, by depth, the packs that have delta blocks of it.
	deep [MaxDepth + 1][]uint32

	reach    *idFilter // what the trees of live snapshots name, pages included
	leaned   *idFilter // that, and what dictionaries of live blocks name
	live     *idFilter // the same once the blocks in reencode have lost theirs
	reencode map[blockKey]int64
	winners  map[crypto.ID]spot // of chunks with several copies, the one that stays
}

// newGarbage reads all trailers once. A pack that can not be read stops gc:
// it may hold dictionaries, and lead to chunks that look dead without it.
func newGarbage(ctx context.Context, r *Repo) (*garbage, error) {
	g := &garbage{r: r, packs: r.catalog.all(0)}
	var b [16]byte
	rand.Read(b[:])
	g.salt = [2]uint64{binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])}
	seen := 0
	err := r.eachTrailer(ctx, g.packs, func(n uint32, t *trailer) error {
		seen++
		g.chunks += t.chunkCount()
		g.noteDepths(n, t)
		return nil
	})
	if err == nil && seen != len(g.packs) {
		err = fmt.Errorf("%w: %d of %d packs can not be read, so nothing is deleted; \"backupd repo check\" names them", ErrDamaged, len(g.packs)-seen, len(g.packs))
	}
	return g, err
}

func (g *garbage) noteDepths(n uint32, t *trailer) {
	var at [MaxDepth + 1]bool
	for i := range t.blocks {
		at[t.blocks[i].depth] = true
	}
	for d := 1; d <= MaxDepth; d++ {
		if at[d] {
			g.deep[d] = append(g.deep[d], n)
		}
	}
}

// mark finds what is live, and which delta blocks are better without their
// dictionary.
func (g *garbage) mark(ctx context.Context) (err error) {
	if g.reach, err = g.follow(ctx, g.r.Snapshots()); err != nil {
		return err
	}
	if g.leaned, err = g.close(ctx, g.reach, &g.deep, nil); err != nil {
		return err
	}
	g.live = g.leaned
	if g.reencode, err = g.deadWeight(ctx); err != nil {
		return err
	}
	if len(g.reencode) > 0 {
		if g.live, err = g.close(ctx, g.reach, &g.deep, g.reencode); err != nil {
			return err
		}
	}
	return g.chooseCopies(ctx)
}

// follow marks all pages and chunks the trees of snapshots name.
func (g *garbage) follow(ctx context.Context, snaps []*Snapshot) (*idFilter, error) {
	f := newIDFilter(g.chunks, g.salt)
	visited := make(map[crypto.ID]struct{})
	for _, s := range snaps {
		for i := range s.Parts {
			if s.Parts[i].Failed && len(s.Parts[i].Root) == 0 {
				continue
			}
			root, err := g.r.Root(&s.Parts[i])
			if err == nil {
				err = walkTree(ctx, g.r.reader, root.Dir, func(id crypto.ID, _ pageKind) bool {
					if _, seen := visited[id]; seen {
						return false
					}
					visited[id] = struct{}{}
					f.add(&id)
					return true
				}, func(ref Ref) { f.add(&ref.ID) })
			}
			if err != nil {
				if ctx.Err() != nil {
					return nil, context.Cause(ctx)
				}
				return nil, fmt.Errorf("snapshot %s can not be followed, so nothing is deleted: %w", s.ID, err)
			}
		}
	}
	return f, nil
}

// close adds what dictionaries of live blocks name. A block leans only on
// blocks of lower depth, so one pass from the deepest down is enough. Blocks
// in without are treated as if they had no dictionary.
func (g *garbage) close(ctx context.Context, reach *idFilter, deep *[MaxDepth + 1][]uint32, without map[blockKey]int64) (*idFilter, error) {
	f := reach.clone()
	for d := MaxDepth; d >= 1; d-- {
		err := g.each(ctx, deep[d], func(n uint32, t *trailer) error {
			for b := range t.blocks {
				rec := &t.blocks[b]
				if int(rec.depth) != d || without[blockKey{n, uint32(b)}] > 0 || !anyIn(t, rec, f) {
					continue
				}
				for i := range uint32(rec.dicts) {
					id := t.dict(rec.dictAt + i)
					f.add(&id)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return f, nil
}

// each is eachTrailer where a pack left out is an error.
func (g *garbage) each(ctx context.Context, packs []uint32, use func(n uint32, t *trailer) error) error {
	seen := 0
	err := g.r.eachTrailer(ctx, packs, func(n uint32, t *trailer) error { seen++; return use(n, t) })
	if err == nil && seen != len(packs) {
		err = fmt.Errorf("%w: a pack can not be read any more, so nothing is deleted", ErrDamaged)
	}
	return err
}

func anyIn(t *trailer, rec *blockRec, f *idFilter) bool {
	for c := range uint32(rec.chunks) {
		if id, _ := t.chunk(rec.chunkAt + c); f.has(&id) {
			return true
		}
	}
	return false
}

// maxWeighed bounds the chunks deadWeight keeps in memory; with more it does
// nothing, which costs space and no data.
const maxWeighed = 2 << 20

// deadWeight finds delta blocks whose dictionaries keep more alive than they
// save. A chunk that is only needed as dictionary weighs what it takes in its
// pack and, in its turn, its share of what its own block leans on; its weight
// is divided among the blocks that lean on it. A block of a live snapshot
// whose share of weights is above what it saves against being stored plain is
// to be stored plain.
func (g *garbage) deadWeight(ctx context.Context) (map[blockKey]int64, error) {
	type weight struct {
		own   float64 // bytes in the pack
		share float64 // of its block
		block blockKey
		users int
	}
	kept := make(map[crypto.ID]*weight)
	var plain, sealed [3]float64 // by kind, of blocks without a dictionary
	errTooMany := errors.New("too many")
	err := g.each(ctx, g.packs, func(n uint32, t *trailer) error {
		for b := range t.blocks {
			rec := &t.blocks[b]
			if rec.codec == codecZstd || rec.codec == codecStored {
				plain[t.header.kind] += float64(rec.plain)
				sealed[t.header.kind] += float64(rec.sealed)
			}
			for c := range uint32(rec.chunks) {
				id, length := t.chunk(rec.chunkAt + c)
				if !g.live.has(&id) || g.reach.has(&id) {
					continue
				}
				if len(kept) == maxWeighed {
					return errTooMany
				}
				share := float64(length) / float64(rec.plain)
				kept[id] = &weight{own: share * float64(rec.sealed), share: share, block: blockKey{n, uint32(b)}}
			}
		}
		return nil
	})
	if errors.Is(err, errTooMany) || err == nil && len(kept) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	eachDelta := func(d int, use func(key blockKey, t *trailer, rec *blockRec)) error {
		return g.each(ctx, g.deep[d], func(n uint32, t *trailer) error {
			for b := range t.blocks {
				if rec := &t.blocks[b]; int(rec.depth) == d && anyIn(t, rec, g.live) {
					use(blockKey{n, uint32(b)}, t, rec)
				}
			}
			return nil
		})
	}
	for d := 1; d <= MaxDepth; d++ {
		err := eachDelta(d, func(_ blockKey, t *trailer, rec *blockRec) {
			for i := range uint32(rec.dicts) {
				if w := kept[t.dict(rec.dictAt+i)]; w != nil {
					w.users++
				}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	debts := make(map[blockKey]float64)
	out := make(map[blockKey]int64)
	for d := 1; d <= MaxDepth; d++ {
		err := eachDelta(d, func(key blockKey, t *trailer, rec *blockRec) {
			var debt float64
			for i := range uint32(rec.dicts) {
				if w := kept[t.dict(rec.dictAt+i)]; w != nil {
					debt += (w.own + w.share*debts[w.block]) / float64(w.users)
				}
			}
			if debt == 0 {
				return
			}
			kind := t.header.kind
			saved := float64(rec.plain)
			if plain[kind] > 0 {
				saved *= sealed[kind] / plain[kind]
			}
			// Half as much again, since what it takes plain is an estimate.
			if saved -= float64(rec.sealed); debt > saved*3/2 && anyIn(t, rec, g.reach) {
				out[key] = int64(saved) + int64(rec.sealed)
				return
			}
			debts[key] = debt
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// chooseCopies decides, for live chunks that lie in several packs, which copy
// stays: the one of lowest depth that really can be read, since two blocks
// may lean on each other's other copies. Where none can be read all stay.
func (g *garbage) chooseCopies(ctx context.Context) error {
	seen := newIDFilter(g.chunks, g.salt)
	copies := make(map[crypto.ID][]spot)
	walk := func(use func(id *crypto.ID, s spot)) error {
		return g.each(ctx, g.packs, func(n uint32, t *trailer) error {
			for b := range t.blocks {
				rec := &t.blocks[b]
				for c := range uint32(rec.chunks) {
					id, _ := t.chunk(rec.chunkAt + c)
					use(&id, spot{n, uint16(b), uint16(c)})
				}
			}
			return nil
		})
	}
	err := walk(func(id *crypto.ID, _ spot) {
		if !g.live.has(id) {
			return
		}
		if seen.has(id) {
			copies[*id] = nil
		}
		seen.add(id)
	})
	if err != nil || len(copies) == 0 {
		return err
	}
	if err := walk(func(id *crypto.ID, s spot) {
		if list, ok := copies[*id]; ok {
			copies[*id] = append(list, s)
		}
	}); err != nil {
		return err
	}
	g.winners = make(map[crypto.ID]spot)
	for id, list := range copies {
		if len(list) < 2 {
			continue
		}
		s, ok, err := g.bestCopy(ctx, &id, list)
		if err != nil {
			return err
		}
		if ok {
			g.winners[id] = s
		}
	}
	return nil
}

// bestCopy reads copies in the order of their depth until one is good.
func (g *garbage) bestCopy(ctx context.Context, id *crypto.ID, list []spot) (spot, bool, error) {
	rd := g.r.reader
	for depth := 0; depth <= MaxDepth; depth++ {
		for _, s := range list {
			e, err := rd.pack(ctx, s.pack)
			if err != nil {
				return spot{}, false, err
			}
			d := e.val.trailer.blocks[s.block].depth
			rd.packs.release(e)
			if int(d) != depth || g.reencode[blockKey{s.pack, uint32(s.block)}] > 0 {
				continue
			}
			if rd.readable(ctx, s) {
				return s, true, nil
			}
			if ctx.Err() != nil {
				return spot{}, false, context.Cause(ctx)
			}
		}
	}
	return spot{}, false, nil
}

// readable tells whether the chunk at a spot decodes to its id.
func (rd *Reader) readable(ctx context.Context, s spot) bool {
	var req request
	e, err := rd.decode(ctx, blockKey{s.pack, uint32(s.block)}, &req)
	defer func() { rd.releaseAll(req.held) }()
	if err != nil {
		return false
	}
	defer rd.blocks.release(e)
	_, err = rd.verified(e.val, s.chunk)
	return err == nil
}

// isLive tells whether a copy of a chunk is needed.
func (g *garbage) isLive(id *crypto.ID, s spot) bool {
	if !g.live.has(id) {
		return false
	}
	w, several := g.winners[*id]
	return !several || w == s
}
