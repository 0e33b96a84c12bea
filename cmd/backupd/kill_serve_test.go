package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// daemonKills is how many daemons are killed: CRASH_KILLS, or a few times CRASH_SCALE.
func daemonKills() int {
	if n, err := strconv.Atoi(os.Getenv("CRASH_KILLS")); err == nil {
		return n
	}
	if n, err := strconv.Atoi(os.Getenv("CRASH_SCALE")); err == nil {
		return 10 * n
	}
	if testing.Short() {
		return 4
	}
	return 10
}

// promised is what a daemon has acknowledged about a backup, and what may have come of a call it did not answer.
type promised struct {
	digest string // of what it was made of
	doomed bool   // somebody asked for its deletion, and got no answer
	gone   bool   // its deletion was acknowledged, or seen
}

// battery kills daemons and remembers what they have promised. The maps are guarded by mu while clients are at work.
type battery struct {
	h    *bothost
	rng  *rand.Rand
	seed uint64

	mu        sync.Mutex
	backups   map[string]*promised
	jobs      map[string]bool // restores and verifications that were acknowledged
	schedules map[string]string
	retract   map[string]bool   // schedules somebody asked to delete, and got no answer
	renamed   map[string]string // names somebody asked for, and got no answer
	keys      map[string]string // Idempotency-Key to the id that was acknowledged, "" for none
	tokens    map[string]bool   // by secret: whether it lets in; what an edit that was killed made is not in it
	broken    []string
	acked     map[string]int
	asked     int
	killed    int // daemons

	calm bool // no restores, which keep a backup from being deleted
}

func newBattery(t *testing.T, seed uint64) *battery {
	t.Helper()
	b := &battery{
		h: newHost(t), rng: rand.New(rand.NewPCG(seed, 0)), seed: seed, backups: map[string]*promised{}, jobs: map[string]bool{},
		schedules: map[string]string{}, retract: map[string]bool{}, renamed: map[string]string{}, keys: map[string]string{}, acked: map[string]int{},
		tokens: map[string]bool{},
	}
	// Space is always short, so that each life begins with a gc where something was deleted.
	b.h.more = "limits: {requests_per_second: 10000}\ngc: {min_free: 1000 TiB}\nverify: {after_backup: false}\n"
	b.h.configure()
	b.h.token("admin")
	b.change()
	return b
}

func (b *battery) change() {
	if err := sow(b.h.path("src"), b.rng.Uint64N(1000), 1_500_000); err != nil {
		b.h.t.Fatal(err)
	}
}

func (b *battery) breaks(format string, a ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken = append(b.broken, fmt.Sprintf(format, a...))
}

