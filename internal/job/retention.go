package job

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/repo"
)

// What expires within expiryWindow is one backup in expiryShare at most, or
// expiryLeast where that is more: a clock that jumped, or somebody who makes many
// backups to push the good ones out, is noticed before everything is gone.
const (
	expiryWindow = 24 * time.Hour
	expiryShare  = 4
	expiryLeast  = 3
)

// expired chooses which backups may be forgotten now, what could go first first:
// those past their time. list holds all backups that have a snapshot, in any
// order, recent says how many expired in the last window. Never taken are
//
//   - the newest complete backup of all,
//   - of each schedule, and of what no schedule made, the newest backups and the
//     newest complete ones, minimum of each, where one is the least,
//   - what has no newer one of its schedule that is good for anything: that is
//     neither damaged nor suspicious and holds a source at least,
//   - while none of its schedule is complete, the newest that holds a source whole:
//     newer ones from which that source is missing do not stand for it,
//   - what is older than a backup of the same schedule that looks suspicious,
//     until that one is past its time: it may be of an empty mount point.
//
// One that did not pass its verification is not complete. What may be taken is
// taken at any later time too, unless more of them fail.
func expired(list []Backup, now time.Time, minimum, recent int) []string {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Backup) int { return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID)) })
	type past struct {
		id   string
		when time.Time
	}
	schedules := make(map[string]*kept)
	var due []past
	newest := true
	for _, b := range list {
		k := schedules[b.ScheduleID]
		if k == nil {
			k = &kept{sources: make(map[string]bool)}
			schedules[b.ScheduleID] = k
		}
		strange := suspicious(b.Manifest)
		if ahead(b.CreatedAt, now) {
			// Made by a clock that was ahead, and nobody knows when: it is newer than
			// none that could go on its account.
			if strange {
				k.hold(b.ExpiresAt)
			}
			continue
		}
		complete := b.State == Completed && !strange && b.Verification.State != VerificationFailed
		last := k.last(&b, strange)
		keep := last || k.any < max(minimum, 1) || complete && (newest || k.complete < max(minimum, 1)) || k.always
		k.any++
		if complete {
			k.complete++
			newest = false
		}
		when := b.ExpiresAt
		if when.Before(k.until) {
			when = k.until
		}
		if !keep && !b.ExpiresAt.IsZero() && when.Before(now) {
			due = append(due, past{b.ID, when})
		}
		if strange {
			k.hold(b.ExpiresAt)
		}
	}
	slices.SortFunc(due, func(a, b past) int { return cmp.Or(a.when.Compare(b.when), cmp.Compare(a.id, b.id)) })
	most := max(expiryLeast, len(list)/expiryShare) - recent
	out := make([]string, 0, len(due))
	for _, p := range due[:max(0, min(len(due), most))] {
		out = append(out, p.id)
	}
	return out
}

// kept is what stays of a schedule, while backups are looked at from the newest on.
type kept struct {
	any, complete int
	sources       map[string]bool // that one looked at holds whole
	until         time.Time       // what is older stays until then
	always        bool            // or until somebody deletes what is suspicious
}

// last tells whether a backup is the newest of its schedule that is good for
// anything, or for one of its sources, or whether there is none yet; and counts it.
func (k *kept) last(b *Backup, strange bool) bool {
	none, only := len(k.sources) == 0, false
	if strange || b.Verification.State == VerificationFailed {
		return none
	}
	for i := range b.Manifest.Parts {
		if p := &b.Manifest.Parts[i]; !p.Failed && !k.sources[p.Source] {
			k.sources[p.Source], only = true, true
		}
	}
	return none || only && k.complete == 0
}

// hold keeps what is older than something suspicious that expires then.
func (k *kept) hold(expires time.Time) {
	k.always = k.always || expires.IsZero()
	if expires.After(k.until) {
		k.until = expires
	}
}

// Suspicious begins the notes of a part that holds far less than there was.
const Suspicious = backup.Suspicious

// suspicious tells whether a run noted that there is far less than there was.
func suspicious(m *repo.Manifest) bool {
	return m != nil && slices.ContainsFunc(m.Parts, func(p repo.Part) bool {
		return slices.ContainsFunc(p.Notes, func(n string) bool { return strings.HasPrefix(n, Suspicious) })
	})
}

// expiryOf is when a backup that a job made may go.
func expiryOf(job *Job) (state.Expiry, bool) {
	if job.Backup == nil || job.Backup.RetentionDays <= 0 || job.State != Completed && job.State != CompletedWithProblems {
		return state.Expiry{}, false
	}
	return state.Expiry{
		BackupID: job.ID, ExpiresAt: job.CreatedAt.AddDate(0, 0, job.Backup.RetentionDays), ScheduleID: job.ScheduleID,
	}, true
}
