package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// bothost is a place to run a daemon in: a source, a repository, a configuration. It lies in var of this module, as the
// configuration refuses what is kept below /tmp.
type bothost struct {
	t      *testing.T
	dir    string
	exe    string
	listen string
	more   string // further keys of the configuration
	tokens map[string]string
}

func newHost(t *testing.T) *bothost {
	t.Helper()
	top, err := filepath.Abs(filepath.Join("..", "..", "var"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(top, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(top, "serve-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &bothost{t: t, dir: dir, listen: "127.0.0.1:0", tokens: map[string]string{}}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h.exe = h.path("backupd")
	if err := os.Symlink(self, h.exe); err != nil {
		t.Fatal(err)
	}
	if err := sow(h.path("src"), 1, 200_000); err != nil {
		t.Fatal(err)
	}
	h.must("repo", "init", "--repo", h.path("repo"), "--key-file", h.path("key"))
	h.configure()
	return h
}

func (h *bothost) path(name string) string { return filepath.Join(h.dir, name) }

func (h *bothost) configFile() string { return h.path("backupd.yaml") }

// configure writes the configuration; more sources are lines of the list.
func (h *bothost) configure(sources ...string) {
	h.t.Helper()
	// Temporary, as people clone below /tmp.
	text := fmt.Sprintf("temporary: true\nlisten: %q\nrepository: {path: %q, key_file: %q}\nstate_dir: %q\ntargets: {staging: {path: %q}}\n%ssources:\n  - {name: bots, kind: files, paths: [%q]}\n",
		h.listen, h.path("repo"), h.path("key"), h.path("state"), h.path("staging"), h.more, h.path("src"))
	for _, s := range sources {
		text += "  - " + s + "\n"
	}
	h.write("backupd.yaml", text)
}

func (h *bothost) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *bothost) command(args ...string) *exec.Cmd {
	cmd := exec.Command(h.exe, args...)
	cmd.Dir = h.dir
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+h.path("xdg"))
	return cmd
}

func (h *bothost) run(args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	var out, errs bytes.Buffer
	cmd := h.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	code = exitCode(h.t, cmd.Run())
	return out.String(), errs.String(), code
}

func (h *bothost) must(args ...string) string {
	h.t.Helper()
	stdout, stderr, code := h.run(args...)
	if code != 0 {
		h.t.Fatalf("backupd %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// token makes a token once for each role.
func (h *bothost) token(role string) string {
	h.t.Helper()
	if h.tokens[role] == "" {
		h.tokens[role] = strings.TrimSpace(h.must("token", "create", "--config", h.configFile(), "--name", role, "--role", role))
	}
	return h.tokens[role]
}

// served is a running daemon.
type served struct {
	h       *bothost
	cmd     *exec.Cmd
	address string // of the API, as it said when it was ready
	ended   chan error
	client  *http.Client
	scheme  string

	mu   sync.Mutex
	log  bytes.Buffer // guarded by mu
	told []string     // guarded by mu; what it told its supervisor
}

// Write takes a piece of the log.
func (d *served) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.Write(b)
}

func (d *served) logged() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

func (d *served) has(state string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.told {
		for line := range strings.Lines(s) {
			if strings.TrimSpace(line) == state {
				return true
			}
		}
	}
	return false
}

var addressSaid = regexp.MustCompile(`STATUS=listening on (\S+)`)

// start runs the daemon and returns when it has told that it is ready. env is added to its environment.
func (h *bothost) start(env ...string) *served {
	h.t.Helper()
	// The address of a socket is short, the name of a test is not.
	short, err := os.MkdirTemp("", "n")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { os.RemoveAll(short) })
	supervisor, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(short, "s"), Net: "unixgram"})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { supervisor.Close() })
	d := &served{h: h, ended: make(chan error, 1), client: &http.Client{Timeout: 2 * time.Minute}, scheme: "http"}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := supervisor.Read(b)
			if err != nil {
				return
			}
			d.mu.Lock()
			d.told = append(d.told, string(b[:n]))
			d.mu.Unlock()
		}
	}()
	d.cmd = h.command("serve", "--config", h.configFile())
	d.cmd.Env = append(append(d.cmd.Env, "NOTIFY_SOCKET="+filepath.Join(short, "s")), env...)
	d.cmd.Stderr = d
	if err := d.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() { d.ended <- d.cmd.Wait() }()
	h.t.Cleanup(func() { _ = d.cmd.Process.Kill() }) // it has ended in a test that passed
	d.until("it is ready", func() bool {
		select {
		case err := <-d.ended:
			h.t.Fatalf("the daemon ended at once: %v\n%s", err, d.logged())
		default:
		}
		return d.has("READY=1")
	})
	d.mu.Lock()
	said := addressSaid.FindStringSubmatch(strings.Join(d.told, "\n"))
	d.mu.Unlock()
	if said == nil {
		h.t.Fatal("it did not say where it listens")
	}
	d.address = said[1]
	return d
}

