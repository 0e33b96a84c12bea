package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// certify writes a certificate with this serial number, for this long, and its key.
func (h *bothost) certify(serial int64, lasts time.Duration) {
	h.t.Helper()
	key := sure(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lasts),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der := sure(x509.CreateCertificate(rand.Reader, c, c, key.Public(), key))
	h.write("crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	h.write("crt.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: sure(x509.MarshalPKCS8PrivateKey(key))})))
}

func (d *served) serial() int64 {
	d.h.t.Helper()
	c, err := tls.Dial("tcp", d.address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		d.h.t.Fatal(err)
	}
	defer c.Close()
	if v := c.ConnectionState().Version; v != tls.VersionTLS13 {
		d.h.t.Errorf("got TLS version %x", v)
	}
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func TestServe_TLSAndItsCertificateReadAgain(t *testing.T) {
	h := newHost(t)
	h.certify(1, time.Hour)
	h.listen = "0.0.0.0:0"
	h.more = "tls: {cert_file: " + h.path("crt") + ", key_file: " + h.path("crt.key") + "}\n"
	h.configure()
	token := h.token("backup_operator")
	d := h.start()
	d.overTLS()
	_, port, err := net.SplitHostPort(d.address)
	if err != nil {
		t.Fatal(err)
	}
	d.address = net.JoinHostPort("127.0.0.1", port)
	if a := d.call("GET", base+"/list", token, ""); a.code != http.StatusOK {
		t.Errorf("got %d %s", a.code, a.body)
	}
	if _, err := tls.Dial("tcp", d.address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("it speaks TLS 1.2")
	}
	if got := d.serial(); got != 1 {
		t.Errorf("got certificate %d, want 1", got)
	}
	h.certify(2, time.Hour)
	d.hangUp()
	d.until("the new certificate is shown", func() bool { return d.serial() == 2 })
	// One that has ended keeps clients out, and no backup back.
	h.certify(3, -time.Minute)
	if _, said, code := h.run("config", "check", "--config", h.configFile()); code != exitFailed || !strings.Contains(said, "tls.cert_file") || !strings.Contains(said, "ended at") {
		t.Errorf("config check with a certificate that ended: got exit code %d\n%s", code, said)
	}
	d.hangUp()
	d.until("/api/health tells that it ended", func() bool {
		return d.call("GET", "/api/health", "", "").code == http.StatusServiceUnavailable && strings.Contains(d.logged(), "the certificate ended at")
	})
	h.certify(2, time.Hour)
	d.hangUp()
	d.until("it can do its work again", func() bool { return d.call("GET", "/api/health", "", "").code == http.StatusOK })
	h.write("crt", "no certificate")
	d.hangUp()
	d.until("it says so", func() bool { return strings.Contains(d.logged(), "tls.cert_file") })
	if got := d.serial(); got != 2 {
		t.Errorf("got certificate %d after a broken one, want 2", got)
	}
	if code := d.end(syscall.SIGTERM); code != 0 {
		t.Errorf("got exit code %d", code)
	}
}

func TestToken_LifeOfOne(t *testing.T) {
	h := newHost(t)
	create := func(args ...string) string {
		return strings.TrimSpace(h.must(append([]string{"token", "create", "--config", h.configFile()}, args...)...))
	}
	h.more = "limits: {auth_failures_per_minute: 1000}\n"
	h.configure()
	first := create("--name", "first", "--role", "admin")
	if strings.ContainsAny(first, " \n") || len(first) < 40 {
		t.Errorf("standard output is not the token alone: %q", first)
	}
	d := h.start()
	list := func(token string) int { return d.call("GET", base+"/list", token, "").code }
	if got := list(first); got != http.StatusOK {
		t.Errorf("a token made before the start: got %d", got)
	}
	short := create("--name", "short", "--role", "backup_operator", "--expires", "2s")
	d.until("a token made while it runs lets in", func() bool { return list(short) == http.StatusOK })
	if a := d.call("DELETE", base+"/backup-01jaaaaaaaaaaaaaaaaaaaaaaa", short, ""); a.code != http.StatusForbidden {
		t.Errorf("an operator deletes: got %d %s", a.code, a.body)
	}
	d.until("it expires", func() bool { return list(short) == http.StatusUnauthorized })
	var tokens []tokenValue
	if err := json.Unmarshal([]byte(h.must("token", "list", "--config", h.configFile(), "--json")), &tokens); err != nil || len(tokens) != 2 || !tokens[1].Expired {
		t.Errorf("got %+v, %v", tokens, err)
	}
	h.must("token", "revoke", "--config", h.configFile(), "first")
	d.until("a revoked token lets nobody in", func() bool { return list(first) == http.StatusUnauthorized })
	if _, _, code := h.run("token", "revoke", "--config", h.configFile(), "first"); code != exitNotFound {
		t.Errorf("revoking it again: got exit code %d", code)
	}
	// The file is damaged while it runs: nobody gets in by token; repaired: everybody does again.
	third := create("--name", "third", "--role", "admin")
	d.until("the third lets in", func() bool { return list(third) == http.StatusOK })
	file := filepath.Join("state", "tokens.json")
	good := sure(os.ReadFile(h.path(file)))
	h.write(file, string(good[:len(good)/2]))
	d.until("a damaged file lets nobody in", func() bool { return list(third) != http.StatusOK })
	h.write(file, string(good))
	d.until("the repaired one lets in", func() bool { return list(third) == http.StatusOK })
	d.end(syscall.SIGTERM)
	for _, secret := range []string{first, short, third} {
		if strings.Contains(d.logged(), secret) || strings.Contains(string(good), secret) {
			t.Error("a secret stands in the log or in the file")
		}
	}
}

func TestExpiry_OfTokens(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"90d": now.AddDate(0, 0, 90), "12h": now.Add(12 * time.Hour), "90m": now.Add(90 * time.Minute),
		"2027-01-31": time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC), "2027-01-31T10:00:00Z": time.Date(2027, 1, 31, 10, 0, 0, 0, time.UTC),
	} {
		if got, err := expiry(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0d", "-3d", "-1h", "2025-01-01", "99999d", "soon", "d", "1e9h"} {
		if got, err := expiry(text, now); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestServe_KeyFromTheCredentialsOfSystemd(t *testing.T) {
	h := newHost(t)
	if err := os.Mkdir(h.path("credentials"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(h.path("key"), h.path("credentials/backupd-key")); err != nil {
		t.Fatal(err)
	}
	h.exitedWith(exitFailed, "repository.key_file", "is not there")
	d := h.start("CREDENTIALS_DIRECTORY=" + h.path("credentials"))
	if code := d.end(syscall.SIGTERM); code != 0 {
		t.Errorf("got exit code %d", code)
	}
}

// What was asked for stands in the audit log; a log that lost its end, or was changed, is found.
func TestServe_AuditLogIsVerified(t *testing.T) {
	h := newHost(t)
	h.token("admin")
	h.token("backup_operator")
	d := h.start()
	d.backup()
	if a := d.call("DELETE", base+"/backup-01jaaaaaaaaaaaaaaaaaaaaaaa", h.token("backup_operator"), ""); a.code != http.StatusForbidden {
		t.Errorf("got %d %s", a.code, a.body)
	}
	verify := []string{"debug", "audit", "verify", "--config", h.configFile(), "--json"}
	h.must(verify...) // beside the running daemon
	d.end(syscall.SIGTERM)
	var v auditVerifyValue
	if err := json.Unmarshal([]byte(h.must(verify...)), &v); err != nil || !v.Whole || v.Records < 2 || v.Noted == nil || v.Noted.Records != v.Records {
		t.Errorf("got %+v, %v", v, err)
	}
	log := h.path("state/audit.log")
	whole := string(sure(os.ReadFile(log)))
	lines := strings.SplitAfter(whole, "\n")
	h.write("state/audit.log", strings.Join(lines[:len(lines)-2], ""))
	if _, said, code := h.run("debug", "audit", "verify", "--config", h.configFile()); code != exitFailed || !strings.Contains(said, "not what the daemon wrote") {
		t.Errorf("a log without its end: got exit code %d\n%s", code, said)
	}
	h.exitedWith(exitFailed, "lost its end")
	h.write("state/audit.log", strings.Replace(whole, "admin", "admim", 1))
	if out, _, code := h.run("debug", "audit", "verify", "--config", h.configFile()); code != exitFailed || !strings.Contains(out, "line ") {
		t.Errorf("a changed line: got exit code %d\n%s", code, out)
	}
	h.write("state/audit.log", whole)
	h.start().end(syscall.SIGTERM)
}
