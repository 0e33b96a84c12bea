package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/generalbots/backupd/internal/browse"
	"github.com/generalbots/backupd/internal/restore"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/target"
	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

// restoreFlags are the choices of one restore.
type restoreFlags struct {
	target       string
	include      []string
	exclude      []string
	overwrite    string
	numericOwner bool
	dryRun       bool
	verify       bool
}

func (p *program) restoreCommand() *cobra.Command {
	var f restoreFlags
	c := &cobra.Command{
		Use:   "restore ID|latest [PATH…]",
		Short: "Bring a snapshot, or PATHs of it, back below a directory",
		Long: `Restores a snapshot below --target, which is made if it is missing: /a/b comes back as TARGET/a/b. Nothing is ever
written outside of it, whatever the snapshot says and whoever meddles with it meanwhile.

Run as root everything comes back: owners, setuid bits, devices, capabilities. Anybody else gets what they may set, and
the report says what was left off. What exists already is left alone and listed, and the exit code is 3, unless
--overwrite says "if-changed" (replace what differs in size or time) or "always".

A file appears under its name when it is whole, so a restore that was interrupted or killed is completed by the same
command. After a power cut use --overwrite always: nothing is sure to be on the disk before the end.`,
		Example: `  backupd repo restore latest --target /tmp/back
  backupd repo restore latest /etc/ssh --target / --overwrite if-changed --dry-run
  backupd repo restore 01j9 --target /tmp/back --include '*.docx'`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: p.completeSnapshot,
		RunE:              func(cmd *cobra.Command, args []string) error { return p.restore(cmd, &f, args) },
	}
	fl := c.Flags()
	fl.StringVar(&f.target, "target", "", "`DIR` to restore below")
	fl.StringArrayVar(&f.include, "include", nil, "restore only what matches `PATTERN`; may be given again")
	fl.StringArrayVar(&f.exclude, "exclude", nil, "leave out what matches `PATTERN`; may be given again")
	fl.StringVar(&f.overwrite, "overwrite", "never", "what to do about files that exist: `MODE` never, if-changed or always")
	fl.BoolVar(&f.numericOwner, "numeric-owner", false, "restore the numbers of owners, whatever names they have here")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what would be restored; write nothing")
	fl.BoolVar(&f.verify, "verify", false, "read every file again and compare it with the snapshot")
	words(c, "overwrite", "never", "if-changed", "always")
	return c
}

func (p *program) restore(cmd *cobra.Command, f *restoreFlags, args []string) error {
	mode, ok := map[string]target.Overwrite{"never": target.Never, "if-changed": target.IfChanged, "always": target.Always}[f.overwrite]
	if !ok {
		return &usageError{cmd.CommandPath(), fmt.Errorf("--overwrite is never, if-changed or always, not %q", f.overwrite)}
	}
	if f.target == "" && !f.dryRun {
		return &usageError{cmd.CommandPath(), errors.New("where to? give --target DIR")}
	}
	o := restore.Options{Overwrite: mode, DryRun: f.dryRun, Verify: f.verify, TargetPath: f.target}
	for _, path := range args[1:] {
		if path = browse.Clean(path); path == "/" {
			o.Paths = nil
			break
		}
		o.Paths = append(o.Paths, []byte(path))
	}
	var err error
	if o.Include, err = matcher(cmd, f.include); err != nil {
		return err
	}
	if o.Exclude, err = matcher(cmd, f.exclude); err != nil {
		return err
	}
	return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
		s, err := named(r.Resolve(args[0]))
		if err != nil {
			return err
		}
		m, err := r.Manifest(cmd.Context(), s)
		if err != nil {
			return err
		}
		var to *target.Directory
		lands := target.Options{Overwrite: mode, Privileged: os.Geteuid() == 0, NumericOwner: f.numericOwner}
		switch {
		case !f.dryRun:
			if to, err = target.OpenDirectory(f.target, lands); err != nil {
				return err
			}
			defer to.Close()
		case f.target != "":
			o.View, err = target.OpenView(f.target, lands)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err == nil {
				defer o.View.Close()
			}
		}
		err = p.runRestore(cmd.Context(), r, m, to, o)
		var gone *absent
		if errors.As(err, &gone) {
			// Who named a path that is not there is told as by ls.
			return missing(cmd.Context(), r, s, args[1:], err)
		}
		return err
	})
}

// missing is the error about the first path that the snapshot does not hold, or that can not be looked up, or else.
func missing(ctx context.Context, r *repo.Repo, s *repo.Snapshot, paths []string, otherwise error) error {
	t, err := browse.Open(r, s)
	if err != nil {
		return otherwise
	}
	for _, path := range paths {
		if _, err := lookUp(ctx, t, path); err != nil {
			return err
		}
	}
	return otherwise
}

func matcher(cmd *cobra.Command, patterns []string) (restore.Match, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	match, err := source.CompilePatterns(patterns)
	if err != nil {
		return nil, &usageError{cmd.CommandPath(), err}
	}
	return match, nil
}

