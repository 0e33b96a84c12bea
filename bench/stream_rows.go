package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// measureStream pipes bytes that cannot be compressed nor found again into each tool.
func (b *bench) measureStream(ctx context.Context) error {
	name := filepath.Join(b.o.work, "stream")
	defer os.Remove(name)
	if err := writeNoise(name, int64(b.o.streamMB)*1_000_000); err != nil {
		return err
	}
	b.notes["stream"] = fmt.Sprintf("%d MB of random bytes on standard input", b.o.streamMB)
	for run := range b.o.runs {
		fmt.Fprintf(os.Stderr, "stream, run %d of %d\n", run+1, b.o.runs)
		out := filepath.Join(b.o.work, "copy")
		err := b.floor(ctx, "stream", command{argv: []string{"sh", "-c", `cat > "$1"`, "sh", out}, stdin: name})
		if err := errors.Join(err, os.Remove(out)); err != nil {
			return err
		}
		for _, t := range b.tools {
			if !b.turn(t, run) {
				continue
			}
			if err := t.reset(ctx); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			t.taken++
			c := t.command(t.stdin(t, "stream"))
			c.stdin = name
			spent, _, err := b.at.measure(ctx, c)
			if err := errors.Join(err, os.RemoveAll(t.home)); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			b.results.cost(t.name, "stream", spent)
		}
	}
	return nil
}
