package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// BackupRequest asks for a backup. Nil stands for the daemon's default.
type BackupRequest struct {
	Type            string   `json:"type,omitempty"`
	IncludeFiles    *bool    `json:"include_files,omitempty"`
	IncludeDatabase *bool    `json:"include_database,omitempty"`
	Sources         []string `json:"sources,omitempty"`
	Tags            []string `json:"tags,omitempty"`
	RetentionDays   *int     `json:"retention_days,omitempty"`
}

// RestoreRequest asks for a restore.
type RestoreRequest struct {
	Target     string   `json:"target,omitempty"`
	Paths      []string `json:"paths,omitempty"`
	Sources    []string `json:"sources,omitempty"`
	Overwrite  string   `json:"overwrite,omitempty"` // never, if-changed, always
	DryRun     bool     `json:"dry_run,omitempty"`
	Privileged bool     `json:"privileged,omitempty"`
}

// ScheduleRequest is a schedule to be made, or what is to change of one.
type ScheduleRequest struct {
	Name            *string   `json:"name,omitempty"`
	Cron            *string   `json:"cron,omitempty"`
	Type            *string   `json:"type,omitempty"`
	Timezone        *string   `json:"timezone,omitempty"`
	IncludeFiles    *bool     `json:"include_files,omitempty"`
	IncludeDatabase *bool     `json:"include_database,omitempty"`
	Sources         *[]string `json:"sources,omitempty"`
	Tags            *[]string `json:"tags,omitempty"`
	RetentionDays   *int      `json:"retention_days,omitempty"`
	Enabled         *bool     `json:"enabled,omitempty"`
}

// Once says how a change is asked for.
type Once struct {
	Key  string        // Idempotency-Key: the same again makes nothing new; "" for none
	Wait time.Duration // for the end of the job, whole seconds
}

// ListFilter selects backups, or jobs. The zero value selects all.
type ListFilter struct {
	Status, Type, Kind []string // Type of backups, Kind of jobs
	Source, Tag        string   // of backups
	ScheduleID         string
	Since, Until       time.Time
	Page
}

func (f *ListFilter) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{
		"status": strings.Join(f.Status, ","), "type": strings.Join(f.Type, ","), "kind": strings.Join(f.Kind, ","),
		"source": f.Source, "tag": f.Tag, "schedule_id": f.ScheduleID,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if !f.Since.IsZero() {
		q.Set("since", f.Since.UTC().Format(time.RFC3339))
	}
	if !f.Until.IsZero() {
		q.Set("until", f.Until.UTC().Format(time.RFC3339))
	}
	return f.in(q)
}

func under(id string, rest ...string) string {
	return base + "/" + url.PathEscape(id) + strings.Join(rest, "")
}

// Create asks for a backup.
func (c *Client) Create(ctx context.Context, r BackupRequest, o Once) (b Backup, err error) {
	_, err = c.call(ctx, request{method: http.MethodPost, path: base + "/create", body: r, key: o.Key, wait: o.Wait}, &b)
	return b, err
}

// List returns backups, newest first, and how many there are without the limit.
func (c *Client) List(ctx context.Context, f ListFilter) (list []Backup, total int, err error) {
	h, err := c.call(ctx, request{method: http.MethodGet, path: base + "/list", query: f.query()}, &list)
	return list, totalOf(h, len(list)), err
}

// Backup returns the details of one.
func (c *Client) Backup(ctx context.Context, id string) (b BackupDetails, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: under(id)}, &b)
	return b, err
}

// Delete deletes one.
func (c *Client) Delete(ctx context.Context, id string) error {
	var d Deleted
	_, err := c.call(ctx, request{method: http.MethodDelete, path: under(id)}, &d)
	return err
}

// Restore asks for a restore.
func (c *Client) Restore(ctx context.Context, id string, r RestoreRequest, o Once) (out Restore, err error) {
	_, err = c.call(ctx, request{method: http.MethodPost, path: base + "/restore/" + url.PathEscape(id), body: r, key: o.Key, wait: o.Wait}, &out)
	return out, err
}

// RestoreStatus says how a restore is doing.
func (c *Client) RestoreStatus(ctx context.Context, jobID string) (out Restore, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: base + "/restore/" + url.PathEscape(jobID) + "/status"}, &out)
	return out, err
}

// Verify asks for a verification.
func (c *Client) Verify(ctx context.Context, id string, o Once) (j JobDetails, err error) {
	_, err = c.call(ctx, request{method: http.MethodPost, path: under(id, "/verify"), key: o.Key, wait: o.Wait}, &j)
	return j, err
}

