package repo

import (
	"encoding/binary"
	"errors"
	"math/bits"

	"github.com/klauspost/compress/huff0"
)

// A frame of long matches, as RFC 8878 has it: literals under a Huffman table
// of their own, sequences under the predefined tables. Where matches cover
// nearly all of a block, its other bytes are so few that how they are
// compressed hardly shows, and the general encoder would spend nine tenths of
// its time on the dictionary.

const (
	matchFormat   = 3 // least length of a match in the format
	literalsShort = 64
	literals4X    = 1 << 10 // from here on four streams
)

// The codes of RFC 8878, 3.1.1.3.2.1.1: values below the first base stand for
// themselves, then each code has so many more bits.
var (
	literalLengths = newCodes(16, 16, []uint8{1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		6, []int16{4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1})
	matchLengths = newCodes(32, 32, []uint8{1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		6, []int16{1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1})
	offsetCodes = newCodes(0, 1, []uint8{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28},
		5, []int16{1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1})
)

// codes are those of one kind of value, with the state machine of their
// predefined distribution.
type codes struct {
	bases []uint32
	more  []uint8
	log   uint
	next  []uint16 // state to state, by symbol
	delta []int32  // of a symbol's first state in next
	width []uint32 // of a symbol: bits to put out, in 1/65536, less than the state tells
}

// newCodes makes the codes of values below literal, which stand for
// themselves, and of those from base on. norm is the distribution: the states
// of each symbol among 1<<log, -1 for one state at the end.
func newCodes(literal int, base uint32, more []uint8, log uint, norm []int16) *codes {
	c := &codes{log: log}
	for v := range literal {
		c.bases, c.more = append(c.bases, uint32(v)), append(c.more, 0)
	}
	for _, n := range more {
		c.bases, c.more = append(c.bases, base), append(c.more, n)
		base += 1 << n
	}
	size := 1 << log
	symbols, high := make([]uint8, size), size-1
	first := make([]int, len(norm)+1)
	for s, n := range norm {
		if n < 0 {
			symbols[high] = uint8(s)
			high--
			n = 1
		}
		first[s+1] = first[s] + int(n)
	}
	at := 0
	for s, n := range norm {
		for range n {
			symbols[at] = uint8(s)
			for at = (at + size>>1 + size>>3 + 3) & (size - 1); at > high; {
				at = (at + size>>1 + size>>3 + 3) & (size - 1)
			}
		}
	}
	c.next = make([]uint16, size)
	fill := append([]int(nil), first...)
	for u, s := range symbols {
		c.next[fill[s]] = uint16(size + u)
		fill[s]++
	}
	for s := range norm {
		n := first[s+1] - first[s]
		if n == 1 {
			c.delta, c.width = append(c.delta, int32(first[s]-1)), append(c.width, uint32(log)<<16-uint32(size))
			continue
		}
		most := uint32(log) - uint32(bits.Len32(uint32(n-1))-1)
		c.delta, c.width = append(c.delta, int32(first[s]-n)), append(c.width, most<<16-uint32(n)<<most)
	}
	return c
}

// code returns the code of a value.
func (c *codes) code(v uint32) int {
	lo, hi := 0, len(c.bases)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; c.bases[mid] <= v {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// start returns the state whose symbol is s.
func (c *codes) start(s int) uint32 {
	n := (c.width[s] + 1<<15) >> 16
	return uint32(c.next[int32((n<<16-c.width[s])>>n)+c.delta[s]])
}

// step puts out what leads from the state of s to the state that follows it.
func (c *codes) step(w *bitWriter, state uint32, s int) uint32 {
	n := (state + c.width[s]) >> 16
	w.add(state, uint(n))
	return uint32(c.next[int32(state>>n)+c.delta[s]])
}

// bitWriter appends bits, the least significant first.
type bitWriter struct {
	out []byte
	acc uint64
	n   uint
}

// add appends the low n bits of v, 31 at most.
func (w *bitWriter) add(v uint32, n uint) {
	w.acc |= uint64(v&(1<<n-1)) << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
	}
}

// close ends the stream with a bit that is set.
func (w *bitWriter) close() []byte {
	w.add(1, 1)
	if w.n > 0 {
		w.out = append(w.out, byte(w.acc))
	}
	return w.out
}

// sequence is so many literals, then a match.
type sequence struct {
	literals, match, offset uint32 // offset as the format codes it
}

// deltaFrame writes frames of matches. It owns its buffers; one goroutine at a
// time.
type deltaFrame struct {
	huff      huff0.Scratch
	literals  []byte
	sequences []sequence
	recent    [3]uint32
}

// fitsDeltaFrame tells whether a frame reaches all of a dictionary from all of
// a block.
func fitsDeltaFrame(p, dict []byte) bool { return len(p)+len(dict) <= deltaWindow }

// append writes p as a frame behind dst, out of matches that are in order and
// do not overlap.
func (f *deltaFrame) append(dst, p []byte, dictLen int, found []match) ([]byte, error) {
	dst = binary.LittleEndian.AppendUint32(dst, frameMagic)
	const window = (20 - 10) << 3 // deltaWindow
	switch n := len(p); {
	case n < 256:
		dst = append(dst, 0, window)
	case n < 1<<16+256:
		dst = binary.LittleEndian.AppendUint16(append(dst, 1<<6, window), uint16(n-256))
	default:
		dst = binary.LittleEndian.AppendUint32(append(dst, 2<<6, window), uint32(n))
	}
	f.recent = [3]uint32{1, 4, 8}
	for at := 0; ; {
		end := min(at+frameMaxBlock, len(p))
		before := f.recent
		f.cut(p, at, end, dictLen, &found)
		head := len(dst)
		dst = append(dst, 0, 0, 0)
		var err error
		if dst, err = f.body(dst); err != nil {
			return nil, err
		}
		kind, n := uint32(2), len(dst)-head-3
		if n >= end-at { // raw, which leaves the offsets as they were
			dst, f.recent = append(dst[:head+3], p[at:end]...), before
			kind, n = 0, end-at
		}
		last := uint32(0)
		if end == len(p) {
			last = 1
		}
		h := last | kind<<1 | uint32(n)<<3
		dst[head], dst[head+1], dst[head+2] = byte(h), byte(h>>8), byte(h>>16)
		if at = end; at == len(p) {
			return dst, nil
		}
	}
}

// cut makes the sequences of p[at:end] and takes what it used off found.
func (f *deltaFrame) cut(p []byte, at, end, dictLen int, found *[]match) {
	f.literals, f.sequences = f.literals[:0], f.sequences[:0]
	done := at
	for len(*found) > 0 && (*found)[0].at < end {
		m := (*found)[0]
		if skip := done - m.at; skip > 0 { // it began in the block before
			m.at, m.from, m.n = m.at+skip, m.from+skip, m.n-skip
		}
		n := min(m.n, end-m.at)
		if n >= matchFormat {
			f.literals = append(f.literals, p[done:m.at]...)
			f.sequences = append(f.sequences, sequence{uint32(m.at - done), uint32(n), f.offset(uint32(dictLen+m.at-m.from), m.at > done)})
			done = m.at + n
		}
		if m.at+m.n > end {
			break
		}
		*found = (*found)[1:]
	}
	f.literals = append(f.literals, p[done:end]...)
}

// offset codes an offset: one of the last three stands for itself.
func (f *deltaFrame) offset(offset uint32, literals bool) uint32 {
	r := &f.recent
	switch {
	case literals && offset == r[0]:
		return 1
	case offset == r[1]:
		r[0], r[1] = offset, r[0]
		if literals {
			return 2
		}
		return 1
	case offset == r[2]:
		r[0], r[1], r[2] = offset, r[0], r[1]
		if literals {
			return 3
		}
		return 2
	}
	r[0], r[1], r[2] = offset, r[0], r[1]
	return offset + 3
}

// body appends the literals and sequences of one block.
func (f *deltaFrame) body(dst []byte) ([]byte, error) {
	dst, err := f.putLiterals(dst)
	if err != nil {
		return nil, err
	}
	switch n := len(f.sequences); {
	case n == 0:
		return append(dst, 0), nil
	case n < 128:
		dst = append(dst, byte(n))
	case n < 0x7f00:
		dst = append(dst, byte(n>>8+128), byte(n))
	default:
		dst = append(dst, 255, byte(n-0x7f00), byte((n-0x7f00)>>8))
	}
	w := bitWriter{out: append(dst, 0)} // three predefined tables
	var ll, ml, of uint32
	// The decoder reads from the end: the last sequence is written first.
	for i := len(f.sequences) - 1; i >= 0; i-- {
		s := &f.sequences[i]
		l, m, o := literalLengths.code(s.literals), matchLengths.code(s.match-matchFormat), offsetCodes.code(s.offset)
		if i == len(f.sequences)-1 {
			ll, ml, of = literalLengths.start(l), matchLengths.start(m), offsetCodes.start(o)
		} else {
			of = offsetCodes.step(&w, of, o)
			ml = matchLengths.step(&w, ml, m)
			ll = literalLengths.step(&w, ll, l)
		}
		w.add(s.literals-literalLengths.bases[l], uint(literalLengths.more[l]))
		w.add(s.match-matchFormat-matchLengths.bases[m], uint(matchLengths.more[m]))
		w.add(s.offset-offsetCodes.bases[o], uint(offsetCodes.more[o]))
	}
	w.add(ml, matchLengths.log)
	w.add(of, offsetCodes.log)
	w.add(ll, literalLengths.log)
	return w.close(), nil
}

// putLiterals appends the literals: compressed, one byte repeated, or as they
// are.
func (f *deltaFrame) putLiterals(dst []byte) ([]byte, error) {
	n := len(f.literals)
	if n < literalsShort {
		return append(literalsHead(dst, 0, n), f.literals...), nil
	}
	compress := huff0.Compress1X
	if n >= literals4X {
		compress = huff0.Compress4X
	}
	f.huff.Reuse, f.huff.WantLogLess = huff0.ReusePolicyNone, 4
	out, _, err := compress(f.literals, &f.huff)
	switch {
	case errors.Is(err, huff0.ErrUseRLE):
		return append(literalsHead(dst, 1, n), f.literals[0]), nil
	case errors.Is(err, huff0.ErrIncompressible) || err == nil && len(out)+5 >= n:
		return append(literalsHead(dst, 0, n), f.literals...), nil
	case err != nil:
		return nil, err
	}
	h, size := uint64(2), 3 // both lengths in 10 bits, one stream
	switch {
	case n < literals4X:
		h |= uint64(n)<<4 | uint64(len(out))<<14
	case n < 1<<14:
		h |= 2<<2 | uint64(n)<<4 | uint64(len(out))<<18
		size = 4
	default:
		h |= 3<<2 | uint64(n)<<4 | uint64(len(out))<<22
		size = 5
	}
	for range size {
		dst = append(dst, byte(h))
		h >>= 8
	}
	return append(dst, out...), nil
}

// literalsHead appends the header of literals that are not compressed.
func literalsHead(dst []byte, kind byte, n int) []byte {
	switch {
	case n < 32:
		return append(dst, kind|byte(n)<<3)
	case n < 1<<12:
		return append(dst, kind|1<<2|byte(n)<<4, byte(n>>4))
	}
	return append(dst, kind|3<<2|byte(n)<<4, byte(n>>4), byte(n>>12))
}
