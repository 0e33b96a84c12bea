package crypto

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"sync/atomic"
	"time"
)

// ID names a chunk: the keyed BLAKE3-256 of its plaintext, made by Hasher.Sum.
// Equal plaintext under one key has one ID, and whoever lacks the key can not
// tell which plaintext an ID stands for.
type ID [32]byte

// PackID names a pack. It is drawn at random, once, and never reused: the pack's
// AES key is derived from it.
type PackID [16]byte

// RepoID names a repository, and is bound into everything sealed for it.
type RepoID [16]byte

// errIDText is all a parser says about a malformed id: callers know which id they asked for.
var errIDText = errors.New("id is not lower-case hexadecimal of the right length")

// String returns 64 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first 12 digits of String: for people and logs, not a name.
func (id ID) Short() string { return hex.EncodeToString(id[:6]) }

// IsZero reports whether id is the zero value, which no chunk has.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText returns String's text.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(text []byte) error { return parseHex(id[:], text) }

// ParseID reads the 64 digits of String. Upper-case digits are refused: an id
// has one spelling.
func ParseID(s string) (ID, error) {
	var id ID
	err := parseHex(id[:], []byte(s))
	return id, err
}

// String returns 32 lower-case hexadecimal digits: the pack's file name.
func (id PackID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is the zero value, which no pack has.
func (id PackID) IsZero() bool { return id == PackID{} }

// MarshalText returns String's text.
func (id PackID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *PackID) UnmarshalText(text []byte) error { return parseHex(id[:], text) }

// ParsePackID reads the 32 digits of String; upper-case digits are refused.
func ParsePackID(s string) (PackID, error) {
	var id PackID
	err := parseHex(id[:], []byte(s))
	return id, err
}

// String returns 32 lower-case hexadecimal digits.
func (id RepoID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is the zero value, which no repository has.
func (id RepoID) IsZero() bool { return id == RepoID{} }

// MarshalText returns String's text.
func (id RepoID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *RepoID) UnmarshalText(text []byte) error { return parseHex(id[:], text) }

// ParseRepoID reads the 32 digits of String; upper-case digits are refused.
func ParseRepoID(s string) (RepoID, error) {
	var id RepoID
	err := parseHex(id[:], []byte(s))
	return id, err
}

func parseHex(dst, text []byte) error {
	if len(text) != 2*len(dst) {
		return errIDText
	}
	for _, c := range text {
		if c >= 'A' && c <= 'F' {
			return errIDText
		}
	}
	if _, err := hex.Decode(dst, text); err != nil {
		clear(dst)
		return errIDText
	}
	return nil
}

// packCounter counts pack ids made by this process. It is the one variable of
// the package that changes: see NewPackID.
var packCounter atomic.Uint64

// NewPackID draws a pack id. A pack's AES key and its counter nonces hang on the
// id alone, so two packs with one id would share a key stream. Random bytes
// suffice as long as the generator is sound; after a virtual machine was cloned
// or resumed twice it may not be, so the id is a hash of 32 random bytes
// together with boot id, process id, a counter and the time. Safe for concurrent
// use.
func NewPackID() (PackID, error) {
	var b [32 + 36 + 3*8]byte
	if _, err := rand.Read(b[:32]); err != nil {
		return PackID{}, err
	}
	// Without /proc the field stays zero: it only adds to the random bytes.
	if boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		copy(b[32:68], boot)
	}
	binary.BigEndian.PutUint64(b[68:], uint64(os.Getpid()))
	binary.BigEndian.PutUint64(b[76:], packCounter.Add(1))
	binary.BigEndian.PutUint64(b[84:], uint64(time.Now().UnixNano()))
	sum := Sum256(b[:])
	return PackID(sum[:16]), nil
}

// NewRepoID draws a repository id, once in the life of a repository.
func NewRepoID() (RepoID, error) {
	var id RepoID
	_, err := rand.Read(id[:])
	return id, err
}
