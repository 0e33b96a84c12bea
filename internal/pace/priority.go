package pace

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Priority says how far threads give way to others of the host.
type Priority struct {
	Nice int     // added to that of the process: 0 to 19
	IO   IOClass // for the disk; schedulers that know no priorities ignore it
}

// IOClass is a class of priority for the disk.
type IOClass uint8

// The classes. Idle is served when nobody else wants the disk, which on a busy one may be never.
const (
	Normal IOClass = iota // that of the process
	Lowest                // the last of the ordinary ones
	Idle
)

// Try tells whether the system lets threads have the priority. When it does not, all work runs as if there were none,
// which is nothing to stop for, but for somebody to hear.
func (p Priority) Try() error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- p.take()
	}()
	return <-done
}

// Thread gives the calling goroutine a thread of the priority, for the rest of the goroutine's life: the thread ends with
// it, because nobody but root may raise a priority again. A goroutine calls it first; those it starts have threads like
// any other. Without a priority it does nothing.
func (p *Pace) Thread() {
	if p == nil || p.priority == (Priority{}) {
		return
	}
	runtime.LockOSThread()
	_ = p.priority.take() // Try has told
}

// take gives the calling thread the priority.
func (p Priority) take() error {
	if n := p.Nice; n > 0 {
		// The system call gives 20 - nice, and calls the thread a process.
		now, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
		if err == nil {
			err = unix.Setpriority(unix.PRIO_PROCESS, 0, min(20-now+n, 19))
		}
		if err != nil {
			return os.NewSyscallError("setpriority", err)
		}
	}
	const class, whoThread = 13, 1 // IOPRIO_CLASS_SHIFT, IOPRIO_WHO_PROCESS
	var want uintptr
	switch p.IO {
	case Normal:
		return nil
	case Lowest:
		want = 2<<class | 7 // IOPRIO_CLASS_BE, the last of its levels
	case Idle:
		want = 3 << class // IOPRIO_CLASS_IDLE
	default:
		return fmt.Errorf("internal error: no class %d for the disk", p.IO)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_SET, whoThread, 0, want); errno != 0 {
		return os.NewSyscallError("ioprio_set", errno)
	}
	return nil
}
