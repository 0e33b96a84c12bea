package main

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
)

// At the loudest level, with every kind of caller and a hook that prints what it is given, no secret stands in the log or in
// what the daemon writes down; whom a provider with an authority of its own vouches for gets in.
func TestServe_SecretsStandNowhere(t *testing.T) {
	const signing, client, vouched, inherited, guess, printed = "a-signing-secret-of-more-than-32-bytes", "the-clients-secret", "an-opaque-token-of-the-provider",
		"a-secret-of-the-environment", "a-guess-at-a-token", "what-the-hook-printed"
	provider := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, secret, _ := r.BasicAuth()
		fmt.Fprintf(w, `{"active":%v,"sub":"1","aud":"backupd","roles":["backup_operator"]}`, secret == client && r.FormValue("token") == vouched)
	}))
	defer provider.Close()
	h := newHost(t)
	h.write("jwt", signing)
	h.write("oidc", client)
	h.write("ca", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: provider.Certificate().Raw})))
	h.write("hook", "#!/bin/sh\nenv\necho "+printed+"\nexit 1\n")
	if err := os.Chmod(h.path("hook"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.more = fmt.Sprintf("log: {level: debug}\nlimits: {auth_failures_per_minute: 1000}\nauth: {jwt: {secret_file: %q}, oidc: {issuer: %q, ca_file: %q, introspection: {url: %q, client_id: backupd, client_secret_file: %q}}}\n",
		h.path("jwt"), provider.URL, h.path("ca"), provider.URL+"/introspect", h.path("oidc"))
	h.configure(fmt.Sprintf("{name: loud, kind: files, paths: [%q], hooks: {before: [%q]}}", h.path("src"), h.path("hook")))
	admin, operator := h.token("admin"), h.token("backup_operator")
	d := h.start("BACKUPD_SECRET=" + inherited)
	if a := d.call("GET", base+"/list", vouched, ""); a.code != http.StatusOK {
		t.Errorf("a token of the provider: got %d %s", a.code, a.body)
	}
	with := func(name, value string) {
		r := sure(http.NewRequest("GET", "http://"+d.address+base+"/list?token="+admin, nil))
		r.Header.Set(name, value)
		sure(d.client.Do(r)).Body.Close()
	}
	for _, token := range []string{admin, operator, guess} {
		with("X-API-Key", token)
		with("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("bot:"+token)))
		with("Authorization", "Nonsense "+token)
		d.call("POST", base+"/restore/"+token, admin, `{"target":"`+token+`"}`)
		d.call("DELETE", base+"/backup-01jaaaaaaaaaaaaaaaaaaaaaaa", token, "")
	}
	a := d.call("POST", base+"/create?wait=30", admin, `{}`)
	if a.m["status"] != "completed_with_problems" {
		t.Errorf("got %d %s", a.code, a.body)
	}
	d.hangUp()
	d.until("it was read again", func() bool { return strings.Contains(d.logged(), "configuration read again") })
	d.end(syscall.SIGTERM)

	written := d.logged() + string(sure(os.ReadFile(h.path("state/audit.log")))) + string(sure(os.ReadFile(h.path("state/state.db"))))
	// That what a hook prints is found shows that the search would find the rest.
	if !strings.Contains(d.logged(), printed) || !strings.Contains(written, "level=ERROR") && !strings.Contains(written, "level=WARN") {
		t.Errorf("the hook is not quoted:\n%s", d.logged())
	}
	key := strings.TrimSpace(string(sure(os.ReadFile(h.path("key")))))
	for name, secret := range map[string]string{
		"key": key, "signing secret": signing, "client's secret": client, "provider's token": vouched, "environment": inherited,
		"admin's token": admin, "operator's token": operator, "password": base64.StdEncoding.EncodeToString([]byte("bot:" + admin)),
	} {
		if i := strings.Index(written, secret); i >= 0 {
			t.Errorf("the %s stands in what was written: %q", name, written[max(0, i-200):i])
		}
	}
}

// What systemd calls its journal is the journal only where it is standard error.
func TestIsJournal_WantsTheDescriptorItself(t *testing.T) {
	f := sure(os.Create(t.TempDir() + "/f"))
	defer f.Close()
	st := sure(f.Stat()).Sys().(*syscall.Stat_t)
	it := fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	for stream, want := range map[string]bool{it: true, "": false, it + "0": false, "1:2": false} {
		if got := isJournal(stream, int(f.Fd())); got != want {
			t.Errorf("%q: got %v", stream, got)
		}
	}
}
