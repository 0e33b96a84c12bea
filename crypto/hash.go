package crypto

import (
	"bytes"
	"encoding/binary"

	"github.com/zeebo/blake3"
)

// Hasher makes chunk ids under one key. It is reused for many chunks without
// allocating; one goroutine at a time may use it (it is 10 KiB, give each
// worker its own).
type Hasher struct {
	redacted
	h   *blake3.Hasher
	sum ID

	zeros   int // zeroSum is the id of so many zeros
	zeroSum ID
}

// leastZeros is from where on it pays to look whether there is anything but
// zeros. Images of disks have long stretches of them, cut at the greatest length.
const leastZeros = 4 << 10

// NewHasher returns a Hasher for ids under k, which is derived with
// PurposeDataID or PurposeTreeID.
func NewHasher(k Key) *Hasher { return &Hasher{h: newKeyed(k)} }

// Sum returns the id of p: keyed BLAKE3-256.
func (h *Hasher) Sum(p []byte) ID {
	if len(p) < leastZeros || !allZeros(p) {
		return h.hash(p)
	}
	if h.zeros != len(p) {
		h.zeros, h.zeroSum = len(p), h.hash(p)
	}
	return h.zeroSum
}

// allZeros compares p with itself, moved by a word that is zero: a tenth of the
// time of hashing it. p has at least 8 bytes.
func allZeros(p []byte) bool {
	return binary.NativeEndian.Uint64(p) == 0 && bytes.Equal(p[8:], p[:len(p)-8])
}

func (h *Hasher) hash(p []byte) ID {
	h.h.Reset()
	h.h.Write(p)
	h.h.Sum(h.sum[:0])
	return h.sum
}

// MAC authenticates short records that lie where others may write, such as
// index entries and lines of the audit log. One goroutine at a time; no call allocates.
type MAC struct {
	redacted
	h   *blake3.Hasher
	sum [32]byte
}

// NewMAC returns a MAC under k.
func NewMAC(k Key) *MAC { return &MAC{h: newKeyed(k)} }

// Tag8 returns the first 8 bytes of the keyed BLAKE3 of p. Eight bytes suffice
// where a forger can try only against a running program, and a wrong guess is
// an entry ignored.
func (m *MAC) Tag8(p []byte) [8]byte {
	m.h.Reset()
	m.h.Write(p)
	m.h.Sum(m.sum[:0])
	return [8]byte(m.sum[:8])
}

// Sum returns the whole keyed BLAKE3-256 of p, for records that must stand for
// themselves against somebody who has all the time in the world.
func (m *MAC) Sum(p []byte) [32]byte {
	m.h.Reset()
	m.h.Write(p)
	m.h.Sum(m.sum[:0])
	return m.sum
}

// Sum256 returns the plain BLAKE3-256 of p, for checksums and hash chains over
// bytes that are not secret.
func Sum256(p []byte) [32]byte { return blake3.Sum256(p) }

func newKeyed(k Key) *blake3.Hasher {
	h, err := blake3.NewKeyed(k[:])
	if err != nil {
		panic("crypto: internal error: " + err.Error())
	}
	return h
}

// subkey derives the key of one pack or file: keyed BLAKE3-256 of its name
// under the purpose's key.
func subkey(k Key, name []byte) Key {
	h := newKeyed(k)
	h.Write(name)
	var out Key
	h.Sum(out[:0])
	return out
}
