package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/generalbots/backupd/internal/browse"
	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

func (p *program) findCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "find NAME",
		Short: "Find files by name in all snapshots",
		Long: `Looks through all snapshots, oldest first, for entries called NAME, which may hold *, ? and [a-z]. A NAME with a slash in
it is compared with the whole path. Each line has the snapshot, the time of modification, the size and the path.`,
		Example: "  backupd repo find '*.docx'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			search, err := browse.NewSearch(args[0])
			if err != nil {
				return &usageError{cmd.CommandPath(), fmt.Errorf("NAME is %w", err)}
			}
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error { return p.find(cmd.Context(), r, search) })
		},
	}
}

// foundValue is what --json prints of a find.
type foundValue struct {
	Snapshot string `json:"snapshot"`
	entryValue
}

func (p *program) find(ctx context.Context, r *repo.Repo, search *browse.Search) error {
	snapshots := r.Snapshots()
	var done atomic.Int64
	stop := p.meter(2, func() reading {
		what := fmt.Sprintf("looking through snapshot %s of %s:", countText(done.Load()+1), countText(len(snapshots)))
		return reading{what: what, measure: byCount, unit: "entry", count: search.Entries.Load()}
	})
	defer stop()
	values := p.list("")
	count := 0
	for _, s := range snapshots {
		t, err := browse.Open(r, s)
		if err != nil {
			return err
		}
		err = search.In(ctx, t, func(at string, e *repo.Entry) error {
			count++
			if p.json {
				return values.add(foundValue{s.ID, entryOf(at, e)})
			}
			p.row("%s  %s  %10s  %s", s.ID, timeText(browse.Clock(e.Mtime)), sizeText(e), printable(at))
			return nil
		})
		if err != nil {
			return err
		}
		done.Add(1)
	}
	stop()
	if p.json {
		return values.end("")
	}
	p.say("found %s in %s", counted(count, "entry"), counted(len(snapshots), "snapshot"))
	return nil
}
