package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestServe_IsReadyAnswersAndDrains(t *testing.T) {
	h := newHost(t)
	token := h.token("admin")
	d := h.start("WATCHDOG_USEC=600000")
	for _, path := range []string{"/health", "/healthz", "/api/health"} {
		if a := d.call("GET", path, "", ""); a.code != http.StatusOK {
			t.Errorf("%s: got %d %s", path, a.code, a.body)
		}
	}
	if a := d.call("GET", base+"/list", token, ""); a.code != http.StatusOK || strings.TrimSpace(string(a.body)) != "[]" {
		t.Errorf("list: got %d %s", a.code, a.body)
	}
	if a := d.call("GET", "/metrics", "", ""); a.code != http.StatusOK || !strings.Contains(string(a.body), `backupd_source_last_success_age_seconds{source="bots"} +Inf`) {
		t.Errorf("metrics: got %d %s", a.code, a.body)
	}
	d.until("it gives signs of life", func() bool { return d.has("WATCHDOG=1") })
	start := time.Now()
	if code := d.end(syscall.SIGTERM); code != 0 {
		t.Errorf("got exit code %d\n%s", code, d.logged())
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("idle, it took %v to end", took)
	}
	if !d.has("STOPPING=1") {
		t.Error("it did not tell that it stops")
	}
	if _, err := net.Dial("tcp", d.address); err == nil {
		t.Error("somebody still listens")
	}
	if strings.Contains(d.logged(), token) {
		t.Error("the token stands in the log")
	}
}

func TestServe_SecondDaemonNamesTheFirst(t *testing.T) {
	h := newHost(t)
	d := h.start()
	h.exitedWith(exitLocked, fmt.Sprintf("a daemon (pid %d) is running on the repository %s already", d.cmd.Process.Pid, h.path("repo")))
	// With a state directory of its own it is still the same repository.
	other := &bothost{t: t, dir: h.dir, exe: h.exe, listen: h.listen, more: "", tokens: h.tokens}
	text, err := os.ReadFile(h.configFile())
	if err != nil {
		t.Fatal(err)
	}
	h.write("backupd.yaml", strings.ReplaceAll(string(text), h.path("state"), h.path("state2")))
	other.exitedWith(exitLocked, "is running on the repository")
	if _, err := os.Stat(h.path("state2")); err == nil {
		t.Error("the second one made its state directory before it looked")
	}
	// A killed daemon leaves nothing that stands in the way.
	d.end(syscall.SIGKILL)
	h.configure()
	h.start().end(syscall.SIGTERM)
}

