package repo

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/generalbots/backupd/crypto"
)

// A pack is one file of the store. All integers are little endian.
//
//	+--------+---------+---------+-- … --+-----+---------+--------+
//	| header | block 0 | block 1 |       | pad | trailer | footer |
//	+--------+---------+---------+-- … --+-----+---------+--------+
//	   64      sealed    sealed          sealed   sealed     16
//
// header, clear, in the AAD of everything sealed in the pack:
//
//	 0  magic "bkupdpk1"   8
//	 8  format version     2
//	10  kind               1   1 data, 2 tree
//	11  profile            1   1 BLAKE3 ids, AES-256-GCM
//	12  key epoch          4
//	16  repository id     16
//	32  pack id           16
//	48  writer id         16
//
// footer, clear:
//
//	0  sealed trailer length   4
//	4  format version          2
//	6  reserved, zero          2
//	8  magic "bkupdend"        8
//
// AAD of a sealed part, 80 bytes:
//
//	 0  header            64
//	64  part kind          1   1 block, 2 pad, 3 trailer
//	65  codec              1
//	66  reserved, zero     2
//	68  ordinal            4
//	72  length before sealing   4
//	76  sealed length      4
//
// trailer, plaintext:
//
//	 0  block count B, the pad included   4
//	 4  dictionary chunk count D          4
//	 8  chunk count C                     4
//	12  reserved, zero                    4
//	16  B × block record                 20 each
//	    D × chunk id                     32 each
//	    C × (chunk id, length u32)       36 each
//	    zeros up to a multiple of TrailerBucket
//
// block record:
//
//	 0  sealed length      4
//	 4  plaintext length   4
//	 8  reach              4   see MaxReach
//	12  codec              1
//	13  depth              1
//	14  dictionary chunks  2
//	16  chunks             2
//	18  reserved, zero     2
//
// Blocks lie one after the other in the order of their records, so offsets
// are sums and cannot overlap. The pad is the last record.
const (
	packMagic      = "bkupdpk1"
	footerMagic    = "bkupdend"
	headerSize     = 64
	footerSize     = 16
	aadSize        = 80
	trailerHead    = 16
	blockRecSize   = 20
	chunkRecSize   = 36
	idSize         = 32
	profileDefault = 1

	// TrailerBucket is the multiple a trailer is padded to, so that its clear
	// length does not tell how many chunks a pack holds.
	TrailerBucket = 4096
)

// packKind says what the chunks of a pack are: the bytes of backed-up data, or
// tree pages. They never share a pack, so that reading a tree reads no data.
type packKind uint8

const (
	kindData packKind = 1
	kindTree packKind = 2
)

