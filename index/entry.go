package index

import (
	"crypto/subtle"
	"encoding/binary"

	"github.com/generalbots/backupd/crypto"
)

// Keys and values in Badger. Numbers are big-endian.
//
//	key                      value
//	'c' first 16 of id       number u32 | block u32 | offset u32 | length u32 | depth u8 | tag 8
//	'p' pack id              number u32 | tag 8          record: all entries of the pack are there
//	'n'                      next   u32 | tag 8          number of the next new pack
//
// A tag is the MAC of the first letter of the key and of
//
//	'c'    id | pack id | block | offset | length | depth
//	'p'    pack id | number
//	'n'    next
//
// Packs have local numbers to keep entries small. A number is never given twice, and if it were, the
// tag holds the pack id: an entry left behind by an old pack does not pass for one of the new. Half
// an id is enough of a key for the same reason: of two chunks with the same half only one
// is found, the other never taken for it.
const (
	chunkPrefix = 'c'
	packPrefix  = 'p'
	nextPrefix  = 'n'

	tagSize      = 8
	chunkKeySize = 1 + 16
	packKeySize  = 1 + len(crypto.PackID{})
	placeSize    = 4 + 4 + 4 + 1 // block, offset, length, depth
	entrySize    = 4 + placeSize + tagSize
	recordSize   = 4 + tagSize

	// 62 bytes, so that BLAKE3 needs one block for it.
	entryMACSize = 1 + len(crypto.ID{}) + len(crypto.PackID{}) + placeSize
)

// codec makes the scratches of one index.
type codec struct {
	repo crypto.RepoID
	key  crypto.Key
}

// newCodec binds the key to the repository, so that the tags of two repositories differ even if they
// should come to share a key.
func newCodec(k crypto.Key, repo crypto.RepoID) codec {
	return codec{repo: repo, key: crypto.Key(crypto.NewHasher(k).Sum(repo[:]))}
}

// scratch is what one goroutine needs to encode and to verify, without allocating.
type scratch struct {
	mac   *crypto.MAC
	key   [chunkKeySize]byte
	value []byte
	buf   [entryMACSize]byte
}

func (c *codec) newScratch() *scratch {
	return &scratch{mac: crypto.NewMAC(c.key), value: make([]byte, 0, 64)}
}

func putChunkKey(dst []byte, id *crypto.ID) {
	dst[0] = chunkPrefix
	copy(dst[1:], id[:chunkKeySize-1])
}

func putPlace(dst []byte, p *Place) {
	binary.BigEndian.PutUint32(dst, p.Block)
	binary.BigEndian.PutUint32(dst[4:], p.Offset)
	binary.BigEndian.PutUint32(dst[8:], p.Length)
	dst[12] = p.Depth
}

func (s *scratch) entryTag(id *crypto.ID, p *Place) [tagSize]byte {
	b := s.buf[:]
	b[0] = chunkPrefix
	n := 1 + copy(b[1:], id[:])
	n += copy(b[n:], p.Pack[:])
	putPlace(b[n:], p)
	return s.mac.Tag8(b)
}

func (s *scratch) putEntry(dst []byte, number uint32, id *crypto.ID, p *Place) {
	binary.BigEndian.PutUint32(dst, number)
	putPlace(dst[4:], p)
	tag := s.entryTag(id, p)
	copy(dst[4+placeSize:], tag[:])
}

// entryNumber is the pack number of an entry, before anything is verified.
func entryNumber(value []byte) (uint32, bool) {
	if len(value) != entrySize {
		return 0, false
	}
	return binary.BigEndian.Uint32(value), true
}

// openEntry decodes the value of id, whose number stands for pack. False: it was not written here for
// that id and pack.
func (s *scratch) openEntry(value []byte, id *crypto.ID, pack crypto.PackID) (Place, bool) {
	p := Place{
		Pack:   pack,
		Block:  binary.BigEndian.Uint32(value[4:]),
		Offset: binary.BigEndian.Uint32(value[8:]),
		Length: binary.BigEndian.Uint32(value[12:]),
		Depth:  value[16],
	}
	tag := s.entryTag(id, &p)
	if subtle.ConstantTimeCompare(tag[:], value[4+placeSize:]) != 1 {
		return Place{}, false
	}
	return p, true
}

// putNumber encodes the value of a record or of the counter, whose key it covers.
func (s *scratch) putNumber(dst, key []byte, number uint32) {
	binary.BigEndian.PutUint32(dst, number)
	tag := s.numberTag(key, number)
	copy(dst[4:], tag[:])
}

func (s *scratch) openNumber(key, value []byte) (uint32, bool) {
	if len(value) != recordSize || len(key) > packKeySize {
		return 0, false
	}
	number := binary.BigEndian.Uint32(value)
	tag := s.numberTag(key, number)
	return number, subtle.ConstantTimeCompare(tag[:], value[4:]) == 1
}

func (s *scratch) numberTag(key []byte, number uint32) [tagSize]byte {
	b := s.buf[:0]
	b = append(b, key...)
	b = binary.BigEndian.AppendUint32(b, number)
	return s.mac.Tag8(b)
}
