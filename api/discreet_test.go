package api_test

import (
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/job"
)

// What a command printed, and where things lie on the host, is for
// administrators: they read it in every answer, and nobody else in any.
func TestFailures_AreInFullForAdministratorsOnly(t *testing.T) {
	secret := "password=hunter2 in /etc/botserver/db.dsn"
	h := build(t, false, nil, func(h *house, o *job.Options) {
		o.Sources = append(o.Sources, job.Source{Name: "db", Kind: "files", Paths: []string{h.path("source/docs")},
			Before: []string{"/bin/sh", "-c", "echo '" + secret + "'; exit 1"}})
	})
	h.run()
	failed := h.want(201, h.operator, "POST", at+"/create?wait=60", `{"sources":["db"]}`)
	half := h.want(201, h.operator, "POST", at+"/create?wait=60", `{}`)
	id, other := failed.decode(t)["id"].(string), half.decode(t)["id"].(string)
	if s := failed.decode(t)["status"]; s != "failed" {
		t.Errorf("got %v", s)
	}
	if s := half.decode(t)["status"]; s != "completed_with_problems" {
		t.Errorf("got %v", s)
	}
	for _, g := range []got{failed, half} {
		if strings.Contains(string(g.body), "hunter2") {
			t.Errorf("the answer to an operator's create: %s", g.body)
		}
	}
	for path, full := range map[string]bool{
		"/" + id: true, "/" + other: true, "/list": true, "/jobs/" + id: true, "/jobs": true, "/jobs/" + id + "/events": true,
	} {
		g := h.want(200, h.operator, "GET", at+path, "")
		if strings.Contains(string(g.body), "hunter2") || strings.Contains(string(g.body), "botserver") {
			t.Errorf("operator, %s: %s", path, g.body)
		}
		if g = h.want(200, h.admin, "GET", at+path, ""); strings.Contains(string(g.body), "hunter2") != full {
			t.Errorf("administrator, %s: %s", path, g.body)
		}
	}
	if g := h.want(200, h.operator, "GET", at+"/"+id, ""); !strings.Contains(string(g.body), "an administrator can read here") {
		t.Errorf("an operator is not told where to ask: %s", g.body)
	}
}
