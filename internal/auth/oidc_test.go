package auth_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/generalbots/backupd/internal/auth"
)

const project = "287642013148020739"

// canned is a provider without sockets: it answers each question after a while.
type canned struct {
	mu     sync.Mutex // guards the rest
	status int
	body   string
	after  time.Duration
	err    error
	asked  int
	atOnce int
	most   int
}

func (c *canned) set(status int, body string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status, c.body, c.err = status, body, err
}

func (c *canned) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func (c *canned) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.asked++
	c.atOnce++
	c.most = max(c.most, c.atOnce)
	after := c.after
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.atOnce--
		c.mu.Unlock()
	}()
	select {
	case <-time.After(after):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	return &http.Response{StatusCode: c.status, Body: io.NopCloser(strings.NewReader(c.body)), Header: http.Header{}, Request: r}, nil
}

func oidcOptions() *auth.OIDCOptions {
	return &auth.OIDCOptions{Issuer: "https://auth.example.org", ClientID: "backupd@bots", ClientSecret: []byte("s3cret&:%"), ProjectID: project}
}

func oidcOnly(t testing.TB, c *canned) *auth.Authenticator {
	t.Helper()
	a := authenticator(t, auth.Options{OIDC: oidcOptions(), Failures: patient})
	a.SetTransport(c)
	return a
}

func answerOf(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "zitadel", name+".json"))
	ok(t, err)
	return string(data)
}

// active is an answer that lets an administrator in until the time given.
func active(expires time.Time) string {
	return fmt.Sprintf(`{"active":true,"sub":"1","aud":["%s"],"exp":%d,"roles":["admin"]}`, project, expires.Unix())
}

func TestOIDC_ReadsZitadelsAnswers(t *testing.T) {
	for name, want := range map[string]struct {
		code string
		sub  string
		role auth.Role
	}{
		"user-admin":                    {"", "287641835725094915", auth.Admin},
		"user-operator":                 {"", "287641835725094916", auth.Operator},
		"user-admin-of-another-project": {"", "287641835725094917", auth.None},
		"machine-roles-in-a-list":       {"", "287641835725094918", auth.Operator},
		"user-without-roles":            {"", "287641835725094919", auth.None},
		"user-of-another-audience":      {code: auth.CodeInvalidToken},
		"user-of-another-issuer":        {code: auth.CodeInvalidToken},
		"inactive":                      {code: auth.CodeInvalidToken},
	} {
		t.Run(name, func(t *testing.T) {
			a := oidcOnly(t, &canned{status: 200, body: answerOf(t, name)})
			p, err := a.Authenticate(context.Background(), bearer("opaque"))
			var e *auth.Error
			if errors.As(err, &e) != (want.code != "") || e != nil && e.Code != want.code {
				t.Fatalf("got %v, want %q", err, want.code)
			}
			if err == nil && (p.Name != want.sub || p.Role != want.role || p.Method != auth.MethodOIDC || p.Expires.Unix() != 4102444800) {
				t.Fatalf("got %+v", p)
			}
		})
	}
}

