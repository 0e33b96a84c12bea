package state_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/generalbots/backupd/internal/state"
)

// The end of a log is in the file exactly when the transaction is that it was announced in.
func TestFollow_AnchorsWithTheTransaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := openAt(t, path)
	if _, err := db.Anchor(); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("got error %v, want ErrNotFound", err)
	}
	end := state.Anchor{}
	db.Follow(func() state.Anchor { return end })
	put := func(id string, then error) error {
		return db.Update(func(tx *state.Tx) error {
			end.Records++ // as a record of what is about to be done
			end.MAC = id
			return errors.Join(tx.PutSchedule(state.Schedule{ID: id}), then)
		})
	}
	must(t, put("one", nil))
	broken := errors.New("undone")
	if err := put("two", broken); !errors.Is(err, broken) {
		t.Errorf("got error %v", err)
	}
	if got, err := db.Anchor(); err != nil || got != (state.Anchor{Records: 1, MAC: "one"}) {
		t.Errorf("after one was done and one undone: got %+v, %v", got, err)
	}
	must(t, put("three", nil))
	must(t, db.Check(t.Context()))
	must(t, db.Close())
	db = openAt(t, path)
	if got, err := db.Anchor(); err != nil || got != (state.Anchor{Records: 3, MAC: "three"}) {
		t.Errorf("opened again: got %+v, %v", got, err)
	}
	must(t, db.PutSchedule(state.Schedule{ID: "four"})) // by somebody who follows nothing
	if got, err := db.Anchor(); err != nil || got.Records != 3 {
		t.Errorf("it is forgotten: got %+v, %v", got, err)
	}
	must(t, db.Close())
}
