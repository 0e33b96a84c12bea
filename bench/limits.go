package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// limit is one line of the table: a Go benchmark, and how to read it.
type limit struct {
	step    string
	pkg     string
	name    string  // of the benchmark, as go test prints it without the number of cores
	unit    string  // of the metric to take: "MB/s", "ns/op" or one the benchmark reports itself
	show    string  // what to show it as
	divisor float64 // of the metric; for MB/s the figure is 1000/metric ns per byte
	disk    bool    // measured on a disk as well
}

// filesOfScan and filesOfRestore are the files that one operation of BenchmarkScan and BenchmarkRestore has.
const (
	filesOfScan    = 80_000
	filesOfRestore = 80_000
)

var limits = []limit{
	{step: "cut, random bytes", pkg: "chunker", name: "Cut/random", unit: "MB/s", show: "ns per byte"},
	{step: "cut, text", pkg: "chunker", name: "Cut/text", unit: "MB/s", show: "ns per byte"},
	{step: "cut out of a stream, with the reading", pkg: "chunker", name: "Reader", unit: "MB/s", show: "ns per byte"},
	{step: "id of a chunk of 64 KiB", pkg: "crypto", name: "Hasher_Sum/65536B", unit: "MB/s", show: "ns per byte"},
	{step: "id of a chunk of 1 KiB", pkg: "crypto", name: "Hasher_Sum/1024B", unit: "MB/s", show: "ns per byte"},
	{step: "compress a block of rows", pkg: "repo", name: "BlockStep/compress", unit: "MB/s", show: "ns per byte"},
	{step: "verify it: decode and compare", pkg: "repo", name: "BlockStep/verify", unit: "MB/s", show: "ns per byte"},
	{step: "compress against a dictionary and verify", pkg: "repo", name: "BlockEncode/delta", unit: "MB/s", show: "ns per byte"},
	{step: "verify that", pkg: "repo", name: "BlockStep/verify_delta", unit: "MB/s", show: "ns per byte"},
	{step: "see that a block is noise", pkg: "repo", name: "BlockEncode/noise", unit: "MB/s", show: "ns per byte"},
	{step: "seal a block", pkg: "crypto", name: "PackSealer/seal_256KiB", unit: "MB/s", show: "ns per byte"},
	{step: "open a block", pkg: "crypto", name: "PackSealer/open_256KiB", unit: "MB/s", show: "ns per byte"},
	{step: "write a pack of 32 MiB", pkg: "internal/durable", name: "Write", unit: "MB/s", show: "ns per byte", disk: true},
	{step: "fsync and publish a pack of 32 MiB", pkg: "internal/durable", name: "Publish/33554432", unit: "MB/s", show: "ns per byte", disk: true},
	{step: "fsync and publish 256 KiB", pkg: "internal/durable", name: "Publish/262144", unit: "ns/op", show: "µs", divisor: 1e3, disk: true},
	{step: "list a directory: getdents", pkg: "internal/source", name: "Call/getdents", unit: "ns/name", show: "µs per file", divisor: 1e3},
	{step: "lstat", pkg: "internal/source", name: "Call/lstat", unit: "ns/op", show: "µs per file", divisor: 1e3},
	{step: "open and close", pkg: "internal/source", name: "Call/open_and_close", unit: "ns/op", show: "µs per file", divisor: 1e3},
	{step: "fstat", pkg: "internal/source", name: "Call/fstat", unit: "ns/op", show: "µs per file", divisor: 1e3},
	{step: "read 10 KiB", pkg: "internal/source", name: "Call/read_10_KiB", unit: "ns/op", show: "µs per file", divisor: 1e3},
	{step: "scan of 80,000 files, all cores", pkg: "internal/source", name: "Scan", unit: "ns/op", show: "µs per file", divisor: 1e3 * filesOfScan},
	{step: "scan and read of those", pkg: "internal/source", name: "ScanAndRead", unit: "ns/op", show: "µs per file", divisor: 1e3 * filesOfScan},
	{step: "create, write, own, date 80,000 files of 10 KiB, two workers", pkg: "internal/target", name: "Restore", unit: "ns/op", show: "µs per file", divisor: 1e3 * filesOfRestore},
	{step: "tree page of an unchanged directory, an entry", pkg: "repo", name: "Unchanged/256", unit: "ns/entry", show: "µs per file", divisor: 1e3},
	{step: "tree page written, an entry", pkg: "repo", name: "DirWriterAdd", unit: "ns/entry", show: "µs per file", divisor: 1e3},
	{step: "tree page read, an entry", pkg: "repo", name: "DirReader", unit: "ns/entry", show: "µs per file", divisor: 1e3},
	{step: "content list written, a chunk", pkg: "repo", name: "ContentWriter", unit: "ns/chunk", show: "µs per chunk", divisor: 1e3},
	{step: "index: open and close", pkg: "index", name: "Index/OpenClose", unit: "ns/op", show: "ms", divisor: 1e6},
	{step: "index: look up what is there", pkg: "index", name: "Index/Hit", unit: "ns/op", show: "µs per chunk", divisor: 1e3},
	{step: "index: look up what is not there", pkg: "index", name: "Index/Miss", unit: "ns/op", show: "µs per chunk", divisor: 1e3},
	{step: "index: insert in bulk", pkg: "index", name: "Index/Build", unit: "ns/entry", show: "µs per chunk", divisor: 1e3},
	{step: "index: disk for a million chunks", pkg: "index", name: "Index/Build", unit: "disk-B/entry", show: "MB", divisor: 1},
}

