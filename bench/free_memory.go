package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// freeEnough is the free memory that is touched before a command: the copy of a source tree, a repository and what programs take.
const freeEnough = 3 << 30

// touchFree writes to so much memory and gives it back, half of what is free at most. In a virtual machine the host takes
// back what is free and has to find it again at the first touch, which costs whoever touches it several times what the page
// costs otherwise. Then it hangs on chance, or on who ran before, which of two programs pays for that.
func touchFree(want int64) error {
	free, err := memoryInfo("MemFree")
	if err != nil {
		return err
	}
	n := min(want, free/2) &^ (2<<20 - 1)
	if n <= 0 {
		return nil
	}
	b, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE)                                           // quicker where there are any
	if err = unix.Madvise(b, unix.MADV_POPULATE_WRITE); errors.Is(err, unix.EINVAL) { // before Linux 5.14
		err = nil
		for i := 0; i < len(b); i += os.Getpagesize() {
			b[i] = 1
		}
	}
	return errors.Join(err, unix.Munmap(b))
}

// memoryInfo is a figure of /proc/meminfo in bytes: MemFree is what nothing uses, MemAvailable what programs can have without
// anything being put out.
func memoryInfo(key string) (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), key+":")
	kib := int64(0)
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return 0, fmt.Errorf("/proc/meminfo has no %s: %w", key, err)
	}
	return kib << 10, nil
}
