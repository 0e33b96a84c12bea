package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/generalbots/backupd/internal/target"
	"github.com/generalbots/backupd/repo"
)

// maxListed bounds each list of a report; the counts beside them are true.
const maxListed = 1000

// Report is what came of a run. Its field tags are part of the API.
type Report struct {
	Snapshot   string    `json:"snapshot"`
	Status     string    `json:"status"` // "completed" or "completed_with_problems"
	DryRun     bool      `json:"dry_run"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`

	Files    uint64 `json:"files"`    // regular files restored, hard links to them not counted
	Dirs     uint64 `json:"dirs"`     // directories restored or merged
	Links    uint64 `json:"links"`    // hard links
	Symlinks uint64 `json:"symlinks"` // symbolic links
	Specials uint64 `json:"specials"` // devices, pipes and sockets
	Bytes    int64  `json:"bytes"`    // sizes of the regular files restored

	Verified  uint64 `json:"verified"`  // files read again and found right
	Identical uint64 `json:"identical"` // left alone, being the same already
	Excluded  uint64 `json:"excluded"`  // entries left out by patterns, not those below them

	// Existing were left alone because something stands under their name.
	Existing      []Path `json:"existing,omitempty"`
	ExistingCount uint64 `json:"existing_count"`
	// WouldReplace is, in a dry run, what stands where something else would be
	// put; Existing and Identical count there what would be left alone.
	WouldReplace      []Path `json:"would_replace,omitempty"`
	WouldReplaceCount uint64 `json:"would_replace_count"`
	// LeftOff is what needs privileges this run did not have: setuid bits,
	// devices, capabilities, trusted attributes.
	LeftOff      []Problem `json:"left_off,omitempty"`
	LeftOffCount uint64    `json:"left_off_count"`
	// Problems are what is not as it was in the snapshot.
	Problems     []Problem `json:"problems,omitempty"`
	ProblemCount uint64    `json:"problem_count"`
	// Notes are what the repository found out about itself meanwhile, such as
	// packs that are not readable as a whole.
	Notes []string `json:"notes,omitempty"`
	// Damaged is how many of the problems are the repository's: what they name
	// can not be restored from it.
	Damaged uint64 `json:"damaged"`
}

// Path is the path of an entry below the root of the snapshot, any bytes. In
// JSON, bytes that are not UTF-8 are written as \xNN.
type Path string

// MarshalJSON writes the path as a string.
func (p Path) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }

// String is the path with bytes that are not UTF-8 as \xNN.
func (p Path) String() string {
	s := string(p)
	if strings.ToValidUTF8(s, "") == s {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r != '\uFFFD' {
			b.WriteRune(r)
			s = s[len(string(r)):]
			continue
		}
		if strings.HasPrefix(s, "\uFFFD") {
			b.WriteRune(r)
			s = s[len("\uFFFD"):]
			continue
		}
		fmt.Fprintf(&b, `\x%02x`, s[0])
		s = s[1:]
	}
	return b.String()
}

// Problem is something that could not be restored as it was.
type Problem struct {
	Path Path   `json:"path"`
	Op   string `json:"op"`   // what was being done
	Text string `json:"text"` // for people; of damage it names the pack
}

// recorder is the report in the making.
type recorder struct {
	prog *Progress
	mu   sync.Mutex // guards r
	r    Report
}

func (c *recorder) count(change func(r *Report)) {
	c.mu.Lock()
	change(&c.r)
	c.mu.Unlock()
}

func (c *recorder) problem(path Path, op string, err error) {
	c.prog.Problems.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.r.ProblemCount++
	if errors.Is(err, repo.ErrDamaged) || errors.Is(err, repo.ErrNotFound) {
		c.r.Damaged++
	}
	if len(c.r.Problems) < maxListed {
		c.r.Problems = append(c.r.Problems, Problem{path, op, err.Error()})
	}
}

// incomplete takes over what the target could not set on an entry.
func (c *recorder) incomplete(path Path, list []target.Problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range list {
		entry := Problem{path, "set metadata", p.String()}
		if p.Skipped {
			c.r.LeftOffCount++
			if len(c.r.LeftOff) < maxListed {
				c.r.LeftOff = append(c.r.LeftOff, entry)
			}
			continue
		}
		c.prog.Problems.Add(1)
		c.r.ProblemCount++
		if len(c.r.Problems) < maxListed {
			c.r.Problems = append(c.r.Problems, entry)
		}
	}
}

func (c *recorder) existing(path Path) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.r.ExistingCount++
	if len(c.r.Existing) < maxListed {
		c.r.Existing = append(c.r.Existing, path)
	}
}

// report is the state of the report now.
func (c *recorder) report() *Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.r
	r.FinishedAt = time.Now().UTC()
	r.Status = "completed"
	if r.ProblemCount > 0 {
		r.Status = "completed_with_problems"
	}
	return &r
}
