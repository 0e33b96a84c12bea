package main

import (
	"fmt"

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
				found, err := t.find(cmd.Context(), args[1])
				if err != nil {
					return err
				}
				for _, e := range found {
					if e.Type == repo.TypeRegular {
						return t.content(cmd.Context(), p.stdout, e)
					}
				}
				return fmt.Errorf("%s is a %s, which has no content", printable(clean(args[1])), typeText(found[0].Type))
			})
		},
	}
}
