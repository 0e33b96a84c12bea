package repo

import (
	"encoding/binary"
	"sync"

	"github.com/generalbots/backupd/crypto"
)

// spot is where a copy of a chunk lies: a claim until the pack's trailer has
// confirmed it.
type spot struct {
	pack  uint32 // number in the catalog
	block uint16
	chunk uint16 // place among the block's chunks
}

// places maps chunk ids to spots in memory, 16 bytes a slot: eight bytes of
// the id, which is uniform, and the spot. It is made from trailers and so
// needs no index; whoever uses a spot compares the whole id in the trailer.
// Copies of a chunk stand beside each other.
type places struct {
	mu    sync.RWMutex // guards all below
	slots []slot       // length is a power of two
	used  int
}

type slot struct {
	tag  uint64
	spot spot // pack is one more than the number; 0 is an empty slot
}

func newPlaces() *places { return &places{slots: make([]slot, 1024)} }

func tagOf(id *crypto.ID) uint64 { return binary.LittleEndian.Uint64(id[:8]) }

// addTrailer enters all chunks of a pack.
func (p *places) addTrailer(number uint32, t *trailer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.makeRoom(t.chunkCount())
	for b := range t.blocks {
		r := &t.blocks[b]
		for c := range uint32(r.chunks) {
			p.enter(number, t, b, c)
		}
	}
}

// addWanted enters those chunks of a pack that are wanted.
func (p *places) addWanted(number uint32, t *trailer, want func(chunk uint32) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for b := range t.blocks {
		r := &t.blocks[b]
		for c := range uint32(r.chunks) {
			if want(r.chunkAt + c) {
				p.makeRoom(1)
				p.enter(number, t, b, c)
			}
		}
	}
}

// makeRoom grows the table for that many more. mu is held.
func (p *places) makeRoom(more int) {
	need := p.used + more
	size := len(p.slots)
	if need*3 <= size*2 {
		return
	}
	for need*3 > size*2 {
		size *= 2
	}
	old := p.slots
	p.slots = make([]slot, size)
	// put reads a slot before it writes it: a new page that is read first is
	// faulted in twice, the second time with all processors waiting.
	clear(p.slots)
	for _, s := range old {
		if s.spot.pack != 0 {
			p.put(s)
		}
	}
}

// count returns how many chunks there are.
func (p *places) count() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.used
}

// clear forgets them all.
func (p *places) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slots, p.used = make([]slot, 1024), 0
}

// enter puts in one chunk of a block, for which there is room. mu is held.
func (p *places) enter(number uint32, t *trailer, block int, chunk uint32) {
	rec := t.chunks[(t.blocks[block].chunkAt+chunk)*chunkRecSize:]
	p.put(slot{binary.LittleEndian.Uint64(rec), spot{number + 1, uint16(block), uint16(chunk)}})
	p.used++
}

func (p *places) put(s slot) {
	mask := uint64(len(p.slots) - 1)
	for i := s.tag & mask; ; i = (i + 1) & mask {
		if p.slots[i].spot.pack == 0 {
			p.slots[i] = s
			return
		}
	}
}

// candidates appends the spots whose tag is that of id.
func (p *places) candidates(id *crypto.ID, dst []spot) []spot {
	tag := tagOf(id)
	p.mu.RLock()
	defer p.mu.RUnlock()
	mask := uint64(len(p.slots) - 1)
	for i := tag & mask; p.slots[i].spot.pack != 0; i = (i + 1) & mask {
		if s := p.slots[i]; s.tag == tag {
			s.spot.pack--
			dst = append(dst, s.spot)
		}
	}
	return dst
}
