package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
)

// measureImage backs up a disk of a virtual machine, once more after its guest has written here and there, and
// restores it.
func (b *bench) measureImage(ctx context.Context) (err error) {
	dir := filepath.Join(b.o.work, "image")
	name, before, out := filepath.Join(dir, "disk.img"), filepath.Join(dir, "before.img"), filepath.Join(dir, "out")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	m := newImage(b.o.imageMB)
	if err := m.write(name); err != nil {
		return err
	}
	if err := (command{argv: []string{"cp", name, before}}).run(ctx); err != nil {
		return err
	}
	n, err := m.rewrite(name)
	if err != nil {
		return err
	}
	after := filepath.Join(dir, "after.img")
	if err := os.Rename(name, after); err != nil {
		return err
	}
	b.notes["image"] = fmt.Sprintf("%d MB, a ninth of it zeros and a third noise; %d of %d pages of 4 KiB written before the second backup, half at random and half in %d ranges; the hash of the floor is SHA-256 with the processor's instructions, on all cores",
		b.o.imageMB, n, m.pages, hotRanges)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for run := range b.o.runs {
		fmt.Fprintf(os.Stderr, "image, run %d of %d\n", run+1, b.o.runs)
		err := errors.Join(
			b.floor(ctx, "image first", shell(dir, `zstd -q -1 -T0 < "$1" > "$2"`, before, out)),
			b.floor(ctx, "image again", command{argv: []string{self, "hash", after}}),
			b.floor(ctx, "image read", shell(dir, `cat "$1" > /dev/null`, after)),
			b.floor(ctx, "image back", shell(dir, `cat "$1" > "$2"`, after, out)),
			os.Remove(out))
		if err != nil {
			return err
		}
		for _, t := range b.tools {
			if !b.turn(t, run) {
				continue
			}
			if err := b.imageOf(ctx, t, name, before, after, run == 0); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return nil
}

// imageOf lets both states of the image stand at one path, one after the other.
func (b *bench) imageOf(ctx context.Context, t *tool, name, before, after string, verify bool) (err error) {
	if err := t.reset(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.home)) }()
	state := func(from, row string) (id string, err error) {
		if err := os.Rename(from, name); err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, os.Rename(name, from)) }()
		if id, err = b.take(ctx, t, row, name); err != nil {
			return "", err
		}
		return id, b.size(t, row)
	}
	if _, err := state(before, "image first"); err != nil {
		return err
	}
	id, err := state(after, "image again")
	if err != nil {
		return err
	}
	if err := os.Rename(after, name); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Rename(name, after)) }()
	return b.restore(ctx, t, "image back", id, name, verify)
}

// hashFile is the floor of reading and naming what is read: a digest of each MiB, on all cores.
func hashFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	const strip = 1 << 20
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			buf, h := make([]byte, strip), sha256.New()
			for off := int64(w) * strip; off < info.Size() && errs[w] == nil; off += int64(workers) * strip {
				errs[w] = hashStrip(f, h, buf, off)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func hashStrip(f *os.File, h hash.Hash, buf []byte, off int64) error {
	n, err := f.ReadAt(buf, off)
	if err != nil && err != io.EOF {
		return err
	}
	h.Reset()
	h.Write(buf[:n])
	h.Sum(buf[:0])
	return nil
}
