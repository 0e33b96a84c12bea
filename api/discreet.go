package api

import (
	"cmp"
	"slices"
	"strings"

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
			m.Parts[i].Notes = discreetNotes(m.Parts[i].Notes)
		}
		for i := range m.Problems {
			if !openProblem(m.Problems[i]) {
				m.Problems[i].Text = elsewhere
			}
		}
		b.Manifest = &m
	}
	return b
}

// discreetNotes are the notes of a part that everybody reads, and one word for all others.
func discreetNotes(notes []string) []string {
	out := slices.DeleteFunc(slices.Clone(notes), func(n string) bool { return !openNote(n) })
	if len(out) < len(notes) {
		out = append(out, elsewhere)
	}
	return out
}

// openNote tells whether everybody may read a note: those of ours that say what is
// to be looked at, and that what was examined is good. What else a source has to
// say quotes what it met: paths outside the backup, or what stands in a database.
func openNote(note string) bool {
	return strings.HasPrefix(note, job.Suspicious) || strings.HasSuffix(note, ": quick_check: ok")
}

// openProblem tells whether everybody may read the words of a problem: it is about
// a file of the backup, and names no place but that.
func openProblem(p repo.Problem) bool {
	if len(p.Path) == 0 || p.Op == "examine" {
		return false // it quotes a command, or what stands in a database
	}
	text := strings.ReplaceAll(p.Text, string(p.Path), "")
	for i := range text {
		// A slash that no word precedes begins a path.
		if text[i] == '/' && (i == 0 || !wordy(text[i-1])) {
			return false
		}
	}
	return true
}

func wordy(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' || '0' <= b && b <= '9' }

func discreet(code, message string) string {
	if message == "" {
		return ""
	}
	return cmp.Or(discreetWords[code], "it failed: "+elsewhere)
}
