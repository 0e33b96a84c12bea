package repo

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/generalbots/backupd/crypto"
)

// A tree is made of pages, each a chunk of its own:
//
//	directory leaf    0x10  entry*
//	entry             uvarint length | body (tree_codec.go)
//	directory branch  0x10|level  item*
//	item              uvarint length | last name | id 32 | uvarint entries
//	content leaf      0x20  ref*
//	ref               id 32 | uvarint length
//	content branch    0x20|level  item*
//	item              id 32 | uvarint chunks | uvarint bytes
//
// A branch repeats what its child holds, and whoever reads the child compares:
// pages can not form a cycle, being named by hashes of themselves, but their
// levels, names and counts could lie, and a lie is damage.
const (
	dirPageKind     = 0x10
	contentPageKind = 0x20
)

// Where pages are cut decides only how much two versions share; a reader takes
// any cut. Both bounds are on the whole page, its first byte included.
const (
	minPageCut = 4 << 10   // no cut by hash below
	maxPageCut = 128 << 10 // a page stays at or below it, or holds one entry
	// meanPageCut is the mean number of bytes from minPageCut to the cut.
	meanPageCut = 24 << 10

	minContentItems = 128
	maxContentItems = 4096
	contentCutByte  = 0  // the byte of the id that must be zero: 1 in 256
	maxLikePages    = 8  // base pages named for one new page
	maxOpenDirs     = 32 // directories of a walk whose pages are kept
)

// pageSink stores tree pages.
type pageSink interface {
	// putPage stores a page and returns its id. like names pages of the base
	// version that resemble it: a dictionary to compress it with, and known to
	// be stored when one has the id of the page. Neither page nor like may be
	// kept after putPage returned; the writer uses their memory again.
	putPage(ctx context.Context, page []byte, like []crypto.ID) (crypto.ID, error)
}

// pageSource reads tree pages.
type pageSource interface {
	// page returns the bytes with that id, verified against it. They are never
	// modified by anybody, so slices of them may be kept.
	page(ctx context.Context, id crypto.ID) ([]byte, error)
}

