package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// sparseExtent and sparseExtents are what a sparse file holds beside its holes.
const (
	sparseExtent  = 1 << 20
	sparseExtents = 64
)

// measureSparse backs up a file that is nearly all hole. Peers read the holes, which takes them minutes: they
// have one turn and restore nothing, as what they restore may not fit.
func (b *bench) measureSparse(ctx context.Context) (err error) {
	dir := filepath.Join(b.o.work, "sparse")
	name, out := filepath.Join(dir, "sparse.img"), filepath.Join(dir, "out")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := writeSparse(name, int64(b.o.sparseGB)*1_000_000_000); err != nil {
		return err
	}
	b.notes["sparse"] = fmt.Sprintf("%d GB, all hole but for %d MiB of rows in %d places; the peers read the holes, in one run, and restore nothing", b.o.sparseGB, sparseExtent*sparseExtents>>20, sparseExtents)
	for run := range b.o.runs {
		fmt.Fprintf(os.Stderr, "sparse, run %d of %d\n", run+1, b.o.runs)
		err := errors.Join(
			b.floor(ctx, "sparse first", shell(dir, `tar cS sparse.img | zstd -q -1 -T0 > "$1"`, out)),
			b.floor(ctx, "sparse back", shell(dir, `mkdir back; zstd -q -dc "$1" | tar xS -C back`, out)),
			os.Remove(out), os.RemoveAll(filepath.Join(dir, "back")))
		if err != nil {
			return err
		}
		for _, t := range b.tools {
			if t.name != "backupd" && run > 0 {
				continue
			}
			if err := b.sparseOf(ctx, t, name, run == 0); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return nil
}

func (b *bench) sparseOf(ctx context.Context, t *tool, name string, verify bool) (err error) {
	if err := t.reset(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.home)) }()
	id, err := b.take(ctx, t, "sparse first", name)
	if err != nil {
		return err
	}
	if err := b.size(t, "sparse first"); err != nil || t.name != "backupd" {
		return err
	}
	target := t.in("restored")
	c, landed := t.inTarget(id, name, target)
	spent, _, err := b.at.measure(ctx, c)
	if err != nil {
		return err
	}
	b.results.cost(t.name, b.at.row("sparse back"), spent)
	if !verify {
		return nil
	}
	return sameSparse(ctx, name, landed)
}

func writeSparse(name string, length int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(length); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(100, 1))
	for i := range sparseExtents {
		text := shape{bytes: sparseExtent}.text(nil, i)
		at := (int64(i)*(length/sparseExtents) + r.Int64N(max(1, length/sparseExtents-sparseExtent))) &^ (pageSize - 1)
		if _, err := f.WriteAt(text, at); err != nil {
			return err
		}
	}
	return f.Close()
}
