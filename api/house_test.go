package api_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/generalbots/backupd/api"
	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/auth"
	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestMain has the modes of what tests make be those that they name, whatever umask they were started with, and fails when
// goroutines of ours are left after all tests.
func TestMain(m *testing.M) {
	syscall.Umask(0o022)
	code := m.Run()
	for begun := time.Now(); runtime.NumGoroutine() > 3 && code == 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			buf := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "goroutines are left:\n%s\n", buf[:runtime.Stack(buf, true)])
			code = 1
		}
	}
	os.Exit(code)
}

// house is a daemon without its process: everything real, a socket included.
type house struct {
	t               testing.TB
	dir             string // repository, state, source and target are below
	repo            *repo.Repo
	state           *state.DB
	jobs            *job.Jobs
	auth            *auth.Authenticator
	audit           *ledger
	server          *api.Server
	url             string
	admin, operator string // tokens
	log             *logbook
	seen            *watcher
	contract        *contract // every answer is held against it
	started         bool
	run             func() // begins to run jobs
	first           string // id of the backup it was built with, if any
	client          *http.Client
}

// ledger is an audit log that can be told to fail.
type ledger struct {
	*auth.Audit
	fail atomic.Bool
	mu   sync.Mutex
	list []auth.Record
}

func (l *ledger) Append(r auth.Record) error {
	if l.fail.Load() {
		return errors.New("no room on /var/lib/secret/audit.log")
	}
	l.mu.Lock()
	l.list = append(l.list, r)
	l.mu.Unlock()
	return l.Audit.Append(r)
}

func (l *ledger) records() []auth.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]auth.Record(nil), l.list...)
}

// logbook is what was logged.
type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// watcher counts calls by "METHOD pattern status".
type watcher struct {
	mu   sync.Mutex
	seen map[string]int
}

func (w *watcher) Request(pattern, method string, status int, _ time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[fmt.Sprintf("%s %s %d", method, pattern, status)]++
}

// newHouse builds one. Jobs wait until run is called. edit may change the options.
func newHouse(t *testing.T, edit func(*api.Options)) *house { return build(t, false, edit, nil) }

// furnished builds one with a backup that was made before, as its jobs do not run.
func furnished(t *testing.T, edit func(*api.Options)) *house { return build(t, true, edit, nil) }

func build(t *testing.T, withBackup bool, edit func(*api.Options), editJobs func(*house, *job.Options)) *house {
	t.Helper()
	t.Parallel()
	return open(t, withBackup, edit, editJobs)
}

func open(t testing.TB, withBackup bool, edit func(*api.Options), editJobs func(*house, *job.Options)) *house {
	t.Helper()
	h := &house{contract: readContract(t), t: t, dir: t.TempDir(), log: &logbook{}, seen: &watcher{seen: make(map[string]int)}}
	for _, d := range []string{"repo", "state", "source/docs", "staging", "other", "prepared"} {
		must(t, os.MkdirAll(h.path(d), 0o700))
	}
	must(t, os.WriteFile(h.path("source/hello.txt"), []byte("hello"), 0o644))
	big := make([]byte, 320_000)
	rand.NewChaCha8([32]byte{1}).Read(big) // never fails
	must(t, os.WriteFile(h.path("source/docs/big.bin"), big, 0o600))
	must(t, os.Symlink("hello.txt", h.path("source/link")))

	sum := sha256.Sum256([]byte("the key of all test repositories"))
	key, err := crypto.KeyFileCredential(sum[:])
	must(t, err)
	st, err := store.MakeDir(t.Context(), h.path("repo"))
	must(t, err)
	_, err = repo.Init(t.Context(), st, repo.InitOptions{Slots: []repo.NewSlot{{Label: "test", Credential: key}}})
	must(t, err)
	h.repo, err = repo.Open(t.Context(), st, []crypto.Credential{key}, repo.Options{StateDir: h.path("state"), Program: "backupd test"})
	must(t, err)
	h.state, err = state.Open(h.path("state/state.db"), h.repo.ID().String())
	must(t, err)
	logger := slog.New(slog.NewTextHandler(h.log, nil))

	tokens, err := auth.OpenTokens(h.path("state/tokens"))
	must(t, err)
	h.admin, _, err = tokens.Create(auth.CreateToken{Name: "root", Role: auth.Admin, Basic: true})
	must(t, err)
	h.operator, _, err = tokens.Create(auth.CreateToken{Name: "bot", Role: auth.Operator})
	must(t, err)
	h.auth, err = auth.New(auth.Options{TokenFile: h.path("state/tokens"), JWT: &auth.JWTOptions{Secret: jwtSecret}, Logger: logger})
	must(t, err)
	dir, err := durable.OS(h.path("state"))
	must(t, err)
	log, err := auth.OpenAudit(dir, auth.AuditFileName, h.repo.AuditKey())
	must(t, err)
	h.audit = &ledger{Audit: log}

	jobs := job.Options{
		Repo: h.repo, State: h.state, Host: "testhost", Staging: h.path("prepared"), Program: "backupd test", Logger: logger,
		Sources: []job.Source{{Name: "bots", Kind: "files", Paths: []string{h.path("source")}}},
		Targets: []job.Target{{Name: "staging", Path: h.path("staging")}, {Name: "other", Path: h.path("other")}},
	}
	if editJobs != nil {
		editJobs(h, &jobs)
	}
	if withBackup {
		h.first = firstBackup(t, jobs)
	}
	h.jobs, err = job.Open(t.Context(), jobs)
	must(t, err)
	o := api.Options{
		Jobs: h.jobs, Repo: h.repo, State: h.state, Auth: h.auth, Audit: h.audit, Observer: h.seen, Logger: logger, Version: "1.2.3", Commit: "abcdef",
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "up 1") }),
	}
	if edit != nil {
		edit(&o)
	}
	h.server, err = api.New(o)
	must(t, err)
	h.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	scheme := "http://"
	if o.TLS != nil {
		scheme = "https://"
	}
	h.url = scheme + l.Addr().String()

	serving, stopServing := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(serving, l) }()
	working, stopWorking := context.WithCancel(context.Background())
	worked := make(chan error, 1)
	h.run = func() {
		h.started = true
		go func() { worked <- h.jobs.Run(working) }()
	}
	t.Cleanup(func() {
		h.client.CloseIdleConnections()
		stopServing()
		stopWorking()
		if err := <-served; err != nil {
			t.Error("the server ended with", err)
		}
		if h.started {
			if err := <-worked; err != nil {
				t.Error("the queue ended with", err)
			}
		}
		must(t, h.auth.Close())
		must(t, log.Close())
		must(t, dir.Close())
		rep, err := h.repo.Check(context.Background(), repo.CheckOptions{ReadData: true}, new(repo.CheckProgress))
		if err != nil {
			t.Error("check:", err)
		} else if !rep.Sound() {
			t.Errorf("the repository is not sound: %+v", rep)
		}
		must(t, h.state.Close())
		must(t, h.repo.Close())
		must(t, st.Close())
		if text := h.log.String(); strings.Contains(text, h.admin) || strings.Contains(text, h.operator) {
			t.Error("a token stands in the log")
		}
		if short, long := h.server.InUse(); short+long != 0 {
			t.Errorf("%d and %d places were not given back", short, long)
		}
	})
	return h
}

