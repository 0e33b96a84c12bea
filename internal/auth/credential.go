package auth

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"strings"
)

// Credentials are what of a request says who calls: two headers and the address
// it came from. The caller passes a header only when the request has exactly one
// of it, and refuses the request otherwise.
type Credentials struct {
	Authorization string     // value of the Authorization header
	APIKey        string     // value of the X-API-Key header
	Remote        netip.Addr // the peer; the zero value is a Unix socket
}

const (
	// maxHeader bounds the two headers in bytes: a JWT of maxJWT fits.
	maxHeader = maxJWT + 1<<10
	// maxPassword bounds a decoded Basic credential.
	maxPassword = 1 << 10
)

// shape is the kind of a credential, told by its looks alone.
type shape uint8

const (
	shapeNone   shape = iota
	shapeToken        // a daemon token as a header of its own or as bearer
	shapeBasic        // a daemon token as a password
	shapeJWT          // three parts
	shapeOpaque       // for the provider
)

var (
	errTwo       = errors.New("two credentials in one request")
	errScheme    = errors.New("unknown authorization scheme")
	errMalformed = errors.New("malformed credential")
	errTooLong   = errors.New("credential is longer than any may be")
)

// parse finds the one credential of a request. The secret is only looked at, not
// judged. No credential is shapeNone without an error.
func (c Credentials) parse() (shape, string, error) {
	switch {
	case len(c.Authorization) > maxHeader || len(c.APIKey) > maxHeader:
		return shapeNone, "", errTooLong
	case c.Authorization != "" && c.APIKey != "":
		return shapeNone, "", errTwo
	case c.APIKey != "":
		key := strings.Trim(c.APIKey, " \t")
		if !strings.HasPrefix(key, TokenPrefix) {
			return shapeNone, "", errMalformed
		}
		return shapeToken, key, nil
	case c.Authorization == "":
		return shapeNone, "", nil
	}
	scheme, rest, _ := strings.Cut(strings.Trim(c.Authorization, " \t"), " ")
	rest = strings.TrimLeft(rest, " ")
	switch {
	case strings.EqualFold(scheme, "bearer"):
		return parseBearer(rest)
	case strings.EqualFold(scheme, "basic"):
		return parseBasic(rest)
	}
	return shapeNone, "", errScheme
}

func parseBearer(token string) (shape, string, error) {
	switch {
	case token == "" || !isToken68(token):
		return shapeNone, "", errMalformed
	case len(token) > maxJWT:
		return shapeNone, "", errTooLong
	case strings.HasPrefix(token, TokenPrefix):
		return shapeToken, token, nil
	}
	switch strings.Count(token, ".") {
	case 0, 4:
		// Opaque tokens of the zitadel/oidc library are encrypted JWTs since its
		// version 3.52: five parts, which only the provider can open.
		return shapeOpaque, token, nil
	case 2:
		return shapeJWT, token, nil
	}
	return shapeNone, "", errMalformed
}

// parseBasic takes the password and ignores the user name, which scripts have to
// put something into.
func parseBasic(encoded string) (shape, string, error) {
	if base64.StdEncoding.DecodedLen(len(encoded)) > maxPassword {
		return shapeNone, "", errTooLong
	}
	pair, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		pair, err = base64.RawStdEncoding.Strict().DecodeString(encoded)
	}
	if err != nil {
		return shapeNone, "", errMalformed
	}
	_, password, ok := strings.Cut(string(pair), ":")
	if !ok || !strings.HasPrefix(password, TokenPrefix) {
		return shapeNone, "", errMalformed
	}
	return shapeBasic, password, nil
}

// isToken68 is RFC 7235's alphabet of a bearer token.
func isToken68(s string) bool {
	body := strings.TrimRight(s, "=")
	for i := range len(body) {
		c := body[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-._~+/", c) >= 0:
		default:
			return false
		}
	}
	return body != ""
}
