package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// dumpRow is a row of a dump's text as its version-th edit left it.
func dumpRow(b *bytes.Buffer, row, version int) {
	r := rand.New(rand.NewPCG(uint64(row), uint64(version)))
	words := []string{"answer", "question", "customer", "invoice", "session", "order", "paid", "open", "closed", "message"}
	fmt.Fprintf(b, "%d\t%08x\t", 1_000_000+row, uint32(row)*2654435761)
	for range 8 + r.IntN(24) {
		b.WriteString(words[r.IntN(len(words))])
		b.WriteByte(' ')
		if r.IntN(9) == 0 {
			fmt.Fprintf(b, "%x ", r.Uint32())
		}
	}
	b.WriteByte('\n')
}

// Thirty-two daily versions of a dump of which one row in a hundred changes a
// day: delta blocks keep them small, each comes back as it was, and so do the
// others when any of them are forgotten and gc has run.
func TestDelta_DailyVersionsStaySmallAndOutliveTheirBases(t *testing.T) {
	const rows, days = 30_000, 32
	dir := fastDir(t)
	src := filepath.Join(dir, "src")
	if err := os.Mkdir(src, 0o700); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("backupd", args...)
		cmd.Env = append(os.Environ(), "BACKUPD_REPO="+dir+"/repo", "BACKUPD_KEY_FILE="+dir+"/key", "BACKUPD_STATE_DIR="+dir+"/state")
		var out, talk bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &talk
		if err := cmd.Run(); err != nil {
			t.Fatalf("backupd %s: %v\n%s", strings.Join(args, " "), err, talk.String())
		}
		return out.String()
	}
	size := func() (n int64) {
		err := filepath.WalkDir(dir+"/repo/packs", func(_ string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				if info, err := e.Info(); err == nil {
					n += info.Size()
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	versions := make([]int, rows)
	ids := make([]string, days)
	sums := map[string][32]byte{}
	var plain, first int64
	run("repo", "init")
	for day := range days {
		if day > 0 {
			for range len(versions) / 100 {
				versions[rng.IntN(len(versions))]++
			}
			versions = append(versions, make([]int, rows/500)...)
		}
		var dump bytes.Buffer
		for row, v := range versions {
			dumpRow(&dump, row, v)
		}
		plain += int64(dump.Len())
		if err := os.WriteFile(src+"/dump.sql", dump.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		ids[day] = strings.TrimSpace(run("repo", "backup", src))
		sums[ids[day]] = sha256.Sum256(dump.Bytes())
		if day == 0 {
			first = size()
		}
	}
	intact := func() {
		t.Helper()
		run("repo", "check", "--read-data")
		for _, id := range ids {
			if want, there := sums[id]; there && sha256.Sum256([]byte(run("repo", "cat", id, src+"/dump.sql"))) != want {
				t.Errorf("snapshot %s came back as something else", id)
			}
		}
	}
	before := size()
	run("repo", "gc")
	merged := size()
	t.Logf("%d versions of %d MB in all: the first takes %d KB, all %d KB, %d KB once gc has merged the tails",
		days, plain>>20, first>>10, before>>10, merged>>10)
	if merged > 4*first {
		t.Errorf("%d versions take %d bytes, the first one alone %d", days, merged, first)
	}
	intact()
	for len(sums) > 1 {
		gone := slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
			_, there := sums[id]
			return !there || rng.IntN(2) == 0
		})
		if len(gone) == 0 || len(gone) == len(sums) {
			continue
		}
		run(append([]string{"repo", "forget"}, gone...)...)
		for _, id := range gone {
			delete(sums, id)
		}
		run("repo", "gc")
		intact()
	}
	if left := size(); left > 2*first {
		t.Errorf("one version is left in %d bytes, the first one took %d", left, first)
	}
}
