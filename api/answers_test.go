package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/generalbots/backupd/api"
	"github.com/generalbots/backupd/internal/job"
)

var update = flag.Bool("update", false, "write the answers of testdata/answers anew")

// golden compares a text with the one a person approved.
func (h *house) golden(name, text string) {
	h.t.Helper()
	file := filepath.Join("testdata", "answers", name)
	if *update {
		must(h.t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(h.t, os.WriteFile(file, []byte(text), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	must(h.t, err)
	if text == string(want) {
		return
	}
	got, old := strings.Split(text, "\n"), strings.Split(string(want), "\n")
	for i := range got {
		if i >= len(old) || got[i] != old[i] {
			h.t.Errorf("%s, line %d is another one (make golden writes it anew):\n%s\n%s", file, i+1, strings.Join(old[min(i, len(old)):min(i+1, len(old))], ""), got[i])
			return
		}
	}
	h.t.Errorf("%s has %d lines more (make golden writes it anew)", file, len(old)-len(got))
}

// scribe turns answers into texts that are the same in each run: an id is told by
// the order in which it was first seen, of a time stays that there was one, and
// what depends on the machine is its name in angle brackets.
type scribe struct {
	*house
	ids []string
}

var (
	anID   = regexp.MustCompile(`\b(?:backup|restore|verify|gc|schedule|req)-[0-9a-z]{26,32}\b`)
	aTime  = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[0-9:.]+Z"`)
	aValue = regexp.MustCompile(`"(stored_bytes|bytes_stored|bytes_new|pack_bytes|bytes_before|bytes_after|used_bytes|dead_bytes|chunk_bytes|disk_free_bytes|` +
		`disk_total_bytes|bytes_per_second|user|group|uid|gid|repository_id|packs|packs_before|packs_after|blocks|delta_blocks|chunks|dirs|path_base64|metadata)":("[^"]*"|[0-9.]+)`)
	aTouch = regexp.MustCompile(`\{"kind":"metadata"[^}]*\},?`)
	told   = []string{
		"Allow", "Cache-Control", "Content-Disposition", "Content-Type", "Idempotent-Replayed", "Location", "Retry-After", "Trailer", "Www-Authenticate", "X-Total-Count", "X-Truncated",
	}
)

func (s *scribe) words(text string) string {
	return anID.ReplaceAllStringFunc(strings.ReplaceAll(text, s.dir, "/house"), func(id string) string {
		kind, _, _ := strings.Cut(id, "-")
		if kind == "req" {
			return "req-…"
		}
		at := slices.Index(s.ids, id)
		if at < 0 {
			at = len(s.ids)
			s.ids = append(s.ids, id)
		}
		return fmt.Sprintf("%s-%d", kind, at+1)
	})
}

// json is a text of JSON with a field a line, in the order of the answer.
func (s *scribe) json(text string) string {
	s.t.Helper()
	// Directories above the house are touched by others at any time.
	text = strings.ReplaceAll(aTouch.ReplaceAllString(text, ""), "},]", "}]")
	text = aValue.ReplaceAllString(aTime.ReplaceAllString(s.words(text), `"<time>"`), `"$1":"<$1>"`)
	var out bytes.Buffer
	must(s.t, json.Indent(&out, []byte(strings.TrimSpace(text)), "", "  "))
	return out.String() + "\n"
}

// record makes a call and holds its answer against the golden one of that name.
func (s *scribe) record(name string, status int, token, method, path, body string, headers ...string) got {
	s.t.Helper()
	g := s.want(status, token, method, path, body, headers...)
	at, err := url.PathUnescape(path)
	must(s.t, err)
	text := s.words(strings.TrimSpace(method+" "+at+" "+body)) + fmt.Sprintf("\n\n%d\n", g.status)
	for _, h := range told {
		if v := g.header.Get(h); v != "" {
			text += h + ": " + s.words(v) + "\n"
		}
	}
	switch g.header.Get("Content-Type") {
	case "application/json":
		text += "\n" + s.json(g.body)
	case "text/event-stream":
		// How many come before the last is the clock's affair.
		events := strings.Split(strings.TrimSpace(g.body), "\n\n")
		head, data, _ := strings.Cut(events[len(events)-1], "data: ")
		text += "\n" + head + "data: " + s.json(data)
	}
	s.golden(name+".txt", text)
	return g
}

// TestAnswers_AreThoseThatWereApproved shows in review whatever changes in an answer:
// a field that comes, goes, or is called otherwise breaks somebody's script.
func TestAnswers_AreThoseThatWereApproved(t *testing.T) {
	var degraded atomic.Bool
	h := build(t, true, func(o *api.Options) {
		o.Degraded = func() error {
			if degraded.Load() {
				return errors.New("the disk is full")
			}
			return nil
		}
	}, nil)
	s := &scribe{house: h, ids: []string{h.first}}
	id := func(g got) string { return g.decode(t)["id"].(string) }
	ask := func(name string, status int, method, path, body string, headers ...string) got {
		t.Helper()
		return s.record(name, status, h.admin, method, at+path, body, headers...)
	}
	source := url.QueryEscape(h.path("source"))

	// While nothing runs.
	s.record("health", 200, "", "GET", "/health", "")
	s.record("health-api", 200, "", "GET", "/api/health", "")
	degraded.Store(true)
	s.record("health-api-degraded", 503, "", "GET", "/api/health", "")
	ask("stats", 200, "GET", "/stats", "")
	ask("sources", 200, "GET", "/sources", "")
	ask("targets", 200, "GET", "/targets", "")
	ask("schedule-list-empty", 200, "GET", "/schedule", "")
	queued := id(ask("create-pending", 201, "POST", "/create", `{"type":"full","tags":["nightly"],"retention_days":30}`, "Idempotency-Key: c"))
	ask("create-replayed", 201, "POST", "/create", `{"type":"full","tags":["nightly"],"retention_days":30}`, "Idempotency-Key: c")
	ask("show-pending", 200, "GET", "/"+queued, "")
	ask("list", 200, "GET", "/list", "")
	ask("list-page", 200, "GET", "/list?limit=1&offset=1", "")
	waiting := id(ask("restore-pending", 202, "POST", "/restore/"+h.first, `{"target":"staging"}`))
	ask("restore-busy", 409, "POST", "/restore/"+h.first, `{"target":"staging"}`)
	ask("targets-busy", 200, "GET", "/targets", "")
	ask("job-pending", 200, "GET", "/jobs/"+waiting, "")
	ask("job-cancelled", 200, "DELETE", "/jobs/"+waiting, "")
	ask("restore-status-cancelled", 200, "GET", "/restore/"+waiting+"/status", "")
	schedule := id(ask("schedule-create", 201, "POST", "/schedule", `{"cron":"0 2 * * *","type":"incremental","retention_days":30}`))
	ask("schedule-update", 200, "PUT", "/schedule/"+schedule, `{"name":"nightly","enabled":false}`)
	ask("schedule-list", 200, "GET", "/schedule", "")
	ask("schedule-delete", 200, "DELETE", "/schedule/"+schedule, "")

	// What has run.
	h.run()
	ask("job-events", 200, "GET", "/jobs/"+queued+"/events", "")
	ask("show-completed", 200, "GET", "/"+queued, "")
	ask("job-backup", 200, "GET", "/jobs/"+queued, "")
	must(t, os.WriteFile(h.path("source/odd\xff.txt"), []byte("odd"), 0o644))
	must(t, os.Remove(h.path("source/hello.txt")))
	second := id(ask("create-completed", 201, "POST", "/create?wait=60", ``))
	ask("files", 200, "GET", "/"+second+"/files?path="+source, "")
	ask("diff", 200, "GET", "/"+second+"/diff", "")
	ask("find", 200, "GET", "/find?name=*.txt&limit=2", "")
	ask("download", 200, "GET", "/"+second+"/download?path="+source+"&format=zip", "")
	ask("restore-dry-run", 202, "POST", "/restore/"+second+"?wait=60", `{"dry_run":true,"overwrite":true}`)
	restored := id(ask("restore-completed", 202, "POST", "/restore/"+second+"?wait=60", `{}`))
	ask("restore-status", 200, "GET", "/restore/"+restored+"/status", "")
	must(t, os.WriteFile(h.path("staging"+h.path("source/docs/big.bin")), []byte("other"), 0o600))
	ask("restore-existing", 202, "POST", "/restore/"+second+"?wait=60", `{"paths":["`+h.path("source/docs")+`"]}`)
	ask("job-restore", 200, "GET", "/jobs/"+restored, "")
	ask("verify", 202, "POST", "/"+second+"/verify?wait=60", "")
	ask("list-filtered", 200, "GET", "/list?type=full&tag=nightly", "")
	ask("jobs-list", 200, "GET", "/jobs?kind=backup", "")
	ask("delete", 200, "DELETE", "/"+queued, "")
	gc, err := h.jobs.GC(t.Context(), job.By{Actor: "test"})
	must(t, err)
	_, err = h.jobs.Wait(t.Context(), gc.ID)
	must(t, err)
	ask("job-gc", 200, "GET", "/jobs/"+gc.ID, "")

	// What is refused; refusals.txt has the messages of the rest.
	ask("error-field", 400, "POST", "/create", `{"type":"ful"}`)
	s.record("error-no-token", 401, "", "GET", at+"/list", "")
	s.record("error-wrong-token", 401, "bkp_"+strings.Repeat("w", 52), "GET", at+"/list", "")
	s.record("error-role", 403, h.operator, "DELETE", at+"/"+second, "")
	ask("error-not-found", 404, "GET", "/"+nobody, "")
	ask("error-method", 405, "PATCH", "/list", "")
	h.audit.fail.Store(true)
	ask("error-internal", 500, "POST", "/create", "")
	h.audit.fail.Store(false)

	// Negative control of whatever holds answers against docs/api/openapi.yaml.
	if unnoticed, tried := h.contract.missed(); len(unnoticed) > 0 || tried < 250 {
		t.Errorf("of %d things taken out of the description nobody notices %v", tried, unnoticed)
	}
}
