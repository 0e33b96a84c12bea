package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of the kernel's counts of processor time.
const tick = 10 * time.Millisecond

// atWork is the processor time that anybody had of the processors this process may use, the time that a host took from
// this machine included, and that of this process and another one. The other's children count as others.
func atWork(t *testing.T, pid int) (all, own time.Duration) {
	t.Helper()
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		cpu, err := strconv.Atoi(strings.TrimPrefix(fields[0], "cpu"))
		if !strings.HasPrefix(line, "cpu") || err != nil || !may.IsSet(cpu) {
			continue
		}
		// user, nice, system, idle, iowait, irq, softirq, steal
		for i, f := range fields[1:min(9, len(fields))] {
			if n, err := strconv.ParseInt(f, 10, 64); err == nil && i != 3 && i != 4 {
				all += time.Duration(n) * tick
			}
		}
	}
	for _, id := range []int{os.Getpid(), pid} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
		if err != nil {
			t.Fatal(err)
		}
		// Behind the name, which may hold anything, user and system time are the 12th and 13th field.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, f := range fields[11:13] {
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			own += time.Duration(n) * tick
		}
	}
	return all, own
}

// othersAt begins to look and returns what ends it: which part of the processors' time others had meanwhile, 0 to 1. On a
// machine of one's own it is about nothing.
func othersAt(t *testing.T, pid int) (part func() float64) {
	t.Helper()
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	all, own := atWork(t, pid)
	return func() float64 {
		t.Helper()
		allNow, ownNow := atWork(t, pid)
		others := (allNow - all) - (ownNow - own)
		return min(max(0, others.Seconds()/(time.Since(begun).Seconds()*float64(may.Count()))), 1)
	}
}

// The measure that the figure of the crowd leans on: what this process does is its own, what another does that of others.
func TestOthers_TellsOwnWorkFromThatOfOthers(t *testing.T) {
	const slack = 200 * time.Millisecond // the kernel counts in ticks, and not at the same moment for all
	still := exec.Command("sleep", "600")
	ok(t, still.Start())
	defer func() { _ = still.Process.Kill(); _ = still.Wait() }()
	used := func() time.Duration {
		var u unix.Rusage
		ok(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	all, own := atWork(t, still.Process.Pid)
	had := used()
	for used()-had < time.Second {
	}
	allNow, ownNow := atWork(t, still.Process.Pid)
	if mine := ownNow - own; mine < time.Second-slack || mine > used()-had+slack || allNow-all < mine-slack {
		t.Errorf("after a second of work: %v of %v are our own", mine, allNow-all)
	}
	all, own = allNow, ownNow
	var took time.Duration
	for took < 3*slack { // however fast the machine is
		other := exec.Command("sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")
		ok(t, other.Run())
		took += other.ProcessState.UserTime() + other.ProcessState.SystemTime()
	}
	allNow, ownNow = atWork(t, still.Process.Pid)
	if others := (allNow - all) - (ownNow - own); others < took-slack {
		t.Errorf("another took %v, and %v are counted as others' work", took, others)
	}
}