// treeError makes an error about bytes of a tree that are not what a writer
// would have written.
func treeError(format string, args ...any) error {
	return fmt.Errorf("%w: tree: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// loadPage reads a page that must be of that kind and level.
func loadPage(ctx context.Context, src pageSource, id crypto.ID, kind, level uint8) ([]byte, error) {
	p, err := src.page(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(p) < 2 || len(p) > MaxPageSize {
		return nil, treeError("page %s has %d bytes", id.Short(), len(p))
	}
	if p[0] != kind|level {
		return nil, treeError("page %s begins with %#02x, want %#02x", id.Short(), p[0], kind|level)
	}
	return p, nil
}

// cutsAfter tells whether a directory page of that level may end after the
// item with that name and encoded size. It looks at nothing but the item, so
// the same item cuts wherever it stands and a change far away moves no cut.
// The chance grows with the size: pages of large entries are as long as pages
// of small ones.
func cutsAfter(name []byte, size int, level uint8) bool {
	h := uint64(14695981039346656037) // FNV-1a
	for _, c := range name {
		h = (h ^ uint64(c)) * 1099511628211
	}
	// FNV leaves the high bits of short names alike and has no levels: mix.
	h += uint64(level) * 0x9e3779b97f4a7c15
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return (h>>32)*meanPageCut < uint64(size)<<32
}

// nameError says why name can not be the name of an entry; "" when it can.
func nameError[T string | []byte](name T) string {
	switch {
	case len(name) == 0:
		return "empty name"
	case len(name) > MaxNameLength:
		return "name too long"
	case name[0] == '.' && (len(name) == 1 || len(name) == 2 && name[1] == '.'):
		return "name is . or .."
	}
	for i := range len(name) {
		if c := name[i]; c == '/' || c == 0 {
			return "name holds / or NUL"
		}
	}
	return ""
}

// treeDecoder reads fields from a page. The first field that is not well formed
// sets bad, and all after it read as zero.
type treeDecoder struct {
	b   []byte
	off int
	bad string
}

func (d *treeDecoder) fail(reason string) {
	if d.bad == "" {
		d.bad = reason
	}
	d.off = len(d.b)
}

func (d *treeDecoder) left() int { return len(d.b) - d.off }

func (d *treeDecoder) uint8() uint8 {
	if d.off >= len(d.b) {
		d.fail("cut short")
		return 0
	}
	v := d.b[d.off]
	d.off++
	return v
}

// uvarint reads a number in its shortest form; no other form is accepted, so
// that one value has one encoding.
func (d *treeDecoder) uvarint() uint64 {
	v, off := uvarintAt(d.b, d.off)
	if off > len(d.b) {
		d.fail(badNumber)
		return 0
	}
	d.off = off
	return v
}

const (
	badNumber = "number is cut short, too large or not in its shortest form"
	// badOffset is where a field ends that is not well formed. A field read from
	// there is not well formed either.
	badOffset = math.MaxInt - MaxPageSize
)

// uvarintAt reads the number at off and returns where it ends, or badOffset.
// Most of what an unchanged backup does is in here, so up to eight bytes are
// taken at once.
func uvarintAt(b []byte, off int) (v uint64, end int) {
	if off > len(b)-8 {
		return shortUvarintAt(b, off)
	}
	x := binary.LittleEndian.Uint64(b[off:])
	if x&0x80 == 0 {
		return x & 0x7f, off + 1
	}
	stop := ^x & 0x8080808080808080 // set in the bytes that can be the last
	if stop == 0 {
		return shortUvarintAt(b, off)
	}
	n := bits.TrailingZeros64(stop) / 8 // bytes before the last
	x &= stop ^ (stop - 1)
	x = x&0x007f007f007f007f | x&0x7f007f007f007f00>>1
	x = x&0x00003fff00003fff | x&0x3fff00003fff0000>>2
	x = x&0x000000000fffffff | x&0x0fffffff00000000>>4
	if x>>(7*n) == 0 {
		return 0, badOffset
	}
	return x, off + n + 1
}

func shortUvarintAt(b []byte, off int) (v uint64, end int) {
	for i := 0; off+i < len(b); i++ {
		c := b[off+i]
		if i == binary.MaxVarintLen64-1 && c > 1 {
			break
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				break
			}
			return v, off + i + 1
		}
	}
	return 0, badOffset
}

// bytesAt reads a length of at most limit and the bytes behind it, and returns
// where they end, or badOffset.
func bytesAt(b []byte, off, limit int) (p []byte, end int) {
	n, off := uvarintAt(b, off)
	if n > uint64(limit) || int(n) > len(b)-off {
		return nil, badOffset
	}
	return b[off : off+int(n)], off + int(n)
}

func (d *treeDecoder) uint32() uint32 {
	v := d.uvarint()
	if v > math.MaxUint32 {
		d.fail("number above 32 bits")
		return 0
	}
	return uint32(v)
}

// int64 reads a number that is not negative.
func (d *treeDecoder) int64() int64 {
	v := d.uvarint()
	if v > math.MaxInt64 {
		d.fail("number above 63 bits")
		return 0
	}
	return int64(v)
}

// bytes reads a length of at most limit and that many bytes, which are a part
// of the page.
func (d *treeDecoder) bytes(limit int) []byte {
	p, off := bytesAt(d.b, d.off, limit)
	if off > len(d.b) {
		d.fail("length above its maximum or the page")
		return nil
	}
	d.off = off
	return p
}

func (d *treeDecoder) id() (id crypto.ID) {
	if d.left() < len(id) {
		d.fail("cut short")
		return id
	}
	copy(id[:], d.b[d.off:])
	d.off += len(id)
	return id
}
