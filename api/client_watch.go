package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// maxEvent bounds one line of a stream of events.
	maxEvent = 16 << 20
	// silence is how long a stream may say nothing before it is given up.
	silence = 50 * time.Second
	// pollEvery is how often is asked where there is no stream.
	pollEvery = time.Second
	// lost is how many times in a row the daemon may not be there.
	lost = 10
)

// errNoStream says that events do not come: something between keeps them back, or
// the stream ended before the job.
var errNoStream = errors.New("no stream of events")

// Watch calls step with the job, whenever it has changed and about once a second,
// until it is over, and returns it then. When no events come it asks instead, also
// over a restart of the daemon. step may be nil. An error of the daemon, such as
// that there is no such job, ends it.
func (c *Client) Watch(ctx context.Context, id string, step func(Job)) (JobDetails, error) {
	if step == nil {
		step = func(Job) {}
	}
	j, err := c.stream(ctx, id, step)
	if err == nil || ctx.Err() != nil || final(err) {
		return j, err
	}
	return c.poll(ctx, id, step)
}

// final tells whether asking again can not help.
func final(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status < 500 && e.Status != http.StatusTooManyRequests
}

func (c *Client) stream(ctx context.Context, id string, step func(Job)) (JobDetails, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	quiet := time.AfterFunc(silence, cancel)
	defer quiet.Stop()
	resp, err := c.send(ctx, request{method: http.MethodGet, path: base + "/jobs/" + url.PathEscape(id) + "/events"})
	if err != nil {
		return JobDetails{}, err
	}
	defer resp.Body.Close()
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return JobDetails{}, errNoStream
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	name, data := "", ""
	for lines.Scan() {
		quiet.Reset(silence)
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case field == "event":
			name = value
		case field == "data":
			data = value
		case lines.Text() == "" && data != "":
			var j JobDetails
			if err := json.Unmarshal([]byte(data), &j); err != nil {
				return JobDetails{}, fmt.Errorf("an event of the daemon can not be read: %w", err)
			}
			step(j.Job)
			if name == "end" {
				return j, nil
			}
			name, data = "", ""
		}
	}
	return JobDetails{}, errNoStream
}

func (c *Client) poll(ctx context.Context, id string, step func(Job)) (JobDetails, error) {
	missed := 0
	for {
		j, err := c.Job(ctx, id)
		switch {
		case err == nil:
			missed = 0
			step(j.Job)
			if j.FinishedAt != nil {
				return j, nil
			}
		case ctx.Err() != nil || final(err):
			return JobDetails{}, err
		default:
			if missed++; missed > lost {
				return JobDetails{}, err
			}
		}
		pause := time.NewTimer(pollEvery)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return JobDetails{}, context.Cause(ctx)
		}
	}
}
