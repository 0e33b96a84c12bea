package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

func (p *program) forgetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "forget ID…",
		Short: "Remove snapshots; gc gives their space back, until then undelete takes it back",
		Long: `Remove snapshots. Their space comes back with the next gc; until then undelete takes them back.

A file that check reports as damaged or missing can be named instead, as check names it (snapshots/…):
it is given up then, with what it held, so that gc no longer waits for it.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				lost, args := lostFiles(args)
				if len(lost) > 0 {
					if err := r.GiveUp(cmd.Context(), lost...); err != nil {
						return err
					}
				}
				if len(args) == 0 {
					return p.showIDs(lost, "given up", "")
				}
				ids, err := resolveAll(args, r.Resolve)
				if err != nil {
					return err
				}
				if err := r.Forget(cmd.Context(), ids...); err != nil {
					return err
				}
				return p.showIDs(ids, "forgotten", "backupd repo undelete "+ids[0]+" takes it back until the next gc")
			})
		},
	}
}

// lostFiles parts the names of damaged or missing files from ids.
func lostFiles(args []string) (lost, ids []string) {
	for _, a := range args {
		if strings.HasPrefix(a, "snapshots/") {
			lost = append(lost, a)
		} else {
			ids = append(ids, a)
		}
	}
	return lost, ids
}

func (p *program) undeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "undelete ID…",
		Short: "Take back that snapshots were forgotten",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				ids, err := resolveAll(args, func(query string) (*repo.Snapshot, error) { return forgotten(r, query) })
				if err != nil {
					return err
				}
				if err := r.Undelete(cmd.Context(), ids...); err != nil {
					return err
				}
				return p.showIDs(ids, "undeleted", "")
			})
		},
	}
}

// resolveAll finds all snapshots before anything is done to one of them.
func resolveAll(queries []string, resolve func(string) (*repo.Snapshot, error)) ([]string, error) {
	var ids []string
	seen := map[string]bool{}
	for _, q := range queries {
		s, err := named(resolve(q))
		if err != nil {
			return nil, err
		}
		if !seen[s.ID] {
			seen[s.ID] = true
			ids = append(ids, s.ID)
		}
	}
	return ids, nil
}

// forgotten finds a forgotten snapshot by a unique beginning of its id.
func forgotten(r *repo.Repo, query string) (*repo.Snapshot, error) {
	beginning := strings.TrimPrefix(strings.ToLower(query), "backup-")
	var found []*repo.Snapshot
	for _, s := range r.Forgotten() {
		if beginning != "" && strings.HasPrefix(strings.TrimPrefix(s.ID, "backup-"), beginning) {
			found = append(found, s)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, fmt.Errorf("forgotten snapshot %q: %w: %d begin so; give more of the id", query, repo.ErrNotFound, len(found))
	}
	if s, err := r.Resolve(query); err == nil && query != "latest" {
		return nil, errors.New(s.ID + " is not forgotten")
	}
	return nil, fmt.Errorf("forgotten snapshot %q: %w; 'backupd repo snapshots --forgotten' lists what can be taken back", query, repo.ErrNotFound)
}

func (p *program) showIDs(ids []string, done, hint string) error {
	if p.json {
		return p.value(map[string][]string{strings.ReplaceAll(done, " ", "_"): ids})
	}
	for _, id := range ids {
		p.print("%s", id)
	}
	p.say("%s %d snapshots", done, len(ids))
	if hint != "" {
		p.say("  %s", hint)
	}
	return nil
}
