package restore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"sync"
	"syscall"

	"github.com/generalbots/backupd/internal/target"
	"github.com/generalbots/backupd/repo"
)

// maxLinks bounds the hard-linked inodes of which names are still to come,
// about 300 bytes each.
const maxLinks = 1 << 17

// inode names what has several names: anything but a directory.
type inode struct {
	part        int
	device, num uint64
}

// link is that: the first of its names is restored, the others are made links
// to it as soon as that is done.
type link struct {
	content uint64 // of the first; what differs is another file with a number used again
	seen    uint32 // names; of the plan
	stays   bool   // in a dry run: the first name would be left alone

	mu       sync.Mutex // guards what follows
	resolved bool
	made     *target.Made // nil when it was not restored by this run
	waiting  []*file

	// Of a first name that was there already; set before resolved, so read after it without mu.
	first   *file
	adopted sync.Once
	found   *target.Made // nil when it is another file
}

var errManyLinks = fmt.Errorf("more than %d hard-linked files at once: some links become copies", maxLinks)

// linked notes the names of files that have several, and reports whether f is
// one of which an earlier name was planned.
func (pl *plan) linked(f *file) bool {
	e := &f.entry
	if e.Nlink < 2 {
		return false
	}
	key := inode{f.part, e.Device, e.Inode}
	l := pl.links[key]
	if l == nil {
		if len(pl.links) >= maxLinks {
			if !pl.manyLinks {
				pl.manyLinks = true
				pl.problem(f.path(), "link", errManyLinks)
			}
			return false
		}
		l = &link{content: fingerprint(e), seen: 1}
		pl.links[key], f.link = l, l
		return false
	}
	if l.content != fingerprint(e) {
		return false
	}
	f.link, f.later = l, true
	if l.seen++; l.seen >= e.Nlink {
		delete(pl.links, key)
	}
	return true
}

// fingerprint tells two files apart that are not names of one.
func fingerprint(e *repo.Entry) uint64 {
	h := fnv.New64a()
	var b [8]byte
	put := func(v uint64) { binary.LittleEndian.PutUint64(b[:], v); h.Write(b[:]) }
	put(uint64(e.Type))
	put(uint64(e.Size))
	put(uint64(e.Mtime.Sec))
	put(uint64(e.Mtime.Nsec))
	put(uint64(e.Major)<<32 | uint64(e.Minor))
	put(e.Content.Chunks)
	put(uint64(e.Content.Level))
	h.Write(e.Content.Root[:])
	for i := range e.Content.Inline {
		h.Write(e.Content.Inline[i].ID[:])
	}
	h.Write([]byte(e.Target))
	return h.Sum64()
}

// resolve tells the names that wait for a file what became of it.
func (x *run) resolve(l *link, made *target.Made) {
	l.mu.Lock()
	waiting := l.waiting
	l.waiting, l.made, l.resolved = nil, made, true
	l.mu.Unlock()
	for _, f := range waiting {
		x.linkNow(f, made)
	}
}

// linkLater makes a further name of a file, or leaves that to who restores it.
func (x *run) linkLater(f *file) {
	l := f.link
	l.mu.Lock()
	if !l.resolved {
		l.waiting = append(l.waiting, f)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	x.linkNow(f, l.made)
}

func (x *run) linkNow(f *file, made *target.Made) {
	if x.ctx.Err() != nil {
		return
	}
	if made == nil {
		switch {
		case f.link.first == nil:
		case f.entry.Type != repo.TypeRegular:
			made = x.adopt(f.link)
		case x.begin(f) != nil: // only for a name that is missing is it worth to read what the first one holds
			if made = x.adopt(f.link); made != nil {
				x.unbegin(f)
			}
		}
		if made == nil {
			x.copyWhole(f)
			return
		}
	}
	err := f.dir.folder.Link(f.entry.Name, made)
	switch {
	case err == nil:
		x.count(func(r *Report) { r.Links++ })
	case x.kept(f.path(), err) || x.fatal(err):
	case errors.Is(err, target.ErrNotEmpty) || errors.Is(err, target.ErrName):
		x.problem(f.path(), "link", err)
	case errors.Is(err, syscall.EXDEV), errors.Is(err, syscall.EMLINK), errors.Is(err, syscall.EPERM),
		errors.Is(err, syscall.EACCES), errors.Is(err, target.ErrMoved):
		x.copyWhole(f)
		return
	default:
		x.problem(f.path(), "link", err)
	}
	x.handled(f)
}

// adopt gives what stood under the first name already, when it is in every respect what would have been
// restored there: as it is after a restore that died between two names of a file, or one that left some names alone.
func (x *run) adopt(l *link) *target.Made {
	l.adopted.Do(func() {
		f := l.first
		made, fd, err := f.dir.folder.Existing(f.entry.Name, f.entry.Size, metaOf(&f.entry))
		if err != nil {
			return
		}
		if fd < 0 {
			l.found = made
			return
		}
		in := os.NewFile(uintptr(fd), string(f.path()))
		defer in.Close()
		f.prepare()
		if x.compare(f, in) == nil {
			l.found = made
		}
	})
	return l.found
}

// unbegin takes back what begin did.
func (x *run) unbegin(f *file) {
	f.open.Lock()
	defer f.open.Unlock()
	x.mu.Lock()
	delete(x.open, f)
	x.mu.Unlock()
	f.w.Abort()
	f.w, f.state = nil, fresh
}

var errCopied = errors.New("restored as a file of its own, not as another name of one that is there already or can not be linked to")

// copyWhole restores a further name as a file of its own, chunk after chunk:
// the first name was left as it stood and is not what it was, or the file system can not link. The
// bytes are right then, but writing to one name no longer reaches the others,
// so it is a problem.
func (x *run) copyWhole(f *file) {
	if f.entry.Type != repo.TypeRegular {
		if made, _ := x.place(f); made != nil {
			x.problem(f.path(), "link", errCopied)
		}
		x.handled(f)
		return
	}
	f.open.Lock()
	f.prepare()
	f.open.Unlock()
	f.left.Store(1)
	if w := x.begin(f); w != nil {
		var buf []byte
		op := "read"
		err := x.eachRef(&f.entry.Content, func(ref repo.Ref, off int64) (err error) {
			if x.ctx.Err() != nil {
				return x.ctx.Err()
			}
			op = "read"
			if buf, err = x.rd.AppendChunk(x.ctx, buf[:0], ref.ID); err != nil {
				return err
			}
			if len(buf) != int(ref.Len) {
				return fmt.Errorf("%w: chunk %s: %w", repo.ErrDamaged, ref.ID.Short(), errLength)
			}
			op = "write"
			return x.write(f, w, buf, off)
		})
		if err != nil {
			x.fail(f, op, err)
		}
	}
	x.drop(f)
	f.open.Lock()
	copied := f.state == done
	f.open.Unlock()
	if copied {
		x.problem(f.path(), "link", errCopied)
	}
}
