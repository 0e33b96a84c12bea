package main

import (
	"cmp"
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

// imageSetting is where the image lies: on the RAM disk, or on a disk, where it is larger than what can be cached.
func (o options) imageSetting() setting {
	if !o.imageDisk {
		return setting{work: o.work, free: freeEnough}
	}
	return setting{work: o.disk, sync: true, cold: os.Getuid() == 0, free: freeEnough}
}

// needImage estimates the bytes that the image, a repository of it and a restored one take.
func (o options) needImage() int64 { return int64(o.imageMB) * 2_700_000 }

// measureImage backs up a disk of a virtual machine, once more after its guest has written here and there, and
// restores it.
func (b *bench) measureImage(ctx context.Context) (err error) {
	if b.o.imageDisk {
		if b, err = b.in(ctx, b.o.imageSetting()); err != nil {
			return err
		}
		if err := room(b.o.work, b.o.needImage()); err != nil {
			return err
		}
	}
	dir := filepath.Join(b.o.work, "image")
	name, out := filepath.Join(dir, "disk.img"), filepath.Join(dir, "out")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	m := newImage(b.o.imageMB)
	if err := m.write(name); err != nil {
		return err
	}
	pages, err := m.rewrite(filepath.Join(dir, "pages"))
	if err != nil {
		return err
	}
	where := ""
	if b.at.sync {
		where = fmt.Sprintf(" on a disk (%s), %s, a floor that writes ends with sync,", describeFileSystem(dir), map[bool]string{true: "the page cache dropped before each command", false: "in the page cache is what stayed there"}[b.at.cold])
	}
	b.notes["image"] = fmt.Sprintf("%d MB%s a ninth of it zeros and a third noise; %d of %d pages of 4 KiB written before the second backup, half at random and half in %d ranges; the hash of the floor is SHA-256 with the processor's instructions, on all cores",
		b.o.imageMB, cmp.Or(where, ","), len(pages.pages), m.pages, hotRanges)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for run := range b.o.runs {
		fmt.Fprintf(os.Stderr, "image, run %d of %d\n", run+1, b.o.runs)
		err := errors.Join(
			b.at.settle(ctx),
			b.floor(ctx, "image first", shell(dir, b.at.synced(`zstd -q -1 -T0 < "$1" > "$2"`, ""), name, out)),
			b.floor(ctx, "image again", command{argv: []string{self, "hash", name}}),
			b.floor(ctx, "image read", shell(dir, `cat "$1" > /dev/null`, name)),
			os.Remove(out),
			b.floor(ctx, "image back", shell(dir, b.at.synced(`cat "$1" > "$2"`, ""), name, out)),
			os.Remove(out))
		if err != nil {
			return err
		}
		for _, t := range b.tools {
			if !b.turn(t, run) {
				continue
			}
			if err := b.imageOf(ctx, t, name, pages, run == 0); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return nil
}

// imageOf takes a tool through both states of the image and leaves the first.
func (b *bench) imageOf(ctx context.Context, t *tool, name string, pages rewritten, verify bool) (err error) {
	if err := errors.Join(b.at.settle(ctx), t.reset(ctx)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.at.remove(t.home)) }()
	state := func(row string) (id string, err error) {
		if id, err = b.take(ctx, t, row, name); err != nil {
			return "", err
		}
		return id, b.size(t, row)
	}
	if _, err := state("image first"); err != nil {
		return err
	}
	if err := pages.swap(name); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pages.swap(name)) }()
	id, err := state("image again")
	if err != nil {
		return err
	}
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
