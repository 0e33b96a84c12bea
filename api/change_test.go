package api_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/generalbots/backupd/api"
	"github.com/generalbots/backupd/internal/auth"
	"github.com/generalbots/backupd/internal/durable"
)

func TestIdempotencyKey_MakesAChangeOnce(t *testing.T) {
	h := newHouse(t, nil)
	const key = "Idempotency-Key: 2f1c-4"
	first := h.want(201, h.operator, "POST", at+"/create", `{"type":"full"}`, key)
	id := first.decode(t)["id"]
	if first.header.Get("Idempotent-Replayed") != "" {
		t.Error("the first is no replay")
	}
	// Spelled otherwise and with a wait it is the same request.
	again := h.want(201, h.operator, "POST", at+"/create?wait=0", ` {"include_files":true, "type":"full"}`, key)
	if again.decode(t)["id"] != id || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("again: %v %s", again.header, again.body)
	}
	if g := h.want(409, h.operator, "POST", at+"/create", `{"type":"incremental"}`, key); g.decode(t)["field"] != "Idempotency-Key" {
		t.Errorf("another body: %s", g.body)
	}
	// A key belongs to who sent it.
	if g := h.want(201, h.admin, "POST", at+"/create", `{"type":"full"}`, key); g.decode(t)["id"] == id || g.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("another principal: %s", g.body)
	}
	h.want(409, h.admin, "POST", at+"/schedule", `{"cron":"@daily"}`, key)
	for _, bad := range []string{"", strings.Repeat("k", 256)} {
		h.want(400, h.admin, "POST", at+"/create", `{}`, "Idempotency-Key: "+bad)
	}
	h.want(400, h.admin, "POST", at+"/create", `{}`, "Idempotency-Key: a", "Idempotency-Key: b")

	// What failed has not used its key.
	h.want(400, h.admin, "POST", at+"/schedule", `{"cron":"x"}`, "Idempotency-Key: s")
	sid := h.want(201, h.admin, "POST", at+"/schedule", `{"cron":"@daily"}`, "Idempotency-Key: s").decode(t)["id"]
	h.want(200, h.admin, "PUT", at+"/schedule/"+sid.(string), `{"enabled":false}`)
	// A replay tells of the resource as it is now.
	if g := h.want(201, h.admin, "POST", at+"/schedule", `{"cron":"@daily"}`, "Idempotency-Key: s"); g.decode(t)["id"] != sid || g.decode(t)["enabled"] != false {
		t.Errorf("replayed schedule: %s", g.body)
	}
	h.want(200, h.admin, "DELETE", at+"/schedule/"+sid.(string), "")
	h.want(404, h.admin, "POST", at+"/schedule", `{"cron":"@daily"}`, "Idempotency-Key: s")

	restoring := h.backup(`{}`)
	r := h.want(202, h.admin, "POST", at+"/restore/"+restoring, `{}`, "Idempotency-Key: r").decode(t)["job_id"]
	if g := h.want(202, h.admin, "POST", at+"/restore/"+restoring+"?wait=30", `{}`, "Idempotency-Key: r").decode(t); g["job_id"] != r || g["status"] != "completed" {
		t.Errorf("replayed restore: %v", g)
	}
}

func TestIdempotencyKey_OfManyAtOnceMakesOneChange(t *testing.T) {
	h := newHouse(t, nil)
	id := h.backup(`{}`)
	for _, c := range []struct{ path, body string }{{"/create", `{"type":"full"}`}, {"/schedule", `{"cron":"@daily"}`}, {"/restore/" + id, `{}`}} {
		var mu sync.Mutex
		ids := make(map[any]int)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				g := h.do(h.admin, "POST", at+c.path, c.body, "Idempotency-Key: at-once"+c.path)
				mu.Lock()
				defer mu.Unlock()
				ids[g.decode(t)["id"]]++
			})
		}
		all.Wait()
		if len(ids) != 1 || ids[nil] != 0 {
			t.Errorf("%s: made %v", c.path, ids)
		}
	}
}

