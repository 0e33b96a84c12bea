package repo

import (
	"context"
	"encoding/binary"
	"hash/maphash"

	"github.com/generalbots/backupd/crypto"
)

// pageKind tells what a page of a tree lists.
type pageKind uint8

const (
	dirPage pageKind = iota
	contentPage
)

// walkTree goes through all pages and chunk references below a directory.
//
// Each page is offered to visit before it is read; where visit returns false
// neither it nor anything below it is read, so that a caller who remembers the
// pages it has seen pays once for what snapshots share. What is said of a page is
// compared with it when it is read: claim tells two such sayings apart, for who
// is not to believe the second. chunk gets the chunks of the files in the pages
// that were read, some of them more than once. Either may be nil.
//
// Pages that contradict each other are an error that wraps ErrDamaged, and so
// are directories nested deeper than MaxTreeDepth. Memory is a bounded number
// of pages and, for each directory on the way down, a few names.
func walkTree(ctx context.Context, src pageSource, root Dir, visit visitPage, chunk func(Ref)) error {
	return (&treeWalk{src: src, visit: visit, chunk: chunk}).walk(ctx, root)
}

// proveTree is walkTree that also adds up the totals of directories, of those of
// which it reads every page.
func proveTree(ctx context.Context, src pageSource, root Dir, visit visitPage, chunk func(Ref)) error {
	return (&treeWalk{src: src, visit: visit, chunk: chunk, totals: true}).walk(ctx, root)
}

// visitPage is asked before a page is read. claim is never 0.
type visitPage func(id crypto.ID, kind pageKind, claim uint32) bool

func (w *treeWalk) walk(ctx context.Context, root Dir) error {
	if w.visit == nil {
		w.visit = func(crypto.ID, pageKind, uint32) bool { return true }
	}
	if w.chunk == nil {
		w.chunk = func(Ref) {}
	}
	if reason := checkDir(&root); reason != "" {
		return treeError("root: %s", reason)
	}
	w.push(&root)
	for len(w.dirs) > 0 {
		if err := w.step(ctx); err != nil {
			return err
		}
	}
	return nil
}

type treeWalk struct {
	src    pageSource
	visit  visitPage
	chunk  func(Ref)
	totals bool
	dirs   []walkDir // from the root to the directory being read
	e      Entry     // scratch
}

type walkDir struct {
	dir    Dir // what is said of it
	cursor dirCursor
	leaf   dirLeaf
	opened bool // leaf is valid
	passed bool // a page was not read
	files  uint64
	bytes  int64
}

var claimSeed = maphash.MakeSeed()

// claimOf makes a claim of numbers and names.
func claimOf(numbers [4]uint64, names ...[]byte) uint32 {
	var h maphash.Hash
	h.SetSeed(claimSeed)
	var b [8]byte
	for _, n := range numbers {
		binary.LittleEndian.PutUint64(b[:], n)
		h.Write(b[:])
	}
	for _, n := range names {
		h.WriteByte(byte(len(n))) // MaxNameLength fits
		h.Write(n)
	}
	return uint32(h.Sum64()) | 1
}

// claim is that of the page at the front: of the first one it holds what is said
// of the directory.
func (d *walkDir) claim() uint32 {
	f := &d.cursor.front
	if len(d.cursor.branches) == 0 {
		return claimOf([4]uint64{f.entries, uint64(f.level), d.dir.Files, uint64(d.dir.Bytes)})
	}
	return claimOf([4]uint64{f.entries, uint64(f.level)}, f.after, f.last)
}

func (w *treeWalk) push(d *Dir) {
	w.dirs = append(w.dirs, walkDir{dir: *d, cursor: newDirCursor(w.src, d)})
	if n := len(w.dirs) - maxOpenDirs; n > 0 {
		w.dirs[n-1].park()
	}
}

func (d *walkDir) park() {
	d.cursor.park()
	if d.opened {
		d.leaf.park()
	}
}

// step goes on in the deepest directory until another one is the deepest.
func (w *treeWalk) step(ctx context.Context) error {
	d := &w.dirs[len(w.dirs)-1]
	for {
		if d.opened {
			below, err := w.leaf(ctx, d)
			if err != nil || below {
				return err
			}
			d.opened = false
			if err := d.cursor.take(ctx); err != nil {
				return err
			}
		}
		switch {
		case !d.cursor.more:
			if w.totals && !d.passed && (d.files != d.dir.Files || d.bytes != d.dir.Bytes) {
				return wrongTotals(&d.dir)
			}
			w.dirs = w.dirs[:len(w.dirs)-1]
			return context.Cause(ctx)
		case !w.visit(d.cursor.front.id, dirPage, d.claim()):
			d.passed = true
			if err := d.cursor.take(ctx); err != nil {
				return err
			}
		case d.cursor.front.level > 0:
			if err := d.cursor.descend(ctx); err != nil {
				return err
			}
		default:
			var err error
			if d.leaf, err = openLeaf(ctx, w.src, &d.cursor.front); err != nil {
				return err
			}
			d.opened = true
		}
	}
}

// leaf goes on in an open leaf; true when it went down into a directory.
func (w *treeWalk) leaf(ctx context.Context, d *walkDir) (below bool, err error) {
	if err := d.leaf.unpark(ctx, w.src); err != nil {
		return false, err
	}
	var r RawEntry
	for {
		ok, err := d.leaf.next(&r)
		if err != nil || !ok {
			return false, err
		}
		// All of each entry is decoded, not only what leads on: a walk is also
		// how check finds the entries that can not be restored.
		if err := r.decode(&w.e); err != nil {
			return false, err
		}
		files, size := uint64(1), r.size
		if r.typ == TypeDirectory {
			files, size = w.e.Dir.Files, w.e.Dir.Bytes
		}
		d.files, d.bytes = addFiles(d.files, files), addBytes(d.bytes, size)
		switch {
		case r.typ == TypeDirectory && w.e.Dir.Entries > 0:
			if len(w.dirs) == MaxTreeDepth {
				return false, d.leaf.damaged("directories nest too deep")
			}
			w.push(&w.e.Dir)
			return true, nil
		case r.typ == TypeRegular:
			if err := w.content(ctx, &w.e.Content); err != nil {
				return false, err
			}
		}
	}
}

func (w *treeWalk) content(ctx context.Context, c *Content) error {
	for _, r := range c.Inline {
		w.chunk(r)
	}
	if c.Level == 0 {
		return nil
	}
	cursor, err := newContentCursor(w.src, c)
	if err != nil {
		return err
	}
	for cursor.more {
		f := &cursor.front
		switch {
		case !w.visit(f.id, contentPage, claimOf([4]uint64{f.chunks, uint64(f.level), uint64(f.bytes), 1})):
		case cursor.front.level > 0:
			if err := cursor.descend(ctx); err != nil {
				return err
			}
			continue
		default:
			if err := w.refs(ctx, &cursor.front); err != nil {
				return err
			}
		}
		cursor.take()
	}
	return context.Cause(ctx)
}

func (w *treeWalk) refs(ctx context.Context, ref *contentRef) error {
	p, err := loadContent(ctx, w.src, ref)
	if err != nil {
		return err
	}
	leaf := openContent{ref: *ref, page: p, off: 1}
	for item, ok := leaf.next(); ok; item, ok = leaf.next() {
		w.chunk(Ref{ID: item.id, Len: uint32(item.bytes)})
	}
	return nil
}
