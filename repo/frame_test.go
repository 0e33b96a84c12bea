package repo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/store"
)

var skippable = []byte{0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 'j', 'u', 'n', 'k'}

// hostileFrames gives frames that are not exactly one frame of text as FORMAT.md allows it.
func hostileFrames(t testing.TB, text []byte) map[string][]byte {
	t.Helper()
	e, err := newBlockEncoder(LevelFast)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(p []byte) []byte {
		payload, c, err := e.plain(p)
		if err != nil || c != codecZstd {
			t.Fatalf("codec %v, %v", c, err)
		}
		return bytes.Clone(payload)
	}
	whole, half := encode(text), len(text)/2
	raw := func(desc byte, fields []byte, blocks ...byte) []byte {
		return append(append([]byte{0x28, 0xb5, 0x2f, 0xfd, desc}, fields...), blocks...)
	}
	// One block of a byte repeated, the last.
	n := uint32(len(text))
	rle := []byte{byte(1 | 1<<1 | n<<3), byte(n >> 5), byte(n >> 13), 'a'}
	size := binary.LittleEndian.AppendUint32(nil, n)
	return map[string][]byte{
		"two frames":                 encode(text[:half]), // the other half is added below
		"a skippable frame first":    slices.Concat(skippable, whole),
		"a skippable frame after":    slices.Concat(whole, skippable),
		"an empty frame after":       slices.Concat(whole, raw(0x20, []byte{0}, 1, 0, 0)),
		"a byte after":               slices.Concat(whole, []byte{0}),
		"one byte less":              whole[:len(whole)-1],
		"nothing":                    nil,
		"a skippable frame alone":    skippable,
		"a checksum":                 raw(0xa0|4, size, append(slices.Clone(rle), 0, 0, 0, 0)...),
		"a dictionary id":            raw(0xa0|1, append([]byte{7}, size...), rle...),
		"an unused bit":              raw(0xa0|0x10, size, rle...),
		"a reserved bit":             raw(0xa0|8, size, rle...),
		"another length":             raw(0xa0, binary.LittleEndian.AppendUint32(nil, n-1), rle...),
		"a length of 2^64":           raw(0xe0, bytes.Repeat([]byte{0xff}, 8), rle...),
		"a window of 16 MiB":         raw(0x00, []byte{14 << 3}, rle...),
		"a window of 2 TiB":          raw(0x00, []byte{31 << 3}, rle...),
		"a block of a reserved kind": raw(0xa0, size, 1|3<<1, 0, 0),
		"a block beyond its window":  raw(0x00, []byte{0}, rle...),
		"no last block":              raw(0xa0, size, rle[0]&^1, rle[1], rle[2], rle[3]),
		"blocks that add up to more": raw(0xa0, size, rle[0]&^1, rle[1], rle[2], rle[3], rle[0], rle[1], rle[2], rle[3]),
	}
}

func TestCheckFrame_TakesExactlyOneFrame(t *testing.T) {
	text := textRows(rand.New(rand.NewPCG(1, 1)), 400)[:20_000]
	e, err := newBlockEncoder(LevelFast)
	if err != nil {
		t.Fatal(err)
	}
	frames := hostileFrames(t, text)
	second, _, err := e.plain(text[len(text)/2:])
	if err != nil {
		t.Fatal(err)
	}
	frames["two frames"] = append(frames["two frames"], second...)
	taken := 0
	for name, frame := range frames {
		if _, err := e.dec.decode(nil, frame, nil, len(text)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", name, err)
		}
		// The control: the decoder alone would take some of them for the text.
		if got, err := e.dec.plain.DecodeAll(frame, make([]byte, 0, len(text)+decodeSlack)); err == nil && bytes.Equal(got, text) {
			taken++
		}
	}
	if taken < 4 {
		t.Errorf("the decoder alone takes %d of them for good, so the walk shows little", taken)
	}
	for _, p := range [][]byte{text, text[:40], bytes.Repeat([]byte{1}, BlockSize), textRows(rand.New(rand.NewPCG(2, 2)), 9000), make([]byte, MaxChunkSize)} {
		for _, dict := range [][]byte{nil, text} {
			payload, c, err := e.plain(p)
			if dict != nil {
				payload, c, err = against(e, p, dict)
			}
			if err != nil {
				t.Fatal(err)
			}
			if c == codecStored {
				continue
			}
			if err := checkFrame(payload, len(p)); err != nil {
				t.Errorf("%d bytes, codec %v: %v", len(p), c, err)
			}
		}
	}
}

