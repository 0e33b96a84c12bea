package repo

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// manyChunks makes a repository of n data chunks that nobody could decode: ids
// drawn at random in blocks of zeros. Two snapshots name half of them, one
// third in every two blocks leans on earlier chunks, a part of which nothing
// else needs, and the rest is dead.
func manyChunks(t testing.TB, n int) *store.Mem {
	t.Helper()
	ctx := t.Context()
	st := store.NewMem()
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	const inPack, inBlock, size, inFile = 14, 64, 16, 2000
	rng := rand.New(rand.NewPCG(uint64(n), 12))
	zeros := make([]byte, inBlock*size)
	for snap := range 2 {
		w, err := r.NewWriter(ctx, WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		tw := w.Tree()
		dw := tw.NewDir(nil, r.Reader())
		var named []Ref
		var before [][]Ref // blocks without a dictionary, a few of them
		for i := range n / 2 / inBlock {
			b := &newBlock{payload: zeros, codec: codecStored, plain: len(zeros), reach: uint32(len(zeros))}
			for range inBlock {
				var id crypto.ID
				for at := 0; at < len(id); at += 8 {
					binary.LittleEndian.PutUint64(id[at:], rng.Uint64())
				}
				b.chunks = append(b.chunks, Ref{ID: id, Len: size})
			}
			switch i % 4 {
			case 0, 1:
				named = append(named, b.chunks...)
			}
			if i%4 == 1 && len(before) > 0 {
				b.codec, b.depth, b.payload, b.reach = codecDelta, 1, zeros[:100], 9*b.reach
				for range 8 {
					b.dict = append(b.dict, before[rng.IntN(len(before))][rng.IntN(inBlock)].ID)
				}
			} else if len(before) < 64 {
				before = append(before, b.chunks)
			} else if rng.IntN(8) == 0 {
				before[rng.IntN(len(before))] = b.chunks
			}
			err := w.data.add(ctx, b)
			if i%inPack == inPack-1 && err == nil {
				err = w.data.flush() // about as many chunks as a full pack has
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for i := 0; i < len(named); i += inFile {
			cw := tw.NewContent(nil, r.Reader())
			part := named[i:min(i+inFile, len(named))]
			for _, ref := range part {
				if err := cw.Add(ctx, ref); err != nil {
					t.Fatal(err)
				}
			}
			content, err := cw.Close(ctx)
			if err != nil {
				t.Fatal(err)
			}
			e := Entry{Name: fmt.Sprintf("f%09d", i), Type: TypeRegular, Mode: 0o644, Nlink: 1, Size: int64(len(part)) * size, Content: content}
			if err := dw.Add(ctx, &e); err != nil {
				t.Fatal(err)
			}
		}
		dir, err := dw.Close(ctx)
		if err != nil {
			t.Fatal(err)
		}
		m := bareManifest(t, r)
		m.Parts = []Part{{Source: fmt.Sprintf("test%d", snap), Kind: "files", Profile: "files", StartedAt: time.Now(), FinishedAt: time.Now()}}
		if err := m.Parts[0].SetRoot(&Entry{Type: TypeDirectory, Mode: 0o755, Dir: dir}); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(ctx, m); err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	return st
}

// weighingStore looks at the heap at every so manieth pack that is opened, while
// it lets nobody else open one: so what was allocated in between is not counted.
type weighingStore struct {
	store.Store
	mu     sync.Mutex // guards what follows
	every  int
	opened int
	peak   int64
}

func (s *weighingStore) Open(ctx context.Context, name string) (store.Object, error) {
	s.mu.Lock()
	if s.opened++; s.every > 0 && s.opened%s.every == 0 {
		s.peak = max(s.peak, liveHeap())
	}
	s.mu.Unlock()
	return s.Store.Open(ctx, name)
}

// peakHeap is by how many bytes what lives on the heap grows at most while f
// runs, on two processors at most: each that works has a block or a trailer in
// hand, whatever is in the repository, and of many that is more than what is
// looked for.
func (s *weighingStore) peakHeap(every int, f func()) int64 {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(min(2, runtime.GOMAXPROCS(0))))
	s.every = 0
	for range 3 { // until no pool keeps what nobody uses
		liveHeap()
	}
	before := liveHeap()
	s.every, s.peak = every, 0
	f()
	s.every = 0
	return s.peak - before
}

func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// processor is the time the process has had.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// heapOfGC is by how much the heap grows, in bytes, for stats and for all that
// a gc does before it deletes: mark, plan, and the proof with its second mark.
// With small caches what is left depends on the number of chunks.
func heapOfGC(t testing.TB, st store.Store, small bool) (gc, stats int64) {
	t.Helper()
	w := &weighingStore{Store: st}
	r := openTestRepo(t, w, Options{})
	defer r.Close()
	if small {
		// Slices of ids are then their share of all, as with many millions.
		r.bounds = memoryBounds{packs: 1 << 18, read: 1 << 16, leanedOn: 1 << 17, trees: 1 << 16, files: 1, tags: 1}
	}
	ctx := t.Context()
	every := max(1, len(r.catalog.all(0))/5) // a few times in each pass over all packs
	began := processor()
	gc = w.peakHeap(every, func() {
		g, err := newGarbage(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		defer g.close()
		if err := g.mark(ctx); err != nil {
			t.Fatal(err)
		}
		plan, err := g.plan(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.dead)+len(plan.repack) == 0 || g.live.count() == 0 {
			t.Fatal("nothing is dead, or nothing is live, so nothing was marked")
		}
		if err := g.prove(ctx, plan.dead); err != nil {
			t.Fatal(err)
		}
	})
	middle := processor()
	stats = w.peakHeap(every, func() {
		got, err := r.Stats(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.DeadBytes == 0 || got.UsedBytes == 0 {
			t.Fatalf("got %+v, want some dead and some in use", got)
		}
	})
	t.Logf("gc %.1f MB in %v, stats %.1f MB in %v", float64(gc)/1e6, middle-began, float64(stats)/1e6, processor()-middle)
	return gc, stats
}

func TestGarbage_TakesAFewBitsOfMemoryAChunk(t *testing.T) {
	const few, many = 100_000, 600_000
	// Bits a chunk: eleven to fourteen with the trailers in flight, which vary by
	// some hundred kilobytes, that is, by a bit or two. One Bloom filter more, of
	// sixteen, would be too much.
	const most = 22.0
	gc1, stats1 := heapOfGC(t, manyChunks(t, few), true)
	st := manyChunks(t, many)
	gc2, stats2 := heapOfGC(t, st, true)
	bits := func(less, more int64) float64 { return float64(more-less) * 8 / (many - few) }
	gc, stats := bits(gc1, gc2), bits(stats1, stats2)
	t.Logf("gc takes %.1f bits a chunk and stats %.1f", gc, stats)
	if gc > most || stats > most {
		t.Errorf("gc takes %.1f bits a chunk and stats %.1f, want %.0f at most", gc, stats, most)
	}
	// The control: two bytes a chunk more, as a Bloom filter took, are seen.
	w := &weighingStore{Store: st}
	r := openTestRepo(t, w, Options{})
	defer r.Close()
	filter := w.peakHeap(1, func() {
		kept := make([]uint16, many)
		if err := r.eachTrailer(t.Context(), r.catalog.all(0)[:3], func(uint32, *trailer) error { return nil }); err != nil {
			t.Fatal(err)
		}
		runtime.KeepAlive(kept)
	})
	if filter < 2*many {
		t.Errorf("a filter of %d bytes was weighed as %d, so the heap is not seen", 2*many, filter)
	}
}

func BenchmarkGCMemory(b *testing.B) {
	for _, n := range []int{1_000_000, 4_000_000} {
		for _, small := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/smallcaches=%v", n, small), func(b *testing.B) {
				st := manyChunks(b, n)
				for b.Loop() {
					gc, stats := heapOfGC(b, st, small)
					b.ReportMetric(float64(gc)*8/float64(n), "gc-bits/chunk")
					b.ReportMetric(float64(stats)*8/float64(n), "stats-bits/chunk")
				}
			})
		}
	}
}
