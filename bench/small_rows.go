package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// fewFiles is how many files the row few takes out of the snapshot of all of them.
const fewFiles = 20

// measureSmall backs up a great number of files of 1 KiB, where the cost of a file is what counts, and takes a few of
// them out of the snapshot again.
func (b *bench) measureSmall(ctx context.Context) (err error) {
	s := shape{files: b.o.small, bytes: 1 << 10}
	dir := filepath.Join(b.o.work, "small")
	if err := s.write(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b.notes["small"] = fmt.Sprintf("%d files of 1 KiB in directories of %d; few: %d of them, one by one at equal distances", s.files, perDirectory, fewFiles)
	var few []string
	for i := range fewFiles {
		few = append(few, filepath.Join(dir, s.path(i*(s.files/fewFiles)+s.files/fewFiles/2)))
	}
	for run := range b.o.runs {
		fmt.Fprintf(os.Stderr, "small, run %d of %d\n", run+1, b.o.runs)
		if b.wants("small") {
			if err := b.floorsOf(ctx, "small ", dir); err != nil {
				return err
			}
		}
		if err := b.copyFew(ctx, dir, few); err != nil {
			return err
		}
		for _, t := range b.tools {
			if !b.turn(t, run) {
				continue
			}
			if err := b.smallOf(ctx, t, dir, few, run == 0); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return nil
}

func (b *bench) smallOf(ctx context.Context, t *tool, dir string, few []string, verify bool) (err error) {
	if err := t.reset(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.home)) }()
	id, err := b.take(ctx, t, "small first", dir)
	if err != nil {
		return err
	}
	if err := b.size(t, "small size"); err != nil {
		return err
	}
	if b.wants("small") {
		if id, err = b.take(ctx, t, "small unchanged", dir); err != nil {
			return err
		}
		if err := b.restore(ctx, t, "small restore", id, dir, verify); err != nil {
			return err
		}
	}
	if b.wants("few") && t.few != nil {
		return b.takeFew(ctx, t, id, dir, few)
	}
	return nil
}

// copyFew is the floor of the row few: a program that starts and copies them.
func (b *bench) copyFew(ctx context.Context, dir string, few []string) (err error) {
	out := filepath.Join(b.o.work, "few")
	if err := os.MkdirAll(out, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(out)) }()
	return b.floor(ctx, "few", command{argv: append([]string{"cp", "-a", "-t", out}, few...)})
}

// takeFew restores some files out of a snapshot of many and compares each.
func (b *bench) takeFew(ctx context.Context, t *tool, id, dir string, few []string) (err error) {
	target := t.in("few")
	if err := os.MkdirAll(target, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(target)) }()
	c := t.few(t, id, dir, few, target)
	spent, _, err := b.at.measure(ctx, c)
	if err != nil {
		return err
	}
	b.results.cost(t.name, b.at.row("few"), spent)
	for _, name := range few {
		if err := sameFile(name, t.landed(name, dir, target)); err != nil {
			return err
		}
	}
	n, _, err := count(target)
	if err == nil && n != len(few) {
		err = fmt.Errorf("%d files were restored, not the %d asked for", n, len(few))
	}
	return err
}
