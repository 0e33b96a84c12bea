package main

import (
	"strings"
	"time"

	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

func (p *program) snapshotsCommand() *cobra.Command {
	var forgotten bool
	c := &cobra.Command{
		Use:   "snapshots",
		Short: "List the snapshots, oldest first",
		Long: `Lists the snapshots, oldest first: FILES counts all that are not directories, SIZE is what a restore brings back, STORED
is by how much the repository grew. #words are tags.`,
		Example: `  backupd repo snapshots
  backupd repo snapshots --forgotten`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				if forgotten {
					return p.snapshots(r.Forgotten())
				}
				return p.snapshots(r.Snapshots())
			})
		},
	}
	c.Flags().BoolVar(&forgotten, "forgotten", false, "list those that were forgotten and can still be undeleted")
	return c
}

// snapshotValue is what --json prints of a snapshot.
type snapshotValue struct {
	ID          string      `json:"id"`
	Type        string      `json:"type"`
	BaseID      string      `json:"base_id,omitempty"`
	Status      string      `json:"status"`
	Host        string      `json:"host"`
	Tags        []string    `json:"tags"`
	Program     string      `json:"program"`
	CreatedAt   time.Time   `json:"created_at"`
	StartedAt   time.Time   `json:"started_at"`
	FinishedAt  time.Time   `json:"finished_at"`
	Forgotten   bool        `json:"forgotten"`
	ForgottenAt *time.Time  `json:"forgotten_at,omitempty"`
	Paths       []pathValue `json:"paths"`
	Counts      repo.Counts `json:"counts"`
	Problems    uint64      `json:"problem_count"`
}

func snapshotOf(s *repo.Snapshot) snapshotValue {
	v := snapshotValue{
		ID: s.ID, Type: s.Type, BaseID: s.BaseID, Status: s.Status, Host: s.Host, Tags: orEmpty(s.Tags), Program: s.Program,
		CreatedAt: s.CreatedAt, StartedAt: s.StartedAt, FinishedAt: s.FinishedAt, Forgotten: s.Forgotten,
		Paths: []pathValue{}, Counts: s.Totals, Problems: s.ProblemCount,
	}
	if s.Forgotten {
		v.ForgottenAt = &s.ForgottenAt
	}
	for _, part := range s.Parts {
		for _, path := range part.Paths {
			v.Paths = append(v.Paths, pathOf(string(path)))
		}
	}
	return v
}

func (p *program) snapshots(list []*repo.Snapshot) error {
	if p.json {
		values := make([]snapshotValue, len(list))
		for i, s := range list {
			values[i] = snapshotOf(s)
		}
		return p.value(values)
	}
	if len(list) == 0 {
		p.say("no snapshots")
		return nil
	}
	p.table("ID CREATED TYPE HOST >FILES >SIZE >STORED PATHS", func(row func(...any)) {
		for _, s := range list {
			var words []string
			for _, part := range s.Parts {
				for i, path := range part.Paths {
					if i == 4 {
						words = append(words, "…")
						break
					}
					words = append(words, printable(string(path)))
				}
			}
			for _, tag := range s.Tags {
				words = append(words, "#"+printable(tag))
			}
			if s.ProblemCount > 0 {
				words = append(words, "("+counted(s.ProblemCount, "problem")+")")
			}
			row(s.ID, timeText(s.CreatedAt), s.Type, printable(s.Host), countText(s.Totals.Files), bytesText(s.Totals.BytesTotal), bytesText(s.Totals.BytesStored), strings.Join(words, " "))
		}
	})
	return nil
}
