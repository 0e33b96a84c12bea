// Package source says what is backed up: it walks what a host holds and yields it, entry by entry, in one fixed order.
//
// A scan yields nested events. A directory is entered, its children follow sorted by the bytes of their names, and it
// is left again; a child that is a directory has its own Enter … Leave at its sorted place:
//
//	Enter ""            the root of the file system, "/"
//	  Enter "etc"
//	    Item "fstab"
//	  Leave "etc"
//	Leave ""
//
// The kind of source here is [Files]: paths of this host. Its tree begins at "/" whatever PATHs are asked for; above
// a PATH only the directories that lead to it are yielded.
//
// Every look at the file system is relative to the descriptor of a directory that was itself reached that way, one
// component at a time, and never follows a symbolic link below a PATH. So nobody who can write below a PATH can make a
// scan leave it: a directory that is exchanged for a link while it is being walked ends as that link, or as nothing.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
)

// Errors a caller may act on. Others are errors of the operating system; errors.Is finds fs.ErrPermission and the like
// in them.
var (
	// ErrChanged says that a name no longer leads to what the scan saw there: something else took its place, or it is
	// gone, which errors.Is finds as fs.ErrNotExist too.
	ErrChanged = errors.New("changed since it was scanned")
	// ErrReleased says that an entry was used after its directory was released, or after its scan was broken off.
	ErrReleased = errors.New("used after its directory was released")
	// ErrBrokenOff says that the input broke off and can not be read again, so that a backup of what came until then
	// would stand for something that never was.
	ErrBrokenOff = errors.New("the input broke off")
	// ErrTooLarge says that what an entry carries beside its content is over a limit of this package.
	ErrTooLarge = errors.New("over the limit")
)

// errGone is ErrChanged where nothing took the place.
var errGone = fmt.Errorf("%w: %w", ErrChanged, fs.ErrNotExist)

// Event tells what an [Entry] stands for in the order of a scan.
type Event uint8

// The events of a scan.
const (
	Enter Event = iota + 1 // a directory begins; its children follow
	Item                   // anything that is not a directory
	Leave                  // the directory that was entered last and not yet left ends; its metadata are those of its Enter
)

// String returns the lower-case name of the event.
func (e Event) String() string { return nameOf(eventNames[:], uint8(e)) }

var eventNames = [...]string{"", "enter", "item", "leave"}

// Type is the type of a file.
type Type uint8

// The types of files. Zero stands in an Entry whose type could not be found out.
const (
	Regular Type = iota + 1
	Directory
	Symlink
	FIFO
	Socket
	CharDevice
	BlockDevice
)

// String returns the lower-case name of the type.
func (t Type) String() string { return nameOf(typeNames[:], uint8(t)) }

var typeNames = [...]string{"", "regular", "directory", "symlink", "fifo", "socket", "char device", "block device"}

func nameOf(names []string, i uint8) string {
	if i == 0 || int(i) >= len(names) {
		return "unknown"
	}
	return names[i]
}

// Time is a moment as a file system keeps it: seconds since 1970 UTC, which may be negative, and nanoseconds.
type Time struct {
	Sec  int64
	Nsec uint32 // 0 … 999,999,999
}

// Xattr is an extended attribute. Access control lists and file capabilities are among them.
type Xattr struct {
	Name  string // with its namespace, such as "user.comment"
	Value []byte
}

// Extent is a range of a file that holds data, as opposed to a hole.
type Extent struct {
	Off, Len int64 // bytes
}

// Entry is one event of a scan, with everything lstat tells. It is a value: copies may be kept, and used with
// [Source.Details] and [Source.Open] for as long as these allow.
type Entry struct {
	Event Event
	Type  Type
	// Name is one component, raw bytes that need not be UTF-8: never empty, ".", "..", nor with a slash or a zero byte.
	// Only the root has the empty name.
	Name                 string
	Mode                 uint32 // permission, setuid, setgid and sticky bits: 07777 at most
	UID, GID             uint32
	Size                 int64 // bytes
	Mtime, Ctime         Time
	Dev, Ino             uint64
	Nlink                uint32
	RdevMajor, RdevMinor uint32 // of devices
	Blocks               int64  // allocated, in units of 512 bytes
	// Timeless says that the file system keeps no Ctime that every change moves, as images that are made elsewhere and
	// only mounted here do not: that everything looks as it did proves nothing about the content.
	Timeless bool

	// Err says that this entry could not be examined, or that a directory could not be read: then its Leave follows at
	// once. Name is right, the rest may be empty.
	Err error

	dir *directory // of an Item the directory it is in, else the directory itself
}

// Details are what an entry has beside what lstat tells.
type Details struct {
	Xattrs      []Xattr // sorted by name
	Target      string  // of a symbolic link, raw bytes
	User, Group string  // names of the owners; empty where this host knows none
}

// Source is something that is backed up.
//
// An implementation may be scanned several times, also at once; each scan is a walk of its own. Details, Open and
// Release may be called from any goroutine, also while the scan goes on.
type Source interface {
	// Scan yields the entries in the order the package comment describes. An error ends the scan: it comes with an
	// empty Entry as the last pair, when ctx is cancelled (its cause is returned), or when something the source was
	// asked for is gone. Trouble with one entry is [Entry.Err] and the scan goes on. What vanishes between being listed
	// and being examined is not yielded. When the loop is left early, or ctx is cancelled, everything is released;
	// until then, also after the end of the scan, each Leave must be given to Release. No goroutine of the scan is left
	// when the loop ends.
	Scan(ctx context.Context) iter.Seq2[Entry, error]

	// Details reads what lstat does not tell. It is valid from the entry's yield until the Release of the Leave of its
	// directory (of a directory: its own). With an error, the Details hold what could be read all the same.
	// ErrChanged when the entry is no longer there, ErrTooLarge when the attributes are over the limits.
	Details(e *Entry) (Details, error)

	// Owner returns the names that the owners of an entry have on this host now, empty where it knows none; Details has
	// the same. It is meant to be asked for every entry: a scan remembers names, and no call allocates anything once it
	// knows them.
	Owner(e *Entry) (user, group string)

	// Open opens a regular file for reading, and is valid as long as Details is. Another regular file of the same device
	// that has taken the place since the scan, as it does when a program saves by rename, is opened like one that the
	// scan found: Opened tells what it is. ErrChanged when anything else stands there. It never blocks on, nor follows,
	// that.
	Open(e *Entry) (File, error)

	// Release gives back what the source holds for a directory that has been left. A second call does nothing.
	Release(leave *Entry)
}

// File is an opened regular file. It is used by one goroutine, apart from ReadAt, which many may call. It stays valid
// when its directory is released, until Close.
type File interface {
	io.ReadCloser
	io.ReaderAt

	// Opened returns the metadata as they were when the file was opened, at no cost. A reader that got exactly Size
	// bytes and then sees no change in Stat need not read once more to meet the end.
	Opened() Entry
	// Stat returns the metadata as they are now: compared with Opened they tell whether the file changed meanwhile.
	Stat() (Entry, error)
	// Extents returns the ranges that hold data, ascending and disjoint; all outside is zeros. sparse is false, with no
	// ranges, when the file has no holes worth knowing about. It does not move the place Read is at.
	Extents() (data []Extent, sparse bool, err error)
	// Details is [Source.Details] of this very file.
	Details() (Details, error)
}
