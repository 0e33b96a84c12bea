package repo

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// The codes of RFC 8878, 3.1.1.3.2.1.1: values below the first base stand for
// themselves, then each code has so many more bits.
var (
	literalLengths = newCodes(16, 16, []uint8{1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, 64,
		6, []int16{4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1})
	matchLengths = newCodes(32, 32, []uint8{1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, 128,
		6, []int16{1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1})
	offsetCodes = newCodes(0, 1, []uint8{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28}, 1,
		5, []int16{1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1})
)

const (
	mostCodes = 53
	codeRoom  = 64 // room for them that a code of six bits can not leave
	// ownLeast: so many sequences are worth a thought about tables of their own,
	// which have 1<<ownLog states at most, where the format takes twice that.
	ownLeast = 16
	ownLog   = 8
)

// The ways to say what the codes of a block stand under.
const (
	modePredefined = iota
	modeOne        // all are the same
	modeOwn
)

// codes are those of one kind of value, which never change, and how they stand
// under their predefined distribution.
type codes struct {
	bases  []uint32
	more   []uint8
	small  []uint8 // the codes of the values below its length
	large  int     // of those above: the code less the highest bit
	states states
	price  [mostCodes]float64 // bits of a code there
}

// states are a distribution's state machine.
type states struct {
	log  uint
	next []uint16 // state to state, by symbol
	of   [codeRoom]symbolStates
}

type symbolStates struct {
	width uint32 // bits to put out, in 1/65536, less than the state tells
	delta int32  // of its first state in next
}

// newCodes makes the codes of values below literal, which stand for
// themselves, and of those from base on. From table on, a power of two, every
// code is for one place of the highest bit. norm is the distribution: the states
// of each symbol among 1<<log, -1 for one state at the end.
func newCodes(literal int, base uint32, more []uint8, table uint32, log uint, norm []int16) *codes {
	c := new(codes)
	for v := range literal {
		c.bases, c.more = append(c.bases, uint32(v)), append(c.more, 0)
	}
	for _, n := range more {
		c.bases, c.more = append(c.bases, base), append(c.more, n)
		base += 1 << n
	}
	at := 0
	for v := range table + 1 {
		for at+1 < len(c.bases) && c.bases[at+1] <= v {
			at++
		}
		c.small = append(c.small, uint8(at))
	}
	c.large = int(c.small[table]) - bits.Len32(table)
	c.states.build(norm, log)
	prices(norm, log, &c.price)
	return c
}

// code returns the code of a value.
func (c *codes) code(v uint32) uint8 {
	if v < uint32(len(c.small)) {
		return c.small[v]
	}
	return uint8(bits.Len32(v) + c.large)
}

// prices says what a code costs in bits.
func prices(norm []int16, log uint, price *[mostCodes]float64) {
	for s, n := range norm {
		price[s] = float64(log)
		if n > 1 {
			price[s] -= math.Log2(float64(n))
		}
	}
}

// build makes the state machine of a distribution.
func (t *states) build(norm []int16, log uint) {
	size := 1 << log
	t.log = log
	var symbols [1 << (ownLog + 1)]uint8
	var first [mostCodes + 1]int
	high := size - 1
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
	if cap(t.next) < size {
		t.next = make([]uint16, size)
	}
	t.next = t.next[:size]
	fill := first
	for u, s := range symbols[:size] {
		t.next[fill[s]] = uint16(size + u)
		fill[s]++
	}
	for s := range norm {
		n := first[s+1] - first[s]
		if n <= 1 {
			t.of[s] = symbolStates{uint32(log)<<16 - uint32(size), int32(first[s] - 1)}
			continue
		}
		most := uint32(log) - uint32(bits.Len32(uint32(n-1))-1)
		t.of[s] = symbolStates{most<<16 - uint32(n)<<most, int32(first[s] - n)}
	}
}

// one makes the state machine of a single symbol.
func (t *states) one(s uint8) {
	t.log, t.next = 0, append(t.next[:0], 1)
	t.of[s] = symbolStates{0, -1}
}

// start returns the state whose symbol is s.
func (t *states) start(s uint8) uint32 {
	if t.log == 0 {
		return 1
	}
	x := &t.of[s]
	n := (x.width + 1<<15) >> 16
	return uint32(t.next[int32((n<<16-x.width)>>n)+x.delta])
}

// counts says how often each code is there.
type counts [codeRoom]uint32

// coder chooses how the codes of one kind stand in a block.
type coder struct {
	*codes
	count counts
	norm  [mostCodes]int16
	own   states
	use   *states // what they stand under, once it was chosen
}

// choose decides for the codes that were counted, n in all, and appends what the
// format has of the distribution.
func (c *coder) choose(dst []byte, n int) (mode byte, out []byte) {
	c.use = &c.states
	last, kinds := 0, 0
	predefined := 0.0
	for s, k := range c.count {
		if k > 0 {
			last, kinds = s, kinds+1
			predefined += float64(k) * c.price[s]
		}
	}
	if kinds == 1 && predefined > 8 {
		c.own.one(uint8(last))
		c.use = &c.own
		return modeOne, append(dst, byte(last))
	}
	if n < ownLeast || kinds == 1 {
		return modePredefined, dst
	}
	log := uint(min(ownLog, max(5, bits.Len(uint(n))-2, bits.Len(uint(kinds)))))
	norm := c.norm[:last+1]
	normalize(norm, c.count[:last+1], n, log)
	var price [mostCodes]float64
	prices(norm, log, &price)
	own := 0.0
	for s, k := range c.count[:last+1] {
		own += float64(k) * price[s]
	}
	out = appendDistribution(dst, norm, log)
	if own+float64(len(out)-len(dst))*8 >= predefined {
		return modePredefined, dst
	}
	c.own.build(norm, log)
	c.use = &c.own
	return modeOwn, out
}

// normalize shares 1<<log states among the symbols as often as they are counted,
// one at least to each that is.
func normalize(norm []int16, count []uint32, n int, log uint) {
	left := 1 << log
	for s, k := range count {
		norm[s] = 0
		if k > 0 {
			norm[s] = int16(max(1, (uint64(k)<<log+uint64(n)/2)/uint64(n)))
			left -= int(norm[s])
		}
	}
	// The rest falls to the largest, who feels it least, one by one where it is a debt.
	for left != 0 {
		largest := 0
		for s, k := range norm {
			if k > norm[largest] {
				largest = s
			}
		}
		by := left
		if left < 0 {
			by = -1
		}
		norm[largest] += int16(by)
		left -= by
	}
}

// appendDistribution writes a distribution as RFC 8878, 4.1.1, has it.
func appendDistribution(dst []byte, norm []int16, log uint) []byte {
	w := bitWriter{out: dst}
	w.put(uint32(log-5), 4)
	left, threshold, n := 1<<log+1, 1<<log, log+1
	for s := 0; left > 1; {
		v := int(norm[s]) + 1
		s++
		most := 2*threshold - 1 - left
		left -= v - 1
		zero := v == 1
		if v >= threshold {
			v += most
		}
		if v < most {
			w.put(uint32(v), n-1)
		} else {
			w.put(uint32(v), n)
		}
		for left < threshold {
			n--
			threshold >>= 1
		}
		if !zero {
			continue
		}
		run := 0
		for norm[s] == 0 {
			s++
			run++
		}
		for ; run >= 3; run -= 3 {
			w.put(3, 2)
		}
		w.put(uint32(run), 2)
	}
	if w.n > 0 {
		w.out = append(w.out, byte(w.acc))
	}
	return w.out
}

// bitWriter appends bits, the least significant first.
type bitWriter struct {
	out []byte
	acc uint64
	n   uint
}

// add takes the low n bits of v; flush comes before there are more than 64.
func (w *bitWriter) add(v uint32, n uint) {
	w.acc |= (uint64(v) & (1<<n - 1)) << (w.n & 63)
	w.n += n
}

// flush writes whole bytes; out has room for eight.
func (w *bitWriter) flush() {
	at := len(w.out)
	w.out = w.out[:at+8]
	binary.LittleEndian.PutUint64(w.out[at:], w.acc)
	k := w.n >> 3
	w.out = w.out[:at+int(k)]
	w.acc >>= (8 * k) & 63
	if k == 8 {
		w.acc = 0
	}
	w.n &= 7
}

// put is add and flush where nobody has made room.
func (w *bitWriter) put(v uint32, n uint) {
	for w.add(v, n); w.n >= 8; w.n -= 8 {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
	}
}

// close ends the stream with a bit that is set.
func (w *bitWriter) close() []byte {
	w.put(1, 1)
	if w.n > 0 {
		w.out = append(w.out, byte(w.acc))
	}
	return w.out
}
