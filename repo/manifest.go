package repo

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Maxima of a manifest. Texts and reports are cut to them when a manifest is
// written, so that no backup is lost for a long word; the rest is refused.
const (
	// MaxPaths bounds the paths of one part; longer lists of files are backed
	// up by naming a directory above them.
	MaxPaths = 65536

	maxParts      = 1024
	maxTags       = 64
	maxTagLength  = 128  // bytes
	maxHostLength = 255  // bytes
	maxTextLength = 4096 // bytes: notes, patterns, problems, program
	maxNotes      = 256  // of a part
	maxPatterns   = 4096 // of a part
	maxPathLength = 1 << 20
	maxProblems   = 1000
)

// Manifest is one snapshot: what a run of a backup left in the repository. It
// is written last, and a snapshot is there exactly when its manifest is.
//
// The field tags are the format; each change of them is a new FormatVersion.
type Manifest struct {
	ID         string    `json:"id"`                // made by IDSource
	Type       string    `json:"type"`              // "full", "incremental" or "differential"
	BaseID     string    `json:"base_id,omitempty"` // of the snapshot the run started from
	CreatedAt  time.Time `json:"created_at"`        // when the backup was asked for; UTC like all times
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	Host       string    `json:"host"`
	Tags       []string  `json:"tags,omitempty"`
	Program    string    `json:"program"` // name and version of what wrote it
	Status     string    `json:"status"`  // "completed" or "completed_with_problems"
	Parts      []Part    `json:"parts"`
	Totals     Counts    `json:"totals"` // of all parts

	// Problems are the first 1000; listings come without them.
	Problems []Problem `json:"problems,omitempty"`
	// ProblemCount is how many there were.
	ProblemCount uint64 `json:"problem_count"`
}

// Part is what a snapshot holds of one source.
type Part struct {
	Source        string    `json:"source"`            // as the configuration names it
	Kind          string    `json:"kind"`              // "files", …
	Profile       string    `json:"profile"`           // how its content was cut
	Paths         [][]byte  `json:"paths,omitempty"`   // at most MaxPaths
	Exclude       []string  `json:"exclude,omitempty"` // for people to read
	ExcludeCaches bool      `json:"exclude_caches,omitempty"`
	OneFileSystem bool      `json:"one_file_system,omitempty"`
	StartedAt     time.Time `json:"started_at"`
	FinishedAt    time.Time `json:"finished_at"`
	BaseID        string    `json:"base_id,omitempty"`
	Generation    uint64    `json:"generation"`      // versions of this lineage before it
	Notes         []string  `json:"notes,omitempty"` // on consistency
	Failed        bool      `json:"failed,omitempty"`
	Root          []byte    `json:"root,omitempty"` // entry of the root directory, its name empty; a failed part may lack it
	Counts        Counts    `json:"counts"`
}

// Counts is what a run did, in entries and bytes.
type Counts struct {
	Files       uint64 `json:"files"` // all entries that are not directories
	Dirs        uint64 `json:"dirs"`
	New         uint64 `json:"new"`
	Changed     uint64 `json:"changed"`
	Removed     uint64 `json:"removed"`
	Unchanged   uint64 `json:"unchanged"`
	BytesTotal  int64  `json:"bytes_total"`  // sizes of all files
	BytesRead   int64  `json:"bytes_read"`   // from the source
	BytesNew    int64  `json:"bytes_new"`    // of chunks that were not there
	BytesStored int64  `json:"bytes_stored"` // of a part, what its blocks take; of a snapshot, by how much the repository grew
}

// Add adds o to c.
func (c *Counts) Add(o Counts) {
	c.Files += o.Files
	c.Dirs += o.Dirs
	c.New += o.New
	c.Changed += o.Changed
	c.Removed += o.Removed
	c.Unchanged += o.Unchanged
	c.BytesTotal += o.BytesTotal
	c.BytesRead += o.BytesRead
	c.BytesNew += o.BytesNew
	c.BytesStored += o.BytesStored
}

// Problem is something a run could not do, or not do well.
type Problem struct {
	Path []byte `json:"path,omitempty"`
	Op   string `json:"op"`
	Text string `json:"text"`
}

// fit returns m as it can be written: times in UTC, the lists and texts of
// the report cut to their maxima. m itself is left alone.
func (m *Manifest) fit() *Manifest {
	f := *m
	f.CreatedAt, f.StartedAt, f.FinishedAt = utc(m.CreatedAt), utc(m.StartedAt), utc(m.FinishedAt)
	f.Host = fitText(m.Host, maxHostLength)
	f.Program = fitText(m.Program, maxTextLength)
	f.Tags = nil
	for _, tag := range m.Tags {
		if tag = fitText(tag, maxTagLength); tag != "" && len(f.Tags) < maxTags {
			f.Tags = append(f.Tags, tag)
		}
	}
	f.ProblemCount = max(m.ProblemCount, uint64(len(m.Problems)))
	f.Problems = nil
	for _, p := range m.Problems[:min(len(m.Problems), maxProblems)] {
		p.Path = p.Path[:min(len(p.Path), maxTextLength)]
		p.Op, p.Text = fitText(p.Op, maxTextLength), fitText(p.Text, maxTextLength)
		f.Problems = append(f.Problems, p)
	}
	f.Parts = nil
	for _, p := range m.Parts {
		p.StartedAt, p.FinishedAt = utc(p.StartedAt), utc(p.FinishedAt)
		p.Source = fitText(p.Source, maxHostLength)
		notes := p.Notes[:min(len(p.Notes), maxNotes)]
		p.Notes = nil
		for _, n := range notes {
			p.Notes = append(p.Notes, fitText(n, maxTextLength))
		}
		patterns := p.Exclude[:min(len(p.Exclude), maxPatterns)]
		p.Exclude = nil
		for _, e := range patterns {
			p.Exclude = append(p.Exclude, fitText(e, maxTextLength))
		}
		f.Parts = append(f.Parts, p)
	}
	return &f
}

