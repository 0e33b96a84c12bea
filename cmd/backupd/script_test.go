package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/generalbots/backupd/crypto"
	"github.com/rogpeppe/go-internal/testscript"
)

// json [PATH VALUE]… reads standard output as exactly one JSON value, and compares what stands at each dotted PATH. The
// VALUE any is "anything but null".
func jsonCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args)%2 != 0 {
		ts.Fatalf("usage: json [PATH VALUE]...")
	}
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		ts.Fatalf("standard output is no JSON value: %v", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		ts.Fatalf("standard output holds more than one JSON value")
	}
	for i := 0; i < len(args); i += 2 {
		got, ok := at(v, args[i])
		switch {
		case !ok || args[i+1] == "any" && got == nil:
			ts.Fatalf("%s is not there", args[i])
		case args[i+1] != "any" && fmt.Sprint(got) != args[i+1]:
			ts.Fatalf("%s: got %v, want %s", args[i], got, args[i+1])
		}
	}
}

// at goes down a dotted path; "len" is the length of a list, a number an element of it.
func at(v any, path string) (any, bool) {
	for part := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = x[part]; !ok {
				return nil, false
			}
		case []any:
			if part == "len" {
				return len(x), true
			}
			var i int
			if _, err := fmt.Sscan(part, &i); err != nil || i >= len(x) {
				return nil, false
			}
			v = x[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// damage HOW PATTERN does something to the largest file whose path matches: flip a bit in its middle, truncate it, remove
// it, empty it, duplicate it under another valid name, swap its content with the next file that matches.
func damageCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: damage flip|truncate|remove|empty|duplicate|swap PATTERN")
	}
	found, err := filepath.Glob(ts.MkAbs(args[1]))
	ts.Check(err)
	if len(found) == 0 {
		ts.Fatalf("nothing matches %s", args[1])
	}
	size := func(name string) int64 {
		st, err := os.Stat(name)
		ts.Check(err)
		return st.Size()
	}
	slices.SortStableFunc(found, func(a, b string) int { return int(size(b) - size(a)) })
	name := found[0]
	b, err := os.ReadFile(name)
	ts.Check(err)
	switch args[0] {
	case "flip":
		b[len(b)/3] ^= 4
		ts.Check(os.WriteFile(name, b, 0o600))
	case "truncate":
		ts.Check(os.Truncate(name, int64(len(b)*2/3)))
	case "empty":
		ts.Check(os.Truncate(name, 0))
	case "remove":
		ts.Check(os.Remove(name))
	case "duplicate":
		dir, base := filepath.Split(name)
		other := []byte(base)
		other[5] = '0'
		if base[5] == '0' {
			other[5] = '1'
		}
		ts.Check(os.WriteFile(filepath.Join(dir, string(other)), b, 0o600))
	case "swap":
		if len(found) < 2 {
			ts.Fatalf("only one file matches %s", args[1])
		}
		c, err := os.ReadFile(found[1])
		ts.Check(err)
		ts.Check(os.WriteFile(name, c, 0o600))
		ts.Check(os.WriteFile(found[1], b, 0o600))
	default:
		ts.Fatalf("damage does not know %s", args[0])
	}
}

// sow DIR SEED [BYTES] fills a directory with a small tree, different for each seed.
func sowCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: sow DIR SEED [BYTES]")
	}
	var seed uint64
	_, err := fmt.Sscan(args[1], &seed)
	ts.Check(err)
	size := 300_000
	if len(args) > 2 {
		_, err = fmt.Sscan(args[2], &size)
		ts.Check(err)
	}
	ts.Check(sow(ts.MkAbs(args[0]), seed, size))
}

// sow makes a tree of text, noise and links.
func sow(dir string, seed uint64, size int) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range 12 {
		name := filepath.Join(dir, fmt.Sprintf("d%d", i%4), fmt.Sprintf("file-%d.txt", i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		var b bytes.Buffer
		for b.Len() < size/24 {
			fmt.Fprintf(&b, "line %d of file %d says %x\n", b.Len(), i, rng.Uint64())
		}
		if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	noise := make([]byte, size/2)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	if err := os.WriteFile(filepath.Join(dir, "noise.bin"), noise, 0o600); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(dir, "link"))
	return os.Symlink("d1/file-1.txt", filepath.Join(dir, "link"))
}

// odd DIR makes files whose names would do something to a terminal or a script.
func oddCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: odd DIR")
	}
	ts.Check(os.MkdirAll(ts.MkAbs(args[0]), 0o755))
	for _, name := range []string{"new\nline", "bell\a\x1b[31mred\x1b[0m", "not-utf8-\xff\xfe", "-rf", "spaces and 'quotes' \"", "back\\slash", "…", "$(touch x)", "*"} {
		ts.Check(os.WriteFile(filepath.Join(ts.MkAbs(args[0]), name), []byte(name), 0o644))
	}
}

// newer rewrites the format file of the repository as a later version would.
func newerCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: newer FILE")
	}
	lines := strings.SplitAfter(ts.ReadFile(args[0]), "\n")
	text := lines[0] + "version 7\n" + lines[2]
	sum := crypto.Sum256([]byte(text))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), fmt.Appendf(nil, "%schecksum %x\n", text, sum[:8]), 0o600))
}