// send makes a call of a client. code is 0 when no whole answer came.
func (b *battery) send(address, method, path, body, key string) (code int, m map[string]any) {
	r, err := http.NewRequest(method, "http://"+address+path, strings.NewReader(body))
	if err != nil {
		b.breaks("%v", err)
		return 0, nil
	}
	r.Header.Set("Authorization", "Bearer "+b.h.tokens["admin"])
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	resp, err := (&http.Client{Timeout: 30 * time.Second}).Do(r)
	if err != nil {
		return 0, nil // killed meanwhile
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || json.Unmarshal(text, &m) != nil && resp.StatusCode < 300 {
		return 0, nil
	}
	if resp.StatusCode >= 500 && resp.StatusCode != http.StatusServiceUnavailable {
		b.breaks("%s %s: got %d %s", method, path, resp.StatusCode, text)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if resp.StatusCode < 300 {
		b.acked[method+" "+strings.Split(strings.TrimPrefix(path, base+"/"), "/")[0][:3]]++
	}
	return resp.StatusCode, m
}

// pick chooses one of the ids of a map.
func pick[V any](rng *rand.Rand, m map[string]V, fit func(V) bool) string {
	var ids []string
	for id, v := range m {
		if fit(v) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return ""
	}
	slices.Sort(ids)
	return ids[rng.IntN(len(ids))]
}

// client asks for one thing after the other until the daemon is dead.
func (b *battery) client(address string, rng *rand.Rand, want string, dead <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-dead:
			return
		case <-time.After(time.Duration(rng.IntN(40)) * time.Millisecond):
		}
		there := func(p *promised) bool { return !p.gone && !p.doomed }
		b.mu.Lock()
		backup := pick(rng, b.backups, there)
		schedule := pick(rng, b.schedules, func(string) bool { return true })
		if b.retract[schedule] {
			schedule = ""
		}
		b.mu.Unlock()
		switch what := rng.IntN(12); {
		case what < 3 || backup == "":
			b.create(address, fmt.Sprintf("key-%x", rng.Uint64()), want)
		case what < 5:
			b.delete(address, backup)
		case what < 8 && !b.calm:
			code, m := b.send(address, "POST", base+"/restore/"+backup, `{"overwrite": "always"}`, "")
			b.job(code, m)
		case what < 9:
			code, m := b.send(address, "POST", base+"/"+backup+"/verify", "", "")
			b.job(code, m)
		case what < 10 || schedule == "":
			name := fmt.Sprintf("s-%x", rng.Uint64())
			code, m := b.send(address, "POST", base+"/schedule", fmt.Sprintf(`{"cron": "0 0 29 2 *", "name": %q}`, name), "")
			if id, _ := m["schedule_id"].(string); code == http.StatusCreated {
				b.mu.Lock()
				b.schedules[id] = name
				b.mu.Unlock()
			}
		case what < 11:
			b.rename(address, schedule, fmt.Sprintf("r-%x", rng.Uint64()))
		default:
			b.unschedule(address, schedule)
		}
	}
}

func (b *battery) create(address, key, want string) {
	b.mu.Lock()
	b.keys[key] = ""
	b.mu.Unlock()
	code, m := b.send(address, "POST", base+"/create", `{"type": "full"}`, key)
	if id, _ := m["backup_id"].(string); code == http.StatusCreated {
		b.mu.Lock()
		b.backups[id], b.keys[key] = &promised{digest: want}, id
		b.mu.Unlock()
	}
}

func (b *battery) delete(address, id string) {
	b.mu.Lock()
	p := b.backups[id]
	twice := p.doomed || p.gone
	p.doomed = true // until it is known better
	b.mu.Unlock()
	if twice {
		return
	}
	code, _ := b.send(address, "DELETE", base+"/"+id, "", "")
	b.mu.Lock()
	defer b.mu.Unlock()
	switch code {
	case http.StatusOK:
		p.gone = true
	case http.StatusConflict:
		p.doomed = false // it is being restored
	}
}

func (b *battery) job(code int, m map[string]any) {
	if id, _ := m["job_id"].(string); code == http.StatusAccepted {
		b.mu.Lock()
		b.jobs[id] = true
		b.mu.Unlock()
	}
}

func (b *battery) rename(address, id, name string) {
	b.mu.Lock()
	_, twice := b.renamed[id]
	if !twice {
		b.renamed[id] = name
	}
	b.mu.Unlock()
	if twice {
		return
	}
	code, _ := b.send(address, "PUT", base+"/schedule/"+id, fmt.Sprintf(`{"name": %q}`, name), "")
	b.mu.Lock()
	defer b.mu.Unlock()
	if code == http.StatusOK {
		b.schedules[id] = name
		delete(b.renamed, id)
	}
}

func (b *battery) unschedule(address, id string) {
	b.mu.Lock()
	twice := b.retract[id]
	b.retract[id] = true
	b.mu.Unlock()
	if twice {
		return
	}
	code, _ := b.send(address, "DELETE", base+"/schedule/"+id, "", "")
	b.mu.Lock()
	defer b.mu.Unlock()
	if code == http.StatusOK {
		delete(b.schedules, id)
	}
}

// life lets clients at a daemon, through front where it is not nil, and kills it at a random moment.
func (b *battery) life(d *served, front func(address string) string) {
	address := d.address
	if front != nil {
		address = front(address)
	}
	want := digest(b.h.t, b.h.path("src"))
	dead := make(chan struct{})
	var clients sync.WaitGroup
	for range 3 {
		rng := rand.New(rand.NewPCG(b.rng.Uint64(), 1))
		clients.Go(func() { b.client(address, rng, want, dead) })
	}
	editor := rand.New(rand.NewPCG(b.rng.Uint64(), 2))
	clients.Go(func() { b.editTokens(editor, dead) })
	time.Sleep(time.Duration(b.rng.IntN(700)) * time.Millisecond)
	d.end(syscall.SIGKILL)
	b.killed++
	close(dead)
	clients.Wait()
}

