package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// measureScale backs up ever more small files, to see whether the cost of one stays the same.
func (b *bench) measureScale(ctx context.Context) error {
	b.notes["scale"] = "files of 100 to 300 bytes in directories of 250, first and unchanged backup"
	for _, n := range b.o.scale {
		dir := filepath.Join(b.o.work, "scale")
		if err := (shape{files: n, bytes: -1}).write(dir); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "scale, %d files\n", n)
		for range b.o.runs {
			for _, t := range b.tools {
				if err := t.reset(ctx); err != nil {
					return fmt.Errorf("%s: %w", t.name, err)
				}
				for _, row := range []string{"scale first", "scale unchanged"} {
					if _, err := b.take(ctx, t, fmt.Sprintf("%s %d", row, n), dir); err != nil {
						return fmt.Errorf("%s: %w", t.name, err)
					}
				}
				if err := os.RemoveAll(t.home); err != nil {
					return err
				}
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}
