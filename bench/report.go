package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 10_000_000_000:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 10_000_000:
		return fmt.Sprintf("%d MB", (n+500_000)/1_000_000)
	case n >= 100_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%d kB", (n+999)/1000)
}

func seconds(d time.Duration) string {
	switch {
	case d >= 100*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f ms", float64(d.Microseconds())/1000)
}

// line is one row of the report: a value per tool, what it is compared with, and the target as a
// greatest ratio to that.
type line struct {
	row    string
	what   string
	floor  string // "" where the comparison is with something else
	value  func(who string) (float64, string, bool)
	base   func(who string) float64 // what a value is divided by; nil or 0 when there is nothing
	ratio  func(who string) float64 // instead of that; nil, or 0 when there is none
	target float64
	goal   string // the target in words
	over   bool   // a value below the target misses it
}

// paired is the median of the ratios of each run to the floor in the same run, as a machine is not equally fast all day.
func (b *bench) paired(key, floorKey string) func(string) float64 {
	return func(who string) float64 {
		return inPairs(b.results[who][b.at.row(key)], b.results["floor"][b.at.row(floorKey)])
	}
}

// inPairs is the median of the ratios of each run of one thing to the same run of another, 0 when there are not as many.
func inPairs(f, base *figure) float64 {
	if f == nil || base == nil || len(f.costs) == 0 || len(f.costs) > len(base.costs) {
		return 0
	}
	ratios := make([]float64, len(f.costs))
	for i := range ratios {
		ratios[i] = f.costs[i].wall.Seconds() / base.costs[i].wall.Seconds()
	}
	slices.Sort(ratios)
	n := len(ratios)
	return (ratios[n/2] + ratios[(n-1)/2]) / 2
}

// wall makes the value function of a measured time.
func (b *bench) wall(row string) func(string) (float64, string, bool) {
	return func(who string) (float64, string, bool) {
		f := b.results[who][b.at.row(row)]
		if f == nil || len(f.costs) == 0 {
			return 0, "", false
		}
		m := median(f.costs).wall
		return m.Seconds(), seconds(m), true
	}
}

func (b *bench) stored(row string) func(string) (float64, string, bool) {
	return func(who string) (float64, string, bool) {
		f := b.results[who][b.at.row(row)]
		if f == nil || len(f.bytes) == 0 {
			return 0, "", false
		}
		list := slices.Sorted(slices.Values(f.bytes))
		n := list[len(list)/2]
		return float64(n), size(n), true
	}
}

// peak is the greatest memory over some rows.
func (b *bench) peak(rows ...string) func(string) (float64, string, bool) {
	return func(who string) (float64, string, bool) {
		most, seen := int64(0), false
		for _, row := range rows {
			if f := b.results[who][b.at.row(row)]; f != nil && len(f.costs) > 0 {
				most, seen = max(most, median(f.costs).anon), true
			}
		}
		return float64(most), size(most), seen
	}
}

// report writes the figures as Markdown.
func (b *bench) report(machine string) string {
	var w strings.Builder
	w.WriteString("# Benchmarks\n\nWritten by `make bench`; figures are medians. A ratio to a floor is the median of the ratios of each run to the floor that ran just before it on the same data.\n\n")
	fmt.Fprintf(&w, "* Machine: %s\n", machine)
	for _, t := range b.tools {
		fmt.Fprintf(&w, "* %s: %s\n", t.name, t.version)
	}
	for _, row := range slices.Sorted(maps.Keys(b.notes)) {
		fmt.Fprintf(&w, "* %s: %s\n", row, b.notes[row])
	}
	for _, row := range b.o.left {
		fmt.Fprintf(&w, "* not measured: %s\n", row)
	}
	fmt.Fprintf(&w, "* Before each command %d GB of free memory are written to and given back, so that none waits for the host of a virtual machine to find its pages again.\n", int64(freeEnough>>30))
	fmt.Fprintf(&w, "* Tools in turn, as often as stands below under *All figures*; opened with a key file or password file; memory is what all processes of a command have resident but for the pages of files, sampled every %v.\n", sampleEvery)

	w.WriteString(b.tabulate(slices.DeleteFunc(b.lines(), func(l line) bool { return !b.o.rows[l.row] })))
	for _, s := range b.o.settings() {
		under := &bench{o: b.o, tools: b.tools, results: b.results, at: s}
		fmt.Fprintf(&w, "\n## The source tree on %s\n", s.what)
		if s.sync {
			w.WriteString("\nA floor that writes ends with `sync`: what it wrote lies on the disk then, as with backupd. Peers are left as they are. Every command begins with nothing left to be written, and nothing is deleted in a run.\n")
		}
		if s.sync && !s.cold {
			w.WriteString("\nbackupd gives the page cache of its packs back when they are written: its check and restore read the disk, those of floor and peers what they have just written there.\n")
		}
		w.WriteString(under.tabulate(under.treeLines()))
	}
	for _, kind := range dumpKinds {
		if b.o.rows[kind.row] {
			fmt.Fprintf(&w, "\n## Day by day: %s\n\nWhat a day's backup added to the repository, and how long it took.\n\n%s", kind.what, b.ofKind(kind.row).dayTable(kind.row))
		}
	}
	if b.o.rows["guesses"] {
		w.WriteString("\n## Guesses\n\nA backup after a change, on the version before it and into an empty repository. A wrong guess of what the new data are like costs what the ratio stands above one.\n\n" + b.guessTable())
	}
	if dir := filepath.Dir(b.o.out); b.o.out != "" {
		if b.o.anyOf(dumpRows) {
			w.WriteString("\nEvery day of every dump: [dump-days.csv](dump-days.csv).\n")
		}
		if _, err := os.Stat(filepath.Join(dir, "scale.svg")); err == nil {
			w.WriteString("\n## Growth\n\nTime per file and memory over the number of files, written by `make scale` ([scale.csv](scale.csv)); the time of starting is in it.\n\n![time per file and peak memory over the number of files](scale.svg)\n")
		}
	}
	w.WriteString("\n## All figures\n\n| | | runs | wall | least | most | cpu | peak memory | bytes |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, who := range append([]string{"floor"}, names(b.tools)...) {
		for _, row := range sortedRows(b.results[who]) {
			w.WriteString(detail(who, row, b.results[who][row]))
		}
	}
	return w.String()
}

// tabulate writes lines as a table with a column for each peer.
func (b *bench) tabulate(lines []line) string {
	var w strings.Builder
	head, ruler := "| | floor or base | backupd | ratio | target | reached |", "|---|---|---|---|---|---|"
	for _, t := range b.tools {
		if t.name != "backupd" {
			head += " " + t.name + " |"
			ruler += "---|"
		}
	}
	fmt.Fprintf(&w, "\n%s\n%s\n", head, ruler)
	for _, l := range lines {
		w.WriteString(b.render(l))
	}
	return w.String()
}

func (b *bench) render(l line) string {
	cell := func(who string) (text, shown string, ratio float64, ok bool) {
		v, s, ok := l.value(who)
		if !ok {
			return "–", "–", 0, false
		}
		if l.base == nil || l.base(who) == 0 {
			return s, "–", 0, true
		}
		ratio = v / l.base(who)
		if l.ratio != nil && l.ratio(who) > 0 {
			ratio = l.ratio(who)
		}
		return s, fmt.Sprintf("%.2f ×", ratio), ratio, true
	}
	goal := l.goal
	switch {
	case goal == "" && l.target == 0:
		goal = "–"
	case goal == "":
		goal = fmt.Sprintf("≤ %.2f ×", l.target)
	}
	text, shown, ratio, ok := cell("backupd")
	reached := "–"
	if ok && ratio > 0 && l.target > 0 {
		reached = "**no**"
		if l.over && ratio >= l.target || !l.over && ratio <= l.target {
			reached = "yes"
		}
	}
	floor := l.floor
	if strings.HasSuffix(floor, ": ") || floor == "" {
		floor = "–"
	}
	out := fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", l.what, floor, text, shown, goal, reached)
	for _, t := range b.tools {
		if t.name == "backupd" {
			continue
		}
		text, shown, _, ok := cell(t.name)
		if ok && shown != "–" {
			text += " (" + shown + ")"
		}
		out += " " + text + " |"
	}
	return out + "\n"
}

func names(tools []*tool) (list []string) {
	for _, t := range tools {
		list = append(list, t.name)
	}
	return list
}

func sortedRows(rows map[string]*figure) []string {
	list := make([]string, 0, len(rows))
	for row := range rows {
		list = append(list, row)
	}
	slices.Sort(list)
	return list
}

func detail(who, row string, f *figure) string {
	wall, least, most, cpu, anon, bytes := "", "", "", "", "", ""
	if len(f.costs) > 0 {
		m := median(f.costs)
		lo, hi := f.costs[0].wall, f.costs[0].wall
		for _, c := range f.costs {
			lo, hi = min(lo, c.wall), max(hi, c.wall)
		}
		wall, least, most, cpu, anon = seconds(m.wall), seconds(lo), seconds(hi), seconds(m.cpu), size(m.anon)
	}
	if len(f.bytes) > 0 {
		list := slices.Sorted(slices.Values(f.bytes))
		bytes = size(list[len(list)/2])
	}
	return fmt.Sprintf("| %s | %s | %d | %s | %s | %s | %s | %s | %s |\n", who, row, max(len(f.costs), len(f.bytes)), wall, least, most, cpu, anon, bytes)
}
