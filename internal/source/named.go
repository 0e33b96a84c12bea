package source

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits of what a source may be asked for.
const (
	maxPaths     = 1 << 20 // PATHs of one source
	maxPath      = 1 << 16 // bytes of one PATH, which may be longer than what a system call takes
	maxLinkHops  = 40      // symbolic links followed above one PATH, as in Linux
	maxLinkBytes = 1 << 16 // bytes of the target of a symbolic link
)

// named is the tree of the PATHs: a node for each PATH and for each directory above one.
type named struct {
	children map[string]*named
	names    []string // of the children, sorted
	path     bool     // this is a PATH itself: everything below is wanted
}

func newNamed(paths []string) (*named, error) {
	if len(paths) == 0 {
		return nil, fmt.Errorf("source: no PATH to back up")
	}
	if len(paths) > maxPaths {
		return nil, fmt.Errorf("source: more than %d PATHs", maxPaths)
	}
	root := &named{}
	for _, p := range paths {
		switch {
		case !strings.HasPrefix(p, "/"):
			return nil, fmt.Errorf("source: PATH %q is not absolute", p)
		case strings.IndexByte(p, 0) >= 0 || len(p) > maxPath:
			return nil, fmt.Errorf("source: PATH %.80q is not a path", p)
		}
		n := root
		for _, comp := range split(path.Clean(p)) {
			if len(comp) > maxName {
				return nil, fmt.Errorf("source: PATH %.80q… has a component longer than %d bytes", p, maxName)
			}
			child := n.children[comp]
			if child == nil {
				child = &named{}
				if n.children == nil {
					n.children = make(map[string]*named)
				}
				n.children[comp] = child
				n.names = append(n.names, comp)
			}
			n = child
		}
		n.path = true
	}
	root.sort()
	return root, nil
}

func (n *named) sort() {
	slices.Sort(n.names)
	for _, c := range n.children {
		c.sort()
	}
}

// child is nil-safe.
func (n *named) child(name string) *named {
	if n == nil {
		return nil
	}
	return n.children[name]
}

// through tells whether there is a PATH below this one.
func (n *named) through() bool { return n != nil && len(n.children) > 0 }

func split(clean string) []string {
	if clean = strings.Trim(clean, "/"); clean == "" {
		return nil
	}
	return strings.Split(clean, "/")
}

// walkNamed opens, with O_PATH, the directory that target leads to from the directory at, in the place of the system,
// because it follows only symbolic links of root and of the running user: whoever else can put a link above a PATH must
// not choose what is read. It never uses a path longer than one component.
func walkNamed(at int, target string, hops *int) (int, error) {
	cur, own := at, false
	if strings.HasPrefix(target, "/") {
		fd, err := openRoot(unix.O_PATH)
		if err != nil {
			return -1, err
		}
		cur, own = fd, true
	} else if !own {
		fd, err := openName(at, ".", pathFlags|unix.O_DIRECTORY)
		if err != nil {
			return -1, err
		}
		cur = fd
	}
	for _, comp := range split(target) {
		if comp == "" || comp == "." {
			continue
		}
		next, err := stepNamed(cur, comp, hops)
		closeFD(cur)
		if err != nil {
			return -1, err
		}
		cur = next
	}
	return cur, nil
}

// stepNamed opens one component that must be a directory, or a link that leads to one.
func stepNamed(at int, comp string, hops *int) (int, error) {
	fd, err := openName(at, comp, pathFlags)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if errno := fstat(fd, &st); errno != 0 {
		closeFD(fd)
		return -1, os.NewSyscallError("stat", errno)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return fd, nil
	case unix.S_IFLNK:
		defer closeFD(fd)
		if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
			return -1, fmt.Errorf("%q above it is a symbolic link of user %d: only links of root and of the running user are followed above a PATH", comp, st.Uid)
		}
		if *hops--; *hops < 0 {
			return -1, os.NewSyscallError("open", unix.ELOOP)
		}
		target, err := readLink(fd)
		if err != nil {
			return -1, err
		}
		return walkNamed(at, target, hops)
	}
	closeFD(fd)
	return -1, os.NewSyscallError("open", unix.ENOTDIR)
}

func openRoot(flags int) (int, error) {
	for {
		fd, err := unix.Open("/", unix.O_DIRECTORY|unix.O_CLOEXEC|flags, 0)
		if err == nil {
			return fd, nil
		}
		if err != unix.EINTR {
			return -1, os.NewSyscallError("open", err)
		}
	}
}

// readLink reads the target of a link that was opened with O_PATH.
func readLink(fd int) (string, error) {
	for n := 256; n <= maxLinkBytes; n *= 2 {
		buf := make([]byte, n)
		got, err := unix.Readlinkat(fd, "", buf)
		switch {
		case err == unix.EINTR:
			n /= 2
		case err != nil:
			return "", os.NewSyscallError("readlink", err)
		case got < n:
			return string(buf[:got]), nil
		}
	}
	return "", fmt.Errorf("link target: %w", ErrTooLarge)
}

// check looks whether every PATH is there, so that a scan of something that is gone fails before its first event.
func (n *named) check(at int, prefix string) error {
	for _, name := range n.names {
		c := n.children[name]
		full := prefix + "/" + name
		var st unix.Stat_t
		if err := fstatName(at, name, &st); err != nil {
			return fmt.Errorf("source: %s: %w", full, err)
		}
		if !c.through() {
			continue
		}
		hops := maxLinkHops
		fd, err := stepNamed(at, name, &hops)
		if err != nil {
			return fmt.Errorf("source: %s: %w", full, err)
		}
		err = c.check(fd, full)
		closeFD(fd)
		if err != nil {
			return err
		}
	}
	return nil
}
