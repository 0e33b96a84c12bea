package main

import (
	"context"
	"encoding/json"

	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

// manifestValue is a manifest with its paths as text. What is raw in it, the entry of the root, stays base64.
type manifestValue struct {
	*repo.Manifest
	Parts    []partValue    `json:"parts"`
	Problems []problemValue `json:"problems"`
}

type partValue struct {
	*repo.Part
	Paths []pathValue `json:"paths"`
}

// manifest prints a manifest as JSON, indented unless a script asks.
func (p *program) manifest(m *repo.Manifest) error {
	v := manifestValue{Manifest: m, Parts: []partValue{}, Problems: problemValues(m.Problems)}
	for i := range m.Parts {
		part := partValue{&m.Parts[i], []pathValue{}}
		for _, path := range m.Parts[i].Paths {
			part.Paths = append(part.Paths, pathOf(string(path)))
		}
		v.Parts = append(v.Parts, part)
	}
	if p.json {
		return p.value(v)
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	p.print("%s", b)
	return nil
}

func (p *program) debugAuditCommand() *cobra.Command {
	c := p.look("audit", "Show what was done to the repository: every snapshot, forget and undelete, in the chain of each writer", "audit",
		cobra.NoArgs, func(_ context.Context, r *repo.Repo, _ []string) error {
			records := r.Audit()
			if p.json {
				return p.value(orEmpty(records))
			}
			p.table("WRITER >NUMBER TIME DONE SNAPSHOT HASH", func(row func(...any)) {
				for _, x := range records {
					done, at := x.Kind, "-"
					if x.Problem != "" {
						done += ": " + printable(x.Problem)
					}
					if !x.At.IsZero() {
						at = timeText(x.At)
					}
					row(short(x.Writer), x.Seq, at, done, orDash(x.Snapshot), short(x.Hash))
				}
			})
			return nil
		})
	c.Long = `Every backup, forget and undelete adds a file to the repository, which holds the hash of the one its writer added before;
such files go only when a later one has taken over their hashes. Shown are those that are there, oldest first, with the
clock of the host that wrote them. A writer is a state directory. What the daemon was asked to do, and by whom, is in its
own log, which "backupd debug audit verify" verifies.`
	c.AddCommand(p.debugAuditVerifyCommand())
	return c
}

// short is the beginning of an id, for listings.
func short(id string) string { return orDash(id[:min(len(id), 12)]) }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
