package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/generalbots/backupd/api"
	"github.com/generalbots/backupd/internal/job"
)

// TestRefusals_SayWhatIsWrongAndWhatToDo holds each message against what a person
// approved: many clients show the message and nothing else, so that it names the
// field, what is allowed there, and the next step.
func TestRefusals_SayWhatIsWrongAndWhatToDo(t *testing.T) {
	h := build(t, true, func(o *api.Options) { o.BodySize = 1000 }, func(_ *house, o *job.Options) {
		o.Sources = append(o.Sources, job.Source{Name: "db", Kind: "sqlite", Paths: []string{"/nowhere/db"}})
	})
	waiting := h.want(201, h.admin, "POST", at+"/create", `{"sources":["bots"]}`).decode(t)["id"].(string)
	stopped := h.want(201, h.admin, "POST", at+"/create", `{}`).decode(t)["id"].(string)
	h.want(200, h.admin, "DELETE", at+"/jobs/"+stopped, "")
	restoring := h.want(202, h.admin, "POST", at+"/restore/"+h.first, `{}`, "Idempotency-Key: used").decode(t)["id"].(string)
	schedule := h.want(201, h.admin, "POST", at+"/schedule", `{"cron":"@daily"}`).decode(t)["id"].(string)

	long, file := strings.Repeat("x", 300), h.path("source/hello.txt")
	var text strings.Builder
	for _, c := range []struct {
		status             int
		method, path, body string
		field              string // that the message has to begin with
		headers            []string
	}{
		{400, "POST", "/create", `{"kind":"full"}`, "kind", nil},
		{400, "POST", "/create", `{"type":1}`, "type", nil},
		{400, "POST", "/create", `{"type":"ful"}`, "type", nil},
		{400, "POST", "/create", `{"include_files":"yes"}`, "include_files", nil},
		{400, "POST", "/create", `{"include_files":false,"include_database":false}`, "include_files", nil},
		{400, "POST", "/create", `{"retention_days":"30"}`, "retention_days", nil},
		{400, "POST", "/create", `{"retention_days":1.5}`, "retention_days", nil},
		{400, "POST", "/create", `{"retention_days":-1}`, "retention_days", nil},
		{400, "POST", "/create", `{"sources":"bots"}`, "sources", nil},
		{400, "POST", "/create", `{"sources":["none"]}`, "sources", nil},
		{400, "POST", "/create", `{"tags":["` + long + `"]}`, "tags", nil},
		{400, "POST", "/create", `{"tags":[""]}`, "tags", nil},
		{400, "POST", "/create", `{"tags":["a\u0000b"]}`, "tags", nil},
		{400, "POST", "/create", `{"type":"full","type":"full"}`, "type", nil},
		{400, "POST", "/create", `[]`, "", nil},
		{400, "POST", "/create", `{`, "", nil},
		{400, "POST", "/create", `{}{}`, "", nil},
		{400, "POST", "/create", "\xff", "", nil},
		{400, "POST", "/create", `{"tags":[[[[[[[[[[1]]]]]]]]]]}`, "", nil},
		{400, "POST", "/create?wait=soon", ``, "wait", nil},
		{400, "POST", "/create?wate=1", ``, "wate", nil},
		{400, "POST", "/create?wait=1&wait=2", ``, "wait", nil},
		{400, "POST", "/create?a;b", ``, "", nil},
		{400, "POST", "/create", ``, "Idempotency-Key", []string{"Idempotency-Key: " + long}},
		{400, "GET", "/list?limit=0", ``, "limit", nil},
		{400, "GET", "/list?offset=-1", ``, "offset", nil},
		{400, "GET", "/list?status=done", ``, "status", nil},
		{400, "GET", "/list?since=yesterday", ``, "since", nil},
		{400, "GET", "/list?tag=" + long, ``, "tag", nil},
		{400, "GET", "/jobs?kind=copy", ``, "kind", nil},
		{400, "GET", "/stats?x=1", ``, "x", nil},
		{400, "GET", "/find", ``, "name", nil},
		{400, "GET", "/find?name=[", ``, "name", nil},
		{400, "GET", "/" + h.first + "/files?path=" + file, ``, "path", nil},
		{400, "GET", "/" + h.first + "/download?format=rar", ``, "format", nil},
		{400, "GET", "/" + h.first + "/diff", ``, "base", nil},
		{400, "POST", "/restore/" + h.first, `{"target":"moon"}`, "target", nil},
		{400, "POST", "/restore/" + h.first, `{"overwrite":"maybe"}`, "overwrite", nil},
		{400, "POST", "/restore/" + h.first, `{"sources":["none"]}`, "sources", nil},
		{400, "POST", "/restore/" + h.first, `{"paths":"/"}`, "paths", nil},
		{400, "POST", "/schedule", ``, "cron", nil},
		{400, "POST", "/schedule", `{"cron":"at two"}`, "cron", nil},
		{400, "POST", "/schedule", `{"cron":"@daily","timezone":"Mars"}`, "timezone", nil},
		{400, "POST", "/schedule", `{"cron":"@daily","enabled":1}`, "enabled", nil},
		{400, "PUT", "/schedule/" + schedule, `{"crom":"@daily"}`, "crom", nil},
		{400, "GET", "/list", ``, "", []string{"Authorization: Bearer x"}},
		{404, "GET", "/" + nobody, ``, "", nil},
		{404, "GET", "/jobs/" + nobody, ``, "", nil},
		{404, "GET", "/lists/of/things", ``, "", nil},
		{404, "GET", "/" + h.first + "/files?path=/none", ``, "", nil},
		{404, "GET", "/" + stopped + "/files", ``, "", nil},
		{404, "POST", "/restore/" + stopped, ``, "", nil},
		{405, "DELETE", "/list", ``, "", nil},
		{409, "POST", "/restore/" + h.first, ``, "", nil},
		{409, "DELETE", "/" + h.first, ``, "", nil},
		{409, "DELETE", "/jobs/" + stopped, ``, "", nil},
		{409, "GET", "/" + waiting + "/files", ``, "", nil},
		{409, "POST", "/restore/" + waiting, ``, "", nil},
		{409, "POST", "/" + waiting + "/verify", ``, "", nil},
		{409, "POST", "/restore/" + h.first, `{"target":"other"}`, "Idempotency-Key", []string{"Idempotency-Key: used"}},
		{413, "POST", "/create", `"` + strings.Repeat(" ", 2000) + `"`, "", nil},
		{415, "POST", "/create", `type=full`, "", []string{"Content-Type: application/x-www-form-urlencoded"}},
	} {
		g := h.want(c.status, h.admin, c.method, at+c.path, c.body, c.headers...)
		m := g.decode(t)
		message, _ := m["message"].(string)
		if field, _ := m["field"].(string); field != c.field || !strings.HasPrefix(message, c.field) {
			t.Errorf("%s %s %.80s: of the field %q: %s", c.method, c.path, c.body, field, message)
		}
		if id, _ := m["job_id"].(string); !strings.Contains(message, id) {
			t.Errorf("%s %s: the job %s is not named: %s", c.method, c.path, id, message)
		}
		request := strings.NewReplacer(long, "xxx…", strings.Repeat(" ", 2000), " … ").Replace(strings.TrimSpace(c.method + " " + c.path + " " + c.body + " " + strings.Join(c.headers, " ")))
		fmt.Fprintf(&text, "%q\n\t%d %s: %s\n", request, c.status, m["error"], message)
	}
	h.golden("refusals.txt", strings.NewReplacer(
		h.dir, "/house", h.first, "backup-1", waiting, "backup-2", stopped, "backup-3", restoring, "restore-1", schedule, "schedule-1", nobody, "backup-0",
	).Replace(text.String()))
}
