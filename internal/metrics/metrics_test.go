package metrics_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/generalbots/backupd/internal/metrics"
)

// shown is the exposition, without what the Go runtime and the process tell of themselves.
func shown(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		t.Fatalf("got %d %s\n%s", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	var out []string
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "backupd_") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

func want(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			t.Errorf("%q is not in:\n%s", line, text)
		}
	}
}

func TestHandler_ShowsWhatWasCounted(t *testing.T) {
	m := metrics.New(metrics.Options{Build: metrics.Build{Version: "1.2", Commit: "abc", Go: "go9"}})
	m.JobDone("backup", "completed", 3*time.Second)
	m.JobDone("backup", "completed", 0)
	m.JobDone("gc", "failed", time.Minute)
	m.BackupDone(metrics.Backup{BytesRead: 100, BytesNew: 50, BytesStored: 25, Problems: 2})
	m.BackupDone(metrics.Backup{BytesRead: 1, BytesStored: -4})
	m.Queue(4, 1)
	m.Request("/api/v1/backup/list", "GET", 200, 30*time.Millisecond)
	m.Request("/api/v1/backup/list", "BREW", 405, time.Millisecond)
	want(t, shown(t, m),
		`backupd_build_info{commit="abc",go_version="go9",version="1.2"} 1`,
		`backupd_jobs_total{kind="backup",state="completed"} 2`,
		`backupd_jobs_total{kind="gc",state="failed"} 1`,
		`backupd_job_duration_seconds_bucket{kind="backup",le="1"} 0`,
		`backupd_job_duration_seconds_bucket{kind="backup",le="5"} 1`,
		`backupd_job_duration_seconds_count{kind="backup"} 1`,
		`backupd_job_duration_seconds_sum{kind="gc"} 60`,
		`backupd_backup_read_bytes_total 101`,
		`backupd_backup_new_bytes_total 50`,
		`backupd_backup_stored_bytes_total 25`,
		`backupd_backup_problems_total 2`,
		`backupd_jobs_waiting 4`,
		`backupd_jobs_running 1`,
		`backupd_http_request_duration_seconds_bucket{code="200",method="GET",route="/api/v1/backup/list",le="0.025"} 0`,
		`backupd_http_request_duration_seconds_bucket{code="200",method="GET",route="/api/v1/backup/list",le="0.05"} 1`,
		`backupd_http_request_duration_seconds_count{code="405",method="other",route="/api/v1/backup/list"} 1`,
	)
}

// A clock that was ahead leaves times to come: an age is never less than nothing.
func TestHandler_AgesOfTimesToCome(t *testing.T) {
	ahead := time.Now().AddDate(10, 0, 0)
	facts := metrics.Facts{
		Sources:   map[string]time.Time{"bots": ahead},
		Schedules: map[string]metrics.Schedule{"schedule-1": {Name: "nightly", LastSuccess: ahead}},
		Verified:  ahead,
	}
	m := metrics.New(metrics.Options{Every: time.Minute, Read: func() metrics.Facts { return facts }})
	want(t, shown(t, m),
		`backupd_source_last_success_age_seconds{source="bots"} 0`,
		`backupd_schedule_last_success_age_seconds{name="nightly",schedule="schedule-1"} 0`,
		`backupd_verification_oldest_age_seconds 0`,
	)
}

// An age grows between two looks although the facts behind it are not read again, and what is gone is not shown.
func TestHandler_ComputesAgesAtEachLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		begin := time.Now() // 2000-01-01 in the bubble
		facts := metrics.Facts{
			Sources:   map[string]time.Time{"bots": begin.Add(-time.Minute), "drive": {}},
			Schedules: map[string]metrics.Schedule{"schedule-1": {Name: "nightly", LastSuccess: begin.Add(-time.Hour), NextRun: begin.Add(time.Hour)}},
			Backups:   3, StoredBytes: 1000, FreeBytes: 5000, Verified: begin.Add(-2 * time.Hour), VerificationFailed: 1,
		}
		m := metrics.New(metrics.Options{Every: 30 * time.Second, Read: func() metrics.Facts { reads++; return facts }})
		want(t, shown(t, m),
			fmt.Sprintf(`backupd_source_last_success_timestamp_seconds{source="bots"} %v`, float64(begin.Unix()-60)),
			`backupd_source_last_success_age_seconds{source="bots"} 60`,
			`backupd_source_last_success_timestamp_seconds{source="drive"} 0`,
			`backupd_source_last_success_age_seconds{source="drive"} +Inf`,
			`backupd_schedule_last_success_age_seconds{name="nightly",schedule="schedule-1"} 3600`,
			fmt.Sprintf(`backupd_schedule_next_run_timestamp_seconds{name="nightly",schedule="schedule-1"} %v`, float64(begin.Unix()+3600)),
			`backupd_backups 3`, `backupd_repository_stored_bytes 1000`, `backupd_repository_free_bytes 5000`,
			`backupd_verification_oldest_age_seconds 7200`, `backupd_verification_failed_backups 1`,
		)
		time.Sleep(20 * time.Second)
		want(t, shown(t, m), `backupd_source_last_success_age_seconds{source="bots"} 80`)
		if reads != 1 {
			t.Errorf("got %d reads within the time, want 1", reads)
		}
		facts = metrics.Facts{FreeBytes: -1}
		time.Sleep(20 * time.Second)
		text := shown(t, m)
		if reads != 2 {
			t.Errorf("got %d reads after the time, want 2", reads)
		}
		for _, gone := range []string{"bots", "schedule-1", "free_bytes", "oldest_age"} {
			if strings.Contains(text, gone) {
				t.Errorf("%s is still shown:\n%s", gone, text)
			}
		}
		want(t, text, `backupd_backups 0`, `backupd_verification_oldest_timestamp_seconds 0`)
	})
}
