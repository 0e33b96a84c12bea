package api_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/generalbots/backupd/api"
)

func TestTLS_SpeaksHTTP2AndNothingOlderThanItIsTold(t *testing.T) {
	other := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer other.Close()
	h := furnished(t, func(o *api.Options) {
		o.TLS = &tls.Config{Certificates: other.TLS.Certificates, MinVersion: tls.VersionTLS13}
	})
	roots := x509.NewCertPool()
	roots.AddCert(other.Certificate())
	h.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	resp := h.raw(h.admin, "GET", at+"/list")
	resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.TLS.Version != tls.VersionTLS13 || resp.StatusCode != 200 {
		t.Errorf("%s, %x, %d", resp.Proto, resp.TLS.Version, resp.StatusCode)
	}
	h.client.CloseIdleConnections()
	old := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS12}}}
	if resp, err := old.Get(h.url + "/health"); err == nil {
		resp.Body.Close()
		t.Error("TLS 1.2 was taken")
	}
	c, err := api.NewClient(api.ClientOptions{Server: h.url, Token: h.admin, TLS: &tls.Config{RootCAs: roots}})
	must(t, err)
	defer c.Close()
	id := h.want(201, h.admin, "POST", at+"/create", `{}`).decode(t)["id"].(string)
	h.run()
	if j, err := c.Watch(t.Context(), id, nil); err != nil || j.Status != "completed" {
		t.Errorf("%+v, %v", j, err)
	}
}
