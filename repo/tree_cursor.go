package repo

import (
	"bytes"
	"context"
	"slices"

	"github.com/generalbots/backupd/crypto"
)

// pageRef is what is known about a directory page before it is read.
type pageRef struct {
	id      crypto.ID
	entries uint64 // entries of the directory in it and below
	after   []byte // every name is above; nil for the first page
	last    []byte // the last name; nil when nobody said, which is so for a root
	level   uint8
}

// checkName compares a name with what is known of the page it stands in.
func (p *pageRef) checkName(prev, name []byte) string {
	if bytes.Compare(name, prev) <= 0 && prev != nil {
		return "names are not ascending"
	}
	return ""
}

// rootRef is the page a directory that is not empty begins with.
func rootRef(d *Dir) pageRef {
	return pageRef{id: d.Root, entries: d.Entries, level: d.Level}
}

// branchItem reads an item of a branch page.
func (d *treeDecoder) branchItem() (name []byte, id crypto.ID, entries uint64) {
	return d.bytes(MaxNameLength), d.id(), d.uvarint()
}

// loadBranch reads a branch page and compares all of it with what its parent
// says, so that whoever goes through it need not.
func loadBranch(ctx context.Context, src pageSource, ref *pageRef) ([]byte, error) {
	p, err := loadPage(ctx, src, ref.id, dirPageKind, ref.level)
	if err != nil {
		return nil, err
	}
	d := treeDecoder{b: p, off: 1}
	prev := ref.after
	var sum uint64
	for d.left() > 0 && d.bad == "" {
		name, _, entries := d.branchItem()
		if d.bad != "" {
			break
		}
		if d.bad = nameError(name); d.bad == "" {
			d.bad = ref.checkName(prev, name)
		}
		if entries == 0 || entries > ref.entries-sum {
			d.fail("counts of entries contradict each other")
		}
		sum += entries
		prev = name
	}
	if d.bad == "" && sum != ref.entries {
		d.bad = "counts of entries contradict each other"
	}
	if d.bad == "" && ref.last != nil && !bytes.Equal(prev, ref.last) {
		d.bad = "the last name is another than its parent says"
	}
	if d.bad != "" {
		return nil, treeError("directory page %s: %s", ref.id.Short(), d.bad)
	}
	return p, nil
}

// openBranch is a branch page somebody is in the midst of.
type openBranch struct {
	ref  pageRef
	page []byte // nil while parked
	off  int    // of the item after the front
	prev []byte // the last name of the item before the front
}

// dirCursor goes through the pages of a directory in the order of the names.
// The page at its front has not been read yet: it is taken or descended into,
// and never read at all when neither the level nor the id asks for it.
type dirCursor struct {
	src      pageSource
	front    pageRef
	more     bool // there is a front
	branches []openBranch
}

func newDirCursor(src pageSource, d *Dir) dirCursor {
	return dirCursor{src: src, front: rootRef(d), more: d.Entries > 0}
}

// descend puts the first child of the front in its place. The front is a branch.
func (c *dirCursor) descend(ctx context.Context) error {
	p, err := loadBranch(ctx, c.src, &c.front)
	if err != nil {
		return err
	}
	c.branches = append(c.branches, openBranch{ref: c.front, page: p, off: 1, prev: c.front.after})
	return c.take(ctx)
}

// take leaves the front behind and goes to the page after it, which may be of
// a higher level.
func (c *dirCursor) take(ctx context.Context) error {
	c.more = false
	for len(c.branches) > 0 {
		b := &c.branches[len(c.branches)-1]
		if b.page == nil {
			p, err := loadBranch(ctx, c.src, &b.ref)
			if err != nil {
				return err
			}
			b.page = p
		}
		if b.off == len(b.page) {
			c.branches = c.branches[:len(c.branches)-1]
			continue
		}
		d := treeDecoder{b: b.page, off: b.off}
		name, id, entries := d.branchItem()
		if d.bad != "" {
			return treeError("directory page %s: %s", b.ref.id.Short(), d.bad)
		}
		c.front = pageRef{id: id, entries: entries, after: b.prev, last: name, level: b.ref.level - 1}
		c.more = true
		b.off, b.prev = d.off, name
		return nil
	}
	return nil
}

// park lets go of all pages; take reads those it needs again. A walk parks the
// directories far above it, so that deep trees do not keep all their pages.
func (c *dirCursor) park() {
	c.front.park()
	for i := range c.branches {
		b := &c.branches[i]
		b.ref.park()
		b.page, b.prev = nil, slices.Clone(b.prev)
	}
}

func (p *pageRef) park() {
	p.after, p.last = slices.Clone(p.after), slices.Clone(p.last)
}

// dirLeaf goes through the entries of one leaf page.
type dirLeaf struct {
	ref  pageRef
	page []byte // nil while parked
	off  int
	prev []byte // name of the entry before
	left uint64 // entries that must still come
}

// openLeaf reads the leaf that ref tells of.
func openLeaf(ctx context.Context, src pageSource, ref *pageRef) (dirLeaf, error) {
	p, err := loadPage(ctx, src, ref.id, dirPageKind, 0)
	if err != nil {
		return dirLeaf{}, err
	}
	return dirLeaf{ref: *ref, page: p, off: 1, prev: ref.after, left: ref.entries}, nil
}

// next reads the next entry into e; false after the last. What the parent says
// of the page is compared on the way.
func (l *dirLeaf) next(e *RawEntry) (bool, error) {
	if l.left == 0 {
		return false, l.end()
	}
	n, reason := e.parseFrame(l.page[l.off:])
	if reason == "" {
		reason = l.ref.checkName(l.prev, e.Name())
	}
	if reason != "" {
		return false, l.damaged(reason)
	}
	l.off += n
	l.left--
	l.prev = e.Name()
	return true, nil
}

// end compares the end of the page with what the parent says of it.
func (l *dirLeaf) end() error {
	if l.off != len(l.page) {
		return l.damaged("more entries than its parent says")
	}
	if l.ref.last != nil && !bytes.Equal(l.ref.last, l.prev) {
		return l.damaged("the last name is another than its parent says")
	}
	return nil
}

func (l *dirLeaf) damaged(reason string) error {
	return treeError("directory page %s: %s", l.ref.id.Short(), reason)
}

// park lets go of the page until unpark.
func (l *dirLeaf) park() {
	l.ref.park()
	l.page, l.prev = nil, slices.Clone(l.prev)
}

func (l *dirLeaf) unpark(ctx context.Context, src pageSource) error {
	if l.page != nil {
		return nil
	}
	p, err := loadPage(ctx, src, l.ref.id, dirPageKind, 0)
	l.page = p
	return err
}