// runLimits runs the benchmarks and writes the table.
func runLimits(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench limits", flag.ExitOnError)
	out := flags.String("out", "var/profile/limits.md", "where the table goes; - prints it only")
	benchtime := flags.String("benchtime", "1s", "how long each benchmark runs")
	ram := flags.String("work", "/dev/shm", "RAM disk for what is stored")
	disk := flags.String("disk", "var", "directory on a disk, to measure fsync; - for none")
	chunks := flags.Int("chunks", 1_000_000, "chunks in the index")
	packages := flags.String("packages", "", "packages to measure, by comma; default all")
	if err := flags.Parse(args); err != nil {
		return err
	}
	only := strings.Split(*packages, ",")
	results := map[string]map[string]float64{}
	for _, place := range []string{"", "disk "} {
		dir := *ram
		if place != "" {
			if dir = *disk; dir == "-" {
				continue
			}
		}
		dir, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for _, pkg := range packagesOf(place != "") {
			if *packages != "" && !slices.Contains(only, pkg) {
				continue
			}
			c := command{argv: []string{"go", "test", "-run=^$", "-bench=" + patternOf(pkg, place != ""), "-benchmem", "-benchtime=" + *benchtime, "-timeout=30m", "./" + pkg},
				env: []string{"TMPDIR=" + dir, fmt.Sprintf("BACKUPD_INDEX_PACKS=%d", max(1, *chunks/512))}}
			fmt.Fprintln(os.Stderr, strings.Join(c.argv, " "))
			_, text, err := c.measure(ctx)
			if err != nil {
				return err
			}
			for name, metrics := range parseBenchmarks(text) {
				results[place+pkg+" "+name] = metrics
			}
		}
	}
	for _, l := range limits {
		if _, ok := results[l.pkg+" "+l.name]; !ok && (*packages == "" || slices.Contains(only, l.pkg)) {
			return fmt.Errorf("%s has no Benchmark%s any more", l.pkg, l.name)
		}
	}
	table := limitTable(results, *chunks)
	fmt.Print(table)
	if *out == "-" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(*out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(*out, []byte("Written by `make limits`: "+describe(*ram)+"\n\n"+table), 0o644)
}

// packagesOf are the packages of the limits, each once.
func packagesOf(disk bool) (list []string) {
	for _, l := range limits {
		if !slices.Contains(list, l.pkg) && (l.disk || !disk) {
			list = append(list, l.pkg)
		}
	}
	return list
}

// patternOf is the pattern of a package's benchmarks. Go takes one for each level of names: it names the tops.
func patternOf(pkg string, disk bool) string {
	var tops []string
	for _, l := range limits {
		top, _, _ := strings.Cut(l.name, "/")
		if l.pkg == pkg && (l.disk || !disk) && !slices.Contains(tops, top) {
			tops = append(tops, top)
		}
	}
	return "^Benchmark(" + strings.Join(tops, "|") + ")$"
}

// parseBenchmarks reads what go test -bench prints: by name, without the number of cores, its metrics by unit.
func parseBenchmarks(text string) map[string]map[string]float64 {
	all := map[string]map[string]float64{}
	for _, line := range strings.Split(text, "\n") {
		fields := strings.Fields(line)
		name, ok := strings.CutPrefix(line, "Benchmark")
		if !ok || len(fields) < 4 {
			continue
		}
		name = strings.Fields(name)[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		metrics := map[string]float64{}
		for i := 2; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				metrics[fields[i+1]] = v
			}
		}
		all[name] = metrics
	}
	return all
}

// limitTable writes the limits that were measured.
func limitTable(results map[string]map[string]float64, chunks int) string {
	var w strings.Builder
	fmt.Fprintf(&w, "| step | cost | | allocations |\n|---|---|---|---|\n")
	for _, l := range limits {
		for _, place := range []string{"", "disk "} {
			metrics, ok := results[place+l.pkg+" "+l.name]
			if !ok {
				continue
			}
			v := metrics[l.unit]
			switch {
			case l.unit == "MB/s" && v > 0:
				v = 1000 / v
			case l.divisor > 0:
				v /= l.divisor
			}
			allocations := "–"
			if n, ok := metrics["allocs/op"]; ok && (l.unit == "ns/op" || l.unit == "MB/s") {
				allocations = fmt.Sprintf("%.0f", n)
				if l.divisor > 1e6 { // an operation is all files
					allocations = fmt.Sprintf("%.2f per file", n/(l.divisor/1e3))
				}
			}
			step := l.step
			if l.disk && place != "" {
				step += ", on a disk"
			}
			if strings.HasPrefix(step, "index") {
				step += fmt.Sprintf(" (%d in it)", chunks)
			}
			fmt.Fprintf(&w, "| %s | %s | %s | %s |\n", step, threeDigits(v), l.show, allocations)
		}
	}
	return w.String()
}

// threeDigits is a number with three digits that count, and never an exponent.
func threeDigits(v float64) string {
	if v >= 1000 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
