package crypto_test

import (
	"fmt"
	"testing"

	"github.com/generalbots/backupd/crypto"
)

var sizes = []int{0, 70, 1 << 10, 2 << 10, 13 << 10, 64 << 10}

func BenchmarkHasher_Sum(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("%dB", n), func(b *testing.B) {
			h := crypto.NewHasher(crypto.Key{1})
			p := randomBytes(1, n) // zeros are not hashed
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				h.Sum(p)
			}
		})
	}
}

func BenchmarkSum256(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("%dB", n), func(b *testing.B) {
			p := make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				crypto.Sum256(p)
			}
		})
	}
}

func BenchmarkMAC_Tag8(b *testing.B) {
	m := crypto.NewMAC(crypto.Key{1})
	p := make([]byte, 70)
	b.ReportAllocs()
	for b.Loop() {
		m.Tag8(p)
	}
}

func BenchmarkPackSealer(b *testing.B) {
	const n = 256 << 10
	s := crypto.NewPackSealer(crypto.Key{1}, crypto.PackID{1})
	aad := make([]byte, 80)
	plain := make([]byte, n, n+crypto.Overhead)
	sealed := make([]byte, 0, n+crypto.Overhead)
	sealed = s.Seal(sealed, plain, aad, 1, 1)
	b.Run("seal 256KiB", func(b *testing.B) {
		b.SetBytes(n)
		b.ReportAllocs()
		for b.Loop() {
			s.Seal(sealed[:0], plain, aad, 1, 1)
		}
	})
	b.Run("open 256KiB", func(b *testing.B) {
		b.SetBytes(n)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Open(plain[:0], sealed, aad, 1, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			crypto.NewPackSealer(crypto.Key{1}, crypto.PackID{1})
		}
	})
}
