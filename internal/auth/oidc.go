package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/generalbots/backupd/crypto"
)

const (
	askTimeout  = 5 * time.Second
	askAtOnce   = 16               // questions under way together
	keepGood    = 30 * time.Second // and never beyond exp
	keepBad     = 5 * time.Second
	keepVouched = 24 * time.Hour // that a token was good once, and never beyond exp
	maxVerdicts = 4096           // of each kind
	maxCABundle = 1 << 20
)

// OIDCOptions let in whom an OpenID provider vouches for, asked token by token
// (RFC 7662) as Zitadel answers it.
type OIDCOptions struct {
	Issuer           string // compared with iss where an answer has one
	IntrospectionURL string // "" is Issuer with /oauth/v2/introspect, Zitadel's
	ClientID         string // of backupd at the provider
	ClientSecret     []byte // of the client; or
	ClientSecretFile string // the file that holds it
	ClientSecretPost bool   // send both in the form instead of as HTTP Basic

	ProjectID string   // whose role claim counts beside the general ones; "" none
	Audience  []string // accepted in aud beside ClientID and ProjectID, where an answer has one
	CAFile    string   // PEM of the authorities to trust instead of the system's
}

// introspector asks the provider. What it holds does not change but for the cache
// and the circuit, which guard themselves.
type introspector struct {
	url      string
	issuer   string
	clientID string
	secret   string
	post     bool
	project  string
	audience []string
	roles    roleNames
	log      *slog.Logger
	client   *http.Client

	good, bad *verdictCache
	vouched   *verdictCache // tokens that were good when they were last asked about
	circuit   circuit
	flights   singleflight.Group
	slots     chan struct{} // askAtOnce of them

	life context.Context // ends with close
	end  context.CancelFunc

	mu     sync.Mutex // guards closed, so that no question begins after close
	closed bool
	asking sync.WaitGroup
}

func newIntrospector(o OIDCOptions, roles roleNames, log *slog.Logger) (*introspector, error) {
	where := o.IntrospectionURL
	if where == "" && o.Issuer != "" {
		where = strings.TrimRight(o.Issuer, "/") + "/oauth/v2/introspect"
	}
	if err := checkURL(where); err != nil {
		return nil, fmt.Errorf("introspection URL: %w", err)
	}
	secret, err := secretOf(o.ClientSecret, o.ClientSecretFile, "OIDC client secret")
	if err != nil {
		return nil, err
	}
	if o.ClientID == "" || len(secret) == 0 {
		return nil, errors.New("OIDC introspection wants a client id and its secret: the provider answers nobody else")
	}
	transport, err := newTransport(o.CAFile)
	if err != nil {
		return nil, err
	}
	in := &introspector{
		url: where, issuer: o.Issuer, clientID: o.ClientID, secret: string(secret), post: o.ClientSecretPost,
		project: o.ProjectID, audience: append([]string{o.ClientID}, o.Audience...), roles: roles, log: log,
		client: &http.Client{
			Transport: transport,
			// A redirect would carry the client's secret and the token elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		good: newVerdictCache(maxVerdicts), bad: newVerdictCache(maxVerdicts), vouched: newVerdictCache(maxVerdicts),
		slots: make(chan struct{}, askAtOnce),
	}
	if o.ProjectID != "" {
		in.audience = append(in.audience, o.ProjectID)
	}
	in.life, in.end = context.WithCancel(context.Background())
	return in, nil
}

// checkURL wants TLS, or a host that no network lies before.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return errors.New("not a URL of the form https://HOST/PATH")
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return errors.New("not https")
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
		return errors.New("not https: tokens and the client's secret would cross the network in clear")
	}
	return nil
}

// newTransport takes no proxy from the environment: whoever can set one there
// would read every token.
func newTransport(caFile string) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		f, err := os.Open(caFile)
		if err != nil {
			return nil, fmt.Errorf("OIDC CA file: %w", err)
		}
		defer f.Close()
		pem, err := io.ReadAll(io.LimitReader(f, maxCABundle))
		if err != nil {
			return nil, fmt.Errorf("OIDC CA file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("OIDC CA file: %s holds no certificate", caFile)
		}
	}
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: askTimeout}).DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    askTimeout,
		ResponseHeaderTimeout:  askTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    askAtOnce,
		MaxConnsPerHost:        askAtOnce,
		IdleConnTimeout:        30 * time.Second,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
	}, nil
}

