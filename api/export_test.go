package api

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
	o.whole("retention_days")
	o.texts("sources", maxWord)
	return o.end()
}

// AnswersLast is how long an Idempotency-Key counts.
const AnswersLast = answersLast

// SizeText is a size for people.
var SizeText = sizeText

// ErrorBody is the body of an answer that is an error.
type ErrorBody = problem