// firstBackup makes a backup in a life of its own.
func firstBackup(t testing.TB, o job.Options) string {
	t.Helper()
	j, err := job.Open(t.Context(), o)
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- j.Run(ctx) }()
	made, err := j.CreateBackup(ctx, job.BackupRequest{IncludeFiles: true}, job.By{Actor: "test"})
	must(t, err)
	made, err = j.Wait(ctx, made.ID)
	must(t, err)
	if made.State != job.Completed {
		t.Fatalf("the first backup: %+v", made)
	}
	stop()
	must(t, <-ended)
	return made.ID
}

func (h *house) path(name string) string { return filepath.Join(h.dir, name) }

var jwtSecret = []byte("0123456789abcdef0123456789abcdef")

// signedFor is a token as the platform signs them, for somebody with these roles.
func signedFor(roles ...string) string {
	now := time.Now().Unix()
	payload := fmt.Sprintf(`{"iss":"general-bots","aud":"general-bots-api","sub":"6f1c","exp":%d,"iat":%d,"nbf":%d,"jti":"j1","type":"access","roles":["%s"]}`,
		now+900, now, now, strings.Join(roles, `","`))
	if len(roles) == 0 {
		payload = strings.Replace(payload, `,"roles":[""]`, "", 1)
	}
	enc := base64.RawURLEncoding.EncodeToString
	signed := enc([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + enc([]byte(payload))
	mac := hmac.New(sha256.New, jwtSecret)
	mac.Write([]byte(signed))
	return signed + "." + enc(mac.Sum(nil))
}

// got is an answer.
type got struct {
	status int
	header http.Header
	body   string
}

func (g got) decode(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(g.body), &m); err != nil {
		t.Fatalf("%d %q: %v", g.status, g.body, err)
	}
	return m
}

func (g got) list(t testing.TB) []map[string]any {
	t.Helper()
	var m []map[string]any
	if err := json.Unmarshal([]byte(g.body), &m); err != nil || m == nil {
		t.Fatalf("%d %q: %v", g.status, g.body, err)
	}
	return m
}

// do makes a call. headers are "Name: value".
func (h *house) do(token, method, path, body string, headers ...string) got {
	h.t.Helper()
	req, err := http.NewRequest(method, h.url+path, strings.NewReader(body))
	must(h.t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	resp, err := h.client.Do(req)
	must(h.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(h.t, err)
	g := got{resp.StatusCode, resp.Header, string(data)}
	if g.status != http.StatusMethodNotAllowed && method != http.MethodHead {
		h.contract.answer(method, path, g)
	}
	return g
}

const at = "/api/v1/backup"

// want makes a call and fails when its status is another.
func (h *house) want(status int, token, method, path, body string, headers ...string) got {
	h.t.Helper()
	g := h.do(token, method, path, body, headers...)
	if g.status != status {
		h.t.Fatalf("%s %s %s: %d, want %d: %s", method, path, body, g.status, status, g.body)
	}
	return g
}

// backup makes a backup and waits for it.
func (h *house) backup(body string) string {
	h.t.Helper()
	if !h.started {
		h.run()
	}
	g := h.want(201, h.admin, "POST", at+"/create?wait=60", body).decode(h.t)
	if g["status"] != "completed" {
		h.t.Fatalf("the backup came to %v", g)
	}
	return g["id"].(string)
}
