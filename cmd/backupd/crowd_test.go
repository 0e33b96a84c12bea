package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// crowdCalls reads come over crowdConnections connections, each of which thinks for crowdThought at most between
	// two. CROWD_SCALE multiplies the calls.
	crowdCalls       = 10_000
	crowdConnections = 200
	crowdThought     = 200 * time.Millisecond
	// crowdP99 is what 99 of 100 answers have to stay below where nobody else is at work, crowdMemory by how much the
	// daemon's own memory may grow.
	crowdP99    = 250 * time.Millisecond
	crowdMemory = 300 << 20
	// crowdTokens are shared by the bots.
	crowdTokens = 10
)

// anonymous is the memory of a process that no file stands behind, in bytes.
func anonymous(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("the system does not tell the memory of a process")
}

// crowd is what many bots saw together.
type crowd struct {
	mu    sync.Mutex // guards what follows
	took  []time.Duration
	codes map[string]int // by "path code"
	slow  map[string]time.Duration
	wrong []string
}

func (c *crowd) saw(path string, code int, took time.Duration, err error, planned bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.wrong = append(c.wrong, fmt.Sprintf("%s: %v", path, err))
		return
	}
	c.took = append(c.took, took)
	c.codes[fmt.Sprint(path, " ", code)]++
	c.slow[path] = max(c.slow[path], took)
	if !planned {
		c.wrong = append(c.wrong, fmt.Sprintf("%s: got %d", path, code))
	}
}

func (c *crowd) percentile(p float64) time.Duration {
	slices.Sort(c.took)
	return c.took[min(len(c.took)-1, int(p*float64(len(c.took))))]
}

// Ten thousand reads of two hundred bots at once while backups are made and verified: they are answered in time, none is
// answered with a failure, memory stays where it is and the backups are right. Beside them are clients that are slow, that
// stop in the middle and that close their half. Who else is at work on the processors takes his part of the time: the
// crowd comes again, up to three times, and what others took in a visit is counted as theirs.
func TestCrowd_ReadsAreAnsweredInTimeBesideABackup(t *testing.T) {
	calls := crowdCalls
	if n, err := strconv.Atoi(os.Getenv("CROWD_SCALE")); err == nil {
		calls *= n
	}
	h := newHost(t)
	h.more = "limits: {requests_per_second: 2000}\n"
	if err := sow(h.path("src"), 1, 24_000_000); err != nil {
		t.Fatal(err)
	}
	h.configure()
	h.token("admin")
	tokens := make([]string, crowdTokens)
	for i := range tokens {
		tokens[i] = strings.TrimSpace(h.must("token", "create", "--config", h.configFile(), "--name", fmt.Sprint("bot-", i), "--role", "backup_operator"))
	}
	d := h.start()
	first := d.backup()
	d.finished(first)
	quiet, err := anonymous(d.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}

	paths := []string{
		base + "/list", base + "/" + first, base + "/" + first + "/files?path=" + url.QueryEscape(h.path("src")), base + "/jobs?limit=20",
		base + "/sources", base + "/stats", base + "/backup-00000000000000000000000000", "/api/health",
	}
	over, done := context.WithCancel(t.Context())
	defer done()
	var beside sync.WaitGroup

	var last string
	made := 0
	peak := quiet
	beside.Go(func() { // backups, one after the other, until the crowd has gone
		for seed := uint64(2); over.Err() == nil; seed++ {
			if err := sow(h.path("src"), seed, 24_000_000); err != nil {
				t.Error(err)
				return
			}
			a, err := d.try("POST", base+"/create?wait=30", h.tokens["admin"], `{"type": "full"}`)
			id, _ := a.m["backup_id"].(string)
			for a.m["status"] == "pending" || a.m["status"] == "in_progress" { // others have the processors
				time.Sleep(100 * time.Millisecond)
				if a, err = d.try("GET", base+"/"+id, h.tokens["admin"], ""); err != nil || a.code != http.StatusOK {
					break
				}
			}
			if err != nil || a.m["status"] != "completed" {
				t.Errorf("a backup beside the crowd: %v, %d %s", err, a.code, a.body)
				return
			}
			last = id
			made++
		}
	})
	beside.Go(func() {
		for over.Err() == nil {
			now, err := anonymous(d.cmd.Process.Pid)
			if err != nil {
				t.Error(err)
				return
			}
			peak = max(peak, now)
			time.Sleep(50 * time.Millisecond)
		}
	})
	for i := range 30 {
		beside.Go(func() { rude(t, d.address, tokens[0], i) })
	}

	var tooSlow string
	for visit := range 3 {
		c := &crowd{codes: map[string]int{}, slow: map[string]time.Duration{}}
		shared := othersAt(t, d.cmd.Process.Pid)
		took := c.visit(d, calls, func(n uint64) string { return paths[n%uint64(len(paths))] }, tokens, first)
		part := shared()
		p99 := c.percentile(0.99)
		t.Logf("%d reads over %d connections in %v: p50 %v, p99 %v, longest %v; others had %.0f %% of the processors", len(c.took), crowdConnections,
			took.Round(time.Millisecond), c.percentile(0.5).Round(100*time.Microsecond), p99.Round(100*time.Microsecond), c.percentile(1).Round(time.Millisecond), 100*part)
		t.Logf("%v; longest %v", c.codes, c.slow)
		for _, w := range c.wrong[:min(len(c.wrong), 10)] {
			t.Error(w)
		}
		if got := len(c.took); got != calls {
			t.Errorf("%d answers, want %d", got, calls)
		}
		tooSlow = ""
		if served := c.served(); served < calls*99/100 {
			tooSlow = fmt.Sprintf("only %d of %d were served", served, calls)
		} else if own := time.Duration(float64(p99) * (1 - part)); own >= crowdP99 {
			tooSlow = fmt.Sprintf("p99 is %v, %v without what others took, want less than %v", p99, own, crowdP99)
		}
		if tooSlow == "" || t.Failed() {
			break
		}
		t.Logf("visit %d: %s", visit+1, tooSlow)
	}
	done()
	beside.Wait()
	t.Logf("beside them %d backups; memory %d MiB before, %d MiB at most", made, quiet>>20, peak>>20)
	if tooSlow != "" {
		t.Errorf("three times: %s", tooSlow)
	}
	if peak-quiet > crowdMemory {
		t.Errorf("memory grew by %d MiB, want at most %d", (peak-quiet)>>20, crowdMemory>>20)
	}
	if last == "" {
		t.Fatal("no backup was made beside the crowd")
	}
	if code := d.end(syscall.SIGTERM); code != 0 {
		t.Errorf("got exit code %d\n%s", code, d.logged())
	}
	h.must("repo", "check", "--read-data", "--config", h.configFile())
	h.must("repo", "restore", last, "--config", h.configFile(), "--target", h.path("back"))
	if digest(t, h.path("back"+h.path("src"))) != digest(t, h.path("src")) {
		t.Error("the last backup came back as something else")
	}
}

