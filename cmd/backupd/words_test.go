package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestCounted_KnowsOneFromMany(t *testing.T) {
	for want, got := range map[string]string{
		"1 snapshot":         counted(1, "snapshot"),
		"0 snapshots":        counted(0, "snapshot"),
		"2 directories":      counted(2, "directory"),
		"1,234 delta blocks": counted(1234, "delta block"),
		"2 copies":           counted(uint64(2), "copy"),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A clock that went back in the middle of something makes it end before it began.
func TestRounded_IsNeverLessThanNothing(t *testing.T) {
	for want, d := range map[string]time.Duration{"0s": -8760 * time.Hour, "1.5s": 1520 * time.Millisecond, "2m0s": 2 * time.Minute} {
		if got := rounded(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestTimes_NameTheirZone(t *testing.T) {
	local := time.Local
	defer func() { time.Local = local }()
	time.Local = time.FixedZone("far", 5*3600+1800)
	if got, want := timeText(time.Unix(0, 0)), "1970-01-01 05:30:00 +0530"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTable_AlignsNumbersRightAndWordsLeft(t *testing.T) {
	var out bytes.Buffer
	p := &program{stdout: bufio.NewWriter(&out), stderr: &out}
	p.table("NAME >SIZE NOTE", func(row func(...any)) {
		row("größe", "1.0 KiB", "")
		row("b", "10 B", "last")
	})
	if err := p.stdout.Flush(); err != nil {
		t.Fatal(err)
	}
	want := "NAME      SIZE  NOTE\ngröße  1.0 KiB\nb         10 B  last\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// A list that fails early leaves room for its failure; one that fails late does not look whole.
func TestList_IsNeverTakenForTheWholeWhenItFailed(t *testing.T) {
	var out bytes.Buffer
	p := &program{stdout: bufio.NewWriter(&out), stderr: &out}
	l := p.list(`{"all":`)
	if err := l.add("one"); err != nil {
		t.Fatal(err)
	}
	if p.printed || p.stdout.Buffered()+out.Len() > 0 {
		t.Error("printed the beginning of a list that may yet fail")
	}
	big := strings.Repeat("x", maxHeld)
	if err := l.add(big); err != nil {
		t.Fatal(err)
	}
	if !p.printed {
		t.Error("held more than it may")
	}
	if err := p.stdout.Flush(); err != nil {
		t.Fatal(err)
	}
	if json.Valid(out.Bytes()) {
		t.Error("half a list reads as a whole one")
	}
	if err := l.end("}"); err != nil {
		t.Fatal(err)
	}
	if err := p.stdout.Flush(); err != nil {
		t.Fatal(err)
	}
	var v struct{ All []string }
	if err := json.Unmarshal(out.Bytes(), &v); err != nil || len(v.All) != 2 || v.All[1] != big {
		t.Errorf("got %d elements, %v", len(v.All), err)
	}
}
