//go:build profile

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strconv"
	"time"
)

const (
	peakEvery = 5 * time.Millisecond
	peakStep  = 1 << 20 // a peak lower than this above the last is not written down
)

// watchPeak writes, whenever anonymous memory stands higher than ever, what the heap held then to peak.pprof and what
// Go's runtime had of it to peak.txt. It ends with the function returned.
func watchPeak(dir string) (stop func() error) {
	done, over := make(chan struct{}), make(chan error)
	go func() {
		tick := time.NewTicker(peakEvery)
		defer tick.Stop()
		var err error
		for last := int64(0); ; {
			select {
			case <-done:
				over <- err
				return
			case <-tick.C:
			}
			if now := anonymousMemory(); now > last+peakStep {
				last = now
				err = errors.Join(os.WriteFile(filepath.Join(dir, "peak.txt"), memoryClasses(now), 0o644), write("heap", filepath.Join(dir, "peak.pprof")))
			}
		}
	}()
	return func() error { close(done); return <-over }
}

// anonymousMemory is the RssAnon of this process in bytes, 0 when it can not be read.
func anonymousMemory() int64 {
	text, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := bytes.Cut(text, []byte("RssAnon:"))
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseInt(string(fields[0]), 10, 64)
	return kib << 10
}

func memoryClasses(anonymous int64) []byte {
	names := []string{"/memory/classes/heap/objects:bytes", "/memory/classes/heap/unused:bytes", "/memory/classes/heap/free:bytes",
		"/memory/classes/heap/released:bytes", "/memory/classes/heap/stacks:bytes", "/memory/classes/metadata/other:bytes",
		"/memory/classes/os-stacks:bytes", "/memory/classes/other:bytes", "/memory/classes/profiling/buckets:bytes",
		"/gc/heap/live:bytes", "/gc/heap/goal:bytes", "/gc/cycles/total:gc-cycles"}
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples)
	b := fmt.Appendf(nil, "%12d anonymous\n", anonymous)
	for _, s := range samples {
		b = fmt.Appendf(b, "%12d %s\n", s.Value.Uint64(), s.Name)
	}
	return b
}
