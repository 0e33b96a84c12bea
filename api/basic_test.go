package api_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// say sends bytes as they are and reads the answer.
func (h *house) say(text string) got {
	h.t.Helper()
	c := h.dial()
	_, err := io.WriteString(c, text)
	must(h.t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(h.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(h.t, err)
	return got{resp.StatusCode, resp.Header, string(data)}
}

// What the platform's scripts send: the userinfo of the URL as HTTP Basic, its
// HTTP library's header lines in lower case, a string body as a JSON string, an
// object without fields as null.
func TestBasicClient_GetsWhatItsScriptsRead(t *testing.T) {
	h := newHouse(t, nil)
	h.run()
	host := strings.TrimPrefix(h.url, "http://")
	call := func(token, method, path, body string) got {
		user := base64.StdEncoding.EncodeToString([]byte("backup:" + token))
		head := fmt.Sprintf("%s %s HTTP/1.1\r\nauthorization: Basic %s\r\naccept: */*\r\nhost: %s\r\n", method, path, user, host)
		if method != "GET" {
			head += fmt.Sprintf("content-type: application/json\r\ncontent-length: %d\r\n", len(body))
		}
		return h.say(head + "\r\n" + body)
	}
	var id string
	for _, body := range []string{
		`{"type":"full","include_files":true,"include_database":true}`,
		`{"include_database":true,"include_files":true,"type":"full"}`,
		`"{\"type\": \"full\", \"include_files\": true, \"include_database\": true}"`,
		`null`, ``, `{}`,
	} {
		g := call(h.operator, "POST", at+"/create", body)
		if id, _ = g.decode(t)["backup_id"].(string); g.status != 201 || id == "" {
			t.Fatalf("%s: %d %s", body, g.status, g.body)
		}
	}
	if g := h.want(200, h.admin, "GET", at+"/"+id, ""); g.status != 200 {
		t.Fatal(g.body)
	}
	// The list is read by GET, which hands the text on; a script that parses it
	// wants an array whose items it can join into a line.
	g := call(h.operator, "GET", at+"/list", "")
	var list []map[string]any
	if err := json.Unmarshal([]byte(g.body), &list); err != nil || g.status != 200 || len(list) != 6 {
		t.Fatalf("%d %s", g.status, g.body)
	}
	for _, b := range list {
		line := fmt.Sprint(b["id"], " - ", b["created_at"], " - ", b["size"])
		if _, ok := b["size"].(string); !ok || strings.Contains(line, "nil") {
			t.Errorf("%s", line)
		}
	}
	h.want(201, h.admin, "POST", at+"/create?wait=60", "")
	if g := call(h.admin, "POST", at+"/restore/"+id, `{"target":"staging"}`); g.status != 202 || g.decode(t)["job_id"] == nil {
		t.Errorf("%d %s", g.status, g.body)
	}
	if g := call(h.admin, "POST", at+"/schedule", `{"cron":"0 2 * * *","retention_days":30.0,"type":"incremental"}`); g.status != 201 || g.decode(t)["schedule_id"] == nil {
		t.Errorf("%d %s", g.status, g.body)
	}
	// Wrong: never a challenge for Basic, and an envelope with words.
	if g := call("bkp_wrong", "GET", at+"/list", ""); g.status != 401 || !strings.HasPrefix(g.header.Get("WWW-Authenticate"), "Bearer") || g.decode(t)["error"] != "invalid_token" {
		t.Errorf("%d %v %s", g.status, g.header, g.body)
	}
	if g := call(h.operator, "POST", at+"/restore/"+id, `{}`); g.status != 403 {
		t.Errorf("%d %s", g.status, g.body)
	}
	if g := call(h.operator, "POST", at+"/create", `"full"`); g.status != 400 {
		t.Errorf("%d %s", g.status, g.body)
	}
}
