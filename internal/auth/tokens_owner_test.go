package auth_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/generalbots/backupd/internal/auth"
)

// Whoever could write the file could let anybody in: one of somebody else, or that leads elsewhere, lets in nobody, at the
// start and while the daemon runs.
func TestTokenFile_OfSomebodyElseLetsNobodyIn(t *testing.T) {
	for what, spoil := range map[string]func(path string) error{
		"belongs to user":    func(path string) error { return os.Chown(path, 1234, -1) },
		"not a regular file": func(path string) error { return swapped(path, func(to string) error { return os.Symlink(to, path) }) },
		"is not a regular": func(path string) error {
			return swapped(path, func(string) error { return syscall.Mkfifo(path, 0o600) })
		},
	} {
		if os.Geteuid() != 0 && what == "belongs to user" {
			continue // nobody else can give a file away
		}
		file, path := tokenFile(t)
		secret := create(t, file, auth.CreateToken{Name: "a", Role: auth.Admin})
		a := authenticator(t, auth.Options{TokenFile: path, Failures: patient})
		wantCode(t, a, "before", bearer(secret), "")
		ok(t, spoil(path))
		if err := a.Reload(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: got error %v", what, err)
		}
		wantCode(t, a, what, bearer(secret), auth.CodeServiceUnavailable)
		if _, err := auth.New(auth.Options{TokenFile: path}); err == nil {
			t.Errorf("%s: a daemon starts with it", what)
		}
		if _, _, err := file.Create(auth.CreateToken{Name: "b", Role: auth.Admin}); err == nil {
			t.Errorf("%s: it was edited", what)
		}
	}
}

// swapped moves a file away and puts something in its place.
func swapped(path string, put func(to string) error) error {
	to := filepath.Join(filepath.Dir(path), "elsewhere")
	if err := os.Rename(path, to); err != nil {
		return err
	}
	return put(to)
}
