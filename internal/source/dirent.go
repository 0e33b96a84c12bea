package source

import (
	"bytes"
	"encoding/binary"
	"errors"
)

const (
	direntHeader = 19  // bytes before the name: inode 8, offset 8, record length 2, type 1
	maxName      = 255 // bytes of one component; the limit of Linux
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
