package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/generalbots/backupd/api"
)

// ask runs a command that asks the daemon, as admin.
func (d *served) ask(args ...string) (stdout, stderr string, code int) {
	d.h.t.Helper()
	return d.askAs(d.h.token("admin"), args...)
}

func (d *served) askAs(token string, args ...string) (stdout, stderr string, code int) {
	d.h.t.Helper()
	var out, errs bytes.Buffer
	cmd := d.h.command(args...)
	cmd.Env = append(cmd.Env, "BACKUPD_SERVER="+d.scheme+"://"+d.address, "BACKUPD_TOKEN="+token)
	cmd.Stdout, cmd.Stderr = &out, &errs
	code = exitCode(d.h.t, cmd.Run())
	return out.String(), errs.String(), code
}

// gets runs such a command, which must end with the code, and returns standard output without its last line end.
func (d *served) gets(want int, args ...string) string {
	d.h.t.Helper()
	out, errs, code := d.ask(args...)
	if code != want {
		d.h.t.Fatalf("%q: got exit code %d, want %d\n%s%s", args, code, want, out, errs)
	}
	return strings.TrimSuffix(out, "\n")
}

// decode reads exactly one JSON value.
func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if dec.More() {
		t.Fatalf("more than one value:\n%s", text)
	}
	return v
}

