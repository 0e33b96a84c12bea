package restore

import (
	"sync/atomic"

	"github.com/generalbots/backupd/internal/target"
)

// Match tells whether a pattern list matches an entry: dirs are the names of
// the directories above it, from the root of the snapshot, name is its own. It
// is called from one goroutine and must not keep or change dirs.
type Match func(dirs []string, name string, directory bool) bool

// Options are the choices of one run.
type Options struct {
	// Paths are what is restored, with everything below, each relative to the
	// root of the snapshot; a leading slash changes nothing. Empty means all.
	Paths [][]byte
	// Sources are the names of the parts that are restored. Empty means all.
	Sources []string
	// Include limits the run to what it matches, and to what is below a
	// directory it matches. Directories above are made as they are needed. Nil
	// matches everything.
	Include Match
	// Exclude leaves out what it matches and what is below. Nil leaves out
	// nothing.
	Exclude Match
	// Overwrite is the mode the target was opened with. It decides here only
	// about directories that are there already: with target.Never they keep
	// their metadata. In every mode so do those that only lie on the way to what
	// Paths and Include ask for, and the target itself, unless they were made
	// for this restore. What a restore made that died does not count
	// as there already.
	Overwrite target.Overwrite
	// DryRun makes the plan and nothing else: the report says what would be
	// restored. The target may be nil.
	DryRun bool
	// View is where a dry run looks at what is there already, opened with the
	// options that the target would be opened with. Nil is as if nothing were.
	View *target.View
	// Verify reads every file again after it was written and compares it with
	// the ids of its chunks.
	Verify bool
	// TargetPath is where the target was opened; only Verify needs it.
	TargetPath string
	// Workers is the number of goroutines that decode and write; 0 for one a
	// core.
	Workers int
}

// Phase is what a run is busy with.
type Phase int32

// The phases of a run, in order.
const (
	PhasePlan    Phase = iota // looking up the paths
	PhaseRestore              // all else
	PhaseSync                 // waiting for the file system
	PhaseDone
)

// String is the phase as reports and the API name it.
func (p Phase) String() string {
	switch p {
	case PhasePlan:
		return "plan"
	case PhaseRestore:
		return "restore"
	case PhaseSync:
		return "sync"
	}
	return "done"
}

// Progress counts what a run has done so far. The run writes it, anybody may
// read it at any time. The totals are known from PhaseRestore on; they shrink
// as the run comes by what patterns leave out.
type Progress struct {
	Files      atomic.Int64 // entries that are not directories, taken care of
	Dirs       atomic.Int64
	Bytes      atomic.Int64 // sizes of those files, and of what is written of others
	TotalFiles atomic.Int64
	TotalBytes atomic.Int64
	Problems   atomic.Int64
	phase      atomic.Int32
}

// Phase returns what the run is busy with.
func (p *Progress) Phase() Phase { return Phase(p.phase.Load()) }
