package api_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/generalbots/backupd/api"
	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/repo"
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

// What a source says of a part that did not fail may quote what lies on the host
// as well, and so may a problem of a single file. Operators read what is suspicious
// and what was found good, which they have to act upon or may rely on, and paths
// within the backup; everything else is for administrators.
func TestNotes_AreInFullForAdministratorsOnly(t *testing.T) {
	damaged := "docs/broken.db"
	h := build(t, false, nil, func(h *house, o *job.Options) {
		must(t, os.WriteFile(h.path("source/"+damaged), []byte("SQLite format 3\x00 and then nothing a database has, hunter2"), 0o600))
		o.Sources = append(o.Sources, job.Source{Name: "db", Kind: "sqlite", Paths: []string{h.path("source/" + damaged)}})
	})
	h.run()
	g := h.want(201, h.operator, "POST", at+"/create?wait=60", `{"sources":["db"]}`)
	id := g.decode(t)["id"].(string)
	if s := g.decode(t)["status"]; s != "completed_with_problems" {
		t.Errorf("got %v", s)
	}
	told := func(token string) (notes, problems string) {
		t.Helper()
		var b api.BackupDetails
		must(t, json.Unmarshal([]byte(h.want(200, token, "GET", at+"/"+id, "").body), &b))
		for _, p := range b.Parts {
			notes += strings.Join(p.Notes, "\n") + "\n"
		}
		for _, p := range b.Problems {
			problems += p.Message + "\n"
		}
		return notes, problems
	}
	notes, problems := told(h.admin)
	if !strings.Contains(notes, "SQLite can not read it") || !strings.Contains(problems, "SQLite can not read it") {
		t.Errorf("an administrator reads %q and %q", notes, problems)
	}
	notes, problems = told(h.operator)
	for _, word := range []string{"SQLite", "not a database"} {
		if strings.Contains(notes+problems, word) {
			t.Errorf("an operator reads of %s: %q and %q", word, notes, problems)
		}
	}
	if !strings.Contains(notes, "an administrator can read here") || !strings.Contains(problems, "an administrator can read here") {
		t.Errorf("an operator is not told where to ask: %q and %q", notes, problems)
	}
}

func TestDiscreet_Table(t *testing.T) {
	for note, open := range map[string]bool{
		"suspicious: no files, where snapshot x has 5":                                            true,
		"/opt/bot.db: quick_check: ok":                                                            true,
		"/opt/bot.db: quick_check: row 7 of token is bad":                                         false,
		"the base could not be read in places: open /var/lib/backupd/repo/packs/00: no such file": false,
		"nothing is known of this one":                                                            false,
	} {
		if got := api.OpenNote(note); got != open {
			t.Errorf("%q: got %v", note, got)
		}
	}
	for _, c := range []struct {
		path, op, text string
		open           bool
	}{
		{"/opt/bots/x", "open", "permission denied", true},
		{"/opt/bots/x", "open", "open /opt/bots/x: permission denied", true},
		{"/opt/bots/x", "read", "input/output error", true},
		{"/opt/bots/x", "open", "open /var/lib/backupd/staging/capture-1: no such file", false},
		{"/opt/bots/x", "open", "open \"/var/lib\": no such file", false},
		{"/opt/bots/x", "examine", "quick_check: row 7 of token is bad", false},
		{"", "read source db", "exit status 7: no room", false},
	} {
		p := repo.Problem{Path: []byte(c.path), Op: c.op, Text: c.text}
		if got := api.OpenProblem(p); got != c.open {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}
