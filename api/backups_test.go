package api_test

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestTenEndpoints_AnswerAsTheAPISays(t *testing.T) {
	h := newHouse(t, nil)
	h.run()
	made := h.want(201, h.operator, "POST", at+"/create?wait=60", `{"type":"full","include_files":true,"include_database":true,"tags":["nightly"]}`).decode(t)
	id, _ := made["backup_id"].(string)
	if !strings.HasPrefix(id, "backup-") || made["id"] != id || made["type"] != "full" || made["status"] != "completed" || made["created_at"] == nil {
		t.Fatalf("create: %v", made)
	}
	second := h.backup(`{"type":"incremental"}`)

	list := h.want(200, h.operator, "GET", at+"/list", "")
	if l := list.list(t); len(l) != 2 || l[0]["id"] != second || l[1]["id"] != id || l[1]["size"] != "312.5 KiB" || l[1]["size_bytes"] != 320005.0 || l[0]["base_id"] != id {
		t.Errorf("list: %s", list.body)
	}
	if list.header.Get("X-Total-Count") != "2" {
		t.Errorf("X-Total-Count: %q", list.header.Get("X-Total-Count"))
	}
	for query, n := range map[string]int{
		"type=full": 1, "type=full,incremental": 2, "tag=nightly": 1, "tag=none": 0, "source=bots": 2, "source=x": 0, "status=failed": 0,
		"limit=1": 1, "limit=1&offset=1": 1, "offset=5": 0, "since=2000-01-01": 2, "until=2000-01-01T00:00:00Z": 0, "schedule_id=x": 0,
	} {
		if l := h.want(200, h.admin, "GET", at+"/list?"+query, "").list(t); len(l) != n {
			t.Errorf("list?%s: %d backups, want %d", query, len(l), n)
		}
	}

	details := h.want(200, h.operator, "GET", at+"/"+id, "").decode(t)
	parts, _ := details["parts"].([]any)
	if len(parts) != 1 || parts[0].(map[string]any)["source"] != "bots" || details["counts"].(map[string]any)["files"] != 3.0 ||
		details["verification"].(map[string]any)["status"] != "unverified" || details["actor"] != "token:bot" {
		t.Errorf("details: %v", details)
	}

	restore := h.want(202, h.admin, "POST", at+"/restore/"+id+"?wait=60", `{"target":"staging"}`).decode(t)
	job, _ := restore["job_id"].(string)
	if !strings.HasPrefix(job, "restore-") || restore["id"] != job || restore["status"] != "completed" {
		t.Fatalf("restore: %v", restore)
	}
	if text, err := os.ReadFile(h.path("staging" + h.path("source/hello.txt"))); err != nil || string(text) != "hello" {
		t.Errorf("restored %q, %v", text, err)
	}
	status := h.want(200, h.admin, "GET", at+"/restore/"+job+"/status", "").decode(t)
	if status["backup_id"] != id || status["progress"].(map[string]any)["percent"] != 100.0 || status["report"].(map[string]any)["files"] != 2.0 || status["target"] != "staging" {
		t.Errorf("status: %v", status)
	}

	schedule := h.want(201, h.admin, "POST", at+"/schedule", `{"cron":"0 2 * * *","type":"incremental","retention_days":30}`).decode(t)
	sid, _ := schedule["schedule_id"].(string)
	next, err := time.Parse(time.RFC3339, schedule["next_run"].(string))
	if !strings.HasPrefix(sid, "schedule-") || schedule["retention_days"] != 30.0 || err != nil || next.UTC().Hour() != 2 || schedule["enabled"] != true {
		t.Errorf("schedule: %v", schedule)
	}
	changed := h.want(200, h.admin, "PUT", at+"/schedule/"+sid, `{"enabled":false,"retention_days":null}`).decode(t)
	if changed["enabled"] != false || changed["cron"] != "0 2 * * *" || changed["retention_days"] != 30.0 || changed["next_run"] != nil {
		t.Errorf("changed schedule: %v", changed)
	}
	if l := h.want(200, h.admin, "GET", at+"/schedule", "").list(t); len(l) != 1 || l[0]["id"] != sid {
		t.Errorf("schedules: %v", l)
	}
	if d := h.want(200, h.admin, "DELETE", at+"/schedule/"+sid, "").decode(t); d["id"] != sid || d["deleted"] != true {
		t.Errorf("deleted schedule: %v", d)
	}
	h.want(404, h.admin, "DELETE", at+"/schedule/"+sid, "")

	if d := h.want(200, h.admin, "DELETE", at+"/"+id, "").decode(t); d["id"] != id || d["deleted"] != true {
		t.Errorf("deleted backup: %v", d)
	}
	h.want(404, h.admin, "GET", at+"/"+id, "")
	h.want(404, h.admin, "DELETE", at+"/"+id, "")
	h.want(404, h.admin, "POST", at+"/restore/"+id, "")
}

