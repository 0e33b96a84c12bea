package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// talk prints what packages want people to know as lines of standard error: "warning: index is made anew (reason: …)".
// It may be called from any goroutine, since it writes each line at once and nothing else.
type talk struct {
	p     *program
	attrs []slog.Attr
}

// Enabled lets warnings and errors through.
func (*talk) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle prints a record.
func (t *talk) Handle(_ context.Context, r slog.Record) error {
	var details []string
	add := func(a slog.Attr) bool {
		details = append(details, a.Key+": "+a.Value.String())
		return true
	}
	for _, a := range t.attrs {
		add(a)
	}
	r.Attrs(add)
	line := r.Message
	if len(details) > 0 {
		line += " (" + strings.Join(details, ", ") + ")"
	}
	_, err := fmt.Fprintf(t.p.stderr, "warning: %s\n", printable(line))
	return err
}

// WithAttrs returns a talk that adds them to each line.
func (t *talk) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &talk{t.p, append(t.attrs[:len(t.attrs):len(t.attrs)], attrs...)}
}

// WithGroup changes nothing: a line has no groups.
func (t *talk) WithGroup(string) slog.Handler { return t }
