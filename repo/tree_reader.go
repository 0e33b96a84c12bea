package repo

import (
	"context"
	"math"
)

// DirReader goes through the entries of one directory in the order of their
// names, and finds single ones. It holds one page of each level. One goroutine
// at a time.
type DirReader struct {
	dir    Dir
	cursor dirCursor
	leaf   dirLeaf
	opened bool // leaf is valid
	files  uint64
	bytes  int64
	err    error // sticky
}

// newDirReader reads the directory d, whose pages src has.
func newDirReader(src pageSource, d Dir) *DirReader {
	r := &DirReader{dir: d, cursor: newDirCursor(src, &d)}
	if reason := checkDir(&d); reason != "" {
		r.err = treeError("directory %s: %s", d.Root.Short(), reason)
	}
	return r
}

// Next returns the next entry, and false after the last one. It compares
// levels, names and counts with what the parents of the pages say, and at the
// end the totals with those of the directory: an error that wraps ErrDamaged
// may come after entries that were in order, so nothing is complete before
// Next returned false without an error. It allocates nothing between pages.
func (r *DirReader) Next(ctx context.Context) (RawEntry, bool, error) {
	var e RawEntry
	ok, err := r.next(ctx, &e)
	return e, ok, err
}

func (r *DirReader) next(ctx context.Context, e *RawEntry) (bool, error) {
	for r.err == nil {
		if r.opened {
			ok, err := r.leaf.next(e)
			if err == nil && ok {
				err = r.count(e)
			}
			if err != nil {
				r.err = err
				break
			}
			if ok {
				return true, nil
			}
			r.opened = false
			if r.err = r.cursor.take(ctx); r.err != nil {
				break
			}
		}
		if !r.cursor.more {
			if r.files != r.dir.Files || r.bytes != r.dir.Bytes {
				r.err = wrongTotals(&r.dir)
				break
			}
			return false, nil
		}
		r.open(ctx)
	}
	return false, r.err
}

func wrongTotals(d *Dir) error {
	return treeError("directory %s: totals of files and bytes contradict its entries", d.Root.Short())
}

// open goes down to the next leaf and opens it.
func (r *DirReader) open(ctx context.Context) {
	for r.cursor.front.level > 0 {
		if r.err = r.cursor.descend(ctx); r.err != nil {
			return
		}
	}
	r.leaf, r.err = openLeaf(ctx, r.cursor.src, &r.cursor.front)
	r.opened = r.err == nil
}

// count adds what e brings to the totals of its directory.
func (r *DirReader) count(e *RawEntry) error {
	files, size, reason := e.totals()
	if reason != "" {
		return r.leaf.damaged(reason)
	}
	r.files = addFiles(r.files, files)
	r.bytes = addBytes(r.bytes, size)
	return nil
}

// addFiles and addBytes add up the totals of a directory. They stop at the
// greatest number, which a few sparse files of eight exbibytes each reach: a
// total is for people, and no reason to leave out a file.
func addFiles(a, b uint64) uint64 {
	if b > math.MaxUint64-a {
		return math.MaxUint64
	}
	return a + b
}

func addBytes(a, b int64) int64 {
	if b > math.MaxInt64-a {
		return math.MaxInt64
	}
	return a + b
}

// totals returns what the entry brings to Files and Bytes of its directory.
func (r *RawEntry) totals() (files uint64, size int64, reason string) {
	if r.typ != TypeDirectory {
		return 1, r.size, ""
	}
	v, reason := r.dir()
	return v.Files, v.Bytes, reason
}

// Find returns the entry with that name, and false when there is none. It reads
// one page of each level and does not move what Next returns next.
func (r *DirReader) Find(ctx context.Context, name string) (RawEntry, bool, error) {
	if r.err != nil || r.dir.Entries == 0 {
		return RawEntry{}, false, r.err
	}
	ref := rootRef(&r.dir)
	for ref.level > 0 {
		p, err := loadBranch(ctx, r.cursor.src, &ref)
		if err != nil {
			return RawEntry{}, false, err
		}
		below, ok := childFor(p, &ref, name)
		if !ok {
			return RawEntry{}, false, nil
		}
		ref = below
	}
	leaf, err := openLeaf(ctx, r.cursor.src, &ref)
	if err != nil {
		return RawEntry{}, false, err
	}
	var e, found RawEntry
	for {
		ok, err := leaf.next(&e)
		if err != nil {
			return RawEntry{}, false, err
		}
		if !ok {
			return found, found.frame != nil, nil
		}
		if string(e.Name()) == name {
			found = e
		}
	}
}

// childFor returns the child of a branch that has the name if any has.
func childFor(p []byte, ref *pageRef, name string) (pageRef, bool) {
	d := treeDecoder{b: p, off: 1}
	prev := ref.after
	for d.left() > 0 {
		last, id, entries := d.branchItem()
		if string(last) >= name {
			return pageRef{id: id, entries: entries, after: prev, last: last, level: ref.level - 1}, true
		}
		prev = last
	}
	return pageRef{}, false
}
