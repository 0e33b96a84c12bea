package main

import (
	"context"
	"encoding/xml"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSamples_AreReadFromPprofAndPutDownToLayers(t *testing.T) {
	samples, err := parseSamples(`File: backupd
Type: cpu
-----------+-------------------------------------------------------
   20000us   runtime.memmove
             github.com/klauspost/compress/zstd.(*Encoder).EncodeAll
-----------+-------------------------------------------------------
   30000us   runtime.asyncPreempt
             github.com/klauspost/compress/zstd.(*fastBase).matchlen (inline)
             github.com/klauspost/compress/zstd.(*Encoder).EncodeAll
             github.com/generalbots/backupd/repo.(*blockEncoder).pays
-----------+-------------------------------------------------------
   50000us   internal/runtime/syscall/linux.Syscall6
             github.com/generalbots/backupd/internal/source.read
-----------+-------------------------------------------------------
`)
	if err != nil {
		t.Fatal(err)
	}
	shares := layerShares(samples)
	for name, want := range map[string]float64{"memmove": 0.2, "zstd encode": 0.3, "kernel": 0.5} {
		if math.Abs(shares[name]-want) > 1e-9 {
			t.Errorf("%s: got %v, want %v", name, shares[name], want)
		}
	}
	top := topFunctions(samples, 2)
	if top[0].name != "linux.Syscall6" || top[1].name != "zstd.(*fastBase).matchlen" || top[1].flat != 0.3 {
		t.Errorf("top: got %+v", top)
	}
	if _, err := parseSamples("-----------+---\n garbage here\n"); err == nil {
		t.Error("garbage was taken for a profile")
	}
}

func TestLimits_ReadWhatGoTestPrints(t *testing.T) {
	got := parseBenchmarks("goos: linux\nBenchmarkCut/random-2   10   123 ns/op   2000.00 MB/s   64 KiB/chunk   8 B/op   1 allocs/op\nok\n")
	results := map[string]map[string]float64{"chunker Cut/random": got["Cut/random"]}
	table := limitTable(results, 7)
	if want := "| cut, random bytes | 0.5 | ns per byte | 1 |\n"; !strings.HasSuffix(table, want) {
		t.Errorf("got\n%s\nwant it to end with\n%s", table, want)
	}
}

func TestLimits_HaveTheirBenchmarksInThePackages(t *testing.T) {
	texts := map[string]string{}
	for _, l := range limits {
		if texts[l.pkg] == "" {
			names, err := filepath.Glob(filepath.Join("..", l.pkg, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				text, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				texts[l.pkg] += string(text)
			}
		}
		top, _, _ := strings.Cut(l.name, "/")
		if !strings.Contains(texts[l.pkg], "func Benchmark"+top+"(b *testing.B)") {
			t.Errorf("%s: package %s has no Benchmark%s", l.step, l.pkg, top)
		}
	}
}

func TestSmoke_FailsAThirdAboveTheUsualAndNotBelow(t *testing.T) {
	s := smoke{usual: map[string]float64{}, reached: map[string]float64{}, until: time.Now().Add(time.Hour)}
	for _, row := range smokeRows {
		s.usual[row], s.reached[row] = 1.5, 1.9
	}
	if err := s.verdict(); err != nil {
		t.Errorf("1.9 of usually 1.5 is less than a third more: %v", err)
	}
	s.reached["next"] = 2.1
	if err := s.verdict(); err == nil || !strings.Contains(err.Error(), "next") || strings.Contains(err.Error(), "first") {
		t.Errorf("2.1 of usually 1.5: got %v, want next named", err)
	}
	delete(s.usual, "check")
	if err := s.verdict(); err == nil || !strings.Contains(err.Error(), "check") {
		t.Errorf("a row without a usual ratio passed: %v", err)
	}
}

func TestSmoke_MeasuresAgainWhatStoodTooHighWhileThereIsTime(t *testing.T) {
	ratios := [][]float64{{9, 9, 1}, {2, 9, 2}, {1, 1, 1}}
	for name, c := range map[string]struct {
		until time.Time
		sets  int
		want  float64
	}{"time left": {time.Now().Add(time.Hour), 2, 2}, "no time": {time.Now(), 1, 9}} {
		s := smoke{usual: map[string]float64{"first": 2}, reached: map[string]float64{}, until: c.until}
		sets := 0
		err := s.measure(t.Context(), []string{"first"}, func(context.Context) error {
			s.pairs["first"] = ratios[sets]
			sets++
			return nil
		})
		if err != nil || sets != c.sets || s.reached["first"] != c.want {
			t.Errorf("%s: %d sets, ratio %v, %v; want %d and %v", name, sets, s.reached["first"], err, c.sets, c.want)
		}
	}
}

func TestSmoke_TheUsualRatiosKnowEveryRow(t *testing.T) {
	text, err := os.ReadFile("smoke.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range smokeRows {
		if !strings.Contains(string(text), `"`+row+`"`) {
			t.Errorf("smoke.json does not know the row %q", row)
		}
	}
}

func TestPlot_IsWellFormedAndHasEveryStep(t *testing.T) {
	var points []point
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		for _, step := range growthSteps {
			points = append(points, point{tool: "backupd", kind: "empty", step: step, files: n, wall: time.Duration(n) * 3 * time.Microsecond, anon: 40e6})
		}
	}
	bare := growthPlot(points)
	points = append(points, point{tool: "floor", kind: "empty", step: "first", files: 10_000, wall: time.Second}, point{tool: "floor", kind: "empty", step: "first", files: 100_000, wall: time.Second})
	svg := growthPlot(points)
	if n := strings.Count(svg, `stroke-width="0.8"`) - strings.Count(bare, `stroke-width="0.8"`); n != 1 || strings.Contains(bare, "thin:") || !strings.Contains(svg, "thin:") {
		t.Errorf("the floor's line is %d lines, want one, and it explained", n)
	}
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"first, empty", "unchanged, empty", "restore, empty", "check, empty", "1 million", "time per file, µs"} {
		if !strings.Contains(svg, want) {
			t.Errorf("the plot lacks %q", want)
		}
	}
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		t.Error("the plot has points that are nowhere")
	}
}
