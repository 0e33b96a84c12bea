package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func (p *program) serveCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: `Runs the daemon in the foreground: the API, the queue of jobs and the schedules. The log goes to standard error.

SIGTERM and SIGINT drain: nothing new is taken, what runs stops at a sound point, and all has ended within ten seconds;
backups among it go on at the next start. SIGHUP reads the configuration again: sources, targets, certificate, log
level and tokens; what else has changed is named and waits for a restart. A configuration with mistakes changes nothing.

Exit codes: 0 ended by a signal; 1 failed, or mistakes in the configuration; 10 no repository; 11 another daemon runs on
this repository; 12 wrong key.`,
		Example: "  backupd serve --config /etc/backupd/backupd.yaml",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.serve(cmd.Context(), file) },
	}
	p.configFlag(c, &file)
	return c
}

func (p *program) serve(ctx context.Context, file string) (err error) {
	// A SIGHUP during the start is not the end; it finds what has just been read.
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	defer signal.Stop(hangUp)
	d, err := openDaemon(ctx, daemonOptions{
		File: file, Credentials: p.env("CREDENTIALS_DIRECTORY"), Log: p.stderr, Journal: p.journal,
	})
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	reloaded := make(chan struct{})
	go func() {
		defer close(reloaded)
		for {
			select {
			case <-hangUp:
				d.Reload()
			case <-stop:
				return
			}
		}
	}()
	err = d.Run(ctx)
	close(stop)
	<-reloaded
	if errors.Is(err, errDrain) {
		// What still runs uses all that Close would end. The repository is sound at any moment.
		return &unfinished{err}
	}
	err = errors.Join(err, d.Close())
	if err == nil {
		d.log.Info("stopped")
	}
	return err
}

// unfinished ends a daemon with a failure although it was told to stop.
type unfinished struct{ error }
