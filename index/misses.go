package index

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/generalbots/backupd/crypto"
)

// misses remembers ids that were looked up lately and not found. The writer of packs asks for each
// chunk before it stores it, so AddPack need not ask Badger again, which would be half of its time.
//
// An id leaves under Index.mu held for writing, after its entry was committed; it comes in under mu
// held for reading, together with the look-up. So none stays that has been added.
type misses struct {
	slots [1 << 17]atomic.Uint64 // some packs' worth
}

// slot tells ids apart by 81 bits; they are evenly spread, and nobody without the key can choose one.
func (m *misses) slot(id *crypto.ID) (*atomic.Uint64, uint64) {
	return &m.slots[binary.BigEndian.Uint32(id[:])%uint32(len(m.slots))], binary.BigEndian.Uint64(id[4:])
}

func (m *misses) add(id *crypto.ID) {
	slot, rest := m.slot(id)
	slot.Store(rest)
}

func (m *misses) has(id *crypto.ID) bool {
	slot, rest := m.slot(id)
	return rest != 0 && slot.Load() == rest
}

func (m *misses) drop(id *crypto.ID) {
	slot, rest := m.slot(id)
	slot.CompareAndSwap(rest, 0)
}
