package metrics

import (
	"math"
	"time"
)

// moment is a time as Prometheus has it, in seconds since 1970; 0 for never.
func moment(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// age is how long ago t was, in seconds; +Inf for never, so that a rule that
// compares it with a limit fires, and 0 for a time to come.
func age(t, now time.Time) float64 {
	if t.IsZero() {
		return math.Inf(1)
	}
	return max(now.Sub(t).Seconds(), 0)
}
