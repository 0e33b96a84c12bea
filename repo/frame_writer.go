package repo

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/huff0"
)

// Frames as RFC 8878 has them, out of what was found to repeat: literals under a
// Huffman table of their own, sequences under tables of their own or the predefined
// ones. Who finds the matches knows more of a block than the library's encoder does.

const (
	matchFormat   = 3 // least length of a match in the format
	literalsShort = 64
	literals4X    = 1 << 10 // from here on four streams
)

// sequence is so many literals, then a match: the codes of both and of the offset,
// and what the codes leave open, from the bit written first on.
type sequence struct {
	more       uint64
	bits       uint8 // of more
	ll, ml, of uint8
}

// frameWriter writes frames. It owns its buffers; one goroutine at a time.
type frameWriter struct {
	huff       huff0.Scratch
	literals   []byte
	sequences  []sequence
	recent     [3]uint32
	ll, ml, of coder
}

// frame appends a frame of a plaintext that stands behind so many bytes, which it
// may lean on. fill makes the literals and sequences of all[at:end], in order.
func (f *frameWriter) frame(dst, all []byte, behind int, fill func(at, end int)) ([]byte, error) {
	dst = appendFrameHead(dst, len(all)-behind, behind > 0)
	f.recent = [3]uint32{1, 4, 8}
	for at := behind; ; {
		end := min(at+frameMaxBlock, len(all))
		before := f.recent
		f.literals, f.sequences = f.literals[:0], f.sequences[:0]
		f.ll.count, f.ml.count, f.of.count = counts{}, counts{}, counts{}
		fill(at, end)
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

// appendFrameHead appends the header of a frame of n bytes. Its window is the
// plaintext, or deltaWindow where that would not reach what it leans on.
func appendFrameHead(dst []byte, n int, leans bool) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, frameMagic)
	const single, window = 1 << 5, (20 - 10) << 3
	desc := []byte{single}
	if leans {
		desc = []byte{0, window}
	}
	switch {
	case n < 256:
		dst = append(dst, desc...)
		if leans {
			return dst
		}
		return append(dst, byte(n))
	case n < 1<<16+256:
		desc[0] |= 1 << 6
		return binary.LittleEndian.AppendUint16(append(dst, desc...), uint16(n-256))
	}
	desc[0] |= 2 << 6
	return binary.LittleEndian.AppendUint32(append(dst, desc...), uint32(n))
}

// add appends a sequence: literals that are in f.literals already, then a match.
// The offset is as the format codes it, so 1 to 3 are those of before.
func (f *frameWriter) add(literals, match, offset uint32) {
	var s sequence
	match -= matchFormat
	s.ll, s.ml, s.of = literalLengths.code(literals), matchLengths.code(match), uint8(bits.Len32(offset)-1)
	s.more = uint64(literals - literalLengths.bases[s.ll])
	s.bits = literalLengths.more[s.ll]
	s.more |= uint64(match-matchLengths.bases[s.ml]) << s.bits
	s.bits += matchLengths.more[s.ml]
	s.more |= uint64(offset&(1<<s.of-1)) << s.bits
	s.bits += s.of
	f.ll.count[s.ll]++
	f.ml.count[s.ml]++
	f.of.count[s.of]++
	f.sequences = append(f.sequences, s)
}

// body appends the literals and sequences of one block.
func (f *frameWriter) body(dst []byte) ([]byte, error) {
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
// end: the last sequence is written first. A bitWriter would be called seven times
// for each, which is most of what this costs.
func (f *frameWriter) putSequences(dst []byte) []byte {
	lls, mls, ofs := f.ll.use, f.ml.use, f.of.use
	i := len(f.sequences) - 1
	s := &f.sequences[i]
	ll, ml, of := lls.start(s.ll), mls.start(s.ml), ofs.start(s.of)
	at, out := len(dst), dst[:cap(dst)]
	acc, n := s.more, uint(s.bits) // below 64 bits, and below 8 behind each flush
	for i--; i >= 0; i-- {
		binary.LittleEndian.PutUint64(out[at:], acc)
		at += int(n >> 3)
		acc >>= n & 56
		n &= 7
		s = &f.sequences[i]
		x := &ofs.of[s.of&63]
		k := (of + x.width) >> 16
		acc |= uint64(of&(1<<(k&31)-1)) << (n & 63)
		n += uint(k)
		of = uint32(ofs.next[int32(of>>(k&31))+x.delta])
		x = &mls.of[s.ml&63]
		k = (ml + x.width) >> 16
		acc |= uint64(ml&(1<<(k&31)-1)) << (n & 63)
		n += uint(k)
		ml = uint32(mls.next[int32(ml>>(k&31))+x.delta])
		x = &lls.of[s.ll&63]
		k = (ll + x.width) >> 16
		acc |= uint64(ll&(1<<(k&31)-1)) << (n & 63)
		n += uint(k)
		ll = uint32(lls.next[int32(ll>>(k&31))+x.delta])
		if n+uint(s.bits) >= 64 {
			binary.LittleEndian.PutUint64(out[at:], acc)
			at += int(n >> 3)
			acc >>= n & 56
			n &= 7
		}
		acc |= s.more << (n & 63)
		n += uint(s.bits)
	}
	w := bitWriter{out: out[:at], acc: acc, n: n}
	w.flush()
	w.add(ml, mls.log)
	w.add(of, ofs.log)
	w.add(ll, lls.log)
	w.flush()
	return w.close()
}

// putLiterals appends the literals: compressed, one byte repeated, or as they
// are.
func (f *frameWriter) putLiterals(dst []byte) ([]byte, error) {
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
