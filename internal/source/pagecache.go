package source

import (
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A backup reads everything once, and the page cache keeps what was read last: left alone it pushes out what programs on
// the host read all day. So what was not in the cache when a file was opened is given back when it was read. What was
// there is somebody's, and stays.

const (
	// cacheWindow is the piece of a file that is given back or stays as a whole; large files have larger ones, so that
	// there are maxWindows at most. A window of which any page was there stays.
	cacheWindow = 1 << 20
	maxWindows  = 1 << 16
	// giveBackAfter is how much is read before it is given back, of files larger than that.
	giveBackAfter = 4 << 20
	// leastMapped is the smallest file that is looked at where the kernel has no cachestat: there it takes three calls,
	// one of which all threads wait for.
	leastMapped = 64 << 10
	// mappedAtOnce bounds what is mapped to be looked at, in bytes.
	mappedAtOnce = 64 << 20
)

// memoryTypes are file systems that are the page cache: nothing can be given back of them.
var memoryTypes = map[int64]bool{unix.TMPFS_MAGIC: true, unix.RAMFS_MAGIC: true, unix.HUGETLBFS_MAGIC: true}

// footprint is what of an open file was not in the page cache before it was read.
type footprint struct {
	cold   bool     // something was not
	window int64    // bytes
	warm   []uint64 // a bit for each window that stays; nil for none
	given  int64    // everything before was given back
	read   int64    // Read is here
	jumped bool     // ReadAt may have gone back to what was given back already
}

// look finds out what of a file is in the page cache.
func (f *footprint) look(fd int, size int64) {
	cached, ok := cachedPages(fd, 0, size)
	page := int64(os.Getpagesize())
	if !ok || cached >= (size+page-1)/page {
		return
	}
	f.window = max(cacheWindow, (size/maxWindows+page)&^(page-1))
	if cached > 0 {
		if size <= f.window {
			return
		}
		n := (size + f.window - 1) / f.window
		f.warm = make([]uint64, (n+63)/64)
		for i := range n {
			if pages, ok := cachedPages(fd, i*f.window, min(f.window, size-i*f.window)); !ok || pages > 0 {
				f.warm[i/64] |= 1 << (i % 64)
			}
		}
	}
	f.cold = true
}

// passed gives back the windows that end before end, once there is enough of them.
func (f *footprint) passed(fd int, end int64) {
	if f.cold && end-f.given >= giveBackAfter {
		end -= end % f.window
		f.giveBack(fd, f.given, end)
		f.given = end
	}
}

// over gives back all that is left.
func (f *footprint) over(fd int, size int64) {
	if f.jumped {
		f.given = 0
	}
	if f.cold {
		f.giveBack(fd, f.given, max(size, f.read))
	}
}

// giveBack gives back the windows from start to end that were not there.
func (f *footprint) giveBack(fd int, start, end int64) {
	if f.warm == nil {
		_ = unix.Fadvise(fd, start, end-start, unix.FADV_DONTNEED) // advice: nothing depends on it
		return
	}
	for from := start; from < end; {
		to := min(end, from+f.window)
		if i := from / f.window; f.warm[min(i/64, int64(len(f.warm)-1))]>>(i%64)&1 == 0 {
			_ = unix.Fadvise(fd, from, to-from, unix.FADV_DONTNEED)
		}
		from = to
	}
}

// noCachestat is set when the kernel has no such call, as before 6.5, or does not let us.
var noCachestat atomic.Bool

// cachedPages counts the pages of a range that are in the page cache. Not ok when that can not be found out, or is not
// worth it.
func cachedPages(fd int, off, n int64) (pages int64, ok bool) {
	if !noCachestat.Load() {
		var st unix.Cachestat_t
		err := unix.Cachestat(uint(fd), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &st, 0)
		switch err {
		case nil:
			return int64(st.Cache), true
		case unix.ENOSYS, unix.EPERM:
			noCachestat.Store(true)
		default:
			return 0, false // this file system does not tell
		}
	}
	if off == 0 && n < leastMapped {
		return 0, false
	}
	for end := off + n; off < end; {
		piece := min(mappedAtOnce, end-off)
		k, err := mappedPages(fd, off, int(piece))
		if err != nil {
			return 0, false
		}
		pages += k
		off += piece
	}
	return pages, true
}

// mappedPages asks by mincore, which says that all is there to those who could not write the file.
func mappedPages(fd int, off int64, n int) (pages int64, err error) {
	m, err := unix.Mmap(fd, off, n, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(m)
	page := os.Getpagesize()
	there := make([]byte, (n+page-1)/page)
	if err := mincore(m, there); err != nil {
		return 0, err
	}
	for _, b := range there {
		pages += int64(b & 1)
	}
	return pages, nil
}
