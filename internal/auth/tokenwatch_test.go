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
