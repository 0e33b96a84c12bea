package repo

import (
	"context"

	"github.com/generalbots/backupd/crypto"
)

// locatorReach is how many blocks further the next chunk is looked for: the
// blocks of as many lanes stand mixed in a pack.
const locatorReach = 4

// Locator finds data chunks that are asked for in about the order they were
// stored in, as a restore does. Where a pack has the chunk behind the one asked
// for before, its trailer says so, and neither table nor index is asked. One
// goroutine at a time.
type Locator struct {
	rd    *Reader
	last  Place
	known bool // last is a place
	asked int  // times it had to look further
}

// Locator returns a Locator of this reader.
func (rd *Reader) Locator() *Locator { return &Locator{rd: rd} }

// Locate is Reader.Locate.
func (l *Locator) Locate(ctx context.Context, id crypto.ID) (Place, error) {
	if l.known && l.next(ctx, &id) {
		return l.last, nil
	}
	l.asked++
	p, err := l.rd.Locate(ctx, id)
	l.last, l.known = p, err == nil
	return p, err
}

// next moves to the chunk behind the last one if it is the one wanted, in a
// block of depth 0 that no check has found damaged: no other copy is better.
func (l *Locator) next(ctx context.Context, id *crypto.ID) bool {
	rd := l.rd
	if _, there := rd.repo.catalog.alive(l.last.Pack); !there {
		return false
	}
	e, err := rd.pack(ctx, l.last.Pack)
	if err != nil {
		return false
	}
	defer rd.packs.release(e)
	t := e.val.trailer
	s := spot{pack: l.last.Pack, block: uint16(l.last.Block), chunk: l.last.chunk + 1}
	for range locatorReach + 1 {
		if ok, depth := t.confirm(&s, id); ok {
			if depth > 0 || rd.repo.isDamaged(s.pack, uint32(s.block)) {
				return false
			}
			l.last = Place{Pack: s.pack, Block: uint32(s.block), chunk: s.chunk}
			return true
		}
		s.block, s.chunk = s.block+1, 0
	}
	return false
}
