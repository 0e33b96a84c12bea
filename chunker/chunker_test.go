package chunker_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/generalbots/backupd/chunker"
)

// small cuts often, so that little data shows much.
var small = chunker.Params{Min: 64, Avg: 256, Max: 1024, Normalisation: 2}

// profiles are the parameters that stand in repositories, and small.
var profiles = []chunker.Params{chunker.Files(), chunker.Database(), chunker.Media(), small}

// lengths cuts all of data.
func lengths(c *chunker.Cutter, data []byte) []int {
	var out []int
	for len(data) > 0 {
		n := c.Cut(data, true)
		out = append(out, n)
		data = data[n:]
	}
	return out
}

// chunks returns the pieces of data that c makes, as a set of their contents.
func chunks(c *chunker.Cutter, data []byte) map[string]bool {
	set := map[string]bool{}
	for _, n := range lengths(c, data) {
		set[string(data[:n])] = true
		data = data[n:]
	}
	return set
}

// definition is the package comment, word for word and slowly: the length of the
// first chunk of data.
func definition(p chunker.Params, material []byte, data []byte) int {
	gear := func(b byte) (v uint64) {
		for i := range 8 {
			v |= uint64(material[8*int(b)+i]) << (8 * i)
		}
		return v
	}
	factor := []int{45426, 53145, 58496, 61752}[p.Normalisation]
	d := p.Avg - p.Min
	turn := min(p.Min+d*factor/65536, p.Max)
	n := uint64(1) << p.Normalisation
	for length := p.Min; length <= min(p.Max, len(data)); length++ {
		var h uint64
		for _, b := range data[length-64 : length] {
			h = h*2 + gear(b)
		}
		limit := ^uint64(0) / (uint64(d) * n)
		if length >= turn {
			if limit = ^uint64(0); uint64(d) >= n {
				limit = limit / uint64(d) * n
			}
		}
		if h < limit {
			return length
		}
	}
	return min(p.Max, len(data))
}

func TestCut_FollowsTheDefinition(t *testing.T) {
	params := []chunker.Params{
		small,
		{Min: 64, Avg: 128, Max: 129, Normalisation: 0},
		{Min: 65, Avg: 512, Max: 4000, Normalisation: 0},
		{Min: 127, Avg: 128, Max: 300, Normalisation: 3},
		{Min: 123, Avg: 128, Max: 300, Normalisation: 3},
		{Min: 64, Avg: 8192, Max: 20000, Normalisation: 1},
		{Min: 1000, Avg: 2048, Max: 16384, Normalisation: 3},
	}
	for i, p := range params {
		t.Run(fmt.Sprintf("%+v", p), func(t *testing.T) {
			seed := byte(10 + i)
			c := cutter(t, p, seed)
			material := random(seed, 2048)
			for _, data := range [][]byte{random(seed, 100_000), text(uint64(seed), 100_000), make([]byte, 10_000)} {
				for len(data) > 0 {
					got, want := c.Cut(data, true), definition(p, material, data)
					if got != want {
						t.Fatalf("chunk of %d bytes, want %d, with %d left", got, want, len(data))
					}
					data = data[got:]
				}
			}
		})
	}
}

func TestCut_IgnoresWhatFollowsTheChunk(t *testing.T) {
	c := cutter(t, small, 1)
	data := random(2, 2*small.Max)
	whole := c.Cut(data, false)
	for n := range len(data) + 1 {
		got, want := c.Cut(data[:n], false), whole
		if n < whole {
			want = 0
		}
		if got != want {
			t.Errorf("Cut of %d bytes is %d, want %d", n, got, want)
		}
		if got, want := c.Cut(data[:n], true), min(n, whole); got != want {
			t.Errorf("Cut of the last %d bytes is %d, want %d", n, got, want)
		}
	}
}

func TestCut_KeepsTheBounds(t *testing.T) {
	for _, p := range profiles {
		c := cutter(t, p, 1)
		for name, data := range map[string][]byte{
			"random": random(1, 8*p.Max+1),
			"text":   text(1, 8*p.Max+1),
			"zeros":  make([]byte, 8*p.Max+1),
			"ones":   bytes.Repeat([]byte{0xff}, 8*p.Max+1),
			"pairs":  bytes.Repeat([]byte{0, 1}, 4*p.Max),
		} {
			ls := lengths(c, data)
			for i, n := range ls {
				if n > p.Max || (n < p.Min && i < len(ls)-1) || n <= 0 {
					t.Errorf("%+v, %s: chunk %d of %d has %d bytes", p, name, i, len(ls), n)
				}
			}
		}
	}
}

