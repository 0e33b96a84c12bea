package api

import (
	"net/http"

	"github.com/generalbots/backupd/internal/job"
)

// scheduleChange reads what a schedule is to be like.
func (c *call) scheduleChange() (job.ScheduleChange, error) {
	o, err := c.object()
	if err != nil {
		return job.ScheduleChange{}, err
	}
	ch := job.ScheduleChange{
		Name: o.text("name", maxWord), Cron: o.text("cron", maxWord), Type: o.word("type", typeWords), Timezone: o.text("timezone", maxWord),
		IncludeFiles: o.flag("include_files"), IncludeDatabase: o.flag("include_database"),
		Sources: o.texts("sources", maxWord), Tags: o.texts("tags", maxWord),
		RetentionDays: o.whole("retention_days", 0, job.MaxRetentionDays), Enabled: o.flag("enabled"),
	}
	if err := o.end(); err != nil {
		return job.ScheduleChange{}, err
	}
	return ch, c.query().end()
}

// POST /schedule
func createSchedule(c *call) (answer, error) {
	request, err := c.scheduleChange()
	if err != nil {
		return answer{}, err
	}
	return c.post("schedule.create", http.StatusCreated, "/schedule/%s", request, func(by job.By) (string, error) {
		made, err := c.s.o.Jobs.CreateSchedule(c.r.Context(), request, by)
		return made.ID, err
	}, func(id string) (any, error) {
		s, err := c.s.o.Jobs.Schedule(id)
		if err != nil {
			return nil, err
		}
		return scheduleOf(&s), nil
	})
}

// GET /schedule
func listSchedules(c *call) (answer, error) {
	q := c.query()
	limit, offset := q.window(0)
	if err := q.end(); err != nil {
		return answer{}, err
	}
	schedules, err := c.s.o.Jobs.Schedules()
	if err != nil {
		return answer{}, err
	}
	c.total(len(schedules))
	schedules = schedules[min(offset, len(schedules)):]
	if limit > 0 {
		schedules = schedules[:min(limit, len(schedules))]
	}
	return answer{http.StatusOK, each(schedules, scheduleOf)}, nil
}

// PUT /schedule/{schedule_id}
func updateSchedule(c *call) (answer, error) {
	request, err := c.scheduleChange()
	if err != nil {
		return answer{}, err
	}
	ch, err := c.change("schedule.update", 0, nil)
	if err != nil {
		return answer{}, err
	}
	s, err := c.s.o.Jobs.UpdateSchedule(c.r.Context(), c.params.ByName("schedule_id"), request, ch.by())
	ch.ended(err)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, scheduleOf(&s)}, nil
}

// DELETE /schedule/{schedule_id}
func deleteSchedule(c *call) (answer, error) {
	if err := c.query().end(); err != nil {
		return answer{}, err
	}
	id := c.params.ByName("schedule_id")
	if _, err := c.s.o.Jobs.Schedule(id); err != nil {
		return answer{}, err
	}
	if err := c.alter("schedule.delete", id, func() error { return c.s.o.Jobs.DeleteSchedule(c.r.Context(), id) }); err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, Deleted{id, true}}, nil
}
