package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSynthetic_SameBytesEveryTimeAndTheNextVersionDiffersInOneFileOfEight(t *testing.T) {
	const files = 800
	dir := t.TempDir()
	trees := []string{filepath.Join(dir, "a"), filepath.Join(dir, "again"), filepath.Join(dir, "b")}
	for i, tree := range trees {
		if err := (synthetic{files: files, version: i / 2}).write(tree); err != nil {
			t.Fatal(err)
		}
	}
	a, again, b := texts(t, trees[0]), texts(t, trees[1]), texts(t, trees[2])
	if len(a) != files {
		t.Errorf("files: got %d, want %d", len(a), files)
	}
	changed := 0
	for name, text := range a {
		if again[name] != text {
			t.Errorf("%s differs between two runs", name)
		}
		if b[name] != text {
			changed++
		}
	}
	if changed < files/16 || changed > files/5 {
		t.Errorf("next version: %d of %d files changed or gone, want about one in eight", changed, files)
	}
}

func texts(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		rel, _ := filepath.Rel(dir, name)
		all[rel] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDump_RewritesOneRowOfAHundredAndAppendsOneOfFiveHundred(t *testing.T) {
	name := filepath.Join(t.TempDir(), "dump")
	d := newDump(1, anywhere)
	read := func() [][]byte {
		if err := d.write(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Split(text, []byte("\n"))
	}
	before := read()
	if err := d.nextDay(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := read()
	for i := range d.rows() { // the lines that were kept are those of this day
		if want := d.text(nil, i); !bytes.Equal(after[5+i], bytes.TrimSuffix(want, []byte("\n"))) {
			t.Fatalf("row %d: got %s, want %s", i, after[5+i], want)
		}
	}
	rows := len(before)
	if got, want := len(after)-rows, rows/500; got < want-1 || got > want+1 {
		t.Errorf("rows appended: got %d, want about %d", got, want)
	}
	changed := 0
	for i := range before[:rows-8] {
		if !bytes.Equal(before[i], after[i]) {
			changed++
		}
	}
	if changed < rows/110 || changed > rows/90 {
		t.Errorf("rows rewritten: got %d of %d, want one in a hundred", changed, rows)
	}
}

func TestMeasure_SeesTheMemoryOfAChild(t *testing.T) {
	// The shell's child holds about 64 MB for a moment: tail keeps what it cannot print yet.
	c := command{argv: []string{"sh", "-c", "(head -c 64000000 /dev/zero; sleep 1) | tail -n 1 > /dev/null; true"}}
	got, _, err := c.measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.anon < 50e6 {
		t.Errorf("peak memory: got %d, want at least 50 MB", got.anon)
	}
	if got.wall < time.Second {
		t.Errorf("wall: got %v, want at least a second", got.wall)
	}
}

func TestMeasure_TellsWhatAFailingCommandSaid(t *testing.T) {
	_, _, err := command{argv: []string{"sh", "-c", "echo no such thing >&2; exit 7"}}.measure(context.Background())
	if err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("got error %v, want what the command said", err)
	}
	_, _, err = command{argv: []string{"sh", "-c", "exit 3"}, okay: []int{3}}.measure(context.Background())
	if err != nil {
		t.Errorf("exit code 3 is allowed, got %v", err)
	}
}

func TestReport_SaysWhichTargetsWereReachedAndWhichMissed(t *testing.T) {
	rows, err := parseRows("first,restore,stream,dump")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{o: options{rows: rows, runs: 1, streamMB: 1000, days: 2, scale: []int{10}}, results: results{}, notes: map[string]string{},
		tools: []*tool{{name: "backupd", version: "1"}, {name: "restic", version: "2"}}}
	at := func(seconds float64) cost { return cost{wall: time.Duration(seconds * float64(time.Second))} }
	b.results.cost("floor", "first", at(2))
	b.results.cost("backupd", "first", at(2.4))
	b.results.cost("restic", "first", at(6))
	b.results.cost("floor", "restore", at(1))
	b.results.cost("backupd", "restore", at(3))
	b.results.cost("floor", "stream", at(0.2))
	b.results.cost("backupd", "stream", at(0.5))
	b.results.bytes("restic", "dump", 1_000_000_000)
	b.results.bytes("backupd", "dump", 90_000_000)
	report := b.report("a machine")
	for _, want := range []string{
		"| first backup | tar c \\| zstd -1: 2.00 s | 2.40 s | 1.20 × | ≤ 1.25 × | yes | 6.00 s (3.00 ×) |",
		"| restore | zstd -dc \\| tar x: 1.00 s | 3.00 s | 3.00 × | ≤ 0.90 × | **no** | – |",
		"| incompressible data, one stream | cat: 5.00 GB/s | 2.00 GB/s | 2.00 × | ≥ 1 GB/s | yes | – |",
		"| repository of 2 daily dumps | restic: 1000 MB | 90 MB | 0.09 × | ≤ 0.10 × | yes | 1000 MB (1.00 ×) |",
	} {
		if !strings.Contains(report, want) {
			t.Errorf("report lacks\n%s\ngot\n%s", want, report)
		}
	}
	if strings.Contains(report, "| check") {
		t.Error("report has a row nobody asked for")
	}
}

func TestParseRows_RefusesWhatIsNotThere(t *testing.T) {
	if _, err := parseRows("first,second"); err == nil {
		t.Error("row second was taken")
	}
}

func TestUpToDate_RefusesABinaryOlderThanItsSources(t *testing.T) {
	root := t.TempDir()
	file := func(name string, minute int) string {
		path := filepath.Join(root, name)
		at := time.Date(2026, 1, 2, 3, minute, 0, 0, time.UTC)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	binary := file("bin/backupd", 10)
	for _, name := range []string{"repo/a.go", "go.mod"} {
		file(name, 5)
	}
	for _, name := range []string{"repo/a_test.go", "bench/b.go", "docs/c.go", ".cache/d.go", "README.md"} {
		file(name, 20)
	}
	if err := upToDate(binary, root); err != nil {
		t.Errorf("what does not go into the binary is newer: %v", err)
	}
	file("repo/deep/e.go", 11)
	if err := upToDate(binary, root); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("a source is newer: %v", err)
	}
}
