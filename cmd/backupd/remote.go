package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/generalbots/backupd/api"
	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

// remote is how a command gets at a daemon.
type remote struct {
	server    string
	tokenFile string
	caFile    string
}

// defaultServer is where a daemon listens unless its configuration says otherwise.
const defaultServer = "http://127.0.0.1:9000"

// daemonHelp is part of the help of each command that asks a daemon.
const daemonHelp = `

The daemon is asked at --server or BACKUPD_SERVER, a URL or unix:/path/of/socket, otherwise ` + defaultServer + `; the token
comes from --token-file or BACKUPD_TOKEN.`

// overAPI makes a command that asks the daemon for something.
func (p *program) overAPI(c *cobra.Command, do func(ctx context.Context, c *api.Client, args []string) error) *cobra.Command {
	c.Long += daemonHelp
	var r remote
	f := c.Flags()
	f.StringVar(&r.server, "server", "", "`URL` of the daemon (or BACKUPD_SERVER)")
	f.StringVar(&r.tokenFile, "token-file", "", "`FILE` with the token in it (otherwise it is in BACKUPD_TOKEN)")
	f.StringVar(&r.caFile, "ca-file", "", "`FILE` with the authorities of the daemon's certificate, PEM (or BACKUPD_CA_FILE; otherwise the system's)")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := p.client(r)
		if err != nil {
			return err
		}
		defer client.Close()
		return do(cmd.Context(), client, args)
	}
	return c
}

// client makes a client of the daemon that flags and environment name.
func (p *program) client(r remote) (*api.Client, error) {
	o := api.ClientOptions{Server: p.or(r.server, "BACKUPD_SERVER"), Token: p.env("BACKUPD_TOKEN"), Agent: "backupd/" + version}
	if o.Server == "" {
		o.Server = defaultServer
	}
	if r.tokenFile != "" {
		f, err := os.Open(r.tokenFile)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, maxSecret))
		if err != nil {
			return nil, err
		}
		o.Token = strings.TrimSpace(string(b))
	}
	if o.Token == "" {
		return nil, errors.New("which token? give --token-file FILE, or set BACKUPD_TOKEN; 'backupd token create' makes one")
	}
	if file := p.or(r.caFile, "BACKUPD_CA_FILE"); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", file)
		}
		o.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return api.NewClient(o)
}

// backupID finds the id of a backup that a person named by it, by a unique beginning of it, or as latest: the newest with
// something in it.
func backupID(ctx context.Context, c *api.Client, word string) (string, error) {
	if repo.IsSnapshotID(word) {
		return word, nil
	}
	f := api.ListFilter{}
	if word == "latest" {
		f.Status, f.Limit = []string{string(job.Completed), string(job.CompletedWithProblems)}, 1
	}
	list, _, err := c.List(ctx, f)
	if err != nil {
		return "", err
	}
	var found []string
	for _, b := range list {
		if word == "latest" || strings.HasPrefix(b.ID, word) || strings.HasPrefix(b.ID, string(job.KindBackup)+"-"+word) {
			found = append(found, b.ID)
		}
	}
	switch {
	case len(found) == 0 && word == "latest":
		return "", &absent{errors.New("there is no backup with anything in it yet")}
	case len(found) == 0:
		return "", &absent{fmt.Errorf("there is no backup %.80q", word)}
	case len(found) > 1:
		return "", fmt.Errorf("%.80q is the beginning of %d backups, such as %s and %s", word, len(found), found[0], found[1])
	}
	return found[0], nil
}

// stillGoing is a wait that ended before its job.
type stillGoing struct{ id string }

// Error says that the job goes on.
func (e *stillGoing) Error() string { return "not waited for to its end; the job " + e.id + " goes on" }

// follow waits for the end of a job and shows how far it is.
func (p *program) follow(ctx context.Context, c *api.Client, id, what string) (api.JobDetails, error) {
	var last atomic.Pointer[api.Job]
	stop := p.meter(2, func() reading {
		r := reading{what: what, measure: byTime}
		j := last.Load()
		switch {
		case j == nil:
		case j.Status == string(job.Pending):
			r.what = fmt.Sprintf("%s: waits, %d in the queue before it", what, max(j.Position-1, 0))
		case j.Progress != nil:
			g := j.Progress
			r.measure, r.count, r.counts, r.bytes, r.total, r.problems = byBytes, g.Files, g.FilesTotal, g.Bytes, g.BytesTotal, g.Problems
			if g.Phase != "" {
				r.what = what + ": " + printable(g.Phase)
			}
		}
		return r
	})
	j, err := c.Watch(ctx, id, func(j api.Job) { last.Store(&j) })
	stop()
	if err != nil && errors.Is(context.Cause(ctx), errInterrupted) {
		err = &stillGoing{id}
	}
	return j, err
}

// outcome is how a command ends that waited for a job in this state.
func outcome(id, status string, f *api.Failure) error {
	switch job.State(status) {
	case job.Completed:
		return nil
	case job.CompletedWithProblems:
		return errProblems
	}
	if f == nil {
		return fmt.Errorf("%s is %s", id, status)
	}
	return fmt.Errorf("%s is %s: %s", id, status, f.Message)
}

// when is a time in a table, or a dash.
func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return timeText(*t)
}

func orNone(s *string) string {
	if s == nil {
		return "-"
	}
	return orDash(printable(*s))
}

// completeBackup completes ids of backups, where the daemon tells them at once.
func (p *program) completeBackup(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && cmd.Name() != "delete" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	get := func(flag string) string { v, _ := cmd.Flags().GetString(flag); return v } // the flags are there
	c, err := p.client(remote{get("server"), get("token-file"), get("ca-file")})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
	defer cancel()
	list, _, err := c.List(ctx, api.ListFilter{Page: api.Page{Limit: 100}})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	for _, b := range list {
		ids = append(ids, b.ID+"\t"+timeText(b.CreatedAt))
	}
	if cmd.Name() != "delete" {
		ids = append(ids, "latest")
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
