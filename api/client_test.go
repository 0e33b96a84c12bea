package api_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/api"
)

// proxy stands before the house. What first answers is not passed on.
func (h *house) proxy(first func(http.ResponseWriter, *http.Request) bool) string {
	to, err := url.Parse(h.url)
	must(h.t, err)
	pass := httputil.NewSingleHostReverseProxy(to)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !first(w, r) {
			pass.ServeHTTP(w, r)
		}
	}))
	h.t.Cleanup(s.Close)
	return s.URL
}

func TestClient_SpeaksEveryCall(t *testing.T) {
	h := furnished(t, nil)
	h.run()
	must(t, os.WriteFile(h.path("source/new\xff.md"), []byte("new"), 0o600))
	c, ctx := h.newClient(h.admin), t.Context()
	days := 3
	b, err := c.Create(ctx, api.BackupRequest{Type: "incremental", Tags: []string{"x"}, RetentionDays: &days}, api.Once{Key: "k", Wait: time.Minute})
	if err != nil || b.Status != "completed" || b.ExpiresAt == nil || *b.BaseID != h.first {
		t.Fatalf("%+v, %v", b, err)
	}
	if list, total, err := c.List(ctx, api.ListFilter{Type: []string{"incremental"}, Status: []string{"completed"}, Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour), Page: api.Page{Limit: 1}}); err != nil || total != 1 || list[0].ID != b.ID {
		t.Errorf("%v, %d, %v", list, total, err)
	}
	if d, err := c.Backup(ctx, b.ID); err != nil || len(d.Parts) != 1 || d.Counts.Unchanged != 2 && d.Counts.Unchanged != 3 {
		t.Errorf("%+v, %v", d, err)
	}
	files, total, err := c.Files(ctx, b.ID, h.path("source"), api.Page{Limit: 2})
	if err != nil || total != 4 || len(files) != 2 || files[0].Name != "docs" || files[1].Path.Path != h.path("source/hello.txt") || files[1].SizeBytes != 5 || files[1].Mode != "0644" {
		t.Errorf("%+v, %d, %v", files, total, err)
	}
	matches, truncated, err := c.Find(ctx, "*.txt", 0)
	if err != nil || truncated || len(matches) != 2 || matches[0].BackupID != b.ID {
		t.Errorf("%+v, %v, %v", matches, truncated, err)
	}
	if matches, truncated, err = c.Find(ctx, "*.txt", 1); err != nil || !truncated || len(matches) != 1 {
		t.Errorf("%+v, %v, %v", matches, truncated, err)
	}
	d, err := c.Diff(ctx, b.ID, "", 0)
	if err != nil || d.BaseID != h.first || d.Truncated || d.Totals.Added != 1 || d.Totals.BytesAdded != 3 || d.Totals.Removed+d.Totals.Changed != 0 {
		t.Errorf("%+v, %v", d, err)
	}
	added := 0
	for _, ch := range d.Changes {
		if ch.Kind == "added" && ch.Path.Path == h.path("source/new\uFFFD.md") && ch.Raw != nil && ch.OldSize == nil && *ch.NewSize == 3 {
			added++
		}
	}
	if added != 1 {
		t.Errorf("%+v", d)
	}
	if d, err := c.Diff(ctx, h.first, b.ID, 1); err != nil || d.BaseID != b.ID || !d.Truncated || len(d.Changes) != 1 {
		t.Errorf("%+v, %v", d, err)
	}
	r, err := c.Restore(ctx, b.ID, api.RestoreRequest{Target: "other", Paths: []string{h.path("source/hello.txt")}}, api.Once{Wait: time.Minute})
	if err != nil || r.Status != "completed" {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err = c.RestoreStatus(ctx, r.JobID); err != nil || r.Report.Files != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	j, err := c.Verify(ctx, b.ID, api.Once{Wait: time.Minute})
	if err != nil || j.Verify == nil || !j.Verify.Sound {
		t.Errorf("%+v, %v", j, err)
	}
	if d, err := c.Backup(ctx, b.ID); err != nil || d.Verification.Status != "verified" {
		t.Errorf("%+v, %v", d.Verification, err)
	}
	cron, off := "30 3 * * 0", false
	s, err := c.CreateSchedule(ctx, api.ScheduleRequest{Cron: &cron}, api.Once{})
	if err != nil || s.NextRun == nil {
		t.Fatalf("%+v, %v", s, err)
	}
	if s, err = c.UpdateSchedule(ctx, s.ID, api.ScheduleRequest{Enabled: &off}); err != nil || s.Enabled || s.Cron != cron {
		t.Errorf("%+v, %v", s, err)
	}
	if list, total, err := c.Schedules(ctx, api.Page{}); err != nil || total != 1 || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	must(t, c.DeleteSchedule(ctx, s.ID))
	if list, total, err := c.Jobs(ctx, api.ListFilter{Kind: []string{"restore", "verify"}}); err != nil || total != 2 || len(list) != 2 {
		t.Errorf("%v, %d, %v", list, total, err)
	}
	if j, err = c.Job(ctx, r.JobID); err != nil || j.Restore == nil {
		t.Errorf("%+v, %v", j, err)
	}
	var e *api.Error
	if _, err = c.Cancel(ctx, r.JobID); !errors.As(err, &e) || e.Status != 409 || e.JobID != r.JobID || e.RequestID == "" || e.Code != "conflict" {
		t.Errorf("%v", err)
	}
	if st, err := c.Stats(ctx); err != nil || st.Backups != 2 || st.Repository == nil || st.Repository.Chunks == 0 || st.DiskFreeBytes == nil {
		t.Errorf("%+v, %v", st, err)
	}
	if l, err := c.Sources(ctx); err != nil || len(l) != 1 || *l[0].LastBackupID != b.ID {
		t.Errorf("%+v, %v", l, err)
	}
	if l, err := c.Targets(ctx); err != nil || len(l) != 2 {
		t.Errorf("%+v, %v", l, err)
	}
	must(t, c.Delete(ctx, b.ID))
	if _, err = c.Backup(ctx, b.ID); !errors.As(err, &e) || e.Status != 404 {
		t.Errorf("%v", err)
	}
	if x, err := c.Health(ctx); err != nil || x != (api.Health{Status: "ok", Service: "backupd", Version: "1.2.3", Commit: "abcdef"}) {
		t.Errorf("%+v, %v", x, err)
	}
	if _, err = c.Create(ctx, api.BackupRequest{Type: "x"}, api.Once{}); !errors.As(err, &e) || e.Field != "type" || !strings.HasPrefix(e.Error(), "type has to be one of ") {
		t.Errorf("%v", err)
	}
}

