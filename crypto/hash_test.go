package crypto_test

import (
	"math/rand/v2"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/generalbots/backupd/crypto"
)

// randomBytes returns n bytes that depend on seed alone.
func randomBytes(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// edgeSizes lie around the blocks (64), chunks (1 KiB) and batches (8 KiB) of BLAKE3.
var edgeSizes = []int{
	0, 1, 63, 64, 65, 127, 128, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 4096, 5120, 5121, 7168, 8191, 8192, 8193,
	9216, 16383, 16384, 16385, 31744, 65535, 65536, 65537, 102400, 262144,
}

// A reused hasher must forget what it hashed before, whatever the order of lengths.
func TestHasher_ForgetsWhatItHashedBefore(t *testing.T) {
	k := crypto.Key(randomBytes(1, 32))
	data := randomBytes(2, 262144)
	reused := crypto.NewHasher(k)
	for _, before := range edgeSizes {
		for _, n := range edgeSizes {
			reused.Sum(data[:before])
			fresh, err := blake3.NewKeyed(k[:])
			if err != nil {
				t.Fatal(err)
			}
			fresh.Write(data[:n])
			if got, want := reused.Sum(data[:n]), crypto.ID(fresh.Sum(nil)); got != want {
				t.Fatalf("%d bytes after %d: %v, want %v", n, before, got, want)
			}
		}
	}
}

// Zeros are not hashed each time: they have the id they would have, and what is all zeros but for a byte has another.
func TestHasher_ZerosHaveTheIDOfAnyBytes(t *testing.T) {
	k := crypto.Key(randomBytes(1, 32))
	h := crypto.NewHasher(k)
	want := func(p []byte) crypto.ID {
		fresh, err := blake3.NewKeyed(k[:])
		if err != nil {
			t.Fatal(err)
		}
		fresh.Write(p)
		return crypto.ID(fresh.Sum(nil))
	}
	for _, n := range append([]int{4095, 4096, 4097, 262144, 4096}, edgeSizes...) {
		p := make([]byte, n)
		for range 2 {
			if got, want := h.Sum(p), want(p); got != want {
				t.Fatalf("%d zeros: %v, want %v", n, got, want)
			}
		}
		for _, at := range []int{0, 1, 7, 8, 9, 15, 16, 4095, n / 2, n - 17, n - 9, n - 8, n - 1} {
			if at < 0 || at >= n {
				continue
			}
			p[at] = 1
			if got, want := h.Sum(p), want(p); got != want {
				t.Fatalf("%d zeros but for the one at %d: %v, want %v", n, at, got, want)
			}
			p[at] = 0
		}
	}
}

func TestHasher_DependsOnKeyAndBytes(t *testing.T) {
	a, b := crypto.NewHasher(crypto.Key{1}), crypto.NewHasher(crypto.Key{2})
	p := randomBytes(1, 5000)
	if a.Sum(p) == b.Sum(p) {
		t.Error("the key does not matter")
	}
	if a.Sum(p) == crypto.ID(crypto.Sum256(p)) {
		t.Error("an id is the plain hash")
	}
	id := a.Sum(p)
	p[4999] ^= 1
	if a.Sum(p) == id {
		t.Error("the last byte does not matter")
	}
}

func TestMAC_IsTheBeginningOfTheKeyedHash(t *testing.T) {
	k := crypto.Key(randomBytes(1, 32))
	m, h := crypto.NewMAC(k), crypto.NewHasher(k)
	for _, n := range []int{0, 1, 70, 100, 2000} {
		p := randomBytes(byte(n), n)
		id := h.Sum(p)
		if got, want := m.Tag8(p), [8]byte(id[:8]); got != want {
			t.Errorf("%d bytes: tag %x, want %x", n, got, want)
		}
	}
}

func TestHashing_DoesNotAllocate(t *testing.T) {
	h, m := crypto.NewHasher(crypto.Key{1}), crypto.NewMAC(crypto.Key{1})
	for _, n := range edgeSizes {
		p := make([]byte, n)
		if got := testing.AllocsPerRun(10, func() { h.Sum(p) }); got != 0 {
			t.Errorf("Sum of %d zeros allocates %v times", n, got)
		}
		p = randomBytes(3, n)
		if got := testing.AllocsPerRun(10, func() { h.Sum(p) }); got != 0 {
			t.Errorf("Sum of %d bytes allocates %v times", n, got)
		}
		if got := testing.AllocsPerRun(10, func() { m.Tag8(p) }); got != 0 {
			t.Errorf("Tag8 of %d bytes allocates %v times", n, got)
		}
		if got := testing.AllocsPerRun(10, func() { crypto.Sum256(p) }); got != 0 {
			t.Errorf("Sum256 of %d bytes allocates %v times", n, got)
		}
	}
}
