package auth_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	mrand "math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/generalbots/backupd/internal/auth"
)

var jwtSecret = []byte("0123456789abcdef0123456789abcdef")

// claims as botserver signs them now.
func botserver(more map[string]any) map[string]any {
	now := time.Now().Unix()
	c := map[string]any{"iss": "general-bots", "aud": "general-bots-api", "sub": "6f1c", "exp": now + 900, "iat": now, "nbf": now,
		"jti": "j1", "type": "access", "email": "a@example.org", "username": "ann", "roles": []string{"admin"}}
	for k, v := range more {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

// sign makes a token with the code of this test, not with the library's.
func sign(header, payload string, secret []byte) string {
	enc := base64.RawURLEncoding.EncodeToString
	signed := enc([]byte(header)) + "." + enc([]byte(payload))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + enc(mac.Sum(nil))
}

const hs256 = `{"alg":"HS256","typ":"JWT"}`

func signed(t testing.TB, more map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(botserver(more))
	ok(t, err)
	return sign(hs256, string(payload), jwtSecret)
}

func jwtOnly(t testing.TB, o auth.JWTOptions) *auth.Authenticator {
	t.Helper()
	if o.Secret == nil {
		o.Secret = jwtSecret
	}
	return authenticator(t, auth.Options{JWT: &o, Failures: patient})
}

// patient never tells anybody to wait.
var patient = auth.FailureLimits{AddressBurst: 1 << 30, GlobalBurst: 1 << 30, AddressEvery: 1, GlobalEvery: 1}

func TestNew_RefusesSecretsThatOthersKnowOrGuess(t *testing.T) {
	if len(auth.PublishedSecret) < 32 {
		t.Fatal("the default would be refused as short, not by name")
	}
	for what, secret := range map[string]string{
		"published":                auth.PublishedSecret,
		"published, with line end": auth.PublishedSecret + "\n",
		"published, with blanks":   "  " + auth.PublishedSecret + " ",
		"published, with CR":       auth.PublishedSecret + "\r\n",
		"published, with a mark":   "\ufeff" + auth.PublishedSecret,
		"published, in quotes":     `"` + auth.PublishedSecret + `"`,
		"a line of .env":           "JWT_SECRET=" + auth.PublishedSecret,
		"published, in capitals":   strings.ToUpper(auth.PublishedSecret),
		"published, twice":         auth.PublishedSecret + auth.PublishedSecret,
		"published, with a tail":   auth.PublishedSecret + "-1",
		"published, in base64":     base64.StdEncoding.EncodeToString([]byte(auth.PublishedSecret)),
		"published, in base64 URL": base64.RawURLEncoding.EncodeToString([]byte(auth.PublishedSecret + "\n")),
		"published, in hex":        hex.EncodeToString([]byte(auth.PublishedSecret)),
	} {
		_, err := auth.New(auth.Options{JWT: &auth.JWTOptions{Secret: []byte(secret)}})
		if err == nil || !strings.Contains(err.Error(), "published default") || strings.Contains(err.Error(), auth.PublishedSecret) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	for _, n := range []int{0, 1, 31} {
		if _, err := auth.New(auth.Options{JWT: &auth.JWTOptions{Secret: jwtSecret[:n]}}); err == nil {
			t.Errorf("a secret of %d bytes is accepted", n)
		}
	}
	if _, err := auth.New(auth.Options{}); err == nil {
		t.Error("a daemon that nobody can reach is accepted")
	}
	for _, role := range []string{"", "Backup_Operator", " x", "a\nb", "none"} {
		_, err := auth.New(auth.Options{JWT: &auth.JWTOptions{Secret: jwtSecret}, AdminRoles: []string{role}})
		if err == nil {
			t.Errorf("admin role %q is accepted", role)
		}
	}
}

func TestSecretFile_IsReadWithoutItsLineEndAndKeptPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwt.secret")
	try := func(contents string, mode os.FileMode) (*auth.Authenticator, error) {
		ok(t, os.WriteFile(path, []byte(contents), 0o600))
		ok(t, os.Chmod(path, mode))
		return auth.New(auth.Options{JWT: &auth.JWTOptions{SecretFile: path}})
	}
	for _, end := range []string{"", "\n", "\r\n"} {
		a, err := try(string(jwtSecret)+end, 0o640)
		ok(t, err)
		wantCode(t, a, fmt.Sprintf("end %q", end), bearer(signed(t, nil)), "")
		ok(t, a.Close())
	}
	for what, err := range map[string]error{
		"readable by all": second(try(string(jwtSecret), 0o604)),
		"a line end only": second(try(strings.Repeat("\n", 40)[:1], 0o600)),
		"too long":        second(try(strings.Repeat("x", 1<<20), 0o600)),
		"published":       second(try(auth.PublishedSecret+"\n", 0o600)),
	} {
		if err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	_, err := auth.New(auth.Options{JWT: &auth.JWTOptions{SecretFile: path + ".none"}})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	_, err = auth.New(auth.Options{JWT: &auth.JWTOptions{SecretFile: path, Secret: jwtSecret}})
	if err == nil {
		t.Error("two secrets are accepted")
	}
}

func second[T any](_ T, err error) error { return err }

func TestJWT_GivesExactRolesAndNoOthers(t *testing.T) {
	a := authenticator(t, auth.Options{JWT: &auth.JWTOptions{Secret: jwtSecret}, AdminRoles: []string{"Global_Admin"}, Failures: patient})
	for _, c := range []struct {
		roles any
		want  auth.Role
	}{
		{[]string{"admin"}, auth.Admin}, {[]string{"Administrator"}, auth.Admin}, {[]string{"SUPERADMIN"}, auth.Admin},
		{[]string{"super_admin"}, auth.Admin}, {[]string{"global_ADMIN"}, auth.Admin},
		{[]string{"backup_operator"}, auth.Operator}, {[]string{"Backup_Operator"}, auth.Operator},
		{[]string{"backup_operator", "admin"}, auth.Admin}, {[]string{"viewer", "backup_operator"}, auth.Operator},
		{[]string{}, auth.None}, {nil, auth.None}, {[]string{""}, auth.None}, {[]string{"root"}, auth.None}, {[]string{"admins"}, auth.None},
		{[]string{"not_admin"}, auth.None}, {[]string{"admin "}, auth.None}, {[]string{"service"}, auth.None},
		{[]string{"bot_operator"}, auth.None}, {[]string{"admın"}, auth.None}, {[]string{"ADMİN"}, auth.None},
		{[]string{"admin,viewer"}, auth.None}, {[]string{strings.Repeat("a", 1000)}, auth.None},
	} {
		p, err := a.Authenticate(context.Background(), bearer(signed(t, map[string]any{"roles": c.roles})))
		if err != nil || p.Role != c.want || p.Method != auth.MethodJWT || p.Name != "6f1c" || p.String() != "jwt:6f1c" || p.Expires.IsZero() {
			t.Errorf("roles %q: got %+v, %v", c.roles, p, err)
		}
	}
	permitted := signed(t, map[string]any{"roles": nil, "permissions": []string{"read", "admin:backup"}})
	if p, err := a.Authenticate(context.Background(), bearer(permitted)); p.Role != auth.None || err != nil {
		t.Errorf("a permission counts without being asked for: %v, %v", p, err)
	}
	a = jwtOnly(t, auth.JWTOptions{AdminPermission: true})
	if p, err := a.Authenticate(context.Background(), bearer(permitted)); p.Role != auth.Admin || err != nil {
		t.Errorf("the permission: %v, %v", p, err)
	}
	almost := signed(t, map[string]any{"roles": nil, "permissions": []string{"admin:backups", "admin", "Admin:Backup"}})
	if p, err := a.Authenticate(context.Background(), bearer(almost)); p.Role != auth.None || err != nil {
		t.Errorf("almost the permission: %v, %v", p, err)
	}
}

func TestJWT_RefusesWhatIsNotExactlyOne(t *testing.T) {
	a := jwtOnly(t, auth.JWTOptions{})
	wantCode(t, a, "good", bearer(signed(t, nil)), "")
	wantCode(t, a, "aud as a list", bearer(signed(t, map[string]any{"aud": []string{"x", "general-bots-api"}})), "")
	wantCode(t, a, "as api key", auth.Credentials{APIKey: signed(t, nil)}, auth.CodeInvalidToken)
	wantCode(t, a, "as password", basic("x", signed(t, nil)), auth.CodeInvalidToken)

	for name := range maps.Keys(botserver(nil)) {
		want := auth.CodeInvalidToken
		if name == "email" || name == "username" || name == "roles" {
			want = ""
		}
		wantCode(t, a, "without "+name, bearer(signed(t, map[string]any{name: nil})), want)
	}
	now := time.Now().Unix()
	for what, more := range map[string]map[string]any{
		"another issuer":      {"iss": "general-bot"},
		"a list as issuer":    {"iss": []string{"general-bots"}},
		"another audience":    {"aud": "general-bots-api2"},
		"no audience":         {"aud": []string{}},
		"a number in aud":     {"aud": []any{"general-bots-api", 1}},
		"a null in aud":       {"aud": []any{"general-bots-api", nil}},
		"a refresh token":     {"type": "refresh"},
		"type in capitals":    {"type": "Access"},
		"exp as text":         {"exp": fmt.Sprint(now + 900)},
		"exp with a fraction": {"exp": float64(now) + 900.5},
		"exp beyond all time": {"exp": int64(1) << 62},
		"a negative exp":      {"exp": -5},
		"roles as text":       {"roles": "admin"},
		"roles as an object":  {"roles": map[string]any{"admin": 1}},
		"a number as role":    {"roles": []any{1}},
		"no subject":          {"sub": ""},
		"a number as subject": {"sub": 7},
		"a line as subject":   {"sub": "a\nb"},
		"a long subject":      {"sub": strings.Repeat("x", 300)},
	} {
		wantCode(t, a, what, bearer(signed(t, more)), auth.CodeInvalidToken)
	}
	payload, err := json.Marshal(botserver(nil))
	ok(t, err)
	p := string(payload)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	ok(t, err)
	rs, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims(botserver(nil))).SignedString(key)
	ok(t, err)
	hs512, err := jwt.NewWithClaims(jwt.SigningMethodHS512, jwt.MapClaims(botserver(nil))).SignedString(jwtSecret)
	ok(t, err)
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims(botserver(nil))).SignedString(jwt.UnsafeAllowNoneSignatureType)
	ok(t, err)
	good := sign(hs256, p, jwtSecret)
	for what, token := range map[string]string{
		"another secret":      sign(hs256, p, []byte("another secret of more than 32 bytes")),
		"the default secret":  sign(hs256, p, []byte(auth.PublishedSecret)),
		"no secret":           sign(hs256, p, nil),
		"RS256":               rs,
		"HS512":               hs512,
		"none":                none,
		"None":                sign(`{"alg":"None"}`, p, jwtSecret),
		"hs256":               sign(`{"alg":"hs256"}`, p, jwtSecret),
		"no alg":              sign(`{}`, p, jwtSecret),
		"alg as a list":       sign(`{"alg":["HS256"]}`, p, jwtSecret),
		"alg twice":           sign(`{"alg":"HS256","alg":"HS256"}`, p, jwtSecret),
		"Alg":                 sign(`{"Alg":"HS256"}`, p, jwtSecret),
		"a key in the header": sign(`{"alg":"HS256","jwk":{"kty":"oct","k":"AA"}}`, p, jwtSecret),
		"a key's address":     sign(`{"alg":"HS256","jku":"https://evil.example"}`, p, jwtSecret),
		"a certificate":       sign(`{"alg":"HS256","x5u":"https://evil.example"}`, p, jwtSecret),
		"something critical":  sign(`{"alg":"HS256","crit":["b64"],"b64":false}`, p, jwtSecret),
		"another typ":         sign(`{"alg":"HS256","typ":"secevent+jwt"}`, p, jwtSecret),
		"a claim twice":       sign(hs256, strings.Replace(p, `"type":"access"`, `"type":"refresh","type":"access"`, 1), jwtSecret),
		"a claim in capitals": sign(hs256, strings.Replace(p, `"type"`, `"TYPE"`, 1), jwtSecret),
		"something after it":  sign(hs256, p+" {}", jwtSecret),
		"a list":              sign(hs256, "["+p+"]", jwtSecret),
		"deep":                sign(hs256, strings.Replace(p, `"jti"`, `"x":`+strings.Repeat("[", 50)+strings.Repeat("]", 50)+`,"jti"`, 1), jwtSecret),
		"not UTF-8":           sign(hs256, strings.Replace(p, "ann", "a\xff", 1), jwtSecret),
		"no signature":        good[:strings.LastIndex(good, ".")+1],
		"two parts":           good[:strings.LastIndex(good, ".")],
		"four parts":          good + ".x",
		"five parts":          "a.b.c.d.e",
		"dots":                "..",
		"padding":             good + "=",
		"too long":            sign(hs256, strings.Replace(p, "ann", strings.Repeat("x", auth.MaxJWT), 1), jwtSecret),
	} {
		wantCode(t, a, what, bearer(token), auth.CodeInvalidToken)
	}
	wantCode(t, a, "kid is ignored", bearer(sign(`{"alg":"HS256","typ":"jwt","kid":"../../dev/null"}`, p, jwtSecret)), "")
	// The signature's last character holds two bits that mean nothing: only one
	// spelling of them is the token.
	last := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", good[len(good)-1])
	twin := good[:len(good)-1] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last^1])
	wantCode(t, a, "a second spelling", bearer(twin), auth.CodeInvalidToken)
}

