package main

import (
	"log/slog"
	"path/filepath"
	"time"

	"github.com/generalbots/backupd/api"
	"github.com/generalbots/backupd/internal/auth"
	"github.com/generalbots/backupd/internal/config"
	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/internal/pace"
)

// What of a configuration goes to which package.

func authOptions(c *config.Config, log *slog.Logger) auth.Options {
	n := c.Limits.AuthFailuresPerMinute
	o := auth.Options{
		TokenFile: filepath.Join(c.StateDir, auth.TokenFileName), AdminRoles: c.Auth.AdminRoles, Logger: log,
		Failures: auth.FailureLimits{AddressBurst: n, AddressEvery: time.Minute / time.Duration(n)},
	}
	if j := c.Auth.JWT; j != nil {
		o.JWT = &auth.JWTOptions{SecretFile: j.SecretFile, Issuer: j.Issuer, Audience: j.Audience}
	}
	if q := c.Auth.OIDC; q != nil {
		o.OIDC = &auth.OIDCOptions{Issuer: q.Issuer, CAFile: q.CAFile}
		if i := q.Introspection; i != nil {
			o.OIDC.IntrospectionURL, o.OIDC.ClientID, o.OIDC.ClientSecretFile = i.URL, i.ClientID, i.ClientSecretFile
		}
	}
	return o
}

func jobSources(c *config.Config) []job.Source {
	out := make([]job.Source, len(c.Sources))
	for i, s := range c.Sources {
		out[i] = job.Source{
			Name: s.Name, Kind: s.Kind, Profile: s.Profile, Paths: s.Paths, Exclude: s.Exclude,
			ExcludeCaches: s.ExcludeCaches, OneFileSystem: s.OneFileSystem,
		}
		if s.Hooks != nil {
			out[i].Before, out[i].After, out[i].HookTimeout = s.Hooks.Before, s.Hooks.After, s.Hooks.Timeout
		}
	}
	return out
}

func jobTargets(c *config.Config) []job.Target {
	var out []job.Target
	for name, t := range c.Targets {
		out = append(out, job.Target{Name: name, Path: t.Path})
	}
	return out
}

// jobPace is what all jobs keep to, nil without limits.
func jobPace(c *config.Config) *pace.Pace {
	return pace.New(pace.Limits{Bytes: int64(c.Limits.IO), Cores: c.Limits.CPU.Number()})
}

var ioClasses = map[string]pace.IOClass{"normal": pace.Normal, "lowest": pace.Lowest, "idle": pace.Idle}

// priority is that of jobs nobody waits for. Where the system does not allow it they run like all else, and the log says so.
func (d *daemon) priority(c *config.Config) pace.Priority {
	p := pace.Priority{Nice: c.Limits.Nice, IO: ioClasses[c.Limits.IOClass]}
	if err := p.Try(); err != nil {
		d.log.Warn("jobs can not be given a low priority; they run at that of the daemon", "error", err)
	}
	return p
}

// gcCron is when space is freed by itself, empty for never.
func gcCron(c *config.Config) string {
	if c.GC.Schedule == "never" {
		return ""
	}
	return c.GC.Schedule
}

// apiOptions are those of the API over what is open.
func (d *daemon) apiOptions(c *config.Config) api.Options {
	o := api.Options{
		Jobs: d.jobs, Repo: d.repo, State: d.state, Auth: d.auth, Audit: d.trail, Metrics: d.metrics.Handler(), Observer: d.metrics,
		Degraded: d.degraded, Version: version, Commit: commit(), Logger: d.log, Connections: c.Limits.Connections,
		BodySize: int64(c.Limits.BodySize), RequestsPerSecond: c.Limits.RequestsPerSecond,
		Timeouts: api.Timeouts{Drain: farewell},
	}
	if c.TLS != nil {
		o.TLS = d.certs.serving()
	}
	return o
}
