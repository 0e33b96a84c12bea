package main

import (
	"context"

	"github.com/generalbots/backupd/internal/browse"
	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

func (p *program) dumpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "dump ID|latest [PATH]",
		Short: "Write a snapshot, or PATH of it, to standard output as tar",
		Long: `Writes a tar archive (PAX, with extended attributes, ACLs and hard links) to standard output. Names have no slash in
front; holes of sparse files are written out as zeros. Sockets, which tar does not know, are left out and listed, and the exit code is 3. --json has no meaning here: the archive is the data.`,
		Example: `  backupd repo dump latest /etc | tar x -C /tmp/back
  backupd repo dump latest /etc | tar xp --acls --xattrs --xattrs-include='*' -C /tmp/back`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: p.completeSnapshot,
		RunE: func(cmd *cobra.Command, args []string) error {
			p.printed = true
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				t, err := openTree(r, args[0])
				if err != nil {
					return err
				}
				return p.dump(cmd.Context(), t, pathArgument(args))
			})
		},
	}
}

func (p *program) dump(ctx context.Context, t *browse.Tree, path string) error {
	found, err := lookUp(ctx, t, path)
	if err != nil {
		return err
	}
	var total int64
	for _, e := range found {
		total += e.Dir.Bytes + e.Size
	}
	var prog browse.ArchiveProgress
	stop := p.meter(2, func() reading {
		return reading{what: "dumping", count: prog.Files.Load(), bytes: prog.Bytes.Load(), total: total}
	})
	defer stop()
	failed := false
	err = t.Tar(ctx, p.stdout, path, &prog, func(at, text string) {
		failed = true
		p.say("%s: %s", printable(at), printable(text))
	})
	if err == nil && failed {
		err = errProblems
	}
	return err
}