func (k packKind) String() string {
	switch k {
	case kindData:
		return "data"
	case kindTree:
		return "tree"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// The kinds of sealed parts of a pack; each is a nonce space of its own.
const (
	partBlock   = 1
	partPad     = 2
	partTrailer = 3
)

// codec says how the plaintext of a block became what is sealed.
type codec uint8

const (
	codecStored codec = 0 // as it is
	codecZstd   codec = 1 // one zstd frame
	codecDelta  codec = 2 // one zstd frame with a raw dictionary of earlier chunks
	codecPad    codec = 3 // zeros that nobody reads
)

func (c codec) String() string {
	switch c {
	case codecStored:
		return "stored"
	case codecZstd:
		return "zstd"
	case codecDelta:
		return "delta"
	case codecPad:
		return "pad"
	}
	return fmt.Sprintf("codec %d", uint8(c))
}

// packHeader is the clear beginning of a pack.
type packHeader struct {
	kind   packKind
	epoch  uint32
	repo   crypto.RepoID
	pack   crypto.PackID
	writer writerID
}

func (h *packHeader) encode() (b [headerSize]byte) {
	copy(b[0:], packMagic)
	binary.LittleEndian.PutUint16(b[8:], FormatVersion)
	b[10] = byte(h.kind)
	b[11] = profileDefault
	binary.LittleEndian.PutUint32(b[12:], h.epoch)
	copy(b[16:], h.repo[:])
	copy(b[32:], h.pack[:])
	copy(b[48:], h.writer[:])
	return b
}

// decodePackHeader reads a header and refuses everything this version does
// not know. That the header belongs to this file and is unchanged is proven
// later, by the trailer's seal.
func decodePackHeader(b []byte) (packHeader, error) {
	var h packHeader
	if len(b) < headerSize || string(b[:8]) != packMagic {
		return h, fmt.Errorf("%w: no pack header", ErrDamaged)
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v != FormatVersion {
		return h, versionError(v)
	}
	h.kind = packKind(b[10])
	if h.kind != kindData && h.kind != kindTree || b[11] != profileDefault {
		return h, fmt.Errorf("%w: pack header of unknown kind %d, profile %d", ErrDamaged, b[10], b[11])
	}
	h.epoch = binary.LittleEndian.Uint32(b[12:])
	copy(h.repo[:], b[16:])
	copy(h.pack[:], b[32:])
	copy(h.writer[:], b[48:])
	return h, nil
}

func versionError(v uint16) error {
	if v > FormatVersion {
		return fmt.Errorf("%w (version %d, this is %d)", ErrNewerFormat, v, FormatVersion)
	}
	return fmt.Errorf("%w: format version %d", ErrDamaged, v)
}

func encodeFooter(sealedTrailer int) (b [footerSize]byte) {
	binary.LittleEndian.PutUint32(b[0:], uint32(sealedTrailer))
	binary.LittleEndian.PutUint16(b[4:], FormatVersion)
	copy(b[8:], footerMagic)
	return b
}

func decodeFooter(b []byte) (sealedTrailer int, err error) {
	if len(b) != footerSize || string(b[8:]) != footerMagic || b[6] != 0 || b[7] != 0 {
		return 0, fmt.Errorf("%w: no pack footer: the pack is cut short or overwritten", ErrDamaged)
	}
	if v := binary.LittleEndian.Uint16(b[4:]); v != FormatVersion {
		return 0, versionError(v)
	}
	return int(binary.LittleEndian.Uint32(b)), nil
}

// appendAAD builds the additional data that binds a sealed part to its pack,
// its place and its lengths.
func appendAAD(dst []byte, header *[headerSize]byte, part byte, c codec, ordinal uint32, plain, sealed int) []byte {
	dst = append(dst, header[:]...)
	dst = append(dst, part, byte(c), 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, ordinal)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(plain))
	return binary.LittleEndian.AppendUint32(dst, uint32(sealed))
}

// blockRec is what the trailer says of one block.
type blockRec struct {
	sealed  uint32 // bytes in the pack, tag included
	plain   uint32 // bytes decoded
	reach   uint32 // plaintext bytes to decode for this block, see MaxReach
	codec   codec
	depth   uint8
	dicts   uint16 // chunk ids in its dictionary
	chunks  uint16
	offset  uint32 // in the pack; a sum, not stored
	dictAt  uint32 // first of its dictionary ids; a sum
	chunkAt uint32 // first of its chunks; a sum
}

// trailer is the decoded table of a pack. It keeps the plaintext it was
// decoded from and reads ids out of it in place.
type trailer struct {
	header packHeader
	blocks []blockRec
	dicts  []byte // idSize each
	chunks []byte // chunkRecSize each
	size   int64  // of the whole pack
}

func (t *trailer) dict(i uint32) (id crypto.ID) {
	copy(id[:], t.dicts[int(i)*idSize:])
	return id
}

func (t *trailer) chunk(i uint32) (id crypto.ID, length uint32) {
	rec := t.chunks[int(i)*chunkRecSize:][:chunkRecSize]
	copy(id[:], rec)
	return id, binary.LittleEndian.Uint32(rec[idSize:])
}

func (t *trailer) chunkCount() int { return len(t.chunks) / chunkRecSize }

// memory is about what keeping this trailer costs in bytes.
func (t *trailer) memory() int64 {
	table := trailerPlainSize(len(t.blocks), len(t.dicts)/idSize, t.chunkCount()) // kept whole, its padding too
	return int64(table) + int64(len(t.blocks))*40 + 200
}

// trailerPlainSize is the padded plaintext size of a trailer with that many
// records.
func trailerPlainSize(blocks, dicts, chunks int) int {
	n := trailerHead + blocks*blockRecSize + dicts*idSize + chunks*chunkRecSize
	return (n + TrailerBucket - 1) / TrailerBucket * TrailerBucket
}

// encodeTrailer writes the table with its padding.
func encodeTrailer(blocks []blockRec, dicts, chunks []byte) []byte {
	nd, nc := len(dicts)/idSize, len(chunks)/chunkRecSize
	b := make([]byte, 0, trailerPlainSize(len(blocks), nd, nc))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(blocks)))
	b = binary.LittleEndian.AppendUint32(b, uint32(nd))
	b = binary.LittleEndian.AppendUint32(b, uint32(nc))
	b = binary.LittleEndian.AppendUint32(b, 0)
	for i := range blocks {
		r := &blocks[i]
		b = binary.LittleEndian.AppendUint32(b, r.sealed)
		b = binary.LittleEndian.AppendUint32(b, r.plain)
		b = binary.LittleEndian.AppendUint32(b, r.reach)
		b = append(b, byte(r.codec), r.depth)
		b = binary.LittleEndian.AppendUint16(b, r.dicts)
		b = binary.LittleEndian.AppendUint16(b, r.chunks)
		b = append(b, 0, 0)
	}
	b = append(b, dicts...)
	b = append(b, chunks...)
	return b[:cap(b)]
}

