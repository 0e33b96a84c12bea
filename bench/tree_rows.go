package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// measureTree runs the rows of the source tree: floors and each tool in turn, as often as asked.
func (b *bench) measureTree(ctx context.Context) error {
	// Both versions come to stand at the same path, one after the other, as they do in life.
	a, next, src := filepath.Join(b.o.work, "a"), filepath.Join(b.o.work, "b"), filepath.Join(b.o.work, "src")
	if _, err := os.Stat(src); err == nil { // a run before was stopped in the middle
		return fmt.Errorf("%s is left from a run before: remove %s", src, b.o.work)
	}
	what, err := makeTrees(ctx, b.o, a, next)
	if err != nil {
		return err
	}
	if b.notes["tree"] == "" {
		files, bytes, err := count(a)
		if err != nil {
			return err
		}
		changed, err := different(ctx, a, next)
		if err != nil {
			return err
		}
		b.notes["tree"] = fmt.Sprintf("%s: %d files, %s; %d files differ in the next version", what, files, size(bytes), changed)
		fmt.Fprintln(os.Stderr, b.notes["tree"])
	}
	if b.at.name != "" {
		b.notes[b.at.name] = fmt.Sprintf("%s (%s)", b.at.what, describeFileSystem(b.o.work))
	}
	for run := range b.o.runs {
		if err := b.at.settle(ctx, a, next); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "tree %s, run %d of %d\n", b.at.name, run+1, b.o.runs)
		if err := b.floors(ctx, a); err != nil {
			return err
		}
		for _, t := range b.tools {
			if !b.turn(t, run) {
				continue
			}
			if err := b.tree(ctx, t, a, next, src, run == 0); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return nil
}

// different counts the files that are not the same in both trees.
func different(ctx context.Context, a, b string) (int, error) {
	_, list, err := command{argv: []string{"diff", "-rq", "--no-dereference", a, b}, okay: []int{1}}.measure(ctx)
	return strings.Count(list, "\n"), err
}

// floors are what nothing that does the work can be much faster than.
func (b *bench) floors(ctx context.Context, tree string) error { return b.floorsOf(ctx, "", tree) }

// floorsOf measures the floors of a tree as the rows that begin with prefix.
func (b *bench) floorsOf(ctx context.Context, prefix, tree string) (err error) {
	home := filepath.Join(b.o.work, "floor")
	if err := os.RemoveAll(home); err != nil {
		return err
	}
	out, file := filepath.Join(home, "out"), filepath.Join(home, "f")
	if err := os.MkdirAll(out, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.at.remove(home)) }()
	if err := b.floor(ctx, prefix+"first", shell(home, b.at.synced(`tar c -C "$1" . | zstd -q -1 -T0 > "$2"`, ""), tree, file)); err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	b.results.bytes("floor", b.at.row(prefix+"size"), info.Size())
	if err := b.floor(ctx, prefix+"restore", shell(home, b.at.synced(`zstd -q -dc "$1" | tar x -C "$2"`, "-f"), file, out)); err != nil {
		return err
	}
	return b.floor(ctx, prefix+"unchanged", shell(home, `find "$1" -printf '%s %T@\n' > /dev/null`, tree))
}

// tree takes one tool through a repository's life with the source tree.
func (b *bench) tree(ctx context.Context, t *tool, a, next, src string, verify bool) (err error) {
	if err := t.reset(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.at.remove(t.home)) }()
	if err := os.Rename(a, src); err != nil {
		return err
	}
	here := a // where src goes back to
	defer func() { err = errors.Join(err, os.Rename(src, here)) }()

	id, err := b.take(ctx, t, "first", src)
	if err != nil {
		return err
	}
	if err := b.size(t, "size"); err != nil {
		return err
	}
	if b.wants("unchanged") {
		if id, err = b.take(ctx, t, "unchanged", src); err != nil {
			return err
		}
	}
	if b.wants("check") {
		c, _, err := b.at.measure(ctx, t.command(t.check(t)))
		if err != nil {
			return err
		}
		b.results.cost(t.name, b.at.row("check"), c)
	}
	if b.wants("restore", "again", "memory") {
		if err := b.restore(ctx, t, "restore", id, src, verify); err != nil {
			return err
		}
	}
	if b.wants("next", "size", "memory") {
		if err := errors.Join(os.Rename(src, here), os.Rename(next, src)); err != nil {
			return err
		}
		here = next
		if id, err = b.take(ctx, t, "next", src); err != nil {
			return err
		}
		if err := b.size(t, "size2"); err != nil {
			return err
		}
		if verify && b.at.name == "" && b.wants("restore") { // once is enough, it takes as long as a restore
			return b.restore(ctx, t, "restore next", id, src, true)
		}
	}
	return nil
}

// restore measures a restore, and on the first run lets rsync compare it with the source. What the row
// again asks for is restored a second time over itself.
func (b *bench) restore(ctx context.Context, t *tool, row, id, src string, verify bool) (err error) {
	target := t.in("restored")
	if err := os.MkdirAll(target, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.at.remove(target)) }()
	c, landed := t.inTarget(id, src, target)
	spent, _, err := b.at.measure(ctx, c)
	if err != nil {
		return err
	}
	b.results.cost(t.name, b.at.row(row), spent)
	if verify {
		if err := b.compare(ctx, t, src, landed); err != nil {
			return err
		}
	}
	if row == "restore" && b.wants("again") && t.again != nil {
		return b.again(ctx, t, id, target)
	}
	return nil
}

func (b *bench) compare(ctx context.Context, t *tool, src, landed string) error {
	info, err := os.Stat(src)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return sameFile(src, landed)
	}
	return sameTree(ctx, src, landed, t.name == "kopia")
}

// again restores over what was restored just now, and counts the files it touched.
func (b *bench) again(ctx context.Context, t *tool, id, target string) error {
	// A file system's clock is that of the kernel's last tick: what is touched from here on is later.
	time.Sleep(20 * time.Millisecond)
	stamp := float64(time.Now().Add(-5*time.Millisecond).UnixMicro()) / 1e6
	c := t.command(t.again(t, id, target))
	spent, _, err := b.at.measure(ctx, c)
	if err != nil {
		return err
	}
	b.results.cost(t.name, b.at.row("again"), spent)
	_, list, err := shell(target, `find . -type f -newerct "@$1" -printf x`, fmt.Sprintf("%.6f", stamp)).measure(ctx)
	if n := len(list); err == nil && n > 0 {
		b.notes["again, "+t.name] = fmt.Sprintf("%d files were touched by the restore over itself", n)
	}
	return err
}