func TestOIDC_TakesNothingElseForAnAnswer(t *testing.T) {
	for body, want := range map[string]string{
		`{"active":true,"sub":"1"}`:                              "",
		`{"active":true,"username":"u"}`:                         "",
		`{"active":true,"sub":"1","token_type":"refresh_token"}`: auth.CodeInvalidToken,
		`{"active":true,"sub":"1","exp":1}`:                      auth.CodeExpiredToken,
		`{"active":true,"sub":"1","nbf":9999999999}`:             auth.CodeInvalidToken,
		`{"active":true,"sub":"1","aud":[]}`:                     auth.CodeInvalidToken,
		`{"active":true}`:                                        auth.CodeServiceUnavailable,
		`{"active":true,"sub":1}`:                                auth.CodeServiceUnavailable,
		`{"active":true,"sub":"1","aud":{}}`:                     auth.CodeServiceUnavailable,
		`{"active":true,"sub":"1","exp":"soon"}`:                 auth.CodeServiceUnavailable,
		`{"active":true,"sub":"1","exp":1e300}`:                  auth.CodeServiceUnavailable,
		`{"active":true,"sub":"1","roles":"admin"}`:              auth.CodeServiceUnavailable,
		`{"active":true,"sub":"1","roles":[1]}`:                  auth.CodeServiceUnavailable,
		`{"active":"true","sub":"1"}`:                            auth.CodeServiceUnavailable,
		`{"active":1,"sub":"1"}`:                                 auth.CodeServiceUnavailable,
		`{"Active":true,"sub":"1"}`:                              auth.CodeServiceUnavailable,
		`{"sub":"1"}`:                                            auth.CodeServiceUnavailable,
		`{"active":false,"active":true,"sub":"1"}`:               auth.CodeServiceUnavailable,
		`[{"active":true,"sub":"1"}]`:                            auth.CodeServiceUnavailable,
		`{"active":true,"sub":"1"} {"active":true}`:              auth.CodeServiceUnavailable,
		``:                    auth.CodeServiceUnavailable,
		`<html>active</html>`: auth.CodeServiceUnavailable,
		`{"active":true,"sub":"1","x":"` + strings.Repeat("x", 1<<19) + `"}`: auth.CodeServiceUnavailable,
	} {
		a := oidcOnly(t, &canned{status: 200, body: body})
		wantCode(t, a, fmt.Sprintf("%.60s", body), bearer("opaque"), want)
	}
	for status, want := range map[int]string{201: auth.CodeServiceUnavailable, 204: auth.CodeServiceUnavailable, 302: auth.CodeServiceUnavailable,
		401: auth.CodeServiceUnavailable, 403: auth.CodeServiceUnavailable, 429: auth.CodeServiceUnavailable, 500: auth.CodeServiceUnavailable,
		400: auth.CodeInvalidToken} {
		a := oidcOnly(t, &canned{status: status, body: `{"active":true,"sub":"1"}`})
		wantCode(t, a, fmt.Sprint(status), bearer("opaque"), want)
	}
	a := oidcOnly(t, &canned{status: 400, body: `{"error":"invalid_client"}`})
	wantCode(t, a, "400 that blames the client", bearer("opaque"), auth.CodeServiceUnavailable)
}

func TestOIDC_AsksOnlyAboutTokensThatAreItsOwn(t *testing.T) {
	c := &canned{status: 200, body: `{"active":true,"sub":"1","roles":["admin"]}`}
	file, path := tokenFile(t)
	create(t, file, auth.CreateToken{Name: "x", Role: auth.Admin})
	a := authenticator(t, auth.Options{OIDC: oidcOptions(), JWT: &auth.JWTOptions{Secret: jwtSecret}, TokenFile: path, Failures: patient})
	a.SetTransport(c)
	forged := signed(t, nil)
	for what, cr := range map[string]auth.Credentials{
		"a forged HS256":         bearer(forged[:len(forged)-4] + "AAAA"),
		"alg none":               bearer(sign(`{"alg":"none"}`, `{}`, nil)),
		"HS512":                  bearer(sign(`{"alg":"HS512"}`, `{}`, jwtSecret)),
		"a wrong daemon token":   bearer("bkp_" + strings.Repeat("a", 52)),
		"an opaque api key":      {APIKey: "opaque"},
		"an opaque password":     basic("x", "opaque"),
		"a key in the header":    bearer(sign(`{"alg":"RS256","jwk":{}}`, `{}`, nil)),
		"a token with odd bytes": bearer("a b"),
		"no token":               bearer(""),
	} {
		if got := code(t, a, cr); got != auth.CodeInvalidToken {
			t.Errorf("%s: got %q", what, got)
		}
	}
	if c.count() != 0 {
		t.Fatalf("the provider was asked %d times", c.count())
	}
	wantCode(t, a, "RS256", bearer(sign(`{"alg":"RS256","kid":"1"}`, `{}`, nil)), "")
	wantCode(t, a, "opaque", bearer("opaque"), "")
	if c.count() != 2 {
		t.Fatalf("the provider was asked %d times", c.count())
	}
}

func TestOIDC_KeepsAnswersForAShortWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &canned{status: 200, body: active(time.Now().Add(time.Hour))}
		a := oidcOnly(t, c)
		asked := func(what string, n int) {
			t.Helper()
			if c.count() != n {
				t.Fatalf("%s: asked %d times, want %d", what, c.count(), n)
			}
		}
		for range 5 {
			wantCode(t, a, "active", bearer("one"), "")
		}
		asked("kept", 1)
		time.Sleep(auth.KeepGood - time.Nanosecond)
		wantCode(t, a, "just kept", bearer("one"), "")
		asked("just kept", 1)
		// Revoked at the provider: seen when the answer is forgotten.
		c.set(200, `{"active":false}`, nil)
		time.Sleep(time.Nanosecond)
		wantCode(t, a, "revoked", bearer("one"), auth.CodeInvalidToken)
		wantCode(t, a, "revoked", bearer("one"), auth.CodeInvalidToken)
		asked("a refusal is kept", 2)
		time.Sleep(auth.KeepBad)
		c.set(200, active(time.Now().Add(10*time.Second)), nil)
		wantCode(t, a, "again active", bearer("one"), "")
		asked("a refusal is forgotten", 3)
		// Never beyond exp.
		c.set(200, `{"active":false}`, nil)
		time.Sleep(10*time.Second - time.Nanosecond)
		wantCode(t, a, "before exp", bearer("one"), "")
		asked("before exp", 3)
		time.Sleep(time.Nanosecond)
		wantCode(t, a, "at exp", bearer("one"), auth.CodeInvalidToken)
		asked("at exp", 4)
		// Past exp by our clock but within the leeway: let in, not kept.
		c.set(200, active(time.Now().Add(-59*time.Second)), nil)
		wantCode(t, a, "clocks differ", bearer("two"), "")
		wantCode(t, a, "clocks differ", bearer("two"), "")
		asked("clocks differ", 6)
		time.Sleep(time.Second)
		c.set(200, active(time.Now().Add(-61*time.Second)), nil)
		wantCode(t, a, "long over", bearer("two"), auth.CodeExpiredToken)
	})
}

func TestOIDC_CachesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &canned{status: 200, body: active(time.Now().Add(time.Hour))}
		a := oidcOnly(t, c)
		for i := range auth.MaxVerdicts + 500 {
			wantCode(t, a, "active", bearer(fmt.Sprintf("good%d", i)), "")
		}
		c.set(200, `{"active":false}`, nil)
		for i := range auth.MaxVerdicts + 500 {
			wantCode(t, a, "inactive", bearer(fmt.Sprintf("bad%d", i)), auth.CodeInvalidToken)
		}
		if good, bad := a.Verdicts(); good > auth.MaxVerdicts || bad > auth.MaxVerdicts {
			t.Fatalf("%d and %d verdicts are kept", good, bad)
		}
	})
}

