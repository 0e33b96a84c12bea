package main

import (
	"context"
	"strings"

	"github.com/generalbots/backupd/api"
	"github.com/generalbots/backupd/internal/job"
	"github.com/spf13/cobra"
)

func (p *program) remoteRestoreCommand() *cobra.Command {
	var r api.RestoreRequest
	var wait bool
	c := &cobra.Command{
		Use:   "restore ID|latest [PATH…]",
		Short: "Have the daemon restore a backup to one of its targets; prints the job's id",
		Long: `Restores a backup, or PATHs of it, to a target of the daemon's configuration. What stands there already is left alone and
listed, unless --overwrite says otherwise; --dry-run only tells what would be done.`,
		Example: `  backupd restore latest --wait
  backupd restore latest /opt/gbo/data/riverside.gbai --target staging --dry-run --wait`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: p.completeBackup,
	}
	f := c.Flags()
	f.StringVar(&r.Target, "target", "staging", "`NAME` of a target of the configuration")
	f.StringArrayVar(&r.Sources, "source", nil, "only the part of the source of this `NAME`; may be given several times")
	f.StringVar(&r.Overwrite, "overwrite", "never", "`WHEN` to replace what stands there: never, if-changed or always")
	f.BoolVar(&r.DryRun, "dry-run", false, "tell what would be done, and do nothing")
	f.BoolVar(&r.Privileged, "privileged", false, "bring back setuid bits, devices, capabilities and trusted attributes too")
	f.BoolVar(&wait, "wait", false, "wait for its end, with progress on a terminal")
	words(c, "overwrite", "never", "if-changed", "always")
	return p.overAPI(c, func(ctx context.Context, client *api.Client, args []string) error {
		id, err := backupID(ctx, client, args[0])
		if err != nil {
			return err
		}
		r.Paths = args[1:]
		j, err := client.Restore(ctx, id, r, api.Once{})
		if err != nil {
			return err
		}
		if !wait {
			if p.json {
				return p.value(j)
			}
			p.print("%s", j.JobID)
			return nil
		}
		if _, err := p.follow(ctx, client, j.JobID, "restoring"); err != nil {
			return err
		}
		if j, err = client.RestoreStatus(ctx, j.JobID); err != nil {
			return err
		}
		if p.json {
			if err := p.value(j); err != nil {
				return err
			}
		} else {
			p.sayRemoteRestore(&j)
			p.print("%s", j.JobID)
		}
		return outcome(j.JobID, j.Status, j.Failure)
	})
}

// sayRemoteRestore tells what came of a restore.
func (p *program) sayRemoteRestore(j *api.Restore) {
	n := j.Report
	if n == nil {
		return
	}
	done := "restored"
	if j.DryRun {
		done = "would be restored"
	}
	p.say("%s and %s %s to %s: %s; %s were the same already", counted(n.Files, "file"), counted(n.Dirs, "directory"), done, printable(j.Target),
		bytesText(n.Bytes), countText(n.Identical))
	if n.ExistingCount > 0 {
		p.say("%s left alone, as something stands there (--overwrite replaces it), such as %s", countText(n.ExistingCount), printable(strings.Join(n.Existing[:min(3, len(n.Existing))], ", ")))
	}
	if n.LeftOffCount > 0 {
		p.say("%s left off, which --privileged would bring back", counted(n.LeftOffCount, "thing"))
	}
	p.sayRemoteProblems(n.Problems, n.ProblemCount)
}

func (p *program) statusCommand() *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use:   "status [JOB]",
		Short: "Show how a job is doing, or the daemon as a whole",
		Long: `Shows how a job is doing: a backup, a restore, a verification or a gc, by the id that asking for it printed. Without one,
shows the daemon: what runs and waits, and what the repository holds. With --wait the command ends with the job.`,
		Example: `  backupd status
  backupd status restore-01jdkzv5x0e9q8w7r6t5y4u3i2 --wait`,
		Args: cobra.MaximumNArgs(1),
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait for the job's end, with progress on a terminal")
	return p.overAPI(c, func(ctx context.Context, client *api.Client, args []string) error {
		if len(args) == 0 {
			return p.daemonStatus(ctx, client)
		}
		j, err := client.Job(ctx, args[0])
		if err != nil {
			return err
		}
		if wait {
			if j, err = p.follow(ctx, client, j.ID, j.Kind); err != nil {
				return err
			}
		}
		if p.json {
			if err := p.value(j); err != nil {
				return err
			}
		} else {
			p.table("JOB KIND STATUS CREATED STARTED FINISHED", func(row func(...any)) {
				row(j.ID, j.Kind, j.Status, timeText(j.CreatedAt), when(j.StartedAt), when(j.FinishedAt))
			})
			if g := j.Progress; g != nil && j.FinishedAt == nil {
				p.say("%s: %.0f %%, %s, %s of %s", printable(g.Phase), g.Percent, counted(g.Files, "file"), bytesText(g.Bytes), bytesText(g.BytesTotal))
			}
			if j.Failure != nil {
				p.say("%s", printable(j.Failure.Message))
			}
		}
		if j.FinishedAt == nil {
			return nil
		}
		return outcome(j.ID, j.Status, j.Failure)
	})
}

// daemonStatus shows the daemon as a whole.
func (p *program) daemonStatus(ctx context.Context, client *api.Client) error {
	health, err := client.Health(ctx)
	if err != nil {
		return err
	}
	stats, err := client.Stats(ctx)
	if err != nil {
		return err
	}
	jobs, _, err := client.Jobs(ctx, api.ListFilter{Status: []string{string(job.Pending), string(job.InProgress), string(job.Interrupted)}})
	if err != nil {
		return err
	}
	sources, err := client.Sources(ctx)
	if err != nil {
		return err
	}
	if p.json {
		return p.value(struct {
			Health  api.Health   `json:"health"`
			Stats   api.Stats    `json:"stats"`
			Jobs    []api.Job    `json:"jobs"`
			Sources []api.Source `json:"sources"`
		}{health, stats, orEmpty(jobs), orEmpty(sources)})
	}
	p.say("backupd %s is %s; %s, %s stored, the newest %s", health.Version, health.Status, counted(stats.Backups, "backup"), bytesText(stats.StoredBytes), when(stats.Latest))
	for _, w := range stats.Warnings {
		p.say("warning: %s", printable(w))
	}
	p.table("SOURCE KIND LAST_SUCCESS BACKUP", func(row func(...any)) {
		for _, s := range sources {
			row(s.Name, s.Kind, when(s.LastSuccess), orNone(s.LastBackupID))
		}
	})
	if len(jobs) > 0 {
		p.print("")
		p.table("JOB KIND STATUS CREATED >PERCENT", func(row func(...any)) {
			for _, j := range jobs {
				percent := 0.0
				if j.Progress != nil {
					percent = j.Progress.Percent
				}
				row(j.ID, j.Kind, j.Status, timeText(j.CreatedAt), percent)
			}
		})
	}
	return nil
}
