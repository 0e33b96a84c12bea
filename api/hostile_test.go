package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/generalbots/backupd/api"
)

// dial opens a bare connection to the house.
func (h *house) dial() net.Conn {
	h.t.Helper()
	_, host, _ := strings.Cut(h.url, "://")
	c, err := net.Dial("tcp", host)
	must(h.t, err)
	h.t.Cleanup(func() { c.Close() })
	must(h.t, c.SetDeadline(time.Now().Add(2*time.Minute)))
	return c
}

// ends reads until the other side has closed, and returns what came.
func ends(t *testing.T, c net.Conn) string {
	t.Helper()
	data, err := io.ReadAll(c)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Errorf("the connection stays open after %q", data)
	}
	return string(data)
}

// quick has patience for a busy machine, and for nothing else.
func quick(o *api.Options) {
	o.Timeouts = api.Timeouts{Header: 2 * time.Second, Read: 3 * time.Second, Write: 10 * time.Second, Idle: 2 * time.Second, Drain: 10 * time.Second}
}

func TestIDs_OfAnyShapeAreNotFoundOrRefused(t *testing.T) {
	h := furnished(t, nil)
	escape := func(s string) string { return strings.ReplaceAll(url.PathEscape(s), ".", "%2E") }
	for _, id := range []string{
		"..", ".", "...", "../../etc/passwd", "..\\..", "%2e%2e", "%00", "\x00", "backup-", "BACKUP-01J9ZZZZZZZZZZZZZZZZZZZZZZ", h.first + "x", h.first[:20],
		strings.ToUpper(h.first), "backup-../../../../etc", "~", "*", "'; drop table", "<script>", "\xff\xfe", strings.Repeat("a", 8000), "list%2F..", "latest",
	} {
		for _, c := range []struct{ method, path string }{
			{"GET", at + "/ID"}, {"DELETE", at + "/ID"}, {"POST", at + "/restore/ID"}, {"GET", at + "/restore/ID/status"}, {"PUT", at + "/schedule/ID"},
			{"DELETE", at + "/schedule/ID"}, {"GET", at + "/ID/files"}, {"GET", at + "/ID/download"}, {"GET", at + "/ID/diff"}, {"POST", at + "/ID/verify"},
			{"GET", at + "/jobs/ID"}, {"GET", at + "/jobs/ID/events"}, {"DELETE", at + "/jobs/ID"},
		} {
			g := h.do(h.admin, c.method, strings.Replace(c.path, "ID", escape(id), 1), "")
			if g.status != 404 && g.status != 405 {
				t.Errorf("%s %s with %.40q: %d %s", c.method, c.path, id, g.status, g.body)
			}
			if strings.Contains(g.body, h.dir) || len(g.body) > 2000 {
				t.Errorf("%s %s with %.40q: %s", c.method, c.path, id, g.body)
			}
		}
	}
	for _, q := range []string{
		"path=../../../../etc/passwd", "path=%00", "path=%ff%fe", "path=/../../..", "path=" + strings.Repeat("a/", 3000), "path=" + url.QueryEscape(h.path("source/hello.txt")),
	} {
		if g := h.do(h.admin, "GET", at+"/"+h.first+"/files?"+q, ""); g.status >= 500 || g.status == 200 && !strings.HasPrefix(q, "path=/..") {
			t.Errorf("files?%.40s: %d %s", q, g.status, g.body)
		}
	}
	for _, q := range []string{"name=[", "name=", "name=a&limit=0", "name=a&limit=100000"} {
		h.want(400, h.admin, "GET", at+"/find?"+q, "")
	}
}

func TestPath_OfAMegabyteIsRefused(t *testing.T) {
	h := newHouse(t, quick)
	c := h.dial()
	go fmt.Fprintf(c, "GET %s/%s HTTP/1.1\r\nHost: x\r\n\r\n", at, strings.Repeat("a", 1<<20)) // the error is the other side's close
	if got := ends(t, c); !strings.HasPrefix(got, "HTTP/1.1 431 ") && got != "" {
		t.Errorf("%.100q", got)
	}
	h.want(200, h.admin, "GET", at+"/list", "")
}

func TestConnections_ThatAreSlowHalfOrGarbageAreClosedAndHarmNobody(t *testing.T) {
	h := newHouse(t, quick)
	// At the same time, as each takes a time that is given.
	t.Run("all", func(t *testing.T) { unwanted(t, h) })
	if g := h.want(200, h.admin, "GET", at+"/list", ""); g.body != "[]\n" {
		t.Errorf("something was made: %s", g.body)
	}
}

