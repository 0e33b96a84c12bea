package auth_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/generalbots/backupd/internal/auth"
	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/durable/crashfs"
)

// tokensEnv makes the test binary a process that makes and revokes tokens in the
// file it names.
const tokensEnv = "AUTH_TEST_TOKENS"

func TestMain(m *testing.M) {
	path := os.Getenv(tokensEnv)
	if path == "" {
		os.Exit(m.Run())
	}
	file, err := auth.OpenTokens(path)
	for i := 0; i < 20 && err == nil; i++ {
		_, _, err = file.Create(auth.CreateToken{Name: fmt.Sprintf("p%d-%d", os.Getpid(), i), Role: auth.Operator})
		if i%2 == 1 && err == nil {
			_, err = file.Revoke(fmt.Sprintf("p%d-%d", os.Getpid(), i))
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func tokenFile(t testing.TB) (*auth.Tokens, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), auth.TokenFileName)
	file, err := auth.OpenTokens(path)
	ok(t, err)
	t.Cleanup(func() { file.Close() })
	return file, path
}

func create(t testing.TB, file *auth.Tokens, c auth.CreateToken) string {
	t.Helper()
	secret, _, err := file.Create(c)
	ok(t, err)
	return secret
}

func authenticator(t testing.TB, o auth.Options) *auth.Authenticator {
	t.Helper()
	a, err := auth.New(o)
	ok(t, err)
	t.Cleanup(func() { a.Close() })
	return a
}

var here = netip.MustParseAddr("192.0.2.1")

func bearer(token string) auth.Credentials {
	return auth.Credentials{Authorization: "Bearer " + token, Remote: here}
}

func basic(user, password string) auth.Credentials {
	return auth.Credentials{Authorization: "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)), Remote: here}
}

// code is "" for somebody who is let in.
func code(t testing.TB, a *auth.Authenticator, c auth.Credentials) string {
	t.Helper()
	p, err := a.Authenticate(context.Background(), c)
	if err == nil {
		return ""
	}
	var e *auth.Error
	if !errors.As(err, &e) || p != (auth.Principal{}) {
		t.Fatalf("got %v with %v", err, p)
	}
	return e.Code
}

func wantCode(t testing.TB, a *auth.Authenticator, what string, c auth.Credentials, want string) {
	t.Helper()
	if got := code(t, a, c); got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestToken_LetsInByEveryHeaderItMayComeIn(t *testing.T) {
	file, path := tokenFile(t)
	admin := create(t, file, auth.CreateToken{Name: "root", Role: auth.Admin})
	basicAdmin := create(t, file, auth.CreateToken{Name: "script", Role: auth.Admin, Basic: true})
	operator := create(t, file, auth.CreateToken{Name: "bot", Role: auth.Operator})
	a := authenticator(t, auth.Options{TokenFile: path})
	key := func(s string) auth.Credentials { return auth.Credentials{APIKey: s, Remote: here} }
	for _, c := range []struct {
		what   string
		c      auth.Credentials
		name   string
		role   auth.Role
		method string
	}{
		{"bearer", bearer(admin), "root", auth.Admin, auth.MethodToken},
		{"bearer in capitals", auth.Credentials{Authorization: "BEARER  " + admin}, "root", auth.Admin, auth.MethodToken},
		{"api key", key(admin), "root", auth.Admin, auth.MethodToken},
		{"operator's bearer", bearer(operator), "bot", auth.Operator, auth.MethodToken},
		{"operator's password", basic("backup", operator), "bot", auth.Operator, auth.MethodBasic},
		{"password without a user", basic("", operator), "bot", auth.Operator, auth.MethodBasic},
		{"admin's password made so", basic("x", basicAdmin), "script", auth.Admin, auth.MethodBasic},
	} {
		p, err := a.Authenticate(context.Background(), c.c)
		if err != nil || p.Name != c.name || p.Role != c.role || p.Method != c.method || !strings.HasPrefix(p.TokenID, "token-") ||
			!p.Expires.IsZero() || p.String() != "token:"+c.name {
			t.Errorf("%s: got %+v, %v", c.what, p, err)
		}
	}
	flip := func(s string) string { return s[:len(s)-2] + string('a'+(s[len(s)-2]-'a'+1)%20) + s[len(s)-1:] }
	for _, c := range []struct {
		what, code string
		c          auth.Credentials
	}{
		{"nothing", auth.CodeMissingToken, auth.Credentials{Remote: here}},
		{"admin's password", auth.CodeInvalidToken, basic("x", admin)},
		{"one letter changed", auth.CodeInvalidToken, bearer(flip(admin))},
		{"cut", auth.CodeInvalidToken, bearer(admin[:len(admin)-1])},
		{"longer", auth.CodeInvalidToken, bearer(admin + "a")},
		{"in capitals", auth.CodeInvalidToken, bearer("bkp_" + strings.ToUpper(admin[4:]))},
		{"prefix alone", auth.CodeInvalidToken, bearer("bkp_")},
		{"as user name", auth.CodeInvalidToken, basic(operator, "")},
		{"no colon", auth.CodeInvalidToken, auth.Credentials{Authorization: "Basic " + base64.StdEncoding.EncodeToString([]byte(operator))}},
		{"api key of 16 characters", auth.CodeInvalidToken, key("abcdefghijklmnop")},
		{"any bearer", auth.CodeInvalidToken, bearer("anything")},
		{"two credentials", auth.CodeInvalidToken, auth.Credentials{Authorization: "Bearer " + admin, APIKey: admin}},
		{"another scheme", auth.CodeInvalidToken, auth.Credentials{Authorization: "Token " + admin}},
		{"no scheme", auth.CodeInvalidToken, auth.Credentials{Authorization: admin}},
		{"a list", auth.CodeInvalidToken, bearer(admin + ", Bearer " + admin)},
		{"a megabyte", auth.CodeInvalidToken, bearer(strings.Repeat("a", 1<<20))},
		{"a JWT where none is taken", auth.CodeInvalidToken, bearer("a.b.c")},
	} {
		wantCode(t, a, c.what, c.c, c.code)
	}
}

func TestTokenFile_HoldsNoSecretAndIsPrivate(t *testing.T) {
	file, path := tokenFile(t)
	secret := create(t, file, auth.CreateToken{Name: "a", Role: auth.Admin})
	if len(secret) != 4+52 || !strings.HasPrefix(secret, "bkp_") {
		t.Fatalf("the secret has %d characters", len(secret))
	}
	data, err := os.ReadFile(path)
	ok(t, err)
	if bytes.Contains(data, []byte(secret[4:20])) {
		t.Fatal("the secret stands in the file")
	}
	info, err := os.Stat(path)
	ok(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Fatalf("mode is %v", info.Mode())
	}
	other := create(t, file, auth.CreateToken{Name: "b", Role: auth.Admin})
	if other == secret {
		t.Fatal("two tokens are one")
	}
}

func TestTokens_RefusesWhatWouldConfuse(t *testing.T) {
	file, _ := tokenFile(t)
	create(t, file, auth.CreateToken{Name: "taken", Role: auth.Admin})
	for what, c := range map[string]auth.CreateToken{
		"no name":          {Role: auth.Admin},
		"a name with line": {Name: "a\nb", Role: auth.Admin},
		"a blank":          {Name: "a b", Role: auth.Admin},
		"an id as name":    {Name: "token-x", Role: auth.Admin},
		"a secret as name": {Name: "bkp_x", Role: auth.Admin},
		"a dash first":     {Name: "-x", Role: auth.Admin},
		"a long name":      {Name: strings.Repeat("x", 65), Role: auth.Admin},
		"no role":          {Name: "x"},
		"an unknown role":  {Name: "x", Role: auth.Role(7)},
		"an end in the past": {Name: "x", Role: auth.Admin,
			Expires: time.Now().Add(-time.Minute)},
	} {
		if _, _, err := file.Create(c); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
	if _, _, err := file.Create(auth.CreateToken{Name: "taken", Role: auth.Operator}); !errors.Is(err, auth.ErrTokenNameTaken) {
		t.Errorf("a name twice: %v", err)
	}
	if _, err := file.Revoke("nobody"); !errors.Is(err, auth.ErrNoSuchToken) {
		t.Errorf("revoking nothing: %v", err)
	}
	list, err := file.List()
	ok(t, err)
	if len(list) != 1 || list[0].Name != "taken" {
		t.Fatalf("got %v", list)
	}
	if _, err := file.Revoke(list[0].ID); err != nil {
		t.Fatalf("revoking by id: %v", err)
	}
	if list, err = file.List(); len(list) != 0 || err != nil {
		t.Fatalf("got %v, %v", list, err)
	}
}

// The file is a real one while the clock is the bubble's: nothing here waits for
// the disk.
func TestToken_ExpiresAndIsRevokedWhileTheDaemonRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file, path := tokenFile(t)
		short := create(t, file, auth.CreateToken{Name: "short", Role: auth.Admin, Expires: time.Now().Add(time.Hour)})
		long := create(t, file, auth.CreateToken{Name: "long", Role: auth.Admin})
		a := authenticator(t, auth.Options{TokenFile: path})
		time.Sleep(time.Hour - time.Second)
		wantCode(t, a, "before its end", bearer(short), "")
		time.Sleep(time.Second)
		wantCode(t, a, "at its end", bearer(short), auth.CodeExpiredToken)
		wantCode(t, a, "without end", bearer(long), "")

		_, err := file.Revoke("long")
		ok(t, err)
		time.Sleep(auth.TokenCheck)
		wantCode(t, a, "revoked", bearer(long), auth.CodeInvalidToken)
		next := create(t, file, auth.CreateToken{Name: "next", Role: auth.Operator})
		wantCode(t, a, "made since", bearer(next), "")

		_, err = file.Revoke("next")
		ok(t, err)
		ok(t, a.Reload())
		wantCode(t, a, "revoked and reloaded", bearer(next), auth.CodeInvalidToken)
	})
}

func TestTokenFile_MissingOrDamagedLetsNobodyIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file, path := tokenFile(t)
		a := authenticator(t, auth.Options{TokenFile: path})
		if err := a.Reload(); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("reload without a file: %v", err)
		}
		secret := create(t, file, auth.CreateToken{Name: "first", Role: auth.Admin})
		good, err := os.ReadFile(path)
		ok(t, err)
		time.Sleep(auth.TokenCheck)
		wantCode(t, a, "the first token of a running daemon", bearer(secret), "")

		for what, c := range map[string]struct {
			spoil func()
			code  string
		}{
			"empty":            {func() { ok(t, os.WriteFile(path, nil, 0o600)) }, auth.CodeServiceUnavailable},
			"cut":              {func() { ok(t, os.WriteFile(path, good[:len(good)/2], 0o600)) }, auth.CodeServiceUnavailable},
			"readable":         {func() { ok(t, os.Chmod(path, 0o640)) }, auth.CodeServiceUnavailable},
			"writable":         {func() { ok(t, os.Chmod(path, 0o602)) }, auth.CodeServiceUnavailable},
			"a directory":      {func() { ok(t, os.Remove(path)); ok(t, os.Mkdir(path, 0o700)) }, auth.CodeServiceUnavailable},
			"a pipe":           {func() { ok(t, os.Remove(path)); ok(t, syscall.Mkfifo(path, 0o600)) }, auth.CodeServiceUnavailable},
			"a link":           {func() { ok(t, os.Rename(path, path+".x")); ok(t, os.Symlink(path+".x", path)) }, auth.CodeServiceUnavailable},
			"huge":             {func() { ok(t, os.Truncate(path, 2<<20)) }, auth.CodeServiceUnavailable},
			"missing":          {func() { ok(t, os.Remove(path)) }, auth.CodeInvalidToken},
			"another version":  {func() { ok(t, os.WriteFile(path, bytes.Replace(good, []byte(": 1"), []byte(": 2"), 1), 0o600)) }, auth.CodeServiceUnavailable},
			"an unknown field": {func() { ok(t, os.WriteFile(path, bytes.Replace(good, []byte(`"basic"`), []byte(`"Basic"`), 1), 0o600)) }, auth.CodeServiceUnavailable},
		} {
			c.spoil()
			time.Sleep(auth.TokenCheck)
			wantCode(t, a, what, bearer(secret), c.code)
			if c.code == auth.CodeServiceUnavailable {
				if _, err := auth.New(auth.Options{TokenFile: path}); err == nil {
					t.Errorf("%s: a daemon starts", what)
				}
				if _, _, err := file.Create(auth.CreateToken{Name: "x", Role: auth.Admin}); err == nil {
					t.Errorf("%s: a token is made over it", what)
				}
				if err := a.Reload(); err == nil {
					t.Errorf("%s: reload says nothing", what)
				}
			}
			ok(t, os.RemoveAll(path))
			ok(t, os.WriteFile(path, good, 0o600))
			time.Sleep(auth.TokenCheck)
			wantCode(t, a, what+", repaired", bearer(secret), "")
		}
	})
}

