package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// profiler runs a binary that was built with -tags profile through the steps of a repository's life and keeps what it
// did in each.
type profiler struct {
	b     *bench
	t     *tool
	out   string
	files int
	steps []step
}

// step is one command with what its profile says.
type step struct {
	name, what string
	spent      cost
	bytes      int64 // that went through it, 0 where that says nothing
	shares     map[string]float64
	top        []function
}

// runProfile makes CPU, heap, mutex and block profiles and a trace of each step, and shares.md out of the first.
func runProfile(ctx context.Context, args []string) (err error) {
	var p profiler
	var o options
	flags := flag.NewFlagSet("bench profile", flag.ExitOnError)
	flags.StringVar(&p.out, "out", "var/profile", "directory for the profiles, one below it for each step")
	flags.StringVar(&o.work, "work", "/dev/shm/backupd-profile", "working directory, on a RAM disk")
	flags.StringVar(&o.cache, "cache", ".cache/bench", "where downloaded sources are kept")
	flags.StringVar(&o.backupd, "backupd", "var/profile/backupd", "the binary, built with -tags profile")
	flags.StringVar(&o.tree, "tree", "auto", "source tree: debian, synthetic or auto")
	flags.IntVar(&o.files, "files", 78000, "files of the synthetic tree")
	flags.IntVar(&o.dumpMB, "dump", 100, "megabytes of the text dump")
	flags.IntVar(&o.streamMB, "stream", 2048, "megabytes of the incompressible stream")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o.only = []string{"backupd"}
	if p.out, err = filepath.Abs(p.out); err != nil {
		return err
	}
	if err := o.absolute(); err != nil {
		return err
	}
	if err := os.MkdirAll(o.work, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.work)) }()
	if err := room(o.work, max(o.needTree(setting{}), int64(o.streamMB)*3<<20)); err != nil {
		return err
	}
	tools, err := findTools(ctx, o)
	if err != nil {
		return err
	}
	p.t = tools[0]
	p.b = &bench{o: o, tools: tools, results: results{}, notes: map[string]string{}, at: setting{work: o.work}}
	if err := errors.Join(p.tree(ctx), p.dump(ctx), p.stream(ctx)); err != nil {
		return err
	}
	report := p.report(describe(o.work))
	fmt.Print(report)
	return os.WriteFile(filepath.Join(p.out, "shares.md"), []byte(report), 0o644)
}

// Samples are taken a hundred times a second: a step that is shorter runs again until there are enough.
const (
	enoughCPU = 4 * time.Second
	mostRuns  = 16
)

// run profiles one command: traced first, then sampled. undo puts back what the command changed, so that it can run
// again; the last of the runs is what stays.
func (p *profiler) run(ctx context.Context, s step, c command, undo func() error) (stdout string, err error) {
	dir := filepath.Join(p.out, s.name)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return "", err
	}
	traced := c
	traced.env = append(slices.Clone(c.env), "BACKUPD_PROFILE="+dir, "BACKUPD_PROFILE_TRACE=1")
	if err := traced.run(ctx); err != nil {
		return "", err
	}
	c.env = append(slices.Clone(c.env), "BACKUPD_PROFILE="+dir)
	var costs []cost
	var parts []string
	for spent := time.Duration(0); spent < enoughCPU && len(parts) < mostRuns; spent += s.spent.cpu {
		if err := undo(); err != nil {
			return "", err
		}
		if s.spent, stdout, err = c.measure(ctx); err != nil {
			return "", err
		}
		costs = append(costs, s.spent)
		part := filepath.Join(dir, fmt.Sprintf("cpu-%02d.pprof", len(parts)))
		if err := os.Rename(filepath.Join(dir, "cpu.pprof"), part); err != nil {
			return "", fmt.Errorf("%s made no profile; was it built with -tags profile? %w", p.t.path, err)
		}
		parts = append(parts, part)
	}
	s.spent = median(costs)
	merge := command{argv: append([]string{"go", "tool", "pprof", "-proto", "-output=" + filepath.Join(dir, "cpu.pprof"), p.t.path}, parts...)}
	if err := merge.run(ctx); err != nil {
		return "", err
	}
	for _, part := range parts {
		if err := os.Remove(part); err != nil {
			return "", err
		}
	}
	for _, name := range []string{"cpu.pprof", "heap.pprof", "mutex.pprof", "block.pprof", "trace.out"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "", err
		}
	}
	samples, err := readSamples(ctx, p.t.path, filepath.Join(dir, "cpu.pprof"))
	if err != nil {
		return "", err
	}
	s.shares, s.top = layerShares(samples), topFunctions(samples, 15)
	fmt.Fprintf(os.Stderr, "  %-12s %s, cpu %s\n", s.name, seconds(s.spent.wall), seconds(s.spent.cpu))
	p.steps = append(p.steps, s)
	return stdout, nil
}

