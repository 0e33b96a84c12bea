package state

import (
	"errors"
	"time"
)

// Deletion is a backup that somebody deleted. Until it is Done it is hidden but
// still in the repository, where nothing can be written while a backup runs.
type Deletion struct {
	BackupID string    `json:"backup_id"`
	At       time.Time `json:"at"`
	Actor    string    `json:"actor,omitempty"`
	Done     bool      `json:"done,omitempty"`
}

var deletionKind = kind[Deletion]{bucket: "deletions", name: "deletion", version: 1}

func (d *Deletion) check() error {
	var l limits
	l.id("backup_id", d.BackupID)
	l.texts("actor", d.Actor)
	l.times(&d.At)
	return l.err
}

// PutDeletion writes that a backup was deleted.
func (tx *Tx) PutDeletion(d Deletion) error {
	if err := d.check(); err != nil {
		return err
	}
	return store(tx, deletionKind, []byte(d.BackupID), &d)
}

// Deletion reads when and by whom a backup was deleted; ErrNotFound.
func (tx *Tx) Deletion(backupID string) (Deletion, error) {
	d, err := load(tx, deletionKind, []byte(backupID))
	if err != nil {
		return Deletion{}, err
	}
	return *d, nil
}

// Deletions lists all of them by backup.
func (db *DB) Deletions() ([]Deletion, error) {
	return view(db, func(tx *Tx) ([]Deletion, error) { return all(tx, deletionKind) })
}

// PruneDeletions forgets those that are done since before a time and says how
// many.
func (db *DB) PruneDeletions(before time.Time) (pruned int, err error) {
	list, err := db.Deletions()
	if err != nil {
		return 0, err
	}
	var old []string
	for _, d := range list {
		if d.Done && d.At.Before(before) {
			old = append(old, d.BackupID)
		}
	}
	if len(old) == 0 {
		return 0, nil
	}
	err = db.Update(func(tx *Tx) error {
		var errs []error
		for _, id := range old {
			errs = append(errs, tx.remove(deletionKind.bucket, []byte(id)))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return 0, err
	}
	return len(old), nil
}
