package api

import (
	"encoding/base64"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/internal/restore"
	"github.com/generalbots/backupd/repo"
)

// maxListed bounds the lists within a report.
const maxListed = 1000

// opt is null for the value that stands for nothing.
func opt[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func optTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// list is never null.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

func each[A, B any](in []A, f func(*A) B) []B {
	out := make([]B, len(in))
	for i := range in {
		out[i] = f(&in[i])
	}
	return out
}

func pathOf(path string) Path {
	if utf8.ValidString(path) {
		return Path{Path: path}
	}
	raw := base64.StdEncoding.EncodeToString([]byte(path))
	return Path{strings.ToValidUTF8(path, "\uFFFD"), &raw}
}

func failureOf(code, message string) *Failure {
	if code == "" {
		return nil
	}
	return &Failure{code, message}
}

func backupOf(b *job.Backup) Backup {
	out := Backup{
		ID: b.ID, BackupID: b.ID, Type: b.Type, Status: string(b.State), CreatedAt: b.CreatedAt.UTC(),
		StartedAt: optTime(b.StartedAt), FinishedAt: optTime(b.FinishedAt),
		Size: sizeText(b.Size), SizeBytes: b.Size, StoredBytes: b.Stored, BaseID: opt(b.BaseID), Host: b.Host, Sources: []string{},
		Tags: list(b.Tags), ScheduleID: opt(b.ScheduleID), ExpiresAt: optTime(b.ExpiresAt),
		Verification: Verification{b.Verification.State, optTime(b.Verification.At), opt(b.Verification.JobID), opt(b.Verification.Message)},
		Failure:      failureOf(b.ErrorCode, b.ErrorMessage),
	}
	switch {
	case b.Manifest != nil:
		out.ProblemCount = b.Manifest.ProblemCount
		for i := range b.Manifest.Parts {
			out.Sources = append(out.Sources, b.Manifest.Parts[i].Source)
		}
	case b.Job != nil && b.Job.Backup != nil:
		out.Sources = list(b.Job.Backup.Sources)
	}
	return out
}

func backupDetails(b *job.Backup) BackupDetails {
	out := BackupDetails{Backup: backupOf(b), Actor: opt(b.Actor), Parts: []Part{}, Problems: []Problem{}}
	if b.Job != nil && !b.Job.Over() {
		out.Position = b.Job.Position
		if b.Job.Progress != nil {
			p := progressOf(b.Job)
			out.Progress = &p
		}
	}
	if m := b.Manifest; m != nil {
		out.Program, out.Counts = opt(m.Program), Counts(m.Totals)
		out.Parts = each(m.Parts, partOf)
		out.Problems = each(m.Problems, func(p *repo.Problem) Problem { return Problem{pathOf(string(p.Path)), p.Op, p.Text} })
	}
	return out
}

func partOf(p *repo.Part) Part {
	return Part{
		Source: p.Source, Kind: p.Kind, Profile: p.Profile,
		Paths:   each(p.Paths, func(b *[]byte) string { return pathOf(string(*b)).Path }),
		Exclude: list(p.Exclude), StartedAt: p.StartedAt.UTC(), FinishedAt: p.FinishedAt.UTC(), BaseID: opt(p.BaseID),
		Notes: list(p.Notes), Failed: p.Failed, Counts: Counts(p.Counts),
	}
}

// progressOf is how far a job is: all zero of one that has not begun, or that no
// process of today ran.
func progressOf(j *job.Job) Progress {
	p := j.Progress
	if p == nil {
		out := Progress{}
		if r := j.RestoreReport; r != nil {
			out.Files, out.Bytes, out.Problems = int64(r.Files), r.Bytes, int64(r.ProblemCount)
		}
		if j.State == job.Completed || j.State == job.CompletedWithProblems {
			out.Percent, out.Phase = 100, "done"
		}
		return out
	}
	out := Progress{
		Phase: p.Phase, Files: p.Files, FilesTotal: p.FilesTotal, Bytes: p.Bytes, BytesTotal: p.BytesTotal, Problems: p.Problems,
		Percent: math.Round(10*p.Percent()) / 10, BytesPerSecond: math.Round(p.Rate),
	}
	if p.Left >= 0 && !j.Over() {
		left := int64(math.Ceil(p.Left.Seconds()))
		out.ETASeconds = &left
	}
	if j.State == job.Completed || j.State == job.CompletedWithProblems {
		out.Percent = 100
	}
	return out
}

func jobOf(j *job.Job) Job {
	out := Job{
		ID: j.ID, JobID: j.ID, Kind: string(j.Kind), Status: string(j.State), BackupID: opt(j.BackupID), Target: opt(j.Target),
		ScheduleID: opt(j.ScheduleID), Actor: j.Actor, RequestID: opt(j.RequestID), Attempts: j.Attempts, Position: j.Position,
		CreatedAt: j.CreatedAt.UTC(), StartedAt: optTime(j.StartedAt), FinishedAt: optTime(j.FinishedAt),
		Failure: failureOf(j.ErrorCode, j.ErrorMessage),
	}
	if j.Progress != nil {
		p := progressOf(j)
		out.Progress = &p
	}
	return out
}

func jobDetails(j *job.Job) JobDetails {
	out := JobDetails{Job: jobOf(j), Restore: restoreReport(j.RestoreReport)}
	if c := j.CheckReport; c != nil {
		out.Verify = &VerifyReport{
			Sound: c.Sound(), Snapshots: c.Snapshots, Packs: c.Packs, PackBytes: c.PackBytes,
			Findings: each(first(c.Findings), func(f *repo.Finding) Finding { return Finding{f.Object, f.Text} }),
			Damaged: each(first(c.DamagedFiles), func(d *repo.DamagedFile) Damaged {
				return Damaged{d.Snapshot, pathOf(string(d.Path)), d.Text}
			}),
			Truncated: c.Truncated || len(c.Findings) > maxListed || len(c.DamagedFiles) > maxListed,
		}
	}
	if g := j.GCReport; g != nil {
		out.GC = &GCReport{g.PacksBefore, g.PacksAfter, g.BytesBefore, g.BytesAfter, g.RemovedSnapshots}
	}
	return out
}

func first[T any](l []T) []T { return l[:min(len(l), maxListed)] }

func restoreProblem(p *restore.Problem) Problem {
	return Problem{pathOf(string(p.Path)), p.Op, p.Text}
}

func restoreReport(r *restore.Report) *RestoreReport {
	if r == nil {
		return nil
	}
	return &RestoreReport{
		Files: r.Files, Dirs: r.Dirs, Links: r.Links, Symlinks: r.Symlinks, Specials: r.Specials, Bytes: r.Bytes, Identical: r.Identical,
		Existing:      each(first(r.Existing), func(p *restore.Path) string { return p.String() }),
		ExistingCount: r.ExistingCount,
		LeftOff:       each(first(r.LeftOff), restoreProblem), LeftOffCount: r.LeftOffCount,
		Problems: each(first(r.Problems), restoreProblem), ProblemCount: r.ProblemCount, Damaged: r.Damaged, Notes: list(r.Notes),
	}
}

func restoreOf(j *job.Job) Restore {
	out := Restore{
		ID: j.ID, JobID: j.ID, BackupID: j.BackupID, Target: j.Target, Status: string(j.State), Position: j.Position,
		CreatedAt: j.CreatedAt.UTC(), StartedAt: optTime(j.StartedAt), FinishedAt: optTime(j.FinishedAt),
		Progress: progressOf(j), Failure: failureOf(j.ErrorCode, j.ErrorMessage), Report: restoreReport(j.RestoreReport), Problems: []Problem{},
	}
	if r := j.Restore; r != nil {
		out.Overwrite, out.DryRun = r.Overwrite, r.DryRun
	}
	if out.Report != nil {
		out.Problems, out.ProblemCount = out.Report.Problems, out.Report.ProblemCount
	}
	return out
}

func scheduleOf(s *job.Schedule) Schedule {
	return Schedule{
		ID: s.ID, ScheduleID: s.ID, Name: s.Name, Cron: s.Cron, Type: s.Type, Timezone: s.Timezone,
		IncludeFiles: s.IncludeFiles, IncludeDatabase: s.IncludeDatabase, Sources: list(s.Sources), Tags: list(s.Tags),
		RetentionDays: s.RetentionDays, Enabled: s.Enabled, CreatedAt: s.CreatedAt.UTC(), UpdatedAt: s.UpdatedAt.UTC(),
		NextRun: optTime(s.NextRun), LastRun: optTime(s.LastRun), LastStatus: opt(s.LastStatus), LastBackupID: opt(s.LastBackupID), LastSuccess: optTime(s.LastSuccess),
	}
}
