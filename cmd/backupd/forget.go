package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

// doneValue is what --json prints of forget and undelete.
type doneValue struct {
	Forgotten []string `json:"forgotten"`
	Undeleted []string `json:"undeleted"`
	GivenUp   []string `json:"given_up"`
}

func (p *program) forgetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "forget ID…",
		Short: "Remove snapshots; gc gives their space back, until then undelete takes it back",
		Long: `Removes snapshots. Their space comes back with the next gc; until then undelete takes it back.

A file that check reports as damaged or missing can be named instead, as check names it (snapshots/…):
it is given up then, with what it held, so that gc no longer waits for it. That can not be undone.`,
		Example: `  backupd repo forget 01j9 01ja
  backupd repo forget latest`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: p.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error { return p.forget(cmd.Context(), r, args) })
		},
	}
}

func (p *program) forget(ctx context.Context, r *repo.Repo, args []string) error {
	lost, queries := lostFiles(args)
	ids, err := resolveAll(queries, r.Resolve)
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		if _, err := named(lost, r.GiveUp(ctx, lost...)); err != nil {
			return err
		}
		p.say("gave up %s", counted(len(lost), "file"))
	}
	if len(ids) > 0 {
		if err := r.Forget(ctx, ids...); err != nil {
			return err
		}
		p.say("forgot %s; its space comes back with: backupd repo gc", counted(len(ids), "snapshot"))
		p.say("  until then this takes it back: backupd repo undelete %s", strings.Join(ids, " "))
	}
	return p.showDone(doneValue{Forgotten: ids, GivenUp: lost})
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
		Long: `Takes back that snapshots were forgotten, which works until a gc removes them for good. 'backupd repo snapshots --forgotten'
lists them.`,
		Example:           "  backupd repo undelete 01j9",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: p.completeForgotten,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				ids, err := resolveAll(args, func(query string) (*repo.Snapshot, error) { return forgotten(r, query) })
				if err != nil {
					return err
				}
				if err := r.Undelete(cmd.Context(), ids...); err != nil {
					return err
				}
				p.say("took back %s", counted(len(ids), "snapshot"))
				return p.showDone(doneValue{Undeleted: ids})
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

func (p *program) showDone(v doneValue) error {
	v.Forgotten, v.Undeleted, v.GivenUp = orEmpty(v.Forgotten), orEmpty(v.Undeleted), orEmpty(v.GivenUp)
	if p.json {
		return p.value(v)
	}
	for _, name := range slices.Concat(v.Forgotten, v.Undeleted, v.GivenUp) {
		p.print("%s", printable(name))
	}
	return nil
}
