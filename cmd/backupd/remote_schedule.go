package main

import (
	"context"
	"errors"

	"github.com/generalbots/backupd/api"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (p *program) scheduleCommand() *cobra.Command {
	c := group("schedule", "Make, list, change and delete the daemon's schedules", `A schedule has the daemon make backups at certain times. A run that was missed while the daemon was down is caught up
once, and runs of one schedule never pile up.`)
	c.AddCommand(p.scheduleListCommand(), p.scheduleCreateCommand(), p.scheduleUpdateCommand(), p.scheduleDeleteCommand())
	return c
}

func (p *program) showSchedules(list []api.Schedule) {
	p.table("ID NAME CRON ZONE TYPE >DAYS ENABLED NEXT LAST STATUS", func(row func(...any)) {
		for _, s := range list {
			enabled := "no"
			if s.Enabled {
				enabled = "yes"
			}
			row(s.ID, orDash(printable(s.Name)), printable(s.Cron), s.Timezone, s.Type, s.RetentionDays, enabled, when(s.NextRun), when(s.LastRun), orNone(s.LastStatus))
		}
	})
}

func (p *program) scheduleListCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "List schedules with their next and last runs",
		Long:    `Lists all schedules.`,
		Example: "  backupd schedule list --json",
		Args:    cobra.NoArgs,
	}
	return p.overAPI(c, func(ctx context.Context, client *api.Client, _ []string) error {
		list, _, err := client.Schedules(ctx, api.Page{})
		if err != nil {
			return err
		}
		if p.json {
			return p.value(orEmpty(list))
		}
		p.showSchedules(list)
		return nil
	})
}

// scheduleFlags are what a schedule is made of.
type scheduleFlags struct {
	name, cron, kind, zone       string
	files, database              bool
	sources, tags                []string
	days                         int
	paused, enabled, showEnabled bool
}

func (s *scheduleFlags) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.cron, "cron", "", "`WHEN`: five fields like '0 2 * * *', or @daily and the like")
	f.StringVar(&s.kind, "type", "incremental", "`TYPE` of its backups: full, incremental or differential")
	f.StringVar(&s.name, "name", "", "`NAME` for people")
	f.StringVar(&s.zone, "timezone", "", "`ZONE` of the times, like Europe/Berlin (otherwise the configuration's)")
	f.IntVar(&s.days, "retention-days", 0, "`DAYS` until its backups expire; 0 keeps them")
	f.StringArrayVar(&s.sources, "source", nil, "`NAME` of a source; may be given several times; otherwise all")
	f.StringArrayVar(&s.tags, "tag", nil, "`TAG` of its backups; may be given several times")
	f.BoolVar(&s.files, "files", true, "take sources of files")
	f.BoolVar(&s.database, "database", true, "take databases")
	f.BoolVar(&s.paused, "paused", false, "have it wait until it is enabled")
	if s.showEnabled {
		f.BoolVar(&s.enabled, "enabled", false, "have it run again")
	}
	words(c, "type", "full", "incremental", "differential")
}

// request holds what was given, and nothing of what was not.
func (s *scheduleFlags) request(given *pflag.FlagSet) (r api.ScheduleRequest, err error) {
	for _, x := range []struct {
		flag string
		set  func()
	}{
		{"cron", func() { r.Cron = &s.cron }}, {"type", func() { r.Type = &s.kind }}, {"name", func() { r.Name = &s.name }},
		{"timezone", func() { r.Timezone = &s.zone }}, {"retention-days", func() { r.RetentionDays = &s.days }},
		{"source", func() { r.Sources = &s.sources }}, {"tag", func() { r.Tags = &s.tags }},
		{"files", func() { r.IncludeFiles = &s.files }}, {"database", func() { r.IncludeDatabase = &s.database }},
		{"paused", func() { enabled := !s.paused; r.Enabled = &enabled }}, {"enabled", func() { r.Enabled = &s.enabled }},
	} {
		if given.Changed(x.flag) {
			x.set()
		}
	}
	if given.Changed("paused") && given.Changed("enabled") {
		return r, errors.New("--paused and --enabled say the same thing twice: give one of them")
	}
	return r, nil
}

func (p *program) scheduleCreateCommand() *cobra.Command {
	var s scheduleFlags
	c := &cobra.Command{
		Use:     "create",
		Short:   "Make a schedule; prints its id",
		Long:    `Makes a schedule of backups, such as '0 2 * * *' for every night at two.`,
		Example: "  backupd schedule create --name nightly --cron @daily --timezone Europe/Berlin --retention-days 30",
		Args:    cobra.NoArgs,
	}
	s.flags(c)
	_ = c.MarkFlagRequired("cron") // it is there
	return p.overAPI(c, func(ctx context.Context, client *api.Client, _ []string) error {
		r, err := s.request(c.Flags())
		if err != nil {
			return &usageError{c.CommandPath(), err}
		}
		r.Type = &s.kind
		made, err := client.CreateSchedule(ctx, r, api.Once{})
		if err != nil {
			return err
		}
		if p.json {
			return p.value(made)
		}
		p.say("the next run is at %s", when(made.NextRun))
		p.print("%s", made.ID)
		return nil
	})
}

func (p *program) scheduleUpdateCommand() *cobra.Command {
	s := scheduleFlags{showEnabled: true}
	c := &cobra.Command{
		Use:   "update ID",
		Short: "Change a schedule; what is not given stays",
		Long:  `Changes what flags are given for.`,
		Example: `  backupd schedule update schedule-01jdkzv5x0e9q8w7r6t5y4u3i2 --paused
  backupd schedule update schedule-01jdkzv5x0e9q8w7r6t5y4u3i2 --enabled --cron @daily`,
		Args: cobra.ExactArgs(1),
	}
	s.flags(c)
	return p.overAPI(c, func(ctx context.Context, client *api.Client, args []string) error {
		r, err := s.request(c.Flags())
		if err != nil {
			return &usageError{c.CommandPath(), err}
		}
		changed, err := client.UpdateSchedule(ctx, args[0], r)
		if err != nil {
			return err
		}
		if p.json {
			return p.value(changed)
		}
		p.showSchedules([]api.Schedule{changed})
		return nil
	})
}

func (p *program) scheduleDeleteCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "delete ID",
		Short:   "Delete a schedule; its backups stay",
		Long:    `Deletes a schedule. Backups that it made stay, and expire when they would have.`,
		Example: "  backupd schedule delete schedule-01jdkzv5x0e9q8w7r6t5y4u3i2",
		Args:    cobra.ExactArgs(1),
	}
	return p.overAPI(c, func(ctx context.Context, client *api.Client, args []string) error {
		if err := client.DeleteSchedule(ctx, args[0]); err != nil {
			return err
		}
		if p.json {
			return p.value(api.Deleted{ID: args[0], Deleted: true})
		}
		p.print("%s", args[0])
		return nil
	})
}
