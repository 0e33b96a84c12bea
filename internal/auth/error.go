package auth

import "time"

// The codes of an [Error], as they go to the client.
const (
	CodeMissingToken       = "missing_token"       // no credential at all: 401
	CodeInvalidToken       = "invalid_token"       // not one that lets anybody in: 401
	CodeExpiredToken       = "expired_token"       // genuine, and past its time: 401
	CodeRateLimited        = "rate_limited"        // too many failures before this one: 429
	CodeServiceUnavailable = "service_unavailable" // it can not be told now: 503
)

// Error is why somebody was not let in. Its text is for the client: it holds no
// part of the credential and no detail of the host.
type Error struct {
	Code       string        // one of the constants
	Message    string        // what is wrong and what to do
	RetryAfter time.Duration // when to try again; 0 when waiting does not help
	Reason     error         // for the log of the host only, may be nil
}

// Error is the message for the client.
func (e *Error) Error() string { return e.Message }

// Unwrap is the reason.
func (e *Error) Unwrap() error { return e.Reason }

// failed reports whether the error counts as a failed attempt: the client could
// not say who it is, and it is not our fault.
func (e *Error) failed() bool {
	return e.Code == CodeMissingToken || e.Code == CodeInvalidToken || e.Code == CodeExpiredToken
}

func invalid(message string, reason error) *Error {
	return &Error{Code: CodeInvalidToken, Message: message, Reason: reason}
}

func expired(message string) *Error {
	return &Error{Code: CodeExpiredToken, Message: message}
}

func unavailable(message string, after time.Duration, reason error) *Error {
	return &Error{Code: CodeServiceUnavailable, Message: message, RetryAfter: after, Reason: reason}
}
