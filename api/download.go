package api

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/generalbots/backupd/internal/browse"
)

// downloadLast bounds a download; its client has 30 s for each piece.
const downloadLast = 24 * time.Hour

// GET /{backup_id}/download: what is at a path, as an archive. Whatever goes wrong
// after its first byte cuts the connection off: what has an end is complete, but
// for what the format can not hold, which the trailer X-Left-Out counts.
func download(c *call) (answer, error) {
	q := c.query()
	at := browse.Clean(q.path("path"))
	format := "tar"
	if f := q.some("format", "tar", "zip"); len(f) == 1 {
		format = f[0]
	} else if len(f) > 1 {
		q.refuse("format", "has to be tar or zip")
	}
	if err := q.end(); err != nil {
		return answer{}, err
	}
	ctx, done, err := c.reading(downloadLast)
	if err != nil {
		return answer{}, err
	}
	defer done()
	s, tree, err := c.tree(ctx, c.params.ByName("backup_id"))
	if err != nil {
		return answer{}, err
	}
	if _, err := tree.Find(ctx, at); err != nil {
		return answer{}, err
	}
	err = c.alter("backup.download", s.ID, func() error { return nil })
	if err != nil {
		return answer{}, err
	}
	h := c.w.Header()
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s.%s"`, s.ID, format))
	h.Set("Trailer", "X-Left-Out")
	write, kind := tree.Tar, "application/x-tar"
	if format == "zip" {
		write, kind = tree.Zip, "application/zip"
	}
	h.Set("Content-Type", kind)
	left := 0
	out := &piecewise{c: c}
	// An empty archive has bytes too, so a stream that works always began.
	err = write(ctx, out, at, nil, func(string, string) { left++ })
	switch {
	case err == nil:
		h.Set("X-Left-Out", strconv.Itoa(left))
		return answer{}, nil
	case c.w.status == 0:
		for _, name := range []string{"Content-Disposition", "Trailer", "Content-Type"} {
			h.Del(name)
		}
		return answer{}, err
	}
	c.s.log.Warn("a download was cut off", "request_id", c.id, "backup", s.ID, "error", err)
	panic(http.ErrAbortHandler)
}

// piecewise gives the client new time for each second's pieces.
type piecewise struct {
	c    *call
	last time.Time
}

var _ io.Writer = (*piecewise)(nil)

// Write passes a piece on.
func (p *piecewise) Write(b []byte) (int, error) {
	if now := time.Now(); now.Sub(p.last) > time.Second {
		p.last = now
		p.c.more(0)
	}
	return p.c.w.Write(b)
}
