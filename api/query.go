package api

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/generalbots/backupd/internal/job"
)

// query takes the parameters of a request apart, as object does its body.
type query struct {
	values url.Values
	taken  map[string]bool
	err    error
}

func (c *call) query() *query {
	q := &query{taken: make(map[string]bool)}
	var err error
	if q.values, err = url.ParseQuery(c.r.URL.RawQuery); err != nil {
		q.err = bad("the query can not be read; join its parameters with & and percent-encode their values")
	}
	return q
}

func (q *query) refuse(name, message string) {
	if q.err == nil {
		q.err = invalid(name, message)
	}
}

// raw is a parameter as it came, any bytes; "" when it is not given.
func (q *query) raw(name string) string {
	q.taken[name] = true
	if len(q.values[name]) > 1 {
		q.refuse(name, "stands twice in the query; give it once")
	}
	return q.values.Get(name)
}

// text is a parameter that is text, of maxWord bytes at most.
func (q *query) text(name string) string {
	s := q.raw(name)
	if len(s) > maxWord || !utf8.ValidString(s) {
		q.refuse(name, fmt.Sprintf("has to be text of %d bytes at most", maxWord))
	}
	return s
}

// whole is a number from least to most.
func (q *query) whole(name string, least, most, otherwise int) int {
	s := q.raw(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		q.refuse(name, fmt.Sprintf("has to be a whole number from %d to %d", least, most))
		return otherwise
	}
	return n
}

// some is a comma-separated list of known words.
func (q *query) some(name string, words ...string) []string {
	s := q.raw(name)
	if s == "" {
		return nil
	}
	list := strings.Split(s, ",")
	for _, w := range list {
		if !slices.Contains(words, w) {
			q.refuse(name, "has to be one of "+strings.Join(words, ", "))
			return nil
		}
	}
	return list
}

// moment is a time, RFC 3339 or a date.
func (q *query) moment(name string) time.Time {
	s := q.raw(name)
	if s == "" {
		return time.Time{}
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t
		}
	}
	q.refuse(name, "has to be a time such as 2026-01-31T00:00:00Z or 2026-01-31")
	return time.Time{}
}

const (
	maxLimit  = 10_000
	maxOffset = 1 << 30
	maxWait   = 300 // seconds
)

var (
	statusWords = []string{
		string(job.Pending), string(job.InProgress), string(job.Completed), string(job.CompletedWithProblems),
		string(job.Failed), string(job.Interrupted), string(job.Cancelled),
	}
	typeWords      = []string{"full", "incremental", "differential"}
	overwriteWords = []string{"never", "if-changed", "always"}
	kindWords      = []string{string(job.KindBackup), string(job.KindRestore), string(job.KindVerify), string(job.KindGC)}
)

// window is limit and offset.
func (q *query) window(otherwise int) (limit, offset int) {
	return q.whole("limit", 1, maxLimit, otherwise), q.whole("offset", 0, maxOffset, 0)
}

func words[T ~string](list []string) []T {
	var out []T
	for _, w := range list {
		out = append(out, T(w))
	}
	return out
}

// end is the first thing that is wrong with the query. A parameter nobody knows is
// wrong: a filter with a mistyped name would select everything.
func (q *query) end() error {
	if q.err != nil {
		return q.err
	}
	var unknown []string
	for name := range q.values {
		if !q.taken[name] {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return invalid(shortened(strings.ToValidUTF8(slices.Min(unknown), "?")), "is not a parameter of this call; it takes "+known(q.taken))
	}
	return nil
}
