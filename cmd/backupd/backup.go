package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

// maxList bounds a file of paths or patterns, in bytes.
const maxList = 64 << 20

// backupFlags are the choices of one backup.
type backupFlags struct {
	kind          string
	exclude       []string
	excludeFiles  []string
	excludeCaches bool
	oneFileSystem bool
	filesFrom     []string
	stdin         string
	tags          []string
	dryRun        bool
}

func (p *program) backupCommand() *cobra.Command {
	var f backupFlags
	c := &cobra.Command{
		Use:   "backup PATH…",
		Short: "Make a snapshot of files and directories",
		Long: `Makes a snapshot of PATHs and prints its id, last on standard output. The path is kept: what was /a/b comes back as
/a/b below the target of a restore. A PATH that is a symbolic link is stored as one; LINK/ is what it leads to.

Every snapshot is complete. The type only says what is compared with: "incremental" with the latest snapshot of the
same host and paths, "differential" with the latest full one; "full" trusts no metadata and reads everything.
Without anything to compare with, the snapshot becomes a full one and says so.

The file systems in which the kernel shows itself, such as /proc and /sys, are entered only when a PATH names them, and
so are the repository itself and its state directory.

Patterns of --exclude are those of gitignore: without a slash they match a name at any depth, with one the whole path.
What could not be read, or changed while it was read, is listed, and the exit code is 3. Standard input that can not be
read to its end makes no snapshot; that the program before the pipe failed does not show there: see 'set -o pipefail'.`,
		Example: `  backupd repo backup /etc /home --exclude '*.tmp'
  pg_dump app | backupd repo backup --stdin app.sql --tag nightly`,
		RunE: func(cmd *cobra.Command, args []string) error { return p.backup(cmd, &f, args) },
	}
	fl := c.Flags()
	fl.StringVar(&f.kind, "type", "incremental", "`TYPE`: full, incremental or differential")
	fl.StringArrayVar(&f.exclude, "exclude", nil, "leave out what matches `PATTERN`; may be given again")
	fl.StringArrayVar(&f.excludeFiles, "exclude-file", nil, "leave out what matches a line of `FILE`; may be given again")
	fl.BoolVar(&f.excludeCaches, "exclude-caches", false, "leave out directories marked with a CACHEDIR.TAG")
	fl.BoolVar(&f.oneFileSystem, "one-file-system", false, "stay on the file system each PATH is on")
	fl.StringArrayVar(&f.filesFrom, "files-from", nil, "take PATHs from `FILE` too, one a line, or ended by zero bytes; - is standard input")
	fl.StringVar(&f.stdin, "stdin", "", "take standard input for a file of that `NAME`, instead of PATHs")
	fl.StringArrayVar(&f.tags, "tag", nil, "`TAG` the snapshot; may be given again")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what would be done; write nothing")
	words(c, "type", "full", "incremental", "differential")
	return c
}

func (p *program) backup(cmd *cobra.Command, f *backupFlags, args []string) error {
	src, part, err := p.source(cmd, f, args)
	if err != nil {
		return err
	}
	name, err := host()
	if err != nil {
		return err
	}
	o := backup.Options{CreatedAt: time.Now(), Type: backup.Type(f.kind), Host: name, Tags: f.tags, DryRun: f.dryRun}
	return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
		if files, ok := src.(*source.Files); ok {
			files.Skip(p.writes...)
		}
		var prog backup.Progress
		stop := p.backupMeter(cmd.Context(), r, src, o.Host, &part, &prog)
		rep, err := backup.Run(cmd.Context(), r, []backup.Part{{Part: part, From: src}}, o, &prog)
		stop()
		if err != nil {
			return err
		}
		return p.showBackup(rep, f.dryRun)
	})
}

