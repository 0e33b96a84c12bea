package main

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// printable returns text that can do nothing to a terminal and stays on its line: control characters, bytes that are not
// UTF-8 and backslashes are written as in Go strings.
func printable(s string) string {
	plain := true
	for i, r := range s {
		if r == '\\' || r == utf8.RuneError && s[i] != "\uFFFD"[0] || !unicode.IsPrint(r) {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// bytesText is a size for people.
func bytesText[N int64 | uint64](n N) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f := float64(n)
	for _, unit := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if f /= 1024; f < 1023.95 {
			return fmt.Sprintf("%.1f %s", f, unit)
		}
	}
	return fmt.Sprintf("%.1f EiB", f/1024)
}

// countText is a number with groups of three digits.
func countText[N int | int64 | uint64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// counted is a number of things, the word for one of them given: "1 snapshot", "2 directories".
func counted[N int | int64 | uint64](n N, one string) string {
	many := one + "s"
	if stem, ok := strings.CutSuffix(one, "y"); ok {
		many = stem + "ies"
	}
	if n == 1 {
		many = one
	}
	return countText(n) + " " + many
}

// timeText is a time for people, in the zone of this host, which it names.
func timeText(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 -0700") }

// rounded is a duration for people.
func rounded(d time.Duration) string {
	d = max(d, 0) // times of a clock that went back in between
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// pathValue is a path in JSON, which knows text only: bytes that are not UTF-8 are kept in Raw.
type pathValue struct {
	Path string `json:"path"`
	Raw  string `json:"path_base64,omitempty"` // when Path had to replace bytes
}

func pathOf(path string) pathValue {
	if utf8.ValidString(path) {
		return pathValue{Path: path}
	}
	return pathValue{Path: strings.ToValidUTF8(path, "\uFFFD"), Raw: base64.StdEncoding.EncodeToString([]byte(path))}
}

// problemValue is a problem in JSON.
type problemValue struct {
	pathValue
	Op   string `json:"op"`
	Text string `json:"text"`
}

// table prints columns for people. In the header a > stands before what is a number: these end in one line.
func (p *program) table(header string, rows func(row func(cells ...any))) {
	var lines [][]string
	titles := strings.Fields(header)
	right := make([]bool, len(titles))
	for i, title := range titles {
		titles[i], right[i] = strings.CutPrefix(title, ">")
	}
	lines = append(lines, titles)
	rows(func(cells ...any) {
		line := make([]string, len(cells))
		for i, c := range cells {
			line[i] = fmt.Sprint(c)
		}
		lines = append(lines, line)
	})
	widths := make([]int, len(titles))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range lines {
		var b strings.Builder
		for i, cell := range line {
			if i > 0 {
				b.WriteString("  ")
			}
			room := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if right[i] {
				b.WriteString(room + cell)
			} else {
				b.WriteString(cell + room)
			}
		}
		p.print("%s", strings.TrimRight(b.String(), " "))
	}
}
