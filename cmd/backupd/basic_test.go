package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// neverGot is which hosts GET refuses there, by their text.
var neverGot = regexp.MustCompile(`^(localhost|127\..*|10\..*|192\.168\..*|172\..*|::1|.*169\.254.*|.*0x7f.*)$`)

// platformRequest is a request as the HTTP library of the platform's BASIC writes it: the user of the URL first, as HTTP
// Basic, names in lower case, no user agent; the fields of an object in the order of their names.
func platformRequest(t *testing.T, method, address string, body any) []byte {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		t.Fatalf("the platform refuses the URL %q (%v)", address, err)
	}
	if method == "GET" && neverGot.MatchString(u.Hostname()) {
		t.Fatalf("the platform refuses to GET from %s", u.Hostname())
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", method, u.RequestURI())
	if password, ok := u.User.Password(); ok {
		fmt.Fprintf(&b, "authorization: Basic %s\r\n", base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)))
	}
	if method == "GET" {
		fmt.Fprintf(&b, "accept: */*\r\nhost: %s\r\n\r\n", u.Host)
		return b.Bytes()
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "content-type: application/json\r\naccept: */*\r\nhost: %s\r\ncontent-length: %d\r\n\r\n%s", u.Host, len(text), text)
	return b.Bytes()
}

func TestBasicClient_WritesWhatThePlatformWrites(t *testing.T) {
	for _, c := range []struct {
		method string
		body   any
		want   string
	}{
		{"GET", nil, "GET /x?limit=2 HTTP/1.1\r\nauthorization: Basic Ym90OnNlY3JldA==\r\naccept: */*\r\nhost: backup.internal:9000\r\n\r\n"},
		{"POST", map[string]any{"type": "full", "include_files": true}, "POST /x?limit=2 HTTP/1.1\r\nauthorization: Basic Ym90OnNlY3JldA==\r\ncontent-type: application/json\r\naccept: */*\r\nhost: backup.internal:9000\r\ncontent-length: 36\r\n\r\n{\"include_files\":true,\"type\":\"full\"}"},
		{"POST", nil, "POST /x?limit=2 HTTP/1.1\r\nauthorization: Basic Ym90OnNlY3JldA==\r\ncontent-type: application/json\r\naccept: */*\r\nhost: backup.internal:9000\r\ncontent-length: 4\r\n\r\nnull"},
	} {
		if got := string(platformRequest(t, c.method, "http://bot:secret@backup.internal:9000/x?limit=2", c.body)); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
	for host, refused := range map[string]bool{"localhost": true, "127.0.0.1": true, "10.0.0.9": true, "172.16.1.1": true, "::1": true, "backup.internal": false} {
		if neverGot.MatchString(host) != refused {
			t.Errorf("GET from %s: refused is not %v", host, refused)
		}
	}
}

// say writes bytes as they are on a connection of their own and reads the answer.
func (d *served) say(request []byte) (answer, http.Header) {
	d.h.t.Helper()
	c, err := net.Dial("tcp", d.address)
	ok(d.h.t, err)
	defer c.Close()
	ok(d.h.t, c.SetDeadline(time.Now().Add(2*time.Minute)))
	_, err = c.Write(request)
	ok(d.h.t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	ok(d.h.t, err)
	defer resp.Body.Close()
	a := answer{code: resp.StatusCode}
	a.body, err = io.ReadAll(resp.Body)
	ok(d.h.t, err)
	_ = json.Unmarshal(a.body, &a.m) // lists are no objects
	return a, resp.Header
}

// basicDaemon runs a daemon on a file source and a SQLite database, with an operator's token and one of an admin that
// serves in URLs.
func basicDaemon(t *testing.T) (d *served, operator, admin string) {
	t.Helper()
	h := newHost(t)
	database, err := os.ReadFile(filepath.Join("..", "..", "testdata", "bots", "botserver.db"))
	ok(t, err)
	ok(t, os.WriteFile(h.path("bot.db"), database, 0o600))
	h.configure(fmt.Sprintf("{name: botdb, kind: sqlite, paths: [%q]}", h.path("bot.db")))
	admin = strings.TrimSpace(h.must("token", "create", "--config", h.configFile(), "--name", "bot-admin", "--role", "admin", "--basic"))
	operator = h.token("backup_operator")
	h.token("admin") // the ordinary one; a daemon that runs would see it within a second only
	return h.start(), operator, admin
}

// basicURL is what the scripts of docs/basic have in place of a host and a token.
const basicURL = "http://bot:TOKEN@backup.internal:9000" + base

// perform runs a script of docs/basic with a token, its text changed by old and new pairs, and returns what it said and
// the statuses it was answered with.
func (d *served) perform(name, token string, pairs ...string) (said []string, statuses []int) {
	t := d.h.t
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "basic", name))
	ok(t, err)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(text), pairs[i]) {
			t.Fatalf("%s does not have %q", name, pairs[i])
		}
	}
	if strings.Count(string(text), basicURL) != 1 {
		t.Fatalf("%s does not have the URL of the README once", name)
	}
	changed := strings.NewReplacer(append(pairs, "TOKEN", token)...).Replace(string(text))
	s := &script{t: t, name: name, send: func(method, address string, body any) (int, string) {
		a, _ := d.say(platformRequest(t, method, address, body))
		statuses = append(statuses, a.code)
		return a.code, string(a.body)
	}}
	return s.run(changed), statuses
}

