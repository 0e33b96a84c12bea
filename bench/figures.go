package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"
)

// saved is the file of -figures: what runs of some rows each have measured, so that one report can hold all of them.
type saved struct {
	Sizes   string
	Rows    map[string]bool
	Notes   map[string]string
	Results map[string]map[string]savedFigure
}

type savedFigure struct {
	Costs []savedCost `json:",omitempty"`
	Bytes []int64     `json:",omitempty"`
}

type savedCost struct {
	Wall, CPU time.Duration
	Anon      int64
}

// sizes is what has to be the same for figures to stand in one report.
func (o options) sizes() string {
	return fmt.Sprintf("dump %d MB, %d days, stream %d MB, scale %v, small %d, image %d MB, sparse %d GB, tree %s %d",
		o.dumpMB, o.days, o.streamMB, o.scale, o.small, o.imageMB, o.sparseGB, o.tree, o.files)
}

// remember puts the figures of this run over those in the file, and those of the file's other rows beside this run's.
func (b *bench) remember(name string) error {
	old := saved{Sizes: b.o.sizes(), Rows: map[string]bool{}, Notes: map[string]string{}, Results: map[string]map[string]savedFigure{}}
	text, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(text, &old)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", name, err)
	}
	if old.Sizes != b.o.sizes() {
		return fmt.Errorf("%s is of runs with other sizes (%s): name another file", name, old.Sizes)
	}
	for who, rows := range b.results {
		if old.Results[who] == nil {
			old.Results[who] = map[string]savedFigure{}
		}
		for row, f := range rows {
			old.Results[who][row] = f.save()
		}
	}
	maps.Copy(old.Rows, b.o.rows)
	maps.Copy(old.Notes, b.notes)
	b.o.rows, b.notes = old.Rows, old.Notes
	for who, rows := range old.Results {
		for row, f := range rows {
			*b.results.at(who, row) = f.load()
		}
	}
	if text, err = json.MarshalIndent(old, "", "\t"); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, text, 0o644)
}

func (f *figure) save() savedFigure {
	s := savedFigure{Bytes: f.bytes}
	for _, c := range f.costs {
		s.Costs = append(s.Costs, savedCost{c.wall, c.cpu, c.anon})
	}
	return s
}

func (s savedFigure) load() figure {
	f := figure{bytes: s.Bytes}
	for _, c := range s.Costs {
		f.costs = append(f.costs, cost{wall: c.Wall, cpu: c.CPU, anon: c.Anon})
	}
	return f
}
