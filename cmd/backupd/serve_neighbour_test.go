package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// niceness is that of each thread of a process.
func niceness(t *testing.T, pid int) map[int]int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	all := map[int]int{}
	for _, path := range tasks {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the thread is over
		}
		if err != nil {
			if strings.Contains(err.Error(), "no such process") {
				continue
			}
			t.Fatal(err)
		}
		// Behind the name, which may hold anything, the niceness is the 17th field.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		nice, err := strconv.Atoi(fields[16])
		if err != nil {
			t.Fatal(err)
		}
		id, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		all[id] = nice
	}
	return all
}

// threadsAt counts those of a niceness.
func threadsAt(all map[int]int, nice int) (n int) {
	for _, have := range all {
		if have == nice {
			n++
		}
	}
	return n
}

func TestServe_JobsGiveWayAndNothingElse(t *testing.T) {
	h := newHost(t)
	if err := os.WriteFile(h.path("src/noise"), noise(2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	// The hook writes down the niceness it was started with.
	h.write("hook", "#!/bin/sh\nexec /usr/bin/nice > "+h.path("hook.nice")+"\n")
	if err := os.Chmod(h.path("hook"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		limits string
		nice   int
	}{
		{"limits: {io: 8 MiB}\nverify: {after_backup: false}\n", 10}, // the default
		{"limits: {io: 8 MiB, nice: 0, io_class: normal}\nverify: {after_backup: false}\n", 0},
	} {
		h.more = c.limits
		h.configure(fmt.Sprintf("{name: hooked, kind: files, paths: [%q], hooks: {before: [%q]}}", h.path("hook"), h.path("hook")))
		d := h.start()
		// Not that of the first thread: whether threads may be lowered was tried on one, which may have been it.
		own := slices.Min(slices.Collect(maps.Values(niceness(t, d.cmd.Process.Pid))))
		lower := min(own+10, 19) // the system has no lower one
		low := 0
		id := d.backup()
		d.until("the end of the backup", func() bool {
			all := niceness(t, d.cmd.Process.Pid)
			low = max(low, threadsAt(all, lower))
			if threadsAt(all, own) == 0 {
				t.Fatalf("no thread has the daemon's own priority: %v", all)
			}
			return d.status(id) == "completed"
		})
		if c.nice > 0 && low < 3 { // two workers, the scan and the tree, some at a time
			t.Errorf("%d threads gave way while the backup ran, want several", low)
		}
		if c.nice == 0 && low > 0 {
			t.Errorf("%d threads gave way, and none was to", low)
		}
		text, err := os.ReadFile(h.path("hook.nice"))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(string(text)); got != strconv.Itoa(own) {
			t.Errorf("a hook was started with niceness %s, want that of the daemon, %d", got, own)
		}
		d.until("the end of its threads", func() bool {
			all := niceness(t, d.cmd.Process.Pid)
			delete(all, d.cmd.Process.Pid) // whoever had the first one: Go parks it for ever in place of ending it
			return threadsAt(all, lower) == 0
		})
		d.end(syscall.SIGTERM)
	}
}
