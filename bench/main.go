// Bench measures the work of a backup: backupd beside the floors that bound it (tar, zstd, find) and
// beside other backup programs, in turn, on the same data, several times over, and writes the medians as
// docs/benchmarks.md with the targets and whether they were reached. It imports nothing of the
// product: it runs the binary as a person would.
//
//	go run ./bench                                 everything, docs/benchmarks.md
//	go run ./bench -rows first,restore -runs 1     two rows, printed only
//	RESTIC=/opt/restic KOPIA=/opt/kopia go run ./bench
//	KERNEL_A=/src/linux-6.1 KERNEL_B=/src/linux-6.2 go run ./bench -rows tree
//
// With a first argument it does one of the other measurements; each has its flags, see -h:
//
//	go run ./bench scale      growth with the number of files, docs/scale.csv and docs/scale.svg
//	go run ./bench smoke      a minute: fails when a row fell back by a third against bench/smoke.json
//	go run ./bench profile    profiles of each step, var/profile/shares.md
//	go run ./bench limits     the Go benchmarks of each step's limits as one table, var/profile/limits.md
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	mode := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		mode, args = args[0], args[1:]
	}
	switch mode {
	case "":
		return runTable(ctx, args)
	case "scale":
		return runScale(ctx, args)
	case "smoke":
		return runSmoke(ctx, args)
	case "profile":
		return runProfile(ctx, args)
	case "limits":
		return runLimits(ctx, args)
	case "hash": // the floor of the row image
		return hashFile(strings.Join(args, " "))
	}
	return fmt.Errorf("unknown argument %q; there are scale, smoke, profile and limits", mode)
}

// sweep empties the working directories at the end, with -keep but for the source trees.
func (o options) sweep() error {
	if !o.keep {
		return errors.Join(os.RemoveAll(o.work), os.RemoveAll(o.disk))
	}
	if o.disk == "" {
		return nil
	}
	return os.RemoveAll(setting{work: o.disk}.asidePath())
}

// runTable measures the rows that were asked for.
func runTable(ctx context.Context, args []string) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	o.withoutUnreachable()
	if o.figures != "" {
		if _, err := o.readFigures(); err != nil { // now, not when all is measured
			return err
		}
	}
	if err := os.MkdirAll(o.work, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.sweep()) }()
	if err := room(o.work, o.need()); err != nil {
		return err
	}
	tools, err := findTools(ctx, o)
	if err != nil {
		return err
	}
	b := &bench{o: o, tools: tools, results: results{}, notes: map[string]string{}, at: setting{work: o.work, free: freeEnough}}
	var failed error // what was measured before is worth hours and is printed all the same
	for _, part := range []struct {
		rows    []string
		measure func(context.Context) error
	}{
		{treeRows, b.measureTree},
		{dumpRows, b.measureDumps},
		{[]string{"stream"}, b.measureStream},
		{[]string{"scale"}, b.measureScale},
		{[]string{"small", "few"}, b.measureSmall},
		{[]string{"image"}, b.measureImage},
		{[]string{"sparse"}, b.measureSparse},
		{[]string{"guesses"}, b.measureGuesses},
		{[]string{"disk", "cold", "core"}, b.measureSettings},
	} {
		if !o.anyOf(part.rows) || ctx.Err() != nil {
			continue
		}
		if err := part.measure(ctx); err != nil {
			failed = errors.Join(failed, err)
			fmt.Fprintln(os.Stderr, "bench: goes on without:", err)
			continue
		}
		failed = errors.Join(failed, b.save(part.rows))
	}
	failed = errors.Join(failed, b.load())
	report := b.report(describe(o.work))
	fmt.Print(report)
	if failed = errors.Join(failed, ctx.Err()); o.out == "" || failed != nil {
		return failed
	}
	if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
		return err
	}
	if o.anyOf(dumpRows) {
		if err := os.WriteFile(filepath.Join(filepath.Dir(o.out), "dump-days.csv"), []byte(b.dayFile()), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(o.out, []byte(report), 0o644)
}