// source makes what is backed up of the command line.
func (p *program) source(cmd *cobra.Command, f *backupFlags, args []string) (source.Source, repo.Part, error) {
	usage := func(text string) (source.Source, repo.Part, error) {
		return nil, repo.Part{}, &usageError{cmd.CommandPath(), errors.New(text)}
	}
	if !slices.Contains([]backup.Type{backup.Full, backup.Incremental, backup.Differential}, backup.Type(f.kind)) {
		return usage(fmt.Sprintf("--type is full, incremental or differential, not %q", f.kind))
	}
	part := repo.Part{Source: "files", Kind: "files", Profile: "files", Exclude: f.exclude, ExcludeCaches: f.excludeCaches, OneFileSystem: f.oneFileSystem}
	if f.stdin != "" {
		if len(args)+len(f.filesFrom) > 0 {
			return usage("--stdin takes the place of PATHs: leave these out")
		}
		if f.dryRun {
			return usage("--dry-run can not tell anything of standard input without reading it up")
		}
		src, err := source.NewStream(f.stdin, p.stdin)
		if err != nil {
			return usage(err.Error())
		}
		part.Source, part.Paths = "stdin", [][]byte{[]byte(src.Path())}
		return src, part, nil
	}
	paths := slices.Clone(args)
	for _, name := range f.filesFrom {
		b, err := p.readList(name)
		if err != nil {
			return nil, part, err
		}
		paths = append(paths, splitList(b)...)
	}
	if len(paths) == 0 {
		return usage("what shall be backed up? give a PATH, --files-from or --stdin")
	}
	if len(paths) > repo.MaxPaths {
		return usage(fmt.Sprintf("%d paths, at most %d: name a directory above them", len(paths), repo.MaxPaths))
	}
	for i := range paths {
		abs, err := absolute(paths[i])
		if err != nil {
			return nil, part, err
		}
		paths[i] = abs
	}
	slices.Sort(paths)
	paths = slices.Compact(paths)
	for _, path := range paths {
		part.Paths = append(part.Paths, []byte(path))
	}
	o := source.FilesOptions{Paths: paths, Exclude: f.exclude, ExcludeCaches: f.excludeCaches, OneFileSystem: f.oneFileSystem}
	for _, name := range f.excludeFiles {
		b, err := p.readList(name)
		if err != nil {
			return nil, part, err
		}
		o.ExcludeLines = append(o.ExcludeLines, strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")...)
	}
	part.Exclude = append(slices.Clone(f.exclude), o.ExcludeLines...)
	src, err := source.NewFiles(o)
	if err != nil {
		return usage(err.Error())
	}
	return src, part, nil
}

func (p *program) readList(name string) ([]byte, error) {
	in := io.Reader(p.stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxList+1))
	if err == nil && len(b) > maxList {
		err = fmt.Errorf("%s: longer than %d bytes", name, maxList)
	}
	return b, err
}

// splitList takes a list of paths apart: where there is a zero byte in it they end the paths, as find -print0 writes
// them, else line ends do.
func splitList(b []byte) (paths []string) {
	end := "\n"
	if bytes.IndexByte(b, 0) >= 0 {
		end = "\x00"
	}
	for path := range strings.SplitSeq(string(b), end) {
		if path != "" {
			paths = append(paths, path)
		}
	}
	return paths
}

// backupMeter shows how far a backup is. What it will come to is taken from the latest snapshot of the same paths, or
// counted by a second scan beside the run.
func (p *program) backupMeter(ctx context.Context, r *repo.Repo, src source.Source, host string, part *repo.Part, prog *backup.Progress) (stop func()) {
	if p.terminal == nil {
		return func() {}
	}
	var total atomic.Int64
	snaps := r.Snapshots()
	last := slices.IndexFunc(snaps, func(s *repo.Snapshot) bool {
		return s.Host == host && len(s.Parts) == 1 && slices.EqualFunc(s.Parts[0].Paths, part.Paths, bytes.Equal)
	})
	ctx, cancel := context.WithCancel(ctx)
	if files, ok := src.(*source.Files); ok && last < 0 {
		go count(ctx, files, &total)
	} else if last >= 0 {
		for _, s := range snaps[last:] {
			if s.Host == host && len(s.Parts) == 1 && slices.EqualFunc(s.Parts[0].Paths, part.Paths, bytes.Equal) {
				total.Store(s.Totals.BytesTotal)
			}
		}
	}
	halt := p.meter(2, func() reading {
		return reading{what: "backing up", count: prog.Files.Load(), bytes: prog.Bytes.Load(), total: total.Load(), problems: prog.Problems.Load()}
	})
	return func() {
		cancel()
		halt()
	}
}