func (d *served) until(what string, f func() bool) {
	d.h.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if f() {
			return
		}
	}
	d.h.t.Fatalf("waited too long until %s\n%s", what, d.logged())
}

// end sends a signal and returns the exit code, -1 for one that was killed.
func (d *served) end(sig syscall.Signal) int {
	d.h.t.Helper()
	if err := d.cmd.Process.Signal(sig); err != nil {
		d.h.t.Fatal(err)
	}
	select {
	case err := <-d.ended:
		return exitCode(d.h.t, err)
	case <-time.After(time.Minute):
		d.h.t.Fatalf("it did not end\n%s", d.logged())
	}
	return 0
}

// answer is what the API said.
type answer struct {
	code int
	body []byte
	m    map[string]any // of an object
}

// call sends a request with a token, which may be empty.
func (d *served) call(method, path, token, body string) answer {
	d.h.t.Helper()
	a, err := d.try(method, path, token, body)
	if err != nil {
		d.h.t.Fatalf("%s %s: %v\n%s", method, path, err, d.logged())
	}
	return a
}

func (d *served) try(method, path, token, body string) (a answer, err error) {
	host := d.address
	if strings.HasPrefix(host, "/") {
		host = "socket"
	}
	r, err := http.NewRequest(method, d.scheme+"://"+host+path, strings.NewReader(body))
	if err != nil {
		return a, err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	res, err := d.client.Do(r)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	a.code = res.StatusCode
	if a.body, err = io.ReadAll(res.Body); err != nil {
		return a, err
	}
	_ = json.Unmarshal(a.body, &a.m) // lists and metrics are no objects
	return a, nil
}

const base = "/api/v1/backup"

// backup asks for one and returns its id.
func (d *served) backup() string {
	d.h.t.Helper()
	a := d.call("POST", base+"/create", d.h.token("admin"), `{"type":"full"}`)
	id, _ := a.m["backup_id"].(string)
	if a.code != http.StatusCreated || id == "" {
		d.h.t.Fatalf("create: got %d %s", a.code, a.body)
	}
	return id
}

func (d *served) status(id string) string {
	d.h.t.Helper()
	s, _ := d.call("GET", base+"/"+id, d.h.token("admin"), "").m["status"].(string)
	return s
}

// overSocket makes the client dial a socket.
func (d *served) overSocket(path string) {
	d.client.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
}

// overTLS makes the client trust whatever it is shown: which certificate that is, is looked at by the test.
func (d *served) overTLS() {
	d.scheme = "https"
	d.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
}

// exitedWith runs a daemon that must end at once.
func (h *bothost) exitedWith(want int, parts ...string) {
	h.t.Helper()
	done := make(chan struct{})
	defer close(done)
	var errs bytes.Buffer
	cmd := h.command("serve", "--config", h.configFile())
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	timer := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() }) // it should have ended
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != want {
		h.t.Errorf("got %v, want exit code %d\n%s", err, want, &errs)
	}
	for _, part := range parts {
		if !strings.Contains(errs.String(), part) {
			h.t.Errorf("%q is not in:\n%s", part, &errs)
		}
	}
}
