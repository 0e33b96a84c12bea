package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// measureGuesses backs up each change twice, in turn: on the state before it, and into an empty repository, where all is
// stored plain. Only backupd: the peers do not guess.
func (b *bench) measureGuesses(ctx context.Context) (err error) {
	dir := filepath.Join(b.o.work, "guesses")
	before, after, src := filepath.Join(dir, "before"), filepath.Join(dir, "after"), filepath.Join(dir, "src")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	t := b.tools[0]
	if t.name != "backupd" {
		return errors.New("guesses: there is no backupd to measure")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.home)) }()
	for _, g := range guesses {
		for _, state := range []string{before, after} {
			if err := errors.Join(os.RemoveAll(state), os.MkdirAll(state, 0o700)); err != nil {
				return err
			}
			if err := g.write(ctx, b.o, state, state == after); err != nil {
				return fmt.Errorf("guesses, %s: %w", g.name, err)
			}
		}
		// state backs up one of the two at the path both have.
		state := func(from, row string) (grew int64, err error) {
			if err := os.Rename(from, src); err != nil {
				return 0, err
			}
			defer func() { err = errors.Join(err, os.Rename(src, from)) }()
			was, err := t.stored()
			if err != nil {
				return 0, err
			}
			if _, err := b.take(ctx, t, row, src); err != nil {
				return 0, err
			}
			is, err := t.stored()
			return is - was, err
		}
		for range b.o.runs {
			if err := t.reset(ctx); err != nil {
				return err
			}
			if _, err := state(before, "guess "+g.name+" before"); err != nil {
				return err
			}
			grew, err := state(after, "guess "+g.name)
			if err != nil {
				return err
			}
			b.results.bytes(t.name, "guess "+g.name, grew)
			if err := t.reset(ctx); err != nil {
				return err
			}
			if grew, err = state(after, "guess "+g.name+" plain"); err != nil {
				return err
			}
			b.results.bytes(t.name, "guess "+g.name+" plain", grew)
		}
	}
	return nil
}

// guessTable compares both, in processor time and bytes.
func (b *bench) guessTable() string {
	var w strings.Builder
	w.WriteString("| change | processor time on the version before | stored plain | ratio | added on the version before | stored plain |\n|---|---|---|---|---|---|\n")
	for _, g := range guesses {
		with, plain := b.results["backupd"]["guess "+g.name], b.results["backupd"]["guess "+g.name+" plain"]
		if with == nil || plain == nil || len(plain.bytes) == 0 {
			continue
		}
		spent, than := median(with.costs).cpu, median(plain.costs).cpu
		fmt.Fprintf(&w, "| %s | %s | %s | %.2f × | %s | %s |\n", g.what, seconds(spent), seconds(than), spent.Seconds()/than.Seconds(),
			size(with.bytes[0]), size(plain.bytes[0]))
	}
	return w.String()
}
