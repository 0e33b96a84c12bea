package crypto

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// A key slot holds the master key, sealed under one credential:
//
//	  0 +----------------------------+
//	    | magic "bkpdslot"           |
//	  8 +------+------+------+-------+
//	    | ver  | kind | p    | label |  format version 1; SlotKind; argon2id
//	    |      |      |      | bytes |  threads; used bytes of the label
//	 12 +------+------+------+-------+
//	    | t              u32         |  argon2id passes
//	 16 | m              u32         |  argon2id memory, KiB
//	 20 | epoch          u32         |  of the master key
//	 24 | slot id        u32         |
//	 28 | created        i64         |  seconds since 1970
//	 36 | repository id  16 bytes    |
//	 52 | label          64 bytes    |  UTF-8, zeros after it
//	116 | salt           32 bytes    |  random
//	148 | commitment     32 bytes    |
//	180 +----------------------------+
//	    | master key     32 + 16     |  AES-256-GCM, zero nonce, AAD = bytes 0-179
//	228 +----------------------------+
//	    | checksum       16 bytes    |  BLAKE3 of bytes 0-227, truncated
//	244 +----------------------------+
//
// KEK = argon2id(passphrase, salt, t, m, p) or the 32 bytes of the key file or
// recovery code; t, m and p are zero then. HKDF-SHA-256 of the KEK with the salt
// and the info "backupd 2026 v1 slot/" + the kind's number in decimal gives 64
// bytes: the AES key, then the commitment. AES-GCM alone would let one slot be
// built that opens under many passphrases, so that each try tells an attacker
// about many of them; the commitment, compared first and in constant time, ties
// the slot to one KEK. The checksum tells rot from a wrong passphrase, which is
// what a person at a broken disk needs to know; it protects nothing.
const (
	slotMagic   = "bkpdslot"
	slotVersion = 1
	slotContext = "backupd 2026 v1 slot/"

	slotAtVersion    = 8
	slotAtKind       = 9
	slotAtThreads    = 10
	slotAtLabelLen   = 11
	slotAtTime       = 12
	slotAtMemory     = 16
	slotAtEpoch      = 20
	slotAtID         = 24
	slotAtCreated    = 28
	slotAtRepo       = 36
	slotAtLabel      = 52
	slotAtSalt       = slotAtLabel + MaxSlotLabel
	slotAtCommitment = slotAtSalt + saltSize
	slotAtSealed     = slotAtCommitment + commitmentSize
	slotAtChecksum   = slotAtSealed + keySize + Overhead

	commitmentSize   = 32
	slotChecksumSize = 16
)

// SlotSize is the length of every key slot in bytes.
const SlotSize = slotAtChecksum + slotChecksumSize

// MaxSlotLabel is the greatest length of a slot's label in bytes.
const MaxSlotLabel = 64

// Bounds of SlotParams, kept when a slot is written and checked when one is read,
// before any memory is allocated: a slot comes from whoever can write the
// repository.
const (
	minSlotMemoryKiB = 64 << 10
	maxSlotMemoryKiB = 1 << 20
	maxSlotTime      = 16
	maxSlotThreads   = 16
)

// SlotParams are the costs of argon2id. Passphrase slots take 1 to 16 passes, 64
// MiB to 1 GiB and 1 to 16 threads; slots of other kinds, whose credential can
// not be guessed, have the zero value.
type SlotParams struct {
	Time      uint32 // passes
	MemoryKiB uint32
	Threads   uint8
}

// DefaultSlotParams returns the costs of new passphrase slots: 3 passes, 256
// MiB, 4 threads; 0.3 to 0.8 s.
func DefaultSlotParams() SlotParams {
	return SlotParams{Time: 3, MemoryKiB: 256 << 10, Threads: 4}
}

// SlotInfo is what a slot says in the clear.
type SlotInfo struct {
	ID          uint32 // the slot's number in its repository
	Kind        SlotKind
	Epoch       uint32 // of the master key inside
	Label       string // for people: at most MaxSlotLabel bytes of printable UTF-8
	CreatedUnix int64  // seconds since 1970, not negative
	Params      SlotParams
}

