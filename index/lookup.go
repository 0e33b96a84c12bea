package index

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/dgraph-io/badger/v4"

	"github.com/generalbots/backupd/crypto"
)

// Lookup returns the place of a chunk, and whether there is one. Not found, too, is an entry whose
// pack has no record, and one that does not verify. An error is an *UnusableError: the index is of
// no more use until it is opened again.
func (x *Index) Lookup(id crypto.ID) (Place, bool, error) {
	s := x.scratches.Get().(*scratch)
	defer x.scratches.Put(s)
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return Place{}, false, closedError(x.dir)
	}
	if !x.mayHave(&id) {
		x.misses.add(&id)
		return Place{}, false, nil
	}
	p, ok, err := x.find(s, &id)
	if !ok && err == nil {
		x.misses.add(&id)
	}
	return p, ok, err
}

// mayHave tells what the filter says of an id, which is nothing where there is none. It needs mu or write.
func (x *Index) mayHave(id *crypto.ID) bool { return x.all == nil || x.all.may(id) }

// find needs mu. It leaves the key of id in s.key, and the value it found, believed or not, in s.value.
func (x *Index) find(s *scratch, id *crypto.ID) (p Place, ok bool, err error) {
	// A block that changed on disk after it was verified can panic in Badger, and a disk that does not
	// answer is a fault in its memory map.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			x.doubt("look-up panicked", r)
			p, ok, err = Place{}, false, damaged(x.dir, "look-up: %v", r)
		}
	}()
	putChunkKey(s.key[:], id)
	s.value = s.value[:0]
	item, err := x.view.Get(s.key[:])
	if errors.Is(err, badger.ErrKeyNotFound) {
		return Place{}, false, nil
	}
	if err == nil {
		s.value, err = item.ValueCopy(s.value)
	}
	if err != nil {
		x.doubt("look-up failed", err)
		return Place{}, false, damaged(x.dir, "look-up: %v", err)
	}
	number, ok := entryNumber(s.value)
	if !ok {
		x.doubt("entry has a wrong size", len(s.value))
		return Place{}, false, nil
	}
	pack, ok := x.packs[number]
	if !ok {
		return Place{}, false, nil
	}
	p, ok = s.openEntry(s.value, id, pack)
	if !ok {
		x.doubt("entry does not verify", id)
	}
	return p, ok, nil
}

// load reads the records and the counter. It runs before the index is handed out.
func (x *Index) load() (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damaged(x.dir, "reading the packs: %v", r)
		}
	}()
	s := x.codec.newScratch()
	item, err := x.view.Get([]byte{nextPrefix})
	switch {
	case errors.Is(err, badger.ErrKeyNotFound):
		x.next = 1
	case err != nil:
		return damaged(x.dir, "reading the counter: %v", err)
	default:
		if x.next, err = readNumber(s, item); err != nil {
			return damaged(x.dir, "reading the counter: %v", err)
		}
	}

	it := x.view.NewIterator(badger.IteratorOptions{Prefix: []byte{packPrefix}})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		number, err := readNumber(s, item)
		if err != nil || len(item.Key()) != packKeySize || number >= x.next {
			return damaged(x.dir, "a pack record does not verify")
		}
		pack := crypto.PackID(item.Key()[1:])
		if _, twice := x.packs[number]; twice {
			return damaged(x.dir, "two packs have the number %d", number)
		}
		x.numbers[pack] = number
		x.packs[number] = pack
	}
	return nil
}

func readNumber(s *scratch, item *badger.Item) (uint32, error) {
	var err error
	if s.value, err = item.ValueCopy(s.value[:0]); err != nil {
		return 0, err
	}
	number, ok := s.openNumber(item.Key(), s.value)
	if !ok {
		return 0, fmt.Errorf("a number does not verify")
	}
	return number, nil
}
