package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// terminal is standard error where people look at it: lines of talk, and at most one progress line, which every line of
// talk wipes away first, whoever says it.
type terminal struct {
	w     io.Writer
	mu    sync.Mutex // guards what follows, and the order of writes
	drawn bool
}

// Write prints talk.
func (t *terminal) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wipe()
	return t.w.Write(b)
}

// aside runs do, which writes to the same screen, with no progress line on it.
func (t *terminal) aside(do func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wipe()
	do()
}

// draw replaces the progress line; an empty one takes it away.
func (t *terminal) draw(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wipe()
	if line != "" {
		fmt.Fprint(t.w, line)
		t.drawn = true
	}
}

func (t *terminal) wipe() {
	if t.drawn {
		fmt.Fprint(t.w, "\r\x1b[K")
		t.drawn = false
	}
}

// redraw is how often a progress line is drawn: at most five times a second.
const redraw = 200 * time.Millisecond

// reading is one look at the counters of what is going on.
type reading struct {
	what     string // "backing up", …
	unit     string // "file" when empty
	count    int64  // of units
	counts   int64  // how many it will be; 0 when it is not known
	bytes    int64
	total    int64 // of bytes; 0 when it is not known
	problems int64
	measure  measure
}

// measure is what tells how far a thing is.
type measure int

const (
	byBytes measure = iota
	byCount         // of units; bytes are not known
	byTime          // nothing is known but that it goes on
)

// meter draws a progress line on a terminal until it is stopped.
type meter struct {
	w      *terminal
	fd     int
	read   func() reading
	start  time.Time
	quit   chan struct{}
	done   sync.WaitGroup
	rate   float64 // smoothed, units a second
	last   float64
	lastAt time.Time
}

// meter starts drawing what read tells. When standard error is no terminal nothing is drawn, ever; nor where JSON
// comes out on one, whose lines are not ours to break. The result stops it.
func (p *program) meter(fd int, read func() reading) (stop func()) {
	if p.terminal == nil || p.json && p.onScreen {
		return func() {}
	}
	m := &meter{w: p.terminal, fd: fd, read: read, start: time.Now(), quit: make(chan struct{})}
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
	for {
		select {
		case now := <-tick.C:
			width, _, err := term.GetSize(m.fd)
			if err != nil || width < 20 {
				width = 80
			}
			m.w.draw(m.line(now, m.read(), width-1))
		case <-m.quit:
			m.w.draw("")
			return
		}
	}
}

// barWidth is that of the bar itself, in characters.
const barWidth = 20

// line is what a reading looks like, at most width characters of it. The bar is what goes first when room is short.
func (m *meter) line(now time.Time, r reading, width int) string {
	done, total := float64(r.bytes), float64(r.total)
	switch r.measure {
	case byCount:
		done, total = float64(r.count), float64(r.counts)
	case byTime:
		return clip(fmt.Sprintf("%s  %s", r.what, now.Sub(m.start).Truncate(time.Second)), width)
	}
	m.follow(now, done)
	var b strings.Builder
	if r.count > 0 {
		fmt.Fprintf(&b, "  %s", counted(r.count, cmp.Or(r.unit, "file")))
	}
	if r.measure == byBytes {
		fmt.Fprintf(&b, "  %s", bytesText(r.bytes))
		if r.total > 0 {
			fmt.Fprintf(&b, " of %s", bytesText(max(r.total, r.bytes)))
		}
		fmt.Fprintf(&b, "  %s/s", bytesText(int64(max(m.rate, 0))))
	} else {
		if r.counts > 0 {
			fmt.Fprintf(&b, " of %s", countText(max(r.counts, r.count)))
		}
		fmt.Fprintf(&b, "  %s/s", countText(int64(max(m.rate, 0))))
	}
	if left := total - done; left > 0 && m.rate > 0 && now.Sub(m.start) > time.Second {
		seconds := min(left/m.rate, 999*3600)
		fmt.Fprintf(&b, "  %s left", max(time.Duration(seconds)*time.Second, time.Second))
	}
	if r.problems > 0 {
		fmt.Fprintf(&b, "  %s", counted(r.problems, "problem"))
	}
	rest := b.String()
	if total <= 0 {
		return clip(r.what+rest, width)
	}
	part := min(done/total, 1)
	percent := fmt.Sprintf(" %3.0f %%", 100*part)
	full := int(barWidth * part)
	bar := "  [" + strings.Repeat("#", full) + strings.Repeat("-", barWidth-full) + "]"
	if len(r.what)+len(bar)+len(percent)+len(rest) > width {
		bar = ""
	}
	return clip(r.what+bar+percent+rest, width)
}

// follow takes a tenth of the newest rate into the smoothed one, so that it follows without jumping.
func (m *meter) follow(now time.Time, done float64) {
	dt := now.Sub(m.lastAt).Seconds()
	if dt <= 0 {
		return
	}
	current := (done - m.last) / dt
	if m.rate == 0 {
		m.rate = current
	} else {
		m.rate += 0.1 * (current - m.rate)
	}
	m.last, m.lastAt = done, now
}

func clip(line string, width int) string { return line[:min(len(line), width)] }