// SealSlot returns a slot of SlotSize bytes that holds m for repository repo and
// opens with c. info.Kind must be c's kind, or zero to take it over. info.Params
// matters for passphrases only, where the zero value means DefaultSlotParams. An
// info out of bounds is ErrSlotInvalid with the reason, a wiped credential
// ErrCredentialInvalid.
func SealSlot(m *MasterKey, repo RepoID, info SlotInfo, c Credential) ([]byte, error) {
	if c.wiped() {
		return nil, fmt.Errorf("%w: it is empty or was wiped", ErrCredentialInvalid)
	}
	if info.Kind == 0 {
		info.Kind = c.kind
	}
	if info.Kind != c.kind {
		return nil, fmt.Errorf("%w: a %v can not open a slot for a %v", ErrSlotInvalid, c.kind, info.Kind)
	}
	switch {
	case info.Kind != SlotPassphrase:
		info.Params = SlotParams{}
	case info.Params == SlotParams{}:
		info.Params = DefaultSlotParams()
	}
	if err := info.validate(); err != nil {
		return nil, err
	}
	b := make([]byte, slotAtSalt, SlotSize)
	copy(b, slotMagic)
	b[slotAtVersion] = slotVersion
	b[slotAtKind] = byte(info.Kind)
	b[slotAtThreads] = info.Params.Threads
	b[slotAtLabelLen] = byte(len(info.Label))
	binary.BigEndian.PutUint32(b[slotAtTime:], info.Params.Time)
	binary.BigEndian.PutUint32(b[slotAtMemory:], info.Params.MemoryKiB)
	binary.BigEndian.PutUint32(b[slotAtEpoch:], info.Epoch)
	binary.BigEndian.PutUint32(b[slotAtID:], info.ID)
	binary.BigEndian.PutUint64(b[slotAtCreated:], uint64(info.CreatedUnix))
	copy(b[slotAtRepo:], repo[:])
	copy(b[slotAtLabel:], info.Label)

	b = b[:slotAtCommitment]
	salt := b[slotAtSalt:]
	if _, err := rand.Read(salt); err != nil {
		return nil, err
	}
	key, commitment, err := slotKeys(c, info.Params, salt)
	if err != nil {
		return nil, err
	}
	b = append(b, commitment...)
	m.use(func(secret []byte) { b = newGCM(key).Seal(b, make([]byte, nonceSize), secret, b) })
	sum := Sum256(b)
	return append(b, sum[:slotChecksumSize]...), nil
}

// ParseSlot reads what a slot says in the clear. It needs no secret and proves
// nothing but that the slot is whole: who can write the repository can make one.
// Anything else is ErrSlotInvalid with the reason.
func ParseSlot(b []byte) (SlotInfo, error) {
	if len(b) != SlotSize {
		return SlotInfo{}, fmt.Errorf("%w: %d bytes instead of %d", ErrSlotInvalid, len(b), SlotSize)
	}
	if string(b[:len(slotMagic)]) != slotMagic {
		return SlotInfo{}, fmt.Errorf("%w: it does not start as a key slot does", ErrSlotInvalid)
	}
	sum := Sum256(b[:slotAtChecksum])
	if !bytes.Equal(sum[:slotChecksumSize], b[slotAtChecksum:]) {
		return SlotInfo{}, fmt.Errorf("%w: the checksum does not fit, it is damaged", ErrSlotInvalid)
	}
	if v := b[slotAtVersion]; v != slotVersion {
		return SlotInfo{}, fmt.Errorf("%w: version %d, this program reads version %d", ErrSlotInvalid, v, slotVersion)
	}
	n := int(b[slotAtLabelLen])
	if n > MaxSlotLabel {
		return SlotInfo{}, fmt.Errorf("%w: a label of %d bytes, at most %d", ErrSlotInvalid, n, MaxSlotLabel)
	}
	label := b[slotAtLabel:slotAtSalt]
	for _, c := range label[n:] {
		if c != 0 {
			return SlotInfo{}, fmt.Errorf("%w: bytes after the label", ErrSlotInvalid)
		}
	}
	info := SlotInfo{
		ID:          binary.BigEndian.Uint32(b[slotAtID:]),
		Kind:        SlotKind(b[slotAtKind]),
		Epoch:       binary.BigEndian.Uint32(b[slotAtEpoch:]),
		Label:       string(label[:n]),
		CreatedUnix: int64(binary.BigEndian.Uint64(b[slotAtCreated:])),
		Params: SlotParams{
			Time:      binary.BigEndian.Uint32(b[slotAtTime:]),
			MemoryKiB: binary.BigEndian.Uint32(b[slotAtMemory:]),
			Threads:   b[slotAtThreads],
		},
	}
	if err := info.validate(); err != nil {
		return SlotInfo{}, err
	}
	return info, nil
}

