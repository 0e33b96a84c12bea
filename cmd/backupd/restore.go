package main

import (
	"context"
	"errors"
	"fmt"
	"os"

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
		Use:   "restore ID [PATH…]",
		Short: "Bring a snapshot, or PATHs of it, back below a directory",
		Long: `Restores a snapshot below --target, which is made if it is missing: /a/b comes back as TARGET/a/b. Nothing is ever
written outside of it, whatever the snapshot says and whoever meddles with it meanwhile.

Run as root everything comes back: owners, setuid bits, devices, capabilities. Anybody else gets what they may set, and
the report says what was left off. What exists already is left alone and listed, and the exit code is 3, unless
--overwrite says "if-changed" (replace what differs in size or time) or "always".`,
		Example: `  backupd repo restore latest --target /tmp/back
  backupd repo restore 01j9 /etc/ssh --target / --overwrite if-changed`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return p.restore(cmd, &f, args) },
	}
	fl := c.Flags()
	fl.StringVar(&f.target, "target", "", "`DIR` to restore below")
	fl.StringArrayVar(&f.include, "include", nil, "restore only what matches `PATTERN`; may be given again")
	fl.StringArrayVar(&f.exclude, "exclude", nil, "leave out what matches `PATTERN`; may be given again")
	fl.StringVar(&f.overwrite, "overwrite", "never", "what to do about files that exist: `MODE` never, if-changed or always")
	fl.BoolVar(&f.numericOwner, "numeric-owner", false, "restore the numbers of owners, whatever names they have here")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what would be restored; write nothing")
	fl.BoolVar(&f.verify, "verify", false, "read every file again and compare it with the snapshot")
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
		if path = clean(path); path == "/" {
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
		if !f.dryRun {
			to, err = target.OpenDirectory(f.target, target.Options{Overwrite: mode, Privileged: os.Geteuid() == 0, NumericOwner: f.numericOwner})
			if err != nil {
				return err
			}
			defer to.Close()
		}
		return p.runRestore(cmd.Context(), r, m, to, o)
	})
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

func (p *program) runRestore(ctx context.Context, r *repo.Repo, m *repo.Manifest, to *target.Directory, o restore.Options) error {
	var prog restore.Progress
	stop := p.meter(2, func() reading {
		what := "restoring"
		if prog.Phase() == restore.PhaseSync {
			what = "syncing"
		}
		return reading{what: what, files: prog.Files.Load(), bytes: prog.Bytes.Load(), total: prog.TotalBytes.Load(), problems: prog.Problems.Load()}
	})
	rep, err := named(restore.Run(ctx, r, m, to, o, &prog))
	stop()
	if rep != nil {
		p.sayRestore(rep, o)
	}
	if err != nil {
		return err
	}
	if p.json {
		if err := p.value(rep); err != nil {
			return err
		}
	}
	if rep.ProblemCount+rep.ExistingCount > 0 {
		return errProblems
	}
	return nil
}

func (p *program) sayRestore(rep *restore.Report, o restore.Options) {
	for _, x := range rep.Problems[:min(len(rep.Problems), maxShown)] {
		p.say("%s: %s: %s", printable(string(x.Path)), printable(x.Op), printable(x.Text))
	}
	p.sayMore(len(rep.Problems), rep.ProblemCount, "problems")
	for _, x := range rep.Existing[:min(len(rep.Existing), maxShown)] {
		p.say("%s: left alone, it exists already", printable(string(x)))
	}
	p.sayMore(len(rep.Existing), rep.ExistingCount, "that exist already")
	if rep.LeftOffCount > 0 {
		p.say("%s things need root and were left off:", countText(rep.LeftOffCount))
		for _, x := range rep.LeftOff[:min(len(rep.LeftOff), maxShown)] {
			p.say("  %s: %s", printable(string(x.Path)), printable(x.Text))
		}
	}
	verb := "restored"
	if rep.DryRun {
		verb = "would restore"
	}
	p.say("%s %s of %s: %s files, %s directories, %s symbolic links, %s hard links, %s others, in %s",
		verb, bytesText(rep.Bytes), rep.Snapshot, countText(rep.Files), countText(rep.Dirs), countText(rep.Symlinks), countText(rep.Links), countText(rep.Specials),
		rounded(rep.FinishedAt.Sub(rep.StartedAt)))
	if o.Verify && !rep.DryRun {
		p.say("%s files were read again and are right", countText(rep.Verified))
	}
	if rep.Identical > 0 {
		p.say("%s were the same already", countText(rep.Identical))
	}
}

func (p *program) sayMore(listed int, count uint64, what string) {
	if more := int64(count) - int64(min(listed, maxShown)); more > 0 {
		p.say("… and %s more %s", countText(more), what)
	}
}
