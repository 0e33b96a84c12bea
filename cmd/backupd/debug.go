package main

import "github.com/spf13/cobra"

// debugCommand is the group of commands that look inside a repository.
func (p *program) debugCommand() *cobra.Command {
	c := group("debug", "Look inside a repository; nothing is ever changed", "These commands show the objects of a repository as they are. They take the same flags as those below \"repo\".")
	p.access.flags(c.PersistentFlags())
	return c
}
