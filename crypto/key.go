package crypto

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"

	"github.com/zeebo/blake3"
)

const keySize = 32

// Key is a secret derived for one Purpose. It prints [redacted]; to hand its
// bytes to another library slice it, which is easy to see in review.
type Key [keySize]byte

// String returns "[redacted]".
func (Key) String() string { return redactedText }

// GoString returns "[redacted]".
func (Key) GoString() string { return redactedText }

// Format prints "[redacted]" for every verb.
func (Key) Format(s fmt.State, verb rune) { redacted{}.Format(s, verb) }

// LogValue returns "[redacted]".
func (Key) LogValue() slog.Value { return redacted{}.LogValue() }

// MarshalText returns "[redacted]", so that no encoder shows the bytes. There is
// no way back.
func (Key) MarshalText() ([]byte, error) { return redacted{}.MarshalText() }

// Purpose says what a derived key is for. Keys of two purposes are independent.
type Purpose string

// The purposes of format v1. A purpose's text is part of the format: never
// reused, never changed.
const (
	PurposeDataID   Purpose = "id/data"      // ids of file contents
	PurposeTreeID   Purpose = "id/tree"      // ids of directory pages and chunk lists
	PurposePack     Purpose = "pack"         // NewPackSealer
	PurposeManifest Purpose = "manifest"     // SealFile of snapshot manifests
	PurposeConfig   Purpose = "config"       // SealFile of the repository configuration
	PurposeGear     Purpose = "chunker/gear" // GearMaterial
	PurposeIndex    Purpose = "index"        // NewMAC of index entries
	PurposeRecord   Purpose = "record"       // SealFile of deletion records
	PurposeTomb     Purpose = "tomb"         // SealFile of gc tombs
	PurposeAudit    Purpose = "audit"        // NewMAC of the daemon's audit log, which is outside the format
)

// deriveContext precedes the purpose in the BLAKE3 derive_key context.
const deriveContext = "backupd 2026 v1 "

// MasterKey is the root of all keys of a repository. It never leaves the
// package; slots seal it, Derive uses it. Its 32 bytes lie outside the Go heap
// in a page that is not swapped, dumped or inherited as far as the system allows.
// Methods may be called concurrently, except Wipe, which comes after all others.
type MasterKey struct {
	redacted
	page    *page
	release runtime.Cleanup // frees page when the MasterKey is forgotten instead of wiped
	wiped   atomic.Bool
}

// GenerateMasterKey draws a new master key, once in the life of a repository.
// The error is the system's, out of memory or out of randomness.
func GenerateMasterKey() (*MasterKey, error) {
	var secret [keySize]byte
	defer clear(secret[:])
	if _, err := rand.Read(secret[:]); err != nil {
		return nil, err
	}
	return newMasterKey(&secret)
}

// newMasterKey copies secret; the caller wipes its own copy.
func newMasterKey(secret *[keySize]byte) (*MasterKey, error) {
	p, err := newPage()
	if err != nil {
		return nil, err
	}
	copy(p.bytes(), secret[:])
	m := &MasterKey{page: p}
	m.release = runtime.AddCleanup(m, (*page).free, p)
	return m, nil
}

// Derive returns the key for one purpose: BLAKE3 derive_key with the context
// "backupd 2026 v1 " + p. It panics after Wipe.
func (m *MasterKey) Derive(p Purpose) Key {
	var k Key
	m.derive(p, k[:])
	return k
}

// GearMaterial returns the secret bytes of the chunker's gear table: the first
// 2,048 bytes of the derive_key output for PurposeGear. It panics after Wipe.
func (m *MasterKey) GearMaterial() *[2048]byte {
	out := new([2048]byte)
	m.derive(PurposeGear, out[:])
	return out
}

// Wipe overwrites the master key and gives its memory back. Keys derived before
// stay usable; Derive and the sealing of slots panic from now on. It may be
// called again.
func (m *MasterKey) Wipe() {
	if m.wiped.CompareAndSwap(false, true) {
		m.release.Stop()
		m.page.free()
	}
}

func (m *MasterKey) derive(p Purpose, out []byte) {
	h := blake3.NewDeriveKey(deriveContext + string(p))
	m.use(func(secret []byte) { h.Write(secret) })
	if len(out) == keySize {
		h.Sum(out[:0])
	} else {
		h.Digest().Read(out)
	}
	// The hasher's buffer holds the master key: write over it.
	h.Reset()
	h.Write(make([]byte, keySize))
}

// use calls f with the key's own memory, which f must not keep. The garbage
// collector does not see that memory: were m forgotten while f still reads, the
// page would be unmapped under it.
func (m *MasterKey) use(f func(secret []byte)) {
	if m.wiped.Load() {
		panic("crypto: internal error: master key used after Wipe")
	}
	f(m.page.bytes())
	runtime.KeepAlive(m)
}