// keep copies the repository and the state aside and returns what puts them back.
func (p *profiler) keep(ctx context.Context) (undo func() error, err error) {
	aside := p.t.home + ".aside"
	if err := (command{argv: []string{"cp", "-a", p.t.home, aside}}).run(ctx); err != nil {
		return nil, err
	}
	return func() error {
		if err := os.RemoveAll(p.t.home); err != nil {
			return err
		}
		return command{argv: []string{"cp", "-a", aside, p.t.home}}.run(ctx)
	}, nil
}

// backup profiles a backup; it leaves one snapshot.
func (p *profiler) backup(ctx context.Context, s step, c command) (id string, err error) {
	undo, err := p.keep(ctx)
	if err != nil {
		return "", err
	}
	stdout, err := p.run(ctx, s, c, undo)
	return p.t.id(p.t, stdout), errors.Join(err, os.RemoveAll(p.t.home+".aside"))
}

// tree profiles the steps of the source tree.
func (p *profiler) tree(ctx context.Context) (err error) {
	work, t := p.b.o.work, p.t
	a, next, src := filepath.Join(work, "a"), filepath.Join(work, "b"), filepath.Join(work, "src")
	if _, err := makeTrees(ctx, p.b.o, a, next); err != nil {
		return err
	}
	files, bytes, err := count(a)
	if err != nil {
		return err
	}
	p.files = files
	if err := errors.Join(t.reset(ctx), os.Rename(a, src)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.home)) }()
	backup := t.command(t.backup(t, src))
	id, err := p.backup(ctx, step{name: "first", what: "first backup of the source tree", bytes: bytes}, backup)
	if err != nil {
		return err
	}
	if _, err := p.backup(ctx, step{name: "unchanged", what: "backup of the tree as it was"}, backup); err != nil {
		return err
	}
	back := t.in("back")
	clear := func() error { return os.RemoveAll(back) }
	if _, err := p.run(ctx, step{name: "restore", what: "restore of the tree", bytes: bytes}, t.command(t.restore(t, id, back)), clear); err != nil {
		return err
	}
	if err := clear(); err != nil {
		return err
	}
	if _, err := p.run(ctx, step{name: "check", what: "check --read-data", bytes: bytes}, t.command(t.check(t)), func() error { return nil }); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(src), os.Rename(next, src)); err != nil {
		return err
	}
	_, err = p.backup(ctx, step{name: "next", what: "backup of the next version, all inodes new", bytes: bytes}, backup)
	return errors.Join(err, os.RemoveAll(src))
}

