package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/generalbots/backupd/internal/browse"
	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/repo"
)

// errPathNotFound is a path that a backup does not have.
var errPathNotFound = browse.ErrNoPath

const (
	maxPath    = 32 << 10         // bytes of a path in a query
	lookLimit  = 1000             // entries an answer has unless more are asked for
	lookFor    = 20 * time.Second // how long a search or comparison may take
	maxPattern = 1 << 10
)

// snapshot is what can be read of the backup with an id; *job.BusyError while it is
// being made.
func (c *call) snapshot(ctx context.Context, id string) (*repo.Snapshot, error) {
	b, err := c.s.o.Jobs.Backup(ctx, id)
	if err != nil {
		return nil, err
	}
	if b.Manifest == nil {
		if b.Job != nil && !b.Job.Over() {
			return nil, &job.BusyError{JobID: b.ID, Message: "this backup is not complete yet; wait for its end"}
		}
		return nil, &requestError{
			status: http.StatusNotFound, code: "not_found",
			message: fmt.Sprintf("backup %s holds nothing to look into, as it is %s: GET %s/%s says why", b.ID, b.State, base, b.ID),
		}
	}
	for _, s := range c.s.o.Repo.Snapshots() {
		if s.ID == id {
			return s, nil
		}
	}
	return nil, fmt.Errorf("backup %s: %w", b.ID, job.ErrNotFound)
}

// reading begins a look into the repository, which lasts limit at most: gc stays
// away until done is called. Nothing can be read while one runs, which is no
// conflict, but a moment's wait.
func (c *call) reading(limit time.Duration) (ctx context.Context, done func(), err error) {
	free, err := c.s.o.Jobs.Hold()
	var busy *job.BusyError
	if errors.As(err, &busy) {
		return nil, nil, &requestError{
			status: http.StatusServiceUnavailable, code: "service_unavailable", message: busy.Message, jobID: busy.JobID, retryAfter: 5 * time.Second,
		}
	}
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := c.context(limit)
	return ctx, func() { cancel(); free() }, nil
}

