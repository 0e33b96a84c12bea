package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// schedule is what the kernel's scheduler has said of the threads of some processes: how long each has had a
// processor, and how long it has waited for one. A thread that has ended keeps what was read last.
type schedule struct {
	threads map[string][2]time.Duration
}

// read looks at all threads again and tells whether one of them has run since, or wants to.
func (s *schedule) read(processes []int) (busy bool) {
	var still []string
	for _, pid := range processes {
		names, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/schedstat")
		for _, name := range names {
			text, _ := os.ReadFile(name)
			var ran, waited int64
			if n, _ := fmt.Sscan(string(text), &ran, &waited); n != 2 {
				continue // it has just ended
			}
			now := [2]time.Duration{time.Duration(ran), time.Duration(waited)}
			if s.threads[name] == now {
				still = append(still, name)
				continue
			}
			s.threads[name], busy = now, true
		}
	}
	for _, name := range still {
		if busy {
			break
		}
		busy = runnable(strings.TrimSuffix(name, "schedstat") + "stat")
	}
	return busy
}

// runnable tells whether a thread runs or waits for a processor: its state stands behind the name in brackets.
func runnable(stat string) bool {
	text, _ := os.ReadFile(stat)
	i := bytes.LastIndexByte(text, ')')
	return i >= 0 && len(text) > i+2 && text[i+2] == 'R'
}