func TestJWT_HoldsToItsTimesWithAMinuteOfLeeway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := jwtOnly(t, auth.JWTOptions{})
		token := signed(t, nil) // 900 s
		time.Sleep(959 * time.Second)
		wantCode(t, a, "within the leeway", bearer(token), "")
		time.Sleep(time.Second)
		wantCode(t, a, "after it", bearer(token), auth.CodeExpiredToken)
		forged := token[:len(token)-4] + "AAAA"
		wantCode(t, a, "old and forged", bearer(forged), auth.CodeInvalidToken)
		now := time.Now().Unix()
		wantCode(t, a, "old and for another", bearer(signed(t, map[string]any{"exp": now - 100, "aud": "x"})), auth.CodeInvalidToken)
		wantCode(t, a, "nbf within the leeway", bearer(signed(t, map[string]any{"nbf": now + 60})), "")
		wantCode(t, a, "nbf after it", bearer(signed(t, map[string]any{"nbf": now + 62})), auth.CodeInvalidToken)
		wantCode(t, a, "iat within the leeway", bearer(signed(t, map[string]any{"iat": now + 60})), "")
		wantCode(t, a, "iat after it", bearer(signed(t, map[string]any{"iat": now + 62})), auth.CodeInvalidToken)
	})
}

// mutate changes a token in one of the ways that attackers and line noise do.
func mutate(rng *mrand.Rand, token string) string {
	b := []byte(token)
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/~ {}\"\x00\xff"
	for range 1 + rng.IntN(3) {
		i := rng.IntN(len(b))
		switch rng.IntN(6) {
		case 0:
			b[i] = alphabet[rng.IntN(len(alphabet))]
		case 1:
			b = append(b[:i], b[i+1:]...)
		case 2:
			b = append(b[:i:i], append([]byte{alphabet[rng.IntN(len(alphabet))]}, b[i:]...)...)
		case 3:
			b[i] ^= 1 << rng.IntN(8)
		case 4:
			b = append(b, b[i:min(len(b), i+20)]...)
		case 5:
			j := rng.IntN(len(b))
			b[i], b[j] = b[j], b[i]
		}
		if len(b) < 2 {
			return "x"
		}
	}
	return string(b)
}

