package repo

import (
	"encoding/binary"
	"math/bits"
)

// A block that is to be written as a delta is laid over its dictionary: what
// both have is found in a fraction of the time that compressing takes, and what
// the dictionary has not is looked for in the block itself, so that both
// together are the delta. How much of a block stands in its dictionary in long
// stretches, or where it is expected, tells whether the guess was right.

const (
	// matchStride: of the dictionary one place in so many is looked up. It is
	// odd, so that steps of two come to all of them.
	matchStride = 7
	matchKey    = 8
	matchBits   = 16 // of the table of places
	// matchLong: a stretch that could not be there by chance. One that is shorter
	// does not say where the next is.
	matchLong = 40
	// matchFaster: after so many bytes without a match steps get longer, so that
	// what is altogether new is passed in little time, up to matchSteps; then they
	// begin anew, so that what is known again after it is soon found.
	matchFaster = 1 << 5
	matchSteps  = 128
	// matchLeft: what is left of a match of which the next takes the end.
	matchLeft = 6
	// A block of sampleLeast bytes is looked into in so many places, at each so far;
	// where no more than sampleWorth of them have a long stretch it is left alone: a
	// delta would save a quarter or less, and take longer to write than a plain block.
	sampleLeast = 64 << 10
	samples     = 64
	sampleLook  = 64
	sampleWorth = 30
)

// match is a stretch of a block that stands before it too, in its dictionary or
// behind that in the block.
type match struct {
	at, from int32 // in dictionary and block
	n        int32
}

// matcher finds matches. It owns its buffers; one goroutine at a time.
type matcher struct {
	// One more than a place with the key: of a dictionary the first, until the
	// block has it nearer.
	table *[1 << matchBits]uint32
	found []match // in order, without overlap
}

func matchHash(v uint64) uint64 { return v * 0x9e3779b185ebca87 >> (64 - matchBits) }

// index enters the places of a dictionary, the first of those with one key last.
func (m *matcher) index(dict []byte) {
	if m.table == nil {
		m.table = new([1 << matchBits]uint32)
	} else {
		clear(m.table[:])
	}
	for i := (len(dict) - matchKey) / matchStride * matchStride; i >= 0; i -= matchStride {
		m.table[matchHash(word(dict, i))&(1<<matchBits-1)] = uint32(i + 1)
	}
}

// promising looks into the block here and there for long stretches that the
// dictionary has too. So a wrong guess costs little more than the index.
func (m *matcher) promising(all []byte, dict int) bool {
	hits := 0
	shift := dict
	step := (len(all) - dict - sampleLook - matchKey) / samples
	for k := range samples {
		at := dict + k*step
		for i := at; i < at+sampleLook; i++ {
			key := word(all, i)
			from := i - shift
			if uint(from) > uint(dict-matchKey) || word(all, from) != key {
				from = int(m.table[matchHash(key)&(1<<matchBits-1)]) - 1
				if from < 0 || word(all, from) != key {
					continue
				}
			}
			n := matchKey + same(all[i+matchKey:min(i+matchLong, len(all))], all[from+matchKey:dict])
			for back := 1; n < matchLong && from >= back && i-back >= dict && all[i-back] == all[from-back]; back++ {
				n++
			}
			if n >= matchLong {
				shift = i - from
				hits++
				break
			}
			i += n - matchKey
		}
	}
	return hits > sampleWorth
}

// find fills m.found with what all, a dictionary of so many bytes and the block
// behind it, has of the block, and returns how many bytes of the block stand in
// the dictionary in long stretches or where they are expected.
func (m *matcher) find(all []byte, dict int) (like int) {
	if m.found = m.found[:0]; dict < matchKey {
		return 0
	}
	m.index(all[:dict])
	if len(all)-dict >= sampleLeast && !m.promising(all, dict) {
		return 0
	}
	end := dict   // of the last match
	shift := dict // of the last long one: how far before its place it stands
	last := len(all) - matchKey
	for i := dict; i <= last; {
		key := word(all, i)
		from, n := i-shift, 0
		if uint(from) <= uint(dict-matchKey) && word(all, from) == key {
			n = matchKey + same(all[i+matchKey:], all[from+matchKey:dict])
		} else {
			here := &m.table[matchHash(key)&(1<<matchBits-1)]
			from = int(*here) - 1
			if from < 0 || from >= dict {
				*here = uint32(i + 1)
			}
			if from < 0 || word(all, from) != key {
				i += 2 + (i-end)/matchFaster%matchSteps
				continue
			}
			limit := all
			if from < dict {
				limit = all[:dict]
			}
			n = matchKey + same(all[i+matchKey:], limit[from+matchKey:])
			if n < matchLong {
				*here = uint32(i + 1) // it is nearer here
			}
		}
		// What was taken before the place was known is given back where this
		// reaches so far.
		for {
			for i > end && from > 0 && from != dict && all[i-1] == all[from-1] {
				i, from, n = i-1, from-1, n+1
			}
			if i > end || n < matchLong || len(m.found) == 0 || from == 0 || from == dict || all[i-1] != all[from-1] {
				break
			}
			before := &m.found[len(m.found)-1]
			if int(before.n) >= n {
				break
			}
			for i > int(before.at) && from > 0 && from != dict && all[i-1] == all[from-1] {
				i, from, n = i-1, from-1, n+1
			}
			if before.n = int32(i) - before.at; before.n >= matchLeft {
				end = i
				break
			}
			m.found = m.found[:len(m.found)-1]
			end = dict
			if k := len(m.found); k > 0 {
				end = int(m.found[k-1].at + m.found[k-1].n)
			}
		}
		if from < dict && (n >= matchLong || i-from == shift) {
			like += n
			shift = i - from
		}
		m.found = append(m.found, match{int32(i), int32(from), int32(n)})
		i += n
		end = i
	}
	return like
}

// same returns how many bytes a and b have in common at their beginning.
func same(a, b []byte) (n int) {
	for len(a)-n >= 8 && len(b)-n >= 8 {
		if x := word(a, n) ^ word(b, n); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
		n += 8
	}
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// With a third index the compiler knows that a word is all there is and checks
// bounds only; without, it computes where a slice of nothing would point to.
func word(b []byte, i int) uint64     { return binary.LittleEndian.Uint64(b[i : i+8 : i+8]) }
func halfWord(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[i : i+4 : i+4]) }
