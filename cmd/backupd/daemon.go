package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/generalbots/backupd/api"
	"github.com/generalbots/backupd/internal/auth"
	"github.com/generalbots/backupd/internal/config"
	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/internal/metrics"
	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

// daemonOptions are what a daemon starts from.
type daemonOptions struct {
	File        string    // configuration
	Credentials string    // systemd's directory of them, or empty
	Log         io.Writer // standard error
	Journal     bool      // Log is the journal's
}

// daemon is the service: everything open that it needs, in the order in which it was opened.
//
//	configuration → repository's id → daemon lock → address → state → repository → audit log → callers → jobs → API
//
// What may be in use by another comes first, so that a second daemon ends before it has done anything. Close goes back.
type daemon struct {
	o       daemonOptions
	log     *slog.Logger
	level   slog.LevelVar
	super   supervisor
	opened  []func() error // ends what was opened, last first
	address net.Addr

	listener net.Listener
	certs    certificates
	repo     *repo.Repo
	state    *state.DB
	dir      *durable.OSFS // the state directory
	trail    *trail
	auth     *auth.Authenticator
	jobs     *job.Jobs
	metrics  *metrics.Metrics
	observer *observer
	server   *api.Server

	mute   atomic.Bool               // it does not answer itself
	wrong  atomic.Pointer[condition] // what judge found last
	mu     sync.Mutex                // guards what follows
	config *config.Config            // in force
}

const (
	// stateName is the file of the daemon's records in the state directory, preparedName the directory where
	// sources make ready what is backed up.
	stateName    = "state.db"
	preparedName = "prepared"
	// daemonLock is held in the repository by the daemon for as long as it lives.
	daemonLock = "daemon"
	// drainTime is how long everything has to come to a sound end, farewell how long of it an answer may still take.
	drainTime = 10 * time.Second
	farewell  = 4 * time.Second
)

// daemonRunning is a repository that has a daemon already.
type daemonRunning struct{ path, pid string }

// Error names its process.
func (e *daemonRunning) Error() string {
	who := ""
	if e.pid != "" {
		who = " (pid " + printable(e.pid) + ")"
	}
	return fmt.Sprintf("a daemon%s is running on the repository %s already", who, e.path)
}

// openDaemon opens everything. Nothing is served before Run; the listener's queue holds who comes early.
func openDaemon(ctx context.Context, o daemonOptions) (_ *daemon, err error) {
	c, err := checkedConfig(o.File, o.Credentials)
	if err != nil {
		return nil, err
	}
	d := &daemon{o: o, config: c, super: newSupervisor()}
	logLevel(&d.level, c)
	d.log = newLog(o.Log, c.Log.Format, &d.level, o.Journal)
	defer func() {
		if err != nil {
			_ = d.Close() // err says what matters
		}
	}()
	if err := d.openRepository(ctx, c); err != nil {
		return nil, err
	}
	if d.trail, err = openTrail(d.dir, d.state, d.repo.AuditKey(), d.log); err != nil {
		return nil, err
	}
	d.closes(d.trail.Close)
	if d.auth, err = auth.New(authOptions(c, d.log)); err != nil {
		return nil, err
	}
	d.closes(d.auth.Close)
	d.observer = &observer{super: d.super}
	d.metrics = metrics.New(metrics.Options{Build: metrics.Build{Version: version, Commit: commit(), Go: goVersion()}, Read: d.facts})
	d.observer.metrics = d.metrics
	name, err := host()
	if err != nil {
		return nil, err
	}
	d.jobs, err = job.Open(ctx, job.Options{
		Repo: d.repo, State: d.state, Sources: jobSources(c), Targets: jobTargets(c), Host: name, Zone: c.Zone(),
		Staging: filepath.Join(c.StateDir, preparedName), Program: "backupd " + version, Minimum: c.Retention.Minimum,
		GC:      job.GCPolicy{Cron: gcCron(c), MinFree: int64(c.GC.MinFree)},
		Verify:  job.VerifyPolicy{AfterBackup: c.Verify.AfterBackup, Every: c.Verify.Every},
		Readers: c.Limits.ParallelRestores, Waiting: c.Limits.QueuedJobs, History: c.Limits.JobHistory, Observer: d.observer, Auditor: d.trail, Logger: d.log,
		Pace: jobPace(c), Priority: d.priority(c),
	})
	if err != nil {
		return nil, err
	}
	if d.server, err = api.New(d.apiOptions(c)); err != nil {
		return nil, err
	}
	// A passphrase took hundreds of megabytes for a moment, which go back before the limit counts.
	debug.FreeOSMemory()
	debug.SetMemoryLimit(int64(c.Memory) / 10 * 9)
	return d, nil
}

// closes remembers how to end what was opened.
func (d *daemon) closes(end func() error) { d.opened = append(d.opened, end) }

// openRepository opens what lies on disk, and the address between: a second daemon, a port in use and a state directory
// of another repository end here, before a passphrase is tried.
func (d *daemon) openRepository(ctx context.Context, c *config.Config) error {
	st, id, err := openStoreAt(ctx, c.Repository.Path)
	if err != nil {
		return err
	}
	d.closes(st.Close)
	lock, err := st.Lock(ctx, daemonLock, store.LockExclusive)
	if err != nil {
		var held *store.LockedError
		if errors.As(err, &held) {
			err = &daemonRunning{c.Repository.Path, held.Owner}
		}
		return err
	}
	d.closes(lock.Close)
	if c.TLS != nil {
		if err := d.certs.load(c.TLS); err != nil {
			return err
		}
	}
	if d.listener, err = listen(ctx, c); err != nil {
		return err
	}
	d.address = d.listener.Addr()
	d.closes(func() error { d.listener.Close(); return nil }) // the server may have closed it
	if err := durable.MakeRoot(c.StateDir); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	if d.dir, err = durable.OS(c.StateDir); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	d.closes(d.dir.Close)
	if d.state, err = state.Open(filepath.Join(c.StateDir, stateName), id.String()); err != nil {
		return err
	}
	d.closes(d.state.Close)
	key, passphrase := opening(c, d.o.Credentials)
	creds, err := fromFiles(key, passphrase, "")
	if err != nil {
		return err
	}
	d.repo, err = repo.Open(ctx, st, creds, repo.Options{StateDir: c.StateDir, Program: "backupd " + version, Logger: d.log})
	for _, c := range creds {
		c.Wipe()
	}
	if err != nil {
		return err
	}
	d.closes(d.repo.Close)
	for _, w := range d.repo.Warnings() {
		d.log.Warn("repository: " + w)
	}
	return nil
}

// Close ends what openDaemon opened, the last first.
func (d *daemon) Close() error {
	var errs []error
	for _, end := range slices.Backward(d.opened) {
		errs = append(errs, end())
	}
	d.opened = nil
	return errors.Join(errs...)
}