func TestClient_SpeaksOverAUnixSocket(t *testing.T) {
	h := furnished(t, nil)
	dir, err := os.MkdirTemp("", "api") // a socket's path is short
	must(t, err)
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", dir+"/s")
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.server.Serve(ctx, l) }()
	c, err := api.NewClient(api.ClientOptions{Server: "unix:" + dir + "/s", Token: h.admin})
	must(t, err)
	if list, _, err := c.List(t.Context(), api.ListFilter{}); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	c.Close()
	stop()
	must(t, <-ended)
	if _, err := c.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "can not be asked") {
		t.Errorf("after the end: %v", err)
	}
}

func TestClient_RefusesWhatWouldLeakOrMislead(t *testing.T) {
	for _, server := range []string{"", "localhost:9000", "ftp://h", "http://user:secret@h:9000", "http://h/path", "http://h?q", "unix:", "http://"} {
		if _, err := api.NewClient(api.ClientOptions{Server: server}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", server, err)
		}
	}
	if _, err := api.NewClient(api.ClientOptions{Server: "http://h", Token: "a\nb"}); err == nil {
		t.Error("a token of two lines")
	}
	// A redirect is not followed: the token would go along.
	asked := false
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer thief.Close()
	s := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusTemporaryRedirect))
	defer s.Close()
	c, err := api.NewClient(api.ClientOptions{Server: s.URL, Token: "bkp_secret"})
	must(t, err)
	var e *api.Error
	if _, _, err := c.List(t.Context(), api.ListFilter{}); !errors.As(err, &e) || e.Code != "unexpected_answer" || strings.Contains(err.Error(), "secret") || asked {
		t.Errorf("%v, asked %v", err, asked)
	}
}