// CheckSlot is ParseSlot for a slot that must be of repository repo; one of
// another is ErrSlotInvalid too.
func CheckSlot(b []byte, repo RepoID) (SlotInfo, error) {
	info, err := ParseSlot(b)
	if err != nil {
		return SlotInfo{}, err
	}
	if RepoID(b[slotAtRepo:slotAtLabel]) != repo {
		return SlotInfo{}, fmt.Errorf("%w: it belongs to another repository", ErrSlotInvalid)
	}
	return info, nil
}

// OpenSlot returns the master key in slot b of repository repo. A credential
// that does not open it, be it of another kind, is ErrWrongKey; a slot that is
// malformed, of another repository, or altered after it was sealed is
// ErrSlotInvalid. A passphrase costs the slot's SlotParams in time and memory.
func OpenSlot(b []byte, repo RepoID, c Credential) (*MasterKey, error) {
	info, err := CheckSlot(b, repo)
	if err != nil {
		return nil, err
	}
	if c.kind != info.Kind || c.wiped() {
		return nil, ErrWrongKey
	}
	key, commitment, err := slotKeys(c, info.Params, b[slotAtSalt:slotAtCommitment])
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(commitment, b[slotAtCommitment:slotAtSealed]) != 1 {
		return nil, ErrWrongKey
	}
	secret, err := newGCM(key).Open(nil, make([]byte, nonceSize), b[slotAtSealed:slotAtChecksum], b[:slotAtSealed])
	if err != nil {
		return nil, fmt.Errorf("%w: it was altered after it was sealed", ErrSlotInvalid)
	}
	defer clear(secret)
	return newMasterKey((*[keySize]byte)(secret))
}

// slotKeys derives the slot's AES key and its commitment from a credential.
func slotKeys(c Credential, p SlotParams, salt []byte) (key Key, commitment []byte, err error) {
	kek := c.secret
	if c.kind == SlotPassphrase {
		kek = argon2.IDKey(c.secret, salt, p.Time, p.MemoryKiB, p.Threads, keySize)
		defer clear(kek)
	}
	out, err := hkdf.Key(sha256.New, kek, salt, fmt.Sprintf("%s%d", slotContext, c.kind), keySize+commitmentSize)
	if err != nil {
		return Key{}, nil, err
	}
	defer clear(out[:keySize])
	return Key(out[:keySize]), out[keySize:], nil
}

func (i *SlotInfo) validate() error {
	p := i.Params
	switch i.Kind {
	case SlotPassphrase:
		switch {
		case p.MemoryKiB < minSlotMemoryKiB || p.MemoryKiB > maxSlotMemoryKiB:
			return fmt.Errorf("%w: argon2id memory of %d KiB, allowed are %d to %d", ErrSlotInvalid, p.MemoryKiB, minSlotMemoryKiB, maxSlotMemoryKiB)
		case p.Time < 1 || p.Time > maxSlotTime:
			return fmt.Errorf("%w: %d argon2id passes, allowed are 1 to %d", ErrSlotInvalid, p.Time, maxSlotTime)
		case p.Threads < 1 || p.Threads > maxSlotThreads:
			return fmt.Errorf("%w: %d argon2id threads, allowed are 1 to %d", ErrSlotInvalid, p.Threads, maxSlotThreads)
		}
	case SlotKeyFile, SlotRecovery:
		if p != (SlotParams{}) {
			return fmt.Errorf("%w: argon2id parameters on a slot for a %v", ErrSlotInvalid, i.Kind)
		}
	default:
		return fmt.Errorf("%w: unknown %v", ErrSlotInvalid, i.Kind)
	}
	if i.CreatedUnix < 0 {
		return fmt.Errorf("%w: created before 1970", ErrSlotInvalid)
	}
	if len(i.Label) > MaxSlotLabel {
		return fmt.Errorf("%w: a label of %d bytes, at most %d", ErrSlotInvalid, len(i.Label), MaxSlotLabel)
	}
	// Labels are shown on terminals: what steers one has no place in them.
	if !utf8.ValidString(i.Label) {
		return fmt.Errorf("%w: the label is not UTF-8", ErrSlotInvalid)
	}
	for _, r := range i.Label {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%w: the label has a character that can not be printed", ErrSlotInvalid)
		}
	}
	return nil
}
