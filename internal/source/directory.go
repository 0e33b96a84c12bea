package source

import (
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// batchSize is how many names are examined at a time: what is kept of a directory of a million files, beside the
// names, is a batch or a few.
const batchSize = 512

// directory is one directory of a scan. Its list task fills in what follows it; then it does not change any more.
type directory struct {
	scan   *scan
	parent *directory // nil for "/"
	name   string
	named  *named // the PATHs at and below it, or nil
	whole  bool   // everything in it is wanted, not only what leads to a PATH
	follow bool   // above a PATH: a symbolic link stands here, and the directory it leads to is meant
	volume uint64 // the device of the PATH it belongs to, when the scan stays on one

	timeless bool // what is in it has no change time to trust
	memory   bool // it is in the page cache and nowhere else

	list task

	st    unix.Stat_t
	fate  fate
	err   error // it could not be read; with fateLost: why the scan ends
	names listing
	first *batch

	held held // guarded by scan.fds.mu
}

// fate is what a name turned out to be when it was opened as a directory.
type fate uint8

const (
	fateDirectory fate = iota // as expected
	fateGone                  // it vanished
	fateOther                 // something else stands there now, which st describes
	fateLost                  // it leads to a PATH, and can not be reached: the scan ends
)

// batch is a part of the names of a directory, examined.
type batch struct {
	dir      *directory
	from, to int
	task     task
	records  []record // for each name
	next     *batch   // guarded by scan.mu
}

// record is what was found under a name.
type record struct {
	st   unix.Stat_t
	err  error
	sub  *directory // a directory, described by its own list task
	fate fate       // of what is not in sub: zero, fateGone or fateLost
}

// openBelow opens d below the descriptor of its parent; parent is ignored for the root.
func (d *directory) openBelow(parent int) (int, error) {
	flags := unix.O_RDONLY | unix.O_NOATIME
	if !d.whole {
		// Who may pass through a directory need not be allowed to list it.
		flags = unix.O_PATH
	}
	switch {
	case d.parent == nil:
		fd, err := openRoot(flags)
		if errnoOf(err) == unix.EPERM {
			fd, err = openRoot(flags &^ unix.O_NOATIME)
		}
		return fd, err
	case d.follow:
		hops := maxLinkHops
		return stepNamed(parent, d.name, &hops)
	}
	return openName(parent, d.name, directoryFlags|flags)
}

// read is the list task: it opens, lists and examines the first batch.
func (d *directory) read(w *worker) {
	s := d.scan
	parent := -1
	if d.parent != nil {
		fd, err := s.fds.pin(d.parent)
		if err != nil {
			d.fail(fmt.Errorf("directory above it: %w", err))
			return
		}
		parent = fd
		defer s.fds.unpin(d.parent)
	}
	fd, err := d.open(parent)
	if err != nil || d.fate != fateDirectory {
		if err != nil {
			d.fail(err)
		}
		return
	}
	if fd, err = s.fds.adopt(d, fd); err != nil {
		d.fail(err)
		return
	}
	defer s.fds.unpin(d)
	d.survey(fd)
	if err := d.collect(fd, w); err != nil {
		d.fail(err)
		return
	}
	d.first = &batch{dir: d, to: min(d.names.count(), batchSize)}
	d.first.examine(fd, w)
}

// fail ends the reading of a directory; it will be entered and left, with nothing in it.
func (d *directory) fail(err error) {
	d.err, d.names = err, listing{}
	if d.first == nil {
		d.first = &batch{dir: d}
	}
	if d.fate == fateDirectory && d.named != nil {
		// Not being allowed to list a PATH is trouble like any other; not being able to reach one is not.
		if !d.whole || d.st.Ino == 0 {
			d.fate = fateLost
		}
	}
}

// open returns a descriptor of d, not yet adopted, and fills in st; or decides on another fate.
func (d *directory) open(parent int) (int, error) {
	for try := 0; ; try++ {
		fd, err := d.scan.fds.trying(func() (int, error) { return d.openBelow(parent) })
		if err == nil {
			// What counts is what was opened, not what had been seen under the name before.
			if errno := fstat(fd, &d.st); errno != 0 {
				closeFD(fd)
				return -1, os.NewSyscallError("stat", errno)
			}
			return fd, nil
		}
		if d.parent == nil || d.follow {
			return -1, err
		}
		if d.named != nil && d.named.through() {
			d.fate = fateLost
			return -1, err
		}
		// It could not be opened; why not, and what is known about it all the same?
		if e := fstatName(parent, d.name, &d.st); e != nil {
			if errnoOf(e) == unix.ENOENT {
				d.fate = fateGone
				if d.named != nil {
					d.fate = fateLost
					return -1, e
				}
				return -1, nil
			}
			return -1, err
		}
		if d.st.Mode&unix.S_IFMT != unix.S_IFDIR {
			d.fate = fateOther
			return -1, nil
		}
		switch errnoOf(err) {
		case unix.ENOENT, unix.ELOOP, unix.ENOTDIR:
			// It is a directory again: somebody exchanges it to and fro.
			if try < 8 {
				continue
			}
			err = ErrChanged
		}
		return -1, err
	}
}

// collect fills in the names that are wanted, sorted.
func (d *directory) collect(fd int, w *worker) error {
	s := d.scan
	w.lister.reset()
	if d.whole && s.files.oneFileSystem && !d.isPath() && d.st.Dev != d.volume {
		d.whole = false
	}
	if d.isPath() {
		d.volume = d.st.Dev
	}
	if !d.whole {
		if d.named != nil {
			for _, name := range d.named.names {
				if err := w.lister.add([]byte(name), unix.DT_UNKNOWN); err != nil {
					return err
				}
			}
		}
		d.names = w.lister.finish()
		return nil
	}
	for {
		if s.stopped.Load() {
			return ErrReleased
		}
		n, errno := getdents(fd, w.buf)
		if errno == unix.ENOENT {
			break // removed since it was opened: it is empty
		}
		if errno != 0 {
			return os.NewSyscallError("getdents", errno)
		}
		if n == 0 {
			break
		}
		if err := w.lister.addAll(w.buf[:n]); err != nil {
			return err
		}
	}
	// A PATH that is not there must be noticed, also when it is below another.
	if d.named != nil {
		for _, name := range d.named.names {
			if err := w.lister.add([]byte(name), unix.DT_UNKNOWN); err != nil {
				return err
			}
		}
	}
	d.names = w.lister.finish()
	if len(s.files.patterns.rules) > 0 {
		d.exclude(fd, w)
	}
	if s.files.excludeCaches && !d.isPath() && isCache(s.fds, fd, &d.names) {
		d.names.keep(func(i int, name string) bool {
			d.names.pass(i)
			return name == cacheTag || d.named.child(name) != nil
		})
	}
	return nil
}

func (d *directory) isPath() bool { return d.named != nil && d.named.path }

// exclude applies the patterns. A PATH is never excluded, nor are the directories above it: naming it is the stronger
// wish. They are then passed through.
func (d *directory) exclude(fd int, w *worker) {
	p := d.scan.files.patterns
	var above []string
	if p.wantsPath {
		above = d.components(w.components[:0])
		w.components = above
	}
	d.names.keep(func(i int, name string) bool {
		child := d.named.child(name)
		if child != nil && child.path {
			return true
		}
		typ := d.names.typ(i)
		if typ == unix.DT_UNKNOWN {
			typ = typeBelow(fd, name)
			d.names.setType(i, typ)
		}
		if !p.excluded(above, name, typ == unix.DT_DIR) {
			return true
		}
		d.names.pass(i)
		return child != nil
	})
}

// typeBelow asks for the type where the file system did not tell it with the name.
func typeBelow(fd int, name string) uint8 {
	var st unix.Stat_t
	if fstatName(fd, name, &st) != nil {
		return unix.DT_UNKNOWN
	}
	return uint8(st.Mode & unix.S_IFMT >> 12)
}

// components appends the names from the root down to d.
func (d *directory) components(to []string) []string {
	n := 0
	for p := d; p.parent != nil; p = p.parent {
		n++
		to = append(to, "")
	}
	for i, p := len(to)-1, d; n > 0; i, n, p = i-1, n-1, p.parent {
		to[i] = p.name
	}
	return to
}

// path is for messages; very long ones lose their middle.
func (d *directory) path() string {
	const most = 4096
	p := "/" + path.Join(d.components(nil)...)
	if len(p) > most {
		p = p[:most/2] + "…" + p[len(p)-most/2:]
	}
	return p
}

// examine fills in the records of the batch. fd is the directory of the batch, pinned.
func (b *batch) examine(fd int, w *worker) {
	d := b.dir
	s := d.scan
	if len(b.records) != b.to-b.from {
		b.records = s.slab(b.to - b.from)
	}
	var subs []*directory
	for i := range b.records {
		if s.stopped.Load() {
			b.to = b.from + i
			b.records = b.records[:i]
			return
		}
		e := d.names.at(b.from + i)
		r := &b.records[i]
		name, typ := entryName(e), entryType(e)
		child := d.named.child(name)
		if typ == unix.DT_DIR && child == nil {
			// Opening it will tell the rest, so there is no need to ask twice.
			r.sub = d.child(name, nil, true)
			subs = append(subs, r.sub)
			continue
		}
		if errno := fstatat(fd, entryPointer(e), &r.st); errno != 0 {
			switch {
			case child != nil:
				r.fate, r.err = fateLost, os.NewSyscallError("lstat", errno)
			case errno == unix.ENOENT:
				r.fate = fateGone
			default:
				r.st = unix.Stat_t{Mode: uint32(typ) << 12}
				r.err = os.NewSyscallError("lstat", errno)
			}
			continue
		}
		switch format := r.st.Mode & unix.S_IFMT; {
		case format == unix.S_IFDIR:
			whole := d.whole && e[0]&markPass == 0 || child != nil && child.path
			r.sub = d.child(name, child, whole)
			r.sub.follow = false
			subs = append(subs, r.sub)
		case child.through():
			if format != unix.S_IFLNK {
				r.fate, r.err = fateLost, os.NewSyscallError("open", unix.ENOTDIR)
				break
			}
			r.sub = d.child(name, child, false)
			r.sub.follow = true
			subs = append(subs, r.sub)
		}
	}
	if len(subs) > 0 {
		s.fds.enrol(subs...)
	}
}

func (d *directory) child(name string, n *named, whole bool) *directory {
	c := &directory{scan: d.scan, parent: d, name: name, named: n, whole: whole, volume: d.volume}
	c.list.dir = c
	return c
}
