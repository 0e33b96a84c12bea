package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing wrong with a configuration.
type Error struct {
	File string
	Line int    // 0: the file as a whole
	Key  string // "sources[0].kind"; empty: no key in particular
	Text string // what is wrong and what is allowed
}

// Error is "file:line: key: text", with what there is of it.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": ")
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	return b.String() + e.Text
}

// Errors is everything wrong with a configuration, by line.
type Errors []*Error

// Error has a line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.As each of them.
func (e Errors) Unwrap() []error {
	list := make([]error, len(e))
	for i, one := range e {
		list[i] = one
	}
	return list
}

// MaxErrors is how many errors are told of one file.
const MaxErrors = 100

// errorOrNil sorts what was found; no errors are no error.
func (e Errors) errorOrNil() error {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
	if len(e) > MaxErrors {
		last := &Error{File: e[0].File, Text: fmt.Sprintf("%d more errors", len(e)-MaxErrors)}
		e = append(e[:MaxErrors:MaxErrors], last)
	}
	return e
}

// near is the one of names that key was probably meant to be, or empty.
func near(key string, names []string) string {
	best, least := "", len(key)/3+1
	if len(key) > 64 {
		return ""
	}
	plain := func(s string) string { return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(s)) }
	for _, name := range names {
		a, b := plain(key), plain(name)
		d := distance(a, b)
		if len(a) > 2 && len(b) > 2 && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a)) {
			d = min(d, 1)
		}
		if d < least || d == 0 {
			best, least = name, d
		}
	}
	return best
}

// distance is how many letters must be added, taken, changed or swapped with their neighbour.
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row := rows[0], rows[1], rows[2]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		rows[0], rows[1], rows[2] = last, row, before
	}
	return rows[1][len(b)]
}
