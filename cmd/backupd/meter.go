package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// redraw is how often a progress line is drawn: at most five times a second.
const redraw = 200 * time.Millisecond

// reading is one look at the counters of what is going on.
type reading struct {
	what        string // "backing up", …
	files       int64
	bytes       int64
	total       int64 // of bytes; 0 when it is not known
	problems    int64
	countedOnly bool // files are the measure, bytes are not known
	totalFiles  int64
}

// meter draws a progress line on a terminal until it is stopped.
type meter struct {
	w      io.Writer
	fd     int
	read   func() reading
	start  time.Time
	quit   chan struct{}
	done   sync.WaitGroup
	rate   float64 // smoothed, units a second
	last   float64
	lastAt time.Time
}

// meter starts drawing what read tells. When standard error is no terminal nothing is drawn, ever. The result stops it.
func (p *program) meter(fd int, read func() reading) (stop func()) {
	if !p.terminal {
		return func() {}
	}
	m := &meter{w: p.stderr, fd: fd, read: read, start: time.Now(), quit: make(chan struct{})}
	m.lastAt = m.start
	m.done.Go(m.run)
	return sync.OnceFunc(func() {
		close(m.quit)
		m.done.Wait()
	})
}

func (m *meter) run() {
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	drawn := false
	for {
		select {
		case now := <-tick.C:
			width, _, err := term.GetSize(m.fd)
			if err != nil || width < 20 {
				width = 80
			}
			fmt.Fprintf(m.w, "\r%s\x1b[K", m.line(now, m.read(), width-1))
			drawn = true
		case <-m.quit:
			if drawn {
				fmt.Fprint(m.w, "\r\x1b[K")
			}
			return
		}
	}
}

// line is what a reading looks like, at most width characters of it.
func (m *meter) line(now time.Time, r reading, width int) string {
	done, total := float64(r.bytes), float64(r.total)
	if r.countedOnly {
		done, total = float64(r.files), float64(r.totalFiles)
	}
	// A second's weight goes down by a tenth each redraw, so the rate follows without jumping.
	if dt := now.Sub(m.lastAt).Seconds(); dt > 0 {
		current := (done - m.last) / dt
		if m.rate == 0 {
			m.rate = current
		} else {
			m.rate += 0.1 * (current - m.rate)
		}
		m.last, m.lastAt = done, now
	}
	var b strings.Builder
	b.WriteString(r.what)
	if total > 0 {
		fmt.Fprintf(&b, " %3.0f %%", 100*min(done/total, 1))
	}
	if r.files > 0 {
		fmt.Fprintf(&b, "  %s files", countText(r.files))
	}
	if !r.countedOnly {
		fmt.Fprintf(&b, "  %s", bytesText(r.bytes))
		if r.total > 0 {
			fmt.Fprintf(&b, " of %s", bytesText(max(r.total, r.bytes)))
		}
		fmt.Fprintf(&b, "  %s/s", bytesText(int64(max(m.rate, 0))))
	} else {
		fmt.Fprintf(&b, "  %s/s", countText(int64(max(m.rate, 0))))
	}
	if left := total - done; left > 0 && m.rate > 0 && now.Sub(m.start) > time.Second {
		seconds := min(left/m.rate, 999*3600)
		fmt.Fprintf(&b, "  %s left", max(time.Duration(seconds)*time.Second, time.Second))
	}
	if r.problems > 0 {
		fmt.Fprintf(&b, "  %s problems", countText(r.problems))
	}
	line := b.String()
	if len(line) > width {
		line = line[:width]
	}
	return line
}
