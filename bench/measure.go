package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cost is what one run of a command took.
type cost struct {
	wall, cpu time.Duration
	anon      int64 // peak of RssAnon over the command and all its descendants, in bytes
	// ran and waited are the times all threads had a processor and wanted one that others had, idle is the time in
	// which none wanted one; only with command.delays.
	ran, waited, idle time.Duration
}

// unhindered is the wall time less the share of it that others held the processors. It is exact on a quiet machine,
// where it is the wall time, and about right on a busy one, where that says nothing.
func (c cost) unhindered() time.Duration {
	if c.ran == 0 {
		return c.wall
	}
	idle := min(c.idle, c.wall)
	return idle + time.Duration(float64(c.wall-idle)*float64(c.ran)/float64(c.ran+c.waited))
}

// command is something to run; only what is below measured counts as its cost.
type command struct {
	argv  []string
	env   []string // added to ours
	dir   string
	stdin string // file, or ""
	// okay are the exit codes that are no failure besides 0.
	okay []int
	// delays has the scheduler's figures of every thread read as well, which costs the command a little.
	delays bool
}

// shell is a pipeline.
func shell(dir, script string, args ...string) command {
	return command{argv: append([]string{"sh", "-c", "set -e; " + script, "sh"}, args...), dir: dir}
}

// sampleEvery is how often memory is looked at, familyEvery how many such looks there are for one at who
// the children are, which is dearer, and seldom changes. A program that keeps all cores busy loses them to both.
const (
	sampleEvery = 10 * time.Millisecond
	familyEvery = 16
)

// measure runs a command to its end.
func (c command) measure(ctx context.Context) (cost, string, error) {
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir = c.dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if c.stdin != "" {
		f, err := os.Open(c.stdin)
		if err != nil {
			return cost{}, "", err
		}
		defer f.Close()
		cmd.Stdin = f
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return cost{}, "", err
	}
	done, seen := make(chan struct{}), make(chan cost)
	go func() { seen <- watch(cmd.Process.Pid, c.delays, done) }()
	err := cmd.Wait()
	wall := time.Since(start)
	close(done)
	spent := <-seen
	spent.wall, spent.cpu = wall, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()
	var exit *exec.ExitError
	if errors.As(err, &exit) && slices.Contains(c.okay, exit.ExitCode()) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(c.argv, " "), err, last(stderr.String()+stdout.String(), 20))
	}
	return spent, stdout.String(), err
}

// run is measure for what is preparation.
func (c command) run(ctx context.Context) error {
	_, _, err := c.measure(ctx)
	return err
}

func last(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// watch adds up the anonymous memory of a process and its descendants until done, and returns the peak. With
// delays it also keeps what the scheduler last said of each of their threads.
func watch(pid int, delays bool, done <-chan struct{}) (seen cost) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	family := []int{pid}
	open := statm{}
	defer open.close()
	s := schedule{threads: map[string][2]time.Duration{}}
	before := time.Now()
	for i := 0; ; i++ {
		if i < familyEvery || i%familyEvery == 0 || delays {
			family = descendants(pid)
		}
		sum := int64(0)
		for _, p := range family {
			sum += open.anonymous(p)
		}
		seen.anon = max(seen.anon, sum)
		if delays {
			busy := s.read(family)
			now := time.Now()
			if !busy {
				seen.idle += now.Sub(before)
			}
			before = now
		}
		select {
		case <-done:
			for _, t := range s.threads {
				seen.ran, seen.waited = seen.ran+t[0], seen.waited+t[1]
			}
			return seen
		case <-tick.C:
		}
	}
}

// descendants lists pid and everything it started that still runs.
func descendants(pid int) []int {
	family := []int{pid}
	for i := 0; i < len(family); i++ {
		tasks, _ := filepath.Glob("/proc/" + strconv.Itoa(family[i]) + "/task/*/children")
		for _, name := range tasks {
			text, _ := os.ReadFile(name) // a thread that ended meanwhile has no children
			for _, field := range strings.Fields(string(text)) {
				if child, err := strconv.Atoi(field); err == nil {
					family = append(family, child)
				}
			}
		}
	}
	return family
}

// statm has the files that tell of processes' memory, which stay open: they are read often.
type statm map[int]*os.File

// anonymous is what a process has resident without the pages of files, in bytes; 0 when it has ended.
func (s statm) anonymous(pid int) int64 {
	f, ok := s[pid]
	if !ok {
		var err error
		if f, err = os.Open("/proc/" + strconv.Itoa(pid) + "/statm"); err != nil {
			return 0
		}
		s[pid] = f
	}
	var line [128]byte
	n, _ := f.ReadAt(line[:], 0)
	fields := bytes.Fields(line[:n])
	if len(fields) < 3 {
		return 0
	}
	resident, err1 := strconv.ParseInt(string(fields[1]), 10, 64)
	shared, err2 := strconv.ParseInt(string(fields[2]), 10, 64)
	if err1 != nil || err2 != nil {
		return 0
	}
	return (resident - shared) * int64(os.Getpagesize())
}

func (s statm) close() {
	for _, f := range s {
		f.Close()
	}
}

// median of some costs, each of its parts by itself; memory is the greatest seen.
func median(costs []cost) cost {
	middle := func(part func(cost) time.Duration) time.Duration {
		list := make([]time.Duration, 0, len(costs))
		for _, c := range costs {
			list = append(list, part(c))
		}
		slices.Sort(list)
		if n := len(list); n%2 == 0 {
			return (list[n/2-1] + list[n/2]) / 2
		}
		return list[len(list)/2]
	}
	if len(costs) == 0 {
		return cost{}
	}
	m := cost{wall: middle(func(c cost) time.Duration { return c.wall }), cpu: middle(func(c cost) time.Duration { return c.cpu })}
	for _, c := range costs {
		m.anon = max(m.anon, c.anon)
	}
	return m
}
