package crypto

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
)

// Overhead is how many bytes longer a pack's sealed block is than its plaintext.
const Overhead = 16

const nonceSize = 12

// PackSealer seals and opens the blocks of one pack with AES-256-GCM under
// keyed BLAKE3(pack key, pack id). Safe for concurrent use.
//
// It does not remember what it has sealed: a pack id must come from NewPackID,
// and the writer of the pack must use each (kind, ordinal) for one plaintext
// only, since sealing two under one nonce gives both away.
type PackSealer struct {
	redacted
	aead cipher.AEAD
}

// NewPackSealer returns the sealer of pack id; packKey is derived with
// PurposePack.
func NewPackSealer(packKey Key, id PackID) *PackSealer {
	return &PackSealer{aead: newGCM(subkey(packKey, id[:]))}
}

// Seal appends plain, sealed, to dst and returns the result, Overhead bytes
// longer. plain[:0] as dst seals in place; any other overlap of the two panics.
// Without capacity in dst it allocates. Neither aad nor kind and ordinal are
// stored: Open wants the same.
func (s *PackSealer) Seal(dst, plain, aad []byte, kind byte, ordinal uint32) []byte {
	n := packNonce(kind, ordinal)
	return s.aead.Seal(dst, n[:], plain, aad)
}

// Open appends the plaintext of sealed to dst and returns the result. Any
// difference in key, kind, ordinal, aad or sealed bytes is ErrDamaged, and then
// no plaintext is left behind. sealed[:0] as dst opens in place.
func (s *PackSealer) Open(dst, sealed, aad []byte, kind byte, ordinal uint32) ([]byte, error) {
	n := packNonce(kind, ordinal)
	plain, err := s.aead.Open(dst, n[:], sealed, aad)
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

// packNonce is the only place where a pack nonce is built:
//
//	+-------------+------+---------+--------------+
//	| 0 0 0 0     | kind | 0 0 0   | ordinal (BE) |
//	+-------------+------+---------+--------------+
func packNonce(kind byte, ordinal uint32) [nonceSize]byte {
	var n [nonceSize]byte
	n[4] = kind
	binary.BigEndian.PutUint32(n[8:], ordinal)
	return n
}

// SealedFileOverhead is how many bytes longer a sealed file is than its
// plaintext: a 32-byte salt in front, the 16-byte tag behind.
const SealedFileOverhead = saltSize + Overhead

const saltSize = 32

// SealFile seals a small file that is written once and read whole, such as a
// manifest: a random 32-byte salt, then AES-256-GCM under keyed BLAKE3(k, salt)
// with a zero nonce, which is safe because no key is used twice. k is derived
// for the kind of file; aad binds the rest and is not stored. The error is the
// system's, out of randomness.
func SealFile(k Key, aad, plain []byte) ([]byte, error) {
	out := make([]byte, saltSize, saltSize+len(plain)+Overhead)
	if _, err := rand.Read(out); err != nil {
		return nil, err
	}
	return newGCM(subkey(k, out)).Seal(out, make([]byte, nonceSize), plain, aad), nil
}

// OpenFile returns the plaintext of what SealFile made, or ErrDamaged.
func OpenFile(k Key, aad, sealed []byte) ([]byte, error) {
	if len(sealed) < SealedFileOverhead {
		return nil, ErrDamaged
	}
	salt, box := sealed[:saltSize], sealed[saltSize:]
	plain, err := newGCM(subkey(k, salt)).Open(nil, make([]byte, nonceSize), box, aad)
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

func newGCM(k Key) cipher.AEAD {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic("crypto: internal error: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("crypto: internal error: " + err.Error())
	}
	return aead
}