// CreateSchedule makes a schedule.
func (c *Client) CreateSchedule(ctx context.Context, r ScheduleRequest, o Once) (s Schedule, err error) {
	_, err = c.call(ctx, request{method: http.MethodPost, path: base + "/schedule", body: r, key: o.Key}, &s)
	return s, err
}

// Schedules returns all.
func (c *Client) Schedules(ctx context.Context, p Page) (list []Schedule, total int, err error) {
	h, err := c.call(ctx, request{method: http.MethodGet, path: base + "/schedule", query: p.in(url.Values{})}, &list)
	return list, totalOf(h, len(list)), err
}

// UpdateSchedule changes what is not nil.
func (c *Client) UpdateSchedule(ctx context.Context, id string, r ScheduleRequest) (s Schedule, err error) {
	_, err = c.call(ctx, request{method: http.MethodPut, path: base + "/schedule/" + url.PathEscape(id), body: r}, &s)
	return s, err
}

// DeleteSchedule removes one.
func (c *Client) DeleteSchedule(ctx context.Context, id string) error {
	var d Deleted
	_, err := c.call(ctx, request{method: http.MethodDelete, path: base + "/schedule/" + url.PathEscape(id)}, &d)
	return err
}

// Files lists a directory of a backup; path may be any bytes.
func (c *Client) Files(ctx context.Context, id, path string, p Page) (list []File, total int, err error) {
	h, err := c.call(ctx, request{method: http.MethodGet, path: under(id, "/files"), query: p.in(url.Values{"path": {path}})}, &list)
	return list, totalOf(h, len(list)), err
}

// Find looks for a name, or a pattern, in all backups. truncated says that there
// may be more.
func (c *Client) Find(ctx context.Context, name string, limit int) (list []Match, truncated bool, err error) {
	h, err := c.call(ctx, request{method: http.MethodGet, path: base + "/find", query: Page{Limit: limit}.in(url.Values{"name": {name}})}, &list)
	return list, h.Get("X-Truncated") == "true", err
}

// Diff compares a backup with another; "" is the one it was based on.
func (c *Client) Diff(ctx context.Context, id, baseID string, limit int) (d Diff, err error) {
	q := Page{Limit: limit}.in(url.Values{})
	if baseID != "" {
		q.Set("base", baseID)
	}
	_, err = c.call(ctx, request{method: http.MethodGet, path: under(id, "/diff"), query: q}, &d)
	return d, err
}

// Download writes what is at a path of a backup, as format "tar" or "zip". left is
// how much of it the format could not hold. After an error w has no whole archive.
func (c *Client) Download(ctx context.Context, id, path, format string, w io.Writer) (left int, err error) {
	resp, err := c.send(ctx, request{method: http.MethodGet, path: under(id, "/download"), query: url.Values{"path": {path}, "format": {format}}})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return 0, fmt.Errorf("the download broke off: %w", err)
	}
	left, err = strconv.Atoi(resp.Trailer.Get("X-Left-Out"))
	if err != nil {
		return 0, errors.New("the download has no end: something between here and the daemon cut it")
	}
	return left, nil
}

// Jobs returns jobs, newest first, and how many there are without the limit.
func (c *Client) Jobs(ctx context.Context, f ListFilter) (list []Job, total int, err error) {
	h, err := c.call(ctx, request{method: http.MethodGet, path: base + "/jobs", query: f.query()}, &list)
	return list, totalOf(h, len(list)), err
}

// Job returns one.
func (c *Client) Job(ctx context.Context, id string) (j JobDetails, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: base + "/jobs/" + url.PathEscape(id)}, &j)
	return j, err
}

// Cancel ends a job.
func (c *Client) Cancel(ctx context.Context, id string) (j JobDetails, err error) {
	_, err = c.call(ctx, request{method: http.MethodDelete, path: base + "/jobs/" + url.PathEscape(id)}, &j)
	return j, err
}

// Stats says what the repository holds.
func (c *Client) Stats(ctx context.Context) (s Stats, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: base + "/stats"}, &s)
	return s, err
}

// Sources are what the daemon backs up.
func (c *Client) Sources(ctx context.Context) (list []Source, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: base + "/sources"}, &list)
	return list, err
}

// Targets are the places restores can go to.
func (c *Client) Targets(ctx context.Context) (list []Target, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: base + "/targets"}, &list)
	return list, err
}

// Health asks whether the daemon answers. It needs no token.
func (c *Client) Health(ctx context.Context) (h Health, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: "/health"}, &h)
	return h, err
}
