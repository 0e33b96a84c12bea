package target

import (
	"crypto/rand"
	"encoding/hex"

	"golang.org/x/sys/unix"
)

// occupied decides about what stands under name below dirfd. nil with gone means that the name was given free, without
// it that a rename may replace the entry; else the error is the answer. same says whether the entry is what was to be
// put there.
func (f *Folder) occupied(dirfd int, name string, same func(*unix.Stat_t) bool) (gone bool, err error) {
	overwrite := f.directory.options.Overwrite
	if overwrite == Never {
		return false, ErrExists
	}
	var st unix.Stat_t
	switch err := fstatat(dirfd, name, &st); {
	case err == unix.ENOENT:
		return true, nil
	case err != nil:
		return false, f.fail("stat", name, err)
	case overwrite == IfChanged && same(&st):
		return false, ErrSame
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return false, nil
	}
	switch err := unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR); err {
	case nil, unix.ENOENT, unix.ENOTDIR:
		return true, nil
	case unix.ENOTEMPTY, unix.EEXIST, unix.EBUSY:
		return false, f.fail("rmdir", name, ErrNotEmpty)
	default:
		return false, f.fail("rmdir", name, err)
	}
}

// sameFile reports whether st is of the type and time of m, whose size is given.
func sameFile(st *unix.Stat_t, t Type, size int64, mtime Time) bool {
	return st.Mode&unix.S_IFMT == t.format() && (size < 0 || st.Size == size) &&
		st.Mtim.Sec == mtime.Sec && st.Mtim.Nsec == int64(mtime.Nsec)
}

// tempName is a name that nobody else has or guesses.
func tempName() string {
	var b [stageRandom / 2]byte
	rand.Read(b[:])
	return stagePrefix + hex.EncodeToString(b[:])
}
