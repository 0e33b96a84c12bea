package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// bench holds the figures of one run of the harness.
type bench struct {
	o       options
	tools   []*tool
	results results
	notes   map[string]string // by row: what was measured
	at      setting
}

// results are costs and sizes by who ("floor", a tool's name) and row.
type results map[string]map[string]*figure

// figure is all that was seen of one who in one row.
type figure struct {
	costs []cost
	bytes []int64
}

func (rs results) at(who, row string) *figure {
	if rs[who] == nil {
		rs[who] = map[string]*figure{}
	}
	if rs[who][row] == nil {
		rs[who][row] = &figure{}
	}
	return rs[who][row]
}

func (rs results) cost(who, row string, c cost) {
	f := rs.at(who, row)
	f.costs = append(f.costs, c)
	fmt.Fprintf(os.Stderr, "  %-9s %-20s %8.3f s  cpu %8.3f s  peak %s\n", who, row, c.wall.Seconds(), c.cpu.Seconds(), size(c.anon))
}

func (rs results) bytes(who, row string, n int64) {
	f := rs.at(who, row)
	f.bytes = append(f.bytes, n)
	fmt.Fprintf(os.Stderr, "  %-9s %-20s %s\n", who, row, size(n))
}

// wants tells whether one of some rows was asked for. Under another setting than the table's all rows of the tree are.
func (b *bench) wants(rows ...string) bool {
	for _, r := range rows {
		if b.o.rows[r] || b.at.name != "" {
			return true
		}
	}
	return false
}

// floor measures a command that bounds a row from below.
func (b *bench) floor(ctx context.Context, row string, c command) error {
	spent, _, err := b.at.measure(ctx, c)
	if err == nil {
		b.results.cost("floor", b.at.row(row), spent)
	}
	return err
}

// take has a tool back up one path, measures it, and returns the snapshot's id.
func (b *bench) take(ctx context.Context, t *tool, row, path string) (id string, err error) {
	t.taken++
	spent, stdout, err := b.at.measure(ctx, t.command(t.backup(t, path)))
	if err != nil {
		return "", err
	}
	b.results.cost(t.name, b.at.row(row), spent)
	return t.id(t, stdout), nil
}

// size records how much a tool has stored.
func (b *bench) size(t *tool, row string) error {
	n, err := t.stored()
	if err == nil {
		b.results.bytes(t.name, b.at.row(row), n)
	}
	return err
}

// turn tells whether a tool has its turn in a run.
func (b *bench) turn(t *tool, run int) bool { return t.name == "backupd" || run < b.o.peerRuns }

// stored is the size of the repository as files have it.
func (t *tool) stored() (int64, error) { return treeSize(t.in("repo")) }

func treeSize(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

func count(dir string) (files int, bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			files++
			bytes += info.Size()
		}
		return err
	})
	return files, bytes, err
}
