package auth

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// DefaultIssuer is the iss of botserver's tokens.
	DefaultIssuer = "general-bots"
	// DefaultAudience is their aud.
	DefaultAudience = "general-bots-api"

	// maxJWT bounds a bearer token in bytes, before anything of it is parsed.
	maxJWT = 8 << 10
	// leeway is by how much clocks of two hosts may differ.
	leeway = 60 * time.Second
	// minJWTSecret is the least secret of HS256, in bytes.
	minJWTSecret = 32
)

// publishedSecret is the default that botserver's source publishes: whoever reads
// it can sign as an administrator of every host that was installed by the book.
const publishedSecret = "dev-secret-key-change-in-production-minimum-32-chars"

// isPublished tells whether a secret is the published one in any dress in which it gets into files: in quotes, as a line
// of .env, encoded, in capitals, lengthened. All of them are guessed with the first hundred tries.
func isPublished(secret []byte) bool {
	text := strings.TrimSpace(string(secret))
	looks := []string{text}
	for _, decode := range []func(string) ([]byte, error){
		base64.StdEncoding.DecodeString, base64.URLEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
		base64.RawURLEncoding.DecodeString, hex.DecodeString,
	} {
		if plain, err := decode(text); err == nil {
			looks = append(looks, string(plain))
		}
	}
	return slices.ContainsFunc(looks, func(s string) bool { return strings.Contains(strings.ToLower(s), publishedSecret) })
}

// backupPermission is what botserver's permissions call an administrator of
// backups.
const backupPermission = "admin:backup"

// JWTOptions let in whom botserver signed a token for.
type JWTOptions struct {
	Secret     []byte // the HS256 secret, 32 bytes at least; or
	SecretFile string // the file that holds it, a line end after it is not part of it

	Issuer   string // iss; "" is DefaultIssuer
	Audience string // one of aud; "" is DefaultAudience

	// AdminPermission makes the permission "admin:backup" as good as the role
	// admin. Off, roles alone count.
	AdminPermission bool
}

// jwtVerifier checks HS256 tokens. It does not change.
type jwtVerifier struct {
	secret     []byte
	parser     *jwt.Parser
	permission bool
	roles      roleNames
}

func newJWTVerifier(o JWTOptions, roles roleNames) (*jwtVerifier, error) {
	secret, err := secretOf(o.Secret, o.SecretFile, "JWT secret")
	if err != nil {
		return nil, err
	}
	switch {
	case isPublished(secret):
		return nil, errors.New("JWT secret is the published default of botserver, with which anybody can sign an " +
			"administrator's token: set a random JWT_SECRET of 32 bytes there and here")
	case len(secret) < minJWTSecret:
		return nil, fmt.Errorf("JWT secret has %d bytes: %d random ones are the least", len(secret), minJWTSecret)
	}
	issuer, audience := o.Issuer, o.Audience
	if issuer == "" {
		issuer = DefaultIssuer
	}
	if audience == "" {
		audience = DefaultAudience
	}
	return &jwtVerifier{
		secret:     slices.Clone(secret),
		permission: o.AdminPermission,
		roles:      roles,
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
			jwt.WithStrictDecoding(), // else the last character could change and still verify
			jwt.WithLeeway(leeway),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(),
			jwt.WithIssuer(issuer),
			jwt.WithAudience(audience),
		),
	}, nil
}

// verify judges a token whose header jwtAlgorithm has accepted as HS256.
func (v *jwtVerifier) verify(token string) (Principal, *Error) {
	var c claims
	_, err := v.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return v.secret, nil })
	if err != nil {
		if onlyExpired(err) {
			return Principal{}, expired("the token has expired: log in again")
		}
		// The library's errors name what is wrong and hold no part of the token, but
		// they are not for the client: they tell how to come closer.
		return Principal{}, invalid("the token is not valid", fmt.Errorf("jwt: %s", clean(err.Error(), 200)))
	}
	role := v.roles.best(c.roles)
	if v.permission && slices.Contains(c.permissions, backupPermission) {
		role = Admin
	}
	return Principal{Name: c.subject, Role: role, Method: MethodJWT, Expires: time.Unix(c.expires, 0).UTC()}, nil
}

