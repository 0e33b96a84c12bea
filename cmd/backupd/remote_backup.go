package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/generalbots/backupd/api"
	"github.com/spf13/cobra"
)

func (p *program) createCommand() *cobra.Command {
	var r api.BackupRequest
	var noFiles, noDatabase, wait bool
	var days int
	c := &cobra.Command{
		Use:   "create",
		Short: "Have the daemon make a backup; prints its id",
		Long: `Asks the daemon for a backup of its sources. The id stands on standard output as soon as the backup is queued, from when
on it is made whatever happens; with --wait the command ends with the backup, and its exit code tells how that ended.`,
		Example: `  backupd create --type incremental --wait
  backupd create --source bots --tag before-upgrade --retention-days 30`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&r.Type, "type", "incremental", "`TYPE`: full, incremental or differential")
	f.StringArrayVar(&r.Sources, "source", nil, "`NAME` of a source of the configuration; may be given several times; otherwise all")
	f.StringArrayVar(&r.Tags, "tag", nil, "`TAG` to find it by; may be given several times")
	f.IntVar(&days, "retention-days", 0, "`DAYS` until it expires; 0 keeps it")
	f.BoolVar(&noFiles, "no-files", false, "leave out sources of files")
	f.BoolVar(&noDatabase, "no-database", false, "leave out databases")
	f.BoolVar(&wait, "wait", false, "wait for its end, with progress on a terminal")
	words(c, "type", "full", "incremental", "differential")
	return p.overAPI(c, func(ctx context.Context, client *api.Client, _ []string) error {
		files, database := !noFiles, !noDatabase
		r.IncludeFiles, r.IncludeDatabase = &files, &database
		if days != 0 {
			r.RetentionDays = &days
		}
		b, err := client.Create(ctx, r, api.Once{})
		if err != nil {
			return err
		}
		if !wait {
			if p.json {
				return p.value(b)
			}
			p.print("%s", b.ID)
			return nil
		}
		if _, err := p.follow(ctx, client, b.ID, "backing up"); err != nil {
			return err
		}
		d, err := client.Backup(ctx, b.ID)
		if err != nil {
			return err
		}
		if p.json {
			if err := p.value(d); err != nil {
				return err
			}
		} else {
			if d.FinishedAt != nil && d.StartedAt != nil && d.Failure == nil {
				n := d.Counts
				p.say("%s in %s: %s read, %s new, the repository grew by %s", counted(n.Files, "file"), rounded(d.FinishedAt.Sub(*d.StartedAt)),
					bytesText(n.BytesRead), bytesText(n.BytesNew), bytesText(d.StoredBytes))
			}
			p.sayRemoteProblems(d.Problems, d.ProblemCount)
			p.print("%s", d.ID)
		}
		return outcome(d.ID, d.Status, d.Failure)
	})
}

// sayRemoteProblems lists what could not be done.
func (p *program) sayRemoteProblems(list []api.Problem, all uint64) {
	for _, x := range list {
		p.say("%s: %s: %s", printable(x.Path.Path), printable(x.Op), printable(x.Message))
	}
	if more := all - min(all, uint64(len(list))); more > 0 {
		p.say("and %s more", counted(more, "problem"))
	}
}

