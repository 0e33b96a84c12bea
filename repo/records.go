package repo

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/generalbots/backupd/crypto"
)

// writerID names who wrote a pack or a chain of manifests: one state
// directory, not one host, so that two copies of a machine stay apart.
type writerID [16]byte

// place is where a manifest or record stands: as the seq-th file of a writer.
type place struct {
	writer writerID
	seq    uint64
}

func (p place) name() string { return fmt.Sprintf("%s/%x-%010d", snapshotDir, p.writer[:], p.seq) }

// hash is the BLAKE3-256 of all bytes of a file of the chain. The zero value
// stands for none, or for one that is not known.
type hash [32]byte

func (h hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText returns 64 hexadecimal digits, none for the zero value.
func (h hash) MarshalText() ([]byte, error) {
	if h == (hash{}) {
		return nil, nil
	}
	return hex.AppendEncode(nil, h[:]), nil
}

// UnmarshalText reads what MarshalText wrote.
func (h *hash) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*h = hash{}
		return nil
	}
	id, err := crypto.ParseID(string(text))
	if err != nil || id.IsZero() {
		return errors.New("a hash has 64 lower-case hexadecimal digits")
	}
	*h = hash(id)
	return nil
}

// MarshalText returns 32 hexadecimal digits.
func (w writerID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, w[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (w *writerID) UnmarshalText(text []byte) error {
	id, err := crypto.ParseRepoID(string(text))
	if err != nil || id.IsZero() {
		return errors.New("a writer id has 32 lower-case hexadecimal digits")
	}
	*w = writerID(id)
	return nil
}

// chainBody is the plaintext of a manifest or record. Exactly one of the
// three is there, the one that the header's kind says.
type chainBody struct {
	Prev     hash            `json:"prev"` // of the writer's file before; none in the first
	Snapshot *Manifest       `json:"snapshot,omitempty"`
	Forget   *forgetRecord   `json:"forget,omitempty"`
	Undelete *undeleteRecord `json:"undelete,omitempty"`
}

// forgetRecord says that a file of the chain is not needed any more, and
// keeps what the chain needs of it, so that the file itself can go. While it
// is there, an undelete record takes the forget record back.
//
// A file that is lost, be it damaged or gone, can be forgotten too: ID is
// empty then, and Hash and Prev may be unknown.
type forgetRecord struct {
	At     time.Time `json:"at"`
	ID     string    `json:"id,omitempty"`
	Writer writerID  `json:"writer"`
	Seq    uint64    `json:"seq"`
	Hash   hash      `json:"hash"` // of the file
	Prev   hash      `json:"prev"` // that the file holds
}

func (f *forgetRecord) place() place { return place{f.Writer, f.Seq} }

// undeleteRecord takes a forget record back.
type undeleteRecord struct {
	At     time.Time `json:"at"`
	ID     string    `json:"id"`
	Writer writerID  `json:"writer"` // of the forget record
	Seq    uint64    `json:"seq"`
}

func (u *undeleteRecord) place() place { return place{u.Writer, u.Seq} }

// kind is that of the one thing in the body.
func (b *chainBody) kind() sealedKind {
	switch {
	case b.Snapshot != nil:
		return sealedManifest
	case b.Forget != nil:
		return sealedForget
	}
	return sealedUndelete
}

// validate compares a body with the rules of the format, kind and seq being
// those of its header.
func (b *chainBody) validate(kind sealedKind, seq uint64) error {
	n := 0
	for _, is := range []bool{b.Snapshot != nil, b.Forget != nil, b.Undelete != nil} {
		if is {
			n++
		}
	}
	if n != 1 || b.kind() != kind {
		return fmt.Errorf("it does not hold what a %v holds", kind)
	}
	if (seq == 1) != (b.Prev == hash{}) {
		return fmt.Errorf("file %d of its writer, and the hash of the file before is %q", seq, b.Prev)
	}
	switch kind {
	case sealedManifest:
		return b.Snapshot.validate()
	case sealedForget:
		r := b.Forget
		if r.Seq == 0 || r.Seq > maxSeq || r.Writer == (writerID{}) || r.ID != "" && (!IsSnapshotID(r.ID) || r.Hash == hash{}) {
			return errors.New("it does not say what to forget")
		}
		if r.Seq == 1 && r.Prev != (hash{}) {
			return errors.New("it forgets the first file of a writer and names one before")
		}
		return checkTime("at", r.At)
	default:
		r := b.Undelete
		if r.Seq == 0 || r.Seq > maxSeq || r.Writer == (writerID{}) || !IsSnapshotID(r.ID) {
			return errors.New("it does not say what to undelete")
		}
		return checkTime("at", r.At)
	}
}

// decodeChainBody reads the plaintext of a manifest or record.
func decodeChainBody(plain []byte, kind sealedKind, seq uint64) (*chainBody, error) {
	b := new(chainBody)
	if err := readJSON(plain, b.read); err != nil {
		return nil, err
	}
	if err := b.validate(kind, seq); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *chainBody) read(r *jsonReader) {
	r.object(func(key []byte) bool {
		switch string(key) {
		case "prev":
			r.into(&b.Prev)
		case "snapshot":
			b.Snapshot = new(Manifest)
			b.Snapshot.read(r)
		case "forget":
			b.Forget = new(forgetRecord)
			b.Forget.read(r)
		case "undelete":
			b.Undelete = new(undeleteRecord)
			b.Undelete.read(r)
		default:
			return false
		}
		return true
	})
}

func (f *forgetRecord) read(r *jsonReader) {
	r.object(func(key []byte) bool {
		switch string(key) {
		case "at":
			f.At = r.time()
		case "id":
			f.ID = r.string()
		case "writer":
			r.into(&f.Writer)
		case "seq":
			f.Seq = r.uint(64)
		case "hash":
			r.into(&f.Hash)
		case "prev":
			r.into(&f.Prev)
		default:
			return false
		}
		return true
	})
}

func (u *undeleteRecord) read(r *jsonReader) {
	r.object(func(key []byte) bool {
		switch string(key) {
		case "at":
			u.At = r.time()
		case "id":
			u.ID = r.string()
		case "writer":
			r.into(&u.Writer)
		case "seq":
			u.Seq = r.uint(64)
		default:
			return false
		}
		return true
	})
}
