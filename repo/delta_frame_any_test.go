package repo

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"testing"
)

// anyMatches makes a block of copies out of a dictionary with literals between them, and says which they are. least
// and most bound the copies, gap the literals between two; half of the copies go on where an offset of before leads.
func anyMatches(rng *rand.Rand, size int, dict []byte, least, most, gap, symbols int) (p []byte, found []match) {
	var shifts []int // dictionary minus block
	for len(p) < size {
		if n := rng.IntN(gap + 1); n > 0 && rng.IntN(3) > 0 {
			for range min(n, size-len(p)) {
				p = append(p, byte(rng.IntN(symbols)*rng.IntN(2)))
			}
		}
		n := min(least+rng.IntN(most-least+1), size-len(p), len(dict))
		if n < 1 {
			continue
		}
		from := rng.IntN(len(dict) - n + 1)
		if len(shifts) > 0 && rng.IntN(2) == 0 {
			if f := len(p) + shifts[max(0, len(shifts)-1-rng.IntN(4))]; f >= 0 && f+n <= len(dict) {
				from = f
			}
		}
		shifts = append(shifts, from-len(p))
		found = append(found, match{at: int32(len(dict) + len(p)), from: int32(from), n: int32(n)})
		p = append(p, dict[from:from+n]...)
	}
	return p, found
}

// Whatever the matches are: next to each other, with offsets of before, across the border of two blocks with fewer
// bytes than a match has on either side, as many as fit.
func TestDeltaFrame_TakesAnyMatchesInOrder(t *testing.T) {
	dec, err := newBlockDecoder()
	if err != nil {
		t.Fatal(err)
	}
	var f frameWriter
	program, _ := exec.LookPath("zstd")
	most := 0
	for round := range uint64(60) {
		rng := rand.New(rand.NewPCG(round, 78))
		dict := make([]byte, []int{8, 300, 70_000, MaxDictionarySize}[rng.IntN(4)])
		for i := range dict {
			dict[i] = byte(rng.Uint32())
		}
		trained := round%5 == 0 && len(dict) > 8 // the program, unlike the library of it, takes it for one
		if trained {
			copy(dict, "\x37\xa4\x30\xec")
		}
		for _, size := range []int{1, 3, 255, 256, 1<<16 + 256, frameMaxBlock - 1, frameMaxBlock, frameMaxBlock + 1, frameMaxBlock + 2, BlockSize} {
			least, gap := 1+rng.IntN(8), rng.IntN(5)
			long := least + []int{0, 1, 5, 300, 200_000}[rng.IntN(5)]
			if rng.IntN(3) == 0 {
				gap = 1 + rng.IntN(200_000)
			}
			p, found := anyMatches(rng, size, dict, least, long, gap, 1+rng.IntN(256))
			frame, err := f.delta(nil, slices.Concat(dict, p), len(dict), found)
			if err != nil {
				t.Fatal(err)
			}
			most = max(most, len(f.sequences))
			what := fmt.Sprintf("round %d, %d bytes, %d matches of %d to %d, literals to %d, dictionary of %d", round, size, len(found), least, long, gap, len(dict))
			got, err := dec.decode(nil, frame, dict, len(p))
			if err != nil || !bytes.Equal(got, p) {
				t.Fatalf("%s: decoded to something else (%v)", what, err)
			}
			if round%6 == 1 && program != "" && !trained {
				byProgram(t, program, what, frame, dict, p)
			}
		}
	}
	if most < 0x7f00 {
		t.Errorf("at most %d matches in a block, so the longest form of their count was not written", most)
	}
}
