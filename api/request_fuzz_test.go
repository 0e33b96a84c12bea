package api_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/generalbots/backupd/api"
)

// FuzzRequest sends what strangers send where an id, a parameter of the query, a key
// or a body stands: there is always an answer, it is never our fault, and an error
// has its words. The server is a whole one; its jobs do not run.
func FuzzRequest(f *testing.F) {
	paths := []string{
		"/list", "/jobs", "/schedule", "/find", "/stats", "/sources", "/targets", "/openapi.yaml",
		"/ID", "/ID/files", "/ID/diff", "/ID/download", "/jobs/ID", "/restore/ID/status", "/jobs/ID/events",
	}
	posts := []string{"/create", "/restore/ID", "/schedule", "/ID/verify"}
	for i, query := range []string{
		"", "limit=1&offset=2", "limit=-1", "offset=99999999999999999999", "wait=0", "wait=1e3", "path=/", "path=%ff%00", "format=zip", "name=[", "name=*", "name=%5B%5D",
		"status=completed,failed", "since=2026-01-31", "until=0000-01-01T00:00:00Z", "base=x", "a;b", "%zz", "limit=1&limit=1", "type=full,", "kind=gc",
	} {
		f.Add(uint8(i), "backup-01j9zzzzzzzzzzzzzzzzzzzzzz", query, "", "")
	}
	f.Add(uint8(20), "", "wait=0", "a key", `{"type":"full"}`)
	f.Add(uint8(21), "..%2f..", "", "\x00", `{"target":"staging","paths":["/"]}`)
	f.Add(uint8(22), "latest", "", strings.Repeat("k", 300), `{"cron":"* * * * *","timezone":"UTC","retention_days":1e9}`)
	h := open(f, true, func(o *api.Options) { o.RequestsPerSecond = 0 }, nil)
	f.Fuzz(func(t *testing.T, at uint8, id, query, key, body string) {
		method, path := http.MethodGet, paths[int(at)%len(paths)]
		if at >= 128 || body != "" || key != "" {
			method, path = http.MethodPost, posts[int(at)%len(posts)]
		}
		if id == "" {
			id = h.first
		}
		// Only what the library can read comes to the server at all.
		where := "http://x" + api.Base + strings.Replace(path, "ID", url.PathEscape(id), 1)
		if _, err := url.ParseRequestURI(where + "?" + query); err != nil || strings.ContainsAny(query, " \r\n") {
			return
		}
		r := httptest.NewRequestWithContext(t.Context(), method, where, strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Authorization", "Bearer "+h.admin)
		if key != "" {
			r.Header.Set("Idempotency-Key", key)
		}
		w := httptest.NewRecorder()
		h.server.ServeHTTP(w, r)
		// A queue that is full is no fault; nothing takes jobs out of this one.
		if w.Code >= 500 && !strings.Contains(w.Body.String(), "too many jobs are waiting") {
			t.Fatalf("%s %s?%s: %d %s", method, where, query, w.Code, w.Body)
		}
		if w.Code < 400 {
			return
		}
		var e api.ErrorBody
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Code == "" || e.Message == "" || e.RequestID == "" || strings.Contains(e.Message, h.dir) || len(e.Message) > 2000 {
			t.Fatalf("%s %s?%s: %d %s, %v", method, where, query, w.Code, w.Body, err)
		}
	})
}
