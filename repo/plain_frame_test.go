package repo

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// plainEdges are blocks that bring each form a sequence can have: literals and matches of every length, offsets of
// before with and without literals, and what goes on over the border of two blocks of a frame.
func plainEdges(rng *rand.Rand, size int) map[string][]byte {
	noise := randomChunks(rng, 1, size, size)[0]
	// Between copies of one stretch so much noise that each code of literals is there.
	runs := make([]byte, 0, size+1<<17)
	for n := 1; len(runs) < size; n += 1 + n/2 {
		at := rng.IntN(max(1, size-n))
		runs = append(append(runs, "a stretch that comes again"...), noise[at:min(size, at+n)]...)
	}
	// Copies of every length, of what stood before.
	copies := append(make([]byte, 0, size+1<<17), noise[:min(size, 40_000)]...)
	for n := 4; len(copies) < size; n += 1 + n/3*rng.IntN(2) {
		at := rng.IntN(max(1, len(copies)-n))
		copies = append(append(copies, copies[at:min(len(copies), at+n)]...), noise[:rng.IntN(3)]...)
	}
	// Two stretches by turns, so that the offsets of before are those to take.
	turns := make([]byte, 0, size+1<<17)
	for len(turns) < size {
		turns = append(turns, "abcdefghijklmnop0123456789"[rng.IntN(10):10+rng.IntN(16)]...)
	}
	period := bytes.Repeat(noise[:min(size, 1+rng.IntN(40))], 2+size)[:size]
	skewed := make([]byte, size) // repeats nothing, and takes half
	for i := range skewed {
		skewed[i] = "0123456789abcdef"[rng.IntN(16)]
	}
	return map[string][]byte{
		"noise": noise, "zeros": make([]byte, size), "runs": runs[:size], "copies": copies[:size], "turns": turns[:size],
		"a period": period, "digits": skewed, "rows": textRows(rng, size/60+1)[:size], "noise, zeros": append(bytes.Clone(noise[:size/2]), make([]byte, size-size/2)...),
	}
}

// The library decodes it, and where it is there the reference program.
func TestPlainFrame_DecodesToWhatWentIn(t *testing.T) {
	dec, err := newBlockDecoder()
	if err != nil {
		t.Fatal(err)
	}
	var f frameWriter
	m := new(plainMatcher)
	program, _ := exec.LookPath("zstd")
	lls, mls := counts{}, counts{}
	for round := range uint64(6) {
		rng := rand.New(rand.NewPCG(round, 79))
		for _, size := range []int{1, 7, 39, 40, 41, 48, 200, 255, 256, 257, 5000, 1<<16 + 255, 1<<16 + 256, frameMaxBlock - 1, frameMaxBlock, frameMaxBlock + 1, frameMaxBlock + 45, BlockSize, plainLargest} {
			for name, p := range plainEdges(rng, size) {
				frame, err := f.plain(m, nil, p)
				if err != nil {
					t.Fatal(err)
				}
				for i := range lls {
					lls[i] += f.ll.count[i]
					mls[i] += f.ml.count[i]
				}
				got, err := dec.decode(nil, frame, nil, len(p))
				if err != nil || !bytes.Equal(got, p) {
					t.Fatalf("round %d, %s, %d bytes: decoded to something else (%v)", round, name, size, err)
				}
				if round == 0 && program != "" {
					byProgram(t, program, fmt.Sprintf("%s, %d bytes", name, size), frame, nil, p)
				}
			}
		}
	}
	for code, n := range lls[:len(literalLengths.bases)-1] { // the last begins at 64 KiB
		if n == 0 {
			t.Errorf("no sequence has the code %d of literals", code)
		}
	}
	for code, n := range mls[:len(matchLengths.bases)-1] {
		if n == 0 && code > 0 { // of three bytes are none
			t.Errorf("no sequence has the code %d of matches", code)
		}
	}
}

// A first backup must not take more for being faster. The control is what the library makes of it.
func TestPlainFrame_TakesWhatTheLibraryTakes(t *testing.T) {
	enc, err := newEncoder(zstd.SpeedFastest, BlockSize)
	if err != nil {
		t.Fatal(err)
	}
	var f frameWriter
	m := new(plainMatcher)
	var base []byte
	for _, c := range costCases() {
		if bytes.Equal(c.base, base) {
			continue
		}
		base = c.base
		own, library := 0, 0
		for at := 0; at+BlockSize <= len(c.base); at += BlockSize {
			p := c.base[at : at+BlockSize]
			frame, err := f.plain(m, nil, p)
			if err != nil {
				t.Fatal(err)
			}
			own += len(frame)
			library += len(enc.EncodeAll(p, nil))
		}
		t.Logf("%s: %d bytes, the library %d", c.name, own, library)
		if own > library+library/50 {
			t.Errorf("%s: %d bytes, the library takes %d", c.name, own, library)
		}
	}
}

// The sample of what may be noise is compressed for nearly every block of a stream that is.
func TestPlainFrame_AllocatesNothingOnceItsBuffersAreLarge(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 9))
	var f frameWriter
	m := new(plainMatcher)
	p := textRows(rng, 4000)[:BlockSize]
	var buf []byte
	var err error
	n := testing.AllocsPerRun(20, func() {
		if buf, err = f.plain(m, buf[:0], p); err != nil {
			t.Fatal(err)
		}
	})
	if n > 2 {
		t.Errorf("%.0f allocations a block", n)
	}
}
