package crypto_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/generalbots/backupd/crypto"
)

func TestPackSealer_OpensWhatItSealed(t *testing.T) {
	s := crypto.NewPackSealer(crypto.Key{1}, crypto.PackID{1})
	for i, n := range []int{0, 1, 15, 16, 17, 255, 4096, 256 << 10} {
		plain, aad := randomBytes(1, n), randomBytes(2, 80)
		prefix := []byte("before")
		sealed := s.Seal(bytes.Clone(prefix), plain, aad, 3, uint32(i))
		if got, want := len(sealed), len(prefix)+n+crypto.Overhead; got != want {
			t.Fatalf("%d bytes sealed are %d, want %d", n, got, want)
		}
		got, err := s.Open(bytes.Clone(prefix), sealed[len(prefix):], aad, 3, uint32(i))
		if err != nil || !bytes.Equal(got, append(prefix, plain...)) {
			t.Errorf("%d bytes: %v", n, err)
		}
		inPlace := sealed[len(prefix):]
		if got, err := s.Open(inPlace[:0], inPlace, aad, 3, uint32(i)); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes in place: %v", n, err)
		}
	}
}

// Every object opens in its own place and in no other: the whole matrix.
func TestPackSealer_RefusesAnyOtherPlace(t *testing.T) {
	type place struct {
		key     crypto.Key
		pack    crypto.PackID
		kind    byte
		ordinal uint32
		aad     string
	}
	var places []place
	for _, p := range []crypto.Purpose{crypto.PurposePack, crypto.PurposeManifest} {
		key := master(t, 1).Derive(p)
		for _, pack := range []crypto.PackID{{}, {1}, {15: 1}} {
			for _, kind := range []byte{0, 1, 2, 0xff} {
				for _, ordinal := range []uint32{0, 1, 256, 1 << 24, 1<<32 - 1} {
					for _, aad := range []string{"", "a"} {
						places = append(places, place{key, pack, kind, ordinal, aad})
					}
				}
			}
		}
	}
	sealers := make([]*crypto.PackSealer, len(places))
	sealed := make([][]byte, len(places))
	for i, p := range places {
		sealers[i] = crypto.NewPackSealer(p.key, p.pack)
		sealed[i] = sealers[i].Seal(nil, []byte("plain"), []byte(p.aad), p.kind, p.ordinal)
	}
	for i := range places {
		for j, p := range places {
			_, err := sealers[j].Open(nil, sealed[i], []byte(p.aad), p.kind, p.ordinal)
			if i == j && err != nil {
				t.Errorf("%+v does not open: %v", p, err)
			}
			if i != j && err != crypto.ErrDamaged {
				t.Errorf("object %d opens as object %d, %+v: %v", i, j, p, err)
			}
		}
	}
}

func TestPackNonce_IsUniqueForKindAndOrdinal(t *testing.T) {
	seen := map[[12]byte]bool{}
	for kind := range 256 {
		for _, ordinal := range []uint32{0, 1, 2, 255, 256, 65535, 65536, 1<<24 - 1, 1 << 24, 1<<32 - 1} {
			n := crypto.PackNonce(byte(kind), ordinal)
			if seen[n] {
				t.Fatalf("kind %d, ordinal %d: nonce %x a second time", kind, ordinal, n)
			}
			seen[n] = true
		}
	}
	if got, want := crypto.PackNonce(7, 0x01020304), ([12]byte{4: 7, 8: 1, 9: 2, 10: 3, 11: 4}); got != want {
		t.Errorf("nonce %x, want %x", got, want)
	}
}

