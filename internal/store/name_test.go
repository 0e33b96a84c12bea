package store_test

import (
	"path"
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/store"
)

func FuzzCheckName(f *testing.F) {
	for _, name := range []string{"config", "packs/00/0123", "keys/../config", "a//b", ".x", "tmp/a", "a/b/c/d/e", "K", "\x00", "ä"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if store.CheckName(name) != nil {
			return
		}
		// What a path is made of stays below the directory it is joined to, and is
		// the same text again, so that no two names are one object.
		if got := path.Join("/root", name); got != "/root/"+name || strings.ToLower(name) != name {
			t.Fatalf("%q is accepted and leads to %q", name, got)
		}
		if strings.ContainsAny(name, "\x00\\:*?\"<>| \n~_") || strings.Contains(name, "/.") || strings.HasPrefix(name, "tmp/") || strings.HasPrefix(name, "locks/") {
			t.Fatalf("%q is accepted", name)
		}
	})
}