// decodeTrailer reads a trailer's plaintext and checks everything a later
// reader relies on: that the records fill the pack exactly, that lengths add
// up and that no limit of the format is passed. packSize is the size of the
// pack's file, sealed the sealed length of the trailer.
func decodeTrailer(p []byte, packSize int64, sealed int) (*trailer, error) {
	bad := func(what string) (*trailer, error) {
		return nil, fmt.Errorf("%w: pack trailer: %s", ErrDamaged, what)
	}
	if len(p) < trailerHead || len(p)%TrailerBucket != 0 {
		return bad("length")
	}
	nb := binary.LittleEndian.Uint32(p[0:])
	nd := binary.LittleEndian.Uint32(p[4:])
	nc := binary.LittleEndian.Uint32(p[8:])
	if nb == 0 || nb > MaxBlocksPerPack || int64(nd)*idSize > int64(len(p)) || int64(nc)*chunkRecSize > int64(len(p)) {
		return bad("counts")
	}
	if trailerPlainSize(int(nb), int(nd), int(nc)) != len(p) || binary.LittleEndian.Uint32(p[12:]) != 0 {
		return bad("counts and length differ")
	}
	t := &trailer{blocks: make([]blockRec, nb), size: packSize}
	recs := p[trailerHead:]
	t.dicts = recs[int(nb)*blockRecSize:][:int(nd)*idSize]
	t.chunks = recs[int(nb)*blockRecSize+int(nd)*idSize:][:int(nc)*chunkRecSize]
	if rest := recs[int(nb)*blockRecSize+int(nd)*idSize+int(nc)*chunkRecSize:]; len(bytes.TrimLeft(rest, "\x00")) != 0 {
		return bad("padding is not zero")
	}
	offset := int64(headerSize)
	var dictAt, chunkAt uint32
	for i := range t.blocks {
		b := recs[i*blockRecSize:][:blockRecSize]
		r := &t.blocks[i]
		*r = blockRec{
			sealed: binary.LittleEndian.Uint32(b),
			plain:  binary.LittleEndian.Uint32(b[4:]),
			reach:  binary.LittleEndian.Uint32(b[8:]),
			codec:  codec(b[12]),
			depth:  b[13],
			dicts:  binary.LittleEndian.Uint16(b[14:]),
			chunks: binary.LittleEndian.Uint16(b[16:]),
			offset: uint32(offset), dictAt: dictAt, chunkAt: chunkAt,
		}
		if b[18] != 0 || b[19] != 0 {
			return bad("reserved bytes are not zero")
		}
		if r.sealed < crypto.Overhead || offset+int64(r.sealed) > packSize {
			return bad("a block reaches beyond the pack")
		}
		last := i == len(t.blocks)-1
		if err := t.checkRecord(r, last); err != nil {
			return nil, err
		}
		offset += int64(r.sealed)
		dictAt += uint32(r.dicts)
		chunkAt += uint32(r.chunks)
	}
	if dictAt != nd || chunkAt != nc {
		return bad("records and tables differ")
	}
	if offset+int64(sealed)+footerSize != packSize {
		return bad("the blocks do not fill the pack")
	}
	return t, nil
}

