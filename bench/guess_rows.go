package main

import (
	"context"
	"encoding/json"
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
		// state backs up one of the two at the path both have, and notes what that added.
		state := func(from, row string) (id string, err error) {
			if err := os.Rename(from, src); err != nil {
				return "", err
			}
			defer func() { err = errors.Join(err, os.Rename(src, from)) }()
			was, err := t.stored()
			if err != nil {
				return "", err
			}
			if id, err = b.take(ctx, t, row, src); err != nil {
				return "", err
			}
			is, err := t.stored()
			b.results.bytes(t.name, row, is-was)
			return id, err
		}
		for range b.o.runs {
			if err := t.reset(ctx); err != nil {
				return err
			}
			if _, err := state(before, "guess "+g.name+" before"); err != nil {
				return err
			}
			id, err := state(after, "guess "+g.name)
			if err != nil {
				return err
			}
			if err := errors.Join(b.guessBack(ctx, t, "guess "+g.name+" back", id), t.reset(ctx)); err != nil {
				return err
			}
			if _, err = state(after, "guess "+g.name+" plain"); err != nil {
				return err
			}
		}
	}
	return nil
}

// guessBack restores the later state and notes how many chunks the repository has.
func (b *bench) guessBack(ctx context.Context, t *tool, row, id string) error {
	target := t.in("back")
	spent, _, err := b.at.measure(ctx, t.command(t.restore(t, id, target)))
	if err != nil {
		return err
	}
	b.results.cost(t.name, row, spent)
	_, stdout, err := t.command([]string{"repo", "stats", "--json"}).measure(ctx)
	if err != nil {
		return err
	}
	var stats struct {
		Chunks int64 `json:"chunks"`
	}
	if err := json.Unmarshal([]byte(stdout), &stats); err != nil {
		return fmt.Errorf("repo stats: %w", err)
	}
	f := b.results.at(t.name, row)
	f.bytes = append(f.bytes, stats.Chunks)
	return os.RemoveAll(target)
}

// guessTable compares both, in processor time and bytes.
func (b *bench) guessTable() string {
	var w strings.Builder
	w.WriteString("| change | processor time on the version before | stored plain | ratio | added on the version before | stored plain | processor time of its restore | chunks of both versions |\n|---|---|---|---|---|---|---|---|\n")
	for _, g := range guesses {
		rows := b.results["backupd"]
		with, plain, back := rows["guess "+g.name], rows["guess "+g.name+" plain"], rows["guess "+g.name+" back"]
		if with == nil || plain == nil || back == nil || len(plain.bytes) == 0 {
			continue
		}
		spent, than := median(with.costs).cpu, median(plain.costs).cpu
		fmt.Fprintf(&w, "| %s | %s | %s | %.2f × | %s | %s | %s | %d |\n", g.what, seconds(spent), seconds(than), spent.Seconds()/than.Seconds(),
			size(with.bytes[0]), size(plain.bytes[0]), seconds(median(back.costs).cpu), back.bytes[0])
	}
	return w.String()
}
