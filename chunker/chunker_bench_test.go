package chunker_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/generalbots/backupd/chunker"
)

// random returns n bytes that depend on seed alone.
func random(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// text returns about n bytes of rows as a database dump has them.
func text(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	words := []string{"invoice", "paid", "pending", "bot", "general", "message", "NULL", "true", "false", "order"}
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "INSERT INTO rows VALUES (%d, '%s', '%s %s', %d.%02d);\n", i,
			words[rng.IntN(len(words))], words[rng.IntN(len(words))], words[rng.IntN(len(words))], rng.IntN(10000), rng.IntN(100))
	}
	return b.Bytes()[:n]
}

func table(seed byte) *chunker.Table {
	return chunker.NewTable((*[2048]byte)(random(seed, 2048)))
}

func cutter(tb testing.TB, p chunker.Params, seed byte) *chunker.Cutter {
	tb.Helper()
	c, err := chunker.New(p, table(seed))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func BenchmarkCut(b *testing.B) {
	for _, in := range []struct {
		name string
		data []byte
	}{
		{"random", random(1, 64<<20)},
		{"text", text(1, 64<<20)},
		{"zeros", make([]byte, 64<<20)},
	} {
		b.Run(in.name, func(b *testing.B) {
			c := cutter(b, chunker.Files(), 1)
			b.SetBytes(int64(len(in.data)))
			chunks := 0
			for b.Loop() {
				for rest := in.data; len(rest) > 0; chunks++ {
					rest = rest[c.Cut(rest, true):]
				}
			}
			b.ReportMetric(float64(len(in.data))*float64(b.N)/float64(chunks)/1024, "KiB/chunk")
		})
	}
}

func BenchmarkReader(b *testing.B) {
	data := random(1, 64<<20)
	r := chunker.NewReader(nil, cutter(b, chunker.Files(), 1), nil)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(bytes.NewReader(data))
		for {
			if _, err := r.Next(); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
}
