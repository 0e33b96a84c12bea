package browse

import (
	"fmt"
	"io/fs"
	"time"

	"github.com/generalbots/backupd/repo"
)

// Clock is a time of a snapshot, in UTC.
func Clock(t repo.Time) time.Time { return time.Unix(t.Sec, int64(t.Nsec)).UTC() }

// TypeName is the type of an entry in one word.
func TypeName(t repo.Type) string {
	switch t {
	case repo.TypeRegular:
		return "file"
	case repo.TypeDirectory:
		return "directory"
	case repo.TypeSymlink:
		return "symlink"
	case repo.TypeFIFO:
		return "fifo"
	case repo.TypeSocket:
		return "socket"
	case repo.TypeCharDevice:
		return "char_device"
	case repo.TypeBlockDevice:
		return "block_device"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// FileMode is the mode of an entry as Go knows it.
func FileMode(e *repo.Entry) fs.FileMode {
	m := fs.FileMode(e.Mode & 0o777)
	for _, bit := range []struct {
		set  bool
		mode fs.FileMode
	}{
		{e.Mode&0o4000 != 0, fs.ModeSetuid},
		{e.Mode&0o2000 != 0, fs.ModeSetgid},
		{e.Mode&0o1000 != 0, fs.ModeSticky},
		{e.Type == repo.TypeDirectory, fs.ModeDir},
		{e.Type == repo.TypeSymlink, fs.ModeSymlink},
		{e.Type == repo.TypeFIFO, fs.ModeNamedPipe},
		{e.Type == repo.TypeSocket, fs.ModeSocket},
		{e.Type == repo.TypeCharDevice, fs.ModeDevice | fs.ModeCharDevice},
		{e.Type == repo.TypeBlockDevice, fs.ModeDevice},
	} {
		if bit.set {
			m |= bit.mode
		}
	}
	return m
}
