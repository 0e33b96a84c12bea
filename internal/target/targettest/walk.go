package targettest

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Entry is one file as lstat and its relatives see it. Two of them can be compared.
type Entry struct {
	// Mode is st_mode whole, with the type.
	Mode uint32
	// UID and GID own it.
	UID, GID uint32
	// Size in bytes; 0 for directories, where it means nothing.
	Size int64
	// MtimeSec and MtimeNsec are the time of modification.
	MtimeSec, MtimeNsec int64
	// Ino is the inode and Nlink its number of names.
	Ino, Nlink uint64
	// Rdev is the number of a device.
	Rdev uint64
	// Link is the target of a symbolic link.
	Link string
	// Sum is the SHA-256 of a regular file, or why it can not be read.
	Sum string
	// Xattrs are all extended attributes this user can see, sorted by name.
	Xattrs string
}

// Walk lists everything below dir by its path relative to dir, and dir itself as ".". It goes from descriptor to
// descriptor, so paths may be longer than the system's limit.
func Walk(dir string) (map[string]Entry, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("walk %s: %v", dir, err)
	}
	all := make(map[string]Entry)
	e, err := look(fd, ".")
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	all["."] = e
	return all, walk(os.NewFile(uintptr(fd), dir), "", all)
}

// walk closes d.
func walk(d *os.File, above string, all map[string]Entry) error {
	names, err := d.Readdirnames(-1)
	fd := int(d.Fd())
	defer d.Close()
	if err != nil {
		return err
	}
	for _, name := range names {
		e, err := look(fd, name)
		if err != nil {
			return err
		}
		path := above + name
		all[path] = e
		if e.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		sub, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.EACCES {
			e.Sum = "unreadable"
			all[path] = e
			continue
		}
		if err != nil {
			return err
		}
		if err := walk(os.NewFile(uintptr(sub), name), path+"/", all); err != nil {
			return err
		}
	}
	return nil
}

// look describes name below dirfd, or the path name with AT_FDCWD.
func look(dirfd int, name string) (Entry, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return Entry{}, err
	}
	e := Entry{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Size: st.Size, MtimeSec: st.Mtim.Sec, MtimeNsec: st.Mtim.Nsec,
		Ino: st.Ino, Nlink: uint64(st.Nlink), Rdev: st.Rdev}
	path := name
	if dirfd != unix.AT_FDCWD {
		path = fmt.Sprintf("/proc/self/fd/%d/%s", dirfd, name)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Size = 0
	case unix.S_IFLNK:
		link, err := os.Readlink(path)
		if err != nil {
			return Entry{}, err
		}
		e.Link = link
	case unix.S_IFREG:
		e.Sum = sum(dirfd, name)
	}
	e.Xattrs = attributes(path)
	return e, nil
}

func sum(dirfd int, name string) string {
	fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err.Error()
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// attributes are those of path itself, a link included.
func attributes(path string) string {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil || n == 0 {
		return ""
	}
	found := make(map[string]string)
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if n, err := unix.Lgetxattr(path, name, value); err == nil {
			found[name] = string(value[:n])
		}
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(found)) {
		fmt.Fprintf(&b, "%s=%q\n", name, found[name])
	}
	return b.String()
}