func TestIdempotencyKey_CountsForADay(t *testing.T) {
	h := newHouse(t, nil)
	// The record is of yesterday, as nothing here waits a day.
	old := h.want(201, h.operator, "POST", at+"/create", `{}`, "Idempotency-Key: day").decode(t)["id"]
	a, err := h.state.Answer("token:bot", "day")
	must(t, err)
	a.CreatedAt = time.Now().Add(-api.AnswersLast + time.Hour)
	must(t, h.state.PutAnswer("day", a))
	if id := h.want(201, h.operator, "POST", at+"/create", `{}`, "Idempotency-Key: day").decode(t)["id"]; id != old {
		t.Error("a key of 23 hours ago counts for nothing")
	}
	a.CreatedAt = time.Now().Add(-api.AnswersLast)
	must(t, h.state.PutAnswer("day", a))
	if id := h.want(201, h.operator, "POST", at+"/create", `{"type":"incremental"}`, "Idempotency-Key: day").decode(t)["id"]; id == old {
		t.Error("a key of yesterday still counts")
	}
	if a, err = h.state.Answer("token:bot", "day"); err != nil || time.Since(a.CreatedAt) > time.Minute {
		t.Errorf("the key is of %v, %v", a.CreatedAt, err)
	}
}

func TestChange_IsNotMadeWhenItCanNotBeAudited(t *testing.T) {
	h := newHouse(t, nil)
	id := h.backup(`{}`)
	sid := h.want(201, h.admin, "POST", at+"/schedule", `{"cron":"@daily"}`).decode(t)["id"].(string)
	before := h.want(200, h.admin, "GET", at+"/jobs", "").header.Get("X-Total-Count")
	h.audit.fail.Store(true)
	for _, c := range [][3]string{
		{"POST", "/create", `{}`}, {"POST", "/restore/" + id, `{}`}, {"POST", "/" + id + "/verify", ``}, {"DELETE", "/" + id, ``},
		{"POST", "/schedule", `{"cron":"@daily"}`}, {"PUT", "/schedule/" + sid, `{"enabled":false}`}, {"DELETE", "/schedule/" + sid, ``},
		{"GET", "/" + id + "/download", ``},
	} {
		g := h.want(500, h.admin, c[0], at+c[1], c[2])
		if strings.Contains(g.body, "secret") || g.decode(t)["error"] != "internal_error" {
			t.Errorf("%s %s: %s", c[0], c[1], g.body)
		}
		if !strings.Contains(h.log.String(), g.header.Get("X-Request-Id")) {
			t.Errorf("%s %s: nothing in the log", c[0], c[1])
		}
	}
	// Who may not gets told so all the same.
	h.want(403, h.operator, "DELETE", at+"/"+id, "")
	h.audit.fail.Store(false)
	if after := h.want(200, h.admin, "GET", at+"/jobs", "").header.Get("X-Total-Count"); after != before {
		t.Errorf("%s jobs, before %s", after, before)
	}
	h.want(200, h.admin, "GET", at+"/"+id, "")
	if l := h.want(200, h.admin, "GET", at+"/schedule", "").list(t); len(l) != 1 || l[0]["enabled"] != true {
		t.Errorf("schedules: %v", l)
	}
}

func TestAudit_HasEachChangeWithItsActor(t *testing.T) {
	h := newHouse(t, nil)
	id := h.backup(`{}`)
	h.want(202, h.admin, "POST", at+"/restore/"+id+"?wait=30", `{}`, "X-Request-Id: my-own.id_1")
	h.want(200, h.admin, "DELETE", at+"/"+id, "")
	var got []string
	for _, r := range h.audit.records() {
		got = append(got, r.Action+" "+r.Actor+" "+r.Role+" "+r.Outcome)
		if r.Action == "backup.delete" && r.Resource != id || r.Action == "backup.restore" && (r.RequestID != "my-own.id_1" || !strings.HasPrefix(r.Resource, "restore-")) {
			t.Errorf("%+v", r)
		}
	}
	want := "backup.create token:root admin allowed,backup.restore token:root admin allowed,backup.delete token:root admin allowed"
	if strings.Join(got, ",") != want {
		t.Errorf("audit: %v", got)
	}
	dir, err := durable.OS(h.path("state"))
	must(t, err)
	defer dir.Close()
	rep, err := auth.VerifyAudit(dir, auth.AuditFileName, h.repo.AuditKey(), nil)
	if err != nil || rep.Records != 3 {
		t.Errorf("%+v, %v", rep, err)
	}
}

