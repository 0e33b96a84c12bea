package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/generalbots/backupd/internal/job"
	"github.com/generalbots/backupd/internal/state"
)

// answersLast is how long an Idempotency-Key is remembered.
const answersLast = 24 * time.Hour

// change is a change on its way: it is audited before it is made, and made once for
// each Idempotency-Key of its principal.
//
//	transaction: key reserved ─► audit record durable ─► job written ─► commit
//
// Whatever fails, and whenever the process dies, there is no change without its
// record; a record without its change is followed by one that says so, unless the
// process died just there.
type change struct {
	c       *call
	action  string
	key     string // "" when the client gave none
	answer  state.Answer
	audited bool
	about   string // what the record is about
}

// replay is what ended a change: it was made before.
type replay struct{ old state.Answer }

// Error says so.
func (r *replay) Error() string { return "the request was answered before" }

var errKeyUsed = &requestError{
	status: http.StatusConflict, code: "conflict", field: "Idempotency-Key",
	message: "Idempotency-Key was used for another request within the last 24 hours; use a new one",
}

// change begins a change. request is what it was asked with, decoded.
func (c *call) change(action string, status int, request any) (*change, error) {
	ch := &change{c: c, action: action}
	keys := c.r.Header.Values("Idempotency-Key")
	if len(keys) == 0 || c.r.Method != http.MethodPost {
		return ch, nil
	}
	if len(keys) > 1 || keys[0] == "" || len(keys[0]) > maxWord || !printable(keys[0]) {
		return nil, invalid("Idempotency-Key", fmt.Sprintf("has to stand once, with 1 to %d printable ASCII characters", maxWord))
	}
	ch.key = keys[0]
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errBug, err)
	}
	// What a request is, is its path and what its body means, not how that is
	// spelled. How long the client wants to wait is not part of it.
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %s", c.r.URL.Path, body)
	ch.answer = state.Answer{
		Principal: principal(c), Method: c.r.Method, Path: c.route.pattern, BodyHash: hex.EncodeToString(sum.Sum(nil)), Status: status,
	}
	return ch, nil
}

// principal is the owner of keys, short enough to be one of state's.
func principal(c *call) string {
	name := c.who.String()
	if len(name) > maxWord {
		sum := sha256.Sum256([]byte(name))
		return c.who.Method + ":sha256:" + hex.EncodeToString(sum[:])
	}
	return name
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// earlier finds out whether the change was made before: a *replay, errKeyUsed, or
// nil when not.
func (ch *change) earlier() error {
	if ch.key == "" {
		return nil
	}
	old, err := ch.c.s.o.State.Answer(ch.answer.Principal, ch.key)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return ch.compare(&old)
}

// compare judges what is kept under the key. What is past its time counts for
// nothing, also when nobody has dropped it yet.
func (ch *change) compare(old *state.Answer) error {
	switch {
	case time.Since(old.CreatedAt) >= answersLast:
		return nil
	case old.Method != ch.answer.Method || old.Path != ch.answer.Path || old.BodyHash != ch.answer.BodyHash:
		return errKeyUsed
	}
	return &replay{*old}
}

// by is who asks, with what has to be written down together with the change.
func (ch *change) by() job.By {
	return job.By{Actor: ch.c.who.String(), RequestID: ch.c.id, Also: func(tx *state.Tx, made job.Job) error {
		if ch.key != "" {
			ch.answer.Resource, ch.answer.CreatedAt = made.ID, time.Now()
			old, err := tx.Reserve(ch.key, ch.answer)
			if err != nil {
				return err
			}
			if old != nil {
				if err := ch.compare(old); err != nil {
					return err
				}
				if err := tx.PutAnswer(ch.key, ch.answer); err != nil {
					return err
				}
			}
		}
		return ch.allow(made.ID)
	}}
}

// allow audits the change, which is about to be made. After an error it must not be.
func (ch *change) allow(resource string) error {
	r := ch.c.record(ch.action, resource)
	r.Outcome = "allowed"
	if err := ch.c.s.o.Audit.Append(r); err != nil {
		return fmt.Errorf("nothing was done, as it could not be audited: %w", err)
	}
	ch.audited, ch.about = true, resource
	return nil
}

// ended audits that a change that was allowed has come to nothing.
func (ch *change) ended(err error) {
	if err == nil || !ch.audited {
		return
	}
	r := ch.c.record(ch.action, ch.about)
	r.Outcome = problemOf(err).code
	if failed := ch.c.s.o.Audit.Append(r); failed != nil {
		ch.c.s.log.Error("that a change came to nothing could not be audited", "request_id", ch.c.id, "error", failed)
	}
}

// post makes a change that makes something, once for each key, and answers with
// what it made as it is now. show is given its id, which stands in at for %s: where
// it is found from now on.
func (c *call) post(action string, status int, at string, request any, make func(job.By) (id string, err error), show func(id string) (any, error)) (answer, error) {
	ch, err := c.change(action, status, request)
	if err != nil {
		return answer{}, err
	}
	var id string
	if err = ch.earlier(); err == nil {
		if id, err = make(ch.by()); err != nil {
			ch.ended(err)
			// The same request may have been in front of this one, and be what is
			// in its way.
			if before := ch.earlier(); before != nil {
				err = before
			}
		}
	}
	var again *replay
	switch {
	case errors.As(err, &again):
		c.w.Header().Set("Idempotent-Replayed", "true")
		id, status = again.old.Resource, again.old.Status
	case err != nil:
		return answer{}, err
	}
	body, err := show(id)
	// What another call has just made durable is known to all a moment later.
	for again != nil && errors.Is(err, job.ErrNotFound) && time.Since(again.old.CreatedAt) < settled {
		time.Sleep(settled / 200)
		body, err = show(id)
	}
	if err != nil {
		return answer{}, err
	}
	c.w.Header().Set("Location", fmt.Sprintf(base+at, id))
	return answer{status, body}, nil
}

// settled is how old a change is at most that is durable and not shown yet.
const settled = time.Second

// alter makes a change that no key can repeat.
func (c *call) alter(action, resource string, do func() error) error {
	ch, err := c.change(action, 0, nil)
	if err != nil {
		return err
	}
	if err := ch.allow(resource); err != nil {
		return err
	}
	err = do()
	ch.ended(err)
	return err
}
