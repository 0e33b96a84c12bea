// Backupd keeps encrypted, deduplicated backups of a host.
//
// This package is wiring: it turns words on a command line into options of the
// packages that do the work, and what they return into lines on a terminal, one
// JSON value, and an exit code. One file holds one group of commands.
//
// Standard output is data, standard error is talk. Secrets come from files or a
// prompt, never from arguments or the environment, and are never printed, except
// that init and key add show a new recovery code once.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/generalbots/backupd/internal/pace"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// version is set by the linker.
var version = "devel"

const (
	// gcPercent and softMemory, in bytes, trade memory against time. The engine's buffers are pooled, so the collector has
	// little to do whatever stands here: over 48,716 files of 517 MB, a percentage of 50, 100 and 200 gave a peak of
	// anonymous memory of 70, 78 and 87 MB for a backup and of 64, 84 and 84 MB for a restore, with the same processor
	// time within 3 %. The limit is where the collector begins to work harder, some way below the 128 MB promised; see
	// ceiling for where it is before.
	gcPercent  = 50
	softMemory = 96 << 20
)

// errInterrupted is why a context ends after SIGINT or SIGTERM.
var errInterrupted = errors.New("interrupted")

func main() {
	os.Exit(run())
}

// run is main with deferred calls.
func run() int {
	raiseFileLimit()
	leaveNoCore()
	debug.SetGCPercent(gcPercent)
	if os.Getenv("GOMAXPROCS") == "" {
		pace.SparePlace()
	}
	stopProfile, err := profile()
	if err != nil {
		fmt.Fprintln(os.Stderr, "profile:", err)
		return exitFailed
	}
	defer stopProfile()
	ctx, stop := interruptible(context.Background())
	defer stop()
	p := &program{
		stdin: os.Stdin, stdout: bufio.NewWriterSize(&output{ctx, os.Stdout}, 64<<10), stderr: os.Stderr, env: os.Getenv,
	}
	p.journal = isJournal(os.Getenv("JOURNAL_STREAM"), int(os.Stderr.Fd()))
	p.onScreen = term.IsTerminal(int(os.Stdout.Fd()))
	if term.IsTerminal(int(os.Stderr.Fd())) {
		p.terminal = &terminal{w: os.Stderr}
		p.stderr = p.terminal
	}
	return p.execute(ctx, os.Args[1:])
}

// raiseFileLimit allows as many open files as the system will give. Restores and scans of deep trees hold many.
func raiseFileLimit() {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil && limit.Cur < limit.Max {
		limit.Cur = limit.Max
		// Without it everything works, with fewer files at a time.
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
}

// leaveNoCore keeps a crash from writing memory, with keys and plaintext in it, to a file.
func leaveNoCore() {
	// Lowering a limit needs no privilege; without it the master key is still left out, the keys made from it are not.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}

// interruptible ends the context at the first SIGINT or SIGTERM, so that the work stops where the repository is sound,
// and the process at the second: the repository is sound at any moment, only the farewell is missing.
func interruptible(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		cancel(errInterrupted)
		<-signals
		os.Exit(exitInterrupted)
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}
