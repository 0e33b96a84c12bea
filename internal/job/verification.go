package job

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/repo"
)

// verification is what is known about a backup. mu is held.
func (j *Jobs) verification(id string) Verification {
	if v, ok := j.verified[id]; ok {
		return v
	}
	out := Verification{State: Unverified}
	if v, err := j.st.Verification(id); err == nil {
		out.State, out.At = v.State, v.At
		var how found
		if json.Unmarshal(v.Report, &how) == nil {
			out.JobID, out.Message = how.JobID, how.Message
		}
	}
	j.verified[id] = out
	return out
}

// found is what is kept beside the state of a verification.
type found struct {
	JobID   string `json:"job_id"`
	Message string `json:"message,omitempty"`
}

// verdicts is what a check found out about each backup.
func verdicts(jobID string, snaps []*repo.Snapshot, rep *repo.CheckReport, now time.Time) map[string]Verification {
	damaged := make(map[string]int)
	for _, d := range rep.DamagedFiles {
		damaged[d.Snapshot]++
	}
	trouble := make(map[string]bool) // what is wrong with a backup as a whole
	for _, f := range rep.Findings {
		trouble[f.Object] = true
	}
	out := make(map[string]Verification, len(snaps))
	for _, s := range snaps {
		v := Verification{State: Verified, At: now, JobID: jobID}
		switch n := damaged[s.ID]; {
		case n > 0:
			v.State, v.Message = VerificationFailed, fmt.Sprintf("%d files can not be restored whole", n)
		case trouble[s.ID]:
			// In what words stands in the report, which may name paths of this host.
			v.State, v.Message = VerificationFailed, "its manifest or one of its trees can not be read"
		case rep.Truncated:
			v.State, v.Message = VerificationFailed, "the repository has more damage than a report holds"
		}
		out[s.ID] = v
	}
	return out
}

// maxLost bounds how many backups an error names.
const maxLost = 5

// lossOf is the error that tells of the backups that can not be restored whole,
// nil when there are none.
func lossOf(all map[string]Verification) error {
	var lost []string
	for id, v := range all {
		if v.State == VerificationFailed {
			lost = append(lost, id+": "+v.Message)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	slices.Sort(lost)
	more := ""
	if n := len(lost) - maxLost; n > 0 {
		lost, more = lost[:maxLost], fmt.Sprintf("; and %d more", n)
	}
	return fmt.Errorf("%w: %s%s; the report names them, and the next backup stores what is lost anew where its source still has it", repo.ErrDamaged, strings.Join(lost, "; "), more)
}

// recordVerified writes down what a check found out about each backup that is
// still there.
func (j *Jobs) recordVerified(all map[string]Verification) error {
	j.admit.Lock() // against Delete
	defer j.admit.Unlock()
	there := make(map[string]bool)
	for _, s := range j.repo.Snapshots() {
		there[s.ID] = true
	}
	for id := range all {
		if !there[id] {
			delete(all, id)
		}
	}
	err := j.st.Update(func(tx *state.Tx) error {
		for id, v := range all {
			rec := state.Verification{BackupID: id, State: v.State, At: v.At}
			rec.Report, _ = json.Marshal(found{v.JobID, v.Message}) // plain fields always marshal
			if err := tx.PutVerification(rec); err != nil {
				return err
			}
		}
		return nil
	})
	// What was found counts, written down or not.
	j.mu.Lock()
	for id, v := range all {
		j.verified[id] = v
	}
	j.mu.Unlock()
	return err
}