// dump profiles a day of a text dump, the fourth, whose base has a base.
func (p *profiler) dump(ctx context.Context) (err error) {
	t := p.t
	name := filepath.Join(p.b.o.work, "messages.sql")
	if err := t.reset(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.home), os.Remove(name)) }()
	d := newDump(p.b.o.dumpMB, anywhere)
	for range 3 {
		if err := d.write(ctx, name); err != nil {
			return err
		}
		if err := t.command(t.backup(t, name)).run(ctx); err != nil {
			return err
		}
		d.turn()
	}
	if err := d.write(ctx, name); err != nil {
		return err
	}
	id, err := p.backup(ctx, step{name: "dump-day", what: "a day of the text dump", bytes: int64(p.b.o.dumpMB) * 1_000_000}, t.command(t.backup(t, name)))
	if err != nil {
		return err
	}
	back := t.in("back")
	_, err = p.run(ctx, step{name: "dump-back", what: "restore of that day", bytes: int64(p.b.o.dumpMB) * 1_000_000}, t.command(t.restore(t, id, back)), func() error { return os.RemoveAll(back) })
	return err
}

// stream profiles what cannot be compressed.
func (p *profiler) stream(ctx context.Context) (err error) {
	t := p.t
	name := filepath.Join(p.b.o.work, "stream")
	if err := errors.Join(t.reset(ctx), writeNoise(name, int64(p.b.o.streamMB)*1_000_000)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.home), os.Remove(name)) }()
	c := t.command(t.stdin(t, "stream"))
	c.stdin = name
	_, err = p.backup(ctx, step{name: "stream", what: "one stream of random bytes", bytes: int64(p.b.o.streamMB) * 1_000_000}, c)
	return err
}

// writeNoise makes a file that cannot be compressed.
func writeNoise(name string, length int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	random := rand.NewChaCha8([32]byte{1, 9, 9, 7})
	buf := make([]byte, 1<<20)
	for left := length; left > 0; left -= int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), left)]
		random.Read(buf) // never fails
		if _, err := f.Write(buf); err != nil {
			return err
		}
	}
	return f.Close()
}

// report writes the shares as Markdown.
func (p *profiler) report(machine string) string {
	var w strings.Builder
	fmt.Fprintf(&w, "Written by `make profile`: %s %s; source tree of %d files.\n\n", machine, p.t.version, p.files)
	w.WriteString("Shares of the processors' time in percent. A layer is what the innermost frame that belongs to one is part of; copying and clearing\nmemory (`memmove`) and system calls (`kernel`) count as such whoever asked for them; page faults fall to whoever touched the page.\n\n| |")
	ruler := "|---|"
	for _, s := range p.steps {
		w.WriteString(" " + s.name + " |")
		ruler += "---|"
	}
	w.WriteString("\n" + ruler + "\n")
	for _, l := range layers {
		fmt.Fprintf(&w, "| %s |", l.name)
		for _, s := range p.steps {
			fmt.Fprintf(&w, " %.1f |", s.shares[l.name]*100)
		}
		w.WriteString("\n")
	}
	for _, row := range []struct {
		name  string
		value func(step) string
	}{
		{"wall", func(s step) string { return seconds(s.spent.wall) }},
		{"processor time", func(s step) string { return seconds(s.spent.cpu) }},
		{"processor ns per byte", func(s step) string {
			if s.bytes == 0 {
				return "–"
			}
			return fmt.Sprintf("%.2f", float64(s.spent.cpu.Nanoseconds())/float64(s.bytes))
		}},
		{"processor µs per file", func(s step) string {
			if strings.HasPrefix(s.name, "dump") || s.name == "stream" {
				return "–"
			}
			return fmt.Sprintf("%.1f", float64(s.spent.cpu)/float64(time.Microsecond)/float64(p.files))
		}},
	} {
		fmt.Fprintf(&w, "| **%s** |", row.name)
		for _, s := range p.steps {
			fmt.Fprintf(&w, " %s |", row.value(s))
		}
		w.WriteString("\n")
	}
	for _, s := range p.steps {
		fmt.Fprintf(&w, "\n### %s\n\n%s: %s, %s of processor time.\n\n| share | with callees | function |\n|---|---|---|\n", s.name, s.what, seconds(s.spent.wall), seconds(s.spent.cpu))
		for _, f := range s.top {
			fmt.Fprintf(&w, "| %.1f %% | %.1f %% | `%s` |\n", f.flat*100, f.cum*100, f.name)
		}
	}
	return w.String()
}
