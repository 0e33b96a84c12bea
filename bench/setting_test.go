package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSetting_OnADiskWhatIsDoneWithStaysUntilNothingIsMeasured(t *testing.T) {
	for name, s := range map[string]setting{"disk": {sync: true, work: t.TempDir()}, "RAM disk": {work: t.TempDir()}} {
		for range 2 { // the same name twice
			path := filepath.Join(s.work, "restored")
			if err := os.MkdirAll(filepath.Join(path, "sub"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := s.remove(path); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%s: it is still at its place", name)
			}
		}
		aside, err := filepath.Glob(filepath.Join(s.asidePath(), "*", "restored", "sub"))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(aside), map[bool]int{true: 2}[s.sync]; got != want {
			t.Errorf("%s: %d directories lie aside, want %d", name, got, want)
		}
		if err := s.remove(filepath.Join(s.work, "nothing")); err != nil {
			t.Errorf("%s: what is not there: %v", name, err)
		}
	}
}

func TestSetting_OneCoreIsOneCoreForShellsAndForGo(t *testing.T) {
	s := setting{pin: "0", max: 1}
	_, got, err := s.measure(t.Context(), shell("/", `nproc; echo "$GOMAXPROCS" | cat`))
	if err != nil {
		t.Fatal(err)
	}
	if got != "1\n1\n" {
		t.Errorf("cores and GOMAXPROCS: got %q, want 1 and 1", got)
	}
	if s = (setting{}); s.pin != "" {
		t.Fatal("the setting of the table is pinned")
	}
	if _, free, err := s.measure(t.Context(), shell("/", `echo "$GOMAXPROCS"`)); err != nil || free != os.Getenv("GOMAXPROCS")+"\n" {
		t.Errorf("without a setting: GOMAXPROCS is %q, %v", free, err)
	}
}

func TestFileSystem_TheLastMountCoversTheOthers(t *testing.T) {
	const mountinfo = `22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 27 0:30 / /mnt rw - tmpfs tmpfs rw
31 30 7:0 / /mnt rw,noatime shared:4 master:2 - xfs /dev/loop0 rw
`
	for top, want := range map[string][2]string{"/": {"ext4", "/dev/vda"}, "/mnt": {"xfs", "/dev/loop0"}, "/nowhere": {"an unknown file system", ""}} {
		if kind, device := mounted(mountinfo, top); kind != want[0] || device != want[1] {
			t.Errorf("%s: got %s on %q, want %s on %q", top, kind, device, want[0], want[1])
		}
	}
}

func TestOptions_ADirectoryOnADiskIsNotSweptItself(t *testing.T) {
	disk, work := t.TempDir(), filepath.Join(t.TempDir(), "work")
	mine := filepath.Join(disk, "mine")
	if err := os.WriteFile(mine, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, keep := range []string{"-keep", "-keep=false"} {
		o, err := parse([]string{"-rows", "disk", "-disk", disk, "-work", work, keep})
		if err != nil {
			t.Fatal(err)
		}
		tree, aside := filepath.Join(o.disk, "a"), setting{work: o.disk}.asidePath()
		for _, dir := range []string{tree, aside, o.work} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.sweep(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(mine); err != nil {
			t.Errorf("%s: what lay beside the bench is gone: %v", keep, err)
		}
		if _, err := os.Stat(aside); err == nil {
			t.Errorf("%s: what was put aside is left", keep)
		}
		if _, err := os.Stat(tree); (err == nil) != o.keep {
			t.Errorf("%s: the source tree: %v", keep, err)
		}
	}
	if _, err := parse([]string{"-rows", "image", "-image-disk"}); err == nil {
		t.Error("-image-disk was taken without -disk")
	}
}

func TestDumpYear_HasItsOwnDaysAndIsForBackupdAlone(t *testing.T) {
	for _, peers := range []bool{false, true} {
		b := &bench{o: options{days: 32, yearDays: 365, yearPeers: peers}, tools: []*tool{{name: "backupd"}, {name: "restic"}}}
		month := b.ofKind("dump")
		for _, row := range []string{dumpYear, hotYear} {
			year := b.ofKind(row)
			if got, want := len(year.tools), map[bool]int{false: 1, true: 2}[peers]; year.o.days != 365 || got != want || year.tools[0].name != "backupd" {
				t.Errorf("%s: %d days, %d tools, want 365 and %d", row, year.o.days, got, want)
			}
		}
		if month.o.days != 32 || len(month.tools) != 2 || len(b.tools) != 2 {
			t.Errorf("a month: %d days, %d tools", month.o.days, len(month.tools))
		}
	}
}

func TestDumpYear_ReportsWhatItsDaysAddedAndItsWorstDay(t *testing.T) {
	for _, row := range []string{dumpYear, hotYear} {
		t.Run(row, func(t *testing.T) { reportsYear(t, row) })
	}
}

func reportsYear(t *testing.T, year string) {
	rows, err := parseRows(year)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{o: options{rows: rows, runs: 1, yearDays: 3, scale: []int{10}}, results: results{}, notes: map[string]string{},
		tools: []*tool{{name: "backupd"}, {name: "restic"}}}
	took := func(row string, seconds float64) {
		b.results.cost("backupd", year+row, cost{wall: time.Duration(seconds * float64(time.Second))})
	}
	took(" first", 2)
	took(" a day", 1)
	took(" a day", 2)
	for _, n := range []int64{100e6, 120e6, 150e6} {
		b.results.bytes("backupd", year+" days", n)
	}
	b.results.bytes("backupd", year, 150e6)
	took(" first back", 1)
	took(" last back", 1.5)
	took(" worst back", 4.5)
	for which, n := range map[string]int64{" first back": 10e6, " last back": 20e6, " worst back": 20e6} {
		b.results.bytes("backupd", year+which, n)
	}
	report := b.report("a machine")
	for _, want := range []string{
		"| what its days added, to its first | its first: 100 MB | 50 MB | 0.50 × |",
		"| backup of a day, on average | its first: 2.00 s | 1.50 s | 0.75 × |",
		"| restore of its last, for each MB | its first: 100.0 ms/MB | 75.0 ms/MB | 0.75 × | ≤ 2.00 × | yes | – |",
		"| restore of the worst of some days, for each MB | its first: 100.0 ms/MB | 225.0 ms/MB | 2.25 × | ≤ 2.00 × | **no** | – |",
		"| day | backupd |\n",
		"| 2 | 30 MB, 2.00 s |\n",
	} {
		if !strings.Contains(report, want) {
			t.Errorf("report lacks\n%s\ngot\n%s", want, report)
		}
	}
}

func TestGrowth_WhatWasLeftOutIsNoPoint(t *testing.T) {
	svg := growthPlot([]point{{tool: "backupd", kind: "empty", step: "first", files: 10_000_000, wall: time.Second}})
	if strings.Contains(svg, "restore, empty") || !strings.Contains(svg, "first, empty") {
		t.Error("the plot has a step that was left out, or lacks the one that was not")
	}
	if err := (shape{files: 1 << 40}).fits("/dev/shm"); err == nil {
		t.Error("a million million files fit into memory")
	}
	if err := (shape{files: 1}).fits(t.TempDir()); err != nil {
		t.Errorf("one file does not fit: %v", err)
	}
}

func TestTouchFree_GivesBackWhatItTouched(t *testing.T) {
	const touched = 16 << 20 // little, since what is free is not ours alone
	resident := func() int64 {
		open := statm{}
		defer open.close()
		return open.anonymous(os.Getpid())
	}
	before := resident()
	if err := touchFree(touched); err != nil {
		t.Fatal(err)
	}
	if after := resident(); after > before+touched/2 {
		t.Errorf("%d bytes are kept of %d that were touched", after-before, touched)
	}
	if free, err := memoryInfo("MemFree"); err != nil || free <= 0 {
		t.Errorf("%d bytes are free: %v", free, err)
	}
	if err := touchFree(0); err != nil {
		t.Error(err)
	}
	if _, err := memoryInfo("MemNot"); err == nil {
		t.Error("a figure that is not there was read")
	}
}
