package main

import (
	"fmt"
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
	target float64
	goal   string // the target in words
	over   bool   // a value below the target misses it
}

// wall makes the value function of a measured time.
func (b *bench) wall(row string) func(string) (float64, string, bool) {
	return func(who string) (float64, string, bool) {
		f := b.results[who][row]
		if f == nil || len(f.costs) == 0 {
			return 0, "", false
		}
		m := median(f.costs).wall
		return m.Seconds(), seconds(m), true
	}
}

func (b *bench) stored(row string) func(string) (float64, string, bool) {
	return func(who string) (float64, string, bool) {
		f := b.results[who][row]
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
			if f := b.results[who][row]; f != nil && len(f.costs) > 0 {
				most, seen = max(most, median(f.costs).anon), true
			}
		}
		return float64(most), size(most), seen
	}
}

// lines are the targets of the design, section 6.
func (b *bench) lines() []line {
	of := func(base float64) func(string) float64 { return func(string) float64 { return base } }
	value := func(f func(string) (float64, string, bool), who string) float64 { v, _, _ := f(who); return v }
	text := func(f func(string) (float64, string, bool), who string) string { _, s, _ := f(who); return s }
	first, scan, untar, tarball := b.wall("first"), b.wall("unchanged"), b.wall("restore"), b.stored("size")
	list := []line{
		{row: "first", what: "first backup", floor: "tar c \\| zstd -1: " + text(first, "floor"), value: first, base: of(value(first, "floor")), target: 1.25},
		{row: "unchanged", what: "unchanged backup", floor: "find: " + text(scan, "floor"), value: scan, base: of(value(scan, "floor")), target: 2.0},
		{row: "next", what: "next version, all inodes new", floor: "tar c \\| zstd -1: " + text(first, "floor"), value: b.wall("next"), base: of(value(first, "floor")), target: 0.6},
		{row: "restore", what: "restore", floor: "zstd -dc \\| tar x: " + text(untar, "floor"), value: untar, base: of(value(untar, "floor")), target: 0.9},
		{row: "check", what: "check, reading all data", floor: "tar c \\| zstd -1: " + text(first, "floor"), value: b.wall("check"), base: of(value(first, "floor")), target: 0.35},
		{row: "size", what: "repository after the first version", floor: "its file: " + text(tarball, "floor"), value: tarball, base: of(value(tarball, "floor")), target: 1.10},
		{row: "size", what: "repository with both versions", floor: "its file: " + text(tarball, "floor"), value: b.stored("size2"), base: of(value(tarball, "floor")), target: 1.25},
		{row: "memory", what: "peak anonymous memory, backup", value: b.peak("first", "unchanged", "next"), base: of(128e6), target: 1, goal: "≤ 128 MB"},
		{row: "memory", what: "peak anonymous memory, restore", value: b.peak("restore"), base: of(128e6), target: 1, goal: "≤ 128 MB"},
	}
	if peer, best := b.bestPeer("dump"); best > 0 {
		list = append(list, line{row: "dump", what: fmt.Sprintf("repository of %d daily dumps", b.o.days), floor: peer, value: b.stored("dump"), base: of(best), target: 0.10})
	} else {
		list = append(list, line{row: "dump", what: fmt.Sprintf("repository of %d daily dumps", b.o.days), value: b.stored("dump"), goal: "≤ 0.10 × the best peer"})
	}
	lastBack, firstBack := b.wall("dump last back"), b.wall("dump first back")
	list = append(list, line{row: "dump", what: "restore of the last dump", floor: "its first: " + text(firstBack, "backupd"), value: lastBack, base: func(who string) float64 { return value(firstBack, who) }, target: 2})
	list = append(list, line{row: "dump", what: "peak anonymous memory, dump", value: b.peak("dump first", "dump a day", "dump last back", "dump first back"), base: of(128e6), target: 1, goal: "≤ 128 MB"})
	megabytes := float64(b.o.streamMB)
	list = append(list, line{row: "stream", what: "incompressible data, one stream", floor: "cat: " + rate(megabytes, value(b.wall("stream"), "floor")), base: of(1000), target: 1, goal: "≥ 1 GB/s", over: true,
		value: func(who string) (float64, string, bool) {
			s, _, ok := b.wall("stream")(who)
			if !ok {
				return 0, "", false
			}
			return megabytes / s, rate(megabytes, s), true
		}})
	return append(list, b.scaleLines()...)
}

