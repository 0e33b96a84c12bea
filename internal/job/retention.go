package job

import (
	"slices"
	"time"
)

const (
	// expiryShare and expiryLeast bound what expires within
	// expiryWindow: a clock that
	// jumped, or somebody who makes many backups to push the good ones out, is
	// noticed before everything is gone.
	expiryWindow = 24 * time.Hour
	expiryShare  = 4 // one in four
	expiryLeast  = 3
)

// expired chooses which backups may be forgotten now, oldest first. list holds
// all backups that have a snapshot, in any order. It never takes the newest
// complete one, and leaves minimum complete ones of each schedule, those
// without a schedule counting as one. recent is how many expired in the last
// day.
func expired(list []Backup, now time.Time, minimum, recent int) []string {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Backup) int { return b.CreatedAt.Compare(a.CreatedAt) })
	kept := make(map[string]int) // complete ones, by schedule
	var out []string
	newest := true
	for _, b := range list {
		complete := b.State == Completed
		first := newest && complete
		if complete {
			newest = false
		}
		past := !b.ExpiresAt.IsZero() && b.ExpiresAt.Before(now)
		if first || !past || complete && kept[b.ScheduleID] < minimum {
			if complete {
				kept[b.ScheduleID]++
			}
			continue
		}
		out = append(out, b.ID)
	}
	if newest {
		// None is complete: what there is, is all there is.
		return nil
	}
	slices.Reverse(out)
	most := max(expiryLeast, len(list)/expiryShare) - recent
	return out[:max(0, min(len(out), most))]
}
