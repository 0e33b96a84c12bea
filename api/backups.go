package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/generalbots/backupd/internal/job"
)

// POST /create
func createBackup(c *call) (answer, error) {
	o, err := c.object()
	if err != nil {
		return answer{}, err
	}
	request := job.BackupRequest{
		Type:            deref(o.word("type", typeWords), "incremental"),
		IncludeFiles:    deref(o.flag("include_files"), true),
		IncludeDatabase: deref(o.flag("include_database"), true),
		Sources:         deref(o.texts("sources", maxWord), nil),
		Tags:            deref(o.texts("tags", maxWord), nil),
		RetentionDays:   deref(o.whole("retention_days", 0, job.MaxRetentionDays), 0),
	}
	if err := o.end(); err != nil {
		return answer{}, err
	}
	wait, err := c.wait()
	if err != nil {
		return answer{}, err
	}
	return c.post("backup.create", http.StatusCreated, "/%s", request, func(by job.By) (string, error) {
		made, err := c.s.o.Jobs.CreateBackup(c.r.Context(), request, by)
		return made.ID, err
	}, func(id string) (any, error) {
		c.await(id, wait)
		b, err := c.s.o.Jobs.Backup(c.r.Context(), id)
		if err != nil {
			return nil, err
		}
		b = c.backupFor(b)
		return backupOf(&b), nil
	})
}

// wait is how long a call wants to wait for the end of what it asks for.
func (c *call) wait() (time.Duration, error) {
	q := c.query()
	seconds := q.whole("wait", 0, maxWait, 0)
	return time.Duration(seconds) * time.Second, q.end()
}

// await waits for the end of a job, at most for so long; not at all when too many
// do so already.
func (c *call) await(id string, wait time.Duration) {
	if wait == 0 || !c.linger() {
		return
	}
	c.more(wait)
	ctx, cancel := c.context(wait)
	defer cancel()
	// How it stands is what the answer tells, whatever this one says.
	_, _ = c.s.o.Jobs.Wait(ctx, id)
}

// GET /list
func listBackups(c *call) (answer, error) {
	q := c.query()
	f := job.Filter{
		States: words[job.State](q.some("status", statusWords...)), Types: q.some("type", typeWords...),
		Source: q.text("source"), Tag: q.text("tag"), ScheduleID: q.text("schedule_id"),
		Since: q.moment("since"), Until: q.moment("until"),
	}
	f.Limit, f.Offset = q.window(0)
	if err := q.end(); err != nil {
		return answer{}, err
	}
	backups, total, err := c.s.o.Jobs.Backups(c.r.Context(), f)
	if err != nil {
		return answer{}, err
	}
	c.total(total)
	return answer{http.StatusOK, each(backups, func(b *job.Backup) Backup {
		mine := c.backupFor(*b)
		return backupOf(&mine)
	})}, nil
}

func (c *call) total(n int) { c.w.Header().Set("X-Total-Count", strconv.Itoa(n)) }

// GET /{backup_id}
func showBackup(c *call) (answer, error) {
	if err := c.query().end(); err != nil {
		return answer{}, err
	}
	b, err := c.s.o.Jobs.Backup(c.r.Context(), c.params.ByName("backup_id"))
	if err != nil {
		return answer{}, err
	}
	b = c.backupFor(b)
	return answer{http.StatusOK, backupDetails(&b)}, nil
}

// DELETE /{backup_id}
func deleteBackup(c *call) (answer, error) {
	if err := c.query().end(); err != nil {
		return answer{}, err
	}
	id := c.params.ByName("backup_id")
	if _, err := c.s.o.Jobs.Backup(c.r.Context(), id); err != nil {
		return answer{}, err
	}
	// One that runs is cancelled first, which takes until it comes to a sound
	// point; a client that goes away meanwhile does not take that back.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), longCancel)
	defer cancel()
	c.more(longCancel)
	err := c.alter("backup.delete", id, func() error {
		return c.s.o.Jobs.Delete(ctx, id, job.By{Actor: c.who.String(), RequestID: c.id})
	})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, Deleted{id, true}}, nil
}

// longCancel is how long a job that is cancelled may take to come to its end.
const longCancel = 20 * time.Second

// POST /{backup_id}/verify
func startVerify(c *call) (answer, error) {
	o, err := c.object()
	if err != nil {
		return answer{}, err
	}
	if err := o.end(); err != nil {
		return answer{}, err
	}
	wait, err := c.wait()
	if err != nil {
		return answer{}, err
	}
	return c.post("backup.verify", http.StatusAccepted, "/jobs/%s", nil, func(by job.By) (string, error) {
		made, err := c.s.o.Jobs.Verify(c.r.Context(), c.params.ByName("backup_id"), by)
		return made.ID, err
	}, func(id string) (any, error) {
		c.await(id, wait)
		return c.job(id)
	})
}

// job is the details of a job.
func (c *call) job(id string) (any, error) {
	j, err := c.s.o.Jobs.Job(id)
	if err != nil {
		return nil, err
	}
	j = c.jobFor(j)
	return jobDetails(&j), nil
}