func TestOIDC_ASilentProviderHoldsNobodyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &canned{status: 200, body: active(time.Now().Add(time.Hour))}
		a := oidcOnly(t, c)
		wantCode(t, a, "known before", bearer("known"), "")
		c.mu.Lock()
		c.after = time.Hour
		c.mu.Unlock()
		var wg sync.WaitGroup
		start := time.Now()
		for i := range 200 {
			wg.Go(func() { wantCode(t, a, "silent", bearer(fmt.Sprintf("t%d", i)), auth.CodeServiceUnavailable) })
		}
		wg.Wait()
		if d := time.Since(start); d > auth.AskTimeout+time.Second {
			t.Fatalf("200 requests took %v", d)
		}
		if c.most > 16 {
			t.Fatalf("%d questions at once", c.most)
		}
		wantCode(t, a, "still known", bearer("known"), "")
		// Open: refused at once and not asked.
		asked, start := c.count(), time.Now()
		p, err := a.Authenticate(context.Background(), bearer("next"))
		var e *auth.Error
		if !errors.As(err, &e) || e.Code != auth.CodeServiceUnavailable || e.RetryAfter <= 0 || e.RetryAfter > 30*time.Second {
			t.Fatalf("got %v, %+v", p, err)
		}
		if time.Since(start) != 0 || c.count() != asked {
			t.Fatal("an open circuit asks or waits")
		}
		// Probes become rarer, to one in 35 s (30 and the timeout).
		for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			wantCode(t, a, "down", bearer("next"), auth.CodeServiceUnavailable)
		}
		if n := c.count() - asked; n < 10 || n > 25 {
			t.Fatalf("%d probes in ten minutes", n)
		}
		// It comes back, and one probe closes the circuit.
		c.mu.Lock()
		c.after, c.body = 0, active(time.Now().Add(time.Hour))
		c.mu.Unlock()
		time.Sleep(31 * time.Second)
		wantCode(t, a, "back", bearer("next"), "")
		wantCode(t, a, "back", bearer("other"), "")
	})
}

func TestOIDC_ASingleOddTokenDoesNotOpenTheCircuit(t *testing.T) {
	c := &canned{status: 500, body: "x"}
	a := oidcOnly(t, c)
	for i := range 20 {
		c.set(500, "x", nil)
		wantCode(t, a, "500", bearer(fmt.Sprintf("odd%d", i)), auth.CodeServiceUnavailable)
		c.set(200, active(time.Now().Add(time.Hour)), nil)
		wantCode(t, a, "200", bearer(fmt.Sprintf("even%d", i)), "")
	}
}

func TestOIDC_AsksOnceForManyRequestsOfOneToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &canned{status: 200, body: active(time.Now().Add(time.Hour)), after: time.Second}
		a := oidcOnly(t, c)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		// The first one leaves before the answer; the others get it all the same.
		wg.Go(func() {
			_, err := a.Authenticate(ctx, bearer("one"))
			var e *auth.Error
			if !errors.As(err, &e) || e.Code != auth.CodeServiceUnavailable {
				t.Errorf("the one who left: %v", err)
			}
		})
		synctest.Wait()
		for range 100 {
			wg.Go(func() { wantCode(t, a, "waiting", bearer("one"), "") })
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		if c.count() != 1 {
			t.Fatalf("asked %d times", c.count())
		}
	})
}

func TestClose_EndsQuestionsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &canned{status: 200, after: time.Hour}
		a, err := auth.New(auth.Options{OIDC: oidcOptions()})
		ok(t, err)
		a.SetTransport(c)
		var wg sync.WaitGroup
		wg.Go(func() { wantCode(t, a, "under way", bearer("one"), auth.CodeServiceUnavailable) })
		synctest.Wait()
		start := time.Now()
		ok(t, a.Close())
		wg.Wait()
		wantCode(t, a, "after it", bearer("two"), auth.CodeServiceUnavailable)
		if time.Since(start) != 0 {
			t.Fatal("close waited for the provider")
		}
	})
}