// The scripts of docs/basic, as they stand there, get from the daemon what they read.
func TestBasicClient_ScriptsGetWhatTheyRead(t *testing.T) {
	d, operator, admin := basicDaemon(t)
	only := func(said []string, statuses []int, status int, pattern string) string {
		t.Helper()
		if len(statuses) != 1 || statuses[0] != status || len(said) != 1 {
			t.Fatalf("got %v, said %q", statuses, said)
		}
		found := regexp.MustCompile(`^` + pattern + `$`).FindStringSubmatch(said[0])
		if found == nil {
			t.Fatalf("said %q, want %s", said[0], pattern)
		}
		return found[1]
	}
	said, statuses := d.perform("create.bas", operator)
	id := only(said, statuses, 201, `Backup created: (backup-[0-9a-z]{26})`)
	said, statuses = d.perform("list.bas", operator)
	only(said, statuses, 200, `(`+id+`) - 20\d\d-\d\d-\d\dT[0-9:.]+Z \(.+\)`)
	d.until("the backup is complete", func() bool { return d.basicGet(admin, "/"+id).m["status"] == "completed" })
	said, statuses = d.perform("list.bas", operator)
	only(said, statuses, 200, id+` - .*Z \(([0-9.]+ [KM]iB)\)`)
	details := d.basicGet(operator, "/"+id)
	if sources := fmt.Sprint(details.m["sources"]); sources != "[bots botdb]" {
		t.Errorf("include_database: got sources %s", sources)
	}

	said, statuses = d.perform("restore.bas", admin, "backup-123", id)
	job := only(said, statuses, 202, `Restore job started: (restore-[0-9a-z]{26})`)
	d.until("the restore is complete", func() bool { return d.basicGet(admin, "/restore/"+job+"/status").m["status"] == "completed" })
	if digest(t, d.h.path("staging"+d.h.path("src"))) != digest(t, d.h.path("src")) {
		t.Error("what was restored is not what was backed up")
	}
	said, statuses = d.perform("schedule.bas", admin)
	schedule := only(said, statuses, 201, `Scheduled as (schedule-[0-9a-z]{26}), next at 20\d\d-\d\d-\d\dT02:00:00Z`)
	if list := string(d.basicGet(admin, "/schedule").body); !strings.HasPrefix(list, "[") || !strings.Contains(list, schedule) {
		t.Errorf("got schedules %s", list)
	}

	// What goes wrong is said, with the reason.
	said, statuses = d.perform("restore.bas", admin)
	only(said, statuses, 404, `No restore: (there is no backup.*)`)
	said, statuses = d.perform("restore.bas", operator, "backup-123", id)
	only(said, statuses, 403, `No restore: (.*admin.*)`)
	said, statuses = d.perform("schedule.bas", operator)
	only(said, statuses, 403, `No schedule: (.*admin.*)`)
	said, statuses = d.perform("create.bas", "bkp_wrong")
	only(said, statuses, 401, `No backup: (.+)`)

	d.end(syscall.SIGTERM)
	if log := d.logged(); strings.Contains(log, operator) || strings.Contains(log, admin) {
		t.Error("a token stands in the log")
	}
	d.h.must("repo", "check", "--read-data", "--config", d.h.configFile())
}

