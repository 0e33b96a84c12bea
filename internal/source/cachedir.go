package source

import (
	"golang.org/x/sys/unix"
)

// A directory that holds this file, beginning with this signature, is a cache (https://bford.info/cachedir/).
const (
	cacheTag       = "CACHEDIR.TAG"
	cacheSignature = "Signature: 8a477f597d28d172789f06886806bc55"
)

// isCache tells whether the directory fd, with these names, is a cache. Of such a directory only the tag is kept, so
// that it is one again when it is restored.
func isCache(fds *descriptors, fd int, names *listing) bool {
	typ, ok := names.find(cacheTag)
	if !ok || typ != unix.DT_REG && typ != unix.DT_UNKNOWN {
		return false
	}
	tag, err := fds.trying(func() (int, error) { return openName(fd, cacheTag, openFlags|unix.O_NOATIME) })
	if err != nil {
		return false
	}
	defer closeFD(tag)
	var st unix.Stat_t
	if fstat(tag, &st) != 0 || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false
	}
	var head [len(cacheSignature)]byte
	for n := 0; n < len(head); {
		k, err := read(tag, head[n:])
		if err != nil {
			return false
		}
		n += k
	}
	return string(head[:]) == cacheSignature
}
