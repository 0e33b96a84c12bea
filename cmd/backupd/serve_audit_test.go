package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The end of the log is noted every half a minute. A change is in the state file together with the record of it: after a crash
// the records of changes can not be cut off unseen, also those that were not noted yet.
func TestServe_NoRecordOfAChangeCanBeCutAfterACrash(t *testing.T) {
	h := newHost(t)
	token := h.token("admin")
	d := h.start()
	id := d.backup()
	d.finished(id)
	log := h.path("state/audit.log")
	before := sure(os.ReadFile(log))
	if a := d.call("DELETE", base+"/"+id, token, ""); a.code != http.StatusOK {
		t.Fatalf("got %d %s", a.code, a.body)
	}
	d.end(syscall.SIGKILL)
	whole := sure(os.ReadFile(log))
	if len(whole) <= len(before) || !strings.Contains(string(whole[len(before):]), id) {
		t.Fatalf("the deletion is not in the log:\n%s", whole)
	}
	h.write("state/audit.log", string(before))
	h.exitedWith(exitFailed, "lost its end")
	h.write("state/audit.log", string(whole))
	h.start().end(syscall.SIGKILL)

	// The way out, which the error tells: both are moved away. That there was a log before stands in the new one.
	h.write("state/audit.log", string(before))
	for _, name := range []string{"audit.log", "audit.head"} {
		if err := os.Rename(h.path("state/"+name), h.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	d = h.start()
	if !strings.Contains(d.logged(), "the audit log is not there") {
		t.Errorf("the log does not say that it begins anew:\n%s", d.logged())
	}
	d.end(syscall.SIGTERM)
	if begun := string(sure(os.ReadFile(log))); !strings.Contains(begun, `"seq":1,`) || !strings.Contains(begun, "audit.begin") {
		t.Errorf("the new log begins with %s", begun)
	}
	h.must("debug", "audit", "verify", "--config", h.configFile())
	d = h.start()
	if strings.Contains(d.logged(), "the audit log is not there") {
		t.Errorf("it begins anew again:\n%s", d.logged())
	}
	d.end(syscall.SIGTERM)
}

// A daemon that died on a full state disk starts on it: what there is can be read.
func TestServe_StartsOnAFullStateDisk(t *testing.T) {
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
	token := h.token("admin")
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		d := h.start()
		id := d.backup()
		d.finished(id)
		f, err := os.Create(filepath.Join(h.path("state"), "filler"))
		if err != nil {
			t.Fatal(err)
		}
		for size := 64 << 10; size > 0; size /= 2 {
			for err = nil; err == nil; {
				_, err = f.Write(make([]byte, size))
			}
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
		}
		d.end(sig)
		d = h.start()
		if a := d.call("GET", base+"/"+id, token, ""); a.code != http.StatusOK || a.m["status"] != "completed" {
			t.Errorf("got %d %s", a.code, a.body)
		}
		if a := d.call("GET", base+"/"+id+"/download?format=tar", token, ""); a.code != http.StatusOK || len(a.body) < 100_000 {
			t.Errorf("download: got %d, %d bytes", a.code, len(a.body))
		}
		// The start may have found room, as the index of a dead daemon goes: then it is a promise like any other.
		if a := d.call("POST", base+"/create", token, "{}"); a.code != http.StatusCreated && (a.code < 500 || !strings.Contains(string(a.body), "space")) {
			t.Errorf("a new backup: got %d %s", a.code, a.body)
		}
		if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
			t.Fatal(err)
		}
		d.finished(d.backup())
		d.end(syscall.SIGTERM)
	}
}
