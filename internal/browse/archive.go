package browse

import (
	"context"
	"hash/maphash"
	"io"
	"sync/atomic"

	"github.com/generalbots/backupd/repo"
)

// ArchiveProgress counts what an archive has got so far. Who writes it counts,
// anybody may read it at any time.
type ArchiveProgress struct {
	Files atomic.Int64 // regular files begun, hard links to them not counted
	Bytes atomic.Int64 // of their content
}

// Both archives hold all parts as the one tree that a restore makes of them, and
// end with an error at the first byte that can not be read: the archive is then
// without its end, which every reader of it complains about.

// content is where the bytes of a file go, counted.
type content struct {
	w io.Writer
	p *ArchiveProgress
}

// Write passes bytes on.
func (c content) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.p.Bytes.Add(int64(n))
	return n, err
}

// fill writes what a file holds.
func (c content) fill(ctx context.Context, t *Tree, e *repo.Entry) error {
	c.p.Files.Add(1)
	return t.Content(ctx, c, e)
}

// maxLinks bounds the hard-linked inodes of which names are still to come, a few
// hundred bytes each. Beyond it names become files of their own.
const maxLinks = 1 << 17

// links knows what has several names, anything but directories, and is in an
// archive under one.
type links struct {
	seed  maphash.Seed
	files map[inode]link
}

type inode struct {
	part       int
	device, at uint64
}

type link struct {
	name  string // in the archive
	print uint64 // what has another one is another file with a number used again
	left  uint32 // names still to come
}

func newLinks() links { return links{maphash.MakeSeed(), make(map[inode]link)} }

// earlier returns the name under which a file is in the archive already.
func (l *links) earlier(part int, e *repo.Entry) (name string, ok bool) {
	if e.Nlink < 2 || e.Type == repo.TypeDirectory {
		return "", false
	}
	key := inode{part, e.Device, e.Inode}
	first, ok := l.files[key]
	if !ok || first.print != l.fingerprint(e) {
		return "", false
	}
	if first.left--; first.left == 0 {
		delete(l.files, key)
	} else {
		l.files[key] = first
	}
	return first.name, true
}

// add notes a file that the archive now holds.
func (l *links) add(part int, e *repo.Entry, name string) {
	key := inode{part, e.Device, e.Inode}
	if _, taken := l.files[key]; e.Nlink >= 2 && e.Type != repo.TypeDirectory && !taken && len(l.files) < maxLinks {
		l.files[key] = link{name, l.fingerprint(e), e.Nlink - 1}
	}
}

// fingerprint tells two entries apart that are not names of one inode.
func (l *links) fingerprint(e *repo.Entry) uint64 {
	type summary struct {
		typ    repo.Type
		device [2]uint32
		target string
		size   int64
		mtime  repo.Time
		chunks uint64
		root   [32]byte
	}
	h := maphash.Hash{}
	h.SetSeed(l.seed)
	maphash.WriteComparable(&h, summary{e.Type, [2]uint32{e.Major, e.Minor}, e.Target, e.Size, e.Mtime, e.Content.Chunks, e.Content.Root})
	for i := range e.Content.Inline {
		h.Write(e.Content.Inline[i].ID[:])
	}
	return h.Sum64()
}
