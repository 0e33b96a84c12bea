package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// bench holds the figures of one run of the harness.
type bench struct {
	o       options
	tools   []*tool
	results results
	notes   map[string]string // by row: what was measured
}

// results are costs and sizes by who ("floor", a tool's name) and row.
type results map[string]map[string]*figure

// figure is all that was seen of one who in one row.
type figure struct {
	costs []cost
	bytes []int64
}

func (rs results) at(who, row string) *figure {
	if rs[who] == nil {
		rs[who] = map[string]*figure{}
	}
	if rs[who][row] == nil {
		rs[who][row] = &figure{}
	}
	return rs[who][row]
}

func (rs results) cost(who, row string, c cost) {
	f := rs.at(who, row)
	f.costs = append(f.costs, c)
	fmt.Fprintf(os.Stderr, "  %-9s %-14s %8.3f s  cpu %8.3f s  peak %s\n", who, row, c.wall.Seconds(), c.cpu.Seconds(), size(c.anon))
}

func (rs results) bytes(who, row string, n int64) {
	f := rs.at(who, row)
	f.bytes = append(f.bytes, n)
	fmt.Fprintf(os.Stderr, "  %-9s %-14s %s\n", who, row, size(n))
}

func (b *bench) wants(rows ...string) bool {
	for _, r := range rows {
		if b.o.rows[r] {
			return true
		}
	}
	return false
}

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
	for run := range b.o.runs {
		fmt.Fprintf(os.Stderr, "tree, run %d of %d\n", run+1, b.o.runs)
		if err := b.floors(ctx, a); err != nil {
			return err
		}
		for _, t := range b.tools {
			if err := b.tree(ctx, t, a, next, src, run == 0); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return nil
}

func count(dir string) (files int, bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			files++
			bytes += info.Size()
		}
		return err
	})
	return files, bytes, err
}

// different counts the files that are not the same in both trees.
func different(ctx context.Context, a, b string) (int, error) {
	_, list, err := command{argv: []string{"diff", "-rq", "--no-dereference", a, b}, okay: []int{1}}.measure(ctx)
	return strings.Count(list, "\n"), err
}

// floors are what nothing that does the work can be much faster than.
func (b *bench) floors(ctx context.Context, tree string) error {
	home := filepath.Join(b.o.work, "floor")
	if err := os.RemoveAll(home); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(home, "out"), 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(home)
	file := filepath.Join(home, "f")
	c, _, err := shell(home, `tar c -C "$1" . | zstd -q -1 -T0 > "$2"`, tree, file).measure(ctx)
	if err != nil {
		return err
	}
	b.results.cost("floor", "first", c)
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	b.results.bytes("floor", "size", info.Size())
	if c, _, err = shell(home, `zstd -q -dc "$1" | tar x -C "$2"`, file, filepath.Join(home, "out")).measure(ctx); err != nil {
		return err
	}
	b.results.cost("floor", "restore", c)
	if c, _, err = shell(home, `find "$1" -printf '%s %T@\n' > /dev/null`, tree).measure(ctx); err != nil {
		return err
	}
	b.results.cost("floor", "unchanged", c)
	return nil
}

// tree takes one tool through a repository's life with the source tree.
func (b *bench) tree(ctx context.Context, t *tool, a, next, src string, verify bool) (err error) {
	if err := t.reset(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.home)) }()
	if err := os.Rename(a, src); err != nil {
		return err
	}
	here := a // where src goes back to
	defer func() { err = errors.Join(err, os.Rename(src, here)) }()

	c, id, err := t.take(ctx, src)
	if err != nil {
		return err
	}
	b.results.cost(t.name, "first", c)
	if err := b.size(t, "size"); err != nil {
		return err
	}
	if b.wants("unchanged") {
		if c, id, err = t.take(ctx, src); err != nil {
			return err
		}
		b.results.cost(t.name, "unchanged", c)
	}
	if b.wants("check") {
		if c, _, err = t.command(t.check(t)).measure(ctx); err != nil {
			return err
		}
		b.results.cost(t.name, "check", c)
	}
	if b.wants("restore", "memory") {
		if err := b.restore(ctx, t, "restore", id, src, verify); err != nil {
			return err
		}
	}
	if b.wants("next", "size", "memory") {
		if err := errors.Join(os.Rename(src, here), os.Rename(next, src)); err != nil {
			return err
		}
		here = next
		if c, id, err = t.take(ctx, src); err != nil {
			return err
		}
		b.results.cost(t.name, "next", c)
		if err := b.size(t, "size2"); err != nil {
			return err
		}
		if verify && b.wants("restore") {
			return b.restore(ctx, t, "restore next", id, src, true)
		}
	}
	return nil
}

func (b *bench) size(t *tool, row string) error {
	n, err := t.stored()
	if err == nil {
		b.results.bytes(t.name, row, n)
	}
	return err
}

// restore measures a restore, and on the first run lets rsync compare it with the source.
func (b *bench) restore(ctx context.Context, t *tool, row, id, src string, verify bool) (err error) {
	target := t.in("restored")
	if err := os.MkdirAll(target, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(target)) }()
	command, landed := t.inTarget(id, src, target)
	c, _, err := command.measure(ctx)
	if err != nil {
		return err
	}
	b.results.cost(t.name, row, c)
	if !verify {
		return nil
	}
	info, err := os.Stat(src)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return sameFile(src, landed)
	}
	return sameTree(ctx, src, landed, t.name == "kopia")
}

