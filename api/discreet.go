package api

import (
	"cmp"
	"slices"

	"github.com/generalbots/backupd/internal/auth"
	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/repo"
)

// What errors say of a job was written for whoever runs the host: it may name
// paths outside the backup, such as those of the repository and of targets, and
// quote what a command printed. Administrators read it as it is. Everybody else
// reads what became of it in words of ours, and may read paths within a backup,
// which they may browse.

// discreetWords are what others than administrators read, by the code of a failure.
var discreetWords = map[string]string{
	"no_space":             "there is no room left for it: an administrator has to free space",
	"repository_in_use":    "another process has the repository",
	"repository_read_only": "the repository can not be written to: an administrator has to look at it",
	"repository_damaged":   "the repository is damaged where this is stored: an administrator has to look at it",
	"not_found":            "something it needs is not there any more",
	"invalid":              "the configuration no longer has what was asked for",
	"interrupted":          "the daemon stopped while it ran",
	"cancelled":            "somebody cancelled it",
}

// elsewhere stands for what others than administrators do not read.
const elsewhere = "an administrator can read here what happened"

func (c *call) outsider() bool { return c.who.Role < auth.Admin }

// jobFor is a job as the caller may read it.
func (c *call) jobFor(j job.Job) job.Job {
	if !c.outsider() {
		return j
	}
	j.ErrorMessage = discreet(j.ErrorCode, j.ErrorMessage)
	if j.CheckReport != nil {
		r := *j.CheckReport
		r.Findings, r.DamagedFiles = slices.Clone(r.Findings), slices.Clone(r.DamagedFiles)
		for i := range r.Findings {
			r.Findings[i].Text = elsewhere
		}
		for i := range r.DamagedFiles {
			r.DamagedFiles[i].Text = elsewhere
		}
		j.CheckReport = &r
	}
	return j
}

// backupFor is a backup as the caller may read it.
func (c *call) backupFor(b job.Backup) job.Backup {
	if !c.outsider() {
		return b
	}
	b.ErrorMessage = discreet(b.ErrorCode, b.ErrorMessage)
	if b.Manifest != nil {
		m := *b.Manifest
		m.Parts, m.Problems = slices.Clone(m.Parts), slices.Clone(m.Problems)
		for i := range m.Parts {
			// The notes of a part that failed say why.
			if m.Parts[i].Failed {
				m.Parts[i].Notes = []string{elsewhere}
			}
		}
		for i := range m.Problems {
			if ofTheRun(m.Problems[i]) {
				m.Problems[i].Text = elsewhere
			}
		}
		b.Manifest = &m
	}
	return b
}

// ofTheRun tells whether a problem is about no file of the backup: it may quote a command.
func ofTheRun(p repo.Problem) bool { return len(p.Path) == 0 }

func discreet(code, message string) string {
	if message == "" {
		return ""
	}
	return cmp.Or(discreetWords[code], "it failed: "+elsewhere)
}