func TestPackSealer_FindsEveryChange(t *testing.T) {
	s := crypto.NewPackSealer(crypto.Key{1}, crypto.PackID{1})
	aad := []byte("where it belongs")
	sealed := s.Seal(nil, randomBytes(1, 100), aad, 1, 2)
	for i := range sealed {
		for bit := range 8 {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1 << bit
			if got, err := s.Open(nil, bad, aad, 1, 2); err != crypto.ErrDamaged || got != nil {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
	for n := range sealed {
		if _, err := s.Open(nil, sealed[:n], aad, 1, 2); err != crypto.ErrDamaged {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := s.Open(nil, append(bytes.Clone(sealed), 0), aad, 1, 2); err != crypto.ErrDamaged {
		t.Errorf("a byte longer: %v", err)
	}
}

func TestPackSealer_LeavesNoPlaintextOfDamagedBytes(t *testing.T) {
	s := crypto.NewPackSealer(crypto.Key{1}, crypto.PackID{1})
	plain := bytes.Repeat([]byte("secret"), 100)
	sealed := s.Seal(nil, plain, nil, 1, 2)
	sealed[len(sealed)-1] ^= 1
	dst := make([]byte, 0, len(plain))
	if _, err := s.Open(dst, sealed, nil, 1, 2); err != crypto.ErrDamaged {
		t.Fatal(err)
	}
	if bytes.Contains(dst[:cap(dst)], []byte("secret")) {
		t.Error("the plaintext is in dst")
	}
}

func TestPackSealer_ServesManyGoroutines(t *testing.T) {
	s := crypto.NewPackSealer(crypto.Key{1}, crypto.PackID{1})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			plain := randomBytes(byte(g), 3000)
			for i := range uint32(100) {
				sealed := s.Seal(nil, plain, nil, byte(g), i)
				if got, err := s.Open(nil, sealed, nil, byte(g), i); err != nil || !bytes.Equal(got, plain) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// One small allocation is the nonce, which escapes through cipher.AEAD.
func TestPackSealer_AllocatesNoBuffers(t *testing.T) {
	s := crypto.NewPackSealer(crypto.Key{1}, crypto.PackID{1})
	plain := make([]byte, 4096)
	sealed := s.Seal(nil, plain, nil, 1, 1)
	if got := testing.AllocsPerRun(20, func() { s.Seal(sealed[:0], plain, nil, 1, 1) }); got > 1 {
		t.Errorf("Seal allocates %v times", got)
	}
	if got := testing.AllocsPerRun(20, func() { s.Open(plain[:0], sealed, nil, 1, 1) }); got > 1 {
		t.Errorf("Open allocates %v times", got)
	}
}

func TestSealFile_OpensInItsOwnPlaceOnly(t *testing.T) {
	type place struct {
		purpose crypto.Purpose
		aad     string
	}
	var places []place
	for _, p := range purposes {
		for _, aad := range []string{"", "snapshots/1", "snapshots/2"} {
			places = append(places, place{p, aad})
		}
	}
	m := master(t, 1)
	for i, p := range places {
		sealed, err := crypto.SealFile(m.Derive(p.purpose), []byte(p.aad), []byte("plain"))
		if err != nil {
			t.Fatal(err)
		}
		for j, q := range places {
			got, err := crypto.OpenFile(m.Derive(q.purpose), []byte(q.aad), sealed)
			if i == j && (err != nil || string(got) != "plain") {
				t.Errorf("%v does not open: %v", p, err)
			}
			if i != j && err != crypto.ErrDamaged {
				t.Errorf("%v opens as %v: %v", p, q, err)
			}
		}
	}
}

func TestSealFile_DrawsAKeyEachTime(t *testing.T) {
	k := crypto.Key{1}
	a, err := crypto.SealFile(k, nil, make([]byte, 100))
	if err != nil {
		t.Fatal(err)
	}
	b, err := crypto.SealFile(k, nil, make([]byte, 100))
	if err != nil {
		t.Fatal(err)
	}
	if len(a) != 100+crypto.SealedFileOverhead || bytes.Equal(a[:32], b[:32]) || bytes.Equal(a[32:], b[32:]) {
		t.Error("two files share salt or key stream")
	}
}

func TestOpenFile_FindsEveryChange(t *testing.T) {
	k, aad := crypto.Key{1}, []byte("name")
	for _, n := range []int{0, 1, 50} {
		sealed, err := crypto.SealFile(k, aad, randomBytes(1, n))
		if err != nil {
			t.Fatal(err)
		}
		for i := range sealed {
			bad := bytes.Clone(sealed)
			bad[i] ^= 0x80
			if _, err := crypto.OpenFile(k, aad, bad); err != crypto.ErrDamaged {
				t.Errorf("byte %d changed: %v", i, err)
			}
			if _, err := crypto.OpenFile(k, aad, sealed[:i]); err != crypto.ErrDamaged {
				t.Errorf("cut to %d bytes: %v", i, err)
			}
		}
	}
}

func FuzzOpenFile(f *testing.F) {
	v := readVector(f, "testdata/good/file.txt")
	k, good, goodAAD := v.key(), v.bytes("sealed"), v.bytes("aad")
	f.Add(good, goodAAD)
	f.Add([]byte{}, []byte{})
	f.Add(good[:47], goodAAD)
	f.Fuzz(func(t *testing.T, sealed, aad []byte) {
		_, err := crypto.OpenFile(k, aad, sealed)
		if err != nil && !errors.Is(err, crypto.ErrDamaged) {
			t.Fatal(err)
		}
		if err == nil && (!bytes.Equal(sealed, good) || !bytes.Equal(aad, goodAAD)) {
			t.Fatalf("forged: %x", sealed)
		}
	})
}
