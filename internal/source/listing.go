package source

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	runBits  = 18
	runBytes = 1 << runBits // of the names of a run, and what else the arena has of them
	runNames = 1 << 14      // of a run

	// A name is found by 32 bits: its run and its place there.
	maxRuns = 1 << (32 - runBits)

	nameHeader = 2    // bytes before a name in an arena: type and mark, length
	markPass   = 0x80 // beside the type
)

// listing is the sorted names of a directory: the numbers of their places, in order, and runs of names as they came. A
// directory of a million entries has all of them in memory until it is left, since they come in no order, so an
// entry takes its name and seven bytes, and no name is moved again when all are there.
//
//	run:  type, mark 1 | length 1 | name | zero  …
//
// The zero is there so that the system can be given a name where it stands. A directory that is not large has one
// run, which is arena; more has those after it.
type listing struct {
	arena []byte
	more  [][]byte
	order []uint32
}

// count is how many names there are.
func (l *listing) count() int { return len(l.order) }

// at returns the run of name i from its header on.
func (l *listing) at(i int) []byte { return l.entry(l.order[i]) }

func (l *listing) entry(ref uint32) []byte {
	if ref < runBytes {
		return l.arena[ref:]
	}
	return l.more[ref>>runBits-1][ref%runBytes:]
}

// name is valid as long as anybody has it: a run does not change once it is in a listing, but for the marks.
func (l *listing) name(i int) string { return entryName(l.at(i)) }

// entryName is the name in an entry.
func entryName(entry []byte) string { return unsafe.String(&entry[nameHeader], int(entry[1])) }

// typ is what getdents told of the type, DT_*.
func (l *listing) typ(i int) uint8 { return entryType(l.at(i)) }

// entryType is the type in an entry.
func entryType(entry []byte) uint8 { return entry[0] &^ markPass }

// setType notes a type that was asked for.
func (l *listing) setType(i int, typ uint8) {
	e := l.at(i)
	e[0] = e[0]&markPass | typ&^markPass
}

// pass marks a name that is excluded, but through which a PATH leads: only that is wanted.
func (l *listing) pass(i int) { l.at(i)[0] |= markPass }

// entryPointer is the name in an entry with its zero byte, for a system call, which only reads it.
func entryPointer(entry []byte) *byte { return &entry[nameHeader] }

// find returns the type of a name of the listing.
func (l *listing) find(name string) (typ uint8, ok bool) {
	i, ok := slices.BinarySearchFunc(l.order, name, func(ref uint32, name string) int {
		return strings.Compare(entryName(l.entry(ref)), name)
	})
	if !ok {
		return unix.DT_UNKNOWN, false
	}
	return l.typ(i), true
}

// keep drops the names for which want says no.
func (l *listing) keep(want func(i int, name string) bool) {
	kept := l.order[:0]
	for i, ref := range l.order {
		if want(i, l.name(i)) {
			kept = append(kept, ref)
		}
	}
	l.order = kept
}

// dirent is a name of the run that is being filled: where its header stands, and a prefix that decides most comparisons.
type dirent struct {
	prefix uint64 // the first 8 bytes, big endian, padded with zeros
	off    uint32
	len    uint8
}

// lister collects a listing, in runs that are sorted when they are full and merged at the end. It is the scratch space
// of one worker, used for one directory after another: what it keeps between them is a run.
type lister struct {
	arena []byte
	names []dirent
	full  []run
}

// run is sorted.
type run struct {
	arena []byte
	order []uint32 // places in arena
}

func (l *lister) reset() { l.arena, l.names, l.full = l.arena[:0], l.names[:0], nil }

func (l *lister) add(name []byte, typ uint8) error {
	if len(l.arena)+nameHeader+len(name)+1 > runBytes || len(l.names) == runNames {
		if len(l.full) == maxRuns-1 {
			return ErrTooLarge
		}
		l.full = append(l.full, l.cut())
	}
	l.names = append(l.names, dirent{prefix: prefixOf(name), off: uint32(len(l.arena)), len: uint8(len(name))})
	l.arena = append(append(append(l.arena, typ&^markPass, uint8(len(name))), name...), 0)
	return nil
}

