package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// smoke is a quick look whether a change made something slower. It knows only ratios to floors that run right before
// what they are compared with, so that a busy machine and another machine say about the same.
type smoke struct {
	b       *bench
	t       *tool
	usual   map[string]float64
	pairs   map[string][]float64 // ratios of the set that is being measured
	reached map[string]float64   // by row: the lowest median of a set so far
	tree    string               // where both versions stand in turn
	a, next string
	until   time.Time
}

const (
	smokePairs = 3
	// smokeMore is how much above the usual a ratio has fallen back: by a third.
	smokeMore = 4.0 / 3
	// smokeCores is how many cores all commands get, whatever the machine has: ratios depend on it.
	smokeCores = 2
	smokeFiles = 6000
	smokeScan  = 60_000 // empty files
	smokeDump  = 40     // megabytes
	smokeDays  = 6
)

// The rows, in the order in which they are measured.
var (
	smokeScans = []string{"unchanged"}
	smokeTree  = []string{"first", "check", "restore", "next"}
	smokeDumps = []string{"dump day", "dump last"}
	smokeRows  = slices.Concat(smokeScans, smokeTree, smokeDumps)
)

// runSmoke fails when a row stands a third above what smoke.json says.
func runSmoke(ctx context.Context, args []string) (err error) {
	var o options
	flags := flag.NewFlagSet("bench smoke", flag.ExitOnError)
	file := flags.String("usual", "bench/smoke.json", "the usual ratios")
	update := flags.Bool("update", false, "write what is measured as the usual ratios; on a quiet machine")
	budget := flags.Duration("budget", 120*time.Second, "no further set of pairs is begun after half of this")
	flags.StringVar(&o.work, "work", smokePlace(), "working directory, on a RAM disk where there is one")
	flags.StringVar(&o.backupd, "backupd", ownBinary, "the binary to measure")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o.only, o.tree, o.files = []string{"backupd"}, "synthetic", smokeFiles
	if err := o.absolute(); err != nil {
		return err
	}
	s := smoke{usual: map[string]float64{}, reached: map[string]float64{}, until: time.Now().Add(*budget / 2)}
	if !*update {
		text, err := os.ReadFile(*file)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &s.usual); err != nil {
			return fmt.Errorf("%s: %w", *file, err)
		}
	}
	if err := os.MkdirAll(o.work, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.work)) }()
	if err := room(o.work, 1<<30); err != nil {
		return err
	}
	tools, err := findTools(ctx, o)
	if err != nil {
		return err
	}
	at := setting{work: o.work}
	if runtime.NumCPU() > smokeCores {
		at.pin, at.max = fmt.Sprintf("0-%d", smokeCores-1), smokeCores
	}
	s.b, s.t = &bench{o: o, tools: tools, results: results{}, notes: map[string]string{}, at: at}, tools[0]
	if err := errors.Join(s.measure(ctx, smokeScans, s.scanSet), s.measure(ctx, smokeTree, s.treeSet), s.measure(ctx, smokeDumps, s.dumpSet)); err != nil {
		return err
	}
	fmt.Print(s.table())
	if *update {
		text, err := json.MarshalIndent(rounded(s.reached), "", "\t")
		if err != nil {
			return err
		}
		return os.WriteFile(*file, append(text, '\n'), 0o644)
	}
	return s.verdict()
}

// smokePlace is a RAM disk if the system has one.
func smokePlace() string {
	dir := "/dev/shm"
	if room(dir, 1<<30) != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, fmt.Sprintf("backupd-smoke-%d", os.Getpid()))
}

func rounded(ratios map[string]float64) map[string]float64 {
	out := maps.Clone(ratios)
	for row, r := range out {
		out[row] = float64(int(r*100+0.5)) / 100
	}
	return out
}

// measure runs a set of pairs, and again while a row of it stands too high and there is time: a neighbour that took
// the processor for a while does so only for a while, what has become slower stays so.
func (s *smoke) measure(ctx context.Context, rows []string, set func(context.Context) error) error {
	for {
		s.pairs = map[string][]float64{}
		if err := set(ctx); err != nil {
			return err
		}
		high := false
		for _, row := range rows {
			m := middle(s.pairs[row])
			if was, ok := s.reached[row]; !ok || m < was {
				s.reached[row] = m
			}
			high = high || s.limit(row) > 0 && s.reached[row] > s.limit(row)
		}
		if !high || time.Now().After(s.until) {
			return nil
		}
	}
}

// limit is the greatest ratio of a row that passes, 0 when none is known.
func (s *smoke) limit(row string) float64 { return s.usual[row] * smokeMore }

func middle(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	if len(list) == 0 {
		return 0
	}
	return list[len(list)/2]
}

// pair measures a floor and then what is compared with it.
func (s *smoke) pair(ctx context.Context, row string, floor, ours command) (stdout string, err error) {
	floor.delays, ours.delays = true, true
	base, _, err := s.b.at.measure(ctx, floor)
	if err != nil {
		return "", err
	}
	spent, stdout, err := s.b.at.measure(ctx, ours)
	if err == nil {
		ratio := spent.unhindered().Seconds() / base.unhindered().Seconds()
		s.pairs[row] = append(s.pairs[row], ratio)
		fmt.Fprintf(os.Stderr, "  %-10s %s against %s: %.2f\n", row, seconds(spent.unhindered()), seconds(base.unhindered()), ratio)
	}
	return stdout, err
}

