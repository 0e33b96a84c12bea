package source_test

import (
	"fmt"
	"testing"

	"github.com/generalbots/backupd/internal/source"
	"golang.org/x/sys/unix"
)

// benchTree plants 80,000 files in 5,000 directories.
func benchTree(b *testing.B) string {
	b.Helper()
	root := ramDir(b)
	for i := range 5000 {
		write(b, root, fmt.Sprintf("dir%02d/sub-%04d/", i%50, i))
		for k := range 16 {
			write(b, root, fmt.Sprintf("dir%02d/sub-%04d/file_name_%d.c", i%50, i, k))
		}
	}
	return root
}

// cpu is the processor time of the process, in ns: on a machine with other things to do it tells more than the clock.
func cpu(b *testing.B) int64 {
	var u unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return u.Utime.Nano() + u.Stime.Nano()
}

func benchmarkScan(b *testing.B, each func(*source.Files, *source.Entry)) {
	f := newFiles(b, source.FilesOptions{Paths: []string{benchTree(b)}})
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		var current source.Entry // one place, or each entry would escape to the heap
		for e, err := range f.Scan(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
			current = e
			if e.Event == source.Leave {
				f.Release(&current)
			} else if e.Event == source.Item {
				each(f, &current)
			}
		}
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N)/1e6, "cpu-ms/op")
}

// BenchmarkScan is what an unchanged backup costs here. Compare with find TREE -printf '%s %T@\n'.
func BenchmarkScan(b *testing.B) {
	benchmarkScan(b, func(*source.Files, *source.Entry) {})
}

// BenchmarkScanAndRead is a first backup without what is done with the bytes.
func BenchmarkScanAndRead(b *testing.B) {
	buf := make([]byte, 64<<10)
	benchmarkScan(b, func(f *source.Files, e *source.Entry) {
		file, err := f.Open(e)
		if err != nil {
			b.Fatal(err)
		}
		for n := int64(0); n < e.Size; {
			k, err := file.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			n += int64(k)
		}
		if _, err = file.Details(); err != nil {
			b.Fatal(err)
		}
		file.Close()
	})
}
