package state

import (
	"encoding/json"
	"time"
)

// Expiry is when a backup may go, as retention recorded it when it was made.
type Expiry struct {
	BackupID   string    `json:"backup_id"`
	ExpiresAt  time.Time `json:"expires_at"`
	ScheduleID string    `json:"schedule_id,omitempty"`
}

// Verification is what is known of a backup's soundness. The words in State are the caller's.
type Verification struct {
	BackupID string          `json:"backup_id"`
	State    string          `json:"state"`
	At       time.Time       `json:"at"`
	Report   json.RawMessage `json:"report,omitempty"`
}

var (
	expiryKind       = kind[Expiry]{bucket: "expiries", name: "expiry", version: 1}
	verificationKind = kind[Verification]{bucket: "verifications", name: "verification", version: 1}
)

func (e *Expiry) check() error {
	var l limits
	l.id("backup_id", e.BackupID)
	l.texts("schedule_id", e.ScheduleID)
	l.times(&e.ExpiresAt)
	return l.err
}

func (v *Verification) check() error {
	var l limits
	l.id("backup_id", v.BackupID)
	l.texts("state", v.State)
	l.times(&v.At)
	l.document("report", &v.Report)
	return l.err
}

// PutExpiry writes when a backup may go.
func (tx *Tx) PutExpiry(e Expiry) error {
	if err := e.check(); err != nil {
		return err
	}
	return store(tx, expiryKind, []byte(e.BackupID), &e)
}

// Expiry reads when a backup may go; ErrNotFound.
func (tx *Tx) Expiry(backupID string) (Expiry, error) {
	e, err := load(tx, expiryKind, []byte(backupID))
	if err != nil {
		return Expiry{}, err
	}
	return *e, nil
}

// Expiries lists all of them by backup.
func (tx *Tx) Expiries() ([]Expiry, error) { return all(tx, expiryKind) }

// DeleteExpiry takes back when a backup may go; nothing there is no error.
func (tx *Tx) DeleteExpiry(backupID string) error {
	return tx.remove(expiryKind.bucket, []byte(backupID))
}

// PutVerification writes what is known of a backup's soundness.
func (tx *Tx) PutVerification(v Verification) error {
	if err := v.check(); err != nil {
		return err
	}
	return store(tx, verificationKind, []byte(v.BackupID), &v)
}

// Verification reads what is known of a backup's soundness; ErrNotFound.
func (tx *Tx) Verification(backupID string) (Verification, error) {
	v, err := load(tx, verificationKind, []byte(backupID))
	if err != nil {
		return Verification{}, err
	}
	return *v, nil
}

// DeleteVerification forgets it; nothing there is no error.
func (tx *Tx) DeleteVerification(backupID string) error {
	return tx.remove(verificationKind.bucket, []byte(backupID))
}

// PutExpiry writes when a backup may go.
func (db *DB) PutExpiry(e Expiry) error {
	return db.Update(func(tx *Tx) error { return tx.PutExpiry(e) })
}

// Expiry reads when a backup may go; ErrNotFound.
func (db *DB) Expiry(backupID string) (Expiry, error) {
	return view(db, func(tx *Tx) (Expiry, error) { return tx.Expiry(backupID) })
}

// Expiries lists all of them by backup.
func (db *DB) Expiries() ([]Expiry, error) { return view(db, (*Tx).Expiries) }

// DeleteExpiry takes back when a backup may go; nothing there is no error.
func (db *DB) DeleteExpiry(backupID string) error {
	return db.Update(func(tx *Tx) error { return tx.DeleteExpiry(backupID) })
}

// PutVerification writes what is known of a backup's soundness.
func (db *DB) PutVerification(v Verification) error {
	return db.Update(func(tx *Tx) error { return tx.PutVerification(v) })
}

// Verification reads what is known of a backup's soundness; ErrNotFound.
func (db *DB) Verification(backupID string) (Verification, error) {
	return view(db, func(tx *Tx) (Verification, error) { return tx.Verification(backupID) })
}

// DeleteVerification forgets it; nothing there is no error.
func (db *DB) DeleteVerification(backupID string) error {
	return db.Update(func(tx *Tx) error { return tx.DeleteVerification(backupID) })
}
