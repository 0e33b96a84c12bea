package main

import "github.com/spf13/cobra"

// repoCommand is the group of commands that work on a repository without a daemon.
func (p *program) repoCommand() *cobra.Command {
	c := group("repo", "Work on a repository directly, without a daemon", `The repository is a directory, named by --repo or BACKUPD_REPO. It is opened with a key file, a passphrase or a
recovery code: from the files that flags name, or BACKUPD_KEY_FILE and BACKUPD_PASSPHRASE_FILE, or the files
backupd-key and backupd-passphrase in $CREDENTIALS_DIRECTORY, or a passphrase typed at a prompt.

Snapshots are named by their id, a unique beginning of it, or "latest".`)
	p.access.flags(c.PersistentFlags())
	c.AddCommand(
		p.initCommand(), p.shares(p.backupCommand()), p.snapshotsCommand(),
		p.lsCommand(), p.diffCommand(), p.findCommand(), p.catCommand(), p.dumpCommand(), p.shares(p.restoreCommand()),
		p.forgetCommand(), p.undeleteCommand(), p.shares(p.gcCommand()), p.shares(p.checkCommand()), p.statsCommand(), p.keyCommand(),
	)
	return c
}
