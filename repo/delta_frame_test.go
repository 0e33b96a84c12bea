package repo

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// edits are pairs of a block and a dictionary that say how blocks come to be like what stood in their place.
func edits(rng *rand.Rand, size int) map[string][2][]byte {
	text := textRows(rng, size/60+1)[:size]
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	scattered, pages := bytes.Clone(text), bytes.Clone(text)
	for range 1 + size/4000 {
		scattered[rng.IntN(size)] ^= byte(1 + rng.IntN(255))
		at := rng.IntN(size)
		copy(pages[at:], noise(rng.IntN(200)))
	}
	at := rng.IntN(size)
	return map[string][2][]byte{
		"the same":                    {text, text},
		"bytes changed":               {scattered, text},
		"stretches changed":           {pages, text},
		"inserted":                    {append(append(bytes.Clone(text[:at]), textRows(rng, 3)...), text[at:]...)[:size], text},
		"taken out":                   {append(bytes.Clone(text[:at]), text[min(size, at+100):]...), text},
		"swapped":                     {append(bytes.Clone(text[at:]), text[:at]...), text},
		"zeros":                       {make([]byte, size), make([]byte, size)},
		"zeros, text before":          {make([]byte, size), append(bytes.Clone(text[:size/2]), make([]byte, size)...)},
		"noise":                       {noise(size), text},
		"noise behind":                {append(bytes.Clone(text[:at]), noise(size-at)...), text},
		"one byte repeated in gaps":   {append(append(bytes.Clone(text[:at]), bytes.Repeat([]byte{'x'}, 3000)...), text[at:]...)[:size], text},
		"a dictionary of few bytes":   {text, text[:min(size, 9)]},
		"every other stretch changed": {alternate(text, noise(size)), text},
	}
}

func alternate(a, b []byte) []byte {
	out := bytes.Clone(a)
	for i := 0; i+40 < len(out); i += 80 {
		copy(out[i:i+1+i%37], b[i:])
	}
	return out
}

// The frames are decoded by the library, and where it is there by the reference program too.
func TestDeltaFrame_DecodesToWhatWentInWhateverWasEdited(t *testing.T) {
	dec, err := newBlockDecoder()
	if err != nil {
		t.Fatal(err)
	}
	var m matcher
	var f frameWriter
	program, _ := exec.LookPath("zstd")
	for round := range uint64(8) {
		rng := rand.New(rand.NewPCG(round, 77))
		for _, size := range []int{8, 200, 255, 256, 257, 5000, 1<<16 + 255, 1<<16 + 256, frameMaxBlock, frameMaxBlock + 1, BlockSize} {
			for name, e := range edits(rng, size) {
				p, dict := e[0], e[1]
				all := slices.Concat(dict, p)
				m.find(all, len(dict))
				at := len(dict)
				for _, x := range m.found {
					if int(x.at) < at || !copies(all, x) {
						t.Fatalf("%s, %d bytes: a match that is none: %+v", name, size, x)
					}
					at = int(x.at + x.n)
				}
				frame, err := f.delta(nil, all, len(dict), m.found)
				if err != nil {
					t.Fatal(err)
				}
				got, err := dec.decode(nil, frame, dict, len(p))
				if err != nil || !bytes.Equal(got, p) {
					t.Fatalf("%s, %d bytes: decoded to something else (%v)", name, size, err)
				}
				if round == 0 && program != "" && len(dict) > 8 {
					byProgram(t, program, fmt.Sprintf("%s, %d bytes", name, size), frame, dict, p)
				}
			}
		}
	}
}

// copies tells whether a match says what stands there.
func copies(all []byte, m match) bool {
	for k := range m.n {
		if m.from < 0 || m.from >= m.at || int(m.at+k) >= len(all) || all[m.from+k] != all[m.at+k] {
			return false
		}
	}
	return true
}

func byProgram(t *testing.T, program, name string, frame, dict, want []byte) {
	t.Helper()
	dir := t.TempDir()
	at := filepath.Join(dir, "dict")
	if err := os.WriteFile(at, dict, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-q", "-d", "-c", "--patch-from="+at)
	cmd.Stdin = bytes.NewReader(frame)
	got, err := cmd.Output()
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s: the reference program decodes it to something else (%v)", name, err)
	}
}

func TestMatcher_FindsWhatIsLongEnoughWhereverItStands(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 9))
	var m matcher
	for range 300 {
		dict, p := make([]byte, 2000), make([]byte, 400)
		for i := range dict {
			dict[i] = byte(rng.Uint32())
		}
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		// As long as steps are of two they come to every place of a dictionary that was entered.
		n := matchLong
		at, from := rng.IntN(matchFaster-matchKey-2*matchStride), rng.IntN(len(dict)-n)
		copy(p[at:at+n], dict[from:])
		if like := m.find(slices.Concat(dict, p), len(dict)); like < n {
			t.Fatalf("%d bytes at %d of the dictionary, %d of the block: found %d", n, from, at, like)
		}
	}
}

// A block of which all is new, but of the same kind as the old, is a wrong guess; one of which two rows in five are new is
// none, and takes less than plain. The control is the block of which nothing changed.
func TestBlockEncoder_TellsRowsThatWereRewrittenFromEditedOnes(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 2))
	e, err := newBlockEncoder(LevelFast)
	if err != nil {
		t.Fatal(err)
	}
	base := textRows(rng, 4000)[:BlockSize]
	for _, c := range []struct {
		percent int
		want    codec
		most    int // of a thousand of the plaintext
	}{{0, codecDelta, 1}, {1, codecDelta, 5}, {10, codecDelta, 40}, {40, codecDelta, 140}, {100, codecZstd, 240}} {
		var now []byte
		for _, line := range bytes.SplitAfter(base, []byte("\n")) {
			if rng.IntN(100) < c.percent {
				line = textRows(rng, 1)
			}
			now = append(now, line...)
		}
		now = now[:min(len(now), BlockSize)]
		payload, got, err := against(e, now, base)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d %%: codec %d, %.1f of a thousand", c.percent, got, float64(len(payload))*1000/float64(len(now)))
		if got != c.want || len(payload) > len(now)*c.most/1000 {
			t.Errorf("%d %% of the rows new: codec %d and %d of %d bytes, want codec %d and %d of a thousand at most", c.percent, got, len(payload), len(now), c.want, c.most)
		}
	}
}
