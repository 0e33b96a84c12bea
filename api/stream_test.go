package api_test

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/api"
)

func (h *house) newClient(token string) *api.Client {
	h.t.Helper()
	c, err := api.NewClient(api.ClientOptions{Server: h.url, Token: token})
	must(h.t, err)
	h.t.Cleanup(c.Close)
	return c
}

func TestDownload_IsTheTreeAsTarAndZip(t *testing.T) {
	h := furnished(t, nil)
	c := h.newClient(h.admin)
	inner := strings.TrimPrefix(h.path("source"), "/")
	var buf bytes.Buffer
	left, err := c.Download(t.Context(), h.first, h.path("source"), "tar", &buf)
	if err != nil || left != 0 {
		t.Fatal(left, err)
	}
	names := map[string]string{}
	for r := tar.NewReader(&buf); ; {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		data, err := io.ReadAll(r)
		must(t, err)
		names[strings.TrimSuffix(e.Name, "/")] = string(data)
	}
	big, err := os.ReadFile(h.path("source/docs/big.bin"))
	must(t, err)
	if names[inner+"/hello.txt"] != "hello" || names[inner+"/docs/big.bin"] != string(big) {
		t.Errorf("tar: %d entries", len(names))
	}
	buf.Reset()
	if _, err := c.Download(t.Context(), h.first, h.path("source/docs"), "zip", &buf); err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	must(t, err)
	found := false
	for _, f := range z.File {
		found = found || f.Name == inner+"/docs/big.bin" && f.UncompressedSize64 == uint64(len(big))
	}
	if !found {
		t.Errorf("zip: %v", z.File)
	}
	h.want(404, h.admin, "GET", at+"/"+h.first+"/download?path=/none", "")
	h.want(400, h.admin, "GET", at+"/"+h.first+"/download?format=rar", "")
	g := h.want(200, h.admin, "GET", at+"/"+h.first+"/download", "")
	if got := g.header.Get("Content-Disposition"); got != `attachment; filename="`+h.first+`.tar"` {
		t.Error(got)
	}
	audited := 0
	for _, r := range h.audit.records() {
		if r.Action == "backup.download" && r.Resource == h.first {
			audited++
		}
	}
	if audited != 3 {
		t.Errorf("%d downloads in the audit, want 3", audited)
	}
}

func TestDownload_OfDamageNeverLooksComplete(t *testing.T) {
	h := furnished(t, nil)
	h.damage()
	resp := h.raw(h.admin, "GET", at+"/"+h.first+"/download")
	defer resp.Body.Close()
	if resp.StatusCode == 200 {
		data, err := io.ReadAll(resp.Body)
		if err == nil {
			t.Fatalf("%d bytes with an end", len(data))
		}
	} else if resp.StatusCode != 500 {
		t.Errorf("status %d", resp.StatusCode)
	}
	if _, err := h.newClient(h.admin).Download(t.Context(), h.first, "", "zip", io.Discard); err == nil {
		t.Error("the client took it for complete")
	}
}

// damage makes the content of the repository unreadable until the test ends.
func (h *house) damage() {
	h.t.Helper()
	saved := map[string][]byte{}
	must(h.t, filepath.WalkDir(h.path("repo/packs"), func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		saved[name] = data
		bad := bytes.Clone(data)
		// The trailer stays, the first blocks do not.
		for i := 4096; i < min(len(bad)-4096, 1<<19); i += 64 {
			bad[i] ^= 0xff
		}
		must(h.t, os.Chmod(name, 0o600))
		return h.exchange(name, bad)
	}))
	if len(saved) == 0 {
		h.t.Fatal("nothing to damage")
	}
	h.t.Cleanup(func() {
		for name, data := range saved {
			must(h.t, h.exchange(name, data))
		}
	})
}

// exchange writes other bytes into a file that may be open and looked at: it
// stays the same file and never has another size.
func (h *house) exchange(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	return errors.Join(err, f.Close())
}

// raw makes a call and returns its answer as it begins.
func (h *house) raw(token, method, path string) *http.Response {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.url+path, nil)
	must(h.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := h.client.Do(req)
	must(h.t, err)
	return resp
}

