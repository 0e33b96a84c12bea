package repo

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// A sealed file is a small object of the store that is written once and read
// whole: the config, a manifest, a record, a tomb. Integers are little endian.
//
//	+--------+------+--------------------------------+-----+
//	| header | salt | plaintext, AES-256-GCM         | tag |
//	+--------+------+--------------------------------+-----+
//	   64       32     a multiple of 512, at least 512  16
//
// header, clear:
//
//	 0  magic "bkupdsf1"   8
//	 8  format version     2
//	10  kind               1   1 config, 2 manifest, 3 forget, 4 undelete, 5 checkpoint (reserved), 6 tomb
//	11  profile            1   1 BLAKE3 ids, AES-256-GCM
//	12  key epoch          4
//	16  repository id     16
//	32  writer id         16   zero in a config
//	48  sequence number    8   of the writer, from 1; zero in a config
//	56  reserved, zero     8
//
// The AAD is the header, then the object's name in the store, so that nothing
// is valid in another place or repository, or as another kind; each kind of
// file has a key of its own besides. The plaintext is one JSON object, then
// spaces.
const (
	sealedMagic      = "bkupdsf1"
	sealedProfile    = 1
	sealedHeaderSize = 64
	sealedBucket     = 512
	sealedMinSize    = sealedHeaderSize + crypto.SealedFileOverhead + sealedBucket
)

// sealedKind says what a sealed file is. The values stand in headers.
type sealedKind uint8

const (
	sealedConfig     sealedKind = 1
	sealedManifest   sealedKind = 2
	sealedForget     sealedKind = 3
	sealedUndelete   sealedKind = 4
	sealedCheckpoint sealedKind = 5 // reserved: no version writes or reads one yet
	sealedTomb       sealedKind = 6
)

func (k sealedKind) String() string {
	switch k {
	case sealedConfig:
		return "config"
	case sealedManifest:
		return "snapshot manifest"
	case sealedForget:
		return "forget record"
	case sealedUndelete:
		return "undelete record"
	case sealedCheckpoint:
		return "checkpoint"
	case sealedTomb:
		return "tomb"
	}
	return fmt.Sprintf("file of kind %d", uint8(k))
}

// sealedHeader is what a sealed file says in the clear. The repository id is
// that of the keys.
type sealedHeader struct {
	kind   sealedKind
	epoch  uint32
	writer writerID
	seq    uint64
}

func (h *sealedHeader) encode(repo crypto.RepoID) []byte {
	b := make([]byte, sealedHeaderSize)
	copy(b, sealedMagic)
	binary.LittleEndian.PutUint16(b[8:], FormatVersion)
	b[10] = byte(h.kind)
	b[11] = sealedProfile
	binary.LittleEndian.PutUint32(b[12:], h.epoch)
	copy(b[16:], repo[:])
	copy(b[32:], h.writer[:])
	binary.LittleEndian.PutUint64(b[48:], h.seq)
	return b
}

// fileKeys seals and opens the small files of one repository. It is safe for
// concurrent use.
type fileKeys struct {
	repo     crypto.RepoID
	epoch    uint32 // of the master key
	config   crypto.Key
	manifest crypto.Key
	record   crypto.Key
	tomb     crypto.Key
}

// newFileKeys derives what the small files of repository repo are sealed
// with. epoch is that of the slot m came from.
func newFileKeys(m *crypto.MasterKey, repo crypto.RepoID, epoch uint32) *fileKeys {
	return &fileKeys{
		repo:     repo,
		epoch:    epoch,
		config:   m.Derive(crypto.PurposeConfig),
		manifest: m.Derive(crypto.PurposeManifest),
		record:   m.Derive(crypto.PurposeRecord),
		tomb:     m.Derive(crypto.PurposeTomb),
	}
}

func (k *fileKeys) key(kind sealedKind) crypto.Key {
	switch kind {
	case sealedConfig:
		return k.config
	case sealedManifest:
		return k.manifest
	case sealedForget, sealedUndelete:
		return k.record
	case sealedTomb:
		return k.tomb
	}
	panic("repo: internal error: no key for a " + kind.String())
}

// sealedSize is how long the sealed file of so many bytes of JSON is.
func sealedSize(plain int) int64 {
	buckets := (plain + sealedBucket - 1) / sealedBucket
	return int64(sealedHeaderSize + crypto.SealedFileOverhead + buckets*sealedBucket)
}

