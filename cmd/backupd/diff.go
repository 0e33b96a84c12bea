package main

import (
	"encoding/json"
	"fmt"
	"sync/atomic"

	"github.com/generalbots/backupd/internal/browse"
	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

func (p *program) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff ID ID|latest",
		Short: "Show what was added, changed and removed from one snapshot to another",
		Long: `Prints a line for each path that differs: + added, - removed, M content changed, m only metadata changed; then the size
(of what changed: both), then the path.`,
		Example:           "  backupd repo diff 01j9 latest",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: p.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				a, err := named(r.Resolve(args[0]))
				if err != nil {
					return err
				}
				b, err := named(r.Resolve(args[1]))
				if err != nil {
					return err
				}
				return p.diff(r, cmd, a, b)
			})
		},
	}
}

// changeValue is what --json prints of a change.
type changeValue struct {
	Kind string `json:"kind"`
	pathValue
	Type    string `json:"type"`
	OldSize *int64 `json:"old_size,omitempty"`
	NewSize *int64 `json:"new_size,omitempty"`
}

// diffTotals count what a diff showed.
type diffTotals struct {
	Added        int64 `json:"added"`
	Removed      int64 `json:"removed"`
	Changed      int64 `json:"changed"`
	MetaChanged  int64 `json:"metadata_changed"`
	BytesAdded   int64 `json:"bytes_added"`
	BytesRemoved int64 `json:"bytes_removed"`
}

func (t *diffTotals) add(c *repo.Change) {
	switch c.Kind {
	case repo.Added:
		t.Added++
	case repo.Removed:
		t.Removed++
	case repo.Changed:
		t.Changed++
	case repo.MetaChanged:
		t.MetaChanged++
		return
	}
	if c.Old != nil {
		t.BytesRemoved += c.Old.Size
	}
	if c.New != nil {
		t.BytesAdded += c.New.Size
	}
}

func (p *program) diff(r *repo.Repo, cmd *cobra.Command, a, b *repo.Snapshot) error {
	var totals diffTotals
	var seen atomic.Int64
	stop := p.meter(2, func() reading {
		if seen.Load() == 0 {
			return reading{what: "comparing", measure: byTime}
		}
		return reading{what: "comparing", measure: byCount, unit: "change", count: seen.Load()}
	})
	defer stop()
	values := p.list(fmt.Sprintf(`{"from":%q,"to":%q,"changes":`, a.ID, b.ID))
	for c, err := range r.Diff(cmd.Context(), a, b) {
		if err != nil {
			return err
		}
		seen.Add(1)
		totals.add(&c)
		if !p.json {
			p.row("%s", changeLine(&c))
		} else if err := values.add(changeOf(&c)); err != nil {
			return err
		}
	}
	stop()
	p.say("%s added, %s changed, %s removed, %s with other metadata; +%s -%s",
		countText(totals.Added), countText(totals.Changed), countText(totals.Removed), countText(totals.MetaChanged), bytesText(totals.BytesAdded), bytesText(totals.BytesRemoved))
	if !p.json {
		return nil
	}
	tail, err := json.Marshal(totals)
	if err != nil {
		return err
	}
	return values.end(`,"totals":` + string(tail) + "}")
}

func changeOf(c *repo.Change) changeValue {
	v := changeValue{Kind: c.Kind.String(), pathValue: pathOf("/" + c.Path)}
	if c.Old != nil {
		v.Type, v.OldSize = browse.TypeName(c.Old.Type), &c.Old.Size
	}
	if c.New != nil {
		v.Type, v.NewSize = browse.TypeName(c.New.Type), &c.New.Size
	}
	return v
}

func changeLine(c *repo.Change) string {
	name := printable("/" + c.Path)
	switch c.Kind {
	case repo.Added:
		return fmt.Sprintf("+ %23s  %s", sizeText(c.New), name)
	case repo.Removed:
		return fmt.Sprintf("- %23s  %s", sizeText(c.Old), name)
	case repo.Changed:
		return fmt.Sprintf("M %23s  %s", sizeText(c.Old)+" → "+sizeText(c.New), name)
	}
	return fmt.Sprintf("m %23s  %s", sizeText(c.New), name)
}
