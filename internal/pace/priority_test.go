package pace_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/pace"
)

// thread is what the kernel says of the calling thread.
type thread struct{ id, nice, io int }

func here(t *testing.T) thread {
	t.Helper()
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		t.Error(err)
	}
	io, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_GET, 1, 0, 0)
	if errno != 0 {
		t.Error(errno)
	}
	return thread{unix.Gettid(), 20 - raw, int(io)}
}

// in runs look in a goroutine whose first call is Thread.
func in(p *pace.Pace, look func() thread) thread {
	out := make(chan thread)
	go func() {
		p.Thread()
		out <- look()
	}()
	return <-out
}

func TestThread_GivesWayAloneAndForItsOwnLife(t *testing.T) {
	was := here(t)
	var limits *pace.Pace // a priority needs no limits
	for _, c := range []struct {
		to     pace.Priority
		nice   int
		io     int
		priced string
	}{
		{pace.Priority{Nice: 10, IO: pace.Lowest}, 10, 2<<13 | 7, "lowest"},
		{pace.Priority{Nice: 3, IO: pace.Idle}, 3, 3 << 13, "idle"},
		{pace.Priority{Nice: 19}, 19, was.io, "nice alone"},
	} {
		if err := c.to.Try(); err != nil {
			t.Fatal(err)
		}
		p := limits.Lowered(c.to)
		var child thread
		low := in(p, func() thread {
			child = in(nil, func() thread { return here(t) })
			return here(t)
		})
		if low.nice != min(19, was.nice+c.nice) || low.io != c.io {
			t.Errorf("%s: niceness %d, class %#x; want %d, %#x", c.priced, low.nice, low.io, was.nice+c.nice, c.io)
		}
		// What it starts is like any other, and so is everybody else, whichever thread was cloned from which.
		if child.nice != was.nice || child.io != was.io {
			t.Errorf("%s: a goroutine started from there has niceness %d and class %#x", c.priced, child.nice, child.io)
		}
		for range 20 {
			if other := in(nil, func() thread { return here(t) }); other.nice != was.nice || other.id == low.id {
				t.Fatalf("%s: another goroutine runs at niceness %d on thread %d, the low one was %d", c.priced, other.nice, other.id, low.id)
			}
		}
		gone := false
		for range 1000 { // the thread ends a moment after the goroutine
			if _, err := os.Stat("/proc/self/task/" + strconv.Itoa(low.id)); os.IsNotExist(err) {
				gone = true
				break
			}
			unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
		}
		if !gone && !isMain(low.id) {
			t.Errorf("%s: the thread outlived its goroutine", c.priced)
		}
	}
}

// isMain tells whether a thread is the process's first, which Go parks instead of ending it.
func isMain(id int) bool { return id == os.Getpid() }

func TestThread_WithoutPriorityChangesNothing(t *testing.T) {
	was := here(t)
	for _, p := range []*pace.Pace{nil, pace.New(pace.Limits{Cores: 1}), pace.New(pace.Limits{Cores: 1}).Lowered(pace.Priority{})} {
		if got := in(p, func() thread { return here(t) }); got.nice != was.nice || got.io != was.io {
			t.Errorf("niceness %d, class %#x without a priority; want %d, %#x", got.nice, got.io, was.nice, was.io)
		}
	}
}

func TestTry_SaysWhatCanNotBe(t *testing.T) {
	err := pace.Priority{IO: pace.Idle + 1}.Try()
	if err == nil || !strings.Contains(err.Error(), "class") {
		t.Errorf("got %v for a class there is not", err)
	}
}
