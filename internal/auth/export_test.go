package auth

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/generalbots/backupd/internal/durable"
)

// Limits and constants that tests stand on.
const (
	PublishedSecret = publishedSecret
	MaxJWT          = maxJWT
	MaxAnswer       = maxAnswer
	MaxAddresses    = maxAddresses
	MaxVerdicts     = maxVerdicts
	AskTimeout      = askTimeout
	KeepGood        = keepGood
	KeepBad         = keepBad
	TokenCheck      = tokenCheck
)

// Look takes the place of a request that looks at the token file, until end.
func (a *Authenticator) Look() (end func()) {
	a.tokens.begin()
	return a.tokens.end
}

// Looked notes, for whoever has the place, that a look which began now found the
// file as it was.
func (a *Authenticator) Looked() {
	now := time.Now()
	a.tokens.seen.Load().checked.Store(&now)
}

// SetTransport puts a provider without sockets behind the introspector, for tests
// in a synctest bubble.
func (a *Authenticator) SetTransport(rt http.RoundTripper) { a.oidc.client.Transport = rt }

// Verdicts is how many verdicts are kept.
func (a *Authenticator) Verdicts() (good, bad int) {
	return len(a.oidc.good.kept), len(a.oidc.bad.kept)
}

// TokensIn edits a token file in a tree without an operating system.
func TokensIn(f durable.FS, name string) *Tokens { return &Tokens{name: name, fs: f} }

// DecodeTokens reads a token file and writes it again.
func DecodeTokens(data []byte) (int, []byte, error) {
	tokens, err := decodeTokens(data)
	if err != nil {
		return 0, nil, err
	}
	again, err := encodeTokens(tokens)
	return len(tokens), again, err
}

// ParseCredentials is the kind and secret of a credential.
func ParseCredentials(c Credentials) (kind int, secret string, err error) {
	s, secret, err := c.parse()
	return int(s), secret, err
}

// ParseAnswer reads an introspection.
func ParseAnswer(data []byte, project string) (active bool, subject string, roles []string, err error) {
	a, err := parseAnswer(data, project)
	return a.active, a.subject, a.roles, err
}

// JWTAlgorithm reads a token's header.
func JWTAlgorithm(token string) (string, error) { return jwtAlgorithm(token) }

// Limiter is the failure limiter.
type Limiter struct{ l *limiter }

// NewLimiter makes one.
func NewLimiter(f FailureLimits) Limiter { return Limiter{newLimiter(f)} }

// Fail counts a failure.
func (l Limiter) Fail(a netip.Addr) time.Duration { return l.l.fail(a) }

// Blocked asks whether the provider may be asked.
func (l Limiter) Blocked(a netip.Addr) time.Duration { return l.l.blocked(a) }

// Size is how many addresses are remembered.
func (l Limiter) Size() int { return len(l.l.debts) }