func FuzzCheckFrame(f *testing.F) {
	text := textRows(rand.New(rand.NewPCG(1, 1)), 400)[:20_000]
	for _, frame := range hostileFrames(f, text) {
		f.Add(frame, uint32(len(text)))
	}
	d, err := newBlockDecoder()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, frame []byte, size uint32) {
		size %= BlockSize + 1
		if checkFrame(frame, int(size)) != nil {
			return
		}
		// What passes decodes to one plaintext or to an error, and not without its last byte.
		got, err := d.decode(nil, frame, nil, int(size))
		if err == nil && len(got) != int(size) {
			t.Errorf("got %d bytes, want %d", len(got), size)
		}
		if checkFrame(frame[:len(frame)-1], int(size)) == nil || checkFrame(append(frame, 0), int(size)) == nil {
			t.Error("the frame may as well be a byte shorter or longer")
		}
	})
}

// forger writes blocks that no writer would, sealed as by one.
type forger struct {
	t *testing.T
	r *Repo
	w *Writer
}

func newForger(t *testing.T) *forger {
	t.Helper()
	st := store.NewMem()
	initTestRepo(t, st, 8<<20)
	r := openTestRepo(t, st, Options{})
	t.Cleanup(func() { r.Close() })
	w, err := r.NewWriter(t.Context(), WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return &forger{t, r, w}
}

// ref names a chunk of these bytes.
func (f *forger) ref(p []byte) Ref {
	h := f.r.reader.hasher(kindData)
	defer f.r.reader.hashers[kindData-1].Put(h)
	return Ref{ID: h.Sum(p), Len: uint32(len(p))}
}

func (f *forger) add(b *newBlock) {
	f.t.Helper()
	for _, c := range b.chunks {
		b.plain += int(c.Len)
	}
	if b.reach == 0 {
		b.reach = uint32(b.plain)
	}
	if err := f.w.data.add(f.t.Context(), b); err != nil {
		f.t.Fatal(err)
	}
}

// seal makes what was added durable.
func (f *forger) seal() {
	f.t.Helper()
	if err := f.w.Commit(f.t.Context(), bareManifest(f.t, f.r)); err != nil {
		f.t.Fatal(err)
	}
	if err := f.w.Close(); err != nil {
		f.t.Fatal(err)
	}
}

// findings checks the repository and returns what was found.
func (f *forger) findings(readData bool) string {
	f.t.Helper()
	rep, err := f.r.Check(f.t.Context(), CheckOptions{ReadData: readData}, new(CheckProgress))
	if err != nil {
		f.t.Fatal(err)
	}
	return fmt.Sprint(rep.Findings)
}

func TestReader_RefusesHostileFramesBehindTheSeal(t *testing.T) {
	text := textRows(rand.New(rand.NewPCG(1, 1)), 400)[:20_000]
	f := newForger(t)
	frames := hostileFrames(t, text)
	var refs []Ref
	for name, frame := range frames {
		// Chunks that differ, so that none stands in for another.
		ref := f.ref([]byte(name))
		ref.Len = uint32(len(text))
		refs = append(refs, ref)
		f.add(&newBlock{payload: frame, codec: codecZstd, chunks: []Ref{ref}})
	}
	f.seal()
	for _, ref := range refs {
		if _, err := f.r.Reader().AppendChunk(t.Context(), nil, ref.ID); !errors.Is(err, ErrDamaged) {
			t.Errorf("got %v, want ErrDamaged", err)
		}
	}
	if got := strings.Count(f.findings(true), "zstd frame"); got < len(frames)-1 { // of two halves the first alone is a frame of another length
		t.Errorf("check has %d findings about %d frames", got, len(frames))
	}
}

// A trailer that promises little and leads to much is found by the check, and no reader follows it.
func TestReach_OfATrailerThatLies(t *testing.T) {
	f := newForger(t)
	e, err := newBlockEncoder(LevelFast)
	if err != nil {
		t.Fatal(err)
	}
	var dict []Ref
	for i := range 300 { // 300 blocks of 256 KiB
		small := fmt.Appendf(nil, "small chunk %d", i)
		plain := append(small, make([]byte, BlockSize-len(small))...)
		payload, c, err := e.plain(plain)
		if err != nil || c != codecZstd {
			t.Fatal(c, err)
		}
		refs := []Ref{f.ref(small), f.ref(plain[len(small):])}
		dict = append(dict, refs[0])
		f.add(&newBlock{payload: payload, codec: c, chunks: refs})
	}
	text := textRows(rand.New(rand.NewPCG(1, 1)), 400)[:20_000]
	delta := func(name string, n int, reach uint32) Ref {
		var raw []byte
		b := &newBlock{codec: codecDelta, depth: 1, reach: reach}
		for i := range n {
			raw = fmt.Appendf(raw, "small chunk %d", i)
			b.dict = append(b.dict, dict[i].ID)
		}
		mine := append([]byte(name), text...)
		payload, c, err := against(e, mine, append(raw, mine...)) // what it is made with does not matter
		if err != nil || c != codecDelta {
			t.Fatal(c, err)
		}
		b.payload, b.chunks = bytes.Clone(payload), []Ref{f.ref(mine)}
		f.add(b)
		return b.chunks[0]
	}
	far := delta("far", 300, MaxReach)
	short := delta("short", 2, uint32(len("short")+len(text)))
	f.seal()

	before := f.r.reader.blocks.size()
	if _, err := f.r.Reader().AppendChunk(t.Context(), nil, far.ID); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "bytes of other blocks") {
		t.Errorf("a block that leads to 75 MiB: got %v", err)
	}
	if grown := f.r.reader.blocks.size() - before; grown > readReach+BlockSize {
		t.Errorf("%d bytes were decoded for it", grown)
	}
	got := f.findings(false)
	if !strings.Contains(got, fmt.Sprintf("more than %d bytes must be decoded", readReach)) {
		t.Errorf("check does not say that it is too far: %s", got)
	}
	if !strings.Contains(got, "its own and its dictionary's are") {
		t.Errorf("check does not say that chunk %s lies: %s", short.ID.Short(), got)
	}
}

// Four copies on each of sixteen steps, none of which can be decoded, are 4^16 ways to fail.
func TestReader_GivesUpOnCopiesThatAllFail(t *testing.T) {
	f := newForger(t)
	chunk := func(depth int) Ref { return f.ref(fmt.Appendf(nil, "step %02d %s", depth, strings.Repeat("x", 90))) }
	for depth := range MaxDepth + 1 {
		for range 4 {
			b := &newBlock{payload: []byte("no frame"), codec: codecZstd, depth: uint8(depth), chunks: []Ref{chunk(depth)}, reach: MaxReach}
			if depth > 0 {
				b.codec, b.dict = codecDelta, append(b.dict, chunk(depth-1).ID)
			} else {
				b.reach = b.chunks[0].Len
			}
			f.add(b)
		}
	}
	f.seal()
	begun := time.Now()
	if _, err := f.r.Reader().AppendChunk(t.Context(), nil, chunk(MaxDepth).ID); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
	if got := f.findings(true); !strings.Contains(got, "zstd frame") {
		t.Errorf("check: %s", got)
	}
	if took := time.Since(begun); took > 2*time.Minute {
		t.Errorf("it took %v", took)
	}
}
