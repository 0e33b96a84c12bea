package repo

import (
	"runtime"
	"strconv"
	"testing"

	"github.com/generalbots/backupd/internal/store"
)

// heapOfCheck is by how much the heap grows, in bytes, for a check.
func heapOfCheck(t testing.TB, st store.Store, o CheckOptions) int64 {
	t.Helper()
	w := &weighingStore{Store: st}
	r := openTestRepo(t, w, Options{})
	defer r.Close()
	// With small caches what is left depends on the number of chunks.
	r.bounds = memoryBounds{packs: 1 << 18, read: 1 << 16, leanedOn: 1 << 17, trees: 1 << 16, files: 1}
	began := processor()
	grown := w.peakHeap(max(1, len(r.catalog.all(0))/3), func() {
		rep, err := r.Check(t.Context(), o, new(CheckProgress))
		if err != nil {
			t.Fatal(err)
		}
		if !rep.Sound() || rep.DeltaBlocks == 0 || rep.Snapshots == 0 {
			t.Fatalf("%d snapshots, %d delta blocks, %d findings, %v", rep.Snapshots, rep.DeltaBlocks, len(rep.Findings), rep.DamagedFiles)
		}
	})
	t.Logf("%.1f MB in %v", float64(grown)/1e6, processor()-began)
	return grown
}

func TestCheck_MemoryIsAFewBytesAChunk(t *testing.T) {
	const few, many = 50_000, 300_000
	// Bytes a chunk: three to four, and trailers in flight. A table of ids, or of
	// eight bytes of them and a place, would be too much.
	const most = 7.0
	less, more := manyChunks(t, few), manyChunks(t, many)
	of := func(less, more int64) float64 { return float64(more-less) / (many - few) }
	var only []CheckOptions
	for _, st := range []store.Store{less, more} {
		r := openTestRepo(t, st, Options{})
		only = append(only, CheckOptions{Snapshots: []string{r.Snapshots()[0].ID}})
		r.Close()
	}
	whole := of(heapOfCheck(t, less, CheckOptions{}), heapOfCheck(t, more, CheckOptions{}))
	one := of(heapOfCheck(t, less, only[0]), heapOfCheck(t, more, only[1]))
	t.Logf("a check takes %.1f bytes a chunk, of one snapshot %.1f", whole, one)
	if whole > most || one > most {
		t.Errorf("a check takes %.1f bytes a chunk and of one snapshot %.1f, want %.0f at most", whole, one, most)
	}
	// The control: the table that a check had before is seen.
	table := func(st store.Store) int64 {
		w := &weighingStore{Store: st}
		r := openTestRepo(t, w, Options{})
		defer r.Close()
		return w.peakHeap(1, func() {
			if err := r.loadTable(t.Context(), kindData); err != nil {
				t.Fatal(err)
			}
			if err := r.eachTrailer(t.Context(), r.catalog.all(0)[:3], func(uint32, *trailer) error { return nil }); err != nil {
				t.Fatal(err)
			}
			runtime.KeepAlive(r)
		})
	}
	if places := of(table(less), table(more)); places < 2*most {
		t.Errorf("a table of %d and more bytes a chunk was weighed as %.1f, so the heap is not seen", 24, places)
	}
}

func BenchmarkCheckMemory(b *testing.B) {
	for _, n := range []int{1_000_000, 10_000_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			st := manyChunks(b, n)
			for b.Loop() {
				b.ReportMetric(float64(heapOfCheck(b, st, CheckOptions{}))/float64(n), "bytes/chunk")
			}
		})
	}
}