func TestCreate_TakesWhatClientsSendAndNamesWhatIsWrong(t *testing.T) {
	h := newHouse(t, nil)
	for _, body := range []string{
		``, ` `, `null`, `{}`, `"{}"`, `""`, `"null"`, `{"type":null}`, `"{\"type\":\"full\"}"`, `{"retention_days":30.0}`, `{"retention_days":3e1}`,
		`{"include_database":false,"sources":["bots"]}`,
	} {
		typ := "incremental"
		if strings.Contains(body, "full") {
			typ = "full"
		}
		g := h.want(201, h.operator, "POST", at+"/create", body)
		if m := g.decode(t); m["type"] != typ || m["status"] != "pending" {
			t.Errorf("%s: %s", body, g.body)
		}
	}
	for _, c := range []struct{ body, field string }{
		{`{"type":"ful"}`, "type"}, {`{"type":1}`, "type"}, {`{"include_files":"yes"}`, "include_files"}, {`{"retention_days":1.5}`, "retention_days"},
		{`{"retention_days":"30"}`, "retention_days"}, {`{"retention_days":1e400}`, "retention_days"}, {`{"retention_days":-1}`, "retention_days"},
		{`{"unknown":1}`, "unknown"}, {`{"unknown":null}`, "unknown"}, {`{"type":"full","type":"full"}`, "type"}, {`{"tags":["x",1]}`, "tags"},
		{`{"tags":"x"}`, "tags"}, {`{"sources":["none"]}`, "sources"}, {`{"include_files":false,"include_database":false}`, "include_files"},
		{`{"tags":["` + strings.Repeat("x", 300) + `"]}`, "tags"}, {`{"type":"a\u0000b"}`, "type"},
		{`[]`, ""}, {`1`, ""}, {`true`, ""}, {`{`, ""}, {`{}{}`, ""}, {`"\"{}\""`, ""}, {`"{"`, ""}, {"\xff", ""}, {`{"tags":[[[[[[[[[[1]]]]]]]]]]}`, ""},
	} {
		g := h.want(400, h.operator, "POST", at+"/create", c.body)
		m := g.decode(t)
		if c.field == "" && m["error"] != "bad_request" || c.field != "" && (m["field"] != c.field || m["error"] != "validation_error") {
			t.Errorf("%s: %s", c.body, g.body)
		}
	}
	h.want(413, h.operator, "POST", at+"/create", `{"type":"`+strings.Repeat("x", 1<<20)+`"}`)
	h.want(415, h.operator, "POST", at+"/create", `{}`, "Content-Type: text/plain")
	h.want(415, h.operator, "POST", at+"/create", `type=full`, "Content-Type: application/x-www-form-urlencoded")
	h.want(201, h.operator, "POST", at+"/create", `{}`, "Content-Type: application/json; charset=utf-8")
	for _, query := range []string{"wait=x", "wait=-1", "wait=1e9", "wate=1", "wait=1&wait=2", "wait=%zz", "a;b"} {
		h.want(400, h.operator, "POST", at+"/create?"+query, `{}`)
	}
	// What was refused is not in the audit as a change, what was made is, once each.
	made := 0
	for _, r := range h.audit.records() {
		if r.Action == "backup.create" {
			made++
		}
	}
	if made != 13 {
		t.Errorf("%d records of 13 backups", made)
	}
}

func TestList_OfNothingIsAnEmptyArray(t *testing.T) {
	h := newHouse(t, nil)
	for _, path := range []string{"/list", "/schedule", "/jobs"} {
		if g := h.want(200, h.admin, "GET", at+path, ""); g.body != "[]\n" || g.header.Get("X-Total-Count") != "0" {
			t.Errorf("%s: %s %v", path, g.body, g.header)
		}
	}
}
