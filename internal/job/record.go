package job

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/generalbots/backupd/internal/restore"
	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/repo"
)

// result is what is kept of what a job found out. What a backup made stands in
// its manifest, which is in the repository.
type result struct {
	Restore *restore.Report   `json:"restore,omitempty"`
	Check   *repo.CheckReport `json:"check,omitempty"`
	GC      *repo.GCReport    `json:"gc,omitempty"`
}

type request struct {
	Backup  *BackupRequest  `json:"backup,omitempty"`
	Restore *RestoreRequest `json:"restore,omitempty"`
}

// record is what is written down of a job, within the limits of the state file.
func record(job *Job) state.Job {
	rec := state.Job{
		ID: job.ID, Kind: string(job.Kind), State: string(job.State), BackupID: job.BackupID, Target: job.Target,
		ScheduleID: job.ScheduleID, Actor: job.Actor, RequestID: job.RequestID,
		CreatedAt: job.CreatedAt, StartedAt: job.StartedAt, FinishedAt: job.FinishedAt,
		Attempts: job.Attempts, ErrorCode: job.ErrorCode, ErrorMessage: fitMessage(job.ErrorMessage),
	}
	// Both are structs of plain fields: they always marshal.
	rec.Request, _ = json.Marshal(request{job.Backup, job.Restore})
	if job.RestoreReport == nil && job.CheckReport == nil && job.GCReport == nil {
		return rec
	}
	res := result{job.RestoreReport, job.CheckReport, job.GCReport}
	for {
		rec.Result, _ = json.Marshal(res)
		if len(rec.Result) <= state.MaxDocument {
			return rec
		}
		res = res.halved()
	}
}

// fitMessage makes a text the state file takes of any: an error may quote the
// bytes of file names.
func fitMessage(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > state.MaxMessage {
		s = strings.ToValidUTF8(s[:state.MaxMessage], "")
	}
	return s
}

// halved is the result with lists half as long; counts stay true.
func (r result) halved() result {
	if r.Restore != nil {
		c := *r.Restore
		c.Existing, c.LeftOff, c.Problems, c.Notes = half(c.Existing), half(c.LeftOff), half(c.Problems), half(c.Notes)
		r.Restore = &c
	}
	if r.Check != nil {
		c := *r.Check
		c.Findings, c.DamagedFiles, c.Truncated = half(c.Findings), half(c.DamagedFiles), true
		r.Check = &c
	}
	return r
}

func half[T any](list []T) []T { return list[:len(list)/2] }

// recalled is the job that a record tells of.
func recalled(rec state.Job) (Job, error) {
	job := Job{
		ID: rec.ID, Kind: Kind(rec.Kind), State: State(rec.State), BackupID: rec.BackupID, Target: rec.Target,
		ScheduleID: rec.ScheduleID, Actor: rec.Actor, RequestID: rec.RequestID, CreatedAt: rec.CreatedAt, StartedAt: rec.StartedAt, FinishedAt: rec.FinishedAt,
		Attempts: rec.Attempts, ErrorCode: rec.ErrorCode, ErrorMessage: rec.ErrorMessage,
	}
	var q request
	var r result
	if len(rec.Request) > 0 {
		if err := json.Unmarshal(rec.Request, &q); err != nil {
			return Job{}, fmt.Errorf("job %s: what was asked for can not be read: %v", rec.ID, err)
		}
	}
	if len(rec.Result) > 0 {
		if err := json.Unmarshal(rec.Result, &r); err != nil {
			return Job{}, fmt.Errorf("job %s: its report can not be read: %v", rec.ID, err)
		}
	}
	job.Backup, job.Restore = q.Backup, q.Restore
	job.RestoreReport, job.CheckReport, job.GCReport = r.Restore, r.Check, r.GC
	return job, nil
}
