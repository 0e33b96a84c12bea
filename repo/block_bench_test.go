package repo

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// BenchmarkBlockStep takes apart what BenchmarkBlockEncode measures whole: compressing a block of rows, and decoding
// and comparing what came out, each also against a dictionary.
func BenchmarkBlockStep(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	text := textRows(rng, 4000)[:BlockSize]
	changed := bytes.Clone(text)
	for range 30 {
		changed[rng.IntN(len(changed))] ^= 1
	}
	e, err := newBlockEncoder(LevelFast)
	if err != nil {
		b.Fatal(err)
	}
	plain, c, err := e.plain(text)
	if err != nil || c != codecZstd {
		b.Fatal(c, err)
	}
	plain = bytes.Clone(plain)
	delta, c, err := against(e, changed, text)
	if err != nil || c != codecDelta {
		b.Fatal(c, err)
	}
	delta = bytes.Clone(delta)

	b.Run("compress", func(b *testing.B) {
		b.SetBytes(BlockSize)
		b.ReportAllocs()
		for b.Loop() {
			if pays, err := e.pays(LevelFast, text); err != nil || !pays {
				b.Fatal("rows were not compressed", err)
			}
		}
	})
	for _, bc := range []struct {
		name              string
		frame, want, dict []byte
	}{{"verify", plain, text, nil}, {"verify delta", delta, changed, text}} {
		b.Run(bc.name, func(b *testing.B) {
			b.SetBytes(BlockSize)
			b.ReportAllocs()
			for b.Loop() {
				if err := e.verify(bc.frame, bc.want, bc.dict); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
