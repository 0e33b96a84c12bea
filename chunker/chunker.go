// Package chunker cuts bytes into chunks at places that their content chooses, so
// that an insertion moves the boundaries around it and no others.
//
// It is FastCDC's Gear hash under a secret table. For every position i
//
//	h(i) = h(i-1) << 1 + table[data[i]]        (mod 2^64)
//
// which depends on the 64 bytes up to i and on nothing before them. The first
// Min bytes of a chunk are not examined, except the last 64 to fill the window.
// A chunk ends behind the first byte with
//
//	h(i) < floor((2^64-1) / (D * 2^n))    while the chunk is shorter than s
//	h(i) < floor((2^64-1) / D) * 2^n      from there on (2^64-1 when D < 2^n)
//
// at Max at the latest; D = Avg - Min, n is the normalisation. So few chunks are
// short, few are long, and a boundary is a property of 64 bytes of content and of
// the distance from the boundary before: after a change the old and the new
// sequence meet again at the first candidate that both accept. The switch s =
// Min + D * 2^n * ln((2^n + 1) / 2^n) makes the mean length of chunks of random
// data Avg.
//
// Thresholds take the place of FastCDC's masks: a comparison with the highest
// bits, which the whole window reaches, and any probability instead of powers of
// two. (W. Xia et al., "FastCDC", USENIX ATC 2016, and "The Design of Fast
// Content-Defined Chunking", IEEE TPDS 2020.)
//
// The table is secret because chunk lengths seen from outside would tell which
// public files are stored. It is linear and does not stand against an attacker
// who sees lengths; nothing outside the sealed packs shows any.
package chunker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// AlgorithmGear1 is this algorithm's number in the repository configuration. 2
// is reserved for toeplitz-aes.
const AlgorithmGear1 = 1

// window is how many bytes a Gear hash depends on: one per bit.
const window = 64

// Bounds of Params.
const (
	minMin           = window  // the window is filled from the skipped bytes
	maxMax           = 8 << 20 // what a reader of a repository must hold in memory
	maxNormalisation = 3
)

// ErrParams says that parameters are out of bounds. It comes with the reason.
var ErrParams = errors.New("chunker parameters are invalid")

// Params are the lengths of chunks in bytes. They stand in the repository
// configuration: other parameters cut the same content elsewhere, and nothing
// deduplicates across.
type Params struct {
	Min int // least length, except of the last chunk of a stream
	Avg int // mean length on random data; a power of two
	Max int // greatest length

	// Normalisation draws lengths towards Avg: 0 not at all, 3 most. Each
	// step doubles the rate of boundaries above the mean and halves it
	// below.
	Normalisation uint8
}

// Files returns the parameters for files: 16, 64 and 256 KiB.
func Files() Params { return Params{Min: 16 << 10, Avg: 64 << 10, Max: 256 << 10, Normalisation: 2} }

// Database returns the parameters for database dumps and files: 16, 64 and 256 KiB.
func Database() Params {
	return Params{Min: 16 << 10, Avg: 64 << 10, Max: 256 << 10, Normalisation: 2}
}

// Media returns the parameters for large files that rarely change inside: 256
// KiB, 1 and 4 MiB.
func Media() Params { return Params{Min: 256 << 10, Avg: 1 << 20, Max: 4 << 20, Normalisation: 2} }

// Validate returns ErrParams, with the reason, unless 64 <= Min < Avg < Max <= 8
// MiB, Avg is a power of two, and Normalisation at most 3.
func (p Params) Validate() error {
	switch {
	case p.Min < minMin:
		return fmt.Errorf("%w: minimum %d is below %d", ErrParams, p.Min, minMin)
	case p.Avg <= p.Min:
		return fmt.Errorf("%w: average %d is not above minimum %d", ErrParams, p.Avg, p.Min)
	case p.Avg&(p.Avg-1) != 0:
		return fmt.Errorf("%w: average %d is no power of two", ErrParams, p.Avg)
	case p.Max <= p.Avg:
		return fmt.Errorf("%w: maximum %d is not above average %d", ErrParams, p.Max, p.Avg)
	case p.Max > maxMax:
		return fmt.Errorf("%w: maximum %d is above %d", ErrParams, p.Max, maxMax)
	case p.Normalisation > maxNormalisation:
		return fmt.Errorf("%w: normalisation %d is above %d", ErrParams, p.Normalisation, maxNormalisation)
	}
	return nil
}

// switchFactor is 2^n * ln((2^n + 1) / 2^n) in units of 2^-16, by normalisation.
// Integers, so that every machine cuts alike.
var switchFactor = [maxNormalisation + 1]uint64{45426, 53145, 58496, 61752}

// Table maps a byte to its Gear value. It is a secret of the repository.
type Table struct{ gear [256]uint64 }

// NewTable returns the table of 256 little-endian 64-bit words in material, which
// comes from crypto.MasterKey.GearMaterial.
func NewTable(material *[2048]byte) *Table {
	t := new(Table)
	for i := range t.gear {
		t.gear[i] = binary.LittleEndian.Uint64(material[8*i:])
	}
	return t
}

// Format prints "[redacted]" for every verb.
func (Table) Format(s fmt.State, _ rune) { io.WriteString(s, "[redacted]") }

// Cutter finds boundaries. It does not change: any number of goroutines may use one.
type Cutter struct {
	params Params
	table  *Table
	turn   int    // chunk length from which easy holds
	hard   uint64 // below it a hash ends a chunk shorter than turn
	easy   uint64 // … and any other
}

// New returns the Cutter for p and t, or ErrParams.
func New(p Params, t *Table) (*Cutter, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	d, n := uint64(p.Avg-p.Min), p.Normalisation
	easy := uint64(math.MaxUint64)
	if d >= 1<<n {
		easy = math.MaxUint64 / d << n
	}
	return &Cutter{
		params: p,
		table:  t,
		turn:   min(p.Min+int(d*switchFactor[n]>>16), p.Max),
		hard:   math.MaxUint64 / (d << n),
		easy:   easy,
	}, nil
}

// Params returns what the Cutter was made with.
func (c *Cutter) Params() Params { return c.params }

// Cut returns the length of the first chunk of data. data begins where a chunk
// begins. final says that the stream ends with data: then the rest of it may be
// the last chunk. Otherwise 0 means that the first chunk ends beyond data; Cut
// never says so when it is given Max bytes. The result depends on the chunk's own
// bytes alone, not on how much follows them. It does not allocate.
func (c *Cutter) Cut(data []byte, final bool) int {
	p := &c.params
	if len(data) >= p.Max {
		data, final = data[:p.Max], true
	}
	// A chunk of length n ends with byte n-1: the hard limit holds for Min … turn-1.
	hard := data[:min(c.turn-1, len(data))]
	if n := scan(&c.table.gear, hard, p.Min-1, c.hard); n > 0 {
		return n
	}
	if n := scan(&c.table.gear, data, c.turn-1, c.easy); n > 0 {
		return n
	}
	if final {
		return len(data)
	}
	return 0
}
