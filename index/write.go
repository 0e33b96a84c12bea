package index

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/generalbots/backupd/crypto"
)

const (
	// batchEntries is how many entries go into one transaction: below Badger's limit of count and bytes,
	// which go with the memtable, and enough that one commit for them costs nothing.
	batchEntries = 1024

	maxPackNumber = math.MaxUint32
)

// AddPack adds all the chunks of a pack, which must be durable in the repository. When it returns nil
// they are found; when it fails, or never returns, they are not, and the pack is not in Packs. Where
// a chunk is known already in a recorded pack the copy of lower depth stays, and of two equals the
// old one. Adding a pack again is fine. The entries' own Pack field is not looked at.
//
// Entries go into as many transactions as they need; the record goes into the last.
func (x *Index) AddPack(pack crypto.PackID, entries []Entry) error {
	x.write.Lock()
	defer x.write.Unlock()
	if err := x.writable(); err != nil {
		return err
	}
	number, known := x.numbers[pack] // changed only under write
	if !known {
		if x.next == maxPackNumber {
			return damaged(x.dir, "all pack numbers are used up")
		}
		number = x.next
		x.next++
	}
	b := x.batch
	for _, i := range b.sorted(entries) {
		e := &entries[i]
		if x.mayHave(&e.ID) && !x.misses.has(&e.ID) {
			old, found, err := x.findLocked(b.scratch, &e.ID)
			if err != nil {
				b.abandon()
				return err
			}
			if found && old.Depth <= e.Depth {
				continue
			}
		}
		place := e.Place
		place.Pack = pack
		if err := b.putEntry(number, &e.ID, &place); err != nil {
			return err
		}
	}
	if err := b.putRecord(pack, number); err != nil {
		return err
	}
	if err := b.commit(); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.numbers[pack] = number
	x.packs[number] = pack
	for i := range entries {
		x.misses.drop(&entries[i].ID)
		if x.all != nil && !x.all.add(&entries[i].ID) {
			x.all = nil
		}
	}
	return nil
}

// RemovePack forgets a pack, and of the chunks in ids those that are found in it. The ids may be
// incomplete or nil, as when the pack is gone already: what is left of it is never found, but stays on
// disk until the chunk is added again. It must be called before the pack is deleted.
func (x *Index) RemovePack(pack crypto.PackID, ids []crypto.ID) error {
	x.write.Lock()
	defer x.write.Unlock()
	if err := x.writable(); err != nil {
		return err
	}
	number, known := x.numbers[pack]
	if !known {
		return nil
	}
	// From here the pack is not found any more, whatever happens to the writes. Should the record
	// outlive them, it is in Packs after the next Open, and the owner removes it again.
	x.mu.Lock()
	delete(x.numbers, pack)
	delete(x.packs, number)
	x.mu.Unlock()
	b := x.batch
	if err := b.deleteRecord(pack); err != nil {
		return err
	}
	if err := b.commit(); err != nil {
		return err
	}
	for i := range ids {
		if _, _, err := x.findLocked(b.scratch, &ids[i]); err != nil {
			b.abandon()
			return err
		}
		if n, ok := entryNumber(b.scratch.value); !ok || n != number {
			continue
		}
		if err := b.deleteEntry(&ids[i]); err != nil {
			return err
		}
	}
	return b.commit()
}

// writable needs write.
func (x *Index) writable() error {
	if x.closed { // set only under write
		return closedError(x.dir)
	}
	if x.broken != nil {
		return unavailable(x.dir, x.broken)
	}
	if err := x.lostWrites(); err != nil {
		return err
	}
	if x.batch == nil {
		x.batch = newBatch(x)
	}
	return x.checkSpace(openReserve)
}

func (x *Index) findLocked(s *scratch, id *crypto.ID) (Place, bool, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.find(s, id)
}

// batch gathers writes into transactions. Its memory is used again for each: Badger keeps references
// only until a commit returns. The holder of Index.write owns it.
type batch struct {
	x       *Index
	scratch *scratch
	txn     *badger.Txn // nil: none begun
	used    int         // of the arrays below
	entries []badger.Entry
	keys    [][chunkKeySize]byte
	values  [][entrySize]byte
	order   []int32
}

func newBatch(x *Index) *batch {
	return &batch{
		x:       x,
		scratch: x.codec.newScratch(),
		entries: make([]badger.Entry, batchEntries),
		keys:    make([][chunkKeySize]byte, batchEntries),
		values:  make([][entrySize]byte, batchEntries),
	}
}

