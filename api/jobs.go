package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/generalbots/backupd/internal/auth"
	"github.com/generalbots/backupd/internal/job"
)

// GET /jobs
func listJobs(c *call) (answer, error) {
	q := c.query()
	f := job.Filter{
		Kinds: words[job.Kind](q.some("kind", kindWords...)), States: words[job.State](q.some("status", statusWords...)),
		ScheduleID: q.text("schedule_id"), Since: q.moment("since"), Until: q.moment("until"),
	}
	f.Limit, f.Offset = q.window(100)
	if err := q.end(); err != nil {
		return answer{}, err
	}
	if c.who.Role < auth.Admin {
		// How a restore is doing is for administrators.
		if len(f.Kinds) == 0 {
			f.Kinds = words[job.Kind](kindWords)
		}
		var kinds []job.Kind
		for _, k := range f.Kinds {
			if k != job.KindRestore {
				kinds = append(kinds, k)
			}
		}
		if len(kinds) == 0 {
			return answer{}, c.denied(forbidden(auth.Admin))
		}
		f.Kinds = kinds
	}
	jobs, total, err := c.s.o.Jobs.List(f)
	if err != nil {
		return answer{}, err
	}
	c.total(total)
	return answer{http.StatusOK, each(jobs, func(j *job.Job) Job {
		mine := c.jobFor(*j)
		return jobOf(&mine)
	})}, nil
}

// visible finds the job a call is about. How a restore is doing is for
// administrators.
func (c *call) visible() (job.Job, error) {
	if err := c.query().end(); err != nil {
		return job.Job{}, err
	}
	j, err := c.s.o.Jobs.Job(c.params.ByName("job_id"))
	if err != nil {
		return job.Job{}, err
	}
	if j.Kind == job.KindRestore && c.who.Role < auth.Admin {
		return job.Job{}, c.denied(forbidden(auth.Admin))
	}
	return j, nil
}

// GET /jobs/{job_id}
func showJob(c *call) (answer, error) {
	j, err := c.visible()
	if err != nil {
		return answer{}, err
	}
	j = c.jobFor(j)
	return answer{http.StatusOK, jobDetails(&j)}, nil
}

// DELETE /jobs/{job_id}
func cancelJob(c *call) (answer, error) {
	j, err := c.visible()
	if err != nil {
		return answer{}, err
	}
	if j.Over() {
		return answer{}, &job.BusyError{JobID: j.ID, Message: fmt.Sprintf("the job is over (%s); there is nothing to cancel", j.State)}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), longCancel)
	defer cancel()
	c.more(longCancel)
	err = c.alter("job.cancel", j.ID, func() error {
		var err error
		j, err = c.s.o.Jobs.Cancel(ctx, j.ID)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	j = c.jobFor(j)
	return answer{http.StatusOK, jobDetails(&j)}, nil
}

// watchLast is how long a stream of events lasts at most; who still wants to know
// asks again.
const watchLast = 24 * time.Hour

// GET /jobs/{job_id}/events: a stream of server-sent events,
//
//	id: 3
//	event: progress
//	data: {a job as in lists}
//
// one for each change and about each second, the last of them called end, with the
// id end and the details of the job. Each tells all there is, so a client that comes
// back has missed nothing that counts. One that comes back after the end, as those
// of browsers do by themselves, is told so by a 204, at which they stop.
func watchJob(c *call) (answer, error) {
	j, err := c.visible()
	if err != nil {
		return answer{}, err
	}
	if j.Over() && c.r.Header.Get("Last-Event-ID") == endID {
		c.w.WriteHeader(http.StatusNoContent)
		return answer{}, nil
	}
	ctx, cancel := c.context(watchLast)
	defer cancel()
	events, err := c.s.o.Jobs.Watch(ctx, j.ID)
	if err != nil {
		return answer{}, err
	}
	rc := http.NewResponseController(c.w)
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // proxies would keep it back
	c.more(0)
	c.w.WriteHeader(http.StatusOK)
	if err := rc.Flush(); err != nil {
		return answer{}, nil
	}
	beat := time.NewTicker(c.s.o.Timeouts.Beat)
	defer beat.Stop()
	for n := 1; ; {
		var piece string
		select {
		case j, more := <-events:
			if !more {
				return answer{}, nil
			}
			j = c.jobFor(j)
			if piece, err = event(n, &j); err != nil {
				return answer{}, err
			}
			n++
		case <-beat.C:
			piece = ": the job goes on\n\n"
		case <-ctx.Done():
			return answer{}, nil
		}
		c.more(0)
		if _, err := c.w.Write([]byte(piece)); err != nil {
			return answer{}, nil // the client went away
		}
		if err := rc.Flush(); err != nil {
			return answer{}, nil
		}
	}
}

// endID is the id of the last event of a job.
const endID = "end"

func event(n int, j *job.Job) (string, error) {
	id, name, body := strconv.Itoa(n), "progress", any(jobOf(j))
	if j.Over() {
		id, name, body = endID, "end", jobDetails(j)
	}
	data, err := json.Marshal(body) // has no line ends
	if err != nil {
		return "", fmt.Errorf("%w: %v", errBug, err)
	}
	return fmt.Sprintf("id: %s\nevent: %s\ndata: %s\n\n", id, name, data), nil
}