func TestRestore_OfABusyTargetIsAConflictWithTheJob(t *testing.T) {
	h := furnished(t, nil)
	id := h.first
	first := h.want(202, h.admin, "POST", at+"/restore/"+id, `{"target":"other"}`).decode(t)["job_id"]
	if g := h.want(409, h.admin, "POST", at+"/restore/"+id, `{"target":"other"}`); g.decode(t)["job_id"] != first || g.decode(t)["error"] != "conflict" {
		t.Errorf("busy: %s", g.body)
	}
	if l := h.want(200, h.admin, "GET", at+"/targets", "").list(t); len(l) != 2 || l[0]["busy_with"] != nil || l[1]["busy_with"] != first {
		t.Errorf("targets: %v", l)
	}
	if g := h.want(409, h.admin, "DELETE", at+"/"+id, ""); g.decode(t)["job_id"] != first {
		t.Errorf("deleting what is being restored: %s", g.body)
	}
	h.run()
	for _, c := range []struct{ body, field string }{
		{`{"target":"moon"}`, "target"}, {`{"overwrite":"maybe"}`, "overwrite"}, {`{"overwrite":1}`, "overwrite"}, {`{"sources":["x"]}`, "sources"}, {`{"paths":"/"}`, "paths"},
	} {
		if g := h.want(400, h.admin, "POST", at+"/restore/"+id, c.body); g.decode(t)["field"] != c.field {
			t.Errorf("%s: %s", c.body, g.body)
		}
	}
	dry := h.want(202, h.admin, "POST", at+"/restore/"+id+"?wait=30", `{"target":"staging","dry_run":true,"overwrite":true}`).decode(t)
	if dry["dry_run"] != true || dry["overwrite"] != "always" || dry["status"] != "completed" {
		t.Errorf("dry run: %v", dry)
	}
	h.want(404, h.admin, "POST", at+"/restore/"+nobody, `{}`)
	h.want(404, h.admin, "GET", at+"/restore/"+id+"/status", ``)
}

func TestOrigin_OfAnotherPageIsRefusedAndAudited(t *testing.T) {
	h := newHouse(t, nil)
	for _, c := range []struct {
		headers []string
		status  int
	}{
		{[]string{"Sec-Fetch-Site: cross-site"}, 403}, {[]string{"Sec-Fetch-Site: same-site"}, 403}, {[]string{"Origin: https://evil.example"}, 403},
		{[]string{"Origin: null"}, 403}, {[]string{"Sec-Fetch-Site: same-origin"}, 201}, {[]string{"Sec-Fetch-Site: none"}, 201}, {[]string{"Origin: " + h.url}, 201},
	} {
		if g := h.do(h.admin, "POST", at+"/create", `{}`, c.headers...); g.status != c.status {
			t.Errorf("%v: %d %s", c.headers, g.status, g.body)
		}
		h.want(200, h.admin, "GET", at+"/list", "", c.headers...)
	}
	n := 0
	for _, r := range h.audit.records() {
		if r.Action == "request.denied" && r.Outcome == "forbidden" {
			n++
		}
	}
	if n != 4 {
		t.Errorf("%d refusals in the audit, want 4", n)
	}
}

func TestRequestID_IsTheClientsWhereItIsFit(t *testing.T) {
	h := newHouse(t, nil)
	for id, kept := range map[string]bool{"abc-1_2.3": true, strings.Repeat("x", 64): true, strings.Repeat("x", 65): false, "a b": false, "a\"b": false, "é": false} {
		g := h.want(200, "", "GET", "/health", "", "X-Request-Id: "+id)
		if (g.header.Get("X-Request-Id") == id) != kept {
			t.Errorf("%q came back as %q", id, g.header.Get("X-Request-Id"))
		}
	}
}
