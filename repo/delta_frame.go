package repo

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/huff0"
)

// A frame of the matches that a matcher found, as RFC 8878 has it: literals under a
// Huffman table of their own, sequences under tables of their own or the predefined
// ones. The library's encoder would look for the matches again, and spend most of its
// time on the dictionary.

const (
	matchFormat   = 3 // least length of a match in the format
	literalsShort = 64
	literals4X    = 1 << 10 // from here on four streams
)

// sequence is so many literals, then a match.
type sequence struct {
	literals, match, offset uint32 // match less the least one, offset as the format codes it
	ll, ml, of              uint8  // their codes
}

// deltaFrame writes frames of matches. It owns its buffers; one goroutine at a
// time.
type deltaFrame struct {
	huff       huff0.Scratch
	literals   []byte
	sequences  []sequence
	recent     [3]uint32
	ll, ml, of coder
}

// append writes the block behind a dictionary, both of which are all, as a frame
// behind dst, out of matches that are in order and do not overlap.
func (f *deltaFrame) append(dst, all []byte, dict int, found []match) ([]byte, error) {
	dst = binary.LittleEndian.AppendUint32(dst, frameMagic)
	const window = (20 - 10) << 3 // deltaWindow
	switch n := len(all) - dict; {
	case n < 256:
		dst = append(dst, 0, window)
	case n < 1<<16+256:
		dst = binary.LittleEndian.AppendUint16(append(dst, 1<<6, window), uint16(n-256))
	default:
		dst = binary.LittleEndian.AppendUint32(append(dst, 2<<6, window), uint32(n))
	}
	f.recent = [3]uint32{1, 4, 8}
	for at := dict; ; {
		end := min(at+frameMaxBlock, len(all))
		before := f.recent
		found = f.cut(all, at, end, found)
		head := len(dst)
		dst = append(dst, 0, 0, 0)
		var err error
		if dst, err = f.body(dst); err != nil {
			return nil, err
		}
		kind, n := uint32(2), len(dst)-head-3
		if n >= end-at { // raw, which leaves the offsets as they were
			dst, f.recent = append(dst[:head+3], all[at:end]...), before
			kind, n = 0, end-at
		}
		last := uint32(0)
		if end == len(all) {
			last = 1
		}
		h := last | kind<<1 | uint32(n)<<3
		dst[head], dst[head+1], dst[head+2] = byte(h), byte(h>>8), byte(h>>16)
		if at = end; at == len(all) {
			return dst, nil
		}
	}
}

// cut makes the sequences of all[at:end] and returns what is left of found.
func (f *deltaFrame) cut(all []byte, at, end int, found []match) []match {
	f.literals, f.sequences = f.literals[:0], f.sequences[:0]
	f.ll.count, f.ml.count, f.of.count = [mostCodes]uint32{}, [mostCodes]uint32{}, [mostCodes]uint32{}
	done := at
	for len(found) > 0 && int(found[0].at) < end {
		m, n := int(found[0].at), int(found[0].n)
		offset := uint32(found[0].at - found[0].from)
		if skip := done - m; skip > 0 { // it began in the block before
			m, n = m+skip, n-skip
		}
		whole := m+n <= end
		if n = min(n, end-m); n >= matchFormat {
			f.literals = append(f.literals, all[done:m]...)
			s := sequence{literals: uint32(m - done), match: uint32(n - matchFormat), offset: f.offset(offset, m > done)}
			s.ll, s.ml, s.of = literalLengths.code(s.literals), matchLengths.code(s.match), uint8(bits.Len32(s.offset)-1)
			f.ll.count[s.ll]++
			f.ml.count[s.ml]++
			f.of.count[s.of]++
			f.sequences = append(f.sequences, s)
			done = m + n
		}
		if !whole {
			break
		}
		found = found[1:]
	}
	f.literals = append(f.literals, all[done:end]...)
	return found
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
	n := len(f.sequences)
	switch {
	case n == 0:
		return append(dst, 0), nil
	case n < 128:
		dst = append(dst, byte(n))
	case n < 0x7f00:
		dst = append(dst, byte(n>>8+128), byte(n))
	default:
		dst = append(dst, 255, byte(n-0x7f00), byte((n-0x7f00)>>8))
	}
	f.ll.codes, f.ml.codes, f.of.codes = literalLengths, matchLengths, offsetCodes
	at := len(dst)
	dst = append(dst, 0)
	var modes [3]byte
	for i, c := range []*coder{&f.ll, &f.of, &f.ml} {
		modes[i], dst = c.choose(dst, n)
	}
	dst[at] = modes[0]<<6 | modes[1]<<4 | modes[2]<<2
	return f.putSequences(slices.Grow(dst, n*mostSequence+64)), nil
}

// mostSequence is the most bytes a sequence takes: three steps, and the bits that
// literals and match may have more and an offset in deltaWindow.
const mostSequence = (3*ownLog + 16 + 16 + 21 + 7) / 8

// putSequences appends them to dst, which has room. The decoder reads from the
// end: the last sequence is written first.
func (f *deltaFrame) putSequences(dst []byte) []byte {
	w := bitWriter{out: dst}
	lls, mls, ofs := f.ll.use, f.ml.use, f.of.use
	more := func(s *sequence) {
		w.add(s.literals-literalLengths.bases[s.ll], uint(literalLengths.more[s.ll]))
		w.add(s.match-matchLengths.bases[s.ml], uint(matchLengths.more[s.ml]))
		w.add(s.offset, uint(s.of))
		w.flush()
	}
	i := len(f.sequences) - 1
	s := &f.sequences[i]
	ll, ml, of := lls.start(s.ll), mls.start(s.ml), ofs.start(s.of)
	more(s)
	for i--; i >= 0; i-- {
		s = &f.sequences[i]
		x := &ofs.of[s.of]
		n := (of + x.width) >> 16
		w.add(of, uint(n))
		of = uint32(ofs.next[int32(of>>n)+x.delta])
		x = &mls.of[s.ml]
		n = (ml + x.width) >> 16
		w.add(ml, uint(n))
		ml = uint32(mls.next[int32(ml>>n)+x.delta])
		x = &lls.of[s.ll]
		n = (ll + x.width) >> 16
		w.add(ll, uint(n))
		ll = uint32(lls.next[int32(ll>>n)+x.delta])
		w.flush()
		more(s)
	}
	w.add(ml, mls.log)
	w.add(of, ofs.log)
	w.add(ll, lls.log)
	w.flush()
	return w.close()
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
