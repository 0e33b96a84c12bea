package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// judgeEvery is how old the answer of /api/health may be, leastFree the room in the state directory, in bytes,
	// below which a change could find none.
	judgeEvery = 4 * time.Second
	leastFree  = 1 << 20
	// maxNamed bounds how many schedules a line of the log names.
	maxNamed = 5
)

var errMute = errors.New("the queue or the state file does not answer")

// condition is what keeps the daemon from its work, nil for nothing.
type condition struct{ err error }

// degraded says what is wrong with the daemon as a whole, as it was found a moment ago.
func (d *daemon) degraded() error {
	if d.mute.Load() {
		return errMute
	}
	if c := d.wrong.Load(); c != nil {
		return c.err
	}
	return nil
}

// examine judges every judgeEvery until ctx ends. It has a goroutine of its own: a disk that hangs keeps no sign of life
// back.
func (d *daemon) examine(ctx context.Context) {
	tick := time.NewTicker(judgeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			d.judge(now)
		}
	}
}

// judge looks at what keeps the daemon from its work while it answers, and logs what has changed.
func (d *daemon) judge(now time.Time) {
	err := errors.Join(d.repo.ReadOnly(), writable(d.config.Repository.Path), d.stateTrouble(), d.certs.trouble(now), d.overdue(now))
	said := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	old := ""
	if c := d.wrong.Swap(&condition{err}); c != nil {
		old = said(c.err)
	}
	switch is := said(err); {
	case is == old:
	case is == "":
		d.log.Info("the daemon can do its work again")
	default:
		d.log.Error("the daemon can not do all its work", "error", err)
	}
}

// writable tells whether the repository's directory could be written to: file systems that meet an error turn read-only.
func writable(path string) error {
	if err := unix.Access(path, unix.W_OK); err != nil {
		return fmt.Errorf("the repository can not be written to: %s: %w", path, err)
	}
	return nil
}

// stateTrouble is why jobs can not be written down.
func (d *daemon) stateTrouble() error {
	if err := d.state.Trouble(); err != nil {
		return err
	}
	space, err := d.dir.Statfs()
	if err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	if space.Free < leastFree {
		return fmt.Errorf("state_dir has %d bytes free: free space there, or no new job can be taken", space.Free)
	}
	return nil
}

// overdue names the schedules that have gone too long without a good backup.
func (d *daemon) overdue(now time.Time) error {
	late, err := d.jobs.Overdue(now)
	if err != nil || len(late) == 0 {
		return err
	}
	var names []string
	for _, s := range late[:min(len(late), maxNamed)] {
		names = append(names, s.ID)
	}
	return fmt.Errorf("%s without a good backup for longer than the plan allows: %s", counted(len(late), "schedule"), strings.Join(names, ", "))
}
