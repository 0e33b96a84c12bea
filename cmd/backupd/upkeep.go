package main

import (
	"context"

	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

func (p *program) gcCommand() *cobra.Command {
	var o repo.GCOptions
	c := &cobra.Command{
		Use:   "gc",
		Short: "Give back the space of what no snapshot needs",
		Long: `Removes what no snapshot needs and packs together what is left. Forgotten snapshots can not be undeleted afterwards. It
has the repository to itself meanwhile, and may be killed at any moment: what is needed is never touched.`,
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
	rep, err := r.GC(ctx, o, &prog)
	stop()
	if err != nil {
		return err
	}
	verb := "freed"
	if rep.DryRun {
		verb = "would free"
	}
	p.say("%s %s: %s in %s packs before, %s in %s after; %s packs dead, %s repacked (%s moved), %s snapshots removed for good",
		verb, bytesText(rep.BytesBefore-rep.BytesAfter), bytesText(rep.BytesBefore), countText(rep.PacksBefore), bytesText(rep.BytesAfter), countText(rep.PacksAfter),
		countText(rep.DeadPacks), countText(rep.RepackedPacks), bytesText(rep.MovedBytes), countText(rep.RemovedSnapshots))
	if p.json {
		return p.value(rep)
	}
	return nil
}

func (p *program) checkCommand() *cobra.Command {
	var o repo.CheckOptions
	var accept bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Prove that the repository is whole",
		Long: `Checks the chain of snapshots, the packs, the trees, and that every chunk they name is there; with --read-data every
byte is read, decrypted, decompressed and compared with its id. Each thing that is wrong is a line on standard output,
each file it reaches another, and the exit code is 1. Nothing is changed in the repository.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				if accept {
					if err := r.AcceptHead(cmd.Context()); err != nil {
						return err
					}
					p.say("the repository as it is now counts as its newest state")
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
		return reading{what: "checking packs", countedOnly: true, files: prog.Packs.Load(), totalFiles: prog.TotalPacks.Load()}
	})
	rep, err := r.Check(ctx, o, &prog)
	stop()
	if err != nil {
		return err
	}
	p.say("checked %s snapshots, %s packs (%s), %s chunks in %s blocks, %s of them delta blocks",
		countText(rep.Snapshots), countText(rep.Packs), bytesText(rep.PackBytes), countText(rep.Chunks), countText(rep.Blocks), countText(rep.DeltaBlocks))
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
		p.say("everything is as it should be")
		return nil
	}
	p.say("found %s faults and %s damaged files", countText(len(rep.Findings)), countText(len(rep.DamagedFiles)))
	return errDamaged
}

func (p *program) statsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Say what each snapshot holds alone, and what the repository takes",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				s, err := r.Stats(cmd.Context())
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
	err := p.table("ID FILES SIZE ALONE", func(row func(...any)) {
		for _, x := range s.Snapshots {
			row(x.ID, countText(x.Files), bytesText(x.Bytes), bytesText(x.Alone))
		}
	})
	if err != nil {
		return err
	}
	p.print("")
	p.print("packs     %s in %s, %s of it padding", bytesText(s.PackBytes), countText(s.Packs), bytesText(s.PadBytes))
	p.print("blocks    %s, of them %s delta blocks", countText(s.Blocks), countText(s.DeltaBlocks))
	p.print("chunks    %s, %s when decoded", countText(s.Chunks), bytesText(s.ChunkBytes))
	p.print("used      %s by snapshots, %s by nothing but dictionaries and what gc will free", bytesText(s.UsedBytes), bytesText(s.DeadBytes))
	p.print("forgotten %s snapshots that can be undeleted", countText(s.Forgotten))
	return nil
}
