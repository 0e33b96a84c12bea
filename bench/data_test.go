package main

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestHotRanges_HoldNearlyAllThatIsRewritten(t *testing.T) {
	const rows = 100_000
	r := rand.New(rand.NewPCG(1, 2))
	hot := 0
	seen := map[int]bool{} // hundredths of the table
	for range 10_000 {
		i := inHotRanges(r, rows)
		if i < 0 || i >= rows {
			t.Fatalf("row %d of %d", i, rows)
		}
		inRange := i >= rows-rows/20
		for k := range 4 {
			at := (k*2 + 1) * rows / 9
			inRange = inRange || i >= at && i < at+rows/200
		}
		if inRange {
			hot++
		}
		seen[i/1000] = true
	}
	if hot < 9_300 || hot > 9_800 {
		t.Errorf("%d of 10000 rows were hot, want about 9500", hot)
	}
	if len(seen) < 90 {
		t.Errorf("the others lie in %d hundredths of the table, want nearly all", len(seen))
	}
}

func TestImage_OnePageOfAHundredIsRewrittenAndSwappedBack(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk")
	m := newImage(20)
	if err := m.write(name); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	pages, err := m.rewrite(name + ".pages")
	if err != nil {
		t.Fatal(err)
	}
	swapped := func() []byte {
		if err := pages.swap(name); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	after := swapped()
	if len(after) != len(before) || len(before) != m.pages*pageSize {
		t.Fatalf("length: %d before, %d after, want %d", len(before), len(after), m.pages*pageSize)
	}
	changed := 0
	for i := 0; i < len(before); i += pageSize {
		if !bytes.Equal(before[i:i+pageSize], after[i:i+pageSize]) {
			changed++
		}
	}
	if n := len(pages.pages); n > m.pages/100 || n < m.pages/200 || changed != n {
		t.Errorf("%d pages written, %d differ, of %d", n, changed, m.pages)
	}
	if !bytes.Equal(swapped(), before) {
		t.Error("swapped back, the image is not what it was")
	}
	if !bytes.Equal(swapped(), after) {
		t.Error("swapped again, the image is not what the guest made of it")
	}
}

func TestShape_PutsEveryFileWhereItSays(t *testing.T) {
	for name, s := range map[string]shape{"rows": {files: 700, bytes: -1}, "1 KiB": {files: 700, bytes: 1024}, "flat": {files: 700, flat: true}} {
		dir := t.TempDir()
		if err := s.write(dir); err != nil {
			t.Fatal(err)
		}
		files, size, err := count(dir)
		if err != nil {
			t.Fatal(err)
		}
		if files != s.files || s.bytes >= 0 && size != int64(s.files*s.bytes) {
			t.Errorf("%s: %d files, %d bytes", name, files, size)
		}
		for _, i := range []int{0, 249, 250, 699} {
			if _, err := os.Stat(filepath.Join(dir, s.path(i))); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestSparse_TellsFilesWithOtherBytesOrHolesApart(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, at int64, text string) string {
		name = filepath.Join(dir, name)
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(1 << 24); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
		return name
	}
	a := write("a", 1<<20, "text")
	if err := sameSparse(t.Context(), a, write("same", 1<<20, "text")); err != nil {
		t.Error(err)
	}
	for name, other := range map[string]string{"bytes": write("b", 1<<20, "next"), "place": write("c", 1<<21, "text")} {
		if err := sameSparse(t.Context(), a, other); err == nil {
			t.Errorf("other %s were not seen", name)
		}
	}
}

func TestFigures_OfRunsOfSomeRowsEachComeTogether(t *testing.T) {
	file := filepath.Join(t.TempDir(), "deep", "figures.json")
	run := func(row string, seconds int, days int) (*bench, error) {
		b := &bench{o: options{rows: map[string]bool{row: true}, days: days, figures: file}, results: results{}, notes: map[string]string{row: "what"}}
		b.results.cost("backupd", row, cost{wall: time.Duration(seconds) * time.Second, cpu: 2, anon: 3})
		b.results.bytes("backupd", row, 4)
		return b, errors.Join(b.save([]string{row, "dump"}), b.load())
	}
	for _, r := range []struct {
		row     string
		seconds int
	}{{"first", 1}, {"restore", 2}, {"first", 3}} {
		if _, err := run(r.row, r.seconds, 1); err != nil {
			t.Fatal(err)
		}
	}
	b, err := run("check", 5, 1)
	if err != nil {
		t.Fatal(err)
	}
	for row, want := range map[string]time.Duration{"first": 3, "restore": 2, "check": 5} {
		if f := b.results.at("backupd", row); len(f.costs) != 1 || f.costs[0].wall != want*time.Second || f.costs[0].anon != 3 || len(f.bytes) != 1 {
			t.Errorf("%s: got %+v, want the figures of its last run", row, f)
		}
		if !b.o.rows[row] || b.notes[row] == "" {
			t.Errorf("%s is not in the report", row)
		}
	}
	if _, err := run("check", 5, 2); err == nil {
		t.Error("figures of other sizes were mixed in")
	}
	if b.o.rows["dump"] {
		t.Error("a row that was not measured is in the report")
	}
}

func TestDayTable_HasWhatEachDayAdded(t *testing.T) {
	b := &bench{o: options{days: 3}, results: results{}, tools: []*tool{{name: "backupd"}, {name: "restic"}}}
	for day, stored := range []int64{40_000_000, 41_000_000, 43_500_000} {
		b.results.bytes("backupd", "dump days", stored)
		b.results.cost("backupd", map[bool]string{true: "dump first", false: "dump a day"}[day == 0], cost{wall: time.Duration(day+1) * time.Second})
	}
	got := b.dayTable("dump")
	for _, want := range []string{"| 0 | 40 MB, 1.00 s | – |", "| 1 | 1.0 MB, 2.00 s | – |", "| 2 | 2.5 MB, 3.00 s | – |"} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant the line %s", got, want)
		}
	}
	if !tells(8, 365) || tells(11, 365) || !tells(11, 32) || !tells(364, 365) {
		t.Error("of many days others than those around powers of two are shown")
	}
}

func TestUnhindered_TakesOutWhatOthersHeldTheProcessorFor(t *testing.T) {
	if got := (cost{wall: 8 * time.Second, ran: time.Second, waited: 3 * time.Second}).unhindered(); got != 2*time.Second {
		t.Errorf("got %v, want 2s", got)
	}
	if got := (cost{wall: 8 * time.Second, ran: time.Second, waited: 3 * time.Second, idle: 4 * time.Second}).unhindered(); got != 5*time.Second {
		t.Errorf("half of it idle: got %v, want 5s", got)
	}
	if got := (cost{wall: 8 * time.Second}).unhindered(); got != 8*time.Second {
		t.Errorf("without the scheduler's figures: got %v, want the wall time", got)
	}
	// Two loops on one core: each waits while the other runs.
	loop := `i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done`
	c := command{argv: []string{"taskset", "-c", "0", "sh", "-c", "(" + loop + ") & (" + loop + "); wait"}, delays: true}
	got, _, err := c.measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if slept, _, err := (command{argv: []string{"sh", "-c", "sleep 0.4"}, delays: true}).measure(t.Context()); err != nil || slept.unhindered() < 300*time.Millisecond {
		t.Errorf("a sleep of 0.4 s: got %v unhindered of %v, %v; nobody hindered it", slept.unhindered(), slept.wall, err)
	}
	if got.ran == 0 || got.waited < got.ran/3 {
		t.Errorf("ran %v, waited %v: two loops on one core wait half of the time", got.ran, got.waited)
	}
}