// sorted gives the order to add entries in: by id, each id once with its lowest depth. (What stands in
// the open transaction is not found by a look-up, so duplicates must not get there.)
func (b *batch) sorted(entries []Entry) []int32 {
	b.order = b.order[:0]
	for i := range entries {
		b.order = append(b.order, int32(i))
	}
	slices.SortFunc(b.order, func(i, j int32) int {
		e, f := &entries[i], &entries[j]
		if c := bytes.Compare(e.ID[:], f.ID[:]); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(e.Depth, f.Depth), cmp.Compare(i, j))
	})
	b.order = slices.CompactFunc(b.order, func(i, j int32) bool { return entries[i].ID == entries[j].ID })
	return b.order
}

func (b *batch) putEntry(number uint32, id *crypto.ID, p *Place) error {
	key, value, err := b.slot()
	if err != nil {
		return err
	}
	putChunkKey(key, id)
	b.scratch.putEntry(value[:entrySize], number, id, p)
	return b.set(key, value[:entrySize])
}

func (b *batch) putRecord(pack crypto.PackID, number uint32) error {
	key, value, err := b.slot()
	if err != nil {
		return err
	}
	key[0] = packPrefix
	copy(key[1:], pack[:])
	b.scratch.putNumber(value, key, number)
	return b.set(key, value[:recordSize])
}

func (b *batch) deleteRecord(pack crypto.PackID) error {
	key, _, err := b.slot()
	if err != nil {
		return err
	}
	key[0] = packPrefix
	copy(key[1:], pack[:])
	return b.check(b.txn.Delete(key))
}

func (b *batch) deleteEntry(id *crypto.ID) error {
	key, _, err := b.slot()
	if err != nil {
		return err
	}
	putChunkKey(key, id)
	return b.check(b.txn.Delete(key))
}

// slot gives room for a key and a value, and sees to it that a transaction is open for them. One is
// committed when it is full. Each begins with the counter, so that the newest version of all is
// never one of a deleted key, which a compaction drops: verify.go and Badger's own counting after
// Open both take the newest version they see for the newest there was.
func (b *batch) slot() (key, value []byte, err error) {
	if b.used == batchEntries {
		if err := b.commit(); err != nil {
			return nil, nil, err
		}
	}
	if b.txn == nil {
		b.txn = b.x.db.NewTransactionAt(math.MaxUint64, true)
		key, value := b.take()
		key[0] = nextPrefix
		b.scratch.putNumber(value, key[:1], b.x.next)
		if err := b.set(key[:1], value[:recordSize]); err != nil {
			return nil, nil, err
		}
	}
	key, value = b.take()
	return key, value, nil
}

func (b *batch) take() (key, value []byte) {
	key, value = b.keys[b.used][:], b.values[b.used][:]
	b.used++
	return key, value
}

func (b *batch) set(key, value []byte) error {
	e := &b.entries[b.used-1]
	*e = badger.Entry{Key: key, Value: value}
	return b.check(b.txn.SetEntry(e))
}

// commit writes the open transaction, if there is one, under the next version.
func (b *batch) commit() error {
	if b.txn == nil {
		return nil
	}
	txn := b.txn
	b.txn, b.used = nil, 0
	b.x.version++
	done := make(chan error, 1)
	err := txn.CommitAt(b.x.version, func(err error) { done <- err })
	if err == nil {
		select {
		case err = <-done:
			if err == nil {
				err = b.x.lostWrites()
			}
		case <-b.x.failed:
			// Badger waits for space and may never answer; until it does the arrays are its own.
			b.x.batch = nil
			err = b.x.lostWrites()
		}
	}
	if err := b.check(err); err != nil {
		return err
	}
	b.x.db.SetDiscardTs(b.x.version)
	return nil
}

// abandon drops the open transaction.
func (b *batch) abandon() {
	if b.txn != nil {
		b.txn.Discard()
		b.txn, b.used = nil, 0
	}
}

// check ends all writing after the first failure: what Badger has kept of the transaction is
// unknown, and nothing may follow a gap.
func (b *batch) check(err error) error {
	if err == nil {
		return nil
	}
	b.abandon()
	b.x.broken = fmt.Errorf("write: %v", err)
	b.x.log.Debug("index can not be written", "dir", b.x.dir, "err", err)
	return unavailable(b.x.dir, b.x.broken)
}
