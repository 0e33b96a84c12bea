package repo

import "math/bits"

// What a plain block repeats is found as the fastest strategy of zstd does it
// (zstd_fast.c): a table of places by six bytes, two places a step, the last offset
// before both, longer steps where nothing is found. A first backup spends a third of its
// time in find and waits there for memory and for branches that nobody can foretell, so
// lengths up to 32 are counted without one, and codes are told while it waits.

const (
	plainBits = 15 // of the table of places
	// plainPlace bits of an entry are the place, the rest are of the hash.
	plainPlace = 20
	// plainLargest is the largest block whose places an entry can name.
	plainLargest = 1 << plainPlace
	// plainMargin: no step begins in so many bytes at the end, which are at most
	// the end of a match, so that whole words can be loaded.
	plainMargin = 40
	// plainFaster: after so many bytes without a match steps get longer by one.
	plainFaster = 1 << 5
	// shortMatches are those whose code stands in a table.
	shortMatches = 256
)

// plainMatcher finds what a block repeats. One goroutine at a time.
type plainMatcher struct {
	// The last place with the hash, and the rest of the hash. Nothing says that an
	// entry is empty: where the rest is nought it leads to the first byte, which is
	// compared like any other.
	table [1 << plainBits]uint32
}

// matchCode is the code of a short match, and what it leaves open.
type matchCode struct{ code, bits, more uint8 }

var matchCodes = func() (t [shortMatches]matchCode) {
	for n := range uint32(shortMatches) {
		c := matchLengths.code(n)
		t[n] = matchCode{c, matchLengths.more[c], uint8(n - matchLengths.bases[c])}
	}
	return t
}()

// sixBytes hashes the first six of eight bytes.
func sixBytes(v uint64) uint64 { return v << 16 * 0xcf1bbcdcbf9b >> 32 }

// plain appends a frame of p, at most plainLargest bytes, behind dst.
func (f *frameWriter) plain(m *plainMatcher, dst, p []byte) ([]byte, error) {
	clear(m.table[:])
	return f.frame(dst, p, 0, func(at, end int) { m.find(f, p[:end], at) })
}

// find makes the literals and sequences of src from a place on. The places before
// are those of earlier calls.
func (m *plainMatcher) find(f *frameWriter, src []byte, at int) {
	if cap(f.literals) < frameMaxBlock+16 {
		f.literals = make([]byte, 0, frameMaxBlock+16)
	}
	literals, filled := f.literals[:cap(f.literals)], 0
	found := f.sequences[:0]
	lls, mls, ofs := &f.ll.count, &f.ml.count, &f.of.count
	near, far := int(f.recent[0]), int(f.recent[1]) // the last two offsets; of the third no use is made, and it is not kept
	limit := len(src) - plainMargin
	done := at // what stands before is in sequences
search:
	for s := max(at, 1); s < limit; {
		var from int
		var differ uint64
		for {
			ahead := src[s : s+16 : s+16]
			here := word(ahead, 0)
			h, h2 := sixBytes(here), sixBytes(here>>8)
			e := &m.table[h>>(32-plainBits)&(1<<plainBits-1)]
			e2 := &m.table[h2>>(32-plainBits)&(1<<plainBits-1)]
			was, was2 := *e, *e2
			is, is2 := uint32(h)<<plainPlace|uint32(s), uint32(h2)<<plainPlace|uint32(s+1)
			*e, *e2 = is, is2
			if from = s + 2 - near; from > 0 {
				if differ = word(src, from) ^ word(ahead, 2); uint32(differ) == 0 {
					s += 2
					break
				}
			}
			if (was^is)>>plainPlace == 0 {
				from = int(was & (1<<plainPlace - 1))
				if differ = word(src, from) ^ here; uint32(differ) == 0 {
					break
				}
			}
			if (was2^is2)>>plainPlace == 0 {
				from = int(was2 & (1<<plainPlace - 1))
				if differ = word(src, from) ^ word(ahead, 1); uint32(differ) == 0 {
					s++
					break
				}
			}
			if s += 2 + (s-done)/plainFaster; s >= limit {
				break search
			}
		}
		// Each count is of one word, and counts only where the words before are alike.
		n := bits.TrailingZeros64(differ) >> 3
		a, b := src[s:s+32:s+32], src[from:from+32:from+32]
		n2 := bits.TrailingZeros64(word(a, 8)^word(b, 8)) >> 3
		n3 := bits.TrailingZeros64(word(a, 16)^word(b, 16)) >> 3
		n4 := bits.TrailingZeros64(word(a, 24)^word(b, 24)) >> 3
		n3 += n4 & -(n3 >> 3)
		n2 += n3 & -(n2 >> 3)
		n += n2 & -(n >> 3)
		if n == 32 {
			n += same(src[s+32:], src[from+32:])
		}
		end := s + n
		offset := s - from
		for s > done && from > 0 && src[s-1] == src[from-1] {
			s--
			from--
		}
		run := s - done
		if run <= 16 {
			*(*[16]byte)(literals[filled : filled+16]) = *(*[16]byte)(src[done : done+16])
		} else {
			copy(literals[filled:], src[done:s])
		}
		filled += run
		code := uint32(offset) + 3
		if offset != near {
			if offset == far {
				code = 2
				if run == 0 {
					code = 1
				}
			}
			near, far = offset, near
		} else if run > 0 {
			code = 1
		} else {
			far = near
		}
		// This is frameWriter.add without the call.
		var q sequence
		if run < 16 {
			q.ll = uint8(run)
		} else {
			q.ll = literalLengths.code(uint32(run))
			q.more = uint64(uint32(run) - literalLengths.bases[q.ll])
			q.bits = literalLengths.more[q.ll]
		}
		if n := uint32(end - s - matchFormat); n < shortMatches {
			c := &matchCodes[n]
			q.ml = c.code
			q.more |= uint64(c.more) << (q.bits & 63)
			q.bits += c.bits
		} else {
			q.ml = matchLengths.code(n)
			q.more |= uint64(n-matchLengths.bases[q.ml]) << (q.bits & 63)
			q.bits += matchLengths.more[q.ml]
		}
		q.of = uint8(bits.Len32(code) - 1)
		q.more |= uint64(code&^(1<<(q.of&31))) << (q.bits & 63)
		q.bits += q.of
		lls[q.ll&63]++
		mls[q.ml&63]++
		ofs[q.of&63]++
		found = append(found, q)
		s, done = end, end
		// Behind a match the offset before the last often goes on.
		if s >= limit || s <= far || halfWord(src, s-far) != halfWord(src, s) {
			continue
		}
		h := sixBytes(word(src, s))
		m.table[h>>(32-plainBits)&(1<<plainBits-1)] = uint32(h)<<plainPlace | uint32(s)
		n = 4 + same(src[s+4:], src[s+4-far:])
		f.sequences = found
		f.add(0, uint32(n), 1)
		found = f.sequences
		near, far = far, near
		s += n
		done = s
	}
	f.literals = literals[:filled+copy(literals[filled:], src[done:])]
	f.sequences, f.recent[0], f.recent[1] = found, uint32(near), uint32(far)
}
