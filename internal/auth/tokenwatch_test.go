package auth_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/generalbots/backupd/internal/auth"
)

func TestToken_IsLetInAtOnceWhenItIsNew(t *testing.T) {
	file, path := tokenFile(t)
	a := authenticator(t, auth.Options{TokenFile: path})
	for i := range 20 {
		secret := create(t, file, auth.CreateToken{Name: fmt.Sprint("t", i), Role: auth.Operator})
		wantCode(t, a, "a token of this moment", bearer(secret), "")
		wantCode(t, a, "one that nobody made", bearer(auth.TokenPrefix+strings.Repeat("b", 52)), auth.CodeInvalidToken)
	}
}

// The first request after a long rest looks at the file; those beside it must not be
// let in by what was known before, however long the look takes.
func TestToken_RevokedDuringARestIsRefusedBesideTheLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file, path := tokenFile(t)
		gone := create(t, file, auth.CreateToken{Name: "gone", Role: auth.Admin})
		kept := create(t, file, auth.CreateToken{Name: "kept", Role: auth.Admin})
		a := authenticator(t, auth.Options{TokenFile: path})
		wantCode(t, a, "before", bearer(gone), "")
		// In the first second nobody waits for a look that others make.
		end := a.Look()
		wantCode(t, a, "a right token beside a look", bearer(kept), "")
		end()
		time.Sleep(time.Hour)
		_, err := file.Revoke("gone")
		ok(t, err)
		time.Sleep(auth.TokenCheck)

		end = a.Look()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { wantCode(t, a, "revoked", bearer(gone), auth.CodeInvalidToken) })
			all.Go(func() { wantCode(t, a, "not revoked", bearer(kept), "") })
		}
		synctest.Wait()
		end()
		all.Wait()

		// A disk that does not answer at all lets nobody in, and holds nobody for long.
		time.Sleep(time.Hour)
		end = a.Look()
		defer end()
		begun := time.Now()
		wantCode(t, a, "a disk that hangs", bearer(kept), auth.CodeServiceUnavailable)
		if took := time.Since(begun); took > auth.TokenCheck {
			t.Errorf("it took %v", took)
		}
		if err := a.Reload(); err == nil {
			t.Error("reload does not tell of a disk that hangs")
		}
	})
}

// Where so many wait that the turn of one does not come, a look that began after
// it came is as good as its own; one that began before is not.
func TestToken_WhoWaitsInVainTakesALookThatBeganLater(t *testing.T) {
	for name, c := range map[string]struct {
		looked time.Duration // after the request came
		code   string
	}{"later": {auth.TokenCheck / 2, ""}, "before": {-auth.TokenCheck, auth.CodeServiceUnavailable}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file, path := tokenFile(t)
				secret := create(t, file, auth.CreateToken{Name: "a", Role: auth.Admin})
				a := authenticator(t, auth.Options{TokenFile: path})
				time.Sleep(time.Hour)
				end := a.Look()
				defer end()
				if c.looked < 0 {
					a.Looked()
					time.Sleep(auth.TokenCheck - c.looked)
				}
				var one sync.WaitGroup
				one.Go(func() { wantCode(t, a, "who waits", bearer(secret), c.code) })
				if c.looked > 0 {
					time.Sleep(c.looked)
					a.Looked()
				}
				one.Wait()
			})
		})
	}
}