func TestCut_HandlesEdgeSizes(t *testing.T) {
	for _, p := range profiles {
		c := cutter(t, p, 1)
		for _, n := range edges(p) {
			data := random(3, n)
			total := 0
			for _, l := range lengths(c, data) {
				total += l
			}
			if total != n {
				t.Errorf("%+v: chunks of %d bytes hold %d", p, n, total)
			}
			if got := c.Cut(data, false); got == 0 && n >= p.Max {
				t.Errorf("%+v: Cut wants more than %d bytes", p, n)
			}
			if got := c.Cut(data, false); got != 0 && n < p.Min {
				t.Errorf("%+v: Cut of %d bytes is %d", p, n, got)
			}
		}
	}
}

// edges are the sizes at which a chunker goes wrong.
func edges(p chunker.Params) []int {
	return []int{
		0, 1, 2, 62, 63, 64, 65, p.Min - 1, p.Min, p.Min + 1, p.Min + 511, p.Min + 512, p.Min + 513,
		p.Avg - 1, p.Avg, p.Avg + 1, p.Max - 1, p.Max, p.Max + 1, 2*p.Max - 1, 2 * p.Max, 2*p.Max + 1,
	}
}

func TestCut_MeanIsAvg(t *testing.T) {
	for normalisation := range uint8(4) {
		for _, p := range profiles {
			p.Normalisation = normalisation
			c := cutter(t, p, 5)
			data := random(6, min(256*p.Avg, 64<<20))
			got := len(data) / len(lengths(c, data))
			// Without normalisation Max cuts the tail of a long distribution.
			low, high := p.Avg*85/100, p.Avg*110/100
			if got < low || got > high {
				t.Errorf("%+v: the mean is %d, want %d to %d", p, got, low, high)
			}
		}
	}
}

func TestCut_FindsBackAfterAnInsertion(t *testing.T) {
	for name, data := range map[string][]byte{"random": random(1, 16<<20), "text": text(1, 16<<20)} {
		for _, p := range []chunker.Params{chunker.Files(), {Min: 4 << 10, Avg: 16 << 10, Max: 64 << 10, Normalisation: 2}} {
			c := cutter(t, p, 1)
			before := chunks(c, data)
			for _, at := range []int{0, len(data) / 2} {
				after := chunks(c, slices.Insert(slices.Clone(data), at, 'x'))
				same := 0
				for chunk := range after {
					if before[chunk] {
						same++
					}
				}
				if got := float64(same) / float64(len(after)); got <= 0.95 {
					t.Errorf("%s, %+v: after a byte at %d %.1f %% of %d chunks are the same, want more than 95 %%", name, p, at, 100*got, len(after))
				}
			}
		}
	}
}

func TestCut_DependsOnTheKey(t *testing.T) {
	data := random(1, 8<<20)
	bounds := func(key byte) map[int]bool {
		at, set := 0, map[int]bool{}
		for _, n := range lengths(cutter(t, chunker.Files(), key), data) {
			at += n
			set[at] = true
		}
		return set
	}
	one, two := bounds(1), bounds(2)
	same := 0
	for at := range one {
		if two[at] {
			same++
		}
	}
	// The end of the data is a boundary under every key.
	if same > 2 {
		t.Errorf("two keys share %d of %d boundaries", same, len(one))
	}
}

func TestCut_DoesNotAllocate(t *testing.T) {
	c := cutter(t, chunker.Files(), 1)
	data := random(1, 1<<20)
	if got := testing.AllocsPerRun(20, func() { c.Cut(data, true) }); got != 0 {
		t.Errorf("Cut allocates %v times", got)
	}
}

func TestCutter_ServesManyGoroutines(t *testing.T) {
	c := cutter(t, small, 1)
	data := random(1, 100_000)
	want := lengths(c, data)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if got := lengths(c, data); !slices.Equal(got, want) {
				t.Error("two goroutines cut differently")
			}
		})
	}
	wg.Wait()
}

func TestNew_RefusesBadParams(t *testing.T) {
	p := small
	p.Avg = 300
	if _, err := chunker.New(p, table(1)); !errors.Is(err, chunker.ErrParams) {
		t.Errorf("got %v, want ErrParams", err)
	}
	for _, p := range profiles {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
		if got := cutter(t, p, 1).Params(); got != p {
			t.Errorf("Params are %+v, want %+v", got, p)
		}
	}
}

func TestTable_PrintsNothing(t *testing.T) {
	tab := table(1)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		for _, v := range []any{tab, *tab} {
			if got := fmt.Sprintf(verb, v); got != "[redacted]" {
				t.Errorf("%s prints %.40s", verb, got)
			}
		}
	}
	if got := fmt.Sprintf("%+v", cutter(t, small, 1)); strings.Contains(got, "gear") {
		t.Errorf("a Cutter prints %.80s", got)
	}
}
