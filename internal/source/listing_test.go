package source_test

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/generalbots/backupd/internal/source"
)

// records are names as getdents64 writes them, some at a time.
func records(names iter.Seq[string]) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var buf []byte
		for name := range names {
			if buf = append(buf, record(name)...); len(buf) > 32<<10 {
				if !yield(buf) {
					return
				}
				buf = buf[:0]
			}
		}
		if len(buf) > 0 {
			yield(buf)
		}
	}
}

func TestNames_OfALargeDirectoryAreSortedAndComeOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 16383, 16384, 16385, 40_000, 150_000} {
		names := make([]string, 0, n+n/10)
		for i := range n {
			switch i % 3 {
			case 0:
				names = append(names, fmt.Sprintf("message-%d.txt", i))
			case 1:
				names = append(names, fmt.Sprintf("%x", i))
			default:
				names = append(names, fmt.Sprintf("%0*d", 20+rng.IntN(230), i))
			}
		}
		for range n / 10 { // which far from each other come twice
			names = append(names, names[rng.IntN(n)])
		}
		rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		count, name, err := source.Listed(records(slices.Values(names)))
		must(t, err)
		slices.Sort(names)
		want := slices.Compact(names)
		if count != len(want) {
			t.Fatalf("got %d names, want %d", count, len(want))
		}
		for i := range want {
			if name(i) != want[i] {
				t.Fatalf("of %d names, name %d: got %q, want %q", n, i, name(i), want[i])
			}
		}
	}
}

// A directory takes the length of each name and a few bytes, and little is allocated besides while they are collected.
func TestNames_TakeLittleMoreThanTheirLength(t *testing.T) {
	const (
		files  = 500_000
		length = len("message-100000.txt")
		held   = length + 10 // bytes an entry; 7 besides the name were measured
		made   = length + 20 // 16 besides it
	)
	var buffers [][]byte
	for buf := range records(func(yield func(string) bool) {
		for i := range files {
			if !yield(fmt.Sprintf("message-%06d.txt", (i*7919)%files)) {
				return
			}
		}
	}) {
		buffers = append(buffers, slices.Clone(buf))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	count, name, err := source.Listed(slices.Values(buffers))
	must(t, err)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if last := fmt.Sprintf("message-%06d.txt", files-1); count != files || name(files-1) != last {
		t.Errorf("got %d names, the last %q, want %d and %q", count, name(count-1), files, last)
	}
	runtime.KeepAlive(buffers)
	heap, all := float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/files, float64(after.TotalAlloc-before.TotalAlloc)/files
	t.Logf("an entry whose name has %d bytes: %.1f in memory, %.1f allocated", length, heap, all)
	if heap > float64(held) || all > float64(made) {
		t.Errorf("an entry whose name has %d bytes takes %.1f in memory and %.1f were allocated for it, want at most %d and %d", length, heap, all, held, made)
	}
}
