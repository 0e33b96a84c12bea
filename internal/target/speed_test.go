package target_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/target"
)

// BenchmarkRestore makes 78,000 files of 10 KiB in 5,000 directories with owner, mode and times, from two goroutines,
// on a RAM disk: the shape of the Linux source tree.
func BenchmarkRestore(b *testing.B) {
	const folders, each, size = 5000, 16, 10 << 10
	data := make([]byte, size)
	names := make([]string, each)
	for i := range names {
		names[i] = fmt.Sprintf("file_%d.c", i)
	}
	top, err := os.MkdirTemp("/dev/shm", "target")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(top)
	for i := 0; b.Loop(); i++ {
		root := filepath.Join(top, fmt.Sprint(i))
		d, err := target.OpenDirectory(root, target.Options{Privileged: true})
		if err != nil {
			b.Fatal(err)
		}
		before := cpuTime(b)
		var wg sync.WaitGroup
		for part := range 2 {
			wg.Go(func() {
				meta := target.Meta{Type: target.TypeRegular, Mode: 0o644, UID: 1000, GID: 1000, User: "nobody-of-this-name", Group: "nobody-of-this-name", Mtime: target.Time{Sec: 1_700_000_000, Nsec: 5}}
				if err := restorePart(d, part, folders, names, data, meta); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric((cpuTime(b)-before)/2, "cpu-s/core")
		b.StopTimer()
		if err := os.RemoveAll(root); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// cpuTime is what the process has used so far, in seconds: a figure that other work on the machine changes little.
func cpuTime(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func restorePart(d *target.Directory, part, folders int, names []string, data []byte, meta target.Meta) error {
	above, err := d.Root().Folder(fmt.Sprintf("part%d", part))
	if err != nil {
		return err
	}
	dirMeta := meta
	dirMeta.Type, dirMeta.Mode = target.TypeDirectory, 0o755
	for i := range folders / 2 {
		f, err := above.Folder(fmt.Sprintf("folder%d", i))
		if err != nil {
			return err
		}
		for _, name := range names {
			w, err := f.Create(name, int64(len(data)), meta.Mtime)
			if err != nil {
				return err
			}
			if _, err := w.WriteAt(data, 0); err != nil {
				return err
			}
			if problems, err := w.Finish(&meta); err != nil || len(problems) > 0 {
				return fmt.Errorf("%v %v", problems, err)
			}
		}
		if problems, err := f.Finish(&dirMeta); err != nil || len(problems) > 0 {
			return fmt.Errorf("%v %v", problems, err)
		}
		f.Close()
	}
	_, err = above.Finish(&dirMeta)
	return err
}
