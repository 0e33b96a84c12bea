//go:build linux && (amd64 || arm64)

package index

import (
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Badger writes its files through shared memory maps of files with holes. When the file system has no
// block for a page, the kernel answers the write with SIGBUS; most of these writes are made by Badger's
// own goroutines, where no recover of ours stands, and so the runtime would end the process. A look at
// the free space before does not help: somebody else may take it a moment later.
//
// So SIGBUS comes to busHandler first. Of a write to a page that can not be had it puts a page of zeros in
// that place, counts it, and lets the write be made again; the page belongs to this process alone and
// goes with the map. Badger goes on without having noticed; nothing it writes from then on is believed:
// every user of an Index compares lostPages with what it was when the index was opened. Every
// other SIGBUS, reads among them, is handed to the runtime as if busHandler were not there.
//
// Only Badger writes through maps of files in this process, so the handler takes nothing from anybody.

// kernelSigaction is struct sigaction as the kernel has it on these processors.
type kernelSigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// What busHandler reads and writes.
var (
	lostPages uint64  // writes that went nowhere; atomic
	goHandler uintptr // what handled SIGBUS before

	//lint:ignore U1000 busHandler reads it
	pageOffset uintptr // mask of the bits of an address within its page
)

var guardMu sync.Mutex // guards installing

// busHandler is called by the kernel, on the stack for signals.
//
//lint:ignore U1000 the kernel is given its address
func busHandler()

// busHandlerPC returns its address.
func busHandlerPC() uintptr

// guardWrites sees to it that a write to a full file system does not end the process. It is cheap when
// that is so already.
func guardWrites() error {
	guardMu.Lock()
	defer guardMu.Unlock()
	var sa kernelSigaction
	if err := sigaction(nil, &sa); err != nil {
		return err
	}
	if sa.handler == busHandlerPC() {
		return nil
	}
	if sa.handler <= 1 { // SIG_DFL, SIG_IGN
		return fmt.Errorf("signal %v is not handled by the runtime", unix.SIGBUS)
	}
	pageOffset = uintptr(os.Getpagesize() - 1)
	goHandler = sa.handler
	sa.handler = busHandlerPC()
	return sigaction(&sa, nil)
}

func sigaction(set, old *kernelSigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGBUS),
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), unsafe.Sizeof(old.mask), 0, 0)
	if errno != 0 {
		return fmt.Errorf("sigaction: %w", errno)
	}
	return nil
}
