package api_test

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/generalbots/backupd/api"
	"github.com/generalbots/backupd/internal/job"
)

// anywhere are statuses that every call may answer with: each has to be seen, on
// one of them.
var anywhere = []int{401, 403, 429, 500, 503}

// TestOpenAPI_IsSeenWhole makes the server answer all that is documented: every
// status of every call, every field, and of those that may be null a value too.
func TestOpenAPI_IsSeenWhole(t *testing.T) {
	var degraded atomic.Bool
	h := build(t, true, func(o *api.Options) {
		o.InFlight = 1
		o.Degraded = func() error {
			if degraded.Load() {
				return errors.New("the disk is full")
			}
			return nil
		}
	}, func(h *house, o *job.Options) {
		// A backup waits as long as the gate is shut.
		o.Sources[0].Before = []string{"/bin/sh", "-c", `while test -e "$1"; do sleep 0.02; done`, "gate", h.path("gate")}
	})
	admin := func(status int, method, path, body string, headers ...string) got {
		t.Helper()
		return h.want(status, h.admin, method, at+path, body, headers...)
	}
	id := func(g got) string { return g.decode(t)["id"].(string) }

	// While nothing runs.
	queued := id(admin(201, "POST", "/create", `{"tags":["x"],"retention_days":5}`, "Idempotency-Key: 1"))
	admin(200, "GET", "/"+queued, "")
	for _, look := range []string{"/files", "/download", "/diff"} {
		admin(409, "GET", "/"+queued+look, "")
	}
	admin(409, "POST", "/"+queued+"/verify", "")
	waiting := id(admin(202, "POST", "/restore/"+h.first, `{}`, "Idempotency-Key: 2"))
	admin(409, "POST", "/restore/"+h.first, `{}`)
	admin(409, "DELETE", "/"+h.first, "")
	admin(200, "GET", "/targets", "")
	admin(200, "GET", "/jobs", "")
	admin(200, "DELETE", "/jobs/"+waiting, "")
	admin(200, "GET", "/restore/"+waiting+"/status", "")
	admin(409, "DELETE", "/jobs/"+waiting, "")
	lost := id(admin(202, "POST", "/restore/"+h.first, `{"target":"other"}`))
	must(t, os.Remove(h.path("other")))
	must(t, os.WriteFile(h.path("other"), nil, 0o600)) // no directory any more
	h.run()

	// What runs and has run.
	odd := "odd\xff.txt"
	must(t, os.WriteFile(filepath.Join(h.path("source"), odd), []byte("odd"), 0o600))
	must(t, os.Remove(h.path("source/hello.txt")))
	must(t, os.Chmod(filepath.Join(h.path("source"), odd), 0o755|os.ModeSetuid))
	admin(200, "GET", "/jobs/"+queued+"/events", "") // until it is over
	admin(204, "GET", "/jobs/"+queued+"/events", "", "Last-Event-ID: end")
	must(t, os.WriteFile(h.path("gate"), nil, 0o600))
	made := id(admin(201, "POST", "/create", `{"type":"incremental"}`))
	h.begun(made)
	admin(200, "GET", "/"+made, "")
	admin(200, "GET", "/jobs", "")
	admin(200, "GET", "/jobs/"+made, "")
	must(t, os.Remove(h.path("gate")))
	admin(201, "POST", "/create?wait=60", "")
	must(t, os.WriteFile(h.path("gate"), nil, 0o600))
	stopped := id(admin(201, "POST", "/create", `{"type":"full"}`))
	h.begun(stopped)
	admin(200, "DELETE", "/jobs/"+stopped, "")
	must(t, os.Remove(h.path("gate")))
	// Not before: a backup of its own that came to the shut gate first would keep the others from beginning.
	schedule := id(admin(201, "POST", "/schedule", `{"cron":"* * * * *","name":"n","tags":["y"],"sources":["bots"],"retention_days":9}`, "Idempotency-Key: 3"))
	admin(200, "GET", "/"+stopped, "")
	admin(200, "GET", "/jobs/"+made+"/events", "")
	admin(200, "GET", "/jobs/"+made, "")
	admin(200, "GET", "/"+made, "")
	admin(200, "GET", "/jobs/"+lost+"/events", "")
	admin(200, "GET", "/jobs/"+lost, "")
	admin(200, "GET", "/restore/"+lost+"/status", "")
	again := id(admin(202, "POST", "/restore/"+made+"?wait=60", `{}`))
	admin(202, "POST", "/restore/"+made+"?wait=60", `{}`) // everything stands there already
	admin(200, "GET", "/jobs/"+again, "")
	admin(200, "GET", "/restore/"+again+"/status", "")
	admin(202, "POST", "/"+made+"/verify?wait=60", "", "Idempotency-Key: 4")
	admin(200, "GET", "/"+made, "")
	admin(200, "GET", "/"+made+"/files?path="+url.QueryEscape(h.path("source")), "")
	admin(200, "GET", "/"+made+"/diff?base="+h.first, "")
	admin(200, "GET", "/"+h.first+"/diff?base="+made, "")
	admin(200, "GET", "/find?name=odd*", "")
	admin(200, "GET", "/"+made+"/download?format=zip", "")
	admin(200, "GET", "/"+made+"/download?format=tar", "")
	gc, err := h.jobs.GC(t.Context(), byNobody)
	must(t, err)
	if _, err := h.jobs.Wait(t.Context(), gc.ID); err != nil {
		t.Fatal(err)
	}
	admin(200, "GET", "/jobs/"+gc.ID, "")
	admin(200, "GET", "/list", "")
	admin(200, "GET", "/jobs", "")
	admin(200, "GET", "/sources", "")
	admin(200, "GET", "/stats", "")
	ran := h.ran(schedule)
	admin(200, "GET", "/"+ran, "")
	admin(200, "GET", "/jobs/"+ran, "")
	admin(200, "GET", "/jobs", "")
	admin(200, "PUT", "/schedule/"+schedule, `{"enabled":true}`)
	admin(200, "GET", "/schedule", "")
	admin(200, "GET", "/list", "")
	h.want(200, "", "GET", "/health", "")
	h.want(200, "", "GET", "/healthz", "")
	h.want(200, "", "GET", "/api/health", "")
	degraded.Store(true)
	h.want(503, "", "GET", "/api/health", "")
	h.want(200, "", "GET", at+"/openapi.yaml", "")
	h.want(200, "", "GET", "/metrics", "", "Accept-Encoding: identity")

	// Replays and keys used otherwise.
	admin(201, "POST", "/create", `{"tags":["x"],"retention_days":5}`, "Idempotency-Key: 1")
	admin(409, "POST", "/create", `{}`, "Idempotency-Key: 1")
	admin(202, "POST", "/restore/"+h.first, `{}`, "Idempotency-Key: 2")
	admin(201, "POST", "/schedule", `{"cron":"* * * * *","name":"n","tags":["y"],"sources":["bots"],"retention_days":9}`, "Idempotency-Key: 3")
	admin(409, "POST", "/schedule", `{"cron":"@daily"}`, "Idempotency-Key: 3")
	admin(202, "POST", "/"+made+"/verify", "", "Idempotency-Key: 4")
	admin(200, "DELETE", "/schedule/"+schedule, "")
	admin(404, "POST", "/schedule", `{"cron":"* * * * *","name":"n","tags":["y"],"sources":["bots"],"retention_days":9}`, "Idempotency-Key: 3")
	admin(200, "DELETE", "/"+queued, "")
	admin(404, "POST", "/create", `{"tags":["x"],"retention_days":5}`, "Idempotency-Key: 1")

	// What is wrong in the same way everywhere.
	for name, op := range h.contract.operations() {
		method, path, _ := strings.Cut(name, " ")
		path = strings.NewReplacer("{backup_id}", nobody, "{job_id}", nobody, "{schedule_id}", nobody).Replace(path)
		responses := op["responses"].(map[string]any)
		if responses["404"] != nil && strings.Contains(path, nobody) {
			h.want(404, h.admin, method, path, `{}`)
		}
		if responses["400"] != nil {
			h.want(400, h.admin, method, path+"?nonsense=1", "")
		}
		if responses["413"] != nil {
			h.want(413, h.admin, method, path, `"`+strings.Repeat("x", 1<<20)+`"`)
		}
		if responses["415"] != nil {
			h.want(415, h.admin, method, path, `{}`, "Content-Type: text/plain")
		}
	}
	h.want(403, h.operator, "DELETE", at+"/"+made, "")
	h.audit.fail.Store(true)
	admin(500, "POST", "/create", "")
	h.audit.fail.Store(false)
	h.stuff(func() { admin(503, "GET", "/list", "") })
	for h.do("bkp_"+strings.Repeat("w", 43), "GET", at+"/list", "").status != 429 {
	}

	c := h.contract
	for name, op := range c.operations() {
		for status, raw := range op["responses"].(map[string]any) {
			n, err := strconv.Atoi(status)
			must(t, err)
			if !c.seen[name+" "+status] && (!slices.Contains(anywhere, n) || op["x-role"] == nil) {
				t.Errorf("%s: status %s is documented and was not seen", name, status)
			}
			response, _ := c.resolve(raw.(map[string]any))
			headers, _ := response["headers"].(map[string]any)
			for header := range headers {
				if n < 300 && !c.seen[name+" "+header] {
					t.Errorf("%s: the header %s is documented and was not seen", name, header)
				}
			}
		}
	}
	for _, status := range anywhere {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(c.seen)), func(s string) bool { return strings.HasSuffix(s, fmt.Sprint(" ", status)) }) {
			t.Errorf("status %d was never seen", status)
		}
	}
	for name, schema := range at2(c.root, "components", "schemas").(map[string]any) {
		// Requests come from the other side; damage has a test of its own.
		if strings.HasSuffix(name, "Request") || slices.Contains([]string{"Nothing", "Finding", "Damaged"}, name) {
			continue
		}
		for field := range at2(schema, "properties").(map[string]any) {
			switch {
			case slices.Contains(unseen, name+"."+field):
			case !c.seen[name+"."+field]:
				t.Errorf("%s.%s is documented and was not seen", name, field)
			case !c.seen[name+"."+field+"!"]:
				t.Errorf("%s.%s was always null", name, field)
			}
		}
	}
}

