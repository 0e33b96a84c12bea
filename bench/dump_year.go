package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// dumpYear and hotYear are the rows of a smaller dump over a year: whether restores stay as fast and the repository as small.
const dumpYear, hotYear = "dump-year", "dump-year-hot"

func isYear(row string) bool { return row == dumpYear || row == hotYear }

// yearMB and yearDays are what it is without flags.
const yearMB, yearDays = 30, 365

// ofKind is the harness for one kind of dump: a year of days has flags of its own, and is for backupd alone unless the
// peers were asked for.
func (b *bench) ofKind(row string) *bench {
	if !isYear(row) {
		return b
	}
	year := *b
	year.o.days = b.o.yearDays
	if !b.o.yearPeers {
		year.tools = slices.DeleteFunc(slices.Clone(b.tools), func(t *tool) bool { return t.name != "backupd" })
	}
	return &year
}

// sampled is one day of a year: what each tool called it, and the dump's digest and size.
type sampled struct {
	day    int
	ids    map[string]string
	digest [32]byte
	bytes  int64
}

func newSample(day int, ids map[string]string, name string) (sampled, error) {
	sum, err := digest(name)
	if err != nil {
		return sampled{}, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return sampled{}, err
	}
	return sampled{day, maps.Clone(ids), sum, info.Size()}, nil
}

// restoreSampled restores each sampled day as often as asked, compares it in the first run with what the dump was, and
// keeps as the row's worst the day with the greatest median for a byte: in a year the dump becomes twice as large. The first
// of the days and the last are the row's own.
func (b *bench) restoreSampled(ctx context.Context, row, name string, days []sampled) error {
	for _, t := range b.tools {
		var worst []cost
		of := days[0] // the worst's day
		for _, d := range days {
			var costs []cost
			for run := range b.o.runs {
				spent, err := b.restoreDay(ctx, t, d, name, run == 0)
				if err != nil {
					return fmt.Errorf("%s, day %d: %w", t.name, d.day, err)
				}
				b.results.cost(t.name, b.at.row(row+" sampled back"), spent)
				costs = append(costs, spent)
			}
			if worst == nil || perMB(costs, d.bytes) > perMB(worst, of.bytes) {
				worst, of = costs, d
			}
		}
		*b.results.at(t.name, b.at.row(row+" worst back")) = figure{costs: worst, bytes: []int64{of.bytes}}
		for which, d := range map[string]sampled{" first back": days[0], " last back": days[len(days)-1]} {
			b.results.at(t.name, b.at.row(row+which)).bytes = []int64{d.bytes}
		}
		b.notes[row+", "+t.name] = fmt.Sprintf("the worst to restore of %d sampled days is day %d, %s of %s", len(days), of.day, seconds(median(worst).wall), size(of.bytes))
	}
	return nil
}

func (b *bench) restoreDay(ctx context.Context, t *tool, d sampled, name string, verify bool) (spent cost, err error) {
	target := t.in("restored")
	if err := os.MkdirAll(target, 0o700); err != nil {
		return cost{}, err
	}
	defer func() { err = errors.Join(err, b.at.remove(target)) }()
	c, landed := t.inTarget(d.ids[t.name], name, target)
	if spent, _, err = b.at.measure(ctx, c); err != nil || !verify {
		return spent, err
	}
	got, err := digest(landed)
	if err == nil && got != d.digest {
		err = fmt.Errorf("%s is not what the dump was", landed)
	}
	return spent, err
}

// perMB is the median of some times for each megabyte of so many bytes, in seconds.
func perMB(costs []cost, bytes int64) float64 {
	return median(costs).wall.Seconds() / (float64(bytes) / 1e6)
}

// yearBack makes the value function of a restore for each megabyte.
func (b *bench) yearBack(year, which string) func(string) (float64, string, bool) {
	return func(who string) (float64, string, bool) {
		f := b.results[who][b.at.row(year+which+" back")]
		if f == nil || len(f.costs) == 0 || len(f.bytes) == 0 {
			return 0, "", false
		}
		v := perMB(f.costs, f.bytes[0])
		return v, fmt.Sprintf("%.1f ms/MB", v*1000), true
	}
}

// yearLines are those that only a year of dumps has.
func (b *bench) yearLines(year string) []line {
	firstBack, firstDay := b.yearBack(year, " first"), func(who string) float64 {
		bytes, _, _ := b.grown(who, year, 0)
		return float64(bytes)
	}
	perDay := func(who string) (float64, string, bool) {
		f := b.results[who][year+" a day"]
		if f == nil {
			return 0, "", false
		}
		all := time.Duration(0)
		for _, c := range f.costs {
			all += c.wall
		}
		mean := all / time.Duration(len(f.costs))
		return mean.Seconds(), seconds(mean), true
	}
	firstBackup := b.wall(year + " first")
	lines := []line{
		{row: year, what: "what its days added, to its first", floor: "its first: " + size(int64(firstDay("backupd"))), base: firstDay,
			value: func(who string) (float64, string, bool) {
				all, _, ok := b.stored(year)(who)
				added := all - firstDay(who)
				return added, size(int64(added)), ok
			}},
		{row: year, what: "backup of a day, on average", floor: "its first: " + text(firstBackup, "backupd"), value: perDay, base: func(who string) float64 { return value(firstBackup, who) }},
		{row: year, what: "restore of its last, for each MB", floor: "its first: " + text(firstBack, "backupd"), value: b.yearBack(year, " last"), base: func(who string) float64 { return value(firstBack, who) }, target: 2},
		{row: year, what: "restore of the worst of some days, for each MB", floor: "its first: " + text(firstBack, "backupd"), value: b.yearBack(year, " worst"), base: func(who string) float64 { return value(firstBack, who) }, target: 2},
	}
	for i := range lines {
		if strings.HasSuffix(lines[i].floor, ": 0 kB") {
			lines[i].floor = ""
		}
	}
	return lines
}
