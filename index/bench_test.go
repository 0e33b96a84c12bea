package index_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/generalbots/backupd/index"
)

// packSize is the number of 64 KiB chunks in a pack of 32 MiB.
const packSize = 512

// build makes an index of packs packs and returns what adding them took.
func build(b testing.TB, dir string, packs int) time.Duration {
	b.Helper()
	x := mustOpen(b, dir)
	var took time.Duration
	for p := range packs {
		entries := packEntries(uint32(p), packSize)
		for i := range entries { // as the writer of packs does
			if _, ok, err := x.Lookup(entries[i].ID); ok || err != nil {
				b.Fatal(ok, err)
			}
		}
		start := time.Now()
		mustAdd(b, x, uint32(p), entries)
		took += time.Since(start)
	}
	start := time.Now()
	mustClose(b, x)
	return took + time.Since(start)
}

// processorTime is what this process has used so far. On a machine that others use too it says more than a clock.
func processorTime(b testing.TB) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func diskBytes(b testing.TB, dir string) int64 {
	b.Helper()
	var sum int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return sum
}

// benchPacks is how many packs "1M" means; BACKUPD_INDEX_PACKS changes it.
func benchPacks(b testing.TB) int {
	if s := os.Getenv("BACKUPD_INDEX_PACKS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	return 1_000_000 / packSize
}

// BenchmarkIndex builds one index and measures everything on it, because building takes longest.
func BenchmarkIndex(b *testing.B) {
	dir := b.TempDir()
	packs := benchPacks(b)
	before := processorTime(b)
	took := build(b, dir, packs)
	spent := processorTime(b) - before // with the look-ups and the compactions
	entries := float64(packs * packSize)
	b.Run("Build", func(b *testing.B) {
		for b.Loop() {
		}
		b.ReportMetric(float64(took.Nanoseconds())/entries, "ns/entry")
		b.ReportMetric(float64(spent.Nanoseconds())/entries, "cpu-ns/entry")
		b.ReportMetric(float64(diskBytes(b, dir))/entries, "disk-B/entry")
	})
	b.Run("OpenClose", func(b *testing.B) {
		before := processorTime(b)
		for b.Loop() {
			mustClose(b, mustOpen(b, dir))
		}
		b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	})
	b.Run("OpenCloseAfterCrash", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			x := mustOpen(b, dir)
			crashed := filepath.Join(b.TempDir(), "crashed")
			copyTree(b, dir, crashed)
			mustClose(b, x)
			b.StartTimer()
			mustClose(b, mustOpen(b, crashed))
			b.StopTimer()
			_ = os.RemoveAll(crashed)
			b.StartTimer()
		}
	})

	x := mustOpen(b, dir)
	var n atomic.Uint32
	hit := func() (index.Entry, bool) {
		i := n.Add(1)
		i = i * 2654435761 // spread
		p, c := i%uint32(packs), (i>>16)%packSize
		id := chunkID(p, c)
		_, ok, err := x.Lookup(id)
		if err != nil {
			b.Fatal(err)
		}
		return index.Entry{ID: id}, ok
	}
	b.Run("Hit", func(b *testing.B) {
		b.ReportAllocs()
		before := processorTime(b)
		for b.Loop() {
			if _, ok := hit(); !ok {
				b.Fatal("not found")
			}
		}
		b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	})
	b.Run("HitParallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				hit()
			}
		})
	})
	b.Run("Miss", func(b *testing.B) {
		b.ReportAllocs()
		before := processorTime(b)
		for b.Loop() {
			if _, ok, err := x.Lookup(chunkID(1<<31, n.Add(1))); ok || err != nil {
				b.Fatal(ok, err)
			}
		}
		b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	})
	var p uint32 = 1 << 30
	b.Run("AddPack", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			p++
			entries := packEntries(p, packSize)
			for i := range entries {
				if _, ok, err := x.Lookup(entries[i].ID); ok || err != nil {
					b.Fatal(ok, err)
				}
			}
			b.StartTimer()
			mustAdd(b, x, p, entries)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*packSize), "ns/entry")
	})
}

func BenchmarkOpenClose_Empty(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		mustClose(b, mustOpen(b, dir))
	}
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(fmt.Errorf("copy: %w", err))
	}
}
