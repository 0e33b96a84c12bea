package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// errDrain is a drain that took too long.
var errDrain = errors.New("what was running did not come to a sound end within 10 seconds and was left; it is taken up at the next start")

// Run serves until ctx ends, and drains: no new job or request is taken, what runs stops at a sound point, answers under
// way are finished, all of it within drainTime. It is called once; Close follows.
func (d *daemon) Run(ctx context.Context) error {
	work, stop := context.WithCancel(ctx)
	defer stop()
	served, ran := make(chan error, 1), make(chan error, 1)
	var helpers sync.WaitGroup
	helpers.Go(func() { d.tend(work) })
	go func() { served <- d.server.Serve(work, d.listener) }()
	go func() { ran <- d.jobs.Run(work) }()
	d.judge(time.Now())
	helpers.Go(func() { d.examine(work) })
	d.log.Info("ready", "address", d.address.String(), "version", version, "repository", d.repo.ID().String(), "sources", len(d.config.Sources))
	d.super.ready("listening on " + d.address.String())

	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
		err = fmt.Errorf("the listener ended: %w", err)
		served <- nil
	case err = <-ran:
		err = fmt.Errorf("the queue ended: %w", errors.Join(err, errors.New("without being told to")))
		ran <- nil
	}
	d.super.stopping()
	d.log.Info("draining")
	late := time.After(drainTime)
	stop()
	for range 2 {
		select {
		case serr := <-served:
			err = errors.Join(err, serr)
		case rerr := <-ran:
			err = errors.Join(err, rerr)
		case <-late:
			return errors.Join(err, errDrain)
		}
	}
	helpers.Wait()
	return err
}

const (
	// noteEvery is how often the end of the audit log is noted, restAfter how long nothing runs before memory goes back.
	noteEvery = 30 * time.Second
	restAfter = 20 * time.Second
	// probeTime is how long a look at the daemon's own health may take.
	probeTime = 5 * time.Second
)

// tend gives signs of life, tells what goes on, notes the end of the audit log and gives memory back, until ctx ends.
func (d *daemon) tend(ctx context.Context) {
	every := 5 * time.Second
	if d.super.every > 0 {
		every = min(every, d.super.every)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	noted := time.Now()
	rested, said := false, ""
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			answers := d.healthy()
			d.mute.Store(!answers)
			if answers {
				d.super.alive()
			} else {
				d.log.Error("the daemon does not answer itself; no sign of life is given")
			}
			status, idle := d.observer.status(now)
			if status != said {
				d.super.status(status)
				said = status
			}
			if idle < restAfter {
				rested = false
			} else if !rested {
				debug.FreeOSMemory()
				rested = true
			}
			if now.Sub(noted) >= noteEvery {
				noted = now
				if err := d.trail.note(); err != nil {
					d.log.Error("the end of the audit log could not be noted", "error", err)
				}
			}
		}
	}
}

// healthy tells whether jobs and records answer: whoever holds their locks for good shows here.
func (d *daemon) healthy() bool {
	answered := make(chan struct{})
	go func() {
		d.jobs.Targets()
		_, _ = d.state.Schedule("none") // that it answers counts
		close(answered)
	}()
	select {
	case <-answered:
		return true
	case <-time.After(probeTime):
		return false
	}
}
