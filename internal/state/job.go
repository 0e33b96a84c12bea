package state

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"
)

// Job is one piece of work and what became of it. The words in State, Kind and
// ErrorCode are the caller's.
type Job struct {
	ID         string `json:"id"`
	Kind       string `json:"kind,omitempty"`
	State      string `json:"state,omitempty"`
	BackupID   string `json:"backup_id,omitempty"`
	Target     string `json:"target,omitempty"`
	ScheduleID string `json:"schedule_id,omitempty"`
	Actor      string `json:"actor,omitempty"`
	RequestID  string `json:"request_id,omitempty"`

	CreatedAt  time.Time `json:"created_at"` // orders the listing; between 1970 and 2262
	StartedAt  time.Time `json:"started_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"` // set: over for good, and free to be pruned

	Attempts     int    `json:"attempts,omitempty"`
	ErrorCode    string `json:"error_code,omitempty"`
	ErrorMessage string `json:"error_message,omitempty"`

	Request json.RawMessage `json:"request,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
}

var jobKind = kind[Job]{bucket: "jobs", name: "job", version: 1}

// jobTimes has an entry for each job: its CreatedAt as nanoseconds since 1970, 8 bytes big endian, and its id, with a
// summary as value.
const jobTimes = "jobs by time"

// pruneStep is how many records one transaction removes, so that others get their turn.
const pruneStep = 256

func (l *limits) created(t time.Time) {
	if y := t.Year(); y < 1970 || y > 2261 {
		l.refuse("created in the year %d", y)
	}
}

func (j *Job) check() error {
	var l limits
	l.id("id", j.ID)
	l.texts("kind", j.Kind, "state", j.State, "backup_id", j.BackupID, "target", j.Target, "schedule_id", j.ScheduleID,
		"actor", j.Actor, "request_id", j.RequestID, "error_code", j.ErrorCode)
	l.text("error_message", j.ErrorMessage, MaxMessage)
	l.created(j.CreatedAt)
	l.times(&j.CreatedAt, &j.StartedAt, &j.FinishedAt)
	if j.Attempts < 0 || j.Attempts > 1<<30 {
		l.refuse("%d attempts", j.Attempts)
	}
	l.document("request", &j.Request)
	l.document("result", &j.Result)
	return l.err
}

// PutJob writes a job, new or changed.
func (tx *Tx) PutJob(j Job) error {
	if err := j.check(); err != nil {
		return err
	}
	key := []byte(j.ID)
	old, err := load(tx, jobKind, key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if old != nil && !old.CreatedAt.Equal(j.CreatedAt) {
		if err := tx.remove(jobTimes, timeKey(old.CreatedAt, key)); err != nil {
			return err
		}
	}
	if err := tx.put(jobTimes, timeKey(j.CreatedAt, key), j.summary()); err != nil {
		return err
	}
	return store(tx, jobKind, key, &j)
}

// Job reads one job; ErrNotFound.
func (tx *Tx) Job(id string) (Job, error) {
	j, err := load(tx, jobKind, []byte(id))
	if err != nil {
		return Job{}, err
	}
	return *j, nil
}

// Jobs lists jobs for which filter is true (nil: all), newest first by CreatedAt
// and then by id, leaving out the first offset of them and giving limit at most
// (0 or less: all). total is how many there are.
//
// filter sees ID, Kind, State, BackupID, Target, ScheduleID, Actor, ErrorCode,
// Attempts and the times, the rest is empty. It must not keep the job and must
// not call the DB.
func (tx *Tx) Jobs(filter func(*Job) bool, offset, limit int) (jobs []Job, total int, err error) {
	var head Job
	err = tx.walk(jobTimes, true, nil, func(entry, value []byte) (bool, error) {
		wanted := total >= offset && (limit <= 0 || len(jobs) < limit)
		if filter != nil {
			if err := readSummary(entry, value, &head); err != nil {
				return false, tx.damage(err)
			}
			if !filter(&head) {
				return true, nil
			}
		}
		total++
		if !wanted {
			return true, nil
		}
		j, err := load(tx, jobKind, entry[min(8, len(entry)):])
		if errors.Is(err, ErrNotFound) {
			err = tx.damage(damaged("%s: %q leads to no job", jobTimes, entry))
		}
		if err == nil {
			jobs = append(jobs, *j)
		}
		return err == nil, err
	})
	if err != nil {
		return nil, 0, err
	}
	return jobs, total, nil
}

// DeleteJob forgets a job; ErrNotFound.
func (tx *Tx) DeleteJob(id string) error {
	key := []byte(id)
	j, err := load(tx, jobKind, key)
	if err != nil {
		return err
	}
	if err := tx.remove(jobTimes, timeKey(j.CreatedAt, key)); err != nil {
		return err
	}
	return tx.remove(jobKind.bucket, key)
}

// PutJob writes a job, new or changed.
func (db *DB) PutJob(j Job) error { return db.Update(func(tx *Tx) error { return tx.PutJob(j) }) }

// Job reads one job; ErrNotFound.
func (db *DB) Job(id string) (Job, error) {
	return view(db, func(tx *Tx) (Job, error) { return tx.Job(id) })
}

// Jobs lists jobs as [Tx.Jobs] does.
func (db *DB) Jobs(filter func(*Job) bool, offset, limit int) (jobs []Job, total int, err error) {
	err = db.View(func(tx *Tx) error {
		jobs, total, err = tx.Jobs(filter, offset, limit)
		return err
	})
	return jobs, total, err
}

// DeleteJob forgets a job; ErrNotFound.
func (db *DB) DeleteJob(id string) error {
	return db.Update(func(tx *Tx) error { return tx.DeleteJob(id) })
}

// PruneJobs forgets jobs that finished before a time, but none of the newest keep
// jobs, none that has not finished and none that spare names (nil: none). It works
// in small transactions and says how many went, also when an error ends it.
func (db *DB) PruneJobs(before time.Time, keep int, spare func(id string) bool) (pruned int, err error) {
	var from []byte
	for done := false; !done; {
		var ids []string
		err := db.View(func(tx *Tx) error {
			_, total, err := tx.Jobs(nil, 0, 1)
			if err != nil {
				return err
			}
			// How many stand from the cursor on is not known, so count the old ones from the oldest.
			old, at := total-keep, 0
			done = true
			var j Job
			return tx.walk(jobTimes, false, nil, func(entry, value []byte) (bool, error) {
				if at++; at > old {
					return false, nil
				}
				if from != nil && string(entry) <= string(from) {
					return true, nil
				}
				if len(entry) > 8 && binary.BigEndian.Uint64(entry) > uint64(max(0, before.UnixNano())) {
					return false, nil // made after that time, and so finished after it
				}
				if len(ids) == pruneStep {
					done = false
					return false, nil
				}
				from = append(from[:0], entry...)
				err := readSummary(entry, value, &j)
				if err == nil && !j.FinishedAt.IsZero() && j.FinishedAt.Before(before) && (spare == nil || !spare(j.ID)) {
					ids = append(ids, j.ID)
				}
				return err == nil, tx.damage(err)
			})
		})
		if err != nil {
			return pruned, err
		}
		if len(ids) == 0 {
			continue
		}
		n := 0
		err = db.Update(func(tx *Tx) error {
			for _, id := range ids {
				j, err := tx.Job(id)
				if errors.Is(err, ErrNotFound) || err == nil && j.FinishedAt.IsZero() {
					continue // somebody was here in between
				}
				if err == nil {
					err = tx.DeleteJob(id)
				}
				if err != nil {
					return err
				}
				n++
			}
			return nil
		})
		if err != nil {
			return pruned, err
		}
		pruned += n
	}
	return pruned, nil
}

// view reads one thing in a transaction of its own.
func view[T any](db *DB, read func(*Tx) (T, error)) (value T, err error) {
	err = db.View(func(tx *Tx) error {
		value, err = read(tx)
		return err
	})
	return value, err
}