// scaleLines compare the cost of a file among many with that among few.
func (b *bench) scaleLines() (list []line) {
	few, many := slices.Min(b.o.scale), slices.Max(b.o.scale)
	for _, kind := range []string{"first", "unchanged"} {
		perFile := func(n int) func(string) (float64, string, bool) {
			return func(who string) (float64, string, bool) {
				s, _, ok := b.wall(fmt.Sprintf("scale %s %d", kind, n))(who)
				return s / float64(n), fmt.Sprintf("%.1f µs", s/float64(n)*1e6), ok
			}
		}
		list = append(list, flat(fmt.Sprintf("a file among %d, %s backup", many, kind), fmt.Sprintf("among %d", few), perFile(few), perFile(many)))
	}
	memory := func(n int) func(string) (float64, string, bool) { return b.peak(fmt.Sprintf("scale first %d", n)) }
	return append(list, flat(fmt.Sprintf("peak memory for %d files", many), fmt.Sprintf("for %d", few), memory(few), memory(many)))
}

// flat is a line whose base is the same tool's value for fewer files.
func flat(what, than string, few, many func(string) (float64, string, bool)) line {
	l := line{row: "scale", what: what, value: many, target: 1.1, goal: "flat: ≤ 1.1 ×"}
	l.base = func(who string) float64 { v, _, _ := few(who); return v }
	if _, text, ok := few("backupd"); ok {
		l.floor = than + ": " + text
	}
	return l
}

func rate(megabytes, s float64) string {
	if s == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f GB/s", megabytes/1000/s)
}

// bestPeer is the tool, backupd aside, that stored least.
func (b *bench) bestPeer(row string) (text string, best float64) {
	for _, t := range b.tools {
		if v, s, ok := b.stored(row)(t.name); ok && t.name != "backupd" && (best == 0 || v < best) {
			best, text = v, t.name+": "+s
		}
	}
	return text, best
}

// report writes the figures as Markdown.
func (b *bench) report(machine string) string {
	var w strings.Builder
	w.WriteString("# Benchmarks\n\nWritten by `make bench`; figures are medians, ratios are to the floor or base that ran beside them on the same data.\n\n")
	fmt.Fprintf(&w, "* Machine: %s\n", machine)
	for _, t := range b.tools {
		fmt.Fprintf(&w, "* %s: %s\n", t.name, t.version)
	}
	for _, row := range []string{"tree", "dump", "stream", "scale"} {
		if note := b.notes[row]; note != "" {
			fmt.Fprintf(&w, "* %s: %s\n", row, note)
		}
	}
	fmt.Fprintf(&w, "* %d runs, tools in turn; opened with a key file or password file; memory is RssAnon of all processes of a command, sampled every %v.\n", b.o.runs, sampleEvery)

	columns := []string{"| | floor or base | backupd | ratio | target | reached |"}
	ruler := "|---|---|---|---|---|---|"
	for _, t := range b.tools {
		if t.name != "backupd" {
			columns[0] += " " + t.name + " |"
			ruler += "---|"
		}
	}
	fmt.Fprintf(&w, "\n%s\n%s\n", columns[0], ruler)
	for _, l := range b.lines() {
		if b.o.rows[l.row] {
			w.WriteString(b.render(l))
		}
	}
	w.WriteString("\n## All figures\n\n| | | wall | least | most | cpu | peak memory | bytes |\n|---|---|---|---|---|---|---|---|\n")
	for _, who := range append([]string{"floor"}, names(b.tools)...) {
		for _, row := range sortedRows(b.results[who]) {
			w.WriteString(detail(who, row, b.results[who][row]))
		}
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
		return s, fmt.Sprintf("%.2f ×", ratio), ratio, true
	}
	goal := l.goal
	if goal == "" {
		goal = fmt.Sprintf("≤ %.2f ×", l.target)
	}
	text, shown, ratio, ok := cell("backupd")
	reached := "–"
	if ok && ratio > 0 {
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
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s |\n", who, row, wall, least, most, cpu, anon, bytes)
}
