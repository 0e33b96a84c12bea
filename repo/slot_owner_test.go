package repo

import (
	"testing"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

func TestRemoveKey_DoesNotCountASlotOfAnotherRepository(t *testing.T) {
	one, two := store.NewMem(), store.NewMem()
	for _, st := range []store.Store{one, two} {
		initTestRepo(t, st, MinPackSize)
	}
	foreign, err := two.List(t.Context(), slotDir)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := readObject(t.Context(), two, foreign[0].Name, MaxSlotSize, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeObject(t.Context(), one, foreign[0].Name, raw); err != nil {
		t.Fatal(err)
	}
	r := openTestRepo(t, one, Options{})
	defer r.Close()
	keys, err := r.Keys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Errorf("got %d key slots, %v; one is of another repository", len(keys), err)
	}
	if err := r.RemoveKey(t.Context(), slotName(r.Slot().ID)[len(slotDir)+1:]); err == nil {
		t.Error("the last slot that opens the repository was removed")
	}
	if _, err := Open(t.Context(), one, []crypto.Credential{testKey}, Options{}); err != nil {
		t.Errorf("the repository can not be opened any more: %v", err)
	}
}
