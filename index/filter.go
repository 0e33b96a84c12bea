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
type filter struct {
	lines *[filterLines][8]uint64 // made by the first add
	left  int                     // ids there is room for
}

const (
	filterLines = 1 << 14 // of 64 bytes: 1 MiB
	filterRoom  = filterLines * 512 / 10
	filterBits  = 6
)

// add notes an id, and tells whether the filter is still of use.
func (f *filter) add(id *crypto.ID) bool {
	if f.left--; f.left < 0 {
		return false
	}
	if f.lines == nil {
		f.lines = new([filterLines][8]uint64)
	}
	line, at := f.place(id)
	for range filterBits {
		line[at>>6&7] |= 1 << (at & 63)
		at >>= 9
	}
	return true
}

// may tells whether an id can have been added.
func (f *filter) may(id *crypto.ID) bool {
	if f.lines == nil {
		return false
	}
	line, at := f.place(id)
	for range filterBits {
		if line[at>>6&7]&(1<<(at&63)) == 0 {
			return false
		}
		at >>= 9
	}
	return true
}

// place returns the cache line of an id, and nine bits for each place in it.
func (f *filter) place(id *crypto.ID) (*[8]uint64, uint64) {
	return &f.lines[binary.BigEndian.Uint16(id[:])%filterLines], binary.BigEndian.Uint64(id[2:])
}
