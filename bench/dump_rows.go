package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// measureDumps takes each kind of dump that was asked for through its days.
func (b *bench) measureDumps(ctx context.Context) error {
	for _, kind := range dumpKinds {
		if !b.o.rows[kind.row] {
			continue
		}
		source, err := kind.begin(ctx, b.o)
		if err != nil {
			return fmt.Errorf("%s: %w", kind.row, err)
		}
		err = b.ofKind(kind.row).measureDump(ctx, source, kind.row, kind.what, kind.file)
		if err := errors.Join(err, source.close()); err != nil {
			return fmt.Errorf("%s: %w", kind.row, err)
		}
	}
	return nil
}

// measureDump takes a dump through its days, all tools in turn each day, and restores it as it was on the last
// and on the first.
func (b *bench) measureDump(ctx context.Context, source daily, row, what, file string) (err error) {
	dir := filepath.Join(b.o.work, row)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	name := filepath.Join(dir, file)
	first, last := map[string]string{}, map[string]string{} // tool to id
	for _, t := range b.tools {
		if err := t.reset(ctx); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(t.home)) }()
	}
	var samples []sampled
	for day := range b.o.days {
		if day > 0 {
			if err := source.nextDay(ctx); err != nil {
				return err
			}
		}
		if err := source.write(ctx, name); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s, day %d of %d\n", row, day+1, b.o.days)
		for _, t := range b.tools {
			id, err := b.take(ctx, t, map[bool]string{true: row + " first", false: row + " a day"}[day == 0], name)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			if last[t.name] = id; day == 0 {
				first[t.name] = id
			}
			if err := b.size(t, row+" days"); err != nil {
				return err
			}
		}
		if isYear(row) && tells(day, b.o.days) {
			s, err := newSample(day, last, name)
			if err != nil {
				return err
			}
			samples = append(samples, s)
		}
		if day == 0 {
			if err := (command{argv: []string{"cp", name, name + ".first"}}).run(ctx); err != nil {
				return err
			}
		}
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	b.notes[row] = fmt.Sprintf("%d daily versions of %s; %d rows, %s at the end", b.o.days, what, source.rows(), size(info.Size()))
	for _, t := range b.tools {
		if err := b.size(t, row); err != nil {
			return err
		}
	}
	// In turn, as they are compared: each restores a version while the file at its path is that one.
	for run := range b.o.runs {
		if err := b.restoreDump(ctx, row+" last back", name, last, run == 0); err != nil {
			return err
		}
		if err := swap(name, name+".first"); err != nil {
			return err
		}
		if err := b.restoreDump(ctx, row+" first back", name, first, run == 0); err != nil {
			return err
		}
		if err := swap(name, name+".first"); err != nil {
			return err
		}
	}
	if isYear(row) {
		return b.restoreSampled(ctx, row, name, samples)
	}
	return nil
}

func (b *bench) restoreDump(ctx context.Context, row, name string, ids map[string]string, verify bool) error {
	for _, t := range b.tools {
		if err := b.restore(ctx, t, row, ids[t.name], name, verify); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}

// swap has two files change places.
func swap(a, b string) error {
	return errors.Join(os.Rename(a, a+".swap"), os.Rename(b, a), os.Rename(a+".swap", b))
}

// grown is by how much a tool's repository grew on a day and what the day's backup took.
func (b *bench) grown(who, row string, day int) (bytes int64, spent cost, ok bool) {
	stored, days := b.results[who][row+" days"], b.results[who][row+" a day"]
	first := b.results[who][row+" first"]
	if stored == nil || day >= len(stored.bytes) || first == nil || day > 0 && (days == nil || day > len(days.costs)) {
		return 0, cost{}, false
	}
	if day == 0 {
		return stored.bytes[0], first.costs[0], true
	}
	return stored.bytes[day] - stored.bytes[day-1], days.costs[day-1], true
}

// dayTable is the table of days of one kind of dump, beside the peers: all days, or of many those that tell
// most: the first, those around powers of two, where a base is far away, and the last.
func (b *bench) dayTable(row string) string {
	var w strings.Builder
	w.WriteString("| day |")
	for _, t := range b.tools {
		w.WriteString(" " + t.name + " |")
	}
	w.WriteString("\n|---|" + strings.Repeat("---|", len(b.tools)) + "\n")
	for day := range b.o.days {
		if !tells(day, b.o.days) {
			continue
		}
		fmt.Fprintf(&w, "| %d |", day)
		for _, t := range b.tools {
			if bytes, spent, ok := b.grown(t.name, row, day); ok {
				fmt.Fprintf(&w, " %s, %s |", size(bytes), seconds(spent.wall))
			} else {
				w.WriteString(" – |")
			}
		}
		w.WriteString("\n")
	}
	w.WriteString("| all |")
	for _, t := range b.tools {
		_, text, _ := b.stored(row)(t.name)
		fmt.Fprintf(&w, " %s |", text)
	}
	return w.String() + "\n"
}

func tells(day, days int) bool {
	if days <= 40 || day == 0 || day == days-1 {
		return true
	}
	return slices.ContainsFunc([]int{-1, 0, 1}, func(d int) bool { n := day + d; return n > 0 && n&(n-1) == 0 })
}

// dayFile is every day of every kind as comma-separated values.
func (b *bench) dayFile() string {
	var w strings.Builder
	w.WriteString("dump,day,tool,stored_bytes,wall_seconds,cpu_seconds\n")
	for _, kind := range dumpKinds {
		of := b.ofKind(kind.row)
		for day := range of.o.days {
			for _, t := range of.tools {
				if bytes, spent, ok := of.grown(t.name, kind.row, day); ok {
					fmt.Fprintf(&w, "%s,%d,%s,%d,%.3f,%.3f\n", kind.row, day, t.name, bytes, spent.wall.Seconds(), spent.cpu.Seconds())
				}
			}
		}
	}
	return w.String()
}
