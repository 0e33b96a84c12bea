package repo

import (
	"context"
	"fmt"
	"testing"
)

// benchDirs writes dirs directories of n entries each.
func benchDirs(b *testing.B, m *memPages, dirs, n int) []Dir {
	w := newTreeWriter(m)
	out := make([]Dir, dirs)
	for i := range out {
		d := w.NewDir(nil, nil)
		for j := range n {
			if err := d.Add(b.Context(), plainFile(fmt.Sprintf("some-file-%06d.txt", j), uint64(i*n+j))); err != nil {
				b.Fatal(err)
			}
		}
		var err error
		if out[i], err = d.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	return out
}

// BenchmarkUnchanged is what an unchanged directory costs: each entry read from
// the base, its fields looked at, and added again.
func BenchmarkUnchanged(b *testing.B) {
	for _, n := range []int{16, 256, 10000} {
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
			m := newMemPages()
			dirs := benchDirs(b, m, 100000/n, n)
			w := newTreeWriter(m)
			ctx := context.Background()
			entries := 0
			b.ReportAllocs()
			for b.Loop() {
				for i := range dirs {
					entries += copyDir(b, ctx, w, m, &dirs[i])
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(entries), "ns/entry")
			b.ReportMetric(float64(entries)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

func copyDir(b *testing.B, ctx context.Context, w *TreeWriter, m *memPages, d *Dir) (entries int) {
	r := newDirReader(m, *d)
	out := w.NewDir(d, m)
	for {
		raw, ok, err := r.Next(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if !ok {
			break
		}
		if raw.Size() < 0 || raw.Mtime().Sec == 1 || raw.Ctime().Sec == 1 || raw.Inode() == 1 || raw.Mode() == 1 {
			b.Fatal("changed")
		}
		if err := out.AddRaw(ctx, raw); err != nil {
			b.Fatal(err)
		}
		entries++
	}
	if got, err := out.Close(ctx); err != nil || got != *d {
		b.Fatalf("got %+v, %v, want %+v", got, err, d)
	}
	return entries
}

func BenchmarkDirReader(b *testing.B) {
	m := newMemPages()
	dirs := benchDirs(b, m, 1, 100000)
	ctx := context.Background()
	entries := 0
	b.ReportAllocs()
	for b.Loop() {
		r := newDirReader(m, dirs[0])
		for {
			_, ok, err := r.Next(ctx)
			if err != nil {
				b.Fatal(err)
			}
			if !ok {
				break
			}
			entries++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(entries), "ns/entry")
}

func BenchmarkDirWriterAdd(b *testing.B) {
	m := newMemPages()
	w := newTreeWriter(m)
	var entries []*Entry
	for i := range 10000 {
		entries = append(entries, plainFile(fmt.Sprintf("some-file-%06d.txt", i), uint64(i)))
	}
	ctx := context.Background()
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		d := w.NewDir(nil, nil)
		for _, e := range entries {
			if err := d.Add(ctx, e); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := d.Close(ctx); err != nil {
			b.Fatal(err)
		}
		n += len(entries)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/entry")
}

func BenchmarkDecodeEntry(b *testing.B) {
	raw, err := encodeEntry(nil, plainFile("some-file-000000.txt", 1))
	if err != nil {
		b.Fatal(err)
	}
	var e Entry
	b.ReportAllocs()
	for b.Loop() {
		if err := decodeEntry(raw, &e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeEntry(b *testing.B) {
	e := plainFile("some-file-000000.txt", 1)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = encodeEntry(buf[:0], e); err != nil {
			b.Fatal(err)
		}
	}
}