// visit has all bots make their calls, and returns how long that took.
func (c *crowd) visit(d *served, calls int, path func(uint64) string, tokens []string, first string) time.Duration {
	transport := &http.Transport{MaxIdleConnsPerHost: crowdConnections, MaxConnsPerHost: crowdConnections}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 2 * time.Minute}
	var bots sync.WaitGroup
	begun := time.Now()
	for i := range crowdConnections {
		bots.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 7))
			for range calls / crowdConnections {
				time.Sleep(time.Duration(rng.Int64N(int64(crowdThought))))
				path := path(rng.Uint64())
				code, took, err := ask(client, "http://"+d.address+path, tokens[i%crowdTokens])
				planned := code == http.StatusOK || code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable ||
					code == http.StatusNotFound && strings.Contains(path, "backup-000")
				name, _, _ := strings.Cut(path, "?")
				c.saw(strings.ReplaceAll(name, first, "ID"), code, took, err, planned)
			}
		})
	}
	bots.Wait()
	return time.Since(begun)
}

// served is how many got what they asked for.
func (c *crowd) served() (n int) {
	for what, k := range c.codes {
		if strings.HasSuffix(what, " 200") || strings.HasSuffix(what, " 404") {
			n += k
		}
	}
	return n
}

// ask sends one read and takes all of its answer.
func ask(client *http.Client, where, token string) (code int, took time.Duration, err error) {
	r, err := http.NewRequest(http.MethodGet, where, nil)
	if err != nil {
		return 0, 0, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	begun := time.Now()
	resp, err := client.Do(r)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, time.Since(begun), err
}

// rude is a client that does one of a few things badly. The daemon has to end its connection by itself.
func rude(t *testing.T, address, token string, how int) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Error(err)
		return
	}
	head := "Host: x\r\nAuthorization: Bearer " + token + "\r\n"
	switch how % 5 {
	case 0: // a header that comes letter by letter
		go func() {
			for _, b := range []byte("GET " + base + "/list HTTP/1.1\r\n" + head + strings.Repeat("X-Slow: yes\r\n", 100)) {
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		}()
	case 1: // a body that does not come
		fmt.Fprintf(conn, "POST %s/create HTTP/1.1\r\n%sContent-Length: 50\r\n\r\n{", base, head)
	case 2: // half a request, then its side is closed
		fmt.Fprintf(conn, "GET %s/li", base)
		err = conn.(*net.TCPConn).CloseWrite()
	case 3: // a whole request, then its side is closed
		fmt.Fprintf(conn, "GET %s/list HTTP/1.1\r\n%s\r\n", base, head)
		err = conn.(*net.TCPConn).CloseWrite()
	case 4: // garbage
		_, err = conn.Write([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"))
	}
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Errorf("a rude client of kind %d holds its connection for more than two minutes", how%5)
		}
	}
}
