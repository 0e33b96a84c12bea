package target

import (
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Type is the kind of a file. The zero value is none of them.
type Type uint8

// The types a backup knows.
const (
	TypeRegular Type = iota + 1
	TypeDirectory
	TypeSymlink
	TypeFIFO
	TypeSocket
	TypeCharDevice
	TypeBlockDevice
)

// format is the S_IFMT part of st_mode for t, 0 for a type that does not exist.
func (t Type) format() uint32 {
	switch t {
	case TypeRegular:
		return unix.S_IFREG
	case TypeDirectory:
		return unix.S_IFDIR
	case TypeSymlink:
		return unix.S_IFLNK
	case TypeFIFO:
		return unix.S_IFIFO
	case TypeSocket:
		return unix.S_IFSOCK
	case TypeCharDevice:
		return unix.S_IFCHR
	case TypeBlockDevice:
		return unix.S_IFBLK
	}
	return 0
}

// unknownMode is the mode of what was not asked for its mode; it differs from every real one.
const unknownMode = ^uint32(0)

// Time is a point in time as file systems keep it: seconds since 1970, negative before, and nanoseconds below 10⁹.
type Time struct {
	Sec  int64
	Nsec uint32
}

// Xattr is one extended attribute; ACLs and capabilities are among them under the kernel's names.
type Xattr struct {
	Name  string
	Value []byte
}

// Meta is what a file has besides its name and its bytes. Fields that mean nothing for a type are ignored.
type Meta struct {
	// Type must be that of the call it is given to.
	Type Type
	// Mode holds the permission bits and setuid, setgid and sticky (07777).
	Mode uint32
	// UID and GID own the file where User and Group are empty, unknown here, or not to be used.
	UID, GID uint32
	// User and Group are the names the owners had where the backup was made; see Options.NumericOwner.
	User, Group string
	// Mtime is the time of last modification. The time of last access is left alone.
	Mtime Time
	// Xattrs are set in this order, within the order of the classes that Problem describes.
	Xattrs []Xattr
	// RdevMajor and RdevMinor are the numbers of a device.
	RdevMajor, RdevMinor uint32
	// Target is where a symbolic link points, byte for byte. It is written and never followed.
	Target string
}

// possible reports whether a file system could have given m for a file of type t.
func (m *Meta) possible(t Type) bool {
	if m == nil || m.Type != t || m.Mode&^07777 != 0 || m.Mtime.Nsec >= 1e9 {
		return false
	}
	if t == TypeSymlink {
		return m.Target != "" && len(m.Target) <= maxTarget && strings.IndexByte(m.Target, 0) < 0
	}
	return true
}

// device is the number that mknod wants for m.
func (m *Meta) device() uint64 { return unix.Mkdev(m.RdevMajor, m.RdevMinor) }

// now is the time as file systems keep it.
func now() Time {
	t := time.Now()
	return Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}