func (p *program) listCommand() *cobra.Command {
	var filter api.ListFilter
	c := &cobra.Command{
		Use:   "list",
		Short: "List the daemon's backups, newest first",
		Long:  `Lists what can be restored, what is being made, and what failed.`,
		Example: `  backupd list
  backupd list --status completed,completed_with_problems --source bots --json`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringSliceVar(&filter.Status, "status", nil, "only those in this `STATUS`; several with commas")
	f.StringSliceVar(&filter.Type, "type", nil, "only those of this `TYPE`; several with commas")
	f.StringVar(&filter.Source, "source", "", "only those that hold the source of this `NAME`")
	f.StringVar(&filter.Tag, "tag", "", "only those with this `TAG`")
	f.IntVar(&filter.Limit, "limit", 0, "at most this `NUMBER`; 0 for all")
	words(c, "status", "pending", "in_progress", "completed", "completed_with_problems", "failed", "interrupted", "cancelled")
	words(c, "type", "full", "incremental", "differential")
	return p.overAPI(c, func(ctx context.Context, client *api.Client, _ []string) error {
		list, total, err := client.List(ctx, filter)
		if err != nil {
			return err
		}
		if p.json {
			return p.value(orEmpty(list))
		}
		p.table("ID TYPE STATUS CREATED >SIZE >STORED VERIFICATION", func(row func(...any)) {
			for _, b := range list {
				row(b.ID, b.Type, b.Status, timeText(b.CreatedAt), b.Size, bytesText(b.StoredBytes), b.Verification.Status)
			}
		})
		if total > len(list) {
			p.say("%s of %s", countText(len(list)), countText(total))
		}
		return nil
	})
}

func (p *program) showCommand() *cobra.Command {
	c := &cobra.Command{
		Use:               "show ID|latest",
		Short:             "Show what one backup holds and how it came to be",
		Long:              `Shows the details of a backup: its parts, what was new in it, its problems, and what is known of its soundness.`,
		Example:           "  backupd show latest",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.completeBackup,
	}
	return p.overAPI(c, func(ctx context.Context, client *api.Client, args []string) error {
		id, err := backupID(ctx, client, args[0])
		if err != nil {
			return err
		}
		b, err := client.Backup(ctx, id)
		if err != nil {
			return err
		}
		if p.json {
			return p.value(b)
		}
		line := func(name, format string, a ...any) { p.print("%-13s "+format, append([]any{name}, a...)...) }
		line("id", "%s", b.ID)
		line("type", "%s, based on %s", b.Type, orNone(b.BaseID))
		line("status", "%s", b.Status)
		if b.Failure != nil {
			line("failure", "%s", printable(b.Failure.Message))
		}
		line("created", "%s for %s", timeText(b.CreatedAt), orNone(b.Actor))
		line("finished", "%s", when(b.FinishedAt))
		line("expires", "%s", when(b.ExpiresAt))
		line("verification", "%s, %s", b.Verification.Status, when(b.Verification.At))
		line("size", "%s, stored %s", b.Size, bytesText(b.StoredBytes))
		line("files", "%s new, %s changed, %s removed, %s unchanged", countText(b.Counts.New), countText(b.Counts.Changed), countText(b.Counts.Removed), countText(b.Counts.Unchanged))
		if len(b.Tags) > 0 {
			line("tags", "%s", printable(strings.Join(b.Tags, ", ")))
		}
		for _, x := range b.Parts {
			failed := ""
			if x.Failed {
				failed = ", FAILED"
			}
			line("part", "%s (%s): %s, %s%s", printable(x.Source), x.Kind, counted(x.Counts.Files, "file"), bytesText(x.Counts.BytesTotal), failed)
			for _, note := range x.Notes {
				line("", "%s", printable(note))
			}
		}
		p.sayRemoteProblems(b.Problems, b.ProblemCount)
		return nil
	})
}

func (p *program) deleteCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "delete ID…",
		Short: "Delete backups; undone by 'repo undelete' until gc runs",
		Long: `Deletes backups. One that is being made is cancelled, one that is being restored is kept. Until the daemon's next gc they
can be had again with: backupd repo undelete`,
		Example:           "  backupd delete backup-01jdkzv5x0e9q8w7r6t5y4u3i2",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: p.completeBackup,
	}
	return p.overAPI(c, func(ctx context.Context, client *api.Client, args []string) error {
		deleted := []string{}
		for _, word := range args {
			if word == "latest" {
				return fmt.Errorf("latest is another backup after each delete: name what is to go by its id")
			}
			id, err := backupID(ctx, client, word)
			if err == nil {
				err = client.Delete(ctx, id)
			}
			if err != nil {
				return err
			}
			deleted = append(deleted, id)
			if !p.json {
				p.print("%s", id)
			}
		}
		if p.json {
			return p.value(struct {
				Deleted []string `json:"deleted"`
			}{deleted})
		}
		return nil
	})
}
