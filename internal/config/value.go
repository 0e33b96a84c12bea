package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes. It is written with a unit: "512 MiB", "2GB", "4096 B"; 0 needs none.
type Size int64

var units = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

const wantSize = "want a size like 512 MiB (units B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)"

// String writes the size in the largest binary unit that divides it.
func (s Size) String() string {
	for i := 3; i >= 0; i-- {
		if u := units[i]; s != 0 && int64(s)%u.bytes == 0 {
			return fmt.Sprintf("%d %s", int64(s)/u.bytes, u.name)
		}
	}
	return fmt.Sprintf("%d B", int64(s))
}

func parseSize(text string) (Size, error) {
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