// tree is what the backup with an id holds, to be looked into while reading.
func (c *call) tree(ctx context.Context, id string) (*repo.Snapshot, *browse.Tree, error) {
	s, err := c.snapshot(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	t, err := browse.Open(c.s.o.Repo, s)
	return s, t, err
}

func (q *query) path(name string) string {
	s := q.raw(name)
	if len(s) > maxPath {
		q.refuse(name, fmt.Sprintf("has more than the %d bytes a path may have", maxPath))
	}
	return s
}

// GET /{backup_id}/files
func listFiles(c *call) (answer, error) {
	q := c.query()
	at := q.path("path")
	limit, offset := q.window(lookLimit)
	if err := q.end(); err != nil {
		return answer{}, err
	}
	ctx, done, err := c.reading(lookFor)
	if err != nil {
		return answer{}, err
	}
	defer done()
	_, tree, err := c.tree(ctx, c.params.ByName("backup_id"))
	if err != nil {
		return answer{}, err
	}
	at = browse.Clean(at)
	here, err := tree.Find(ctx, at)
	if err != nil {
		return answer{}, err
	}
	total := uint64(0)
	for _, f := range here {
		total += f.Dir.Entries
	}
	out := []File{}
	for f, err := range tree.List(ctx, at, uint64(offset), uint64(limit)) {
		if errors.Is(err, browse.ErrNotDirectory) {
			return answer{}, invalid("path", "is not a directory; list the one it is in")
		}
		if err != nil {
			return answer{}, err
		}
		out = append(out, fileOf(at, &f))
	}
	c.w.Header().Set("X-Total-Count", strconv.FormatUint(total, 10))
	return answer{http.StatusOK, out}, nil
}

func fileOf(at string, f *browse.Found) File {
	if at != "/" {
		at += "/"
	}
	out := File{
		Source: f.Source, Name: pathOf(f.Name).Path, Path: pathOf(at + f.Name), Type: browse.TypeName(f.Type),
		Mode: fmt.Sprintf("%04o", f.Mode&0o7777), User: f.User, Group: f.Group, UID: f.UID, GID: f.GID, SizeBytes: f.Size, MTime: browse.Clock(f.Mtime),
	}
	if f.Type == repo.TypeSymlink {
		target := pathOf(f.Target).Path
		out.Link = &target
	}
	return out
}

var errEnough = errors.New("enough was found")

// GET /find
func find(c *call) (answer, error) {
	q := c.query()
	name := q.raw("name")
	limit := q.whole("limit", 1, lookLimit, 100)
	only := q.text("backup_id")
	if name == "" || len(name) > maxPattern {
		q.refuse("name", fmt.Sprintf("is needed: a name or a pattern with * and ?, of %d bytes at most", maxPattern))
	}
	if err := q.end(); err != nil {
		return answer{}, err
	}
	search, err := browse.NewSearch(name)
	if err != nil {
		return answer{}, invalid("name", "is not a pattern that can be read; close each [ and put a backslash before a character that is meant as it is")
	}
	ctx, done, err := c.reading(lookFor)
	if err != nil {
		return answer{}, err
	}
	defer done()
	backups, _, err := c.s.o.Jobs.Backups(ctx, job.Filter{})
	if err != nil {
		return answer{}, err
	}
	live := make(map[string]*repo.Snapshot)
	for _, s := range c.s.o.Repo.Snapshots() {
		live[s.ID] = s
	}
	matches := []Match{}
	for i := range backups {
		s := live[backups[i].ID]
		if s == nil || only != "" && s.ID != only {
			continue
		}
		tree, err := browse.Open(c.s.o.Repo, s)
		if err == nil {
			err = search.In(ctx, tree, func(at string, e *repo.Entry) error {
				if len(matches) == limit {
					return errEnough
				}
				matches = append(matches, Match{s.ID, s.CreatedAt.UTC(), pathOf(at), browse.TypeName(e.Type), e.Size, browse.Clock(e.Mtime)})
				return nil
			})
		}
		// What was found in time is worth telling, as long as it is told that
		// there may be more.
		if errors.Is(err, errEnough) || errors.Is(err, context.DeadlineExceeded) && c.r.Context().Err() == nil {
			c.w.Header().Set("X-Truncated", "true")
			return answer{http.StatusOK, matches}, nil
		}
		if err != nil {
			return answer{}, err
		}
	}
	c.w.Header().Set("X-Truncated", "false")
	return answer{http.StatusOK, matches}, nil
}

// GET /{backup_id}/diff
func showDiff(c *call) (answer, error) {
	q := c.query()
	base := q.text("base")
	limit := q.whole("limit", 1, maxLimit, lookLimit)
	if err := q.end(); err != nil {
		return answer{}, err
	}
	ctx, done, err := c.reading(lookFor)
	if err != nil {
		return answer{}, err
	}
	defer done()
	s, err := c.snapshot(ctx, c.params.ByName("backup_id"))
	if err != nil {
		return answer{}, err
	}
	if base == "" {
		base = s.BaseID
	}
	if base == "" {
		return answer{}, invalid("base", "is needed, as this backup has no base: give the id of another backup")
	}
	from, err := c.snapshot(ctx, base)
	if err != nil {
		return answer{}, err
	}
	d := Diff{BaseID: from.ID, BackupID: s.ID, Changes: []Change{}}
	for change, err := range c.s.o.Repo.Diff(ctx, from, s) {
		if err != nil {
			return answer{}, err
		}
		if len(d.Changes) == limit {
			d.Truncated = true
			break
		}
		d.Changes = append(d.Changes, d.Totals.add(&change))
	}
	return answer{http.StatusOK, d}, nil
}

// add counts a change and is what an answer says of it.
func (t *DiffTotals) add(c *repo.Change) Change {
	out := Change{Kind: c.Kind.String(), Path: pathOf("/" + c.Path)}
	if c.Old != nil {
		old := c.Old.Size
		out.Type, out.OldSize = browse.TypeName(c.Old.Type), &old
	}
	if c.New != nil {
		size := c.New.Size
		out.Type, out.NewSize = browse.TypeName(c.New.Type), &size
	}
	switch c.Kind {
	case repo.Added:
		t.Added++
	case repo.Removed:
		t.Removed++
	case repo.Changed:
		t.Changed++
	default:
		t.Metadata++
		return out
	}
	if c.Old != nil {
		t.BytesRemoved += c.Old.Size
	}
	if c.New != nil {
		t.BytesAdded += c.New.Size
	}
	return out
}
