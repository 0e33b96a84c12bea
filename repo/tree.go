package repo

import "github.com/generalbots/backupd/crypto"

// Type says what an entry is. The values stand in tree pages.
type Type uint8

// The types of entries.
const (
	TypeRegular     Type = 1
	TypeDirectory   Type = 2
	TypeSymlink     Type = 3
	TypeFIFO        Type = 4
	TypeSocket      Type = 5
	TypeCharDevice  Type = 6
	TypeBlockDevice Type = 7
)

// Time is a point in time as file systems keep it: seconds since 1970, which
// may be negative, and nanoseconds below 1e9.
type Time struct {
	Sec  int64
	Nsec uint32
}

// Xattr is one extended attribute; POSIX ACLs and file capabilities are
// extended attributes too.
type Xattr struct {
	Name  string
	Value []byte
}

// Extent is a range of a sparse file that holds data; all outside the extents
// of a file is a hole.
type Extent struct {
	Off, Len int64
}

// Ref names a chunk and its length in bytes.
type Ref struct {
	ID  crypto.ID
	Len uint32
}

// Content is what a regular file holds: nothing, a short chunk list, or the
// root of pages that list the chunks. For a sparse file the chunks are those
// of its extents, one after the other, without the holes.
type Content struct {
	Inline []Ref     // at most MaxInlineChunks
	Root   crypto.ID // of a content page, when Level > 0
	Level  uint8     // 0: Inline holds all; n: Root is a page of level n-1
	Chunks uint64    // number of chunks, both forms
	Bytes  int64     // sum of their lengths
}

// Dir is what a directory holds: the root of its pages and the totals of all
// below it.
type Dir struct {
	Root    crypto.ID // zero when the directory is empty
	Level   uint8     // level of the root page; 0 is a leaf
	Entries uint64    // entries of this directory alone
	Files   uint64    // all entries below, this directory's included, directories not counted
	Bytes   int64     // sizes of all regular files below
}

// Entry is one entry of a directory as a snapshot keeps it.
type Entry struct {
	Name         string // one component, any bytes but '/' and NUL; empty only for the root
	Type         Type
	Mode         uint32 // the twelve permission bits, setuid, setgid and sticky included
	UID, GID     uint32
	User, Group  string // names, empty when the host knew none
	Mtime, Ctime Time
	Inode        uint64
	Device       uint64
	Nlink        uint32
	Size         int64    // regular files: length in bytes, holes included
	Sparse       bool     // Extents tells which ranges hold data
	Extents      []Extent // ascending, not touching
	Content      Content  // regular files
	Target       string   // symlinks
	Major, Minor uint32   // devices
	Xattrs       []Xattr  // sorted by name
	Dir          Dir      // directories
}
