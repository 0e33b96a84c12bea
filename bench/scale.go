package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// growth is the measurement of make scale: how the time of a file and the memory grow with the number of files.
type growth struct {
	o       options
	counts  []int
	empty   []int // counts of empty files
	kinds   []string
	runs    int
	flatMax int
	rowsMax int
	backMax int
	csv     string
	svg     string
}

// point is one step on one tree by one tool.
type point struct {
	tool, kind, step string
	files            int
	wall, cpu        time.Duration
	anon             int64
	stored           int64
}

// growthKinds are the trees that grow. Empty files tell what a file costs besides its bytes, and more of them fit.
var growthKinds = []struct{ name, what string }{
	{"rows", "files of about 280 bytes, 250 to a directory"},
	{"empty", "empty files, 250 to a directory"},
	{"flat", "empty files, all in one directory"},
}

var growthSteps = []string{"first", "unchanged", "restore", "check"}

// runScale measures growth and writes it as a table and as a plot.
func runScale(ctx context.Context, args []string) (err error) {
	var g growth
	flags := flag.NewFlagSet("bench scale", flag.ExitOnError)
	counts := flags.String("counts", "10000,100000,1000000", "numbers of files, by comma")
	empty := flags.String("empty-counts", "", "numbers of empty files, by comma; default: -counts")
	kinds := flags.String("kinds", "rows,empty,flat", "trees: rows (small files), empty (empty files), flat (one directory)")
	tools := flags.String("tools", "backupd", "tools to run, by comma")
	flags.IntVar(&g.runs, "runs", 3, "how often each step is measured; the median counts; one run above a million files")
	flags.IntVar(&g.rowsMax, "rows-max", 1_000_000, "above so many files only empty ones")
	flags.IntVar(&g.flatMax, "flat-max", 1_000_000, "no directory of more entries")
	flags.IntVar(&g.backMax, "restore-max", 0, "above so many files nothing is restored; 0: always. A tree that does not fit twice is removed before it is restored")
	flags.StringVar(&g.o.work, "work", "/dev/shm/backupd-scale", "working directory, on a RAM disk; on a disk what stands before a step is synced")
	flags.StringVar(&g.csv, "csv", "docs/scale.csv", "where the figures go; - prints them")
	flags.StringVar(&g.svg, "svg", "docs/scale.svg", "where the plot goes; - for none")
	flags.StringVar(&g.o.backupd, "backupd", ownBinary, "the binary to measure")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if g.counts, err = parseCounts(*counts); err != nil {
		return err
	}
	if g.empty = g.counts; *empty != "" {
		if g.empty, err = parseCounts(*empty); err != nil {
			return err
		}
	}
	slices.Sort(g.counts)
	slices.Sort(g.empty)
	g.kinds, g.o.only = strings.Split(*kinds, ","), strings.Split(*tools, ",")
	for _, kind := range g.kinds {
		if !slices.ContainsFunc(growthKinds, func(k struct{ name, what string }) bool { return k.name == kind }) {
			return fmt.Errorf("no tree %q; there are rows, empty and flat", kind)
		}
	}
	if g.runs < 1 {
		return fmt.Errorf("-runs %d: at least one", g.runs)
	}
	if err := g.o.absolute(); err != nil {
		return err
	}
	if err := os.MkdirAll(g.o.work, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(g.o.work)) }()
	points, err := g.measure(ctx)
	if len(points) == 0 {
		return err
	}
	return errors.Join(err, g.write(points))
}

// measure goes through kinds and counts. What was measured before something failed is worth writing, and what does not fit
// leaves the others alone.
func (g growth) measure(ctx context.Context) (points []point, err error) {
	for _, kind := range g.kinds {
		counts := g.counts
		if kind == "empty" {
			counts = g.empty
		}
		for _, n := range counts {
			if kind == "rows" && n > g.rowsMax || kind == "flat" && n > g.flatMax {
				continue
			}
			s := shape{files: n, flat: kind == "flat"}
			if kind == "rows" {
				s.bytes = -1
			}
			if lack := s.fits(g.o.work); lack != nil {
				fmt.Fprintf(os.Stderr, "%s, %d files: %v\n", kind, n, lack)
				err = errors.Join(err, fmt.Errorf("%s, %d files: %w", kind, n, lack))
				continue
			}
			more, failed := g.grow(ctx, kind, s)
			points = append(points, more...)
			if failed != nil {
				return points, errors.Join(err, fmt.Errorf("%s, %d files: %w", kind, n, failed))
			}
		}
	}
	return points, err
}