// onlyExpired reports whether a genuine token is refused for its age alone: the
// signature is checked before the claims, and their errors come together.
func onlyExpired(err error) bool {
	if !errors.Is(err, jwt.ErrTokenExpired) {
		return false
	}
	for _, other := range []error{jwt.ErrTokenMalformed, jwt.ErrTokenUnverifiable, jwt.ErrTokenSignatureInvalid,
		jwt.ErrTokenInvalidAudience, jwt.ErrTokenInvalidIssuer, jwt.ErrTokenUsedBeforeIssued, jwt.ErrTokenNotValidYet,
		jwt.ErrTokenInvalidSubject, jwt.ErrTokenInvalidId, jwt.ErrTokenRequiredClaimMissing} {
		if errors.Is(err, other) {
			return false
		}
	}
	return true
}

// claims are what botserver puts into a token, read strictly. Reading comes before
// the signature is checked.
type claims struct {
	issuer, subject, id     string
	audience                []string
	expires, issued, before int64 // seconds since 1970
	roles, permissions      []string
}

// UnmarshalJSON reads the claims and refuses a token that lacks one of iss, aud,
// sub, exp, iat, nbf, jti, or whose type is not "access": a refresh token is no
// credential.
func (c *claims) UnmarshalJSON(data []byte) error {
	o, err := parseObject(data)
	if err != nil {
		return err
	}
	texts := []struct {
		name string
		to   *string
	}{{"iss", &c.issuer}, {"sub", &c.subject}, {"jti", &c.id}}
	for _, t := range texts {
		if *t.to, err = o.text(t.name, maxText); err != nil {
			return err
		}
	}
	if c.subject, err = cleanSubject(c.subject); err != nil {
		return err
	}
	numbers := []struct {
		name string
		to   *int64
	}{{"exp", &c.expires}, {"iat", &c.issued}, {"nbf", &c.before}}
	for _, n := range numbers {
		if *n.to, err = o.seconds(n.name); err != nil {
			return err
		}
	}
	if use, err := o.text("type", maxText); err != nil || use != "access" {
		return errors.New("type is not access")
	}
	if c.audience, err = o.texts("aud"); err != nil {
		return err
	}
	if o.has("roles") {
		if c.roles, err = o.list("roles"); err != nil {
			return err
		}
	}
	if o.has("permissions") {
		c.permissions, err = o.list("permissions")
	}
	return err
}

// list is a member that is a list of strings.
func (o object) list(name string) ([]string, error) {
	if kind(o[name]) != '[' {
		return nil, fmt.Errorf("%s is not a list of strings", name)
	}
	return o.texts(name)
}

// cleanSubject refuses names that would not read the same in a log.
func cleanSubject(s string) (string, error) {
	if s == "" || len(s) > maxSubject || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", errors.New("subject is empty, too long or not printable")
	}
	return s, nil
}

// maxSubject bounds the names of principals of others, in bytes.
const maxSubject = 256

// The claims as the library asks for them.

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return date(c.expires), nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return date(c.issued), nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return date(c.before), nil }
func (c *claims) GetIssuer() (string, error)                   { return c.issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.subject, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.audience, nil }

func date(seconds int64) *jwt.NumericDate { return jwt.NewNumericDate(time.Unix(seconds, 0)) }

// keyHeaders would let a token choose the key it is checked with, or change what
// its parts mean. kid chooses among keys, and there is one: it is ignored.
var keyHeaders = []string{"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc"}

// jwtAlgorithm reads the header of a three-part token: its algorithm, or an error
// when the header is not one that a token may have here.
func jwtAlgorithm(token string) (string, error) {
	head, _, _ := strings.Cut(token, ".")
	data, err := base64.RawURLEncoding.Strict().DecodeString(head)
	if err != nil {
		return "", errMalformed
	}
	o, err := parseObject(data)
	if err != nil {
		return "", err
	}
	for _, name := range keyHeaders {
		if _, there := o[name]; there {
			return "", fmt.Errorf("header %s is not accepted", name)
		}
	}
	if _, there := o["typ"]; there {
		typ, err := o.text("typ", 20)
		if err != nil || !strings.EqualFold(typ, "JWT") && !strings.EqualFold(typ, "at+jwt") {
			return "", errors.New("header typ is neither JWT nor at+jwt")
		}
	}
	return o.text("alg", 20)
}

// providerAlgorithms are those of tokens that only a provider can have signed.
var providerAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
