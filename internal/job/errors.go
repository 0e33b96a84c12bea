package job

import (
	"errors"
	"fmt"
)

// ErrNotFound says that there is no job, backup or schedule of that id.
var ErrNotFound = errors.New("not found")

// ErrClosing says that the daemon is on its way down and takes nothing new.
var ErrClosing = errors.New("the daemon is shutting down; ask again in a moment")

// ErrQueueFull says that too many jobs are waiting already.
var ErrQueueFull = errors.New("too many jobs are waiting already; try again when some are done")

// InvalidError says which field of a request is wrong, and why.
type InvalidError struct {
	Field   string // as the API spells it
	Message string // what is wrong and what is allowed
}

// Error names the field.
func (e *InvalidError) Error() string { return e.Field + ": " + e.Message }

// BusyError says that another job is in the way.
type BusyError struct {
	JobID   string
	Message string
}

// Error says what is in the way.
func (e *BusyError) Error() string { return fmt.Sprintf("%s (job %s)", e.Message, e.JobID) }
