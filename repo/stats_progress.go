package repo

import "sync/atomic"

// StatsProgress counts what Stats has done. Stats writes it, anybody may read
// it at any time.
type StatsProgress struct {
	Snapshots      atomic.Int64 // gone through
	TotalSnapshots atomic.Int64
	Chunks         atomic.Int64 // met in them, pages of trees included, some many times
}
