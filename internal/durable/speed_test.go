package durable_test

import (
	"fmt"
	"testing"

	"github.com/generalbots/backupd/internal/durable"
)

// The limits of storing: what a pack costs that is written from blocks of 256 KiB, and what making it durable costs.
// They depend on what the directory for temporary files lies on: TMPDIR chooses.
const (
	speedPack  = 32 << 20
	speedBlock = 256 << 10
)

// openSpeed is a directory with a file of a pack's size being written.
func openSpeed(b *testing.B) *durable.OSFS {
	b.Helper()
	f, err := durable.OS(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	if err := f.Mkdir("tmp"); err != nil {
		b.Fatal(err)
	}
	return f
}

func fillPack(b *testing.B, temp *durable.Temp, block []byte) {
	for off := int64(0); off < speedPack; off += speedBlock {
		if _, err := temp.WriteAt(block, off); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWrite is reserving and writing a pack; nothing is made durable.
func BenchmarkWrite(b *testing.B) {
	f, block := openSpeed(b), make([]byte, speedBlock)
	b.SetBytes(speedPack)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		temp, err := durable.CreateTemp(f, fmt.Sprint("tmp/", i), speedPack)
		if err != nil {
			b.Fatal(err)
		}
		fillPack(b, temp, block)
		b.StopTimer()
		if err := temp.Discard(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkPublish is what comes after the last byte of a pack: cutting to length, fsync, rename, fsync of the directory.
func BenchmarkPublish(b *testing.B) {
	for _, size := range []int64{speedBlock, speedPack} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			f, block := openSpeed(b), make([]byte, speedBlock)
			b.SetBytes(size)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				temp, err := durable.CreateTemp(f, fmt.Sprint("tmp/", i), size)
				if err != nil {
					b.Fatal(err)
				}
				for off := int64(0); off < size; off += speedBlock {
					if _, err := temp.WriteAt(block, off); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				if err := temp.Publish(fmt.Sprint(i)); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := f.Unlink(fmt.Sprint(i)); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
