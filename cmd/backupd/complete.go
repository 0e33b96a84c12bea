package main

import (
	"context"
	"io"
	"log/slog"

	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

// Completion of snapshot ids opens the repository as the command would, but never asks, says or writes anything, and only
// with a key file: a passphrase would cost the better part of a second at each press of a key.

// completeSnapshot completes the first argument: a live snapshot. Paths of a snapshot are not completed.
func (p *program) completeSnapshot(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return append(p.ids(cmd.Context(), (*repo.Repo).Snapshots), "latest"), cobra.ShellCompDirectiveNoFileComp
}

// completeSnapshots completes every argument.
func (p *program) completeSnapshots(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	return p.completeSnapshot(cmd, nil, word)
}

// completeForgotten completes what undelete takes.
func (p *program) completeForgotten(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.ids(cmd.Context(), (*repo.Repo).Forgotten), cobra.ShellCompDirectiveNoFileComp
}

// ids are the ids of snapshots, each with its time; none when anything is in the way.
func (p *program) ids(ctx context.Context, of func(*repo.Repo) []*repo.Snapshot) (ids []string) {
	st, _, err := p.openStore(ctx)
	if err != nil {
		return nil
	}
	defer st.Close()
	creds, err := fromFiles(p.or(p.access.key, "BACKUPD_KEY_FILE"), "", "")
	if err != nil || len(creds) == 0 {
		return nil
	}
	r, err := repo.Open(ctx, st, creds, repo.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	for _, c := range creds {
		c.Wipe()
	}
	if err != nil {
		return nil
	}
	for _, s := range of(r) {
		ids = append(ids, s.ID+"\t"+timeText(s.CreatedAt))
	}
	_ = r.Close() // nothing was written
	return ids
}

// words completes the value of a flag that takes one of a few.
func words(c *cobra.Command, flag string, values ...string) {
	// It fails for a flag that is not there, which the tests of every command's help would show.
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}
