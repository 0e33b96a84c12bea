package api_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/api"
)

func TestRequests_BeyondTheRateAreRefusedToThatCallerAlone(t *testing.T) {
	h := newHouse(t, func(o *api.Options) { o.RequestsPerSecond = 1 })
	begun := time.Now()
	served, refused := 0, 0
	before := len(h.audit.records())
	for range 60 {
		switch g := h.do(h.operator, "GET", at+"/list", ""); g.status {
		case 200:
			served++
		case 429:
			refused++
			if n, err := strconv.Atoi(g.header.Get("Retry-After")); err != nil || n < 1 || n > 2 || g.decode(t)["error"] != "rate_limited" {
				t.Fatalf("%v %s", g.header, g.body)
			}
		default:
			t.Fatalf("%d %s", g.status, g.body)
		}
	}
	if most := 2 + int(time.Since(begun)/time.Second+1); served < 2 || served > most {
		t.Errorf("%d calls were served, want 2 to %d", served, most)
	}
	if refused == 0 {
		t.Error("no call was refused")
	}
	if n := len(h.audit.records()); n != before {
		t.Errorf("%d records of the audit are about refused calls", n-before)
	}
	if n := strings.Count(h.log.String(), "asks too much"); n != 1 {
		t.Errorf("the log tells of it %d times, want once", n)
	}
	// Others are served, and so is what everybody may ask.
	h.want(200, h.admin, "GET", at+"/list", "")
	h.want(200, "", "GET", "/healthz", "")
	for begun := time.Now(); h.do(h.operator, "GET", at+"/list", "").status != 200; time.Sleep(50 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatal("the caller is never served again")
		}
	}
}

// A denial is a durable record: whoever has a credential without the role must not write as many as it likes.
func TestRequests_WithoutTheRoleAreBoundToTheRateToo(t *testing.T) {
	h := newHouse(t, func(o *api.Options) { o.RequestsPerSecond = 1 })
	begun := time.Now()
	before := len(h.audit.records())
	denied, refused := 0, 0
	for range 60 {
		switch g := h.do(h.operator, "DELETE", at+"/backup-01jaaaaaaaaaaaaaaaaaaaaaaa", ""); g.status {
		case 403:
			denied++
		case 429:
			refused++
		default:
			t.Fatalf("%d %s", g.status, g.body)
		}
	}
	if most := 2 + int(time.Since(begun)/time.Second+1); denied < 2 || denied > most || refused == 0 {
		t.Errorf("%d calls were denied and %d refused, want 2 to %d denied", denied, refused, most)
	}
	if n := len(h.audit.records()) - before; n != denied {
		t.Errorf("%d records for %d denials", n, denied)
	}
}

func TestPacer_GivesEachItsShareInBoundedMemory(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	p := api.NewPacer(50, 1000)
	one := func(i int) (string, netip.Addr) {
		return fmt.Sprint("bot ", i), netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
	}
	// A caller that never stops gets its share to the call, over every turn of the
	// generations.
	served := 0
	for range 100_000 { // 100 s
		now = now.Add(time.Millisecond)
		name, addr := one(0)
		if p.Take(name, addr, now) == 0 {
			served++
		}
	}
	if want := 100 + 50*100; served < want-2 || served > want+2 {
		t.Errorf("%d calls in 100 s, want %d", served, want)
	}
	// Many callers are kept apart, and those beyond the bound share one bucket.
	later := now.Add(time.Hour)
	for i := range 100_000 {
		name, addr := one(i)
		p.Take(name, addr, later)
		if n := p.Size(); n > 2*1001 {
			t.Fatalf("%d buckets", n)
		}
	}
	if name, addr := one(70_000); p.Take(name, addr, later) == 0 {
		t.Error("a caller beyond the bound has a bucket of its own")
	}
	if name, addr := one(5); p.Take(name, addr, later) != 0 {
		t.Error("a caller within the bound is refused")
	}
	// The clock going back stops nobody.
	if name, addr := one(7); p.Take(name, addr, later.Add(-24*time.Hour)) != 0 {
		t.Error("a caller is refused, as the clock went back")
	}
}

func TestBody_HasTheSizeThatIsAllowed(t *testing.T) {
	h := newHouse(t, func(o *api.Options) { o.BodySize = 2000 })
	fit := `{"tags": ["a"]` + strings.Repeat(" ", 2000-15) + "}"
	h.want(201, h.admin, "POST", at+"/create", fit)
	if g := h.want(413, h.admin, "POST", at+"/create", fit+" "); !strings.Contains(g.body, "2000 bytes") {
		t.Errorf("%s", g.body)
	}
}