// byNobody is who asks for what the API has no call for.
var byNobody = job.By{Actor: "test"}

// ran waits until a schedule has run and its backup is over. It is due each
// minute.
func (h *house) ran(id string) (backup string) {
	h.t.Helper()
	for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		s, err := h.jobs.Schedule(id)
		must(h.t, err)
		if s.LastStatus == "completed" {
			return s.LastBackupID
		}
		if time.Since(begun) > 5*time.Minute {
			h.t.Fatalf("the schedule has not run: %+v", s)
		}
	}
}

// begun waits until a job runs.
func (h *house) begun(id string) {
	h.t.Helper()
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		j, err := h.jobs.Job(id)
		must(h.t, err)
		if j.Progress != nil {
			return
		}
		if time.Since(begun) > 3*time.Minute {
			h.t.Fatalf("the job does not begin: %+v", j)
		}
	}
}

// stuff calls f while the only place for calls is taken.
func (h *house) stuff(f func()) {
	h.t.Helper()
	slow := h.slow()
	f()
	slow.Close()
}

// slow takes a place for calls with a body that does not come. The call before it
// may have its answer and not yet have given its place back.
func (h *house) slow() net.Conn {
	h.t.Helper()
	h.inUse(0)
	slow := h.dial()
	fmt.Fprintf(slow, "POST %s/create HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 9\r\n\r\n{", at, h.admin)
	h.inUse(1)
	return slow
}

// inUse waits until so many places for short calls are taken.
func (h *house) inUse(want int) {
	h.t.Helper()
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		short, _ := h.server.InUse()
		if short == want {
			return
		}
		if time.Since(begun) > time.Minute {
			h.t.Fatalf("%d places for calls are taken, want %d", short, want)
		}
	}
}

// unseen are values for which a job would have to run for many seconds, the bytes of
// a path in a problem of a backup (those of a restore are kept as text), and those of
// damage, which TestVerify_NamesWhatCanNotBeRestored sees.
var unseen = []string{"Progress.eta_seconds", "Problem.path_base64", "Verification.message"}
