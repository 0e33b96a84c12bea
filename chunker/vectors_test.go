package chunker_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/generalbots/backupd/chunker"
)

// With -update the lengths of files in testdata/good that have none yet are
// filled in. A file that has lengths is never changed: repositories were cut so.
var update = flag.Bool("update", false, "fill in vectors without lengths")

// A vector is a text file of "name: value" lines, # begins a comment:
//
//	params: MIN AVG MAX NORMALISATION
//	table: SEED             stream(SEED, 2048)
//	data: random SEED BYTES stream(SEED, BYTES)
//	      repeat HEX BYTES  the bytes of HEX over and over
//	      rows BYTES        "row 0\n" "row 1\n" …
//	edit: OFFSET HEX        (any number) bytes inserted into data
//	lengths: N N N …        of all chunks (good), or absent (broken)
//
// stream(SEED, n) is the first n bytes of SHA-256(SEED "0") SHA-256(SEED "1") …,
// the number in decimal.
type vector struct {
	params  chunker.Params
	table   *chunker.Table
	data    []byte
	lengths string
}

func stream(seed string, n int) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s%d", seed, i))
		b = append(b, sum[:]...)
	}
	return b[:n]
}

func parseVector(t *testing.T, file []byte) vector {
	t.Helper()
	var v vector
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	raw := func(s string) []byte {
		var b []byte
		if _, err := fmt.Sscanf(s, "%x", &b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	for line := range strings.Lines(string(file)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		switch name {
		case "params":
			v.params = chunker.Params{Min: number(f[0]), Avg: number(f[1]), Max: number(f[2]), Normalisation: uint8(number(f[3]))}
		case "table":
			v.table = chunker.NewTable((*[2048]byte)(stream(f[0], 2048)))
		case "data":
			switch f[0] {
			case "random":
				v.data = stream(f[1], number(f[2]))
			case "repeat":
				unit, n := raw(f[1]), number(f[2])
				v.data = bytes.Repeat(unit, n/len(unit)+1)[:n]
			case "rows":
				for i := 0; len(v.data) < number(f[1]); i++ {
					v.data = fmt.Appendf(v.data, "row %d\n", i)
				}
				v.data = v.data[:number(f[1])]
			default:
				t.Fatalf("unknown data %q", f[0])
			}
		case "edit":
			at := number(f[0])
			v.data = bytes.Join([][]byte{v.data[:at], raw(f[1]), v.data[at:]}, nil)
		case "lengths":
			v.lengths = strings.TrimSpace(value)
		default:
			t.Fatalf("unknown line %q", line)
		}
	}
	return v
}

func vectorFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors in %s, %v", dir, err)
	}
	return files
}

func TestVectors_Good(t *testing.T) {
	for _, name := range vectorFiles(t, "good") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			file, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			v := parseVector(t, file)
			c, err := chunker.New(v.params, v.table)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Trim(fmt.Sprint(lengths(c, v.data)), "[]")
			if v.lengths == "" && len(v.data) > 0 && *update {
				if err := os.WriteFile(name, fmt.Appendf(file, "lengths: %s\n", got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != v.lengths {
				t.Errorf("lengths are\n%s\nwant\n%s", got, v.lengths)
			}
		})
	}
}

func TestVectors_Broken(t *testing.T) {
	for _, name := range vectorFiles(t, "broken") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			file, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			v := parseVector(t, file)
			if err := v.params.Validate(); !errors.Is(err, chunker.ErrParams) {
				t.Errorf("%+v: got %v, want ErrParams", v.params, err)
			}
			if _, err := chunker.New(v.params, v.table); !errors.Is(err, chunker.ErrParams) {
				t.Errorf("New(%+v): got %v, want ErrParams", v.params, err)
			}
		})
	}
}

// The table is read little-endian: the same bytes the other way round cut elsewhere.
func TestNewTable_IsLittleEndian(t *testing.T) {
	material := stream("order", 2048)
	swapped := make([]byte, 2048)
	for i := 0; i < 2048; i += 8 {
		binary.LittleEndian.PutUint64(swapped[i:], binary.BigEndian.Uint64(material[i:]))
	}
	data := stream("data", 100_000)
	cut := func(m []byte) string {
		c, err := chunker.New(small, chunker.NewTable((*[2048]byte)(m)))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(lengths(c, data))
	}
	if cut(material) == cut(swapped) {
		t.Error("byte order does not matter")
	}
}