func TestNew_RefusesAProviderInClear(t *testing.T) {
	for where, good := range map[string]bool{
		"https://auth.example.org/x": true, "http://127.0.0.1:8300/x": true, "http://[::1]/x": true, "http://localhost:8300": true,
		"http://auth.example.org/x": false, "http://10.0.0.1/x": false, "http://localhost.example.org/": false, "http://127.0.0.1.example.org/": false,
		"": false, "ftp://127.0.0.1/": false, "https://": false, "https://u:p@auth.example.org/": false, "auth.example.org": false, "https://a/#x": false,
	} {
		a, err := auth.New(auth.Options{OIDC: &auth.OIDCOptions{IntrospectionURL: where, ClientID: "c", ClientSecret: []byte("s")}})
		if (err == nil) != good {
			t.Errorf("%s: %v", where, err)
		}
		if a != nil {
			a.Close()
		}
	}
	for what, o := range map[string]auth.OIDCOptions{
		"no client":       {Issuer: "https://a", ClientSecret: []byte("s")},
		"no secret":       {Issuer: "https://a", ClientID: "c"},
		"no secret file":  {Issuer: "https://a", ClientID: "c", ClientSecretFile: "/nonexistent/x"},
		"no CA file":      {Issuer: "https://a", ClientID: "c", ClientSecret: []byte("s"), CAFile: "/nonexistent/x"},
		"no certificates": {Issuer: "https://a", ClientID: "c", ClientSecret: []byte("s"), CAFile: os.Args[0]},
	} {
		if _, err := auth.New(auth.Options{OIDC: &o}); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

// Over real sockets: what is sent, and what a hostile or broken provider does.
func TestOIDC_SendsTheFormAndFollowsNobody(t *testing.T) {
	var elsewhere, sent atomic.Int64
	mux := http.NewServeMux()
	var got []string
	var mu sync.Mutex
	mux.HandleFunc("POST /oauth/v2/introspect", func(w http.ResponseWriter, r *http.Request) {
		user, password, isBasic := r.BasicAuth()
		mu.Lock()
		got = append(got, fmt.Sprint(isBasic, user, password, r.FormValue("token"), r.FormValue("client_id"), r.FormValue("client_secret"), r.Header.Get("Content-Type")))
		mu.Unlock()
		io.WriteString(w, `{"active":true,"sub":"1","roles":{"admin":{}}}`)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/elsewhere", func(w http.ResponseWriter, r *http.Request) {
		elsewhere.Add(1)
		io.WriteString(w, `{"active":true,"sub":"1"}`)
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for {
			n, err := w.Write(make([]byte, 64<<10))
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	})
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	ok(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	ask := func(path string, post bool) string {
		o := oidcOptions()
		o.IntrospectionURL, o.ClientSecretPost, o.CAFile = server.URL+path, post, ca
		return code(t, authenticator(t, auth.Options{OIDC: o}), bearer("t+o/k=="))
	}
	for _, post := range []bool{false, true} {
		if c := ask("/oauth/v2/introspect", post); c != "" {
			t.Fatalf("got %q", c)
		}
	}
	want := []string{
		fmt.Sprint(true, url.QueryEscape("backupd@bots"), url.QueryEscape("s3cret&:%"), "t+o/k==", "", "", "application/x-www-form-urlencoded"),
		fmt.Sprint(false, "", "", "t+o/k==", "backupd@bots", "s3cret&:%", "application/x-www-form-urlencoded"),
	}
	if !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
	for _, path := range []string{"/moved", "/endless", "/none"} {
		if c := ask(path, false); c != auth.CodeServiceUnavailable {
			t.Errorf("%s: got %q", path, c)
		}
	}
	// What fills the buffers of a socket is sent, not what five seconds would carry.
	if sent.Load() > 64<<20 {
		t.Errorf("%d bytes of an endless answer were taken", sent.Load())
	}
	if elsewhere.Load() != 0 {
		t.Error("a redirect was followed")
	}
	// Without the CA file the certificate is unknown.
	o := oidcOptions()
	o.IntrospectionURL = server.URL + "/oauth/v2/introspect"
	wantCode(t, authenticator(t, auth.Options{OIDC: o}), "unknown authority", bearer("x"), auth.CodeServiceUnavailable)
}

func TestLimit_NoQuestionIsAskedForAnAddressThatFailedTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &canned{status: 200, body: `{"active":false}`}
		a := authenticator(t, auth.Options{OIDC: oidcOptions(), Failures: auth.FailureLimits{AddressBurst: 3, AddressEvery: time.Minute}})
		a.SetTransport(c)
		for i := range 3 {
			wantCode(t, a, "failing", bearer(fmt.Sprintf("guess%d", i)), auth.CodeInvalidToken)
		}
		for i := range 50 {
			wantCode(t, a, "too often", bearer(fmt.Sprintf("more%d", i)), auth.CodeRateLimited)
		}
		if c.count() != 3 {
			t.Fatalf("asked %d times", c.count())
		}
		c.set(200, active(time.Now().Add(time.Hour)), nil)
		other := bearer("fine")
		other.Remote = netip.MustParseAddr("192.0.2.2")
		wantCode(t, a, "another address", other, "")
		wantCode(t, a, "a token that is known already", bearer("fine"), "")
		time.Sleep(time.Minute)
		wantCode(t, a, "a minute later", bearer("new"), "")
	})
}

// Behind a proxy all have one address: who fails there keeps those out that nobody knows yet, and nobody who was let in.
func TestLimit_WhoWasLetInIsAskedForWhateverOthersOfTheAddressDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &canned{status: 200, body: active(time.Now().Add(time.Hour))}
		a := authenticator(t, auth.Options{OIDC: oidcOptions(), Failures: auth.FailureLimits{AddressBurst: 3, AddressEvery: time.Minute}})
		a.SetTransport(c)
		wantCode(t, a, "the bot", bearer("bot"), "")
		attack := func() {
			t.Helper()
			c.set(200, `{"active":false}`, nil)
			for i := range 10 {
				if got := code(t, a, bearer(fmt.Sprintf("guess%d", i))); got != auth.CodeInvalidToken && got != auth.CodeRateLimited {
					t.Errorf("the attacker: got %q", got)
				}
			}
		}
		for range 20 {
			attack()
			time.Sleep(auth.KeepGood + time.Second)
			attack()
			c.set(200, active(time.Now().Add(time.Hour)), nil)
			wantCode(t, a, "the bot beside an attacker", bearer("bot"), "")
		}
		wantCode(t, a, "a token nobody knows", bearer("new"), auth.CodeRateLimited)
		// Revoked: it is one of the unknown from then on.
		time.Sleep(auth.KeepGood + time.Second)
		attack()
		wantCode(t, a, "revoked", bearer("bot"), auth.CodeRateLimited)
		asked := c.count()
		time.Sleep(auth.KeepBad + time.Second)
		attack()
		wantCode(t, a, "long revoked", bearer("bot"), auth.CodeRateLimited)
		if c.count() != asked {
			t.Errorf("asked %d times more", c.count()-asked)
		}
	})
}

