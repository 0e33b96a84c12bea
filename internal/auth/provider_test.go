package auth_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/generalbots/backupd/internal/auth"
)

// clientID is backupd at the provider.
const clientID = "backupd"

// providerStorage is the library's storage in memory, with tokens of service users
// for backupd's audience and the role claims that Zitadel's own storage adds.
type providerStorage struct {
	*storage.Storage
	issuer string

	mu    sync.Mutex // guards the rest
	roles map[string]any
}

func (s *providerStorage) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	return &oidc.JWTTokenRequest{Subject: id, Audience: []string{id, clientID, project}, Scopes: scopes}, nil
}

func (s *providerStorage) SetIntrospectionFromToken(ctx context.Context, r *oidc.IntrospectionResponse, tokenID, subject, client string) error {
	err := s.Storage.SetIntrospectionFromToken(ctx, r, tokenID, subject, client)
	if err != nil && !strings.Contains(err.Error(), "user not found") {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Subject, r.Issuer = subject, s.issuer
	r.Audience = oidc.Audience{clientID, project}
	r.TokenType = oidc.BearerToken
	r.Claims = map[string]any{"urn:zitadel:iam:org:project:" + project + ":roles": s.roles}
	return nil
}

func (s *providerStorage) give(roles map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles = roles
}

// provider is an OpenID provider on a real socket.
type provider struct {
	*httptest.Server
	storage *providerStorage
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	var handler http.Handler
	p := &provider{Server: httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))}
	t.Cleanup(p.Close)
	p.storage = &providerStorage{issuer: p.URL, Storage: storage.NewStorageWithClients(storage.NewUserStore(p.URL),
		map[string]*storage.Client{clientID: storage.WebClient(clientID, "it's a secret & more")})}
	made, err := op.NewProvider(&op.Config{CryptoKey: [32]byte{1}, AuthMethodPost: true}, p.storage, op.StaticIssuer(p.URL),
		op.WithAllowInsecure(), op.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	ok(t, err)
	handler = op.RegisterLegacyServer(op.NewLegacyServer(made, *op.DefaultEndpoints), op.AuthorizeCallbackHandler(made))
	return p
}

// token has the provider issue one to its service user.
func (p *provider) token(t *testing.T) string {
	t.Helper()
	resp, err := http.PostForm(p.URL+"/oauth/token", url.Values{"grant_type": {"client_credentials"}, "scope": {"openid"},
		"client_id": {"sid1"}, "client_secret": {"verysecret"}})
	ok(t, err)
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	body, err := io.ReadAll(resp.Body)
	ok(t, err)
	ok(t, json.Unmarshal(body, &answer))
	if resp.StatusCode != 200 || answer.AccessToken == "" {
		t.Fatalf("the provider issues no token: %d %s", resp.StatusCode, body)
	}
	return answer.AccessToken
}

func (p *provider) authenticator(t *testing.T, change func(*auth.OIDCOptions)) *auth.Authenticator {
	t.Helper()
	o := &auth.OIDCOptions{Issuer: p.URL, IntrospectionURL: p.URL + "/oauth/introspect", ClientID: clientID,
		ClientSecret: []byte("it's a secret & more"), ProjectID: project}
	change(o)
	return authenticator(t, auth.Options{OIDC: o, Failures: patient})
}

func TestProvider_VouchesForItsOwnTokens(t *testing.T) {
	p := newProvider(t)
	for name, change := range map[string]func(*auth.OIDCOptions){
		"client as HTTP Basic": func(*auth.OIDCOptions) {},
		"client in the form":   func(o *auth.OIDCOptions) { o.ClientSecretPost = true },
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range []struct {
				roles map[string]any
				want  auth.Role
			}{
				{map[string]any{"admin": map[string]any{"1": "example.org"}}, auth.Admin},
				{map[string]any{"Backup_Operator": map[string]any{"1": "example.org"}}, auth.Operator},
				{map[string]any{"viewer": map[string]any{}, "administrators": map[string]any{}}, auth.None},
				{nil, auth.None},
			} {
				p.storage.give(c.roles)
				a := p.authenticator(t, change)
				token := p.token(t)
				got, err := a.Authenticate(context.Background(), bearer(token))
				if err != nil || got.Role != c.want || got.Name != "sid1" || got.Method != auth.MethodOIDC {
					t.Fatalf("roles %v: got %+v, %v", c.roles, got, err)
				}
				if left := time.Until(got.Expires); left <= 0 || left > time.Hour {
					t.Fatalf("it expires in %v", left)
				}
				wantCode(t, a, "changed", bearer(token[:len(token)-3]+"AAA"), auth.CodeInvalidToken)
				wantCode(t, a, "of nobody", bearer("opaque"), auth.CodeInvalidToken)
			}
		})
	}
}

func TestProvider_IsAskedWithTheRightClientAndIsMissed(t *testing.T) {
	p := newProvider(t)
	p.storage.give(map[string]any{"admin": map[string]any{}})
	token := p.token(t)
	wantCode(t, p.authenticator(t, func(o *auth.OIDCOptions) { o.ClientSecret = []byte("wrong") }), "wrong client secret",
		bearer(token), auth.CodeServiceUnavailable)
	wantCode(t, p.authenticator(t, func(o *auth.OIDCOptions) { o.Issuer = "https://elsewhere.example" }), "another issuer",
		bearer(token), auth.CodeInvalidToken)
	wantCode(t, p.authenticator(t, func(o *auth.OIDCOptions) { o.IntrospectionURL = p.URL + "/nothing" }), "no introspection there",
		bearer(token), auth.CodeServiceUnavailable)
	a := p.authenticator(t, func(*auth.OIDCOptions) {})
	wantCode(t, a, "at work", bearer(token), "")
	second := p.token(t)
	p.Close()
	wantCode(t, a, "provider gone, token known", bearer(token), "")
	wantCode(t, a, "provider gone", bearer(second), auth.CodeServiceUnavailable)
}

func TestProvider_RevokesAndABackupTokenIsNoneOfIts(t *testing.T) {
	p := newProvider(t)
	p.storage.give(map[string]any{"admin": map[string]any{}})
	token := p.token(t)
	if err := p.storage.TerminateSession(context.Background(), "sid1", ""); err != nil {
		t.Fatal(err)
	}
	a := p.authenticator(t, func(*auth.OIDCOptions) {})
	wantCode(t, a, "revoked", bearer(token), auth.CodeInvalidToken)
	wantCode(t, a, "as api key", auth.Credentials{APIKey: p.token(t)}, auth.CodeInvalidToken)
}
