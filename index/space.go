package index

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// openReserve is the free space below which nothing is begun: room for the memtables, their logs,
	// and the tables of two compactions.
	openReserve = 64 << 20
	// closeReserve is what a close may need for flushing the memtables.
	closeReserve = 3 * memTableSize
)

// freeFunc returns the bytes that may be written to the file system of dir.
type freeFunc func(dir string) (uint64, error)

func freeSpace(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("statfs: %w", err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

func (x *Index) checkSpace(reserve uint64) error {
	free, err := x.free(x.dir)
	if err != nil {
		return unavailable(x.dir, err)
	}
	if free < reserve {
		return unavailable(x.dir, fmt.Errorf("only %d MiB of space are free, %d are needed", free>>20, reserve>>20))
	}
	return nil
}
