package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes. It is written with a unit: "512 MiB", "2GB", "4096 B", "64M"; 0 needs none. K, M, G and T alone
// are the binary ones, as in units of systemd.
type Size int64

var units = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
	{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", 1 << 40},
}

const wantSize = "want a size like 512 MiB (units B, kB, MB, GB, TB, KiB, MiB, GiB, TiB, or K, M, G, T for the latter)"

// String writes the size in the largest binary unit that divides it.
func (s Size) String() string {
	for i := 3; i >= 0; i-- {
		if u := units[i]; s != 0 && int64(s)%u.bytes == 0 {
			return fmt.Sprintf("%d %s", int64(s)/u.bytes, u.name)
		}
	}
	return fmt.Sprintf("%d B", int64(s))
}

// ParseSize reads what a configuration calls a size.
func ParseSize(text string) (Size, error) {
	if text == "0" {
		return 0, nil
	}
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimRight(number, " "), 10, 63)
		if err != nil || n > uint64(math.MaxInt64/u.bytes) {
			break
		}
		return Size(int64(n) * u.bytes), nil
	}
	return 0, fmt.Errorf("%s, not %q", wantSize, text)
}

// MinRate is the least limit of bytes a second, MinCores of processors. Below them work would stand more than it goes.
const (
	MinRate  Size  = 64 << 10
	MinCores Cores = 50
)

// Cores is how much of the processors may be used, in thousandths of one. It is written as a number of cores, "1.5", or in
// percent of one, "150%", which is the same.
type Cores int64

const (
	wantCores = "want a number of cores like 0.5 or 2, or in percent of one like 50% or 200%"
	maxCores  = 1024
)

// String writes the number of cores.
func (c Cores) String() string { return strconv.FormatFloat(c.Number(), 'f', -1, 64) }

// Number is the number of cores.
func (c Cores) Number() float64 { return float64(c) / 1000 }

// ParseCores reads what a configuration calls a number of cores.
func ParseCores(text string) (Cores, error) {
	number, percent := strings.CutSuffix(text, "%")
	f, err := strconv.ParseFloat(number, 64)
	if percent {
		f /= 100
	}
	if err != nil || strings.Trim(number, "0123456789.") != "" || !(f >= 0 && f <= maxCores) {
		return 0, fmt.Errorf("%s, not %q", wantCores, text)
	}
	c := Cores(math.Round(f * 1000))
	if c == 0 && f > 0 {
		c = 1 // too little, which is another mistake than none
	}
	return c, nil
}

const wantDuration = "want a duration like 90s, 15m, 12h or 30d"

// parseDuration reads what time.ParseDuration reads, and whole days (d) and weeks (w) before it: 30d, 1w2d, 1d12h.
func parseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf("%s, not %q", wantDuration, text)
	if text == "0" {
		return 0, nil
	}
	var sum time.Duration
	rest := text
	for _, u := range []struct {
		name string
		d    time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}} {
		number, after, ok := strings.Cut(rest, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 31)
		if err != nil || n > uint64(math.MaxInt64/4)/uint64(u.d) {
			return 0, bad
		}
		sum += time.Duration(n) * u.d
		if rest = after; rest == "" {
			return sum, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d > math.MaxInt64/4 || rest[0] == '+' || rest[0] == '-' {
		return 0, bad
	}
	return sum + d, nil
}
