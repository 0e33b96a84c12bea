package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"
)

// The limits of one connection. Handlers that wait or stream give themselves more time to write.
const (
	headerTime  = 5 * time.Second
	readTime    = 15 * time.Second
	writeTime   = 30 * time.Second
	idleTime    = 60 * time.Second
	headerBytes = 16 << 10
)

// errDrain is a drain that took too long.
var errDrain = errors.New("what was running did not come to a sound end within 10 seconds and was left; it is taken up at the next start")

// Run serves until ctx ends, and drains: no new job or request is taken, what runs stops at a sound point, answers under
// way are finished, all of it within drainTime. It is called once; Close follows.
func (d *daemon) Run(ctx context.Context) error {
	work, stop := context.WithCancel(ctx)
	defer stop()
	// Requests outlive ctx a little, so that who waits for a job hears how it stands.
	requests, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	server := &http.Server{
		Handler: d.handler, ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		MaxHeaderBytes: headerBytes, BaseContext: func(net.Listener) context.Context { return requests },
		ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
	}
	served, ran := make(chan error, 1), make(chan error, 1)
	var helpers sync.WaitGroup
	helpers.Go(func() { d.tend(work) })
	go func() { served <- server.Serve(d.listener) }()
	go func() { ran <- d.jobs.Run(work) }()
	d.log.Info("ready", "address", d.address.String(), "version", version, "repository", d.repo.ID().String(), "sources", len(d.config.Sources))
	d.super.ready("listening on " + d.address.String())

	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
		err = fmt.Errorf("the listener ended: %w", err)
	case err = <-ran:
		err = fmt.Errorf("the queue ended: %w", errors.Join(err, errors.New("without being told to")))
		ran <- nil
	}
	d.super.stopping()
	d.log.Info("draining")
	deadline := time.Now().Add(drainTime)
	stop()
	// Answers that can be finished are; event streams and waits end with their request.
	polite, done := context.WithDeadline(context.WithoutCancel(ctx), deadline.Add(farewell-drainTime))
	defer done()
	timer := time.AfterFunc(farewell/4, hangUp)
	defer timer.Stop()
	if server.Shutdown(polite) != nil {
		_ = server.Close() // what is left after that is a connection, no work
	}
	select {
	case rerr := <-ran:
		err = errors.Join(err, rerr)
	case <-time.After(time.Until(deadline)):
		return errors.Join(err, errDrain)
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
			if d.healthy() {
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
