package api

import (
	"net/netip"
	"time"

	"github.com/generalbots/backupd/repo"
)

// OpenNote and OpenProblem tell what others than administrators read.
func OpenNote(n string) bool { return openNote(n) }

// OpenProblem is about a problem.
func OpenProblem(p repo.Problem) bool { return openProblem(p) }

// RouteRow is one row of the table of routes, as tests see it.
type RouteRow struct {
	Method, Pattern string
	Public          bool // anybody
	Operator        bool // backup operators too
	Local           bool // whoever is on the host
}

// Table is every route of a server.
func (s *Server) Table() []RouteRow {
	var out []RouteRow
	for _, r := range s.routes() {
		out = append(out, RouteRow{r.method, r.pattern, r.access == public, r.access == operators, r.access == scrapers})
	}
	return out
}

// InUse is how many places of each kind are taken.
func (s *Server) InUse() (short, long int) { return len(s.short), len(s.long) }

// ParseObject reads a body as a handler does.
func ParseObject(data []byte) error {
	o, err := parseObject(data, true)
	if err != nil {
		return err
	}
	o.text("type", maxWord)
	o.flag("include_files")
	o.whole("retention_days", 0, 30)
	o.texts("sources", maxWord)
	return o.end()
}

// Base is where the API lives.
const Base = base

// AnswersLast is how long an Idempotency-Key counts.
const AnswersLast = answersLast

// SizeText is a size for people.
var SizeText = sizeText

// ErrorBody is the body of an answer that is an error.
type ErrorBody = problem

// RetryAfter is the status of an error, and when to ask again.
func RetryAfter(err error) (status int, after time.Duration) {
	p := problemOf(err)
	return p.status, p.after()
}

// Pacer bounds the calls of each caller.
type Pacer struct{ p *pacer }

// NewPacer makes one that keeps so many callers of a generation apart.
func NewPacer(perSecond, most int) *Pacer {
	p := newPacer(perSecond)
	p.most = most
	return &Pacer{p}
}

// Take is how long a call has to wait, 0 when it is served.
func (p *Pacer) Take(name string, at netip.Addr, now time.Time) time.Duration {
	wait, _ := p.p.take(caller{name, at}, now)
	return wait
}

// Size is how many buckets there are.
func (p *Pacer) Size() int { return len(p.p.now) + len(p.p.old) }