func unwanted(t *testing.T, h *house) {
	auth := "Authorization: Bearer " + h.operator + "\r\n"
	for name, c := range map[string]struct {
		send string
		drip time.Duration // between bytes
		half bool          // closes its side for writing
		want string        // how what comes begins, "" for nothing
	}{
		"silence":          {"", 0, false, ""},
		"half a line":      {"GET /heal", 0, false, "HTTP/1.1 400 "},
		"slow header":      {"GET /health HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("b", 40) + "\r\n\r\n", 200 * time.Millisecond, false, "HTTP/1.1 400 "}, // not one line within the time
		"garbage":          {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 garbage\r\n\r\n", 0, false, "HTTP/1.1 400 "},
		"no host":          {"GET /health HTTP/1.1\r\n\r\n", 0, false, "HTTP/1.1 400 "},
		"HTTP/2 in clear":  {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, false, "HTTP/1.1 "},
		"two lengths":      {"POST " + at + "/create HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", 0, false, "HTTP/1.1 400 "},
		"length and chunk": {"POST " + at + "/create HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Length: 5\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 0, false, "HTTP/1.1 "},
		"body that stops":  {"POST " + at + "/create HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Length: 50\r\n\r\n{\"type\":", 0, false, "HTTP/1.1 400 "},
		"half closed":      {"POST " + at + "/create HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Length: 50\r\n\r\n{\"type\":", 0, true, "HTTP/1.1 400 "},
		"idle after one":   {"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 0, false, "HTTP/1.1 200 "},
		"two credentials":  {"GET " + at + "/list HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + auth + auth + "\r\n", 0, false, "HTTP/1.1 400 "},
		"much header":      {"GET /health HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("b", 30<<10) + "\r\n\r\n", 0, false, "HTTP/1.1 431 "},
		"wrong escape":     {"GET " + at + "/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 0, false, "HTTP/1.1 400 "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := h.dial()
			go func() {
				if c.drip == 0 {
					_, _ = io.WriteString(conn, c.send) // the other side may close first
				}
				for i := range len(c.send) {
					if c.drip == 0 {
						break
					}
					if _, err := conn.Write([]byte{c.send[i]}); err != nil {
						return
					}
					time.Sleep(c.drip)
				}
				if c.half {
					_ = conn.(*net.TCPConn).CloseWrite()
				}
			}()
			if got := ends(t, conn); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
				t.Errorf("%.200q, want %q", got, c.want)
			}
		})
	}
}

func TestBody_ThatNeverEndsIsCutOff(t *testing.T) {
	h := newHouse(t, nil)
	c := h.dial()
	fmt.Fprintf(c, "POST %s/create HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n", at, h.operator)
	sent := atomic.Int64{}
	go func() {
		piece := fmt.Sprintf("10000\r\n%s\r\n", strings.Repeat(" ", 1<<16))
		for {
			n, err := io.WriteString(c, piece)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != 413 || !resp.Close {
		t.Errorf("%d, closes %v", resp.StatusCode, resp.Close)
	}
	time.Sleep(700 * time.Millisecond) // the library lingers half a second
	if n := sent.Load(); n > 32<<20 {
		t.Errorf("%d bytes were taken", n)
	}
}

func TestFailures_AreLimitedAndTheRightTokenStillGetsIn(t *testing.T) {
	h := newHouse(t, nil)
	limited := false
	for range 200 { // far more than are allowed at once; one a second is added
		if g := h.do("bkp_"+strings.Repeat("w", 43), "GET", at+"/list", ""); g.status == 429 {
			if g.header.Get("Retry-After") == "" || g.decode(t)["error"] != "rate_limited" {
				t.Errorf("%v %s", g.header, g.body)
			}
			// Who has no token is limited too, if a second has not passed.
			before := len(h.audit.records())
			if h.do("", "GET", at+"/list", "").status == 429 {
				limited = true
				if len(h.audit.records()) != before {
					t.Error("each 429 is audited")
				}
				break
			}
		}
	}
	if !limited {
		t.Error("nobody was limited")
	}
	h.want(200, h.admin, "GET", at+"/list", "")
}

func TestCalls_BeyondTheLimitAreToldToComeAgain(t *testing.T) {
	h := furnished(t, func(o *api.Options) {
		o.InFlight, o.Long, o.Timeouts.Queue = 1, 1, 20*time.Millisecond
	})
	id := h.want(201, h.admin, "POST", at+"/create", `{}`).decode(t)["id"].(string)
	// A call may have its answer and not yet have given its place back.
	h.inUse(0)
	first := h.raw(h.admin, "GET", at+"/jobs/"+id+"/events")
	defer first.Body.Close()
	h.inUse(0)
	g := h.want(503, h.admin, "GET", at+"/jobs/"+id+"/events", "")
	h.inUse(0)
	if g.header.Get("Retry-After") == "" || g.decode(t)["error"] != "service_unavailable" {
		t.Errorf("%v %s", g.header, g.body)
	}
	// Who can not wait gets an answer now; others get theirs beside the stream.
	if g := h.want(201, h.admin, "POST", at+"/create?wait=60", `{}`).decode(t); g["status"] != "pending" {
		t.Errorf("%v", g)
	}
	// A body that does not come holds the one place for short calls.
	slow := h.slow()
	h.want(503, h.admin, "GET", at+"/list", "")
	h.want(200, "", "GET", "/healthz", "")
	slow.Close()
}

func TestPanic_IsASanitisedAnswerAndAnEntryInTheLog(t *testing.T) {
	h := newHouse(t, func(o *api.Options) {
		o.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("the secret of /var/lib") })
	})
	g := h.want(500, h.admin, "GET", "/metrics", "")
	if strings.Contains(g.body, "secret") || g.decode(t)["error"] != "internal_error" || g.decode(t)["request_id"] != g.header.Get("X-Request-Id") {
		t.Errorf("%s", g.body)
	}
	if text := h.log.String(); !strings.Contains(text, "the secret of /var/lib") || !strings.Contains(text, g.header.Get("X-Request-Id")) {
		t.Errorf("log: %s", text)
	}
	h.want(200, "", "GET", "/health", "")
	h.seen.mu.Lock()
	defer h.seen.mu.Unlock()
	if h.seen.seen["GET /metrics 500"] != 1 || h.seen.seen["GET /health 200"] != 1 {
		t.Errorf("counted %v", h.seen.seen)
	}
}

func TestMetrics_AreForThisHostAndAdministrators(t *testing.T) {
	h := newHouse(t, nil)
	for _, c := range []struct {
		token  string
		header string
		status int
	}{
		{"", "Accept: text/plain", 200}, {"", "X-Forwarded-For: 192.0.2.7", 401}, {"", "Forwarded: for=192.0.2.7", 401}, {"", "Via: 1.1 caddy", 401},
		{h.admin, "X-Forwarded-For: 192.0.2.7", 200}, {h.operator, "X-Forwarded-For: 192.0.2.7", 403},
	} {
		if g := h.do(c.token, "GET", "/metrics", "", c.header, "Accept-Encoding: identity"); g.status != c.status {
			t.Errorf("%s: %d, want %d", c.header, g.status, c.status)
		}
	}
}

func TestReads_TwoThousandAtOnceAreAnswered(t *testing.T) {
	h := furnished(t, func(o *api.Options) {
		o.Timeouts.Queue, o.Timeouts.Read, o.Timeouts.Write = 5*time.Minute, 5*time.Minute, 5*time.Minute
	})
	h.run()
	before := runtime.NumGoroutine()
	paths := []string{"/list", "/" + h.first, "/" + h.first + "/files?path=" + url.QueryEscape(h.path("source")), "/jobs", "/sources", "/stats", "/" + nobody}
	var all sync.WaitGroup
	var failed atomic.Int64
	for i := range 2000 {
		all.Go(func() {
			g := h.do(h.operator, "GET", at+paths[i%len(paths)], "")
			if want := map[bool]int{true: 404, false: 200}[i%len(paths) == 6]; g.status != want {
				failed.Add(1)
				t.Errorf("%s: %d %s", paths[i%len(paths)], g.status, g.body)
			}
		})
	}
	for range 3 {
		all.Go(func() { h.want(201, h.operator, "POST", at+"/create?wait=60", `{}`) })
	}
	all.Wait()
	h.client.CloseIdleConnections()
	for begun := time.Now(); runtime.NumGoroutine() > before+50; time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), before)
		}
	}
}