func TestRemote_FromCreateToDelete(t *testing.T) {
	h := newHost(t)
	h.token("admin")
	d := h.start()
	if got := d.gets(exitDone, "list", "--json"); got != "[]" {
		t.Errorf("an empty list: got %q", got)
	}
	d.gets(exitNotFound, "show", "latest")
	id := d.gets(exitDone, "create", "--wait", "--tag", "first")
	if !strings.HasPrefix(id, "backup-") || strings.Contains(id, "\n") {
		t.Fatalf("standard output is not the id alone: %q", id)
	}
	if list := decode[[]api.Backup](t, d.gets(exitDone, "list", "--json", "--tag", "first")); len(list) != 1 || list[0].ID != id || list[0].Status != "completed" {
		t.Errorf("got %+v", list)
	}
	if list := decode[[]api.Backup](t, d.gets(exitDone, "list", "--json", "--status", "failed")); len(list) != 0 {
		t.Errorf("failed ones: got %+v", list)
	}
	if !strings.Contains(d.gets(exitDone, "list"), id) {
		t.Error("the table does not have it")
	}
	for _, word := range []string{id, "latest", id[:20], strings.TrimPrefix(id, "backup-")[:15]} {
		if b := decode[api.BackupDetails](t, d.gets(exitDone, "show", word, "--json")); b.ID != id || b.Counts.Files != 14 {
			t.Errorf("show %s: got %+v", word, b)
		}
	}
	if text := d.gets(exitDone, "show", "latest"); !strings.Contains(text, "token:admin") || !strings.Contains(text, "bots (files)") {
		t.Errorf("got %s", text)
	}
	job := d.gets(exitDone, "restore", "latest", "--wait")
	if digest(t, h.path("staging"+h.path("src"))) != digest(t, h.path("src")) {
		t.Error("what was restored is not what was backed up")
	}
	if j := decode[api.JobDetails](t, d.gets(exitDone, "status", job, "--json")); j.Status != "completed" || j.Kind != "restore" {
		t.Errorf("got %+v", j)
	}
	// What stands there and differs is left alone and told, unless it is to be replaced.
	one := h.path("staging" + h.path("src/noise.bin"))
	if err := os.WriteFile(one, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, said, code := d.ask("restore", "latest", "--wait"); code != exitProblems || !strings.Contains(said, "--overwrite") {
		t.Errorf("over something else: got exit code %d\n%s", code, said)
	}
	d.gets(exitDone, "restore", "latest", h.path("src/noise.bin"), "--overwrite", "always", "--wait")
	if got := sure(os.ReadFile(one)); !bytes.Equal(got, sure(os.ReadFile(h.path("src/noise.bin")))) {
		t.Error("it was not replaced")
	}
	if _, said, code := d.ask("restore", "latest", "--target", "nowhere"); code != exitFailed || !strings.Contains(said, "staging") {
		t.Errorf("an unknown target: got exit code %d\n%s", code, said)
	}
	whole := decode[struct {
		Stats   api.Stats    `json:"stats"`
		Sources []api.Source `json:"sources"`
	}](t, d.gets(exitDone, "status", "--json"))
	if whole.Stats.Backups != 1 || len(whole.Sources) != 1 || whole.Sources[0].LastBackupID == nil {
		t.Errorf("got %+v", whole)
	}
	metrics := string(d.call("GET", "/metrics", "", "").body)
	for _, line := range []string{
		`backupd_jobs_total{kind="backup",state="completed"} 1`, `backupd_backups 1`, `backupd_source_last_success_age_seconds{source="bots"} `,
		`backupd_http_request_duration_seconds_count{code="201",method="POST",route="/api/v1/backup/create"} 1`,
	} {
		if !strings.Contains(metrics, "\n"+line) {
			t.Errorf("%s is not in the metrics:\n%s", line, metrics)
		}
	}
	if strings.Contains(metrics, `age_seconds{source="bots"} +Inf`) || strings.Contains(metrics, "backupd_backup_read_bytes_total 0") {
		t.Errorf("the backup is not in the metrics:\n%s", metrics)
	}
	d.gets(exitFailed, "delete", "latest")
	if got := d.gets(exitDone, "delete", id[:20]); got != id {
		t.Errorf("got %q", got)
	}
	d.gets(exitNotFound, "delete", id)
	if !strings.Contains(d.gets(exitDone, "__complete", "show", ""), "latest") {
		t.Error("completion does not know latest")
	}
	if code := d.end(syscall.SIGTERM); code != 0 {
		t.Errorf("got exit code %d", code)
	}
	if _, said, code := d.ask("list"); code != exitFailed || !strings.Contains(said, "can not be asked") {
		t.Errorf("without a daemon: got exit code %d\n%s", code, said)
	}
	h.must("repo", "check", "--read-data", "--config", h.configFile())
}

func TestRemote_WhoMayAndWhoMayNot(t *testing.T) {
	h := newHost(t)
	h.token("admin")
	operator := h.token("backup_operator")
	d := h.start()
	if _, _, code := d.askAs(operator, "create", "--wait"); code != exitDone {
		t.Errorf("an operator creates: got exit code %d", code)
	}
	if _, said, code := d.askAs(operator, "restore", "latest"); code != exitFailed || !strings.Contains(said, "admin") {
		t.Errorf("an operator restores: got exit code %d\n%s", code, said)
	}
	if _, said, code := d.askAs("bkp_nonsense", "list"); code != exitWrongKey || strings.Contains(said, "nonsense") {
		t.Errorf("a wrong token: got exit code %d\n%s", code, said)
	}
	if _, said, code := d.askAs("", "list"); code != exitFailed || !strings.Contains(said, "which token?") {
		t.Errorf("no token: got exit code %d\n%s", code, said)
	}
	h.write("token", operator+"\n")
	if _, said, code := d.askAs("", "list", "--token-file", h.path("token")); code != exitDone {
		t.Errorf("a token in a file: got exit code %d\n%s", code, said)
	}
	d.end(syscall.SIGTERM)
}

func TestRemote_LifeOfASchedule(t *testing.T) {
	h := newHost(t)
	h.token("admin")
	d := h.start()
	if _, said, code := d.ask("schedule", "create", "--cron", "61 * * * *"); code != exitFailed || !strings.Contains(said, "cron") {
		t.Errorf("a wrong time: got exit code %d\n%s", code, said)
	}
	id := d.gets(exitDone, "schedule", "create", "--name", "nightly", "--cron", "0 2 * * *", "--timezone", "Europe/Berlin", "--retention-days", "30")
	s := decode[[]api.Schedule](t, d.gets(exitDone, "schedule", "list", "--json"))
	if len(s) != 1 || s[0].ID != id || s[0].Type != "incremental" || s[0].RetentionDays != 30 || s[0].NextRun == nil || !s[0].Enabled {
		t.Fatalf("got %+v", s)
	}
	paused := decode[api.Schedule](t, d.gets(exitDone, "schedule", "update", id, "--paused", "--json"))
	if paused.Enabled || paused.NextRun != nil || paused.Cron != "0 2 * * *" || paused.RetentionDays != 30 || paused.Timezone != "Europe/Berlin" {
		t.Errorf("paused: got %+v", paused)
	}
	// It is there after a life.
	d.end(syscall.SIGKILL)
	d = h.start()
	if text := d.gets(exitDone, "schedule", "update", id, "--enabled", "--type", "full"); !strings.Contains(text, "nightly") || !strings.Contains(text, "full") {
		t.Errorf("got %s", text)
	}
	if got := d.gets(exitDone, "schedule", "delete", id); got != id {
		t.Errorf("got %q", got)
	}
	d.gets(exitNotFound, "schedule", "delete", id)
	if got := d.gets(exitDone, "schedule", "list", "--json"); got != "[]" {
		t.Errorf("got %s", got)
	}
	d.end(syscall.SIGTERM)
}

// Who stops waiting is told that the job goes on, and it does.
func TestRemote_AnInterruptedWaitLeavesTheJob(t *testing.T) {
	h := newHost(t)
	open := h.waiting()
	h.token("admin")
	d := h.start()
	// What stands between tells when the command watches.
	watches := make(chan struct{}, 100)
	between := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: d.address})
		if strings.HasSuffix(r.In.URL.Path, "/events") {
			watches <- struct{}{}
		}
	}, ErrorLog: log.New(io.Discard, "", 0)}) // it would tell of who stops watching
	defer between.Close()
	var out, errs bytes.Buffer
	cmd := h.command("create", "--wait")
	cmd.Env = append(cmd.Env, "BACKUPD_SERVER="+between.URL, "BACKUPD_TOKEN="+h.token("admin"))
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.until("the backup runs", func() bool { _, err := os.Stat(h.path("go.begun")); return err == nil })
	select {
	case <-watches:
	case <-time.After(3 * time.Minute):
		t.Error("the command does not watch")
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := exitCode(t, cmd.Wait()); code != exitInterrupted || !strings.Contains(errs.String(), "goes on") {
		t.Errorf("got exit code %d\n%s", code, &errs)
	}
	list := decode[[]api.Backup](t, d.gets(exitDone, "list", "--json"))
	if len(list) != 1 || list[0].Status != "in_progress" {
		t.Fatalf("got %+v", list)
	}
	open()
	d.gets(exitDone, "status", list[0].ID, "--wait")
	d.end(syscall.SIGTERM)
}