// authenticate judges a token by the cache or by asking. blocked says how long the
// caller's address may not have anything asked for it. A token that was good before
// is asked about all the same: behind a proxy all callers have one address, and one
// who fails there must not keep the others out.
func (in *introspector) authenticate(ctx context.Context, token string, blocked func() time.Duration) (Principal, *Error) {
	key := crypto.Sum256([]byte(token))
	for _, cache := range []*verdictCache{in.good, in.bad} {
		if v, ok := cache.get(key); ok {
			return v.principal, v.err
		}
	}
	if wait := blocked(); wait > 0 {
		if _, ok := in.vouched.get(key); !ok {
			return Principal{}, tooMany(wait, nil)
		}
	}
	// One question for a token, however many ask; it goes on when the first of them
	// leaves, for the others.
	flight := in.flights.DoChan(string(key[:]), func() (any, error) { return in.ask(key, token), nil })
	select {
	case r := <-flight:
		v := r.Val.(verdict)
		return v.principal, v.err
	case <-ctx.Done():
		return Principal{}, unavailable("the request ended before the provider answered", 0, context.Cause(ctx))
	}
}

// ask asks the provider and keeps what it said.
func (in *introspector) ask(key [32]byte, token string) verdict {
	in.mu.Lock()
	if in.closed {
		in.mu.Unlock()
		return verdict{err: unavailable("the daemon is stopping", time.Second, nil)}
	}
	in.asking.Add(1)
	in.mu.Unlock()
	defer in.asking.Done()

	ctx, cancel := context.WithTimeout(in.life, askTimeout)
	defer cancel()
	select {
	case in.slots <- struct{}{}:
		defer func() { <-in.slots }()
	case <-ctx.Done():
		return verdict{err: unavailable("too many tokens are being checked: try again", time.Second, ctx.Err())}
	}
	if wait := in.circuit.wait(); wait > 0 {
		return verdict{err: unavailable("the identity provider does not answer: try again", wait, errCircuit)}
	}
	a, err := in.question(ctx, token)
	if err != nil {
		if in.life.Err() != nil {
			in.circuit.cancelled()
			return verdict{err: unavailable("the daemon is stopping", time.Second, err)}
		}
		if wait, opened := in.circuit.failed(); opened {
			in.log.Error("the identity provider does not answer as it must: tokens it alone knows are refused with 503",
				"url", in.url, "for", wait, "error", err)
		}
		return verdict{err: unavailable("the identity provider does not answer: try again", time.Second, err)}
	}
	if in.circuit.worked() {
		in.log.Info("the identity provider answers again", "url", in.url)
	}
	now := time.Now()
	v := verdict{}
	v.principal, v.err = in.judgement(a, now)
	if v.err != nil {
		v.until = now.Add(keepBad)
		in.bad.put(key, v, now)
		in.vouched.drop(key)
		return v
	}
	in.vouched.put(key, verdict{principal: Principal{Expires: v.principal.Expires}, until: now.Add(keepVouched)}, now)
	keep := keepGood
	if !v.principal.Expires.IsZero() {
		keep = min(keep, v.principal.Expires.Sub(now))
	}
	if keep > 0 {
		v.until = now.Add(keep)
		in.good.put(key, v, now)
	}
	return v
}

// question is one exchange with the provider. An error means that it did not
// answer as a provider does, and says nothing about the token.
func (in *introspector) question(ctx context.Context, token string) (answer, error) {
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	if in.post {
		form.Set("client_id", in.clientID)
		form.Set("client_secret", in.secret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.url, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "backupd")
	if !in.post {
		req.SetBasicAuth(url.QueryEscape(in.clientID), url.QueryEscape(in.secret))
	}
	resp, err := in.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return answer{}, err
	case resp.StatusCode == http.StatusOK:
		return parseAnswer(body, in.project)
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return answer{}, fmt.Errorf("status %d: it refuses the client id and secret of backupd", resp.StatusCode)
	case slices.Contains(unreadable, resp.StatusCode) && !blamesClient(body):
		// It can not read the token. That is about the token: else anybody could stop
		// all questions with a few odd ones.
		return answer{}, nil
	}
	return answer{}, fmt.Errorf("status %d", resp.StatusCode)
}

// unreadable are the statuses of a token that the provider can make nothing of.
var unreadable = []int{
	http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusUnprocessableEntity,
	http.StatusRequestHeaderFieldsTooLarge,
}

// blamesClient reports whether an error answer (RFC 6749, 5.2) is about backupd's
// own credentials.
func blamesClient(body []byte) bool {
	o, err := parseObject(body)
	if err != nil {
		return false
	}
	code, err := o.text("error", 80)
	return err == nil && (code == "invalid_client" || code == "unauthorized_client")
}

// close cancels questions and waits for them.
func (in *introspector) close() {
	in.mu.Lock()
	in.closed = true
	in.mu.Unlock()
	in.end()
	in.asking.Wait()
	in.client.CloseIdleConnections()
}
