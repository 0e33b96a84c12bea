package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

func (p *program) gcCommand() *cobra.Command {
	var o repo.GCOptions
	c := &cobra.Command{
		Use:   "gc",
		Short: "Give back the space of what no snapshot needs",
		Long: `Removes what no snapshot needs and packs together what is left. Forgotten snapshots can not be undeleted afterwards;
--dry-run names them. It has the repository to itself meanwhile, and may be killed at any moment: what is needed is never
touched.`,
		Example: `  backupd repo gc --dry-run
  backupd repo gc`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error { return p.gc(cmd.Context(), r, o) })
		},
	}
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what would be freed; remove nothing")
	return c
}

func (p *program) gc(ctx context.Context, r *repo.Repo, o repo.GCOptions) error {
	var prog repo.GCProgress
	stop := p.meter(2, func() reading {
		what := "collecting"
		if phase := prog.Phase.Load(); phase != nil {
			what = *phase
		}
		return reading{what: what, bytes: prog.Moved.Load() + prog.Deleted.Load(), total: prog.ToBeFreed.Load()}
	})
	gone := r.Forgotten()
	rep, err := r.GC(ctx, o, &prog)
	stop()
	if err != nil {
		return err
	}
	verb, removed := "freed", "removed for good"
	if rep.DryRun {
		verb, removed = "would free", "would be removed for good"
	}
	v := gcValue{GCReport: rep, Removed: []string{}}
	for _, s := range gone {
		v.Removed = append(v.Removed, s.ID)
		p.say("%s of %s %s", s.ID, timeText(s.CreatedAt), removed)
	}
	p.say("%s %s: %s in %s before, %s in %s after", verb, bytesText(rep.BytesBefore-rep.BytesAfter),
		bytesText(rep.BytesBefore), counted(rep.PacksBefore, "pack"), bytesText(rep.BytesAfter), counted(rep.PacksAfter, "pack"))
	p.say("  %s without anything needed, %s repacked (%s moved), %s %s",
		counted(rep.DeadPacks, "pack"), countText(rep.RepackedPacks), bytesText(rep.MovedBytes), counted(rep.RemovedSnapshots, "snapshot"), removed)
	if rep.DryRun && len(gone) > 0 {
		p.say("  until gc runs this takes them back: backupd repo undelete %s", strings.Join(v.Removed, " "))
	}
	if p.json {
		return p.value(v)
	}
	return nil
}

// gcValue is what --json prints of a gc.
type gcValue struct {
	*repo.GCReport
	Removed []string `json:"removed_ids"`
}

func (p *program) checkCommand() *cobra.Command {
	var o repo.CheckOptions
	var accept bool
	c := &cobra.Command{
		Use:   "check [ID…]",
		Short: "Prove that the repository is whole, or single snapshots",
		Long: `Checks the chain of snapshots, the packs, the trees, and that every chunk they name is there; with --read-data every
byte is read, decrypted, decompressed and compared with its id. Each thing that is wrong is a line on standard output,
each file it reaches another, and the exit code is 1. Nothing is changed in the repository.

With IDs (or latest) only those snapshots are proven: with --read-data each byte that restoring them needs is read, and
nothing else, so that it takes as long as they are large and not as the repository is.

A repository that is older than what this host remembers of it is opened read only. When that is as it should be, as
after bringing back a copy, --accept-head takes it for the newest state.`,
		Example: `  backupd repo check
  backupd repo check --read-data
  backupd repo check --read-data latest`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: p.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				if accept {
					if err := r.AcceptHead(cmd.Context()); err != nil {
						return err
					}
					p.say("the repository as it is now counts as its newest state")
				}
				var err error
				if o.Snapshots, err = resolveAll(args, r.Resolve); err != nil {
					return err
				}
				return p.check(cmd.Context(), r, o)
			})
		},
	}
	c.Flags().BoolVar(&o.ReadData, "read-data", false, "read every byte")
	c.Flags().BoolVar(&accept, "accept-head", false, "take the repository as it is for its newest state, whatever this host remembers of it")
	return c
}

// checkValue is what --json prints of a check.
type checkValue struct {
	*repo.CheckReport
	Sound        bool               `json:"sound"`
	Findings     []repo.Finding     `json:"findings"`
	DamagedFiles []damagedFileValue `json:"damaged_files"`
}

type damagedFileValue struct {
	Snapshot string `json:"snapshot"`
	pathValue
	Text string `json:"text"`
}

