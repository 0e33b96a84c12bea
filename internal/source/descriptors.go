package source

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxDescriptors bounds the directories one scan keeps open. A process has 1024 descriptors where nobody raised the
// limit, and repository and network need theirs.
const maxDescriptors = 256

// descriptors keeps the directories of one scan open, the most recently used of them. One that was closed to keep the
// bound is opened again when it is needed, from the nearest open directory above it, component by component; it must
// be the inode it was.
//
// A directory lives until it is released and all directories in it are gone, so what leads to a live one is there.
type descriptors struct {
	limit int
	idle  func() // called without the mutex when the last directory is gone

	mu     sync.Mutex
	open   int  // directories in the ring
	live   int  // directories not yet gone
	closed bool // nothing is opened any more; pinned ones close when they are unpinned
	ring   held // sentinel of the open ones: next is the most recently used, prev the least
}

// held is the part of a directory that the mutex of its scan's descriptors guards.
type held struct {
	fd         int // -1 when it is not open
	pins       int // who uses fd at this moment
	refs       int // 1 until released, and 1 for each live directory in it
	released   bool
	prev, next *held
	of         *directory
}

func newDescriptors(limit int, idle func()) *descriptors {
	c := &descriptors{limit: limit, idle: idle}
	c.ring.prev, c.ring.next = &c.ring, &c.ring
	return c
}

// enrol makes directories live; their parent must be.
func (c *descriptors) enrol(ds ...*directory) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range ds {
		d.held = held{fd: -1, refs: 1, of: d}
		c.live++
		if d.parent != nil {
			d.parent.held.refs++
		}
	}
}

func (c *descriptors) unlink(h *held) {
	h.prev.next, h.next.prev = h.next, h.prev
	h.prev, h.next = nil, nil
	c.open--
}

func (c *descriptors) linkFirst(h *held) {
	h.prev, h.next = &c.ring, c.ring.next
	h.next.prev, c.ring.next = h, h
	c.open++
}

// shut closes the descriptor of h, which nobody uses.
func (c *descriptors) shut(h *held) {
	c.unlink(h)
	closeFD(h.fd)
	h.fd = -1
}

// shrink closes the least recently used until at most limit are open.
func (c *descriptors) shrink(limit int) {
	for h := c.ring.prev; h != &c.ring && c.open > limit; {
		prev := h.prev
		if h.pins == 0 {
			c.shut(h)
		}
		h = prev
	}
}

// trying calls open again, with fewer directories open, when the process or the system ran out of descriptors. The scan
// then keeps to fewer for good: the rest of the process needs some too.
func (c *descriptors) trying(open func() (int, error)) (int, error) {
	const least = 8
	for {
		fd, err := open()
		if !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE) {
			return fd, err
		}
		c.mu.Lock()
		before := c.open
		c.limit = max(least, min(c.limit, before)/2)
		c.shrink(c.limit)
		none := c.open == before
		c.mu.Unlock()
		if none {
			return fd, err
		}
	}
}

// adopt hands an open directory over, pinned. Another goroutine may have been faster: then its descriptor stays.
func (c *descriptors) adopt(d *directory, fd int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := &d.held
	if h.fd >= 0 {
		closeFD(fd)
	} else {
		if c.closed {
			closeFD(fd)
			return -1, ErrReleased
		}
		h.fd = fd
		c.linkFirst(h)
	}
	h.pins++
	if c.open > c.limit {
		c.shrink(c.limit)
	}
	return h.fd, nil
}

// pin returns a descriptor of the directory that stays open until unpin. It may be one that O_PATH opened.
func (c *descriptors) pin(d *directory) (int, error) {
	c.mu.Lock()
	if c.closed || d.held.refs == 0 {
		c.mu.Unlock()
		return -1, ErrReleased
	}
	if h := &d.held; h.fd >= 0 {
		h.pins++
		if c.ring.next != h {
			c.unlink(h)
			c.linkFirst(h)
		}
		c.mu.Unlock()
		return h.fd, nil
	}
	// The way back: up to the nearest open one, then down again.
	var way []*directory
	at := d
	for at.held.fd < 0 {
		way = append(way, at)
		if at.parent == nil {
			at = nil
			break
		}
		at = at.parent
	}
	fd := -1
	if at != nil {
		at.held.pins++
		fd = at.held.fd
	}
	c.mu.Unlock()

	for i := len(way) - 1; i >= 0; i-- {
		next, err := c.reopen(fd, way[i])
		if at != nil {
			c.unpin(at)
		}
		if err != nil {
			return -1, err
		}
		at, fd = way[i], next
	}
	return fd, nil
}

// reopen opens a directory that had been open before and returns it pinned.
func (c *descriptors) reopen(parent int, d *directory) (int, error) {
	fd, err := c.trying(func() (int, error) { return d.openBelow(parent) })
	if err != nil {
		switch errnoOf(err) {
		case unix.ENOENT, unix.ELOOP, unix.ENOTDIR:
			err = ErrChanged
		}
		return -1, err
	}
	var st unix.Stat_t
	if errno := fstat(fd, &st); errno != 0 {
		closeFD(fd)
		return -1, os.NewSyscallError("stat", errno)
	}
	// One that could not be examined yet has no inode to compare with: its parent has.
	if d.st.Ino != 0 && (st.Ino != d.st.Ino || st.Dev != d.st.Dev) {
		closeFD(fd)
		return -1, ErrChanged
	}
	return c.adopt(d, fd)
}

func (c *descriptors) unpin(d *directory) {
	c.mu.Lock()
	h := &d.held
	h.pins--
	if h.pins == 0 && h.fd >= 0 && (c.closed || h.refs == 0) {
		c.shut(h)
	}
	c.mu.Unlock()
}

// release drops the reference a directory has to itself.
func (c *descriptors) release(d *directory) {
	c.mu.Lock()
	if d.held.released {
		c.mu.Unlock()
		return
	}
	d.held.released = true
	for ; d != nil; d = d.parent {
		h := &d.held
		if h.refs--; h.refs > 0 {
			break
		}
		c.live--
		if h.pins == 0 && h.fd >= 0 {
			c.shut(h)
		}
	}
	idle := c.live == 0
	c.mu.Unlock()
	if idle {
		c.idle()
	}
}

// close closes everything nobody uses at this moment, and the rest when it is unpinned.
func (c *descriptors) close() {
	c.mu.Lock()
	c.closed = true
	c.shrink(0)
	c.mu.Unlock()
}
