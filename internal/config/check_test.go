package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/config"
)

func write(t *testing.T, path string, content []byte, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func check(t *testing.T, text string, cron func(string) error) error {
	t.Helper()
	c, err := config.Parse("c.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c.Check(cron)
}

// with is a configuration whose only secret is the key.
func with(key, more string) string {
	return fmt.Sprintf(`repository: {path: /srv/none/repo, key_file: %s}
state_dir: /srv/none/state
sources: [{name: bots, kind: files, paths: [/opt]}]
%s`, key, more)
}

func want(t *testing.T, what string, err error, part string) {
	t.Helper()
	if part == "" && err != nil || part != "" && (err == nil || !strings.Contains(err.Error(), part)) {
		t.Errorf("%s: got %v, want %q", what, err, part)
	}
}

func TestCheck_WantsSecretsThereAndClosed(t *testing.T) {
	dir := t.TempDir()
	content := []byte("0123456789abcdef")
	for _, c := range []struct{ name, path, want string }{
		{"0600", write(t, dir+"/a", content, 0o600), ""},
		{"0400", write(t, dir+"/b", content, 0o400), ""},
		{"0640", write(t, dir+"/c", content, 0o640), ""},
		{"0644", write(t, dir+"/d", content, 0o644), "open to others"},
		{"0660", write(t, dir+"/e", content, 0o660), "open to others"},
		{"0601", write(t, dir+"/f", content, 0o601), "open to others"},
		{"empty", write(t, dir+"/g", nil, 0o600), "is empty"},
		{"large", write(t, dir+"/h", make([]byte, 100_000), 0o600), "more than"},
		{"directory", dir, "no regular file"},
		{"device", "/dev/null", "no regular file"},
		{"missing", dir + "/none", "is not there"},
	} {
		err := check(t, with(c.path, ""), nil)
		want(t, c.name, err, c.want)
		if c.want != "" {
			want(t, c.name, err, "c.yaml:1: repository.key_file: ")
		}
		want(t, c.name+" as jwt", check(t, with(dir+"/a", "auth: {jwt: {secret_file: "+c.path+"}}\n"), nil), c.want)
	}
	err := check(t, with(dir+"/a", "auth: {oidc: {issuer: https://x.example, introspection: {url: https://x.example/i, client_id: c, client_secret_file: /none}}}\n"), nil)
	want(t, "oidc", err, "c.yaml:4: auth.oidc.introspection.client_secret_file: /none is not there")
}

func TestCheck_WantsCertificateAndKeyThatFit(t *testing.T) {
	dir := t.TempDir()
	key := write(t, dir+"/key", []byte("k"), 0o600)
	pair := func(n int64) (cert, key []byte) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(n), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
	}
	cert, private := pair(1)
	_, other := pair(2)
	write(t, dir+"/cert", cert, 0o644)
	write(t, dir+"/good", private, 0o600)
	write(t, dir+"/other", other, 0o600)
	write(t, dir+"/open", private, 0o644)
	for name, part := range map[string]string{"good": "", "other": "no certificate and its key", "open": "open to others", "none": "is not there"} {
		want(t, name, check(t, with(key, fmt.Sprintf("tls: {cert_file: %s/cert, key_file: %s/%s}\n", dir, dir, name)), nil), part)
	}
}

func TestCheck_WantsAuthoritiesThatAreSome(t *testing.T) {
	dir := t.TempDir()
	key := write(t, dir+"/key", []byte("k"), 0o600)
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/ca", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644) // no secret
	write(t, dir+"/text", []byte("no certificate"), 0o644)
	write(t, dir+"/large", make([]byte, 2<<20), 0o644)
	for name, part := range map[string]string{"ca": "", "text": "holds no certificate", "none": "no such file", "large": "no regular file of", ".": "no regular file of"} {
		text := with(key, fmt.Sprintf("auth: {oidc: {issuer: https://x.example, ca_file: %s, introspection: {url: https://x.example/i, client_id: c, client_secret_file: %s}}}\n",
			filepath.Join(dir, name), key))
		err := check(t, text, nil)
		want(t, name, err, part)
		if part != "" {
			want(t, name, err, "c.yaml:4: auth.oidc.ca_file: ")
		}
	}
}

func TestCheck_RefusesWhatIsSwept(t *testing.T) {
	key := write(t, t.TempDir()+"/key", []byte("k"), 0o600)
	beside, err := os.MkdirTemp(".", "check-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(beside)
	beside, err = filepath.Abs(beside)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/tmp", filepath.Join(beside, "away")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ repository, state, target, want string }{
		{"/srv/none/repo", "/srv/none/state", "/srv/none/staging", ""},
		{"/srv/none/repo", "/tmp/state", "/srv/none/staging", "state_dir: /tmp/state lies in /tmp"},
		{"/srv/none/repo", "/srv/none/state", "/var/tmp/x", "targets.staging.path: /var/tmp/x lies in /var/tmp"},
		{"/tmp/repo", "/srv/none/state", "/srv/none/staging", "repository.path: /tmp/repo lies in /tmp"},
		{"/srv/none/repo", "/srv/none/state", "/tmp", "targets.staging.path: /tmp lies in /tmp"},
		{"/srv/none/repo", "/srv/none/state", "/tmpfiles", ""},
		{"/srv/none/repo", beside + "/away/state", "/srv/none/staging", "away/state lies in /tmp, which a bot host's cleaner empties"},
	} {
		text := fmt.Sprintf("repository: {path: %s, key_file: %s}\nstate_dir: %s\nsources: [{name: bots, kind: files, paths: [/opt]}]\ntargets: {staging: {path: %s}}\n",
			c.repository, key, c.state, c.target)
		want(t, fmt.Sprint(c), check(t, text, nil), c.want)
		want(t, fmt.Sprint(c, ", temporary"), check(t, text+"temporary: true\n", nil), "")
	}
}

func TestCheck_FollowsLinksThatLeadIntoOneAnother(t *testing.T) {
	dir, err := os.MkdirTemp(".", "check-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.Abs(dir); err != nil {
		t.Fatal(err)
	}
	key := write(t, dir+"/key", []byte("k"), 0o600)
	if err := errors.Join(os.MkdirAll(dir+"/data/in", 0o700), os.Symlink("data/in", dir+"/link")); err != nil {
		t.Fatal(err)
	}
	text := func(target string) string {
		return fmt.Sprintf("temporary: true\nrepository: {path: /srv/none/repo, key_file: %s}\nstate_dir: /srv/none/state\nsources: [{name: bots, kind: files, paths: [%s/data]}]\ntargets: {staging: {path: %s}}\n",
			key, dir, target)
	}
	want(t, "beside", check(t, text(dir+"/staging"), nil), "")
	want(t, "by a link", check(t, text(dir+"/link/new"), nil), "targets.staging.path: "+dir+"/data/in/new lies in source bots")
}

func TestCheck_SaysWhatComesLater(t *testing.T) {
	dir := t.TempDir()
	key := write(t, dir+"/key", []byte("k"), 0o600)
	err := check(t, fmt.Sprintf(`repository: {path: /srv/none/repo, key_file: %s}
state_dir: /srv/none/state
sources:
  - {name: databases, kind: postgres, dsn_file: /etc/b/pg.dsn}
  - {name: drive, kind: s3, endpoint: "https://127.0.0.1:9100", credentials_file: /etc/b/drive.json}
targets: {staging: {path: /srv/none/staging, postgres: {dsn_file: /etc/b/staging.dsn, prefix: staging_}}}
`, key), nil)
	for _, part := range []string{"c.yaml:4: sources[0].kind: postgres comes with a later version", "c.yaml:5: sources[1].kind: s3 comes with a later version",
		"c.yaml:6: targets.staging.postgres: "} {
		want(t, "later", err, part)
	}
}

func TestCheck_AsksTheCallerAboutCron(t *testing.T) {
	key := write(t, t.TempDir()+"/key", []byte("k"), 0o600)
	var asked []string
	cron := func(s string) error {
		asked = append(asked, s)
		return errors.New("no")
	}
	want(t, "cron", check(t, with(key, "gc: {schedule: \"* * *\"}\n"), cron), "c.yaml:4: gc.schedule: ")
	want(t, "never", check(t, with(key, "gc: {schedule: never}\n"), cron), "")
	if fmt.Sprint(asked) != "[* * *]" {
		t.Errorf("asked %q", asked)
	}
}

func TestCheck_WantsHooksToBePrograms(t *testing.T) {
	dir := t.TempDir()
	key := write(t, dir+"/key", []byte("k"), 0o600)
	for path, part := range map[string]string{
		write(t, dir+"/good", []byte("#!/bin/sh\n"), 0o755):  "",
		write(t, dir+"/plain", []byte("#!/bin/sh\n"), 0o644): "is no program",
		write(t, dir+"/open", []byte("#!/bin/sh\n"), 0o757):  "changed by anyone",
		dir:           "is no program",
		dir + "/none": "no such file",
	} {
		text := strings.Replace(with(key, ""), "paths: [/opt]", "paths: [/opt], hooks: {before: ["+path+", --now]}", 1)
		want(t, path, check(t, text, nil), part)
	}
}
