package repo

import (
	"encoding/binary"
	"math/bits"
)

// A block that is to be written as a delta is first laid over its dictionary:
// the long stretches both have are found in a fraction of the time that
// compressing takes. How much they cover tells whether the guess was right,
// and where they cover nearly all, they are the delta.

const (
	// matchStride: of the dictionary one place in so many is looked up.
	// Every stretch of matchLeast+matchStride-1 bytes is found.
	matchStride = 8
	matchKey    = 8
	matchLeast  = 16
	matchBits   = 16 // of the table of places, for dictionaries to MaxDictionarySize
	// matchFaster: after so many bytes without a match steps get longer, up to
	// matchSteps, so that what is altogether new is passed in little time. A
	// step is odd: with an even one no place of the dictionary might be met.
	matchFaster = 1 << 9
	matchSteps  = 15
)

// match is a stretch of a block that its dictionary has.
type match struct {
	at, from int // in the block, in the dictionary
	n        int
}

// matcher finds matches. It owns its buffers; one goroutine at a time.
type matcher struct {
	table []uint32 // one more than a place in the dictionary; the first of those with one key
	found []match  // in order, without overlap
}

func matchHash(v uint64) uint64 { return v * 0x9e3779b185ebca87 >> (64 - matchBits) }

// find fills m.found and returns how many bytes of p it covers.
func (m *matcher) find(p, dict []byte) (covered int) {
	m.found = m.found[:0]
	if m.table == nil {
		m.table = make([]uint32, 1<<matchBits)
	} else {
		clear(m.table)
	}
	for i := 0; i+matchKey <= len(dict); i += matchStride {
		if at := &m.table[matchHash(binary.LittleEndian.Uint64(dict[i:]))]; *at == 0 {
			*at = uint32(i + 1)
		}
	}
	end := 0      // of the last match
	shift := 0    // dictionary minus block there
	seen := false // there was one
	for i := 0; i+matchKey <= len(p); {
		key := binary.LittleEndian.Uint64(p[i:])
		from := -1
		// What was edited in place goes on where it was.
		if d := i + shift; seen && d >= 0 && d+matchKey <= len(dict) && binary.LittleEndian.Uint64(dict[d:]) == key {
			from = d
		} else if at := int(m.table[matchHash(key)]) - 1; at >= 0 && binary.LittleEndian.Uint64(dict[at:]) == key {
			from = at
		}
		if from >= 0 {
			back := 0
			for i-back > end && from-back > 0 && p[i-back-1] == dict[from-back-1] {
				back++
			}
			n := back + matchKey + same(p[i+matchKey:], dict[from+matchKey:])
			if n >= matchLeast || from == i+shift {
				m.found = append(m.found, match{at: i - back, from: from - back, n: n})
				covered += n
				i += n - back
				end, shift, seen = i, from-i+n-back, true
				continue
			}
		}
		i += 1 + min((i-end)/matchFaster, matchSteps/2)*2
	}
	return covered
}

// same returns how many bytes a and b have in common at their beginning.
func same(a, b []byte) (n int) {
	for len(a)-n >= 8 && len(b)-n >= 8 {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
		n += 8
	}
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
