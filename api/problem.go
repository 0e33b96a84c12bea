package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/generalbots/backupd/internal/auth"
	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/internal/state"
	"github.com/generalbots/backupd/repo"
)

// requestError is an error that is the client's, or that it is to know of. Nothing
// else reaches it in words.
type requestError struct {
	status     int
	code       string
	message    string
	field      string
	jobID      string
	retryAfter time.Duration
}

// retryLater is when to ask again for what only a person can make possible.
const retryLater = time.Minute

// after is when to ask again, 0 when that does not help.
func (e *requestError) after() time.Duration {
	if e.status == http.StatusServiceUnavailable {
		return cmp.Or(e.retryAfter, retryLater)
	}
	return e.retryAfter
}

// Error is the message.
func (e *requestError) Error() string { return e.message }

var (
	errMethod   = &requestError{status: http.StatusMethodNotAllowed, code: "method_not_allowed", message: "this path does not take that method; the header Allow names those it does"}
	errNoRoute  = &requestError{status: http.StatusNotFound, code: "not_found", message: "there is nothing at this path; GET " + base + "/openapi.yaml lists what there is"}
	errOrigin   = &requestError{status: http.StatusForbidden, code: "forbidden", message: "this call comes from a page of another origin; make it from a page of this one, or from a program"}
	errOverload = &requestError{status: http.StatusServiceUnavailable, code: auth.CodeServiceUnavailable, message: "too many calls are under way; try again in a moment", retryAfter: time.Second}

	errBug = errors.New("internal error")
)

// invalid is a field, or a parameter of the query, that is not as it has to be. The
// message begins with its name: many clients show nothing else.
func invalid(field, wrong string) error {
	return &requestError{status: http.StatusBadRequest, code: "validation_error", message: field + " " + wrong, field: field}
}

// bad is a request that is wrong as a whole.
func bad(message string) error {
	return &requestError{status: http.StatusBadRequest, code: "bad_request", message: message}
}

// problemOf is what the client gets to know of an error. What is not known here
// stays here: messages of others hold paths.
func problemOf(err error) *requestError {
	var known *requestError
	var field *job.InvalidError
	var busy *job.BusyError
	var refused *auth.Error
	unavailable := func(message string, after time.Duration) *requestError {
		return &requestError{status: http.StatusServiceUnavailable, code: auth.CodeServiceUnavailable, message: message, retryAfter: after}
	}
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &field):
		return &requestError{status: http.StatusBadRequest, code: "validation_error", message: field.Field + ": " + field.Message, field: field.Field}
	case errors.As(err, &busy):
		message := busy.Message
		if !strings.Contains(message, busy.JobID) {
			message += " (job " + busy.JobID + ")"
		}
		return &requestError{status: http.StatusConflict, code: "conflict", message: message, jobID: busy.JobID}
	case errors.As(err, &refused):
		return &requestError{status: authStatus(refused.Code), code: refused.Code, message: refused.Message, retryAfter: refused.RetryAfter}
	case errors.Is(err, errPathNotFound):
		return &requestError{status: http.StatusNotFound, code: "not_found", message: "the backup has nothing at this path; GET " + base + "/{backup_id}/files?path=/ lists what it has"}
	// What the repository has lost wraps its ErrNotFound too, with ErrDamaged.
	case errors.Is(err, repo.ErrDamaged):
		return &requestError{status: http.StatusInternalServerError, code: "internal_error", message: "the repository is damaged where this is stored: have it verified"}
	case errors.Is(err, job.ErrNotFound), errors.Is(err, repo.ErrNotFound):
		return &requestError{status: http.StatusNotFound, code: "not_found", message: "there is no backup, job or schedule of this id, or it has made nothing; GET " + base + "/list, /jobs and /schedule list those there are"}
	case errors.Is(err, job.ErrQueueFull):
		return unavailable(job.ErrQueueFull.Error(), 30*time.Second)
	case errors.Is(err, job.ErrClosing):
		return unavailable(job.ErrClosing.Error(), 5*time.Second)
	case errors.Is(err, state.ErrFull):
		return unavailable("the daemon has no room to write down what is asked for: free space in its state directory", 0)
	case errors.Is(err, state.ErrUncertain):
		return unavailable("the daemon's state can not be written: see its log, then restart it", 0)
	case errors.Is(err, state.ErrInvalid):
		return &requestError{status: http.StatusBadRequest, code: "bad_request", message: "something in the request is longer than is kept; shorten it"}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &requestError{status: http.StatusServiceUnavailable, code: "timeout", message: "it took too long; ask for less", retryAfter: time.Second}
	}
	return &requestError{status: http.StatusInternalServerError, code: "internal_error", message: "something went wrong here; the daemon's log has it under the request id"}
}

func authStatus(code string) int {
	return cmp.Or(map[string]int{
		auth.CodeMissingToken: http.StatusUnauthorized, auth.CodeInvalidToken: http.StatusUnauthorized, auth.CodeExpiredToken: http.StatusUnauthorized,
		auth.CodeRateLimited: http.StatusTooManyRequests, auth.CodeServiceUnavailable: http.StatusServiceUnavailable,
	}[code], http.StatusUnauthorized)
}