func (t *trailer) checkRecord(r *blockRec, last bool) error {
	bad := func(what string) error { return fmt.Errorf("%w: pack trailer: %s", ErrDamaged, what) }
	if last {
		if r.codec != codecPad || r.depth != 0 || r.dicts != 0 || r.chunks != 0 || r.reach != 0 || r.plain != r.sealed-crypto.Overhead {
			return bad("the last record is not a pad")
		}
		return nil
	}
	switch {
	case r.plain == 0 || r.plain > MaxChunkSize || r.plain > BlockSize && r.chunks != 1:
		return bad("block length")
	case r.chunks == 0 || r.chunks > MaxChunksPerBlock:
		return bad("chunks of a block")
	case r.codec > codecDelta:
		return bad("codec")
	case r.codec == codecStored && r.plain != r.sealed-crypto.Overhead:
		return bad("length of a stored block")
	case (r.codec == codecZstd || r.codec == codecDelta) && r.sealed-crypto.Overhead >= r.plain:
		return bad("a frame no shorter than what is in it")
	case (r.codec == codecDelta) != (r.dicts > 0) || (r.codec == codecDelta) != (r.depth > 0):
		return bad("dictionary and codec differ")
	case r.depth > MaxDepth || r.dicts > MaxDictionaryChunks:
		return bad("depth or dictionary")
	case r.reach < r.plain || r.reach > MaxReach:
		return bad("reach")
	case int64(r.dictAt)+int64(r.dicts) > int64(len(t.dicts)/idSize) || int64(r.chunkAt)+int64(r.chunks) > int64(t.chunkCount()):
		return bad("more chunks than the table holds")
	}
	var sum uint64
	for c := range uint32(r.chunks) {
		_, n := t.chunk(r.chunkAt + c)
		if n == 0 {
			return bad("an empty chunk")
		}
		sum += uint64(n)
	}
	if sum != uint64(r.plain) {
		return bad("chunk lengths do not add up to their block")
	}
	return nil
}

// packName is where a pack lies in the store.
func packName(id crypto.PackID, k packKind) string {
	h := id.String()
	return "packs/" + h[:2] + "/" + h + "." + k.String()
}

// parsePackName is the inverse of packName; ok is false for a name no pack has.
func parsePackName(name string) (id crypto.PackID, k packKind, ok bool) {
	base := name[strings.LastIndexByte(name, '/')+1:]
	h, kind, found := strings.Cut(base, ".")
	if !found {
		return id, 0, false
	}
	switch kind {
	case "data":
		k = kindData
	case "tree":
		k = kindTree
	default:
		return id, 0, false
	}
	id, err := crypto.ParsePackID(h)
	if err != nil || packName(id, k) != name {
		return id, 0, false
	}
	return id, k, true
}