// restoreValue is what --json prints of a restore: the report with lists that are always there and paths that lose nothing.
type restoreValue struct {
	*restore.Report
	Existing     []pathValue    `json:"existing"`
	WouldReplace []pathValue    `json:"would_replace"`
	LeftOff      []problemValue `json:"left_off"`
	Problems     []problemValue `json:"problems"`
	Notes        []string       `json:"notes"`
}

func restoreOf(rep *restore.Report) restoreValue {
	v := restoreValue{
		Report: rep, Existing: []pathValue{}, WouldReplace: []pathValue{}, LeftOff: []problemValue{}, Problems: []problemValue{}, Notes: orEmpty(rep.Notes),
	}
	for _, x := range rep.Existing {
		v.Existing = append(v.Existing, pathOf(string(x)))
	}
	for _, x := range rep.WouldReplace {
		v.WouldReplace = append(v.WouldReplace, pathOf(string(x)))
	}
	for _, x := range rep.LeftOff {
		v.LeftOff = append(v.LeftOff, problemValue{pathOf(string(x.Path)), x.Op, x.Text})
	}
	for _, x := range rep.Problems {
		v.Problems = append(v.Problems, problemValue{pathOf(string(x.Path)), x.Op, x.Text})
	}
	return v
}

func (p *program) runRestore(ctx context.Context, r *repo.Repo, m *repo.Manifest, to *target.Directory, o restore.Options) error {
	var prog restore.Progress
	stop := p.meter(2, func() reading {
		if prog.Phase() == restore.PhaseSync {
			return reading{what: "waiting for the file system to write it down", measure: byTime}
		}
		return reading{what: "restoring", count: prog.Files.Load(), bytes: prog.Bytes.Load(), total: prog.TotalBytes.Load(), problems: prog.Problems.Load()}
	})
	rep, err := named(restore.Run(ctx, r, m, to, o, &prog))
	stop()
	if rep != nil && (err == nil || !o.DryRun) {
		p.sayRestore(rep, o, err != nil)
	}
	if err != nil {
		return err
	}
	if p.json {
		if err := p.value(restoreOf(rep)); err != nil {
			return err
		}
	}
	if rep.ProblemCount > 0 || rep.ExistingCount > 0 && !rep.DryRun {
		return errProblems
	}
	return nil
}

func (p *program) sayRestore(rep *restore.Report, o restore.Options, stopped bool) {
	for _, x := range rep.Problems[:min(len(rep.Problems), maxShown)] {
		p.say("%s: %s: %s", printable(string(x.Path)), printable(x.Op), printable(x.Text))
	}
	p.sayMore(len(rep.Problems), rep.ProblemCount, "problems")
	verb, left := "restored", "left alone"
	if rep.DryRun {
		verb, left = "would restore", "would be left alone"
	}
	for _, x := range rep.Existing[:min(len(rep.Existing), maxShown)] {
		p.say("%s: %s, it exists already", printable(string(x)), left)
	}
	p.sayMore(len(rep.Existing), rep.ExistingCount, "that exist already")
	for _, x := range rep.WouldReplace[:min(len(rep.WouldReplace), maxShown)] {
		p.say("%s: would be replaced", printable(string(x)))
	}
	p.sayMore(len(rep.WouldReplace), rep.WouldReplaceCount, "that would be replaced")
	if rep.LeftOffCount > 0 {
		p.say("left off, since it needs root: %s", countText(rep.LeftOffCount))
		for _, x := range rep.LeftOff[:min(len(rep.LeftOff), maxShown)] {
			p.say("  %s: %s", printable(string(x.Path)), printable(x.Text))
		}
	}
	what := []string{counted(rep.Files, "file"), counted(rep.Dirs, "directory")}
	for _, kind := range []struct {
		n   uint64
		one string
	}{{rep.Symlinks, "symbolic link"}, {rep.Links, "hard link"}, {rep.Specials, "other"}} {
		if kind.n > 0 {
			what = append(what, counted(kind.n, kind.one))
		}
	}
	p.say("%s %s of %s: %s, in %s", verb, bytesText(rep.Bytes), rep.Snapshot, strings.Join(what, ", "), rounded(rep.FinishedAt.Sub(rep.StartedAt)))
	if stopped {
		p.say("  and stopped there: with --overwrite if-changed the same command goes on, and leaves what is right as it is")
	}
	if o.Verify && !rep.DryRun {
		p.say("%s read again and right", counted(rep.Verified, "file"))
	}
	if rep.Identical > 0 {
		p.say("%s the same already", countText(rep.Identical))
	}
	if rep.WouldReplaceCount > 0 {
		p.say("%s among them would replace what exists", countText(rep.WouldReplaceCount))
	}
	if rep.ExistingCount > 0 {
		p.say("%s %s; --overwrite if-changed replaces what differs, always replaces all, or give an empty --target", countText(rep.ExistingCount), left)
	}
	if o.Include != nil && rep.Files+rep.Dirs+rep.Symlinks+rep.Links+rep.Specials+rep.Identical+rep.ExistingCount == 0 {
		p.say("nothing in the snapshot matches --include")
	}
}

func (p *program) sayMore(listed int, count uint64, what string) {
	if more := int64(count) - int64(min(listed, maxShown)); more > 0 {
		p.say("… and %s more %s", countText(more), what)
	}
}