func (d *served) basicGet(token, path string) answer {
	d.h.t.Helper()
	a, _ := d.say(platformRequest(d.h.t, "GET", strings.Replace(basicURL, "TOKEN", token, 1)+path, nil))
	return a
}

// What else that client may send: a text that holds the object, no object at all, numbers with a fraction, and credentials
// that are none.
func TestBasicClient_OtherBodiesAndCredentials(t *testing.T) {
	d, operator, admin := basicDaemon(t)
	post := func(token, path string, body any) (answer, http.Header) {
		t.Helper()
		return d.say(platformRequest(t, "POST", strings.Replace(basicURL, "TOKEN", token, 1)+path, body))
	}
	for _, body := range []any{
		`{"type": "full", "include_files": true, "include_database": true}`, `{}`, ``, `null`,
		nil, map[string]any{}, map[string]any{"type": "incremental", "include_database": false},
	} {
		a, _ := post(operator, "/create", body)
		if id, _ := a.m["backup_id"].(string); a.code != 201 || !strings.HasPrefix(id, "backup-") || a.m["id"] != id {
			t.Errorf("%v: got %d %s", body, a.code, a.body)
		}
	}
	raw := func(text string) answer {
		t.Helper()
		request := bytes.Replace(platformRequest(t, "POST", strings.Replace(basicURL, "TOKEN", admin, 1)+"/schedule", json.RawMessage(`0`)),
			[]byte("content-length: 1\r\n\r\n0"), fmt.Appendf(nil, "content-length: %d\r\n\r\n%s", len(text), text), 1)
		a, _ := d.say(request)
		return a
	}
	// Every number may be a float there.
	if a := raw(`{"cron":"0 2 * * *","retention_days":30.0,"type":"incremental"}`); a.code != 201 || a.m["retention_days"] != 30.0 {
		t.Errorf("got %d %s", a.code, a.body)
	}
	for _, c := range []struct {
		token, path string
		body        any
		code        int
		word        string
	}{
		{operator, "/create", "full", 400, "bad_request"},
		{operator, "/create", []any{}, 400, "bad_request"},
		{operator, "/create", map[string]any{"type": 1}, 400, "validation_error"},
		{"bkp_wrong", "/create", nil, 401, "invalid_token"},
		{d.h.token("admin"), "/create", nil, 401, "invalid_token"}, // made without --basic
		{operator, "/schedule", map[string]any{"cron": "0 2 * * *"}, 403, "insufficient_permissions"},
	} {
		a, header := post(c.token, c.path, c.body)
		if a.code != c.code || a.m["error"] != c.word || a.m["message"] == "" {
			t.Errorf("%s %v: got %d %s, want %d %s", c.path, c.body, a.code, a.body, c.code, c.word)
		}
		// A browser that is asked for Basic would show a dialogue and remember.
		if challenge := header.Get("WWW-Authenticate"); c.code == 401 && !strings.HasPrefix(challenge, "Bearer") {
			t.Errorf("challenged with %q", challenge)
		}
	}
	d.end(syscall.SIGTERM)
}