// What a provider says of a token that it can not read is said of that token, by whatever status.
func TestOIDC_UnreadableTokensDoNotOpenTheCircuit(t *testing.T) {
	for _, status := range []int{400, 413, 414, 422, 431} {
		c := &canned{status: status, body: "{}"}
		a := oidcOnly(t, c)
		for i := range 20 {
			wantCode(t, a, fmt.Sprint(status), bearer(fmt.Sprintf("odd%d", i)), auth.CodeInvalidToken)
		}
		c.set(200, active(time.Now().Add(time.Hour)), nil)
		wantCode(t, a, fmt.Sprint("after ", status), bearer("fine"), "")
	}
}

func FuzzAnswer(f *testing.F) {
	files, err := filepath.Glob("testdata/zitadel/*.json")
	ok(f, err)
	for _, name := range files {
		data, err := os.ReadFile(name)
		ok(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		isActive, subject, roles, err := auth.ParseAnswer(data, project)
		if err != nil || !isActive {
			if isActive || subject != "" && err == nil || len(roles) > 0 && err == nil {
				t.Fatalf("not active, and yet %q %q", subject, roles)
			}
			return
		}
		var o map[string]any
		ok(t, json.Unmarshal(data, &o))
		if o["active"] != true || subject == "" {
			t.Fatalf("let in by %s", data)
		}
	})
}