func (p *program) check(ctx context.Context, r *repo.Repo, o repo.CheckOptions) error {
	var prog repo.CheckProgress
	stop := p.meter(2, func() reading {
		if o.ReadData {
			return reading{what: "checking", bytes: prog.Bytes.Load(), total: prog.TotalBytes.Load()}
		}
		return reading{what: "checking", measure: byCount, unit: "pack", count: prog.Packs.Load(), counts: prog.TotalPacks.Load()}
	})
	rep, err := r.Check(ctx, o, &prog)
	stop()
	if err != nil {
		return err
	}
	p.say("checked %s, %s (%s), %s in %s, %s among them", counted(rep.Snapshots, "snapshot"), counted(rep.Packs, "pack"), bytesText(rep.PackBytes),
		counted(rep.Chunks, "chunk"), counted(rep.Blocks, "block"), counted(rep.DeltaBlocks, "delta block"))
	if p.json {
		v := checkValue{CheckReport: rep, Sound: rep.Sound(), Findings: orEmpty(rep.Findings), DamagedFiles: []damagedFileValue{}}
		for _, f := range rep.DamagedFiles {
			v.DamagedFiles = append(v.DamagedFiles, damagedFileValue{f.Snapshot, pathOf(string(f.Path)), f.Text})
		}
		if err := p.value(v); err != nil {
			return err
		}
	} else {
		for _, f := range rep.Findings {
			p.print("%s: %s", printable(f.Object), printable(f.Text))
		}
		for _, f := range rep.DamagedFiles {
			p.print("%s: %s: %s", f.Snapshot, printable(string(f.Path)), printable(f.Text))
		}
	}
	if rep.Sound() {
		switch {
		case o.ReadData && len(o.Snapshots) > 0:
			p.say("%s can be restored whole", strings.Join(rep.Only, ", "))
		case o.ReadData:
			p.say("everything is as it should be")
		default:
			p.say("everything is in its place; --read-data reads every byte as well")
		}
		return nil
	}
	p.say("found %s and %s", counted(len(rep.Findings), "fault"), counted(len(rep.DamagedFiles), "damaged file"))
	if len(rep.DamagedFiles) == 0 && !slices.ContainsFunc(rep.Findings, func(f repo.Finding) bool { return f.Object != "head" }) {
		return errStranger
	}
	return errDamaged
}

func (p *program) statsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Say what each snapshot holds alone, and what the repository takes",
		Long: `For each snapshot: how many files it has, their SIZE, and ALONE, what only this snapshot needs, as stored: about what
forgetting it and a gc give back. Then what the whole repository takes.`,
		Example: "  backupd repo stats",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				var prog repo.StatsProgress
				stop := p.meter(2, func() reading {
					if prog.Chunks.Load() == 0 {
						return reading{what: "measuring", measure: byTime}
					}
					what := fmt.Sprintf("measuring snapshot %s of %s:", countText(min(prog.Snapshots.Load()+1, prog.TotalSnapshots.Load())), countText(prog.TotalSnapshots.Load()))
					return reading{what: what, measure: byCount, unit: "chunk", count: prog.Chunks.Load()}
				})
				s, err := r.Stats(cmd.Context(), &prog)
				stop()
				if err != nil {
					return err
				}
				if p.json {
					s.Snapshots = orEmpty(s.Snapshots)
					return p.value(s)
				}
				return p.stats(s)
			})
		},
	}
}

func (p *program) stats(s *repo.Stats) error {
	p.table("ID >FILES >SIZE >ALONE", func(row func(...any)) {
		for _, x := range s.Snapshots {
			row(x.ID, countText(x.Files), bytesText(x.Bytes), bytesText(x.Alone))
		}
	})
	p.print("")
	p.print("repository  %s in %s, %s of it padding", bytesText(s.PackBytes), counted(s.Packs, "pack"), bytesText(s.PadBytes))
	p.print("needed      %s by snapshots; %s only by delta blocks, or by nothing, which gc frees", bytesText(s.UsedBytes), bytesText(s.DeadBytes))
	p.print("content     %s in %s, before compression", bytesText(s.ChunkBytes), counted(s.Chunks, "chunk"))
	p.print("blocks      %s, of them %s", countText(s.Blocks), counted(s.DeltaBlocks, "delta block"))
	p.print("forgotten   %s that can be undeleted", counted(s.Forgotten, "snapshot"))
	return nil
}
