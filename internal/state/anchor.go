package state

import "errors"

// Anchor is the end of a log that lies beside the state file. It stands in the file as it was when the last
// transaction committed: whatever that wrote, the log can not lose the record that was made before it unseen.
type Anchor struct {
	Records uint64 `json:"records"`
	MAC     string `json:"mac"` // of the last of them
}

// It lies in the bucket about, where a program that knows nothing of it leaves it alone.
var (
	anchorKind = kind[Anchor]{bucket: bucketAbout, name: "anchor", version: 1}
	anchorKey  = []byte("anchor")
)

func (a *Anchor) check() error {
	var l limits
	l.texts("mac", a.MAC)
	return l.err
}

// Follow has every transaction from now on write what end returns when it is about to commit. end is called by
// whoever writes and must not call the DB.
func (db *DB) Follow(end func() Anchor) {
	db.write.Lock()
	defer db.write.Unlock()
	db.end = end
}

// Anchor reads it; ErrNotFound where nothing was ever followed.
func (db *DB) Anchor() (Anchor, error) {
	return view(db, (*Tx).followed)
}

// followed looks the anchor up. Where there is none, none of the other keys may be one that
// damage made of its key: without the anchor a log could lose its end unseen.
func (tx *Tx) followed() (Anchor, error) {
	a, err := load(tx, anchorKind, anchorKey)
	if err == nil {
		return *a, nil
	}
	if errors.Is(err, ErrNotFound) {
		walked := tx.walk(bucketAbout, false, nil, func(key, _ []byte) (bool, error) {
			switch string(key) {
			case aboutSchema, aboutRepository, aboutClosed:
				return true, nil
			}
			return false, tx.damage(damaged("%q stands where the anchor should", key))
		})
		if walked != nil {
			err = walked
		}
	}
	return Anchor{}, err
}

// anchor writes where the log ends now.
func (tx *Tx) anchor() error {
	if tx.db.end == nil {
		return nil
	}
	a := tx.db.end()
	if err := a.check(); err != nil {
		return err
	}
	return store(tx, anchorKind, anchorKey, &a)
}