// seal returns the sealed file that holds v as JSON, to be stored under name
// and no other. The header's epoch is the keys'.
func (k *fileKeys) seal(name string, h sealedHeader, v any) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %v", name, err)
	}
	if pad := len(plain) % sealedBucket; pad != 0 {
		plain = append(plain, bytes.Repeat([]byte{' '}, sealedBucket-pad)...)
	}
	if size := sealedHeaderSize + crypto.SealedFileOverhead + len(plain); size > MaxSealedFileSize {
		return nil, fmt.Errorf("%s: a %v of %d bytes is larger than the %d the format allows", name, h.kind, size, MaxSealedFileSize)
	}
	h.epoch = k.epoch
	head := h.encode(k.repo)
	box, err := crypto.SealFile(k.key(h.kind), append(slices.Clip(head), name...), plain)
	if err != nil {
		return nil, fmt.Errorf("%s: %v", name, err)
	}
	return append(head, box...), nil
}

// open returns the header and the plaintext JSON, padding removed, of the
// sealed file b that was read under name. kinds are those the caller can use.
// Nothing of the header is trusted before the seal held; what it says only
// makes for a better error.
func (k *fileKeys) open(name string, b []byte, kinds ...sealedKind) (sealedHeader, []byte, error) {
	var h sealedHeader
	if len(b) < sealedMinSize {
		return h, nil, damagedFile(name, "it is cut short: %d bytes, a sealed file has at least %d", len(b), sealedMinSize)
	}
	if string(b[:8]) != sealedMagic {
		return h, nil, damagedFile(name, "it does not begin as a sealed file does")
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v != FormatVersion {
		if v > FormatVersion {
			return h, nil, fmt.Errorf("%s: %w (version %d, this is %d)", name, ErrNewerFormat, v, FormatVersion)
		}
		return h, nil, damagedFile(name, "it says format version %d", v)
	}
	h.kind = sealedKind(b[10])
	if !slices.Contains(kinds, h.kind) {
		if h.kind == sealedCheckpoint || h.kind > sealedTomb {
			return h, nil, fmt.Errorf("%s: %w (it is a %v)", name, ErrNewerFormat, h.kind)
		}
		return h, nil, damagedFile(name, "it is a %v, which has no place under this name", h.kind)
	}
	if b[11] != sealedProfile {
		return h, nil, fmt.Errorf("%s: %w (cipher profile %d, this knows %d)", name, ErrNewerFormat, b[11], sealedProfile)
	}
	h.epoch = binary.LittleEndian.Uint32(b[12:])
	if id := crypto.RepoID(b[16:32]); id != k.repo {
		return h, nil, damagedFile(name, "it belongs to repository %v, this one is %v", id, k.repo)
	}
	if h.epoch != k.epoch {
		return h, nil, damagedFile(name, "it is sealed under key epoch %d, the key in use is of epoch %d", h.epoch, k.epoch)
	}
	copy(h.writer[:], b[32:])
	h.seq = binary.LittleEndian.Uint64(b[48:])
	if !bytes.Equal(b[56:sealedHeaderSize], make([]byte, 8)) {
		return h, nil, damagedFile(name, "its reserved bytes are not zero")
	}
	if (len(b)-sealedMinSize)%sealedBucket != 0 {
		return h, nil, damagedFile(name, "%d bytes are no length of a sealed file: it is cut short or has something behind it", len(b))
	}
	plain, err := crypto.OpenFile(k.key(h.kind), append(slices.Clip(b[:sealedHeaderSize]), name...), b[sealedHeaderSize:])
	if err != nil {
		// The slot that gave the key is bound to this repository, so a wrong
		// key is no explanation.
		return h, nil, damagedFile(name, "its bytes were altered, or it was stored under another name")
	}
	return h, bytes.TrimRight(plain, " "), nil
}

// damagedFile is the error for an object whose bytes are not what was
// written. It names the object and says where to go from there.
func damagedFile(name, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %s; run \"backupd repo check\", and put the file back from another copy of the repository if there is one",
		name, ErrDamaged, fmt.Sprintf(format, args...))
}

// readObject returns the contents of a small object, of at most limit bytes.
// buf is used when it is large enough. A missing object is
// store.ErrNotExist.
func readObject(ctx context.Context, st store.Store, name string, limit int64, buf []byte) ([]byte, error) {
	o, err := st.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	size := o.Size()
	if size > limit {
		return nil, damagedFile(name, "%d bytes, at most %d are possible", size, limit)
	}
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if n, err := o.ReadAt(buf, 0); n < len(buf) {
		if err == nil || errors.Is(err, io.EOF) {
			return nil, damagedFile(name, "it became shorter while it was read")
		}
		return nil, err
	}
	return buf, nil
}

// writeObject stores a small object under a name that is free, and returns
// when it is durable. store.ErrExist when the name is taken. After any other
// error the object is absent or whole.
func writeObject(ctx context.Context, st store.Store, name string, data []byte) error {
	w, err := st.Create(ctx, name, int64(len(data)))
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.WriteAt(data, 0); err != nil {
		return err
	}
	return w.Commit(ctx)
}