// over tells whether a job has come to an end.
func over(status string) bool {
	return status != "pending" && status != "in_progress" && status != "interrupted"
}

// settle holds a new daemon against what the dead ones have promised.
func (b *battery) settle(d *served, want string) {
	token := b.h.tokens["admin"]
	for secret, lets := range b.tokens {
		if code := d.call("GET", base+"/list", secret, "").code; (code == http.StatusOK) != lets {
			b.breaks("a token that lets in (%t) got %d", lets, code)
		}
		delete(b.tokens, secret)
	}
	// A client that got no answer asks again with its key: one backup comes of both, whichever made it.
	for key, id := range b.keys {
		if id == "" {
			b.create(d.address, key, want)
			once := b.keys[key]
			b.create(d.address, key, want)
			if b.keys[key] != once || once == "" {
				b.breaks("one key made two backups: %q and %q", once, b.keys[key])
			}
		}
		delete(b.keys, key)
	}
	for id, p := range b.backups {
		a := d.call("GET", base+"/"+id, token, "")
		switch {
		case a.code == http.StatusNotFound && (p.gone || p.doomed):
			p.gone = true
			continue
		case p.gone:
			b.breaks("backup %s was deleted and is there: %s", id, a.m["status"])
			continue
		case a.code != http.StatusOK:
			b.breaks("backup %s was acknowledged and is lost: got %d %s", id, a.code, a.body)
			continue
		}
		d.until("backup "+id+" has come to an end", func() bool { return over(d.status(id)) })
		status := d.status(id)
		if status != "completed" && !(p.doomed && status == "cancelled") {
			b.breaks("backup %s has come to %q: %s", id, status, d.call("GET", base+"/"+id, token, "").body)
		}
		if status == "cancelled" {
			delete(b.backups, id)
		}
		p.doomed = false
	}
	for id := range b.jobs {
		path := base + "/jobs/" + id
		if strings.HasPrefix(id, "restore-") {
			path = base + "/restore/" + id + "/status"
		}
		a := d.call("GET", path, token, "")
		if status, _ := a.m["status"].(string); a.code != http.StatusOK || status == "" {
			b.breaks("job %s was acknowledged and is lost: got %d %s", id, a.code, a.body)
		}
		if over(fmt.Sprint(a.m["status"])) || a.m["finished_at"] != nil {
			delete(b.jobs, id)
		}
	}
	var have []struct{ ID, Name string }
	if err := json.Unmarshal(d.call("GET", base+"/schedule", token, "").body, &have); err != nil {
		b.h.t.Fatal(err)
	}
	names := map[string]string{}
	for _, s := range have {
		names[s.ID] = s.Name
		if _, known := b.schedules[s.ID]; !known && b.retract[s.ID] {
			b.breaks("schedule %s was deleted and is there", s.ID)
		}
	}
	for id, name := range b.schedules {
		got, there := names[id]
		switch {
		case !there && b.retract[id]:
			delete(b.schedules, id)
		case !there:
			b.breaks("schedule %s was acknowledged and is lost", id)
		case got != name && got != b.renamed[id]:
			b.breaks("schedule %s is called %q, want %q", id, got, name)
		default:
			b.schedules[id] = got
			delete(b.retract, id)
			delete(b.renamed, id)
		}
	}
}

