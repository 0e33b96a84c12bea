package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/state"
)

// condition is the status of /api/health.
func (d *served) condition() int {
	d.h.t.Helper()
	return d.call("GET", "/api/health", "", "").code
}

func (d *served) becomes(want int, said string) {
	d.h.t.Helper()
	d.until(fmt.Sprintf("/api/health says %d: %s", want, said), func() bool { return d.condition() == want && strings.Contains(d.logged(), said) })
	if a := d.call("GET", "/health", "", ""); a.code != http.StatusOK {
		d.h.t.Errorf("/health: got %d", a.code)
	}
}

func TestServe_LimitsOfTheConfigurationAreHeeded(t *testing.T) {
	h := newHost(t)
	h.more = "limits: {body_size: 2 KiB, requests_per_second: 3, job_history: 48h}\n"
	h.configure(fmt.Sprintf("{name: slow, kind: files, paths: [%q], hooks: {before: [/bin/sleep, \"60\"], timeout: 1s}}", h.path("src")))
	token := h.token("admin")
	d := h.start()
	if strings.Contains(d.logged(), "not heeded") {
		t.Errorf("it says that a key is not heeded:\n%s", d.logged())
	}
	if a := d.call("POST", base+"/create", token, `{"sources": ["slow"]`+strings.Repeat(" ", 3000)+"}"); a.code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of 3 KiB: got %d", a.code)
	}
	a := d.call("POST", base+"/create?wait=30", token, `{"sources": ["slow"]}`)
	if a.code != http.StatusCreated || a.m["status"] != "failed" {
		t.Errorf("a hook beyond its time: got %d %s", a.code, a.body)
	}
	codes := map[int]int{}
	for range 30 {
		codes[d.call("GET", base+"/list", token, "").code]++
	}
	if codes[http.StatusTooManyRequests] == 0 || codes[http.StatusOK] == 0 || len(codes) != 2 {
		t.Errorf("of 30 calls at once: %v", codes)
	}
}

func TestServe_HealthTellsOfAFullStateDirectory(t *testing.T) {
	h := newHost(t)
	if err := os.MkdirAll(h.path("state"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("small", h.path("state"), "tmpfs", 0, "size=96m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(h.path("state"), unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	h.token("admin")
	d := h.start()
	if got := d.condition(); got != http.StatusOK {
		t.Errorf("at the start: got %d\n%s", got, d.logged())
	}
	f, err := os.Create(filepath.Join(h.path("state"), "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 64<<10))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	d.becomes(http.StatusServiceUnavailable, "free space there")
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	d.becomes(http.StatusOK, "can do its work again")
}

func TestServe_HealthTellsOfAReadOnlyRepository(t *testing.T) {
	h := newHost(t)
	h.token("admin")
	d := h.start()
	d.finished(d.backup())
	d.end(syscall.SIGTERM)
	h.copied("repo", "older")
	d = h.start()
	d.finished(d.backup())
	if got := d.condition(); got != http.StatusOK {
		t.Errorf("got %d\n%s", got, d.logged())
	}
	d.end(syscall.SIGTERM)
	if err := os.RemoveAll(h.path("repo")); err != nil {
		t.Fatal(err)
	}
	h.copied("older", "repo")
	d = h.start()
	if got := d.condition(); got != http.StatusServiceUnavailable || !strings.Contains(d.logged(), "can not do all its work") {
		t.Errorf("an older copy of the repository: got %d\n%s", got, d.logged())
	}
	// Once it is accepted the daemon goes on by itself: a look at the list sees it, or the next minute does.
	h.must("repo", "check", "--accept-head", "--config", h.configFile())
	d.until("the daemon is well again", func() bool {
		d.call("GET", base+"/list", h.token("admin"), "")
		return d.condition() == http.StatusOK
	})
	d.finished(d.backup())
}

func TestServe_HealthTellsOfAFileSystemThatTurnedReadOnly(t *testing.T) {
	h := newHost(t)
	h.token("admin")
	d := h.start()
	if got := d.condition(); got != http.StatusOK {
		t.Errorf("at the start: got %d\n%s", got, d.logged())
	}
	// Over the repository comes a view of it that can not be written to.
	path := h.path("repo")
	if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	gone := sync.OnceFunc(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(gone)
	if err := unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	d.becomes(http.StatusServiceUnavailable, "can not be written to")
	gone()
	d.becomes(http.StatusOK, "can do its work again")
	d.finished(d.backup())
}

func (h *bothost) copied(from, to string) {
	h.t.Helper()
	if err := os.CopyFS(h.path(to), os.DirFS(h.path(from))); err != nil {
		h.t.Fatal(err)
	}
}

// finished waits for the end of a backup.
func (d *served) finished(id string) {
	d.h.t.Helper()
	d.until("backup "+id+" is complete", func() bool { return d.status(id) == "completed" })
}

// A schedule nobody hears of any more is what a backup daemon must not be silent about.
func TestServe_HealthTellsOfAScheduleWithoutAGoodBackup(t *testing.T) {
	h := newHost(t)
	open := h.waiting()
	token := h.token("admin")
	d := h.start()
	a := d.call("POST", base+"/schedule", token, `{"cron": "@daily", "sources": ["slow"]}`)
	id, _ := a.m["schedule_id"].(string)
	if a.code != http.StatusCreated || id == "" {
		t.Fatalf("got %d %s", a.code, a.body)
	}
	if got := d.condition(); got != http.StatusOK {
		t.Errorf("a new schedule: got %d\n%s", got, d.logged())
	}
	about := d.call("GET", base+"/stats", token, "").m["repository_id"]
	d.end(syscall.SIGTERM)
	db, err := state.Open(filepath.Join(h.path("state"), stateName), fmt.Sprint(about))
	if err != nil {
		t.Fatal(err)
	}
	s, err := db.Schedule(id)
	if err != nil {
		t.Fatal(err)
	}
	ago := time.Now().UTC().AddDate(0, 0, -5)
	s.CreatedAt, s.UpdatedAt, s.LastDue = ago, ago, ago
	if err := errors.Join(db.PutSchedule(s), db.Close()); err != nil {
		t.Fatal(err)
	}
	d = h.start()
	d.becomes(http.StatusServiceUnavailable, id)
	open() // what was missed is caught up
	d.becomes(http.StatusOK, "can do its work again")
}
