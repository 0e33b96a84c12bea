package main

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write the manual pages anew")

// The pages below docs/man are made of the commands' own help; `make golden` writes them.
func TestManPages_AreThoseOfTheCommands(t *testing.T) {
	dir := filepath.Join("..", "..", "docs", "man")
	pages := manPages((&program{}).root())
	if *update {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, page := range pages {
			if err := os.WriteFile(filepath.Join(dir, name), page, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for _, e := range entries {
		there = append(there, e.Name())
		got, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, pages[e.Name()]) {
			t.Errorf("%s is not what the command's help says; run: make golden", e.Name())
		}
	}
	if want := slices.Sorted(maps.Keys(pages)); !slices.Equal(there, want) {
		t.Errorf("got pages %q, want %q", there, want)
	}
}

// A secret on a command line is one in the process list.
func TestFlags_TakeNoSecrets(t *testing.T) {
	eachCommand((&program{}).root(), func(c *cobra.Command) {
		for _, word := range []string{"password", "passphrase", "key", "recovery", "secret"} {
			if f := c.Flags().Lookup(word); f != nil && f.Value.Type() == "string" {
				t.Errorf("%s --%s takes a secret", c.CommandPath(), word)
			}
		}
	})
}

// An example that does not parse is worse than none.
func TestExamples_AreCommandsThatExist(t *testing.T) {
	eachCommand((&program{}).root(), func(c *cobra.Command) {
		if !c.HasSubCommands() && !c.Hidden && c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			_, line, ok := strings.Cut(line, "backupd ")
			if !ok || !strings.HasPrefix(c.CommandPath(), "backupd") {
				t.Errorf("%s: an example without backupd in it", c.CommandPath())
				continue
			}
			line, _, _ = strings.Cut(line, " | ")
			root := (&program{}).root()
			found, rest, err := root.Find(strings.Fields(line))
			if err == nil {
				err = found.ParseFlags(rest)
			}
			if err == nil && found.Args != nil {
				err = found.Args(found, found.Flags().Args())
			}
			if err != nil || found.HasSubCommands() && found.Name() != "audit" || c.HasParent() && found.CommandPath() != c.CommandPath() {
				t.Errorf("%s: example %q: %v", c.CommandPath(), line, err)
			}
		}
	})
}

// Each command says what it does, in one line that ends without a full stop.
func TestCommands_HaveHelp(t *testing.T) {
	eachCommand((&program{}).root(), func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help is %q", c.CommandPath(), c.Short)
		}
	})
}
