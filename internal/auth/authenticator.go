package auth

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"
)

// How a principal said who it is.
const (
	MethodToken = "token" // daemon token as bearer or X-API-Key
	MethodBasic = "basic" // daemon token as password
	MethodJWT   = "jwt"   // HS256, signed by botserver
	MethodOIDC  = "oidc"  // introspected by the provider
)

// Principal is who calls.
type Principal struct {
	Name    string    // of the token, or the subject of a foreign one; for the audit log
	Role    Role      // None is authenticated, and allowed nothing
	Method  string    // one of the constants
	TokenID string    // of a daemon token
	Expires time.Time // when the credential ends, zero when it does not; long answers stop then
}

// String names the principal so that no other has the same: an alice of the
// provider is not the token alice.
func (p Principal) String() string {
	if p.TokenID != "" {
		return "token:" + p.Name
	}
	return p.Method + ":" + p.Name
}

// Options say who may be let in. At least one of TokenFile, JWT and OIDC is set.
type Options struct {
	TokenFile  string       // daemon tokens; the file may come later, its directory not
	JWT        *JWTOptions  // nil: none
	OIDC       *OIDCOptions // nil: none
	AdminRoles []string     // roles of foreign tokens that are administrators, beside the platform's four
	Failures   FailureLimits
	Logger     *slog.Logger // nil: nothing is logged; credentials never are
}

// Authenticator judges credentials. Its methods may be called concurrently.
type Authenticator struct {
	tokens  *tokenWatch   // nil without a token file
	jwt     *jwtVerifier  // nil without JWT
	oidc    *introspector // nil without OIDC
	limiter *limiter
	log     *slog.Logger
}

// New checks the options and reads the files they name. It refuses what would let
// in strangers or nobody: a JWT secret that is published or short, a secret file
// that everybody may read, a damaged token file, a provider without TLS, or no way
// in at all. The caller closes the result.
func New(o Options) (*Authenticator, error) {
	if o.TokenFile == "" && o.JWT == nil && o.OIDC == nil {
		return nil, errors.New("nobody could get in: give a token file, a JWT secret or an OIDC provider")
	}
	roles, err := newRoleNames(o.AdminRoles)
	if err != nil {
		return nil, err
	}
	a := &Authenticator{limiter: newLimiter(o.Failures), log: o.Logger}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if o.JWT != nil {
		if a.jwt, err = newJWTVerifier(*o.JWT, roles); err != nil {
			return nil, err
		}
	}
	if o.OIDC != nil {
		if a.oidc, err = newIntrospector(*o.OIDC, roles, a.log); err != nil {
			return nil, err
		}
	}
	if o.TokenFile != "" {
		if a.tokens, err = openWatch(o.TokenFile, a.log); err != nil {
			a.Close()
			return nil, err
		}
	}
	return a, nil
}

// Close ends questions to the provider that are under way and waits for them.
func (a *Authenticator) Close() error {
	if a.oidc != nil {
		a.oidc.close()
	}
	if a.tokens != nil {
		return a.tokens.close()
	}
	return nil
}

// Reload reads the token file now; without it a change is seen within a second.
// After an error nobody gets in by token, other credentials are not touched. The
// secrets of JWT and OIDC are read by New alone.
func (a *Authenticator) Reload() error {
	if a.tokens == nil {
		return nil
	}
	return a.tokens.reload()
}

// Authenticate says who sent a request, or why it can not be told: an error is
// always an *Error. Failures count against the address they come from; a
// credential that is right is let in whatever failed before it, except that a
// provider is not asked about a token it never vouched for on behalf of an address
// with too many failures.
func (a *Authenticator) Authenticate(ctx context.Context, c Credentials) (Principal, error) {
	p, err := a.judge(ctx, c)
	if err == nil {
		return p, nil
	}
	if err.failed() {
		if wait := a.limiter.fail(c.Remote); wait > 0 {
			return Principal{}, tooMany(wait, err)
		}
	}
	return Principal{}, err
}

func tooMany(wait time.Duration, reason error) *Error {
	// Whole seconds, as the header counts.
	wait = (wait + time.Second - 1).Truncate(time.Second)
	return &Error{Code: CodeRateLimited, Message: "too many failed attempts: wait and try again", RetryAfter: wait, Reason: reason}
}

func (a *Authenticator) judge(ctx context.Context, c Credentials) (Principal, *Error) {
	shape, secret, err := c.parse()
	switch {
	case errors.Is(err, errTwo):
		return Principal{}, invalid("send either Authorization or X-API-Key, not both", err)
	case err != nil:
		return Principal{}, invalid("the credential is not one that is accepted here", err)
	}
	switch shape {
	case shapeNone:
		return Principal{}, &Error{Code: CodeMissingToken, Message: "send a token: Authorization: Bearer TOKEN"}
	case shapeToken, shapeBasic:
		if a.tokens != nil {
			return a.tokens.authenticate(secret, shape == shapeBasic)
		}
	case shapeJWT:
		return a.judgeJWT(ctx, secret, c)
	case shapeOpaque:
		if a.oidc != nil {
			return a.ask(ctx, secret, c)
		}
	}
	return Principal{}, invalid("the token is not valid", errNotConfigured)
}

var errNotConfigured = errors.New("credentials of this kind are not configured")

// judgeJWT gives a three-part token to the one who can have signed it, told by the
// algorithm. The verdict of HS256 is final: a token that fails it is never offered
// to the provider, nor the other way round.
func (a *Authenticator) judgeJWT(ctx context.Context, token string, c Credentials) (Principal, *Error) {
	alg, err := jwtAlgorithm(token)
	switch {
	case err != nil:
		return Principal{}, invalid("the token is not valid", err)
	case alg == "HS256" && a.jwt != nil:
		return a.jwt.verify(token)
	case slices.Contains(providerAlgorithms, alg) && a.oidc != nil:
		return a.ask(ctx, token, c)
	}
	return Principal{}, invalid("the token is not valid", errNotConfigured)
}

func (a *Authenticator) ask(ctx context.Context, token string, c Credentials) (Principal, *Error) {
	return a.oidc.authenticate(ctx, token, func() time.Duration { return a.limiter.blocked(c.Remote) })
}
