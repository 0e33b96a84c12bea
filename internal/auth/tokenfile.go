package auth

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/generalbots/backupd/crypto"
)

// TokenFileName is the token file's name in the state directory.
const TokenFileName = "tokens.json"

const (
	tokenFileVersion = 1
	maxTokenFile     = 1 << 20 // bytes
	maxTokens        = 1000
	maxTokenName     = 64
	tokenIDPrefix    = "token-"
)

// ErrTokensDamaged is a token file that does not read as one: nobody gets in by
// token until it is repaired.
var ErrTokensDamaged = errors.New("token file is damaged")

// Token is a daemon token as far as it may be shown; its secret is nowhere.
type Token struct {
	ID        string    // "token-…", never used twice
	Name      string    // unique in the file
	Role      Role      // Operator or Admin
	Basic     bool      // serves as password of HTTP Basic too
	CreatedAt time.Time // UTC, whole seconds
	ExpiresAt time.Time // UTC; zero never
}

// ServesBasic reports whether the token may come as the password of HTTP Basic:
// when it was made so, and an operator's always.
func (t Token) ServesBasic() bool { return t.Basic || t.Role == Operator }

// Expired reports whether the token's time is over at now.
func (t Token) Expired(now time.Time) bool {
	return !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt)
}

// storedToken is a token with the BLAKE3-256 of its secret. The secret has 256
// random bits, so a slow hash would add nothing.
type storedToken struct {
	Token
	hash [32]byte
}

func hashToken(secret string) [32]byte { return crypto.Sum256([]byte(secret)) }

// wireToken is the order of members in the file.
type wireToken struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Role      string     `json:"role"`
	Basic     bool       `json:"basic"`
	Hash      string     `json:"hash"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

func encodeTokens(tokens []storedToken) ([]byte, error) {
	list := make([]wireToken, len(tokens))
	for i, t := range tokens {
		list[i] = wireToken{ID: t.ID, Name: t.Name, Role: t.Role.String(), Basic: t.Basic,
			Hash: hex.EncodeToString(t.hash[:]), CreatedAt: t.CreatedAt}
		if !t.ExpiresAt.IsZero() {
			list[i].ExpiresAt = &tokens[i].ExpiresAt
		}
	}
	data, err := json.MarshalIndent(struct {
		Version int         `json:"version"`
		Tokens  []wireToken `json:"tokens"`
	}{tokenFileVersion, list}, "", "  ")
	if err != nil {
		return nil, err
	}
	if data = append(data, '\n'); len(data) > maxTokenFile {
		return nil, errors.New("token file would grow beyond its limit: revoke some tokens")
	}
	return data, nil
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTokensDamaged, fmt.Sprintf(format, args...))
}

// decodeTokens reads a token file strictly: what this version would not have
// written is damage, so that a slip of an editor never widens who gets in.
func decodeTokens(data []byte) ([]storedToken, error) {
	if len(data) > maxTokenFile {
		return nil, damaged("it is longer than %d bytes", maxTokenFile)
	}
	// An object's limit on members does not suit the list, which has its own.
	top, err := parseObject(data)
	if err != nil {
		return nil, damaged("%v", err)
	}
	if err := top.only("version", "tokens"); err != nil {
		return nil, damaged("%v", err)
	}
	if v := string(top["version"]); v != "1" {
		return nil, damaged("version %s is not %d, which this program reads", clean(v, 20), tokenFileVersion)
	}
	var list []json.RawMessage
	if kind(top["tokens"]) != '[' || json.Unmarshal(top["tokens"], &list) != nil {
		return nil, damaged("tokens is not a list")
	}
	if len(list) > maxTokens {
		return nil, damaged("it holds more than %d tokens", maxTokens)
	}
	tokens := make([]storedToken, 0, len(list))
	seen := make(map[string]bool, 3*len(list))
	for i, raw := range list {
		t, err := decodeToken(raw)
		if err != nil {
			return nil, damaged("token %d: %v", i+1, err)
		}
		for _, unique := range []string{"id " + t.ID, "name " + t.Name, "hash " + string(t.hash[:])} {
			if seen[unique] {
				what, _, _ := strings.Cut(unique, " ")
				return nil, damaged("token %d: its %s stands twice", i+1, what)
			}
			seen[unique] = true
		}
		tokens = append(tokens, t)
	}
	return tokens, nil
}

func decodeToken(raw json.RawMessage) (t storedToken, err error) {
	o, err := parseObject(raw)
	if err != nil {
		return t, err
	}
	if err := o.only("id", "name", "role", "basic", "hash", "created_at", "expires_at"); err != nil {
		return t, err
	}
	if t.ID, err = o.text("id", maxTokenName); err == nil && !validTokenID(t.ID) {
		err = errors.New("id is not one")
	}
	if err == nil {
		t.Name, err = o.text("name", maxTokenName)
	}
	if err == nil {
		err = checkTokenName(t.Name)
	}
	role, hash := "", ""
	if err == nil {
		role, err = o.text("role", maxTokenName)
	}
	if err == nil {
		t.Role, err = ParseRole(role)
	}
	if err == nil {
		hash, err = o.text("hash", hex.EncodedLen(len(t.hash)))
	}
	if err != nil {
		return t, err
	}
	if sum, err := hex.DecodeString(hash); err != nil || len(sum) != len(t.hash) || hex.EncodeToString(sum) != hash {
		return t, errors.New("hash is not 64 hexadecimal digits")
	} else {
		t.hash = [32]byte(sum)
	}
	switch string(o["basic"]) {
	case "true":
		t.Basic = true
	case "false":
	default:
		return t, errors.New("basic is neither true nor false")
	}
	if t.CreatedAt, err = o.timestamp("created_at"); err != nil {
		return t, err
	}
	if _, there := o["expires_at"]; there {
		t.ExpiresAt, err = o.timestamp("expires_at")
	}
	return t, err
}

// only refuses members that are not named.
func (o object) only(names ...string) error {
	known := make(map[string]bool, len(names))
	for _, n := range names {
		known[n] = true
	}
	for n := range o {
		if !known[n] {
			return fmt.Errorf("member %q is not known", clean(n, 40))
		}
	}
	return nil
}

// timestamp is a member that is a time in RFC 3339, UTC.
func (o object) timestamp(name string) (time.Time, error) {
	s, err := o.text(name, 40)
	if err != nil {
		return time.Time{}, err
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil || at.Unix() <= 0 || at.Unix() > maxSeconds || !strings.HasSuffix(s, "Z") {
		return time.Time{}, fmt.Errorf("%s is not a time in UTC", name)
	}
	return at.UTC(), nil
}

// checkTokenName keeps names fit for logs, shells and the audit log, and apart
// from ids.
func checkTokenName(name string) error {
	if name == "" || len(name) > maxTokenName {
		return fmt.Errorf("a token's name has 1 to %d characters", maxTokenName)
	}
	if strings.HasPrefix(name, tokenIDPrefix) || strings.HasPrefix(name, TokenPrefix) {
		return fmt.Errorf("a token's name does not begin with %s or %s: ids and secrets do", tokenIDPrefix, TokenPrefix)
	}
	for i := range len(name) {
		c := name[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || strings.IndexByte("._@-", c) < 0) {
			return errors.New("a token's name is letters and digits, with . _ @ - after the first")
		}
	}
	return nil
}

func validTokenID(id string) bool {
	rest, ok := strings.CutPrefix(id, tokenIDPrefix)
	return ok && len(rest) == 16 && strings.Trim(rest, base32Digits) == ""
}
