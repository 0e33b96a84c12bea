package index

import (
	"encoding/binary"

	"github.com/generalbots/backupd/crypto"
)

// filter tells of most ids that are not in the index that they are not. There is one only while an
// index grows from nothing: a first backup asks for every chunk and finds hardly any, and each answer
// would take Badger microseconds. Later the index holds more than this process has seen.
//
// It is a Bloom filter, of which six bits of one cache line are an id's (F. Putze et al., "Cache-,
// hash- and space-efficient Bloom filters", 2009); ids are evenly spread, so they are their own hash.
// When it is full another, twice as large, is asked besides (P. Almeida et al., "Scalable Bloom Filters",
// 2007), so that few ids take little memory and many are not asked of Badger all at once.
type filter struct {
	stages [][][8]uint64 // lines of 64 bytes, the fullest first; the first is made by the first add
	left   int           // ids there is room for in the last stage
}

const (
	filterFirst  = 1 << 14 // lines of the first stage: 1 MiB
	filterStages = 4       // 15 MiB, twelve million ids; whoever has more asks Badger
	filterBits   = 6
)

// stageRoom is how many ids a stage of so many lines tells apart well: ten bits for each.
func stageRoom(lines int) int { return lines * 512 / 10 }

// add notes an id, and tells whether the filter is still of use.
func (f *filter) add(id *crypto.ID) bool {
	if f.may(id) {
		return true
	}
	if f.left == 0 {
		if len(f.stages) == filterStages {
			return false
		}
		lines := filterFirst << len(f.stages)
		f.stages = append(f.stages, make([][8]uint64, lines))
		f.left = stageRoom(lines)
	}
	f.left--
	line, at := place(f.stages[len(f.stages)-1], id)
	for range filterBits {
		line[at>>6&7] |= 1 << (at & 63)
		at >>= 9
	}
	return true
}

// may tells whether an id can have been added.
func (f *filter) may(id *crypto.ID) bool {
	for _, stage := range f.stages {
		if mayHave(stage, id) {
			return true
		}
	}
	return false
}

func mayHave(stage [][8]uint64, id *crypto.ID) bool {
	line, at := place(stage, id)
	for range filterBits {
		if line[at>>6&7]&(1<<(at&63)) == 0 {
			return false
		}
		at >>= 9
	}
	return true
}

// place returns the cache line of an id in a stage, and nine bits for each place in it.
func place(stage [][8]uint64, id *crypto.ID) (*[8]uint64, uint64) {
	return &stage[binary.BigEndian.Uint32(id[:])%uint32(len(stage))], binary.BigEndian.Uint64(id[4:])
}