// sameTree has rsync compare contents and metadata; the root's own time is left out. Kopia's restores give
// some directories the time of the restore, so its directory times are not compared.
func sameTree(ctx context.Context, a, b string, looseDirs bool) error {
	argv := []string{"rsync", "-aHAXn", "--checksum", "--itemize-changes", "--delete"}
	if looseDirs {
		argv = append(argv, "--omit-dir-times")
	}
	_, difference, err := command{argv: append(argv, a+"/", b+"/")}.measure(ctx)
	if err == nil && difference != "" && difference != ".d..t...... ./\n" {
		err = fmt.Errorf("what was restored differs:\n%s", last(difference, 10))
	}
	return err
}

func sameFile(a, b string) error {
	x, err := digest(a)
	if err != nil {
		return err
	}
	y, err := digest(b)
	if err == nil && x != y {
		err = fmt.Errorf("%s was restored differently", a)
	}
	return err
}

func digest(name string) (sum [32]byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [32]byte(h.Sum(nil)), err
}

// measureDump takes a text dump through its days, all tools in turn each day, and restores it as it was on the last
// and on the first.
func (b *bench) measureDump(ctx context.Context) error {
	dir := filepath.Join(b.o.work, "dump")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "messages.sql")
	d := newDump(b.o.dumpMB)
	first := map[string]string{} // tool to id
	ids := map[string]string{}
	for _, t := range b.tools {
		if err := t.reset(ctx); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		defer os.RemoveAll(t.home)
	}
	for day := range b.o.days {
		if err := d.write(name); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "dump, day %d of %d\n", day+1, b.o.days)
		for _, t := range b.tools {
			c, id, err := t.take(ctx, name)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			b.results.cost(t.name, map[bool]string{true: "dump first", false: "dump a day"}[day == 0], c)
			if ids[t.name] = id; day == 0 {
				first[t.name] = id
				if err := b.size(t, "dump first"); err != nil {
					return err
				}
			}
		}
		if day == 0 {
			keep := command{argv: []string{"cp", name, name + ".first"}}
			if err := keep.run(ctx); err != nil {
				return err
			}
		}
		if day < b.o.days-1 {
			d.nextDay()
		}
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	b.notes["dump"] = fmt.Sprintf("%d daily versions of a dump of %d rows, %s at the end", b.o.days, len(d.versions), size(info.Size()))
	for _, t := range b.tools {
		if err := b.size(t, "dump"); err != nil {
			return err
		}
	}
	// Each restores the last version to compare, then the first: the file at its path is then the first one.
	for run := range b.o.runs {
		for _, t := range b.tools {
			if err := b.restore(ctx, t, "dump last back", ids[t.name], name, run == 0); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	if err := os.Rename(name+".first", name); err != nil {
		return err
	}
	for run := range b.o.runs {
		for _, t := range b.tools {
			if err := b.restore(ctx, t, "dump first back", first[t.name], name, run == 0); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return nil
}

// measureStream pipes bytes that cannot be compressed nor found again into each tool.
func (b *bench) measureStream(ctx context.Context) error {
	name := filepath.Join(b.o.work, "stream")
	defer os.Remove(name)
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{1, 9, 9, 7})
	if _, err = io.CopyN(f, random, int64(b.o.streamMB)*1_000_000); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	b.notes["stream"] = fmt.Sprintf("%d MB of random bytes on standard input", b.o.streamMB)
	for run := range b.o.runs {
		fmt.Fprintf(os.Stderr, "stream, run %d of %d\n", run+1, b.o.runs)
		out := filepath.Join(b.o.work, "copy")
		c, _, err := command{argv: []string{"sh", "-c", `cat > "$1"`, "sh", out}, stdin: name}.measure(ctx)
		if err := errors.Join(err, os.Remove(out)); err != nil {
			return err
		}
		b.results.cost("floor", "stream", c)
		for _, t := range b.tools {
			if err := t.reset(ctx); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			t.taken++
			c := t.command(t.stdin(t, "stream"))
			c.stdin = name
			spent, _, err := c.measure(ctx)
			if err := errors.Join(err, os.RemoveAll(t.home)); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			b.results.cost(t.name, "stream", spent)
		}
	}
	return nil
}

// measureScale backs up ever more small files, to see whether the cost of one stays the same.
func (b *bench) measureScale(ctx context.Context) error {
	b.notes["scale"] = "files of 100 to 300 bytes in directories of 250, first and unchanged backup"
	for _, n := range b.o.scale {
		dir := filepath.Join(b.o.work, "scale")
		if err := manyFiles(dir, n); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "scale, %d files\n", n)
		for range b.o.runs {
			for _, t := range b.tools {
				if err := t.reset(ctx); err != nil {
					return fmt.Errorf("%s: %w", t.name, err)
				}
				for _, row := range []string{"scale first", "scale unchanged"} {
					c, _, err := t.take(ctx, dir)
					if err != nil {
						return fmt.Errorf("%s: %w", t.name, err)
					}
					b.results.cost(t.name, fmt.Sprintf("%s %d", row, n), c)
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

func manyFiles(dir string, n int) error {
	var text []byte
	for i := range n {
		folder := filepath.Join(dir, fmt.Sprint(i/62500), fmt.Sprint(i/250))
		if i%250 == 0 {
			if err := os.MkdirAll(folder, 0o755); err != nil {
				return err
			}
		}
		text = row(text[:0], uint64(i), 0)
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("message-%d.txt", i)), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
