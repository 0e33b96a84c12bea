package main

import (
	"bufio"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// sample is a stack that was seen, the innermost function first, and for how long.
type sample struct {
	took  time.Duration
	stack []string
}

// readSamples has pprof print all stacks of a profile.
func readSamples(ctx context.Context, binary, profile string) ([]sample, error) {
	_, out, err := command{argv: []string{"go", "tool", "pprof", "-traces", "-unit=us", binary, profile}}.measure(ctx)
	if err != nil {
		return nil, err
	}
	return parseSamples(out)
}

// parseSamples reads what pprof -traces prints: stacks between rulers, the first line of each with its time.
func parseSamples(text string) (samples []sample, err error) {
	scanner := bufio.NewScanner(strings.NewReader(text))
	inside, fresh := false, false
	for scanner.Scan() {
		line := scanner.Text()
		if strings.HasPrefix(line, "-----------+") {
			inside, fresh = true, true
			continue
		}
		fields := strings.Fields(line)
		if !inside || len(fields) == 0 || strings.HasSuffix(fields[0], ":") { // a label of the stack
			continue
		}
		if fresh {
			var us float64
			if _, err := fmt.Sscanf(fields[0], "%fus", &us); err != nil || len(fields) < 2 {
				return nil, fmt.Errorf("pprof printed %q, no time and function", line)
			}
			samples = append(samples, sample{took: time.Duration(us * 1000)})
			fields, fresh = fields[1:], false
		}
		s := &samples[len(samples)-1]
		if fields[0] == "runtime.asyncPreempt" && len(s.stack) == 0 { // says when, not where
			continue
		}
		s.stack = append(s.stack, strings.TrimSuffix(strings.Join(fields, " "), " (inline)"))
	}
	return samples, scanner.Err()
}

// layer is a part of the work that time is put down to.
type layer struct {
	name string
	// leaf are beginnings of names of functions that belong to it when they are the innermost.
	leaf []string
	// frame are parts of names that claim a whole stack, the innermost such frame winning over all layers.
	frame []string
}

const module = "github.com/generalbots/backupd/"

// layers in the order of the report. The last takes what is nobody's.
var layers = []layer{
	{name: "kernel", leaf: []string{"internal/runtime/syscall", "syscall.Syscall", "syscall.RawSyscall", "syscall.rawSyscall", "syscall.rawVforkSyscall", "runtime.futex", "runtime.madvise", "runtime.mmap", "runtime.munmap",
		"runtime.sysMmap", "runtime.sysMunmap", "runtime.write1", "runtime.read.", "runtime.openat", "runtime.closefd", "runtime.usleep", "runtime.osyield", "runtime.epoll", "runtime.tgkill", "runtime.clone",
		"runtime.rt_sig", "runtime.rtsig", "runtime.sigaltstack", "runtime/internal/syscall"}},
	{name: "zstd encode", frame: []string{module + "repo.(*frameWriter)", module + "repo.(*plainMatcher)", module + "repo.(*matcher)", module + "repo.word", module + "repo.halfWord",
		module + "repo.sixBytes", module + "repo.matchHash", module + "repo.same", "compress/zstd.(*Encoder)", "compress/zstd.(*blockEnc)", "compress/huff0.(*Scratch).compress", "compress/huff0.Compress"}},
	{name: "zstd decode", frame: []string{"compress/zstd.(*Decoder)", "compress/zstd.(*blockDec)", "compress/zstd.(*frameDec)", "compress/huff0.(*Decoder)"}},
	{name: "blake3", frame: []string{"zeebo/blake3"}},
	{name: "aes-gcm", frame: []string{"crypto/internal/fips140/aes", "crypto/aes", "crypto/cipher"}},
	{name: "chunker", frame: []string{module + "chunker"}},
	{name: "memmove", leaf: []string{"runtime.memmove", "runtime.memclr", "runtime.memequal", "internal/bytealg.", "memeqbody", "cmpbody", "indexbytebody"}},
	{name: "gc", frame: []string{"runtime.gcBgMarkWorker", "runtime.gcDrain", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcAssist", "runtime.gcStart", "runtime.gcMark", "runtime.mallocgc", "runtime.newobject", "runtime.makeslice",
		"runtime.growslice", "runtime.deductAssistCredit", "runtime.sweepone", "runtime.(*mheap)"}},
	{name: "scheduler", frame: []string{"runtime.schedule", "runtime.mcall", "runtime.findRunnable", "runtime.park_m", "runtime.goexit0", "runtime.sysmon", "runtime.mstart", "runtime.ready", "runtime.wakep", "runtime.semrelease", "runtime.chansend",
		"runtime.chanrecv", "runtime.selectgo", "sync.(*Mutex)", "sync.(*Cond)", "internal/sync.(*Mutex)"}},
	{name: "index", frame: []string{module + "index.", "dgraph-io/badger", "dgraph-io/ristretto"}},
	{name: "scan and read (source)", frame: []string{module + "internal/source."}},
	{name: "write (target)", frame: []string{module + "internal/target."}},
	{name: "trees, blocks, packs (repo)", frame: []string{module + "repo."}},
	{name: "rest"},
}

// layerOf says to which layer a stack belongs: by its innermost function, else by the innermost frame a layer claims.
func layerOf(stack []string) string {
	for _, l := range layers {
		if slices.ContainsFunc(l.leaf, func(begin string) bool { return strings.HasPrefix(stack[0], begin) }) {
			return l.name
		}
	}
	for _, frame := range stack {
		for _, l := range layers {
			if slices.ContainsFunc(l.frame, func(part string) bool { return strings.Contains(frame, part) }) {
				return l.name
			}
		}
	}
	return layers[len(layers)-1].name
}

// layerShares divides the time among the layers.
func layerShares(samples []sample) map[string]float64 {
	shares, all := map[string]float64{}, 0.0
	for _, s := range samples {
		if len(s.stack) == 0 {
			continue
		}
		shares[layerOf(s.stack)] += s.took.Seconds()
		all += s.took.Seconds()
	}
	for name := range shares {
		shares[name] /= all
	}
	return shares
}

// function is a line of a profile's top: its own share and that with all it called.
type function struct {
	name      string
	flat, cum float64
}

func topFunctions(samples []sample, n int) []function {
	by, all := map[string]*function{}, 0.0
	at := func(name string) *function {
		if by[name] == nil {
			by[name] = &function{name: shortName(name)}
		}
		return by[name]
	}
	for _, s := range samples {
		if len(s.stack) == 0 {
			continue
		}
		all += s.took.Seconds()
		at(s.stack[0]).flat += s.took.Seconds()
		seen := map[string]bool{}
		for _, name := range s.stack {
			if !seen[name] {
				at(name).cum += s.took.Seconds()
			}
			seen[name] = true
		}
	}
	var list []function
	for _, f := range by {
		list = append(list, function{f.name, f.flat / all, f.cum / all})
	}
	slices.SortFunc(list, func(a, b function) int {
		if a.flat != b.flat {
			return int((b.flat - a.flat) * 1e9)
		}
		return strings.Compare(a.name, b.name)
	})
	return list[:min(n, len(list))]
}

// shortName leaves out where a package lives.
func shortName(name string) string {
	if before, after, ok := strings.Cut(name, "("); ok {
		return path.Base(before) + "(" + after
	}
	return path.Base(name)
}
