package source

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkCall is the limit of each step of a scan: what the system takes for the calls a file costs, in a directory
// of 250 files of 10 KiB on a RAM disk.
func BenchmarkCall(b *testing.B) {
	const files, size = 250, 10 << 10
	dir, err := os.MkdirTemp("/dev/shm", "source-calls-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	names := make([]cname, files)
	for i := range names {
		base := fmt.Sprintf("file_name_%d.c", i)
		if err := os.WriteFile(filepath.Join(dir, base), make([]byte, size), 0o600); err != nil {
			b.Fatal(err)
		}
		if err := names[i].set(base); err != nil {
			b.Fatal(err)
		}
	}
	top, err := openRoot(unix.O_PATH)
	if err != nil {
		b.Fatal(err)
	}
	defer closeFD(top)
	fd, err := unix.Openat(top, dir[1:], directoryFlags, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer closeFD(fd)
	open := func(i int) int {
		file, errno := openat(fd, &names[i%files][0], openFlags|unix.O_NOATIME)
		if errno != 0 {
			b.Fatal(errno)
		}
		return file
	}

	b.Run("lstat", func(b *testing.B) {
		var st unix.Stat_t
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if errno := fstatat(fd, &names[i%files][0], &st); errno != 0 {
				b.Fatal(errno)
			}
		}
	})
	b.Run("open and close", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			closeFD(open(i))
		}
	})
	b.Run("fstat", func(b *testing.B) {
		file := open(0)
		defer closeFD(file)
		var st unix.Stat_t
		b.ReportAllocs()
		for b.Loop() {
			if errno := fstat(file, &st); errno != 0 {
				b.Fatal(errno)
			}
		}
	})
	b.Run("read 10 KiB", func(b *testing.B) {
		file := open(0)
		defer closeFD(file)
		buf := make([]byte, size)
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			if n, err := unix.Pread(file, buf, 0); n != size || err != nil {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("getdents", func(b *testing.B) {
		buf := make([]byte, 64<<10)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := unix.Seek(fd, 0, 0); err != nil {
				b.Fatal(err)
			}
			for {
				n, errno := getdents(fd, buf)
				if errno != 0 {
					b.Fatal(errno)
				}
				if n == 0 {
					break
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*files), "ns/name")
	})
}