// count adds up the sizes of files. The total is only set at the end: half of it would be worse than none.
func count(ctx context.Context, src *source.Files, total *atomic.Int64) {
	var sum int64
	for e, err := range src.Scan(ctx) {
		if err != nil {
			return
		}
		switch {
		case e.Event == source.Leave:
			src.Release(&e)
		case e.Type == source.Regular:
			sum += e.Size
		}
	}
	total.Store(sum)
}

// backupValue is what --json prints of a backup.
type backupValue struct {
	ID         string         `json:"id"`
	Type       string         `json:"type"`
	BaseID     string         `json:"base_id,omitempty"`
	Status     string         `json:"status"`
	DryRun     bool           `json:"dry_run"`
	Host       string         `json:"host"`
	Tags       []string       `json:"tags"`
	CreatedAt  time.Time      `json:"created_at"`
	StartedAt  time.Time      `json:"started_at"`
	FinishedAt time.Time      `json:"finished_at"`
	Counts     repo.Counts    `json:"counts"`
	Problems   []problemValue `json:"problems"`
	Count      uint64         `json:"problem_count"`
	Notes      []string       `json:"notes"`
}

func (p *program) showBackup(rep *backup.Report, dryRun bool) error {
	m := rep.Snapshot
	for _, note := range rep.Notes {
		p.say("%s", printable(note))
	}
	p.sayProblems(m.Problems, m.ProblemCount)
	c := m.Totals
	verb := "made"
	if dryRun {
		verb = "would make"
	}
	p.say("%s %s snapshot of %s and %s, %s: %s new, %s changed, %s unchanged, %s removed",
		verb, m.Type, counted(c.Files, "file"), counted(c.Dirs, "directory"), bytesText(c.BytesTotal), countText(c.New), countText(c.Changed), countText(c.Unchanged), countText(c.Removed))
	if !dryRun {
		p.say("read %s, new %s, stored %s, in %s", bytesText(c.BytesRead), bytesText(c.BytesNew), bytesText(c.BytesStored), rounded(m.FinishedAt.Sub(m.StartedAt)))
	}
	if p.json {
		v := backupValue{
			ID: m.ID, Type: m.Type, BaseID: m.BaseID, Status: m.Status, DryRun: dryRun, Host: m.Host, Tags: orEmpty(m.Tags),
			CreatedAt: m.CreatedAt.UTC(), StartedAt: m.StartedAt.UTC(), FinishedAt: m.FinishedAt.UTC(), Counts: c,
			Problems: problemValues(m.Problems), Count: m.ProblemCount, Notes: orEmpty(rep.Notes),
		}
		if err := p.value(v); err != nil {
			return err
		}
	} else if !dryRun {
		p.print("%s", m.ID)
	}
	if m.ProblemCount > 0 {
		return errProblems
	}
	return nil
}

// maxShown is how many problems are listed on a terminal; --json has more of them.
const maxShown = 100

func (p *program) sayProblems(list []repo.Problem, count uint64) {
	for _, x := range list[:min(len(list), maxShown)] {
		p.say("%s: %s: %s", printable(cmp.Or(string(x.Path), "/")), printable(x.Op), printable(x.Text))
	}
	p.sayMore(len(list), count, "problems")
}

func problemValues(list []repo.Problem) []problemValue {
	out := make([]problemValue, len(list))
	for i, x := range list {
		out[i] = problemValue{pathOf(string(x.Path)), x.Op, x.Text}
	}
	return out
}

// orEmpty makes a list that JSON shows as [] instead of null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