// TestKill_OfTheDaemonAtAnyMomentKeepsItsPromises kills the daemon with SIGKILL at random moments of its jobs, while
// clients ask for backups, deletions, restores, verifications and schedules. Whatever a dead daemon acknowledged, the next
// one holds.
func TestKill_OfTheDaemonAtAnyMomentKeepsItsPromises(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("CRASH_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("CRASH_SEED=%d", seed)
	b := newBattery(t, seed)
	made, gone := 0, 0
	for round := range daemonKills() {
		b.life(b.h.start(), nil)
		// Those that take up what is left are killed too, up to three of them: a backup that dies with five is given up.
		for range max(0, b.rng.IntN(6)-2) {
			d := b.h.start()
			time.Sleep(time.Duration(b.rng.IntN(200)) * time.Millisecond)
			d.end(syscall.SIGKILL)
			b.killed++
		}
		d := b.h.start()
		b.settle(d, digest(t, b.h.path("src")))
		for _, w := range b.broken {
			t.Error(w)
		}
		if t.Failed() {
			t.Fatalf("round %d of CRASH_SEED=%d\n%s", round, seed, d.logged())
		}
		if code := d.end(syscall.SIGTERM); code != 0 {
			t.Errorf("got exit code %d\n%s", code, d.logged())
		}
		b.change()
	}
	d := b.h.start()
	var live []string
	for id, p := range b.backups {
		if made++; p.gone {
			gone++
		} else {
			live = append(live, id)
		}
	}
	slices.Sort(live)
	d.until("deletions have come to the repository", func() bool {
		stdout, stderr, code := b.h.run("repo", "snapshots", "--json", "--config", b.h.configFile())
		if code == exitLocked {
			return false // the daemon's gc is at it
		}
		if code != 0 {
			t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
		}
		var list []struct{ ID string }
		if err := json.Unmarshal([]byte(stdout), &list); err != nil {
			t.Fatal(err)
		}
		there := map[string]bool{}
		for _, s := range list {
			there[s.ID] = true
			if p := b.backups[s.ID]; p != nil && p.gone {
				return false
			}
		}
		for _, id := range live {
			if !there[id] {
				t.Fatalf("backup %s is not in the repository", id)
			}
		}
		return true
	})
	d.end(syscall.SIGTERM)
	b.h.must("repo", "check", "--read-data", "--config", b.h.configFile())
	for range min(3, len(live)) {
		id := live[b.rng.IntN(len(live))]
		if err := os.RemoveAll(b.h.path("back")); err != nil {
			t.Fatal(err)
		}
		b.h.must("repo", "restore", id, "--config", b.h.configFile(), "--target", b.h.path("back"))
		if digest(t, b.h.path("back"+b.h.path("src"))) != b.backups[id].digest {
			t.Errorf("backup %s came back as something else", id)
		}
	}
	t.Logf("%d daemons killed, %d calls, acknowledged %v; %d backups, %d of them deleted", b.killed, b.asked, b.acked, made, gone)
	if made < daemonKills() || gone == 0 {
		t.Error("hardly anything was asked of the daemons")
	}
}

// The control: a daemon that acknowledges a deletion before it has written it down is caught.
func TestKill_OfADaemonThatPromisesTooEarlyIsCaught(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	b := newBattery(t, seed)
	b.calm = true
	for range 40 {
		b.life(b.h.start(), b.early)
		d := b.h.start()
		b.settle(d, digest(t, b.h.path("src")))
		d.end(syscall.SIGTERM)
		for _, w := range b.broken {
			if !strings.Contains(w, "was deleted and is there") {
				t.Errorf("caught for another reason: %s", w)
			}
		}
		if len(b.broken) > 0 {
			return
		}
	}
	t.Error("it was never caught")
}

// early stands before a daemon and says yes to deletions a moment before it passes them on.
func (b *battery) early(address string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		pass := func() *http.Response {
			out, err := http.NewRequest(r.Method, "http://"+address+r.URL.RequestURI(), strings.NewReader(string(body)))
			if err != nil {
				return nil
			}
			out.Header = r.Header.Clone()
			resp, err := http.DefaultClient.Do(out)
			if err != nil {
				return nil // it is dead
			}
			return resp
		}
		if r.Method == http.MethodDelete {
			go func() {
				time.Sleep(50 * time.Millisecond)
				if resp := pass(); resp != nil {
					resp.Body.Close()
				}
			}()
			fmt.Fprintln(w, `{"deleted": true}`)
			return
		}
		resp := pass()
		if resp == nil {
			panic(http.ErrAbortHandler)
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body) // a client that went away has no use for an error
	}))
	b.h.t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
