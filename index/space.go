package index

import (
	"fmt"
	"sync/atomic"

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

// lostWrites tells why nothing that Badger has written since Open can be believed, or nil.
func (x *Index) lostWrites() error {
	lost := atomic.LoadUint64(&lostPages) != x.lost
	select {
	case <-x.failed:
		lost = true
	default:
	}
	if !lost {
		return nil
	}
	return &UnusableError{Dir: x.dir, Reason: "its file system had no space for it, or could not be written", Resettable: true}
}

// giveUp ends an index whose files can not be finished. Badger tries again for as long as there is no
// space, so it is not waited for. The lock is held until it has ended, or the process has.
func (x *Index) giveUp(reason error) error {
	// Written in place: when there is no space for it either, it is torn, and says the same.
	if err := x.writeState(x.codec.repo, state{phase: phaseSuspect}); err != nil {
		x.log.Debug("index could not be marked", "dir", x.dir, "err", err)
	}
	done := x.closing()
	go func() {
		<-done
		_ = x.lock.Close()
	}()
	return reason
}

// closing closes Badger in a goroutine of its own, once; the channel gives what came of it, and then nil.
func (x *Index) closing() <-chan error {
	x.ending.Do(func() {
		x.ended = make(chan error, 1)
		go func() {
			x.ended <- closeBadger(x.db)
			close(x.ended)
		}()
	})
	return x.ended
}
