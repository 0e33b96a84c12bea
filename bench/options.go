package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// allRows are the rows in the order of the report. Those named tree come from one pass over the source tree; disk,
// cold and core are that pass again under another setting.
var allRows = []string{"first", "unchanged", "next", "restore", "again", "check", "size", "memory",
	"dump", "dump-hot", "dump-sqlite", "dump-postgres", dumpYear, hotYear, "stream", "scale", "small", "few", "image", "sparse", "guesses",
	"disk", "cold", "core"}

var (
	treeRows = allRows[:8]
	dumpRows = allRows[8:14]
)

type options struct {
	rows      map[string]bool
	left      []string // rows left out, and why
	runs      int
	peerRuns  int    // of the peers, where they take long
	work      string // on a RAM disk
	disk      string // on a disk, or ""
	cache     string // for what was downloaded
	out       string // "" prints only
	figures   string // where figures of other runs are kept, or ""
	tree      string // auto, debian, synthetic
	files     int    // of the synthetic tree
	dumpMB    int
	days      int
	yearMB    int
	yearDays  int
	yearPeers bool
	streamMB  int
	scale     []int
	small     int
	imageMB   int
	imageDisk bool
	sparseGB  int
	only      []string // names of the tools to run
	keep      bool
	backupd   string
}

// parse reads the flags of the table.
func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	rows := flags.String("rows", "all", "rows to measure, by comma: "+strings.Join(allRows, ", ")+"; tree stands for the first eight, dumps for all dumps")
	only := flags.String("tools", "", "tools to run, by comma; default: all that are there (backupd, restic, borg, kopia)")
	scale := flags.String("scale", "10000,100000", "numbers of files for the row scale")
	flags.IntVar(&o.runs, "runs", 5, "how often each row is measured; the median counts")
	flags.IntVar(&o.peerRuns, "peer-runs", 0, "how often the peers have their turn in the rows tree, stream, small and image, which take long; 0: as often as backupd")
	flags.StringVar(&o.work, "work", "/dev/shm/backupd-bench", "working directory, on a RAM disk")
	flags.StringVar(&o.disk, "disk", "", "directory on a disk for the rows disk and cold, which work in backupd-bench below it")
	flags.StringVar(&o.cache, "cache", ".cache/bench", "where downloaded sources are kept")
	flags.StringVar(&o.out, "out", "", "where the report goes; default docs/benchmarks.md when all rows and tools run, else nowhere")
	flags.StringVar(&o.figures, "figures", "", "file that keeps the figures: rows measured in other runs with the same sizes come into the report too")
	flags.StringVar(&o.tree, "tree", "auto", "source tree: debian (linux-source by apt), synthetic, or auto; KERNEL_A and KERNEL_B go first")
	flags.IntVar(&o.files, "files", 78000, "files of the synthetic tree")
	flags.IntVar(&o.dumpMB, "dump", 100, "megabytes of the dumps")
	flags.IntVar(&o.days, "days", 32, "daily versions of the dumps")
	flags.IntVar(&o.yearMB, "year-dump", yearMB, "megabytes of the dump in the rows dump-year and dump-year-hot")
	flags.IntVar(&o.yearDays, "year-days", yearDays, "its daily versions")
	flags.BoolVar(&o.yearPeers, "year-peers", false, "the peers go through these years too, which takes them long")
	flags.IntVar(&o.streamMB, "stream", 2048, "megabytes of the incompressible stream")
	flags.IntVar(&o.small, "small", 1_000_000, "files of 1 KiB in the rows small and few")
	flags.IntVar(&o.imageMB, "image", 4000, "megabytes of the image of a virtual machine")
	flags.BoolVar(&o.imageDisk, "image-disk", false, "the image and its repositories lie on the disk of -disk, with nothing of them cached")
	flags.IntVar(&o.sparseGB, "sparse", 100, "gigabytes the sparse file seems to have")
	flags.StringVar(&o.backupd, "backupd", ownBinary, "the binary to measure")
	flags.BoolVar(&o.keep, "keep", false, "leave the source trees in the working directories for the next run")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	var err error
	if o.rows, err = parseRows(*rows); err != nil {
		return o, err
	}
	if o.scale, err = parseCounts(*scale); err != nil {
		return o, err
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	if o.out == "" && len(o.rows) == len(allRows) && o.only == nil {
		o.out = "docs/benchmarks.md"
	}
	if o.peerRuns == 0 {
		o.peerRuns = o.runs
	}
	for _, n := range []int{o.runs, o.peerRuns, o.days, o.dumpMB, o.yearDays, o.yearMB, o.streamMB, o.imageMB, o.sparseGB, o.small / fewFiles} {
		if n < 1 {
			return o, fmt.Errorf("runs, days and sizes are at least 1, and -small is at least %d", fewFiles)
		}
	}
	if o.imageDisk && o.disk == "" {
		return o, errors.New("-image-disk needs -disk DIR")
	}
	if o.disk != "" { // what is there stays
		o.disk = filepath.Join(o.disk, "backupd-bench")
	}
	return o, o.absolute()
}

