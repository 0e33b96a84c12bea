package repo

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

func TestFormat_ReadsWhatWasWritten(t *testing.T) {
	id := crypto.RepoID{1, 2, 0xfe}
	const want = "backupd repository\nversion 1\nid 0102fe00000000000000000000000000\nchecksum "
	b := encodeFormat(id)
	if !strings.HasPrefix(string(b), want) || len(b) != len(want)+17 {
		t.Errorf("got\n%s", b)
	}
	if got, err := decodeFormat(b); got != id || err != nil {
		t.Errorf("got %v, %v, want %v", got, err, id)
	}
}

func TestFormat_RefusesEveryFlippedBitAndEveryLength(t *testing.T) {
	b := encodeFormat(crypto.RepoID{1})
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			_, err := decodeFormat(b)
			b[i] ^= 1 << bit
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), formatName) {
				t.Fatalf("byte %d, bit %d: got error %v, want ErrDamaged", i, bit, err)
			}
		}
	}
	for n := range b {
		if _, err := decodeFormat(b[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d: got error %v, want ErrDamaged", n, err)
		}
	}
	if _, err := decodeFormat(append(b, '\n')); !errors.Is(err, ErrDamaged) {
		t.Errorf("longer: got error %v, want ErrDamaged", err)
	}
}

func TestFormat_TellsNewerFromDamaged(t *testing.T) {
	id := strings.Repeat("1", 32)
	for text, want := range map[string]error{
		"backupd repository\nversion 2\nwhatever comes\n":                     ErrNewerFormat,
		"backupd repository\nversion 2\n":                                     ErrNewerFormat,
		"backupd repository\nversion 0\nid " + id + "\n":                      ErrDamaged,
		"backupd repository\nversion 01\nid " + id + "\n":                     ErrDamaged,
		"backupd repository\nversion 99999999999999\nid " + id + "\n":         ErrDamaged,
		"backupd repository\nversion 1\n":                                     ErrDamaged,
		"backupd repository\nversion 1\nid " + id + "\nmore\n":                ErrDamaged,
		"backupd repository\nversion 1\nid " + id[1:] + "\n":                  ErrDamaged,
		"backupd repository\nversion 1\nid " + strings.Repeat("0", 32) + "\n": ErrDamaged,
		"backupd\nversion 1\nid " + id + "\n":                                 ErrDamaged,
	} {
		if _, err := decodeFormat(appendChecksum([]byte(text))); !errors.Is(err, want) {
			t.Errorf("%q: got error %v, want %v", text, err, want)
		}
	}
}

func TestReadFormat_TellsNoRepositoryFromAMissingFile(t *testing.T) {
	st := store.NewMem()
	if _, err := readFormat(t.Context(), st); !errors.Is(err, ErrNoRepository) {
		t.Errorf("empty store: got error %v, want ErrNoRepository", err)
	}
	if err := writeObject(t.Context(), st, slotName(1), []byte("slot")); err != nil {
		t.Fatal(err)
	}
	if _, err := readFormat(t.Context(), st); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "it is missing") {
		t.Errorf("only the format file missing: got error %v, want ErrDamaged", err)
	}
	if err := writeObject(t.Context(), st, formatName, make([]byte, formatMaxSize+1)); err != nil {
		t.Fatal(err)
	}
	if _, err := readFormat(t.Context(), st); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), fmt.Sprint(formatMaxSize)) {
		t.Errorf("too long: got error %v, want ErrDamaged", err)
	}
}

func FuzzFormat(f *testing.F) {
	f.Add(encodeFormat(crypto.RepoID{1}))
	f.Add(appendChecksum([]byte("backupd repository\nversion 2\n")))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, appendChecksum(b[:len(b):len(b)])} {
			if id, err := decodeFormat(b); err == nil && string(encodeFormat(id)) != string(b) {
				t.Errorf("%q is taken and is not what would be written", b)
			}
		}
	})
}
