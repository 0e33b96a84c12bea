package state

import (
	"errors"
	"time"
)

// Answer is what a request with an Idempotency-Key was, and what was answered to
// it. Keys belong to a principal: what one sent, another can not ask for.
type Answer struct {
	Principal string `json:"principal"`
	Method    string `json:"method,omitempty"`
	Path      string `json:"path,omitempty"`
	BodyHash  string `json:"body_hash,omitempty"`
	Status    int    `json:"status,omitempty"` // 0 while the request is being worked on
	Body      []byte `json:"body,omitempty"`
	Resource  string `json:"resource,omitempty"` // id of what it made

	CreatedAt time.Time `json:"created_at"` // between 1970 and 2262
}

var answerKind = kind[Answer]{bucket: "answers", name: "answer", version: 1}

const answerTimes = "answers by time"

// answerKey is principal, 0, key: neither holds a zero byte.
func answerKey(principal, key string) []byte { return []byte(principal + "\x00" + key) }

func (a *Answer) check(key string) error {
	var l limits
	l.id("idempotency key", key)
	l.id("principal", a.Principal)
	l.texts("method", a.Method, "body_hash", a.BodyHash, "resource", a.Resource)
	l.text("path", a.Path, MaxMessage)
	if len(a.Body) > MaxDocument {
		l.refuse("body has %d bytes, more than %d", len(a.Body), MaxDocument)
	}
	if len(a.Body) == 0 {
		a.Body = nil
	}
	l.created(a.CreatedAt)
	l.times(&a.CreatedAt)
	return l.err
}

// Reserve writes an answer under a key its principal has not used, and returns
// nil; or returns what is under it and writes nothing. In one transaction with
// the job it stands for, both are there after a crash or neither.
func (tx *Tx) Reserve(key string, a Answer) (old *Answer, err error) {
	if err := a.check(key); err != nil {
		return nil, err
	}
	old, err = load(tx, answerKind, answerKey(a.Principal, key))
	if !errors.Is(err, ErrNotFound) {
		return old, err
	}
	return nil, tx.PutAnswer(key, a)
}

// PutAnswer writes an answer, new or in place of a reservation.
func (tx *Tx) PutAnswer(key string, a Answer) error {
	if err := a.check(key); err != nil {
		return err
	}
	k := answerKey(a.Principal, key)
	old, err := load(tx, answerKind, k)
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return err
	default:
		if err := tx.remove(answerTimes, timeKey(old.CreatedAt, k)); err != nil {
			return err
		}
	}
	if err := tx.put(answerTimes, timeKey(a.CreatedAt, k), nil); err != nil {
		return err
	}
	return store(tx, answerKind, k, &a)
}

// Answer reads what a principal was answered; ErrNotFound.
func (tx *Tx) Answer(principal, key string) (Answer, error) {
	a, err := load(tx, answerKind, answerKey(principal, key))
	if err != nil {
		return Answer{}, err
	}
	return *a, nil
}

// DeleteAnswer gives up a key, so that a request that came to nothing can be
// sent again; ErrNotFound.
func (tx *Tx) DeleteAnswer(principal, key string) error {
	k := answerKey(principal, key)
	a, err := load(tx, answerKind, k)
	if err != nil {
		return err
	}
	if err := tx.remove(answerTimes, timeKey(a.CreatedAt, k)); err != nil {
		return err
	}
	return tx.remove(answerKind.bucket, k)
}

// Reserve is [Tx.Reserve] in a transaction of its own.
func (db *DB) Reserve(key string, a Answer) (old *Answer, err error) {
	err = db.Update(func(tx *Tx) (err error) {
		old, err = tx.Reserve(key, a)
		return err
	})
	if err != nil {
		return nil, err
	}
	return old, nil
}

// PutAnswer writes an answer, new or in place of a reservation.
func (db *DB) PutAnswer(key string, a Answer) error {
	return db.Update(func(tx *Tx) error { return tx.PutAnswer(key, a) })
}

// Answer reads what a principal was answered; ErrNotFound.
func (db *DB) Answer(principal, key string) (Answer, error) {
	return view(db, func(tx *Tx) (Answer, error) { return tx.Answer(principal, key) })
}

// DeleteAnswer gives up a key; ErrNotFound.
func (db *DB) DeleteAnswer(principal, key string) error {
	return db.Update(func(tx *Tx) error { return tx.DeleteAnswer(principal, key) })
}

// ExpireAnswers forgets the answers made before a time and says how many.
func (db *DB) ExpireAnswers(before time.Time) (expired int, err error) {
	if before.Year() < 1970 {
		return 0, nil
	}
	end := string(timeKey(before, nil))
	if before.Year() > 2261 {
		end = "\xff"
	}
	for n := pruneStep; n == pruneStep; expired += n {
		n = 0
		err = db.Update(func(tx *Tx) error {
			var entries [][]byte
			err := tx.walk(answerTimes, false, nil, func(entry, _ []byte) (bool, error) {
				if string(entry) >= end || len(entries) == pruneStep {
					return false, nil
				}
				entries = append(entries, append([]byte(nil), entry...))
				return true, nil
			})
			if err != nil {
				return err
			}
			for _, entry := range entries {
				if err := tx.remove(answerKind.bucket, entry[min(8, len(entry)):]); err != nil {
					return err
				}
				if err := tx.remove(answerTimes, entry); err != nil {
					return err
				}
			}
			n = len(entries)
			return nil
		})
		if err != nil {
			return expired, err
		}
	}
	return expired, nil
}