// mutateClaims changes what is signed and keeps the old signature, or signs it with
// a guess.
func mutateClaims(rng *mrand.Rand, payload, signature string) string {
	headers := []string{hs256, `{"alg":"none"}`, `{"alg":"HS512"}`, `{"alg":"RS256"}`, `{"alg":"HS256","kid":"x"}`, `{"alg":""}`, `null`, ``}
	p := mutate(rng, payload)
	if rng.IntN(3) == 0 {
		p = payload
	}
	enc := base64.RawURLEncoding.EncodeToString
	h := headers[rng.IntN(len(headers))]
	switch rng.IntN(4) {
	case 0:
		return enc([]byte(h)) + "." + enc([]byte(p)) + "."
	case 1:
		return sign(h, p, []byte(auth.PublishedSecret))
	case 2:
		return sign(h, p, nil)
	}
	return enc([]byte(h)) + "." + enc([]byte(p)) + "." + enc([]byte(mutate(rng, signature)))
}

// One hundred thousand with AUTH_MUTATIONS=100000, a tenth of it otherwise.
func TestJWT_RefusesEveryMutatedToken(t *testing.T) {
	n := 10_000
	if s := os.Getenv("AUTH_MUTATIONS"); s != "" {
		_, err := fmt.Sscan(s, &n)
		ok(t, err)
	}
	a := jwtOnly(t, auth.JWTOptions{})
	payload, err := json.Marshal(botserver(nil))
	ok(t, err)
	good := sign(hs256, string(payload), jwtSecret)
	wantCode(t, a, "unchanged", bearer(good), "")
	seed := mrand.Uint64()
	rng := mrand.New(mrand.NewPCG(seed, 0))
	for i := range n {
		bad := mutate(rng, good)
		if i%2 == 1 {
			bad = mutateClaims(rng, string(payload), good[strings.LastIndex(good, ".")+1:])
		}
		if strings.TrimLeft(strings.TrimRight(bad, " \t"), " ") == good {
			continue // blanks around it are of the header, as below
		}
		c := bearer(bad)
		c.Remote = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if got := code(t, a, c); got != auth.CodeInvalidToken {
			t.Fatalf("seed %d, %d: %q gets %q", seed, i, bad, got)
		}
	}
	for around, want := range map[string]string{"  %s": "", "%s \t": "", "\t%s": auth.CodeInvalidToken, "%s\n": auth.CodeInvalidToken} {
		wantCode(t, a, "within "+around, bearer(fmt.Sprintf(around, good)), want)
	}
	wantCode(t, a, "unchanged, after all", bearer(good), "")
}

