package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// program is one run of backupd: what it was given, and whom it talks to.
type program struct {
	stdin    *os.File
	stdout   *bufio.Writer // data; flushed when the command ends
	stderr   io.Writer     // talk
	terminal *terminal     // what stderr writes to, when it is one
	onScreen bool          // stdout is a terminal, most likely the same
	journal  bool          // stderr is systemd's journal
	env      func(string) string

	access  access // how to get at the repository
	json    bool
	printed bool // the JSON value is out

	writes []string // directories of the repository that is open
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
		// The flag may stand behind the one that made no sense.
		asked := p.json || slices.Contains(args, "--json")
		if asked && !p.printed && !errors.Is(err, errProblems) {
			// What is wrong with stdout itself is found by the flush.
			_ = p.value(f)
		}
	}
	if ferr := p.stdout.Flush(); ferr != nil && err == nil {
		err = fmt.Errorf("standard output: %w", ferr)
		f = explain(ctx, err)
	}
	if err != nil && !errors.Is(err, errProblems) {
		mark := ""
		if p.journal {
			mark = priority(slog.LevelError)
		}
		p.say("%sbackupd: %s", mark, printable(f.Text))
		for _, line := range f.Mistakes {
			p.say("%s%s", mark, printable(line))
		}
		if f.Hint != "" {
			p.say("%s  %s", mark, printable(f.Hint))
		}
	}
	return f.Code
}

// root builds the tree of commands.
func (p *program) root() *cobra.Command {
	root := group("backupd", "Encrypted, deduplicated backups", `Backupd splits what a host holds into chunks, stores each chunk once, encrypted, in a repository,
and gives it back byte for byte. "serve" is the daemon, which create, list, show, delete, restore, status
and schedule ask; the commands below "repo" work on a repository directly.

Exit codes: 0 done; 1 failed, or the repository is damaged; 3 done with problems, which the report
lists; 10 no such repository, snapshot, backup or job; 11 held by another backupd or job; 12 wrong key
or token; 130 interrupted.
Standard output is data, standard error is talk.`)
	root.Example = `  backupd repo init --repo /srv/backup --key-file /etc/backupd/key
  backupd repo backup /etc /home --repo /srv/backup --key-file /etc/backupd/key
  backupd repo restore latest --target /tmp/back --repo /srv/backup --key-file /etc/backupd/key`
	root.Version = version
	root.SilenceUsage, root.SilenceErrors = true, true
	root.SetVersionTemplate("backupd {{.Version}}\n")
	root.PersistentFlags().BoolVar(&p.json, "json", false, "print one JSON value on standard output when done")
	root.AddCommand(
		p.serveCommand(), p.configCommand(), p.tokenCommand(),
		p.createCommand(), p.listCommand(), p.showCommand(), p.deleteCommand(), p.remoteRestoreCommand(), p.statusCommand(), p.scheduleCommand(),
		p.repoCommand(), p.debugCommand(), p.versionCommand(), p.manCommand(),
	)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{cmd.CommandPath(), err} })
	eachCommand(root, func(c *cobra.Command) {
		c.DisableFlagsInUseLine = true
		if c.ValidArgsFunction == nil && !c.HasSubCommands() && c.Name() != "backup" {
			c.ValidArgsFunction = cobra.NoFileCompletions
		}
		if check := c.Args; check != nil {
			c.Args = func(cmd *cobra.Command, args []string) error {
				err := check(cmd, args)
				if err == nil {
					return nil
				}
				if !cmd.HasSubCommands() {
					err = fmt.Errorf("%s given; usage: %s", counted(len(args), "argument"), cmd.UseLine())
				}
				return &usageError{cmd.CommandPath(), err}
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
		Use: use, Short: short, Long: long, SuggestionsMinimumDistance: 2,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), suggestion(cmd, args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

// suggestion names the commands that may have been meant: like the word, or of that name one level down.
func suggestion(cmd *cobra.Command, word string) string {
	var meant []string
	for _, name := range cmd.SuggestionsFor(word) {
		meant = append(meant, "'"+cmd.CommandPath()+" "+name+"'")
	}
	for _, c := range cmd.Commands() {
		for _, below := range c.Commands() {
			if below.Name() == word && c.Name() != "completion" {
				meant = append(meant, "'"+below.CommandPath()+"'")
			}
		}
	}
	if len(meant) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(meant, " or ") + "?"
}

// say prints a line of talk, after the data printed before it. A failure of the data is found by the flush at the end.
func (p *program) say(format string, args ...any) {
	_ = p.stdout.Flush()
	fmt.Fprintf(p.stderr, format+"\n", args...)
}

// print prints a line of data. A failure is found by the flush at the end.
func (p *program) print(format string, args ...any) { fmt.Fprintf(p.stdout, format+"\n", args...) }

// row is print while a meter runs. Where people see both, the line is shown at once, in place of the progress line, so
// that neither writes into the other.
func (p *program) row(format string, args ...any) {
	p.print(format, args...)
	if p.onScreen && p.terminal != nil {
		p.terminal.aside(func() { _ = p.stdout.Flush() }) // a failure is found by the flush at the end
	}
}

// value prints the one JSON value of a command.
func (p *program) value(v any) error {
	p.printed = true
	enc := json.NewEncoder(p.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// maxHeld is how much of a JSON list waits for the rest of it, in bytes.
const maxHeld = 1 << 20

// list prints a JSON value that ends in an array element by element, since that may be longer than memory. What fails
// before maxHeld bytes are there prints its failure as the one value instead; what fails later leaves the array open, so
// that nobody takes a part of it for the whole.
type list struct {
	p     *program
	held  bytes.Buffer
	count int
}

// list begins a value; head is what stands before the array.
func (p *program) list(head string) *list {
	l := &list{p: p}
	l.held.WriteString(head)
	return l
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
	l.held.WriteString(lead)
	l.held.Write(b)
	if l.held.Len() < maxHeld {
		return nil
	}
	return l.pour()
}

// end closes the array; tail is what stands after it.
func (l *list) end(tail string) error {
	if l.count == 0 {
		l.held.WriteString("[")
	}
	l.held.WriteString("]" + tail + "\n")
	return l.pour()
}

func (l *list) pour() error {
	l.p.printed = true
	_, err := l.held.WriteTo(l.p.stdout)
	return err
}