func TestTokens_LoseNothingWhenProcessesEditAtOnce(t *testing.T) {
	file, path := tokenFile(t)
	const processes = 4
	children := make([]*exec.Cmd, processes)
	for i := range children {
		children[i] = exec.Command(os.Args[0])
		children[i].Env = append(os.Environ(), tokensEnv+"="+path)
		ok(t, children[i].Start())
	}
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for j := range 10 {
				if _, _, err := file.Create(auth.CreateToken{Name: fmt.Sprintf("g%d-%d", i, j), Role: auth.Admin}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, c := range children {
		ok(t, c.Wait())
	}
	list, err := file.List()
	ok(t, err)
	if want := processes*10 + 30; len(list) != want {
		t.Fatalf("%d tokens, want %d", len(list), want)
	}
}

// tokenLosses crashes at every operation of some edits and counts states in which
// an acknowledged edit is gone, or the file does not read.
func tokenLosses(t *testing.T, lies crashfs.Lies) (states, losses int) {
	t.Helper()
	disk := crashfs.New()
	disk.Lie(lies)
	acked, doing := "", ""
	names := func(f durable.FS) (string, error) {
		list, err := auth.TokensIn(f, "tokens.json").List()
		s := ""
		for _, k := range list {
			s += k.Name
		}
		return s, err
	}
	disk.Before(func(crashfs.Op) {
		for _, percent := range []int{0, 50, 100} {
			for seed := range uint64(10) {
				states++
				got, err := names(disk.Crash(rand.New(rand.NewPCG(seed, 3)), percent))
				if err != nil || got != acked && got != doing {
					losses++
				}
			}
		}
	})
	file := auth.TokensIn(disk, "tokens.json")
	for _, name := range []string{"a", "b", "c", "d"} {
		doing = acked + name
		create(t, file, auth.CreateToken{Name: name, Role: auth.Admin})
		acked = doing
	}
	doing = strings.Replace(acked, "b", "", 1)
	_, err := file.Revoke("b")
	ok(t, err)
	acked = doing
	doing = acked + "e"
	create(t, file, auth.CreateToken{Name: "e", Role: auth.Admin})
	return states, losses
}

func TestTokens_SurviveACrashAtEveryOperation(t *testing.T) {
	if states, losses := tokenLosses(t, crashfs.Lies{}); losses > 0 {
		t.Fatalf("%d of %d states lost an edit", losses, states)
	}
	// Negative controls.
	for what, lies := range map[string]crashfs.Lies{"no fsync": {IgnoreSync: true}, "no directory fsync": {IgnoreSyncDir: true}} {
		if states, losses := tokenLosses(t, lies); losses == 0 {
			t.Errorf("%s: nothing lost in %d states", what, states)
		}
	}
}

func FuzzTokenFile(f *testing.F) {
	file, path := tokenFile(f)
	create(f, file, auth.CreateToken{Name: "a", Role: auth.Admin})
	create(f, file, auth.CreateToken{Name: "b", Role: auth.Operator, Basic: true, Expires: time.Now().Add(time.Hour)})
	data, err := os.ReadFile(path)
	ok(f, err)
	f.Add(data)
	f.Add([]byte(`{"version":1,"tokens":[]}`))
	f.Add([]byte(`{"version":1,"tokens":[{}]}`))
	f.Add([]byte(strings.Repeat("[", 1000)))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, again, err := auth.DecodeTokens(data)
		if err != nil {
			if !errors.Is(err, auth.ErrTokensDamaged) {
				t.Fatalf("got %v", err)
			}
			return
		}
		m, third, err := auth.DecodeTokens(again)
		if err != nil || n != m || !bytes.Equal(again, third) {
			t.Fatalf("written again it reads as %d instead of %d tokens, %v", m, n, err)
		}
	})
}

func FuzzCredentials(f *testing.F) {
	f.Add("Bearer bkp_abc", "")
	f.Add("Basic eDpia3BfYQ==", "")
	f.Add("", "bkp_abc")
	f.Add("Bearer a.b.c", "x")
	f.Fuzz(func(t *testing.T, authorization, key string) {
		kind, secret, err := auth.ParseCredentials(auth.Credentials{Authorization: authorization, APIKey: key})
		switch {
		case err != nil && (kind != 0 || secret != ""):
			t.Fatal("an error with a secret")
		case err == nil && kind == 0 && (authorization != "" || key != ""):
			t.Fatal("a header counts as no credential")
		case err == nil && kind != 0 && (secret == "" || len(secret) > auth.MaxJWT):
			t.Fatalf("a secret of %d bytes", len(secret))
		}
	})
}
