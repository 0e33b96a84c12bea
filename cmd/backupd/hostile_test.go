package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// badInputs is how many requests are spoilt; HOSTILE_SCALE multiplies it.
const badInputs = 4000

// pieces are put into requests where they hurt.
var pieces = []string{
	"\x00", "\xff\xfe", "..", "../../../../etc/passwd", "%2e%2e%2f", "%00", "%", "%zz", "\r\n", "\r\n\r\n", "\n", " ", "\t", "{", "}", "[", "]", `"`, `\u0000`, "null",
	"-1", "1e309", "99999999999999999999", "true", "Content-Length: 0\r\n", "Content-Length: -1\r\n", "Content-Length: 99999999999\r\n",
	"Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\n", "Upgrade: h2c\r\n", "Authorization: Bearer x\r\n", "Host: y\r\n", "Idempotency-Key: \xe4\r\n",
	"Origin: https://evil.example\r\n", "?wait=60", "?limit=-1&offset=9223372036854775807", ";a=b", "#", "//", "\\", "HTTP/0.9", "HTTP/2.0",
	strings.Repeat("[", 3000), strings.Repeat("a", 20_000), strings.Repeat(`{"a":`, 500),
}

// spoil changes a request in a few places.
func spoil(rng *rand.Rand, request string) string {
	for range 1 + rng.IntN(4) {
		at := rng.IntN(len(request) + 1)
		end := min(len(request), at+rng.IntN(12))
		switch rng.IntN(5) {
		case 0: // a piece is lost
			request = request[:at] + request[end:]
		case 1: // a piece comes twice
			request = request[:end] + request[at:]
		case 2: // a byte is another one
			if at < len(request) {
				request = request[:at] + string([]byte{byte(rng.Uint32())}) + request[at+1:]
			}
		case 3: // the rest is lost
			if rng.IntN(4) == 0 {
				request = request[:at]
			}
		default: // something is put in
			request = request[:at] + pieces[rng.IntN(len(pieces))] + request[at:]
		}
	}
	return request
}

// Thousands of spoilt requests, most of them with a good token, are answered as what they are, or not at all: none with a
// failure of the daemon, which is as well afterwards as before.
func TestHostile_SpoiltRequestsAreAnsweredAndHarmNothing(t *testing.T) {
	inputs := badInputs
	if n, err := strconv.Atoi(os.Getenv("HOSTILE_SCALE")); err == nil {
		inputs *= n
	}
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("HOSTILE_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("HOSTILE_SEED=%d", seed)
	h := newHost(t)
	h.more = "limits: {requests_per_second: 100000, queued_jobs: 20}\n"
	h.configure()
	token := h.token("admin")
	d := h.start()
	kept := d.backup()
	d.finished(kept)
	quiet, err := anonymous(d.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	var requests []string
	for _, call := range []string{
		"POST /create " + `{"type": "full", "include_files": true, "tags": ["a", "b"], "retention_days": 30}`, "GET /list?status=completed&limit=10&since=2026-01-01T00:00:00Z ",
		"GET /" + kept + " ", "DELETE /backup-00000000000000000000000000 ", "POST /restore/" + kept + ` {"target": "staging", "paths": ["/a"], "dry_run": true}`,
		"GET /restore/restore-00000000000000000000000000/status ", "POST /schedule " + `{"cron": "0 2 * * *", "type": "full", "timezone": "Europe/Berlin", "retention_days": 30}`,
		"PUT /schedule/schedule-00000000000000000000000000 " + `{"enabled": false}`, "GET /" + kept + "/files?path=/ ", "GET /" + kept + "/download?path=/&format=zip ",
		"GET /" + kept + "/diff ", "GET /find?name=*.txt&limit=5 ", "GET /jobs?kind=backup ", "GET /stats ", "POST /" + kept + "/verify ",
	} {
		line, body, _ := strings.Cut(call[strings.Index(call, " ")+1:], " ")
		requests = append(requests, fmt.Sprintf("%s %s%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
			call[:strings.Index(call, " ")], base, line, token, len(body), body))
	}
	codes := map[int]int{} // 0: no answer
	var mu sync.Mutex      // guards codes
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for range inputs / 16 {
				request := spoil(rng, requests[rng.IntN(len(requests))])
				code := shout(t, d.address, request)
				if code >= 500 && code != http.StatusServiceUnavailable && code != http.StatusNotImplemented && code != http.StatusHTTPVersionNotSupported {
					t.Errorf("%d for %.500q", code, request)
				}
				mu.Lock()
				codes[code]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	t.Logf("%d spoilt requests: %v", inputs, codes)
	if codes[400] == 0 || codes[401] == 0 || codes[404] == 0 {
		t.Error("hardly a request was spoilt")
	}
	if log := d.logged(); strings.Contains(log, "bug of ours") || strings.Contains(log, "came to nothing") {
		t.Errorf("something went wrong:\n%.5000s", log[max(0, strings.Index(log, "level=ERROR")):])
	}
	if a := d.call("GET", "/api/health", "", ""); a.code != http.StatusOK {
		t.Errorf("its health: got %d", a.code)
	}
	d.finished(kept)
	loud, err := anonymous(d.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("memory %d MiB before, %d MiB after", quiet>>20, loud>>20)
	if loud-quiet > crowdMemory {
		t.Errorf("memory grew by %d MiB", (loud-quiet)>>20)
	}
	if code := d.end(syscall.SIGTERM); code != 0 {
		t.Errorf("got exit code %d\n%s", code, d.logged())
	}
	h.must("repo", "check", "--read-data", "--config", h.configFile())
}

// shout sends bytes, closes its half, and returns the status of the answer, 0 without one.
func shout(t *testing.T, address, request string) int {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer conn.Close()
	// A call that waits for a job, as a spoilt one may ask to, has a minute for that and more.
	if err := conn.SetDeadline(time.Now().Add(8 * time.Minute)); err != nil {
		t.Error(err)
		return 0
	}
	// The daemon may have had enough before all is sent.
	_, _ = conn.Write([]byte(request))
	_ = conn.(*net.TCPConn).CloseWrite()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Errorf("no end of %.500q", request)
		}
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}
