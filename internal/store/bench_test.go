package store_test

import (
	"fmt"
	"testing"

	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/internal/store/storetest"
)

func benchDir(b *testing.B) *store.Dir {
	d, err := store.MakeDir(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Close() })
	return d
}

func BenchmarkDir_Open(b *testing.B) {
	d := benchDir(b)
	if err := storetest.Put(b.Context(), d, "packs/00/a", make([]byte, 4096)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		o, err := d.Open(b.Context(), "packs/00/a")
		if err != nil {
			b.Fatal(err)
		}
		o.Close()
	}
}

func BenchmarkDir_ReadAt(b *testing.B) {
	d := benchDir(b)
	if err := storetest.Put(b.Context(), d, "packs/00/a", make([]byte, 1<<20)); err != nil {
		b.Fatal(err)
	}
	o, err := d.Open(b.Context(), "packs/00/a")
	if err != nil {
		b.Fatal(err)
	}
	defer o.Close()
	buf := make([]byte, 64<<10)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.ReadAt(buf, 128<<10); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDir_Publish(b *testing.B) {
	for _, size := range []int{4 << 10, 32 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			d := benchDir(b)
			data := make([]byte, min(size, 256<<10))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				name := fmt.Sprintf("packs/%02x/%d", i%256, i)
				w, err := d.Create(b.Context(), name, int64(size))
				if err != nil {
					b.Fatal(err)
				}
				for off := 0; off < size; off += len(data) {
					if _, err := w.WriteAt(data, int64(off)); err != nil {
						b.Fatal(err)
					}
				}
				if err := w.Commit(b.Context()); err != nil {
					b.Fatal(err)
				}
				if i >= 8 {
					if err := d.Remove(b.Context(), fmt.Sprintf("packs/%02x/%d", (i-8)%256, i-8)); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkDir_List(b *testing.B) {
	d := benchDir(b)
	for i := range 2048 {
		if err := storetest.Put(b.Context(), d, fmt.Sprintf("packs/%02x/%08x", i%256, i), nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if list, err := d.List(b.Context(), "packs"); err != nil || len(list) != 2048 {
			b.Fatal(len(list), err)
		}
	}
}

func BenchmarkDir_Sweep(b *testing.B) {
	d := benchDir(b)
	for b.Loop() {
		if err := d.Sweep(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
