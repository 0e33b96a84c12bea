// Bench measures the work of a backup: backupd beside the floors that bound it (tar, zstd, find) and
// beside other backup programs, in turn, on the same data on a RAM disk, several times over, and
// writes the medians as docs/benchmarks.md with the targets of the design and whether they were
// reached. It imports nothing of the product: it runs the binary as a person would.
//
//	go run ./bench                                 everything, docs/benchmarks.md
//	go run ./bench -rows first,restore -runs 1     two rows, printed only
//	RESTIC=/opt/restic KOPIA=/opt/kopia go run ./bench
//	KERNEL_A=/src/linux-6.1 KERNEL_B=/src/linux-6.2 go run ./bench -rows tree
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// allRows are the rows in the order of the report. Rows named tree come from one pass over the source tree.
var allRows = []string{"first", "unchanged", "next", "restore", "check", "size", "memory", "dump", "stream", "scale"}

var treeRows = allRows[:7]

type options struct {
	rows     map[string]bool
	runs     int
	work     string // on a RAM disk
	cache    string // for what was downloaded
	out      string // "" prints only
	tree     string // auto, debian, synthetic
	files    int    // of the synthetic tree
	dumpMB   int
	days     int
	streamMB int
	scale    []int
	only     []string // names of the tools to run
	keep     bool
	backupd  string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse() (options, error) {
	var o options
	rows := flag.String("rows", "all", "rows to measure, by comma: "+strings.Join(allRows, ", ")+"; tree stands for the first seven")
	only := flag.String("tools", "", "tools to run, by comma; default: all that are there (backupd, restic, borg, kopia)")
	scale := flag.String("scale", "10000,100000", "numbers of files for the row scale")
	flag.IntVar(&o.runs, "runs", 3, "how often each row is measured; the median counts")
	flag.StringVar(&o.work, "work", "/dev/shm/backupd-bench", "working directory, on a RAM disk")
	flag.StringVar(&o.cache, "cache", ".cache/bench", "where downloaded sources are kept")
	flag.StringVar(&o.out, "out", "", "where the report goes; default docs/benchmarks.md when all rows run, else nowhere")
	flag.StringVar(&o.tree, "tree", "auto", "source tree: debian (linux-source by apt), synthetic, or auto; KERNEL_A and KERNEL_B go first")
	flag.IntVar(&o.files, "files", 78000, "files of the synthetic tree")
	flag.IntVar(&o.dumpMB, "dump", 100, "megabytes of the text dump")
	flag.IntVar(&o.days, "days", 32, "daily versions of the text dump")
	flag.IntVar(&o.streamMB, "stream", 2048, "megabytes of the incompressible stream")
	flag.StringVar(&o.backupd, "backupd", "bin/backupd", "the binary to measure")
	flag.BoolVar(&o.keep, "keep", false, "leave the source trees in the working directory for the next run")
	flag.Parse()
	if flag.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", flag.Arg(0))
	}
	var err error
	if o.rows, err = parseRows(*rows); err != nil {
		return o, err
	}
	for _, field := range strings.Split(*scale, ",") {
		var n int
		if _, err := fmt.Sscan(field, &n); err != nil || n < 1 {
			return o, fmt.Errorf("-scale %s: %q is no number of files", *scale, field)
		}
		o.scale = append(o.scale, n)
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	if o.out == "" && len(o.rows) == len(allRows) && o.only == nil {
		o.out = "docs/benchmarks.md"
	}
	if o.runs < 1 {
		return o, fmt.Errorf("-runs %d: at least one", o.runs)
	}
	for _, p := range []*string{&o.work, &o.cache, &o.backupd} {
		if *p, err = filepath.Abs(*p); err != nil {
			return o, err
		}
	}
	return o, nil
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

func run() error {
	o, err := parse()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := os.MkdirAll(o.work, 0o700); err != nil {
		return err
	}
	if !o.keep {
		defer os.RemoveAll(o.work)
	}
	if err := room(o.work, o.need()); err != nil {
		return err
	}
	tools, err := findTools(ctx, o)
	if err != nil {
		return err
	}
	b := &bench{o: o, tools: tools, results: results{}, notes: map[string]string{}}
	if o.anyTree() {
		if err := b.measureTree(ctx); err != nil {
			return err
		}
	}
	if o.rows["dump"] {
		if err := b.measureDump(ctx); err != nil {
			return err
		}
	}
	if o.rows["stream"] {
		if err := b.measureStream(ctx); err != nil {
			return err
		}
	}
	if o.rows["scale"] {
		if err := b.measureScale(ctx); err != nil {
			return err
		}
	}
	report := b.report(describe(o.work))
	fmt.Print(report)
	if o.out == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(o.out, []byte(report), 0o644)
}

func (o options) anyTree() bool {
	return slices.ContainsFunc(treeRows, func(r string) bool { return o.rows[r] })
}

// need estimates the bytes the working directory has to hold at once.
func (o options) need() int64 {
	need := int64(0)
	if o.anyTree() {
		need = 6 << 30
		if o.tree == "synthetic" {
			need = int64(o.files) * 80 << 10
		}
	}
	if o.rows["dump"] {
		need = max(need, int64(o.dumpMB)*int64(o.days+4)<<20)
	}
	if o.rows["stream"] {
		need = max(need, int64(o.streamMB)*3<<20)
	}
	return need
}

func room(dir string, need int64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return err
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fmt.Errorf("%s has %s free and needs %s: name another place with -work, or less data (-files, -dump, -stream)", dir, size(free), size(need))
	}
	return nil
}