// scanSet looks at many files of which none has changed. What they hold does not matter then, so they are empty.
func (s *smoke) scanSet(ctx context.Context) (err error) {
	dir := filepath.Join(s.b.o.work, "scan")
	if err := errors.Join((shape{files: smokeScan}).write(dir), s.t.reset(ctx)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir), os.RemoveAll(s.t.home)) }()
	backup := s.t.command(s.t.backup(s.t, dir))
	if err := backup.run(ctx); err != nil {
		return err
	}
	for range 2*smokePairs + 1 {
		if _, err := s.pair(ctx, "unchanged", shell(s.b.o.work, `find "$1" -printf '%s %T@\n' > /dev/null`, dir), backup); err != nil {
			return err
		}
	}
	return nil
}

// treeSet is smokePairs lives of a repository with a synthetic source tree.
func (s *smoke) treeSet(ctx context.Context) error {
	work := s.b.o.work
	s.tree, s.a, s.next = filepath.Join(work, "src"), filepath.Join(work, "a"), filepath.Join(work, "b")
	if _, err := os.Stat(s.a); err != nil {
		for version, dir := range []string{s.a, s.next} {
			if err := (synthetic{s.b.o.files, version}).write(dir); err != nil {
				return err
			}
		}
	}
	for range smokePairs {
		if err := errors.Join(s.treeOnce(ctx), os.RemoveAll(s.t.home)); err != nil {
			return err
		}
	}
	return nil
}

func (s *smoke) treeOnce(ctx context.Context) (err error) {
	if err := s.t.reset(ctx); err != nil {
		return err
	}
	home := filepath.Join(s.b.o.work, "floor")
	file, out, back := filepath.Join(home, "f"), filepath.Join(home, "out"), s.t.in("back")
	if err := errors.Join(os.RemoveAll(home), os.MkdirAll(out, 0o700), os.Rename(s.a, s.tree)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(home)) }()
	here := s.a
	defer func() { err = errors.Join(err, os.Rename(s.tree, here)) }()
	pack := shell(home, `tar c -C "$1" . | zstd -q -1 -T0 > "$2"`, s.tree, file)
	backup := s.t.command(s.t.backup(s.t, s.tree))
	stdout, err := s.pair(ctx, "first", pack, backup)
	if err != nil {
		return err
	}
	id := s.t.id(s.t, stdout)
	if _, err := s.pair(ctx, "check", pack, s.t.command(s.t.check(s.t))); err != nil {
		return err
	}
	if _, err := s.pair(ctx, "restore", shell(home, `zstd -q -dc "$1" | tar x -C "$2"`, file, out), s.t.command(s.t.restore(s.t, id, back))); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(s.tree, here), os.Rename(s.next, s.tree)); err != nil {
		return err
	}
	here = s.next
	_, err = s.pair(ctx, "next", pack, backup)
	return err
}

// dumpSet takes a text dump through some days, a day against compressing it, and restores the last against the first.
func (s *smoke) dumpSet(ctx context.Context) (err error) {
	if err := s.t.reset(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.t.home)) }()
	d := newDump(smokeDump, anywhere)
	name := filepath.Join(s.b.o.work, "messages.sql")
	pack := shell(s.b.o.work, `zstd -q -1 -T0 < "$1" > "$2"`, name, name+".zst")
	var first, last string
	for day := range smokeDays {
		if day > 0 {
			d.turn()
		}
		if err := d.write(ctx, name); err != nil {
			return err
		}
		row := "dump day"
		if day == 0 {
			row = "dump 0" // the first has no base and is not judged
		}
		stdout, err := s.pair(ctx, row, pack, s.t.command(s.t.backup(s.t, name)))
		if err != nil {
			return err
		}
		if last = s.t.id(s.t, stdout); day == 0 {
			first = last
		}
	}
	for i := range 2*smokePairs + 1 {
		from := s.t.command(s.t.restore(s.t, first, s.t.in(fmt.Sprint("first", i))))
		to := s.t.command(s.t.restore(s.t, last, s.t.in(fmt.Sprint("last", i))))
		if _, err := s.pair(ctx, "dump last", from, to); err != nil {
			return err
		}
	}
	return nil
}

// table is what was measured, for people.
func (s *smoke) table() string {
	var w strings.Builder
	fmt.Fprintf(&w, "%-12s %8s %8s %8s\n", "row", "ratio", "usual", "limit")
	for _, row := range smokeRows {
		fmt.Fprintf(&w, "%-12s %8.2f %8.2f %8.2f\n", row, s.reached[row], s.usual[row], s.limit(row))
	}
	return w.String()
}

// verdict names the rows that fell back.
func (s *smoke) verdict() error {
	var back []string
	for _, row := range smokeRows {
		switch {
		case s.usual[row] <= 0:
			back = append(back, row+" (the file of usual ratios does not know it: -update)")
		case s.reached[row] > s.limit(row):
			back = append(back, fmt.Sprintf("%s (%.2f times its floor, usually %.2f)", row, s.reached[row], s.usual[row]))
		}
	}
	if len(back) > 0 {
		return fmt.Errorf("slower by more than a third: %s", strings.Join(back, ", "))
	}
	return nil
}
