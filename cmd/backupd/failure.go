package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"syscall"

	"github.com/generalbots/backupd/api"
	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

// Exit codes. Scripts rely on them.
const (
	exitDone        = 0
	exitFailed      = 1 // failed, or the repository is damaged
	exitProblems    = 3 // done, but something was left out; the report says what
	exitNotFound    = 10
	exitLocked      = 11
	exitWrongKey    = 12
	exitInterrupted = 130
)

var (
	// errProblems ends a command that did its work, with problems it has reported itself.
	errProblems = errors.New("done with problems")
	// errDamaged ends a command that found damage and has reported it.
	errDamaged = errors.New("the repository is damaged")
	// errStranger ends a check that found nothing wrong but that this host remembers another state.
	errStranger = errors.New("the repository is whole, but not what this host remembers of it")
)

// failure is an error as a person and a script see it.
type failure struct {
	Text string `json:"error"`
	Hint string `json:"hint,omitempty"`
	Code int    `json:"exit_code"`

	Mistakes []string `json:"mistakes,omitempty"` // of a configuration, each a line
}

// remedy says what to do about a kind of error. The first that matches an error counts.
type remedy struct {
	is   error
	code int
	hint string
}

var remedies = []remedy{
	{crypto.ErrWrongKey, exitWrongKey, "check --key-file, --passphrase-file or --recovery-file; 'backupd repo key test' tries one without doing anything"},
	{crypto.ErrCredentialInvalid, exitWrongKey, "give what 'backupd repo init' or 'backupd repo key add' was given; a new passphrase may not be empty"},
	{repo.ErrNoRepository, exitNotFound, "check --repo or --config, or make a repository there with: backupd repo init"},
	{state.ErrInUse, exitLocked, ""},
	{repo.ErrExists, exitFailed, "use it as it is, or give --repo another directory"},
	{repo.ErrNewerFormat, exitFailed, "install the version of backupd that wrote it, or a later one"},
	{errDamaged, exitFailed, "what is not listed can be restored; 'backupd repo backup --type full' stores anew what the host still has"},
	{errStranger, exitFailed, "find out first who put an older copy there; then 'backupd repo check --accept-head' takes it as it is"},
	{repo.ErrRollback, exitFailed, "find out first who put an older copy there, and what became of the newer one"},
	{repo.ErrNotFound, exitFailed, "something the snapshot needs is missing; run: backupd repo check --read-data"},
	{repo.ErrDamaged, exitFailed, "run: backupd repo check --read-data; it names everything that is affected"},
	{crypto.ErrDamaged, exitFailed, "run: backupd repo check --read-data; it names everything that is affected"},
	{store.ErrNoSpace, exitFailed, "make room on the file system of the repository and run the command again: nothing that was there before is lost; 'backupd repo gc' needs no space and gives back what failed runs and forgotten snapshots take"},
	{store.ErrReadOnly, exitFailed, "check owner and mode of the repository's directory, and whether it is mounted read only"},
	{syscall.ENOSPC, exitFailed, "make room and run the command again: nothing that was there before is lost"},
	{fs.ErrPermission, exitFailed, "run it as a user who may read and write there"},
}

// explain finds the exit code and the way out of an error.
func explain(ctx context.Context, err error) failure {
	f := failure{Text: err.Error(), Code: exitFailed}
	var locked *store.LockedError
	var usage *usageError
	var gone *absent
	var wrong *mistakes
	var running *daemonRunning
	var other *state.OtherRepositoryError
	var refused *api.Error
	var going *stillGoing
	switch {
	case errors.Is(err, errProblems):
		f.Code = exitProblems
		return f
	case errors.As(err, new(*unfinished)):
		return f
	case errors.As(err, &going):
		f.Code, f.Hint = exitInterrupted, "see how it is doing: backupd status "+going.id
		return f
	case errors.As(err, &refused):
		f.Code, f.Hint = refusal(refused)
		return f
	case errors.Is(context.Cause(ctx), errInterrupted):
		return failure{Text: "interrupted; the repository is sound, and what was committed is in place", Code: exitInterrupted}
	case errors.As(err, &wrong):
		f.Mistakes = wrong.lines()
		return f
	case errors.As(err, &running):
		f.Code, f.Hint = exitLocked, "stop it first, or give this one a repository of its own"
		return f
	case errors.As(err, &other):
		f.Hint = "give this daemon a state_dir of its own: what is in this one belongs to the other repository"
		return f
	case errors.As(err, &locked):
		f.Code = exitLocked
		f.Hint = "wait until it has ended, or end it; a lock never outlives its process"
		f.Text = "another backupd holds this repository"
		if locked.Owner != "" {
			f.Text = fmt.Sprintf("another backupd holds this repository (pid %s)", printable(locked.Owner))
		}
		return f
	case errors.As(err, &gone):
		f.Code = exitNotFound
		return f
	case errors.As(err, &usage):
		f.Hint = "see: " + usage.command + " --help"
		return f
	}
	for _, r := range remedies {
		if errors.Is(err, r.is) {
			f.Code, f.Hint = r.code, r.hint
			break
		}
	}
	return f
}

// refusal finds the exit code of what a daemon answered, and the way out where the answer does not say it.
func refusal(e *api.Error) (code int, hint string) {
	switch e.Status {
	case http.StatusUnauthorized:
		return exitWrongKey, "give the token of this daemon with --token-file or BACKUPD_TOKEN; 'backupd token create' makes one"
	case http.StatusForbidden:
		return exitFailed, "a token of the role admin may do that"
	case http.StatusNotFound:
		return exitNotFound, ""
	case http.StatusConflict:
		return exitLocked, ""
	}
	return exitFailed, ""
}

// usageError is a command line that makes no sense.
type usageError struct {
	command string
	err     error
}

// Error says what is wrong with it.
func (e *usageError) Error() string { return e.err.Error() }

// absent marks an error about something a person named that is not there, as opposed to something the repository lost.
type absent struct{ error }

// Unwrap gives the error.
func (a *absent) Unwrap() error { return a.error }

// named marks what a look-up of something a person named returned.
func named[T any](v T, err error) (T, error) {
	if errors.Is(err, repo.ErrNotFound) {
		err = &absent{err}
	}
	return v, err
}
