package repo

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// plainKinds are blocks of what plain blocks hold most of: rows, and the source files of the Go installation that
// runs the benchmark, or of PLAIN_TREE, one after the other as a lane has them.
func plainKinds(b *testing.B) map[string][][]byte {
	rng := rand.New(rand.NewPCG(4, 4))
	noise := randomChunks(rng, 1, BlockSize, BlockSize)[0]
	kinds := map[string][][]byte{"rows": nil, "noise": {noise}, "files": nil}
	for range 8 {
		kinds["rows"] = append(kinds["rows"], textRows(rng, 4000)[:BlockSize])
	}
	root := os.Getenv("PLAIN_TREE")
	if root == "" {
		out, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			b.Fatal(err)
		}
		root = filepath.Join(strings.TrimSpace(string(out)), "src")
	}
	var block []byte
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		c, err := os.ReadFile(path)
		for len(block)+len(c) >= BlockSize {
			n := BlockSize - len(block)
			kinds["files"] = append(kinds["files"], append(block, c[:n]...))
			block, c = nil, c[n:]
		}
		block = append(block, c...)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	if len(kinds["files"]) == 0 {
		b.Fatalf("less than a block below %s", root)
	}
	// Every so many of a large tree.
	if all := kinds["files"]; len(all) > 400 {
		kinds["files"] = kinds["files"][:0]
		for i := 0; i < len(all); i += len(all) / 400 {
			kinds["files"] = append(kinds["files"], all[i])
		}
	}
	return kinds
}

// BenchmarkPlain compresses blocks, and decodes what came out, beside the library at its two lower levels: what the
// frames take of the plaintext, and the speed of both.
func BenchmarkPlain(b *testing.B) {
	for kind, blocks := range plainKinds(b) {
		size := 0
		for _, p := range blocks {
			size += len(p)
		}
		var f frameWriter
		m := new(plainMatcher)
		dec, err := newBlockDecoder()
		if err != nil {
			b.Fatal(err)
		}
		ways := map[string]func(dst, p []byte) ([]byte, error){
			"own": func(dst, p []byte) ([]byte, error) { return f.plain(m, dst, p) },
		}
		for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault} {
			enc, err := newEncoder(level, BlockSize)
			if err != nil {
				b.Fatal(err)
			}
			ways[fmt.Sprintf("library-%v", level)] = func(dst, p []byte) ([]byte, error) { return enc.EncodeAll(p, dst), nil }
		}
		for way, encode := range ways {
			frames := make([][]byte, len(blocks))
			b.Run(kind+"/"+way+"/encode", func(b *testing.B) {
				b.SetBytes(int64(size))
				stored := 0
				for b.Loop() {
					stored = 0
					for i, p := range blocks {
						if frames[i], err = encode(frames[i][:0], p); err != nil {
							b.Fatal(err)
						}
						stored += len(frames[i])
					}
				}
				b.ReportMetric(float64(stored)*100/float64(size), "%")
			})
			b.Run(kind+"/"+way+"/decode", func(b *testing.B) {
				b.SetBytes(int64(size))
				out := make([]byte, 0, BlockSize+decodeSlack)
				for b.Loop() {
					for i, p := range blocks {
						if out, err = dec.decode(out[:0], frames[i], nil, len(p)); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}