func (g growth) grow(ctx context.Context, kind string, s shape) (points []point, err error) {
	o := g.o
	o.work = filepath.Join(g.o.work, "home")
	dir := filepath.Join(g.o.work, "tree")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	tools, err := findTools(ctx, o)
	if err != nil {
		return nil, err
	}
	runs := g.runs
	if s.files > 1_000_000 {
		runs = 1
	}
	fmt.Fprintf(os.Stderr, "scale, %d files, %s\n", s.files, kind)
	system, _ := fileSystem(g.o.work)
	b := &bench{o: o, tools: tools, results: results{}, notes: map[string]string{}, at: setting{work: o.work, sync: system != "tmpfs", free: max(freeEnough, int64(s.files)<<13)}}
	for run := range runs {
		if err := b.growFloor(ctx, s, dir); err != nil {
			return points, fmt.Errorf("floor: %w", err)
		}
		for _, t := range tools {
			if err := b.growOnce(ctx, t, s, dir, g.backMax == 0 || s.files <= g.backMax, run == 0 && s.files <= 100_000); err != nil {
				return points, fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	add := func(name, size string) {
		for _, step := range growthSteps {
			if b.results[name][step] == nil { // it was left out
				continue
			}
			m := median(b.results[name][step].costs)
			points = append(points, point{tool: name, kind: kind, step: step, files: s.files, wall: m.wall, cpu: m.cpu, anon: m.anon, stored: b.results[name][size].bytes[0]})
		}
	}
	for _, t := range tools {
		add(t.name, "first")
	}
	add("floor", "size")
	return points, nil
}

// growFloor makes the tree if it is not there and measures the floors of first, unchanged and restore on it, to tell what grows
// in the kernel from what grows in a tool. What does not fit twice has none.
func (b *bench) growFloor(ctx context.Context, s shape, dir string) error {
	if err := errors.Join(os.MkdirAll(b.at.work, 0o700), b.at.settle(ctx), s.writeOnce(dir)); err != nil {
		return err
	}
	if s.fits(b.o.work) != nil {
		return nil
	}
	return b.floorsOf(ctx, "", dir)
}

// growOnce makes the tree if it is not there, backs it up twice, checks all data and restores it. What would not fit twice is
// removed before it is restored; then there is nothing to compare with, so small trees are kept and compared.
func (b *bench) growOnce(ctx context.Context, t *tool, s shape, dir string, back, verify bool) (err error) {
	if err := errors.Join(os.MkdirAll(b.at.work, 0o700), b.at.settle(ctx), t.reset(ctx)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.at.remove(t.home)) }()
	if err := s.writeOnce(dir); err != nil {
		return err
	}
	if _, err = b.take(ctx, t, "first", dir); err != nil {
		return err
	}
	if err := b.size(t, "first"); err != nil {
		return err
	}
	id, err := b.take(ctx, t, "unchanged", dir)
	if err != nil {
		return err
	}
	c, _, err := b.at.measure(ctx, t.command(t.check(t)))
	if err != nil {
		return err
	}
	b.results.cost(t.name, b.at.row("check"), c)
	if !back {
		return nil
	}
	if s.fits(b.o.work) != nil {
		if err := errors.Join(os.RemoveAll(dir), b.at.settle(ctx)); err != nil {
			return err
		}
		verify = false
	}
	return b.restore(ctx, t, "restore", id, dir, verify)
}

// write leaves the figures as comma-separated values, and the plot of them.
func (g growth) write(points []point) error {
	var w strings.Builder
	w.WriteString("tool,tree,step,files,wall_seconds,cpu_seconds,us_per_file,peak_anonymous_bytes,stored_bytes\n")
	for _, p := range points {
		fmt.Fprintf(&w, "%s,%s,%s,%d,%.3f,%.3f,%.2f,%d,%d\n", p.tool, p.kind, p.step, p.files, p.wall.Seconds(), p.cpu.Seconds(), p.perFile(), p.anon, p.stored)
	}
	fmt.Print(w.String())
	if g.csv != "-" {
		if err := os.WriteFile(g.csv, []byte(w.String()), 0o644); err != nil {
			return err
		}
	}
	if g.svg == "-" {
		return nil
	}
	return os.WriteFile(g.svg, []byte(growthPlot(points)), 0o644)
}

// perFile is the time of a file in microseconds.
func (p point) perFile() float64 { return float64(p.wall.Nanoseconds()) / 1e3 / float64(p.files) }