// absolute makes the paths independent of where a command runs.
func (o *options) absolute() (err error) {
	for _, p := range []*string{&o.work, &o.disk, &o.cache, &o.backupd, &o.figures} {
		if *p == "" {
			continue
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	return nil
}

func parseRows(list string) (map[string]bool, error) {
	rows := map[string]bool{}
	for _, name := range strings.Split(list, ",") {
		names := []string{name}
		switch name {
		case "all":
			names = allRows
		case "tree":
			names = treeRows
		case "dumps":
			names = dumpRows
		}
		for _, n := range names {
			if !slices.Contains(allRows, n) {
				return nil, fmt.Errorf("no row %q; there are %s", n, strings.Join(allRows, ", "))
			}
			rows[n] = true
		}
	}
	return rows, nil
}

func parseCounts(list string) (counts []int, err error) {
	for _, field := range strings.Split(list, ",") {
		var n int
		if _, err := fmt.Sscan(field, &n); err != nil || n < 1 {
			return nil, fmt.Errorf("%s: %q is no number of files", list, field)
		}
		counts = append(counts, n)
	}
	return counts, nil
}

func (o options) anyOf(rows []string) bool {
	return slices.ContainsFunc(rows, func(r string) bool { return o.rows[r] })
}

// needTree estimates what the rows of the tree need in their working directory under a setting: two trees and what one tool
// makes of them, on a disk what all of them make in a run.
func (o options) needTree(s setting) int64 {
	tree := int64(1500) << 20
	if o.tree == "synthetic" {
		tree = int64(o.files) * 20 << 10
	}
	if !s.sync {
		return 4 * tree
	}
	tools := len(o.only)
	if tools == 0 {
		tools = 4
	}
	return 3*tree + int64(tools)*tree*3/2
}

// need estimates the bytes the working directory has to hold at once.
func (o options) need() int64 {
	need := int64(0)
	if o.anyOf(treeRows) || o.rows["core"] {
		need = o.needTree(setting{})
	}
	if o.anyOf(dumpRows) {
		need = max(need, int64(o.dumpMB)*int64(o.days+6)<<20)
	}
	if (o.rows[dumpYear] || o.rows[hotYear]) && o.yearPeers {
		need = max(need, int64(o.yearMB)*int64(o.yearDays+6)<<20)
	}
	if o.rows["stream"] {
		need = max(need, int64(o.streamMB)*3<<20)
	}
	if o.rows["small"] || o.rows["few"] {
		need = max(need, 3*shape{files: o.small, bytes: 1 << 10}.need())
	}
	if o.rows["guesses"] {
		need = max(need, int64(o.dumpMB)*8<<20)
	}
	if o.rows["image"] && !o.imageDisk {
		need = max(need, o.needImage())
	}
	return need
}

func room(dir string, need int64) error {
	var st syscall.Statfs_t
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := syscall.Statfs(dir, &st); err != nil {
		return err
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fmt.Errorf("%s has %s free and needs %s: name another place with -work, or less data (-files, -dump, -days, -stream, -small, -image)", dir, size(free), size(need))
	}
	return nil
}

// roomFor tells whether so many more files fit, which on a RAM disk is a limit of its own.
func roomFor(dir string, files int) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return err
	}
	if st.Files > 0 && st.Ffree < uint64(files) {
		return fmt.Errorf("%s has room for %d more files, not for %d: another -work, fewer files, or as root mount -o remount,nr_inodes=0 %s", dir, st.Ffree, files, mountOf(dir))
	}
	return nil
}

// mountOf is the top of the mount that dir is on.
func mountOf(dir string) string {
	device := func(name string) uint64 {
		var st syscall.Stat_t
		_ = syscall.Lstat(name, &st) // what is not there is on no device
		return st.Dev
	}
	for at := device(dir); dir != "/" && device(filepath.Dir(dir)) == at; {
		dir = filepath.Dir(dir)
	}
	return dir
}