// validate compares a manifest with the maxima and rules of the format.
// Whether the roots lead to pages that are there is for others to see.
func (m *Manifest) validate() error {
	switch {
	case !IsSnapshotID(m.ID):
		return fmt.Errorf("%q is no snapshot id", m.ID)
	case m.Type != "full" && m.Type != "incremental" && m.Type != "differential":
		return fmt.Errorf("%q is no type of a backup", m.Type)
	case m.BaseID != "" && !IsSnapshotID(m.BaseID):
		return fmt.Errorf("base %q is no snapshot id", m.BaseID)
	case m.Status != "completed" && m.Status != "completed_with_problems":
		return fmt.Errorf("%q is no status of a snapshot", m.Status)
	case len(m.Parts) == 0 || len(m.Parts) > maxParts:
		return fmt.Errorf("%d parts, allowed are 1 to %d", len(m.Parts), maxParts)
	case len(m.Tags) > maxTags:
		return fmt.Errorf("%d tags, at most %d are allowed", len(m.Tags), maxTags)
	case len(m.Problems) > maxProblems || m.ProblemCount < uint64(len(m.Problems)):
		return fmt.Errorf("%d problems of %d, at most %d are kept", len(m.Problems), m.ProblemCount, maxProblems)
	}
	for _, tag := range m.Tags {
		if tag == "" {
			return errors.New("an empty tag")
		}
		if err := checkText("tag", tag, maxTagLength); err != nil {
			return err
		}
	}
	for i := range m.Problems {
		p := &m.Problems[i]
		if len(p.Path) > maxTextLength {
			return fmt.Errorf("a problem with a path of %d bytes, at most %d are allowed", len(p.Path), maxTextLength)
		}
		if err := errors.Join(checkText("op", p.Op, maxTextLength), checkText("problem", p.Text, maxTextLength)); err != nil {
			return err
		}
	}
	for i := range m.Parts {
		if err := m.Parts[i].validate(); err != nil {
			return fmt.Errorf("part %d: %v", i, err)
		}
	}
	return errors.Join(
		checkText("host", m.Host, maxHostLength),
		checkText("program", m.Program, maxTextLength),
		checkTime("created_at", m.CreatedAt),
		checkTime("started_at", m.StartedAt),
		checkTime("finished_at", m.FinishedAt),
		m.Totals.validate(),
	)
}

func (p *Part) validate() error {
	switch {
	case p.Source == "":
		return errors.New("a part without a source")
	case !profileName.MatchString(p.Kind):
		return fmt.Errorf("%q is no kind of a source", p.Kind)
	case !profileName.MatchString(p.Profile):
		return fmt.Errorf("%q is no name of a profile", p.Profile)
	case p.BaseID != "" && !IsSnapshotID(p.BaseID):
		return fmt.Errorf("base %q is no snapshot id", p.BaseID)
	case len(p.Paths) > MaxPaths:
		return fmt.Errorf("%d paths, at most %d are allowed", len(p.Paths), MaxPaths)
	case len(p.Exclude) > maxPatterns:
		return fmt.Errorf("%d patterns, at most %d are allowed", len(p.Exclude), maxPatterns)
	case len(p.Notes) > maxNotes:
		return fmt.Errorf("%d notes, at most %d are allowed", len(p.Notes), maxNotes)
	case len(p.Root) == 0 && !p.Failed:
		return errors.New("a part without a root that did not fail")
	case len(p.Root) > MaxPageSize:
		return fmt.Errorf("a root of %d bytes, at most %d are allowed", len(p.Root), MaxPageSize)
	}
	for _, path := range p.Paths {
		if len(path) == 0 || len(path) > maxPathLength {
			return fmt.Errorf("a path of %d bytes, allowed are 1 to %d", len(path), maxPathLength)
		}
	}
	for _, pattern := range p.Exclude {
		if err := checkText("pattern", pattern, maxTextLength); err != nil {
			return err
		}
	}
	for _, note := range p.Notes {
		if err := checkText("note", note, maxTextLength); err != nil {
			return err
		}
	}
	return errors.Join(
		checkText("source", p.Source, maxHostLength),
		checkTime("started_at", p.StartedAt),
		checkTime("finished_at", p.FinishedAt),
		p.Counts.validate(),
	)
}

func (c *Counts) validate() error {
	if c.BytesTotal < 0 || c.BytesRead < 0 || c.BytesNew < 0 || c.BytesStored < 0 {
		return errors.New("a negative number of bytes")
	}
	return nil
}

// checkText refuses text that JSON would not give back as it was.
func checkText(what, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%s of %d bytes, at most %d are allowed", what, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s %q is not UTF-8", what, s)
	}
	return nil
}

// fitText makes text of anything: errors and host names may hold any bytes.
func fitText(s string, limit int) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// utc is t as it stands in files: UTC, without the monotonic clock.
func utc(t time.Time) time.Time { return t.UTC().Round(0) }

// checkTime wants a time that is set, in UTC, and in the years that RFC 3339
// can write.
func checkTime(what string, t time.Time) error {
	if t.IsZero() {
		return fmt.Errorf("%s is not set", what)
	}
	if t.Location() != time.UTC {
		return fmt.Errorf("%s is not in UTC", what)
	}
	if y := t.Year(); y < 1 || y > 9999 {
		return fmt.Errorf("%s is in the year %d", what, y)
	}
	return nil
}
