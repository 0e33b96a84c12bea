package api_test

import (
	"strings"
	"testing"

	"github.com/generalbots/backupd/api"
)

// example fills the names of a pattern.
func example(pattern, id string) string {
	parts := strings.Split(pattern, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, ":") {
			parts[i] = id
		}
	}
	return strings.Join(parts, "/")
}

const nobody = "backup-01j9zzzzzzzzzzzzzzzzzzzzzz"

func TestRoutes_LetInWhomTheTableSaysAndNobodyElse(t *testing.T) {
	h := newHouse(t, nil)
	// The roles of the API's own table, by hand: the router must not be the only
	// one who knows.
	operator := map[string]bool{}
	for _, r := range []string{
		"POST /create", "GET /list", "GET /:backup_id", "GET /:backup_id/files", "GET /:backup_id/diff", "GET /find",
		"GET /jobs", "GET /jobs/:job_id", "GET /jobs/:job_id/events", "GET /stats", "GET /sources",
	} {
		method, path, _ := strings.Cut(r, " ")
		operator[method+" "+at+path] = true
	}
	public := map[string]bool{"GET /health": true, "GET /healthz": true, "GET /api/health": true, "GET " + at + "/openapi.yaml": true}
	denied := 0
	// Whoever the platform knows and gives no role of ours may nothing. The limit of
	// failures is not theirs: they are right credentials.
	strangers := []string{signedFor(), signedFor("service"), signedFor("bot_operator", "administrators"), signedFor("Backup Operator")}
	var table []api.RouteRow
	for _, r := range h.server.Table() {
		table = append(table, r)
		if r.Method == "GET" && h.do(h.admin, "HEAD", example(r.Pattern, nobody), "").status != 405 {
			r.Method = "HEAD" // whoever may read may ask for the header alone
			table = append(table, r)
		}
	}
	before := len(h.audit.records())
	for _, r := range table {
		name := strings.Replace(r.Method, "HEAD", "GET", 1) + " " + r.Pattern
		if r.Public != public[name] || r.Operator != operator[name] {
			t.Errorf("%s: public %v, operators %v", name, r.Public, r.Operator)
		}
		// A proxied scrape, so that being on this host says nothing.
		call := func(token string) got {
			return h.do(token, r.Method, example(r.Pattern, nobody), "", "X-Forwarded-For: 192.0.2.1")
		}
		switch g := call(""); {
		case public[name] && g.status != 200:
			t.Errorf("%s without a token: %d", name, g.status)
		case public[name]:
			continue
		case g.status != 401 || g.header.Get("WWW-Authenticate") != `Bearer realm="backupd"` || r.Method != "HEAD" && g.decode(t)["error"] != "missing_token":
			t.Errorf("%s without a token: %d %v %s", name, g.status, g.header, g.body)
		}
		for _, token := range strangers {
			if g := call(token); g.status != 403 || r.Method != "HEAD" && g.decode(t)["error"] != "insufficient_permissions" {
				t.Errorf("%s without a role: %d %s", name, g.status, g.body)
			}
		}
		g := call(h.operator)
		if operator[name] == (g.status == 403) || g.status == 401 {
			t.Errorf("%s as operator: %d %s", name, g.status, g.body)
		}
		if g.status == 403 {
			denied++
			if r.Method != "HEAD" && g.decode(t)["error"] != "insufficient_permissions" {
				t.Errorf("%s as operator: %s", name, g.body)
			}
		}
		if g := call(h.admin); g.status == 401 || g.status == 403 || g.status >= 500 {
			t.Errorf("%s as admin: %d %s", name, g.status, g.body)
		}
		for _, header := range []string{"X-Request-Id", "X-Content-Type-Options", "Cache-Control"} {
			if g.header.Get(header) == "" {
				t.Errorf("%s: no %s", name, header)
			}
		}
	}
	forbidden, without := 0, 0
	for _, r := range h.audit.records()[before:] {
		if r.Action == "request.denied" && r.Outcome == "insufficient_permissions" && r.Actor == "jwt:6f1c" {
			without++
			continue
		}
		if r.Action == "request.denied" && r.Outcome == "insufficient_permissions" {
			forbidden++
			if r.Actor != "token:bot" || r.Role != "backup_operator" || r.RequestID == "" || r.Remote != "127.0.0.1" {
				t.Errorf("a denial is audited as %+v", r)
			}
		}
	}
	if denied == 0 || forbidden != denied {
		t.Errorf("%d of %d denials are in the audit", forbidden, denied)
	}
	guarded := 0
	for _, r := range table {
		if r.Public {
			continue
		}
		guarded++
		// Last, as there are more of these than one address may fail at once.
		wrong := "bkp_" + strings.Repeat("x", 52)
		if g := h.do(wrong, r.Method, example(r.Pattern, nobody), "", "X-Forwarded-For: 192.0.2.1"); g.status != 401 && g.status != 429 {
			t.Errorf("%s %s with a wrong token: %d", r.Method, r.Pattern, g.status)
		}
	}
	if want := guarded * len(strangers); without != want || guarded < 30 {
		t.Errorf("%d of %d denials of callers without a role are in the audit", without, want)
	}
}

func TestRoutes_WordsBeatIDsAndWrongMethodsAreTold(t *testing.T) {
	h := newHouse(t, nil)
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"DELETE", at + "/list", 405, "GET, HEAD"},
		{"GET", at + "/create", 405, "POST"},
		{"PATCH", at + "/schedule", 405, "GET, HEAD, POST"},
		{"GET", at + "/schedule/" + nobody, 405, "DELETE, PUT"},
		{"GET", at + "/restore/" + nobody, 405, "POST"},
		{"POST", at + "/" + nobody, 405, "DELETE, GET, HEAD"},
		{"OPTIONS", at + "/list", 405, "GET, HEAD"},
		{"HEAD", at + "/" + nobody + "/download", 405, "GET"},
		{"HEAD", at + "/jobs/" + nobody + "/events", 405, "GET"},
		{"HEAD", at + "/create", 405, "POST"},
		{"BREW", at + "/jobs", 405, "GET, HEAD"},
		{"GET", at + "/list/", 404, ""},
		{"GET", at + "/", 404, ""},
		{"GET", at + "//list", 404, ""},
		{"GET", "/API/v1/backup/list", 404, ""},
		{"GET", at + "/" + nobody + "/nothing", 404, ""},
		{"GET", "/", 404, ""},
		{"GET", at + "/restore/" + nobody + "/status/more", 404, ""},
	} {
		g := h.do(h.admin, c.method, c.path, "")
		if g.status != c.status || g.header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, Allow %q; want %d, %q", c.method, c.path, g.status, g.header.Get("Allow"), c.status, c.allow)
		}
		if c.method != "HEAD" && g.decode(t)["request_id"] != g.header.Get("X-Request-Id") {
			t.Errorf("%s %s: %s", c.method, c.path, g.body)
		}
	}
}
