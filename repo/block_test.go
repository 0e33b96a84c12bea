package repo

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// textRows makes rows of text such as a database dump has.
func textRows(rng *rand.Rand, rows int) []byte {
	words := []string{"alpha", "bravo", "delta", "message", "session", "answer", "question", "customer", "invoice", "paid", "open", "closed"}
	var b bytes.Buffer
	for i := range rows {
		b.WriteString("INSERT INTO t VALUES (")
		for range 6 {
			b.WriteString(words[rng.IntN(len(words))])
			b.WriteByte(',')
		}
		for range 12 {
			b.WriteByte("0123456789abcdef"[rng.IntN(16)])
		}
		b.WriteString(");\n")
		_ = i
	}
	return b.Bytes()
}

// against is withDictionary of a block and a dictionary that stand apart.
func against(e *blockEncoder, p, dict []byte) ([]byte, codec, error) {
	return e.withDictionary(slices.Concat(dict, p), len(dict))
}

func TestBlockEncoder_DecodesToWhatWentInForEveryCodec(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	e, err := newBlockEncoder(LevelFast)
	if err != nil {
		t.Fatal(err)
	}
	text := textRows(rng, 3000)[:BlockSize-1000]
	changed := bytes.Clone(text)
	for range 50 {
		changed[rng.IntN(len(changed))] ^= 1
	}
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	dict := append(append(textRows(rng, 200), text...), textRows(rng, 200)...)
	for _, tc := range []struct {
		name  string
		p     []byte
		dict  []byte
		codec codec
		below int
	}{
		{"text", text, nil, codecZstd, len(text) / 2},
		{"noise", noise, nil, codecStored, len(noise)},
		{"one byte", []byte{7}, nil, codecStored, 1},
		{"changed text", changed, dict, codecDelta, len(text) / 50},
		{"noise with a useless dictionary", noise, dict, codecStored, len(noise)},
		{"unlike text", textRows(rand.New(rand.NewPCG(8, 8)), 2000), noise, codecZstd, len(text) / 2},
	} {
		var payload []byte
		var c codec
		if tc.dict == nil {
			payload, c, err = e.plain(tc.p)
		} else {
			payload, c, err = against(e, tc.p, tc.dict)
		}
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if c != tc.codec || len(payload) > tc.below {
			t.Errorf("%s: got codec %v with %d bytes, want %v below %d", tc.name, c, len(payload), tc.codec, tc.below)
		}
		if c == codecStored {
			continue
		}
		dict := tc.dict
		if c != codecDelta {
			dict = nil
		}
		got, err := e.dec.decode(nil, payload, dict, len(tc.p))
		if err != nil || !bytes.Equal(got, tc.p) {
			t.Errorf("%s: decoded to something else (%v)", tc.name, err)
		}
		if _, err := e.dec.decode(nil, payload, dict, len(tc.p)-1); err == nil {
			t.Errorf("%s: decoded into less than its length", tc.name)
		}
		if _, err := e.dec.decode(nil, payload, dict, len(tc.p)+1); err == nil {
			t.Errorf("%s: decoded into more than its length", tc.name)
		}
	}
}

// After a stretch of noise what compresses again must be compressed again, wherever in a block it begins.
func TestBlockEncoder_SeesTheEndOfNoise(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	e, err := newBlockEncoder(LevelFast)
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, BlockSize)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	text := textRows(rng, 4000)[:BlockSize]
	for range 20 {
		for range 5 {
			if _, c, err := e.plain(noise); err != nil || c != codecStored {
				t.Fatalf("noise: codec %v, %v", c, err)
			}
		}
		for _, p := range [][]byte{text, text[:noiseSample/2]} {
			if _, c, err := e.plain(p); err != nil || c != codecZstd {
				t.Fatalf("text of %d bytes after noise: codec %v, %v", len(p), c, err)
			}
		}
	}
}

func BenchmarkBlockEncode(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	text := textRows(rng, 4000)[:BlockSize]
	changed := bytes.Clone(text)
	for range 30 {
		changed[rng.IntN(len(changed))] ^= 1
	}
	noise := make([]byte, BlockSize)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for _, bc := range []struct {
		name    string
		p, dict []byte
	}{{"fast", text, nil}, {"delta", changed, text}, {"noise", noise, nil}} {
		b.Run(bc.name, func(b *testing.B) {
			e, err := newBlockEncoder(LevelFast)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(bc.p)))
			b.ReportAllocs()
			all := slices.Concat(bc.dict, bc.p)
			for b.Loop() {
				if bc.dict == nil {
					_, _, err = e.plain(bc.p)
				} else {
					_, _, err = e.withDictionary(all, len(bc.dict))
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
