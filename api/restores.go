package api

import (
	"fmt"
	"net/http"

	"github.com/generalbots/backupd/internal/job"
)

// POST /restore/{backup_id}
func startRestore(c *call) (answer, error) {
	o, err := c.object()
	if err != nil {
		return answer{}, err
	}
	request := job.RestoreRequest{
		Target:     deref(o.text("target", maxWord), "staging"),
		Paths:      deref(o.texts("paths", maxText), nil),
		Sources:    deref(o.texts("sources", maxWord), nil),
		DryRun:     deref(o.flag("dry_run"), false),
		Privileged: deref(o.flag("privileged"), false),
	}
	// true is always: whoever asks for it has said that what is there may go.
	if v, ok := o.fields["overwrite"].(bool); ok {
		o.taken["overwrite"] = true
		if v {
			request.Overwrite = "always"
		}
	} else {
		request.Overwrite = deref(o.word("overwrite", overwriteWords), "")
	}
	if request.Overwrite == "" {
		request.Overwrite = "never"
	}
	if err := o.end(); err != nil {
		return answer{}, err
	}
	wait, err := c.wait()
	if err != nil {
		return answer{}, err
	}
	return c.post("backup.restore", http.StatusAccepted, "/restore/%s/status", request, func(by job.By) (string, error) {
		made, err := c.s.o.Jobs.Restore(c.r.Context(), c.params.ByName("backup_id"), request, by)
		return made.ID, err
	}, func(id string) (any, error) {
		c.await(id, wait)
		return c.restore(id)
	})
}

func (c *call) restore(id string) (any, error) {
	j, err := c.s.o.Jobs.Job(id)
	if err != nil {
		return nil, err
	}
	if j.Kind != job.KindRestore {
		return nil, fmt.Errorf("%w: job %s is no restore", job.ErrNotFound, j.ID)
	}
	return restoreOf(&j), nil
}

// GET /restore/{job_id}/status
func showRestore(c *call) (answer, error) {
	if err := c.query().end(); err != nil {
		return answer{}, err
	}
	body, err := c.restore(c.params.ByName("job_id"))
	return answer{http.StatusOK, body}, err
}
