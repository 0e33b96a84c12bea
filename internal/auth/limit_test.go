package auth_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/generalbots/backupd/internal/auth"
)

func TestLimit_CountsFailuresByAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := auth.NewLimiter(auth.FailureLimits{AddressBurst: 3, AddressEvery: 10 * time.Second})
		one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		for i := range 3 {
			if wait := l.Fail(one); wait != 0 {
				t.Fatalf("failure %d waits %v", i, wait)
			}
		}
		if wait := l.Fail(one); wait != 10*time.Second {
			t.Fatalf("the fourth waits %v", wait)
		}
		if l.Fail(two) != 0 || l.Blocked(two) != 0 {
			t.Fatal("another address waits")
		}
		if wait := l.Fail(netip.MustParseAddr("::ffff:192.0.2.1")); wait != 10*time.Second {
			t.Fatalf("the same address in IPv6 dress waits %v", wait)
		}
		time.Sleep(10 * time.Second)
		if l.Blocked(one) != 0 || l.Fail(one) != 0 || l.Fail(one) == 0 {
			t.Fatal("one more every ten seconds is not what comes")
		}
		time.Sleep(time.Hour)
		for i := range 3 {
			if wait := l.Fail(one); wait != 0 {
				t.Fatalf("after an hour failure %d waits %v", i, wait)
			}
		}
		if l.Fail(one) == 0 {
			t.Fatal("an hour of peace gives more than the burst")
		}
	})
}

func TestLimit_TakesANetworkOfIPv6ForOneAddress(t *testing.T) {
	l := auth.NewLimiter(auth.FailureLimits{AddressBurst: 2, AddressEvery: time.Hour})
	l.Fail(netip.MustParseAddr("2001:db8:0:1::1"))
	l.Fail(netip.MustParseAddr("2001:db8:0:1:ffff::2"))
	if l.Fail(netip.MustParseAddr("2001:db8:0:1::3%eth0")) == 0 {
		t.Error("a /64 is more than one")
	}
	if l.Fail(netip.MustParseAddr("2001:db8:0:2::1")) != 0 {
		t.Error("another /64 waits")
	}
	var socket netip.Addr
	for i := range 3 {
		if wait := l.Fail(socket); (wait > 0) != (i == 2) {
			t.Errorf("failure %d of the Unix socket waits %v", i, wait)
		}
	}
}

func TestLimit_AllTogetherReachTheGlobalLimitAndNobodyElseSuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := auth.NewLimiter(auth.FailureLimits{GlobalBurst: 100, GlobalEvery: time.Second})
		at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }
		for i := range 100 {
			if l.Fail(at(i)) != 0 {
				t.Fatalf("failure %d waits", i)
			}
		}
		if wait := l.Fail(at(100)); wait != time.Second {
			t.Fatalf("the next failure waits %v", wait)
		}
		if l.Blocked(at(5)) == 0 {
			t.Error("one of those who failed is still asked for")
		}
		if l.Blocked(at(500)) != 0 {
			t.Error("somebody who never failed has to wait")
		}
		time.Sleep(time.Second)
		if l.Blocked(at(5)) != 0 {
			t.Error("the limit does not recover")
		}
	})
}

func TestLimit_OneAddressDoesNotUseUpTheGlobalLimit(t *testing.T) {
	l := auth.NewLimiter(auth.FailureLimits{AddressBurst: 5, AddressEvery: time.Hour, GlobalBurst: 10, GlobalEvery: time.Hour})
	for range 1000 {
		l.Fail(here)
	}
	for i := range 5 {
		if l.Fail(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})) != 0 {
			t.Fatalf("failure %d of another waits", i)
		}
	}
}

func TestLimit_RemembersBoundedlyManyAddresses(t *testing.T) {
	l := auth.NewLimiter(auth.FailureLimits{GlobalBurst: 1 << 30, GlobalEvery: 1})
	for i := range 3 * auth.MaxAddresses {
		l.Fail(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if l.Size() > auth.MaxAddresses {
		t.Fatalf("%d addresses", l.Size())
	}
}

func TestAuthenticate_TellsWhoFailsTooOftenToWaitAndLetsTheRightTokenIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file, path := tokenFile(t)
		secret := create(t, file, auth.CreateToken{Name: "a", Role: auth.Admin})
		a := authenticator(t, auth.Options{TokenFile: path, Failures: auth.FailureLimits{AddressBurst: 5, AddressEvery: 2500 * time.Millisecond}})
		wrong := bearer("bkp_" + strings.Repeat("a", 52))
		for range 5 {
			wantCode(t, a, "wrong", wrong, auth.CodeInvalidToken)
		}
		_, err := a.Authenticate(context.Background(), wrong)
		var e *auth.Error
		if !errors.As(err, &e) || e.Code != auth.CodeRateLimited || e.RetryAfter != 3*time.Second {
			t.Fatalf("got %+v", err)
		}
		wantCode(t, a, "no token", auth.Credentials{Remote: here}, auth.CodeRateLimited)
		// The right token is let in from the same address: 256 bits are not guessed, and
		// behind a proxy all have one address.
		wantCode(t, a, "the right one", bearer(secret), "")
		elsewhere := wrong
		elsewhere.Remote = netip.MustParseAddr("192.0.2.9")
		wantCode(t, a, "wrong, from elsewhere", elsewhere, auth.CodeInvalidToken)
	})
}

func TestError_ShowsNoCredential(t *testing.T) {
	file, path := tokenFile(t)
	create(t, file, auth.CreateToken{Name: "a", Role: auth.Admin})
	a := authenticator(t, auth.Options{TokenFile: path, JWT: &auth.JWTOptions{Secret: jwtSecret}, Failures: patient})
	const secret = "s3cr3tvalue"
	for _, c := range []auth.Credentials{
		bearer("bkp_" + secret), bearer(secret), bearer(secret + ".b.c"), basic(secret, "bkp_"+secret), {APIKey: secret},
		{Authorization: secret}, bearer(signed(t, map[string]any{"iss": secret})), bearer(signed(t, map[string]any{secret: 1, "type": secret})),
	} {
		_, err := a.Authenticate(context.Background(), c)
		for e := err; e != nil; e = errors.Unwrap(e) {
			if strings.Contains(e.Error(), secret) {
				t.Errorf("%q shows the credential", e)
			}
		}
	}
}