func TestServe_PortInUse(t *testing.T) {
	h := newHost(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.listen = l.Addr().String()
	h.configure()
	h.exitedWith(exitFailed, "listen on "+h.listen+": another program has this address", "choose another address")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	h.start().end(syscall.SIGTERM)
}

func TestAddressTaken_NamesWhoElseWantsPort9000(t *testing.T) {
	if got := (&addressTaken{"127.0.0.1:9000"}).Error(); !strings.Contains(got, "MinIO") {
		t.Errorf("got %s", got)
	}
	if got := (&addressTaken{"unix:/run/x"}).Error(); strings.Contains(got, "ss -") {
		t.Errorf("got %s", got)
	}
}

func TestServe_RefusesWhatIsNotItsOwn(t *testing.T) {
	h := newHost(t)
	h.start().end(syscall.SIGTERM)
	t.Run("state of another repository", func(t *testing.T) {
		h.must("repo", "init", "--repo", h.path("repo2"), "--key-file", h.path("key"))
		text, err := os.ReadFile(h.configFile())
		if err != nil {
			t.Fatal(err)
		}
		h.write("backupd.yaml", strings.ReplaceAll(string(text), h.path("repo")+`"`, h.path("repo2")+`"`))
		h.exitedWith(exitFailed, "repository", "state_dir of its own")
	})
	t.Run("no repository", func(t *testing.T) {
		if err := os.Rename(h.path("repo"), h.path("away")); err != nil {
			t.Fatal(err)
		}
		h.configure()
		h.exitedWith(exitNotFound, "no repository at "+h.path("repo"), "backupd repo init")
		if err := os.Rename(h.path("away"), h.path("repo")); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("wrong key", func(t *testing.T) {
		h.must("repo", "init", "--repo", h.path("repo3"), "--key-file", h.path("key3"))
		text, err := os.ReadFile(h.configFile())
		if err != nil {
			t.Fatal(err)
		}
		h.write("backupd.yaml", strings.ReplaceAll(string(text), h.path("key"), h.path("key3")))
		h.exitedWith(exitWrongKey, "key")
	})
}

// A gc has the repository for itself; a backup by hand, which holds the writer's lock, is waited for by jobs and keeps
// no daemon from starting.
func TestServe_BesideACommandThatHasTheRepository(t *testing.T) {
	h := newHost(t)
	hold := func(name string) *os.File {
		f := sure(os.OpenFile(h.path("repo/locks/"+name), os.O_RDWR|os.O_CREATE, 0o600))
		ok(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
		return f
	}
	gc := hold("use")
	h.exitedWith(exitLocked, "another backupd holds this repository", "wait until it has ended")
	ok(t, gc.Close())
	backup := hold("writer")
	h.start().end(syscall.SIGTERM)
	ok(t, backup.Close())
}

func TestServe_TellsEveryMistakeOfItsConfiguration(t *testing.T) {
	h := newHost(t)
	h.more = "lisen: x\nmemory: 3 MiB\n"
	h.configure(`{name: "bots", kind: files, paths: [relative]}`)
	parts := []string{"lisen", "memory", "sources[1].name", "sources[1].paths[0]", h.configFile() + ":"}
	h.exitedWith(exitFailed, parts...)
	_, said, code := h.run("config", "check", "--config", h.configFile())
	if code != exitFailed {
		t.Errorf("config check: got exit code %d", code)
	}
	for _, part := range parts {
		if !strings.Contains(said, part) {
			t.Errorf("%q is not in:\n%s", part, said)
		}
	}
	h.more = "listen: 0.0.0.0:9\n"
	text := strings.Replace(string(sure(os.ReadFile(h.configFile()))), "lisen: x\nmemory: 3 MiB\n", "", 1)
	h.write("backupd.yaml", strings.Replace(text, h.listen, "0.0.0.0:0", 1))
	h.exitedWith(exitFailed, "can be reached from other hosts")
}

func sure[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestServe_HangUpReadsTheConfigurationAgain(t *testing.T) {
	h := newHost(t)
	token := h.token("admin")
	d := h.start()
	sources := func() string { return string(d.call("GET", base+"/sources", token, "").body) }
	if err := os.Mkdir(h.path("more"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.more = "limits: {queued_jobs: 7}\n"
	h.configure(fmt.Sprintf("{name: more, kind: files, paths: [%q]}", h.path("more")))
	d.hangUp()
	d.until("the new source is there", func() bool { return strings.Contains(sources(), `"more"`) })
	// It says so when the new sources are in force already.
	d.until("it says what needs a restart", func() bool { return strings.Contains(d.logged(), "key=limits") })
	h.more = "nonsense: 1\nlog: {level: loud}\n"
	h.configure()
	d.hangUp()
	d.until("it says what is wrong", func() bool {
		return strings.Contains(d.logged(), "nonsense") && strings.Contains(d.logged(), "log.level") && strings.Contains(d.logged(), "the old one stays in force")
	})
	if !strings.Contains(sources(), `"more"`) {
		t.Error("a broken configuration took a source away")
	}
	if code := d.end(syscall.SIGTERM); code != 0 {
		t.Errorf("got exit code %d", code)
	}
}

func (d *served) hangUp() {
	d.h.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		d.h.t.Fatal(err)
	}
}

// waiting makes the source wait in its hook until a file is there.
func (h *bothost) waiting() (open func()) {
	h.t.Helper()
	h.write("wait", "#!/bin/sh\ntouch \"$1.begun\"\nwhile [ ! -e \"$1\" ]; do sleep 0.05; done\n")
	if err := os.Chmod(h.path("wait"), 0o700); err != nil {
		h.t.Fatal(err)
	}
	h.configure(fmt.Sprintf("{name: slow, kind: files, paths: [%q], hooks: {before: [%q, %q]}}", h.path("src"), h.path("wait"), h.path("go")))
	return func() {
		if err := os.WriteFile(h.path("go"), nil, 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
}

// A backup that runs when the daemon is told to stop, or is killed, is done under the same id by the next one.
func TestServe_BackupGoesOnAfter(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			h := newHost(t)
			open := h.waiting()
			token := h.token("admin")
			d := h.start()
			id := d.backup()
			d.until("the backup runs", func() bool { _, err := os.Stat(h.path("go.begun")); return err == nil })
			waiting := d.backup()
			start := time.Now()
			code := d.end(sig)
			if sig == syscall.SIGTERM && code != 0 {
				t.Errorf("got exit code %d\n%s", code, d.logged())
			}
			if took := time.Since(start); took > 30*time.Second { // the hook would go on for ever
				t.Errorf("it took %v to end", took)
			}
			open()
			d = h.start()
			for _, one := range []string{id, waiting} {
				d.until("backup "+one+" is complete", func() bool { return d.status(one) == "completed" })
			}
			a := d.call("GET", base+"/jobs/"+id, token, "")
			if n, _ := a.m["attempts"].(float64); n != 2 {
				t.Errorf("got %v attempts, want 2: %s", a.m["attempts"], a.body)
			}
			d.end(syscall.SIGTERM)
			h.must("repo", "check", "--read-data", "--config", h.configFile())
		})
	}
}

func TestServe_UnixSocket(t *testing.T) {
	h := newHost(t)
	short, err := os.MkdirTemp("", "u")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	path := filepath.Join(short, "api")
	h.listen = "unix:" + path
	h.configure()
	token := h.token("backup_operator")
	for range 2 {
		d := h.start()
		d.overSocket(path)
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != socketMode {
			t.Errorf("the socket: got %v, %v", st.Mode(), err)
		}
		if a := d.call("GET", base+"/list", token, ""); a.code != http.StatusOK {
			t.Errorf("got %d %s", a.code, a.body)
		}
		if a := d.call("GET", base+"/list", "", ""); a.code != http.StatusUnauthorized {
			t.Errorf("without a token: got %d %s", a.code, a.body)
		}
		d.end(syscall.SIGKILL) // which leaves the socket behind
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.exitedWith(exitFailed, "no socket")
	if b, err := os.ReadFile(path); err != nil || string(b) != "a file" {
		t.Errorf("the file in the way: got %q, %v", b, err)
	}
}

// The figure is in docs/reliability.md.
func TestServe_IdleMemory(t *testing.T) {
	h := newHost(t)
	h.token("admin")
	d := h.start()
	d.call("GET", "/health", "", "")
	time.Sleep(time.Second)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("idle: %d KiB of anonymous memory", kib)
			if kib <= 0 || kib > 40<<10 {
				t.Errorf("got %d KiB of anonymous memory, want at most 40 MiB", kib)
			}
			return
		}
	}
	t.Fatal("the system does not tell the memory of a process")
}
