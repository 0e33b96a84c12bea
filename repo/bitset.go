package repo

import "math/bits"

// bitset is a set of small numbers, one bit for each that may be in it.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (b bitset) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b bitset) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bitset) unset(i int)    { b[i/64] &^= 1 << (i % 64) }
func (b bitset) clone() bitset  { return append(bitset(nil), b...) }

// add puts all that is in c, which is of the same size, into b.
func (b bitset) add(c bitset) {
	for i, w := range c {
		b[i] |= w
	}
}

// without takes all that is in c out of b.
func (b bitset) without(c bitset) {
	for i, w := range c {
		b[i] &^= w
	}
}

func (b bitset) count() (n int) {
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// rankWords is how many words share one entry of ranks.
const rankWords = 8

// ranks counts the members before every rankWords-th word, so that rank is a
// few instructions.
func (b bitset) ranks() []uint32 {
	out := make([]uint32, len(b)/rankWords+1)
	n := 0
	for i, w := range b {
		if i%rankWords == 0 {
			out[i/rankWords] = uint32(n)
		}
		n += bits.OnesCount64(w)
	}
	return out
}

// rank is the number of members below i.
func (b bitset) rank(ranks []uint32, i int) int {
	w := i / 64
	n := int(ranks[w/rankWords])
	for j := w &^ (rankWords - 1); j < w; j++ {
		n += bits.OnesCount64(b[j])
	}
	return n + bits.OnesCount64(b[w]&(1<<(i%64)-1))
}

// packed is an array of small numbers, so many bits for each.
type packed struct {
	words []uint64
	width int // bits of an element, at most 32
}

func newPacked(n, width int) packed { return packed{make([]uint64, (n*width+63)/64+1), width} }

func (p packed) get(i int) uint64 {
	at := i * p.width
	w, s := at/64, at%64
	return (p.words[w]>>s | p.words[w+1]<<1<<(63-s)) & (1<<p.width - 1)
}

func (p packed) put(i int, v uint64) {
	at := i * p.width
	w, s := at/64, at%64
	mask := uint64(1)<<p.width - 1
	p.words[w] = p.words[w]&^(mask<<s) | v<<s
	p.words[w+1] = p.words[w+1]&^(mask>>1>>(63-s)) | v>>1>>(63-s)
}
