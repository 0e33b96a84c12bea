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

// filterRoom is how many ids a filter takes.
const filterRoom = filterFirst * (1<<filterStages - 1) * 512 / 10

func TestFilter_NeverForgetsAndSeldomErrs(t *testing.T) {
	f := new(filter)
	if id := filterID(1); f.may(&id) {
		t.Error("an empty filter says that an id may be in it")
	}
	strangers := func(most int) {
		wrong := 0
		for n := range uint64(100_000) {
			if id := filterID(1<<40 + n); f.may(&id) {
				wrong++
			}
		}
		if wrong > most {
			t.Errorf("with %d stages a filter says of %d in 100,000 strangers that they may be in it, want %d at most", len(f.stages), wrong, most)
		}
	}
	full := uint64(0)
	for ; ; full++ {
		if full == uint64(stageRoom(filterFirst)) {
			strangers(3000)
		}
		if id := filterID(full); !f.add(&id) {
			break
		}
	}
	// A few seem to be there already and take no room.
	if full < filterRoom-filterStages || full > filterRoom*11/10 {
		t.Errorf("%d ids fit, want %d and up to a tenth more", full, filterRoom)
	}
	for n := range full {
		if id := filterID(n); !f.may(&id) {
			t.Fatalf("id %d is forgotten", n)
		}
	}
	strangers(4000)
	for n := range uint64(100) {
		if id := filterID(1<<41 + n); !f.may(&id) && f.add(&id) {
			t.Fatal("a full filter takes one more")
		}
	}
	if id := filterID(7); !f.add(&id) {
		t.Error("a full filter refuses what it has")
	}
}

func TestFilter_TakesMemoryAsItFills(t *testing.T) {
	f := new(filter)
	for _, c := range []struct{ ids, lines int }{{1, filterFirst}, {800_000, filterFirst}, {900_000, 3 * filterFirst}} {
		for n := range uint64(c.ids) {
			if id := filterID(n); !f.add(&id) {
				t.Fatalf("no room for id %d of %d", n, c.ids)
			}
		}
		lines := 0
		for _, stage := range f.stages {
			lines += len(stage)
		}
		if lines != c.lines {
			t.Errorf("%d ids take %d lines, want %d", c.ids, lines, c.lines)
		}
		f = new(filter)
	}
}
