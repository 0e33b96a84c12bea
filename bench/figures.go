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
	text := fmt.Sprintf("dump %d MB, %d days, stream %d MB, scale %v, small %d, image %d MB, sparse %d GB, tree %s %d",
		o.dumpMB, o.days, o.streamMB, o.scale, o.small, o.imageMB, o.sparseGB, o.tree, o.files)
	if o.yearMB != yearMB || o.yearDays != yearDays { // else as before there was such a row
		text += fmt.Sprintf(", year %d MB, %d days", o.yearMB, o.yearDays)
	}
	if o.imageDisk {
		text += ", image on a disk"
	}
	return text
}

// readFigures reads the file, which need not be there yet, and refuses one of other sizes.
func (o options) readFigures() (saved, error) {
	s := saved{Sizes: o.sizes(), Rows: map[string]bool{}, Notes: map[string]string{}, Results: map[string]map[string]savedFigure{}}
	text, err := os.ReadFile(o.figures)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", o.figures, err)
	}
	if s.Sizes != o.sizes() {
		return s, fmt.Errorf("%s is of runs with other sizes (%s, not %s): name another file with -figures", o.figures, s.Sizes, o.sizes())
	}
	return s, nil
}

// save puts what this run has measured so far over what is in the file, for the rows that are done.
func (b *bench) save(done []string) error {
	if b.o.figures == "" {
		return nil
	}
	s, err := b.o.readFigures()
	if err != nil {
		return err
	}
	for who, rows := range b.results {
		if s.Results[who] == nil {
			s.Results[who] = map[string]savedFigure{}
		}
		for row, f := range rows {
			s.Results[who][row] = f.save()
		}
	}
	for _, row := range done {
		if b.o.rows[row] {
			s.Rows[row] = true
		}
	}
	maps.Copy(s.Notes, b.notes)
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(b.o.figures), 0o755); err != nil {
		return err
	}
	return os.WriteFile(b.o.figures, text, 0o644)
}

// load puts the file's rows beside this run's, so that they come into the report.
func (b *bench) load() error {
	if b.o.figures == "" {
		return nil
	}
	s, err := b.o.readFigures()
	if err != nil {
		return err
	}
	for who, rows := range s.Results {
		for row, f := range rows {
			*b.results.at(who, row) = f.load()
		}
	}
	maps.Copy(s.Rows, b.o.rows)
	b.o.rows, b.notes = s.Rows, s.Notes
	return nil
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
