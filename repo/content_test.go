package repo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/generalbots/backupd/crypto"
)

func writeContent(t testing.TB, w *TreeWriter, refs []Ref, base *Content, src pageSource) Content {
	t.Helper()
	c := w.NewContent(base, src)
	for _, r := range refs {
		if err := c.Add(t.Context(), r); err != nil {
			t.Fatalf("Add: %v", err)
		}
	}
	got, err := c.Close(t.Context())
	if err != nil {
		t.Fatalf("Close: %v", err)
	}
	if reason := checkContent(&got); reason != "" {
		t.Fatalf("%+v: %s", got, reason)
	}
	return got
}

func readContent(t testing.TB, r *ContentReader) (refs []Ref) {
	t.Helper()
	for {
		ref, ok, err := r.Next(t.Context())
		if err != nil {
			t.Fatalf("Next: %v", err)
		}
		if !ok {
			return refs
		}
		refs = append(refs, ref)
	}
}

func randomRefs(rng *rand.Rand, n int) []Ref {
	refs := make([]Ref, n)
	for i := range refs {
		for j := 0; j < 32; j += 8 {
			binary.LittleEndian.PutUint64(refs[i].ID[j:], rng.Uint64())
		}
		refs[i].Len = 1 + rng.Uint32N(100000)
	}
	return refs
}

func TestContent_ReadsBackWhatWasWrittenAtEveryLength(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	m := newMemPages()
	w := newTreeWriter(m)
	for _, n := range []int{0, 1, 15, 16, 17, 127, 128, 129, 500, 4096, 4097, 60000} {
		want := randomRefs(rng, n)
		c := writeContent(t, w, want, nil, nil)
		if inline := n <= MaxInlineChunks; inline != (c.Level == 0) || c.Chunks != uint64(n) {
			t.Errorf("%d chunks: got level %d and %d chunks", n, c.Level, c.Chunks)
		}
		if got := readContent(t, newContentReader(m, &c)); !slices.Equal(got, want) {
			t.Errorf("%d chunks: %d came back, or others", n, len(got))
		}
	}
}

func TestContent_OfOneChunkRepeatedHasFewPages(t *testing.T) {
	for _, first := range []byte{0, 1} { // cut at each chance, and at none
		m := newMemPages()
		refs := make([]Ref, 100000)
		for i := range refs {
			refs[i] = Ref{crypto.ID{first, 7}, 65536}
		}
		c := writeContent(t, newTreeWriter(m), refs, nil, nil)
		if got := readContent(t, newContentReader(m, &c)); !slices.Equal(got, refs) {
			t.Error("chunks came back different")
		}
		if len(m.pages) > 10 {
			t.Errorf("got %d pages, want 10 at most", len(m.pages))
		}
		for _, p := range m.pages {
			if most := 1 + maxContentItems*(32+5); len(p) > most {
				t.Errorf("a page of %d bytes, want %d at most", len(p), most)
			}
		}
	}
}

func TestContent_SeekFindsTheChunkOfEachOffset(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 9))
	m := newMemPages()
	w := newTreeWriter(m)
	for _, n := range []int{0, 1, 16, 17, 3000, 50000} {
		refs := randomRefs(rng, n)
		c := writeContent(t, w, refs, nil, nil)
		starts := make([]int64, n+1)
		for i, r := range refs {
			starts[i+1] = starts[i] + int64(r.Len)
		}
		r := newContentReader(m, &c)
		offsets := []int64{0, c.Bytes - 1, c.Bytes, c.Bytes + 1, 1 << 62}
		for range 300 {
			i := rng.IntN(n + 1)
			offsets = append(offsets, starts[i], starts[i]+1, max(starts[i]-1, 0), rng.Int64N(c.Bytes+1))
		}
		for _, offset := range offsets {
			want, found := slices.BinarySearch(starts, offset)
			if !found {
				want--
			}
			want = max(want, 0)
			got, err := r.Seek(t.Context(), offset)
			if err != nil || got != starts[want] {
				t.Fatalf("%d chunks: Seek(%d): got %d, %v, want %d", n, offset, got, err, starts[want])
			}
			for i := want; i < min(want+rng.IntN(400), n+1); i++ {
				ref, ok, err := r.Next(t.Context())
				if err != nil || ok != (i < n) || ok && ref != refs[i] {
					t.Fatalf("%d chunks: chunk %d after Seek(%d): got %v, %v, %v", n, i, offset, ref, ok, err)
				}
			}
		}
	}
}