// A backup that could not do all ends with 3, one that failed with 1, and both say why.
func TestRemote_ExitCodesOfWhatWasWaitedFor(t *testing.T) {
	h := newHost(t)
	h.configure(`{name: gone, kind: files, paths: ["` + h.path("gone") + `"]}`)
	h.token("admin")
	d := h.start()
	if out, said, code := d.ask("create", "--wait"); code != exitProblems || !strings.Contains(said, h.path("gone")) || !strings.HasPrefix(out, "backup-") {
		t.Errorf("with a source that is not there: got exit code %d\n%s%s", code, out, said)
	}
	if out, said, code := d.ask("create", "--wait", "--source", "gone"); code != exitFailed || !strings.Contains(said, "failed") {
		t.Errorf("of nothing but that: got exit code %d\n%s%s", code, out, said)
	}
	if _, said, code := d.ask("create", "--source", "unknown"); code != exitFailed || !strings.Contains(said, "sources") {
		t.Errorf("an unknown source: got exit code %d\n%s", code, said)
	}
	d.end(syscall.SIGTERM)
}

func TestRemote_OverTLSAndSocket(t *testing.T) {
	h := newHost(t)
	h.certify(1, time.Hour)
	h.more = "tls: {cert_file: " + h.path("crt") + ", key_file: " + h.path("crt.key") + "}\n"
	h.configure()
	h.token("admin")
	d := h.start()
	d.scheme = "https"
	d.gets(exitFailed, "list")
	d.gets(exitDone, "list", "--ca-file", h.path("crt"))
	d.end(syscall.SIGTERM)

	short := sure(os.MkdirTemp("", "u"))
	t.Cleanup(func() { os.RemoveAll(short) })
	h.listen, h.more = "unix:"+filepath.Join(short, "api"), ""
	h.configure()
	d = h.start()
	d.gets(exitDone, "list", "--server", h.listen)
	d.end(syscall.SIGTERM)
}
