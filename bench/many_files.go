package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// shape is a directory tree of many small files.
type shape struct {
	files int
	bytes int  // of each; 0 for empty files, below 0 for rows of 100 to 500 bytes
	flat  bool // all in one directory
}

// perDirectory is how many files stand in a directory of a tree that is not flat.
const perDirectory = 250

// writeOnce is write, unless dir is there.
func (s shape) writeOnce(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	return s.write(dir)
}

// write makes the tree below dir on all cores.
func (s shape) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	const strip = perDirectory
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	next := make(chan int)
	for range cap(errs) {
		wg.Go(func() {
			var failed error
			for from := range next {
				if failed == nil {
					failed = s.writeStrip(dir, from, min(from+strip, s.files))
				}
			}
			if failed != nil {
				errs <- failed
			}
		})
	}
	for from := 0; from < s.files; from += strip {
		next <- from
	}
	close(next)
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func (s shape) writeStrip(dir string, from, to int) error {
	folder := dir
	if !s.flat {
		folder = filepath.Join(dir, fmt.Sprint(from/62500), fmt.Sprint(from/perDirectory))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	var text []byte
	for i := from; i < to; i++ {
		text = s.text(text[:0], i)
		if err := os.WriteFile(filepath.Join(folder, s.base(i)), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (s shape) base(i int) string { return fmt.Sprintf("message-%d.txt", i) }

// path is where file i stands below the tree's directory.
func (s shape) path(i int) string {
	if s.flat {
		return s.base(i)
	}
	return filepath.Join(fmt.Sprint(i/62500), fmt.Sprint(i/perDirectory), s.base(i))
}

func (s shape) text(b []byte, i int) []byte {
	switch {
	case s.bytes == 0:
		return b
	case s.bytes < 0:
		return row(b, uint64(i), 0)
	}
	for k := uint64(0); len(b) < s.bytes; k++ {
		b = row(b, uint64(i), k)
	}
	return b[:s.bytes]
}

// need is what the tree takes on a RAM disk: 1,200 bytes of the kernel for each, which the disk does not count, and pages.
func (s shape) need() int64 {
	if s.bytes == 0 {
		return int64(s.files) * 1200
	}
	return int64(s.files) * int64(5<<10+max(0, s.bytes)&^4095)
}

// fits says what is lacking for the tree to be written to dir: bytes, inodes, or on a RAM disk memory. Some memory is left to
// those who back it up.
func (s shape) fits(dir string) error {
	const spare = 1 << 30
	if err := errors.Join(roomFor(dir, s.files+s.files/perDirectory), room(dir, s.need())); err != nil {
		return err
	}
	if system, _ := fileSystem(dir); system != "tmpfs" {
		return nil
	}
	free, err := memoryInfo("MemAvailable")
	if err == nil && free < s.need()+spare {
		err = fmt.Errorf("%d files take %s of memory and %s are left: fewer files, or a disk with -work", s.files, size(s.need()), size(free))
	}
	return err
}
