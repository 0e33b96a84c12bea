package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// program is one run of backupd: what it was given, and whom it talks to.
type program struct {
	stdin    *os.File
	stdout   *bufio.Writer // data; flushed when the command ends
	stderr   io.Writer     // talk
	terminal bool          // stderr is one
	env      func(string) string

	access  access // how to get at the repository
	json    bool
	printed bool // the JSON value is out
}

// execute runs a command line and returns the exit code.
func (p *program) execute(ctx context.Context, args []string) int {
	root := p.root()
	root.SetArgs(args)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.SetIn(p.stdin)
	err := root.ExecuteContext(ctx)
	f := failure{}
	if err != nil {
		f = explain(ctx, err)
		if p.json && !p.printed && !errors.Is(err, errProblems) {
			// What is wrong with stdout itself is found by the flush.
			_ = p.value(f)
		}
	}
	if ferr := p.stdout.Flush(); ferr != nil && err == nil {
		err = fmt.Errorf("standard output: %w", ferr)
		f = explain(ctx, err)
	}
	if err != nil && !errors.Is(err, errProblems) {
		p.say("backupd: %s", printable(f.Text))
		if f.Hint != "" {
			p.say("  %s", f.Hint)
		}
	}
	return f.Code
}

// root builds the tree of commands.
func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "backupd",
		Short: "Encrypted, deduplicated backups",
		Long: `Backupd splits what a host holds into chunks, stores each chunk once, encrypted, in a repository,
and gives it back byte for byte. The commands below "repo" work on a repository directly.

Exit codes: 0 done; 1 failed, or the repository is damaged; 3 done with problems, which the report
lists; 10 no such repository or snapshot; 11 held by another backupd; 12 wrong key; 130 interrupted.
Standard output is data, standard error is talk.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().BoolVar(&p.json, "json", false, "print one JSON value on standard output when done")
	root.AddCommand(p.repoCommand(), p.debugCommand(), p.versionCommand(), p.manCommand())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{cmd.CommandPath(), err} })
	eachCommand(root, func(c *cobra.Command) {
		c.DisableFlagsInUseLine = true
		if check := c.Args; check != nil {
			c.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return &usageError{cmd.CommandPath(), err}
				}
				return nil
			}
		}
	})
	return root
}

func eachCommand(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		eachCommand(sub, do)
	}
}

// group is a command that only holds others.
func group(use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

// say prints a line of talk.
func (p *program) say(format string, args ...any) { fmt.Fprintf(p.stderr, format+"\n", args...) }

// print prints a line of data. A failure is found by the flush at the end.
func (p *program) print(format string, args ...any) { fmt.Fprintf(p.stdout, format+"\n", args...) }

// value prints the one JSON value of a command.
func (p *program) value(v any) error {
	p.printed = true
	enc := json.NewEncoder(p.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// list prints a JSON array element by element, for lists that may be longer than memory.
type list struct {
	p     *program
	count int
}

func (p *program) list() *list {
	p.printed = true
	return &list{p: p}
}

func (l *list) add(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	lead := ",\n"
	if l.count == 0 {
		lead = "["
	}
	l.count++
	_, err = fmt.Fprintf(l.p.stdout, "%s%s", lead, b)
	return err
}

// end closes the array, which was the whole value; close leaves the line open for more.
func (l *list) end() error {
	if err := l.close(); err != nil {
		return err
	}
	return l.p.stdout.WriteByte('\n')
}

func (l *list) close() error {
	lead := ""
	if l.count == 0 {
		lead = "["
	}
	_, err := fmt.Fprintf(l.p.stdout, "%s]", lead)
	return err
}