func FuzzJWT(f *testing.F) {
	a, err := auth.New(auth.Options{JWT: &auth.JWTOptions{Secret: jwtSecret}, Failures: patient})
	ok(f, err)
	f.Cleanup(func() { a.Close() })
	payload, err := json.Marshal(botserver(nil))
	ok(f, err)
	f.Add(hs256, string(payload))
	f.Add(`{"alg":"none"}`, `{}`)
	f.Add(hs256, `{"exp":1e999}`)
	f.Add(`{"alg":"HS256","alg":"none"}`, strings.Repeat("[", 1000))
	// Rightly signed, so that the claims are reached: whoever gets in has said all
	// that a token must say.
	f.Fuzz(func(t *testing.T, header, payload string) {
		p, err := a.Authenticate(context.Background(), bearer(sign(header, payload, jwtSecret)))
		if err != nil {
			return
		}
		var c map[string]any
		ok(t, json.Unmarshal([]byte(payload), &c))
		if c["type"] != "access" || c["iss"] != "general-bots" || c["sub"] != p.Name || c["jti"] == nil || p.Expires.IsZero() {
			t.Fatalf("let in: %s", payload)
		}
		if alg, err := auth.JWTAlgorithm(sign(header, payload, jwtSecret)); alg != "HS256" || err != nil {
			t.Fatalf("let in with header %s", header)
		}
	})
}