func TestEvents_TellOfAJobToItsEnd(t *testing.T) {
	h := furnished(t, func(o *api.Options) { o.Timeouts.Beat = 50 * time.Millisecond })
	id := h.want(201, h.operator, "POST", at+"/create", `{"type":"full"}`).decode(t)["id"].(string)
	resp := h.raw(h.operator, "GET", at+"/jobs/"+id+"/events")
	defer resp.Body.Close()
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Fatal(kind)
	}
	lines := bufio.NewScanner(resp.Body)
	var events []string
	beats := 0
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, ":") {
			if beats++; beats == 2 {
				h.run()
			}
		}
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			events = append(events, name)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok && !strings.Contains(data, `"id":"`+id+`"`) {
			t.Errorf("an event of another: %s", data)
		}
	}
	if lines.Err() != nil || beats < 2 || len(events) < 2 || events[0] != "progress" || events[len(events)-1] != "end" || strings.Count(strings.Join(events, " "), "end") != 1 {
		t.Errorf("%d beats, %v, %v", beats, events, lines.Err())
	}
	// Of a job that is over the end comes at once.
	j, err := h.newClient(h.operator).Watch(t.Context(), id, nil)
	if err != nil || j.Status != "completed" || j.ID != id {
		t.Errorf("%+v, %v", j, err)
	}
	// Restores are not for operators.
	r := h.want(202, h.admin, "POST", at+"/restore/"+h.first+"?wait=30", `{}`).decode(t)["id"].(string)
	for _, path := range []string{"/jobs/" + r, "/jobs/" + r + "/events", "/jobs?kind=restore"} {
		h.want(403, h.operator, "GET", at+path, "")
	}
	if l := h.want(200, h.operator, "GET", at+"/jobs", "").list(t); len(l) != 2 {
		t.Errorf("an operator sees %v", l)
	}
	if l := h.want(200, h.admin, "GET", at+"/jobs", "").list(t); len(l) != 3 {
		t.Errorf("an administrator sees %v", l)
	}
	h.want(404, h.operator, "GET", at+"/jobs/"+nobody+"/events", "")
}

func TestEvents_EndWithTheServerAndTheClient(t *testing.T) {
	h := furnished(t, nil)
	id := h.want(201, h.admin, "POST", at+"/create", `{}`).decode(t)["id"].(string)
	resp := h.raw(h.admin, "GET", at+"/jobs/"+id+"/events")
	if _, long := h.server.InUse(); long != 1 {
		t.Errorf("%d long calls", long)
	}
	resp.Body.Close()
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if _, long := h.server.InUse(); long == 0 {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatal("the stream of a client that went away goes on")
		}
	}
	// The other is ended by the cleanup of the house, which waits for all.
	resp = h.raw(h.admin, "GET", at+"/jobs/"+id+"/events")
	t.Cleanup(func() { resp.Body.Close() })
}

func TestWait_AnswersInTimeHoweverTheJobIs(t *testing.T) {
	h := furnished(t, nil)
	begun := time.Now()
	g := h.want(201, h.admin, "POST", at+"/create?wait=1", `{}`).decode(t)
	if took := time.Since(begun); g["status"] != "pending" || took < time.Second || took > time.Minute {
		t.Errorf("%v after %v", g["status"], took)
	}
	h.run()
	g = h.want(201, h.admin, "POST", at+"/create?wait=60", `{}`).decode(t)
	if g["status"] != "completed" {
		t.Errorf("%v", g)
	}
}

func TestClient_WatchAsksWhereNoEventsCome(t *testing.T) {
	h := furnished(t, nil)
	id := h.want(201, h.admin, "POST", at+"/create", `{}`).decode(t)["id"].(string)
	// Something between that knows no streams.
	proxy := h.proxy(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/events") {
			http.Error(w, "no streams here", http.StatusBadGateway)
			return true
		}
		return false
	})
	c, err := api.NewClient(api.ClientOptions{Server: proxy, Token: h.admin})
	must(t, err)
	defer c.Close()
	steps := 0
	j, err := c.Watch(t.Context(), id, func(api.Job) {
		if steps++; steps == 1 {
			h.run()
		}
	})
	if err != nil || j.Status != "completed" || steps < 2 {
		t.Errorf("%+v, %d steps, %v", j, steps, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var e *api.Error
	if _, err := c.Watch(ctx, nobody, nil); !errors.As(err, &e) || e.Status != 404 {
		t.Errorf("of no job: %v", err)
	}
}

func TestVerify_NamesWhatCanNotBeRestored(t *testing.T) {
	h := furnished(t, nil)
	h.run()
	h.damage()
	j := h.want(202, h.admin, "POST", at+"/"+h.first+"/verify?wait=60", "").decode(t)
	if j["status"] != "failed" || j["verify_report"].(map[string]any)["sound"] != false {
		t.Errorf("%v", j)
	}
	if v := h.want(200, h.operator, "GET", at+"/"+h.first, "").decode(t)["verification"].(map[string]any); v["status"] != "verification_failed" {
		t.Errorf("%v", v)
	}
	for _, field := range []string{"Finding.object!", "Finding.message!", "Damaged.backup_id!", "Damaged.path!", "Damaged.path_base64", "Damaged.message!", "Verification.message!"} {
		if !h.contract.seen[field] {
			t.Errorf("%s was not seen", field)
		}
	}
}
