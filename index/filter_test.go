package index

import (
	"encoding/binary"
	"testing"

	"github.com/generalbots/backupd/crypto"
)

// filterID spreads numbers as ids are spread.
func filterID(n uint64) (id crypto.ID) {
	for i := range 4 {
		n = n*0xd1342543de82ef95 + 0x2545f4914f6cdd1d
		binary.BigEndian.PutUint64(id[8*i:], n^n>>29)
	}
	return id
}

func TestFilter_NeverForgetsAndSeldomErrs(t *testing.T) {
	f := &filter{left: filterRoom}
	if id := filterID(1); f.may(&id) {
		t.Error("an empty filter says that an id may be in it")
	}
	for n := range uint64(filterRoom) {
		if id := filterID(n); !f.add(&id) {
			t.Fatalf("no room for id %d of %d", n, filterRoom)
		}
	}
	for n := range uint64(filterRoom) {
		if id := filterID(n); !f.may(&id) {
			t.Fatalf("id %d is forgotten", n)
		}
	}
	wrong := 0
	for n := range uint64(100_000) {
		if id := filterID(1<<40 + n); f.may(&id) {
			wrong++
		}
	}
	if wrong > 3000 {
		t.Errorf("a full filter says of %d in 100,000 strangers that they may be in it, want 3,000 at most", wrong)
	}
	if id := filterID(1 << 41); f.add(&id) {
		t.Error("a full filter takes one more")
	}
}
