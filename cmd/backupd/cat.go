package main

import (
	"fmt"

	"github.com/generalbots/backupd/internal/browse"
	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

func (p *program) catCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "cat ID|latest PATH",
		Short:             "Print a file of a snapshot",
		Long:              "Writes the content of one regular file to standard output. --json has no meaning here: the content is the data.",
		Example:           "  backupd repo cat latest /etc/fstab",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: p.completeSnapshot,
		RunE: func(cmd *cobra.Command, args []string) error {
			p.printed = true
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				t, err := openTree(r, args[0])
				if err != nil {
					return err
				}
				found, err := lookUp(cmd.Context(), t, args[1])
				if err != nil {
					return err
				}
				for _, e := range found {
					if e.Type == repo.TypeRegular {
						return t.Content(cmd.Context(), p.stdout, e.Entry)
					}
				}
				return fmt.Errorf("%s is a %s, which has no content", printable(browse.Clean(args[1])), browse.TypeName(found[0].Type))
			})
		},
	}
}