func TestContent_DependsOnNothingButItsChunks(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 9))
	for _, n := range []int{17, 1000, 40000} {
		m := newMemPages()
		w := newTreeWriter(m)
		refs := randomRefs(rng, n)
		c := writeContent(t, w, refs, nil, nil)
		for range 12 {
			base := c
			at := rng.IntN(len(refs))
			switch rng.IntN(4) {
			case 0:
				refs[at] = randomRefs(rng, 1)[0]
			case 1:
				refs = slices.Insert(refs, at, randomRefs(rng, rng.IntN(200))...)
			case 2:
				refs = slices.Delete(refs, at, min(len(refs), at+rng.IntN(200)))
			case 3:
				refs = append(refs, randomRefs(rng, rng.IntN(2000))...)
			}
			before := len(m.pages)
			m.reset()
			c = writeContent(t, w, refs, &base, m)
			if made := len(m.pages) - before; made > 16 {
				t.Errorf("%d chunks: a change of %d made %d pages new", n, at, made)
			}
			if alone := writeContent(t, newTreeWriter(newMemPages()), refs, nil, nil); alone.Root != c.Root || alone.Level != c.Level {
				t.Fatalf("%d chunks: with a base %+v, without %+v", n, c, alone)
			}
			if got := readContent(t, newContentReader(m, &c)); !slices.Equal(got, refs) {
				t.Fatal("chunks came back different")
			}
		}
	}
}

// TestContent_PagesOfTheBaseAreFoundAgainAfterAShift says why the writer follows
// the base by offset and by what the sink told.
func TestContent_PagesOfTheBaseAreFoundAgainAfterAShift(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 9))
	for what, change := range map[string]func([]Ref) []Ref{
		"nothing": func(r []Ref) []Ref { return r },
		"insert":  func(r []Ref) []Ref { return slices.Insert(r, 5000, randomRefs(rng, 50)...) },
		"delete":  func(r []Ref) []Ref { return slices.Delete(r, 5000, 5050) },
		"replace": func(r []Ref) []Ref { r[5000] = randomRefs(rng, 1)[0]; return r },
	} {
		m := newMemPages()
		w := newTreeWriter(m)
		refs := randomRefs(rng, 60000)
		c := writeContent(t, w, refs, nil, nil)
		pages := len(m.pages)
		m.reset()
		writeContent(t, w, change(slices.Clone(refs)), &c, m)
		t.Logf("%s: %d of %d pages stored, %d with a likeness", what, m.puts, pages, m.likes)
		if m.puts > 8 || m.likes != m.puts {
			t.Errorf("%s: %d pages stored, %d with a likeness, want 8 at most, and as many", what, m.puts, m.likes)
		}
	}
}

func TestContent_ABaseThatCanNotBeReadOnlyCostsSpace(t *testing.T) {
	m := newMemPages()
	w := newTreeWriter(m)
	refs := randomRefs(rand.New(rand.NewPCG(5, 9)), 5000)
	c := writeContent(t, w, refs, nil, nil)
	for id := range m.pages {
		m.lost = map[crypto.ID]bool{id: true}
		if again := writeContent(t, w, refs, &c, m); again.Root != c.Root {
			t.Fatalf("without page %s: got %+v, want %+v", id.Short(), again, c)
		}
	}
	lie := c
	lie.Chunks, lie.Bytes = 3, 1
	m.lost = nil
	if again := writeContent(t, w, refs, &lie, m); again.Root != c.Root {
		t.Fatalf("with a base that lies: got %+v, want %+v", again, c)
	}
}

