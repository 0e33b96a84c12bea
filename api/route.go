package api

import (
	"net/http"
	"strings"

	"github.com/julienschmidt/httprouter"
)

// access is who may use a route. What is not said is for administrators.
type access uint8

const (
	admins    access = iota // administrators
	operators               // and backup operators
	scrapers                // administrators, and whoever is on this host
	public                  // everybody
)

// base is where the API lives. What it has beside stands at the root.
const base = "/api/v1/backup"

// route is one row of the table. A fixed route is found before any named one.
type route struct {
	method  string
	pattern string // in httprouter's words
	access  access
	handler func(*call) (answer, error)
	long    bool // it streams
	named   bool // an id stands where others have a word
}

// routes is everything the server answers.
func (s *Server) routes() []route {
	table := []route{
		{"POST", base + "/create", operators, createBackup, false, false},
		{"GET", base + "/list", operators, listBackups, false, false},
		{"GET", base + "/:backup_id", operators, showBackup, false, true},
		{"DELETE", base + "/:backup_id", admins, deleteBackup, false, true},
		{"POST", base + "/restore/:backup_id", admins, startRestore, false, false},
		{"GET", base + "/restore/:job_id/status", admins, showRestore, false, false},
		{"POST", base + "/schedule", admins, createSchedule, false, false},
		{"GET", base + "/schedule", admins, listSchedules, false, false},
		{"PUT", base + "/schedule/:schedule_id", admins, updateSchedule, false, false},
		{"DELETE", base + "/schedule/:schedule_id", admins, deleteSchedule, false, false},

		{"GET", base + "/:backup_id/files", operators, listFiles, false, true},
		{"GET", base + "/:backup_id/download", admins, download, true, true},
		{"GET", base + "/:backup_id/diff", operators, showDiff, false, true},
		{"POST", base + "/:backup_id/verify", admins, startVerify, false, true},
		{"GET", base + "/find", operators, find, false, false},
		{"GET", base + "/jobs", operators, listJobs, false, false},
		{"GET", base + "/jobs/:job_id", operators, showJob, false, false},
		{"GET", base + "/jobs/:job_id/events", operators, watchJob, true, false},
		{"DELETE", base + "/jobs/:job_id", admins, cancelJob, false, false},
		{"GET", base + "/stats", operators, showStats, false, false},
		{"GET", base + "/sources", operators, listSources, false, false},
		{"GET", base + "/targets", admins, listTargets, false, false},

		{"GET", base + "/openapi.yaml", public, showOpenAPI, false, false},
		{"GET", "/health", public, showHealth, false, false},
		{"GET", "/healthz", public, showHealth, false, false},
		{"GET", "/api/health", public, showCondition, false, false},
	}
	if s.o.Metrics != nil {
		table = append(table, route{"GET", "/metrics", scrapers, showMetrics, false, false})
	}
	return table
}

// router makes the two routers: httprouter panics when a word and a name share a
// place, so those with a name come second. A path that has a word in the first is
// never taken for an id in the second.
func (s *Server) router() http.Handler {
	fixed, named := bareRouter(), bareRouter()
	for _, r := range s.routes() {
		to := fixed
		if r.named {
			to = named
		}
		to.Handle(r.method, r.pattern, s.handle(r))
		if r.method == http.MethodGet && !r.long {
			// The library leaves the body away.
			to.Handle(http.MethodHead, r.pattern, s.handle(r))
		}
	}
	fixed.MethodNotAllowed, named.MethodNotAllowed = s.stray(errMethod), s.stray(errMethod)
	fixed.NotFound, named.NotFound = named, s.stray(errNoRoute)
	return fixed
}

func bareRouter() *httprouter.Router {
	r := httprouter.New()
	r.RedirectTrailingSlash = false
	r.RedirectFixedPath = false
	r.HandleOPTIONS = false
	return r
}

// stray answers what no route has.
func (s *Server) stray(err error) http.Handler {
	h := s.handle(route{access: public, handler: func(c *call) (answer, error) {
		// The library always says OPTIONS, which nothing here answers.
		if allow := c.w.Header().Get("Allow"); allow != "" {
			methods := strings.Split(allow, ", ")
			kept := methods[:0]
			for _, m := range methods {
				if m != http.MethodOptions {
					kept = append(kept, m)
				}
			}
			c.w.Header().Set("Allow", strings.Join(kept, ", "))
		}
		return answer{}, err
	}})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h(w, r, nil) })
}
