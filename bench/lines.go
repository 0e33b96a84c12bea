package main

import (
	"fmt"
	"slices"
)

// greatestMemory is what a command may take at its peak, whatever it does.
const greatestMemory = 128e6

func of(base float64) func(string) float64 { return func(string) float64 { return base } }

func value(f func(string) (float64, string, bool), who string) float64 { v, _, _ := f(who); return v }

func text(f func(string) (float64, string, bool), who string) string { _, s, _ := f(who); return s }

// against is a line whose base is the floor's time in a row.
func (b *bench) against(row, what, key, floor, floorKey string, target float64) line {
	f := b.wall(floorKey)
	return line{row: row, what: what, value: b.wall(key), floor: floor + ": " + text(f, "floor"), base: of(value(f, "floor")), ratio: b.paired(key, floorKey), target: target}
}

// memory is a line about the greatest memory over some rows.
func (b *bench) memory(row, what string, keys ...string) line {
	return line{row: row, what: "peak anonymous memory, " + what, value: b.peak(keys...), base: of(greatestMemory), target: 1, goal: "≤ 128 MB"}
}

const (
	tarZstd = "tar c \\| zstd -1"
	zstdTar = "zstd -dc \\| tar x"
)

// treeLines are the rows of the source tree under the setting of b.
func (b *bench) treeLines() []line {
	tarball := b.stored("size")
	return []line{
		b.against("first", "first backup", "first", tarZstd, "first", 1.25),
		b.against("unchanged", "unchanged backup", "unchanged", "find", "unchanged", 2.0),
		b.against("next", "next version, all inodes new", "next", tarZstd, "first", 0.6),
		b.against("restore", "restore", "restore", zstdTar, "restore", 0.9),
		b.against("again", "restore over itself", "again", "find", "unchanged", 0),
		b.against("check", "check, reading all data", "check", tarZstd, "first", 0.35),
		{row: "size", what: "repository after the first version", floor: "its file: " + text(tarball, "floor"), value: tarball, base: of(value(tarball, "floor")), target: 1.10},
		{row: "size", what: "repository with both versions", floor: "its file: " + text(tarball, "floor"), value: b.stored("size2"), base: of(value(tarball, "floor")), target: 1.25},
		b.memory("memory", "backup", "first", "unchanged", "next"),
		b.memory("memory", "restore", "restore", "again"),
	}
}

// lines are the rows with a target, and what else is measured.
func (b *bench) lines() []line {
	list := b.treeLines()
	for _, kind := range dumpKinds {
		list = append(list, b.ofKind(kind.row).dumpLines(kind.row)...)
	}
	megabytes := float64(b.o.streamMB)
	list = append(list, line{row: "stream", what: "incompressible data, one stream", floor: "cat: " + rate(megabytes, value(b.wall("stream"), "floor")), base: of(1000), target: 1, goal: "≥ 1 GB/s", over: true,
		value: func(who string) (float64, string, bool) {
			s, _, ok := b.wall("stream")(who)
			if !ok {
				return 0, "", false
			}
			return megabytes / s, rate(megabytes, s), true
		}},
		b.memory("stream", "stream", "stream"))
	list = append(list, b.scaleLines()...)
	small, again, sparse := fmt.Sprintf("%d files of 1 KiB, ", b.o.small), fmt.Sprintf("image of %d MB, ", b.o.imageMB), fmt.Sprintf("sparse file of %d GB, ", b.o.sparseGB)
	return append(list,
		b.against("small", small+"first backup", "small first", tarZstd, "small first", 0),
		b.against("small", small+"unchanged backup", "small unchanged", "find", "small unchanged", 0),
		b.against("small", small+"restore", "small restore", zstdTar, "small restore", 0),
		b.memory("small", small+"backup and restore", "small first", "small unchanged", "small restore"),
		b.against("few", fmt.Sprintf("%d files out of the snapshot of %d", fewFiles, b.o.small), "few", "cp", "few", 0),
		b.against("image", again+"first backup", "image first", "zstd -1", "image first", 0),
		b.against("image", again+"1 % of its pages changed", "image again", "read and hash", "image again", 0),
		b.against("image", again+"restore", "image back", "cat", "image back", 0),
		b.memory("image", again+"backup and restore", "image first", "image again", "image back"),
		b.against("sparse", sparse+"backup", "sparse first", "tar cS \\| zstd -1", "sparse first", 0),
		b.against("sparse", sparse+"restore", "sparse back", "zstd -dc \\| tar xS", "sparse back", 0),
		b.memory("sparse", sparse+"backup and restore", "sparse first", "sparse back"))
}

// dumpLines are those of one kind of dump. There is a target for the repository of random rows as text only.
func (b *bench) dumpLines(row string) []line {
	what := fmt.Sprintf("repository of %d daily dumps", b.o.days)
	if row != "dump" {
		what += ", " + row[len("dump-"):]
	}
	stored := line{row: row, what: what, value: b.stored(row)}
	if row == "dump" {
		stored.target = 0.10
	}
	if peer, best := b.bestPeer(row); best > 0 {
		stored.floor, stored.base = peer, of(best)
	} else if row == "dump" {
		stored.goal = "≤ 0.10 × the best peer"
	}
	lastBack, firstBack := b.wall(row+" last back"), b.wall(row+" first back")
	back := line{row: row, what: "restore of its last", floor: "its first: " + text(firstBack, "backupd"), value: lastBack, base: func(who string) float64 { return value(firstBack, who) }, target: 2,
		ratio: func(who string) float64 {
			return inPairs(b.results[who][row+" last back"], b.results[who][row+" first back"])
		}}
	memory := b.memory(row, "dump", row+" first", row+" a day", row+" last back", row+" first back", row+" sampled back")
	if isYear(row) { // it becomes twice as large, and its last restore is compared by the megabyte
		return append([]line{stored, memory}, b.yearLines(row)...)
	}
	return []line{stored, back, memory}
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
