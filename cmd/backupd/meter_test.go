package main

import (
	"bufio"
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMeter_TellsRateAndTimeLeft(t *testing.T) {
	start := time.Unix(1000, 0)
	m := &meter{start: start, lastAt: start}
	m.line(start.Add(time.Second), reading{what: "backing up", bytes: 100 << 20, total: 1000 << 20}, 200)
	got := m.line(start.Add(2*time.Second), reading{what: "backing up", count: 12345, bytes: 200 << 20, total: 1000 << 20, problems: 2}, 200)
	want := "backing up  [####----------------]  20 %  12,345 files  200.0 MiB of 1000.0 MiB  100.0 MiB/s  8s left  2 problems"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := m.line(start.Add(3*time.Second), reading{what: "backing up", bytes: 300 << 20}, 15); len(got) > 15 {
		t.Errorf("%q is longer than the terminal is wide", got)
	}
}

// An estimate may be too low; it is never more than all.
func TestMeter_NeverPassesAHundred(t *testing.T) {
	start := time.Unix(1000, 0)
	m := &meter{start: start, lastAt: start}
	got := m.line(start.Add(time.Second), reading{what: "x", bytes: 30, total: 10}, 200)
	if !strings.Contains(got, "100 %") || strings.Contains(got, "left") {
		t.Errorf("got %q", got)
	}
}

func TestMeter_DrawsOnTerminalsOnly(t *testing.T) {
	// In time that passes when all wait: a busy machine would draw fewer times, or more while the test oversleeps.
	synctest.Test(t, drawsOnTerminalsOnly)
}

func drawsOnTerminalsOnly(t *testing.T) {
	var out bytes.Buffer
	p := &program{stderr: &out}
	stop := p.meter(2, func() reading { t.Error("looked"); return reading{} })
	time.Sleep(2 * redraw)
	stop()
	if out.Len() > 0 {
		t.Errorf("drew %q", out.String())
	}
	p.terminal = &terminal{w: &out}
	stop = p.meter(2, func() reading { return reading{what: "working", bytes: 5} })
	time.Sleep(2*redraw + redraw/2)
	stop()
	stop()
	if n := strings.Count(out.String(), "working"); n != 2 {
		t.Errorf("drew %d times in two and a half intervals: %q", n, out.String())
	}
	if !strings.HasSuffix(out.String(), "\r\x1b[K") {
		t.Errorf("left its line behind: %q", out.String())
	}
}

func TestPrintable_LeavesNothingATerminalWouldObey(t *testing.T) {
	for in, want := range map[string]string{
		"plain":        "plain",
		"größe … 漢":    "größe … 漢",
		"a\nb":         `a\nb`,
		"\x1b[31m":     `\x1b[31m`,
		"\xff":         `\xff`,
		"\uFFFD":       "\uFFFD",
		`back\slash"'`: `back\\slash"'`,
		"\u202egnp":    `\u202egnp`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestSizes_AreForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 20: "1.0 MiB", 1<<20 - 1: "1.0 MiB", 5 << 40: "5.0 TiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		if got := countText(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestMeter_DropsTheBarWhereRoomIsShort(t *testing.T) {
	start := time.Unix(1000, 0)
	m := &meter{start: start, lastAt: start}
	r := reading{what: "restoring", count: 1, bytes: 1 << 20, total: 2 << 20}
	if got := m.line(start.Add(time.Second), r, 100); !strings.Contains(got, "[##########----------]  50 %  1 file  ") {
		t.Errorf("got %q", got)
	}
	if got := m.line(start.Add(2*time.Second), r, 60); strings.Contains(got, "[") || !strings.Contains(got, " 50 %") {
		t.Errorf("got %q", got)
	}
	if got, want := m.line(start.Add(65*time.Second), reading{what: "measuring", measure: byTime}, 60), "measuring  1m5s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whoever talks while a progress line stands, be it another goroutine's warning, begins on a clean line.
func TestTerminal_TalkWipesTheProgressLineAway(t *testing.T) {
	var out bytes.Buffer
	p := &program{terminal: &terminal{w: &out}}
	p.stderr = p.terminal
	p.terminal.draw("half")
	slog.New(&talk{p: p}).Warn("watch \x1b out", "why", "so")
	p.terminal.draw("whole")
	p.terminal.draw("")
	want := "half" + "\r\x1b[K" + `warning: watch \x1b out (why: so)` + "\n" + "whole" + "\r\x1b[K"
	if got := out.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Where data and talk are one screen, each line of data stands alone and is there at once.
func TestRow_StandsInPlaceOfTheProgressLine(t *testing.T) {
	var screen bytes.Buffer
	p := &program{terminal: &terminal{w: &screen}, stdout: bufio.NewWriter(&screen), onScreen: true}
	p.terminal.draw("half")
	p.row("found %d", 1)
	p.terminal.draw("whole")
	if got, want := screen.String(), "half\r\x1b[Kfound 1\nwhole"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.onScreen = false
	p.row("found %d", 2)
	if got := screen.String(); strings.Contains(got, "found 2") {
		t.Errorf("data for a file was not gathered: %q", got)
	}
}