// addAll adds the records of one getdents64 buffer, without "." and "..".
func (l *lister) addAll(buf []byte) error {
	for len(buf) > 0 {
		name, typ, rest, err := nextDirent(buf)
		if err != nil {
			return err
		}
		buf = rest
		if string(name) == "." || string(name) == ".." {
			continue
		}
		if !validName(name) {
			return errDirent
		}
		if err := l.add(name, typ); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) at(d *dirent) []byte {
	off := d.off + nameHeader
	return l.arena[off : off+uint32(d.len)]
}

// cut takes the run that was filled, sorted by name bytes and without names that came twice, which happens when a
// directory changes under getdents64. It does not alias the lister.
func (l *lister) cut() run {
	slices.SortFunc(l.names, func(a, b dirent) int {
		if a.prefix != b.prefix {
			if a.prefix < b.prefix {
				return -1
			}
			return 1
		}
		return bytes.Compare(l.at(&a), l.at(&b))
	})
	order := make([]uint32, 0, len(l.names))
	for i := range l.names {
		if d := &l.names[i]; i == 0 || d.prefix != l.names[i-1].prefix || !bytes.Equal(l.at(d), l.at(&l.names[i-1])) {
			order = append(order, d.off)
		}
	}
	r := run{arena: bytes.Clone(l.arena), order: order}
	l.arena, l.names = l.arena[:0], l.names[:0]
	return r
}

// finish returns what was added, in order and each name once.
func (l *lister) finish() listing {
	last := l.cut()
	if len(l.full) == 0 {
		return listing{arena: last.arena, order: last.order}
	}
	runs := append(l.full, last)
	l.full = nil
	return merge(runs)
}

// head is the first name of a run that is not in the listing yet.
type head struct {
	prefix uint64
	name   []byte
	run    int
}

func (h *head) before(o *head) bool {
	if h.prefix != o.prefix {
		return h.prefix < o.prefix
	}
	return bytes.Compare(h.name, o.name) < 0
}

// merge makes one order of those of the runs: a heap has the first name that is left of each.
func merge(runs []run) listing {
	var l listing
	n := 0
	heads := make([]head, 0, len(runs))
	advance := func(h *head) bool {
		r := &runs[h.run]
		if len(r.order) == 0 {
			r.order = nil
			return false
		}
		e := r.arena[r.order[0]:]
		h.name = e[nameHeader : nameHeader+int(e[1])]
		h.prefix = prefixOf(h.name)
		return true
	}
	for i := range runs {
		n += len(runs[i].order)
		if i == 0 {
			l.arena = runs[i].arena
		} else {
			l.more = append(l.more, runs[i].arena)
		}
		if h := (head{run: i}); advance(&h) {
			heads = append(heads, h)
		}
	}
	l.order = make([]uint32, 0, n)
	slices.SortFunc(heads, func(a, b head) int {
		if a.before(&b) {
			return -1
		}
		return 1
	})
	var before []byte
	for len(heads) > 0 {
		h := &heads[0]
		r := &runs[h.run]
		if before == nil || !bytes.Equal(before, h.name) {
			l.order = append(l.order, uint32(h.run)<<runBits|r.order[0])
		}
		before = h.name
		if r.order = r.order[1:]; !advance(h) {
			heads[0] = heads[len(heads)-1]
			heads = heads[:len(heads)-1]
		}
		sink(heads)
	}
	return l
}

// sink moves the first head down to where it belongs.
func sink(heads []head) {
	for i := 0; ; {
		least := 2*i + 1
		if least >= len(heads) {
			return
		}
		if right := least + 1; right < len(heads) && heads[right].before(&heads[least]) {
			least = right
		}
		if !heads[least].before(&heads[i]) {
			return
		}
		heads[i], heads[least] = heads[least], heads[i]
		i = least
	}
}

func prefixOf(name []byte) uint64 {
	if len(name) >= 8 {
		return binary.BigEndian.Uint64(name)
	}
	var b [8]byte
	copy(b[:], name)
	return binary.BigEndian.Uint64(b[:])
}
