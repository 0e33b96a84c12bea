package chunker_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/generalbots/backupd/chunker"
)

// steps returns at most n bytes a call.
type steps struct {
	r io.Reader
	n int
}

func (s steps) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), s.n)]) }

// readAll returns the chunk lengths of a stream and its bytes put together again.
func readAll(r *chunker.Reader) (lens []int, all []byte, err error) {
	for {
		chunk, err := r.Next()
		if err == io.EOF {
			return lens, all, nil
		}
		if err != nil {
			return lens, all, err
		}
		lens = append(lens, len(chunk))
		all = append(all, chunk...)
	}
}

func TestReader_CutsTheSameForAnyStep(t *testing.T) {
	wraps := map[string]func(io.Reader) io.Reader{
		"whole":    func(r io.Reader) io.Reader { return r },
		"1 byte":   iotest.OneByteReader,
		"half":     iotest.HalfReader,
		"data+EOF": iotest.DataErrReader,
	}
	for _, n := range []int{2, 63, 64, 65, 255, 1023, 1024, 1025, 4096} {
		wraps[fmt.Sprintf("%d bytes", n)] = func(r io.Reader) io.Reader { return steps{r, n} }
	}
	c := cutter(t, small, 1)
	for _, n := range append(edges(small), 50_000) {
		data := random(7, n)
		want := lengths(c, data)
		for name, wrap := range wraps {
			for _, buf := range [][]byte{nil, make([]byte, small.Max), make([]byte, small.Max+1), make([]byte, 7*small.Max)} {
				lens, all, err := readAll(chunker.NewReader(wrap(bytes.NewReader(data)), c, buf))
				if err != nil || !bytes.Equal(all, data) || !slices.Equal(lens, want) {
					t.Errorf("%d bytes, %s, buffer of %d: %d bytes in chunks %v, error %v; want chunks %v", n, name, len(buf), len(all), lens, err, want)
				}
			}
		}
	}
}

func TestReader_HandsOutWholeChunksBeforeAnError(t *testing.T) {
	broken := errors.New("broken disk")
	c := cutter(t, small, 1)
	data := random(7, 10_000)
	want := lengths(c, data)
	r := chunker.NewReader(io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), c, nil)
	lens, all, err := readAll(r)
	if err != broken {
		t.Fatalf("got %v, want the stream's own error", err)
	}
	if !bytes.HasPrefix(data, all) || !slices.Equal(lens, want[:len(want)-1]) {
		t.Errorf("got chunks %v before the error, want %v", lens, want[:len(want)-1])
	}
	if _, err := r.Next(); err != broken {
		t.Errorf("got %v the second time", err)
	}
	r.Reset(bytes.NewReader(data))
	if _, all, err := readAll(r); err != nil || !bytes.Equal(all, data) {
		t.Errorf("after Reset: %d bytes, %v", len(all), err)
	}
}

func TestReader_RefusesReadersThatCheat(t *testing.T) {
	c := cutter(t, small, 1)
	for name, src := range map[string]struct {
		read func(p []byte) (int, error)
		want error
	}{
		"nothing for ever": {func(p []byte) (int, error) { return 0, nil }, io.ErrNoProgress},
		"negative":         {func(p []byte) (int, error) { return -1, nil }, nil},
		"more than asked":  {func(p []byte) (int, error) { return len(p) + 1, nil }, nil},
	} {
		_, err := chunker.NewReader(readFunc(src.read), c, nil).Next()
		if err == nil || err == io.EOF || (src.want != nil && err != src.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func TestReader_ChunkCanNotGrowIntoTheNext(t *testing.T) {
	r := chunker.NewReader(bytes.NewReader(random(1, 10_000)), cutter(t, small, 1), nil)
	chunk, err := r.Next()
	if err != nil || cap(chunk) != len(chunk) {
		t.Errorf("chunk of %d bytes has capacity %d, %v", len(chunk), cap(chunk), err)
	}
}

func TestReader_DoesNotAllocate(t *testing.T) {
	data := random(1, 1<<20)
	src := bytes.NewReader(data)
	r := chunker.NewReader(src, cutter(t, chunker.Files(), 1), nil)
	got := testing.AllocsPerRun(5, func() {
		src.Reset(data)
		r.Reset(src)
		for {
			if _, err := r.Next(); err == io.EOF {
				return
			}
		}
	})
	if got != 0 {
		t.Errorf("a file allocates %v times", got)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("some bytes"), uint16(3), uint16(64), uint8(8), uint16(200), uint8(2), uint16(0))
	f.Add(random(1, 5000), uint16(1), uint16(100), uint8(9), uint16(1000), uint8(3), uint16(1))
	f.Add(make([]byte, 3000), uint16(700), uint16(64), uint8(7), uint16(900), uint8(0), uint16(2000))
	f.Fuzz(func(t *testing.T, data []byte, step, least uint16, avgBits uint8, over uint16, normalisation uint8, spare uint16) {
		avg := 1 << (avgBits % 16)
		p := chunker.Params{Min: int(least), Avg: avg, Max: avg + int(over), Normalisation: normalisation}
		c, err := chunker.New(p, table(1))
		if err != nil {
			if p.Validate() == nil {
				t.Fatalf("New refuses valid parameters: %v", err)
			}
			return
		}
		lens, all, err := readAll(chunker.NewReader(steps{bytes.NewReader(data), int(step) + 1}, c, make([]byte, p.Max+int(spare))))
		if err != nil || !bytes.Equal(all, data) {
			t.Fatalf("%d of %d bytes, %v", len(all), len(data), err)
		}
		if want := lengths(c, data); !slices.Equal(lens, want) {
			t.Fatalf("chunks %v, want %v", lens, want)
		}
		material, rest := random(1, 2048), data
		for _, n := range lens {
			if want := definition(p, material, rest); n != want {
				t.Fatalf("chunk of %d bytes, want %d", n, want)
			}
			rest = rest[n:]
		}
	})
}
