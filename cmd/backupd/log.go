package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/generalbots/backupd/internal/config"
	"golang.org/x/sys/unix"
)

// logLevels are the words of the configuration.
var logLevels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

// newLog makes the log of the daemon: a line for each record, on w. To the journal each line begins with its priority,
// which the journal takes off, and has no time, which the journal has already.
func newLog(w io.Writer, format string, level slog.Leveler, journal bool) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if journal {
		o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
				return slog.Attr{}
			}
			return a
		}
	}
	line := &logLine{w: w}
	var to io.Writer = w
	if journal {
		to = &line.buf
	}
	var h slog.Handler
	if format == "json" {
		h = slog.NewJSONHandler(to, o)
	} else {
		h = slog.NewTextHandler(to, o)
	}
	if journal {
		h = &journalHandler{Handler: h, line: line}
	}
	return slog.New(h)
}

// isJournal tells whether a descriptor is the stream to the journal whose device and inode systemd put in $JOURNAL_STREAM.
// What a desktop started has the variable too, and a terminal or a file as its standard error.
func isJournal(stream string, fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// logLine is the line that is being made for the journal.
type logLine struct {
	mu  sync.Mutex // guards the rest
	buf bytes.Buffer
	w   io.Writer
}

// journalHandler puts the priority before each line.
type journalHandler struct {
	slog.Handler // writes into line.buf
	line         *logLine
}

// Handle writes one record at once.
func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.line.mu.Lock()
	defer h.line.mu.Unlock()
	h.line.buf.Reset()
	h.line.buf.WriteString(priority(r.Level))
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	_, err := h.line.w.Write(h.line.buf.Bytes())
	return err
}

// WithAttrs keeps the priority.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{h.Handler.WithAttrs(attrs), h.line}
}

// WithGroup keeps the priority.
func (h *journalHandler) WithGroup(name string) slog.Handler {
	return &journalHandler{h.Handler.WithGroup(name), h.line}
}

// priority is that of sd-daemon(3).
func priority(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "<3>"
	case l >= slog.LevelWarn:
		return "<4>"
	case l >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}

// logLevel sets the level of the configuration.
func logLevel(v *slog.LevelVar, c *config.Config) { v.Set(logLevels[c.Log.Level]) }
