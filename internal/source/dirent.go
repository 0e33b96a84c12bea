package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	direntHeader = 19  // bytes before the name: inode 8, offset 8, record length 2, type 1
	maxName      = 255 // bytes of one component; the limit of Linux

	// The names of one directory stand in one arena that is addressed by 32 bits.
	maxArena = 1<<32 - 1
)

var errDirent = errors.New("malformed directory record")

// nextDirent cuts the first record off what getdents64 wrote:
//
//	+---------+----------+-------------+--------+----------------------+
//	| ino 8   | off 8    | length 2    | type 1 | name, zero, padding  |
//	+---------+----------+-------------+--------+----------------------+
//
// in the byte order of the machine. The name aliases buf. The kernel is not expected to be wrong here, but what it says
// comes from file systems that may be.
func nextDirent(buf []byte) (name []byte, typ uint8, rest []byte, err error) {
	if len(buf) < direntHeader+1 {
		return nil, 0, nil, errDirent
	}
	n := int(binary.NativeEndian.Uint16(buf[16:]))
	if n < direntHeader+1 || n > len(buf) {
		return nil, 0, nil, errDirent
	}
	typ = buf[18]
	name = buf[direntHeader:n]
	end := bytes.IndexByte(name, 0)
	if end < 0 || end > maxName {
		return nil, 0, nil, errDirent
	}
	return name[:end], typ, buf[n:], nil
}

// validName tells whether a name is one component that may stand in an Entry.
func validName(name []byte) bool {
	return len(name) > 0 && len(name) <= maxName && bytes.IndexByte(name, '/') < 0
}

// dirent is a name of a listing: where it stands in the arena, and a prefix that decides most comparisons.
type dirent struct {
	prefix uint64 // the first 8 bytes, big endian, padded with zeros
	off    uint32
	len    uint8
	typ    uint8 // DT_*
	pass   bool  // excluded, but a PATH leads through it: only that is wanted
}

// listing is the sorted names of a directory. In the arena a zero byte follows each name, so that the system can be
// given a name where it stands.
type listing struct {
	arena string
	names []dirent
}

func (l *listing) name(i int) string {
	d := &l.names[i]
	return l.arena[d.off : d.off+uint32(d.len)]
}

// lister collects a listing. It is the scratch space of one worker, used for one directory after another.
type lister struct {
	arena []byte
	names []dirent
}

func (l *lister) reset() {
	// One huge directory must not hold its memory for the rest of the scan.
	if cap(l.arena) > 1<<20 {
		l.arena, l.names = nil, nil
	}
	l.arena, l.names = l.arena[:0], l.names[:0]
}

func (l *lister) add(name []byte, typ uint8) error {
	if len(l.arena)+len(name)+1 > maxArena {
		return ErrTooLarge
	}
	l.names = append(l.names, dirent{prefix: prefixOf(name), off: uint32(len(l.arena)), len: uint8(len(name)), typ: typ})
	l.arena = append(append(l.arena, name...), 0)
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

func (l *lister) at(d *dirent) []byte { return l.arena[d.off : d.off+uint32(d.len)] }

// finish sorts by name bytes and drops names that came twice, which happens when a directory changes under getdents64.
// The result does not alias the lister.
func (l *lister) finish() listing {
	slices.SortFunc(l.names, func(a, b dirent) int {
		if a.prefix != b.prefix {
			if a.prefix < b.prefix {
				return -1
			}
			return 1
		}
		return bytes.Compare(l.at(&a), l.at(&b))
	})
	l.names = slices.CompactFunc(l.names, func(a, b dirent) bool {
		return a.prefix == b.prefix && bytes.Equal(l.at(&a), l.at(&b))
	})
	return listing{arena: string(l.arena), names: slices.Clone(l.names)}
}

func prefixOf(name []byte) uint64 {
	if len(name) >= 8 {
		return binary.BigEndian.Uint64(name)
	}
	var b [8]byte
	copy(b[:], name)
	return binary.BigEndian.Uint64(b[:])
}

// find returns the type of a name of the listing.
func (l *listing) find(name string) (typ uint8, ok bool) {
	i, ok := slices.BinarySearchFunc(l.names, name, func(d dirent, name string) int {
		return strings.Compare(l.arena[d.off:d.off+uint32(d.len)], name)
	})
	if !ok {
		return unix.DT_UNKNOWN, false
	}
	return l.names[i].typ, true
}

// pointer is the name with its zero byte, for a system call. The arena is a string and stays where it is; the system
// only reads it.
func (l *listing) pointer(i int) *byte {
	return (*byte)(unsafe.Add(unsafe.Pointer(unsafe.StringData(l.arena)), l.names[i].off))
}