func TestContentWriter_RefusesChunksNoContentHas(t *testing.T) {
	c := newTreeWriter(newMemPages()).NewContent(nil, nil)
	for _, n := range []uint32{0, MaxChunkSize + 1} {
		if err := c.Add(t.Context(), Ref{treeID(1), n}); !errors.Is(err, ErrInvalidEntry) {
			t.Errorf("a chunk of %d bytes: got %v", n, err)
		}
	}
	if err := c.Add(t.Context(), Ref{treeID(1), MaxChunkSize}); err != nil {
		t.Error(err)
	}
	if got, err := c.Close(t.Context()); err != nil || got.Chunks != 1 || got.Bytes != MaxChunkSize {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := c.Add(t.Context(), Ref{treeID(1), 1}); err == nil {
		t.Error("Add after Close succeeded")
	}
}

func TestContentWriter_ErrorsOfTheSinkStay(t *testing.T) {
	want := errors.New("disk gone")
	c := newTreeWriter(sinkErr{want}).NewContent(nil, nil)
	var err error
	for i := uint64(0); err == nil && i < 100000; i++ {
		err = c.Add(t.Context(), Ref{treeID(i), 1})
	}
	if !errors.Is(err, want) {
		t.Errorf("Add: got %v, want %v", err, want)
	}
	if _, err := c.Close(t.Context()); !errors.Is(err, want) {
		t.Errorf("Close: got %v, want %v", err, want)
	}
}

// hugeRef is chunk i of a content of any length: its id is the number run
// through a permutation.
func hugeRef(i uint64) Ref {
	x := (i + 1) * 0x9e3779b97f4a7c15
	x ^= x >> 29
	var id crypto.ID
	binary.LittleEndian.PutUint64(id[:], x*0xbf58476d1ce4e5b9)
	binary.LittleEndian.PutUint64(id[8:], i)
	return Ref{id, 65536}
}

// hugePages keeps of each leaf only which chunks it lists.
type hugePages struct {
	memPages
	leaves map[crypto.ID][2]uint64 // first chunk, number
}

func (h *hugePages) putPage(ctx context.Context, page []byte, like []crypto.ID) (crypto.ID, error) {
	if page[0] != contentPageKind {
		return h.memPages.putPage(ctx, page, like)
	}
	id := crypto.ID(crypto.Sum256(page))
	n, _ := contentTotals(page, 0)
	h.leaves[id] = [2]uint64{binary.LittleEndian.Uint64(page[1+8:]), n}
	return id, nil
}

func (h *hugePages) page(ctx context.Context, id crypto.ID) ([]byte, error) {
	leaf, ok := h.leaves[id]
	if !ok {
		return h.memPages.page(ctx, id)
	}
	h.reads++
	p := []byte{contentPageKind}
	for i := range leaf[1] {
		r := hugeRef(leaf[0] + i)
		p = appendRef(p, &r)
	}
	return p, nil
}

func TestContent_OfTenMillionChunksTakesFlatMemory(t *testing.T) {
	const n = 10_000_000
	m := &hugePages{*newMemPages(), map[crypto.ID][2]uint64{}}
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	const mostHeap = 16 << 20 // the test's own maps included
	before := heap()
	c := newTreeWriter(m).NewContent(nil, nil)
	for i := range uint64(n) {
		if err := c.Add(t.Context(), hugeRef(i)); err != nil {
			t.Fatal(err)
		}
		if i == n/2 || i == n-1 {
			if own := int64(heap() - before); own > mostHeap {
				t.Errorf("writing: %d bytes after %d chunks, want %d at most", own, i, mostHeap)
			}
		}
	}
	content, err := c.Close(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := newContentReader(m, &content)
	for i := range uint64(n) {
		ref, ok, err := r.Next(t.Context())
		if !ok || err != nil || ref != hugeRef(i) {
			t.Fatalf("chunk %d: got %v, %v, %v", i, ref, ok, err)
		}
		if i == n/2 {
			if own := int64(heap() - before); own > mostHeap {
				t.Errorf("reading: %d bytes after %d chunks, want %d at most", own, i, mostHeap)
			}
		}
	}
	if _, ok, err := r.Next(t.Context()); ok || err != nil {
		t.Fatalf("got %v, %v after the last chunk", ok, err)
	}
	t.Logf("%d leaves, level %d", len(m.leaves), content.Level)
	if content.Level != 3 {
		t.Errorf("got level %d, want 3", content.Level)
	}
	m.reset()
	if _, err := r.Seek(t.Context(), 7_654_321*65536+1); err != nil || m.reads != 3 {
		t.Errorf("Seek: got %v, %d pages read, want 3", err, m.reads)
	}
	if ref, _, _ := r.Next(t.Context()); ref != hugeRef(7_654_321) {
		t.Errorf("got %v", ref)
	}
}

func TestContent_AllocatesNothingForAChunk(t *testing.T) {
	m := newMemPages()
	w := newTreeWriter(m)
	refs := randomRefs(rand.New(rand.NewPCG(6, 9)), 5000)
	c := writeContent(t, w, refs, nil, nil)
	ctx := t.Context()
	got := testing.AllocsPerRun(20, func() {
		out := w.NewContent(&c, m)
		r := newContentReader(m, &c)
		for {
			ref, ok, err := r.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if err := out.Add(ctx, ref); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := out.Close(ctx); err != nil {
			t.Fatal(err)
		}
	})
	if got > 40 {
		t.Errorf("got %v allocations for %d chunks, want 40 at most", got, len(refs))
	}
}

func BenchmarkContentWriter(b *testing.B) {
	m := newMemPages()
	w := newTreeWriter(m)
	refs := randomRefs(rand.New(rand.NewPCG(7, 9)), 100000)
	b.ReportAllocs()
	for b.Loop() {
		writeContent(b, w, refs, nil, nil)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(refs)), "ns/chunk")
}

// contentPageItems takes a content page apart and puts it together again.
func contentPageItems(p []byte, ref *contentRef) (again []byte) {
	o := openContent{ref: *ref, page: p, off: 1}
	again = []byte{p[0]}
	for item, ok := o.next(); ok; item, ok = o.next() {
		if ref.level == 0 {
			again = appendRef(again, &Ref{item.id, uint32(item.bytes)})
			continue
		}
		again = append(again, item.id[:]...)
		again = binary.AppendUvarint(again, item.chunks)
		again = binary.AppendUvarint(again, uint64(item.bytes))
	}
	return again
}

// contentTotals is what a parent that told the truth about a page would say.
func contentTotals(p []byte, level uint8) (chunks uint64, bytes int64) {
	d := treeDecoder{b: p, off: 1}
	for d.left() > 0 && d.bad == "" {
		_, n, b := d.contentItem(level)
		chunks += n
		bytes += b
	}
	return chunks, bytes
}

func FuzzContentPage(f *testing.F) {
	rng := rand.New(rand.NewPCG(8, 9))
	m := newMemPages()
	w := newTreeWriter(m)
	for _, n := range []int{17, 300, 100000} {
		writeContent(f, w, randomRefs(rng, n), nil, nil)
	}
	kinds := map[byte]int{}
	for _, p := range m.pages {
		if kinds[p[0]]++; kinds[p[0]] < 5 {
			f.Add(p)
		}
	}
	f.Add([]byte{0x21})
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) == 0 {
			return
		}
		ref := contentRef{level: p[0] & 0x0f}
		m := newMemPages()
		ref.id, _ = m.putPage(t.Context(), p, nil)
		ref.chunks, ref.bytes = contentTotals(p, ref.level)
		if _, err := loadContent(t.Context(), m, &ref); err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("got %v, want ErrDamaged", err)
			}
		} else if again := contentPageItems(p, &ref); !bytes.Equal(again, p) {
			t.Fatalf("%x becomes %x", p, again)
		}
		c := Content{Root: ref.id, Level: ref.level + 1, Chunks: ref.chunks, Bytes: ref.bytes}
		r := newContentReader(m, &c)
		for n := uint64(0); ; n++ {
			_, ok, err := r.Next(t.Context())
			if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotFound) {
				t.Fatalf("got %v, want ErrDamaged", err)
			}
			if !ok {
				break
			}
			if n > uint64(len(p)) {
				t.Fatal("more chunks than bytes")
			}
		}
		if _, err := r.Seek(t.Context(), c.Bytes/2); err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotFound) {
			t.Fatalf("Seek: got %v, want ErrDamaged", err)
		}
	})
}
