package repo

import (
	"bytes"
	"context"
	"iter"
	"slices"
)

// ChangeKind says how a path differs between two trees.
type ChangeKind uint8

// The kinds of changes. What a restore does not bring back (ctime, inode,
// device and the number of links) is not compared.
const (
	// Added: only the new tree has the path.
	Added ChangeKind = iota + 1
	// Removed: only the old tree has it.
	Removed
	// Changed: the type differs, or what the entry holds: the content of a file
	// and its holes, the target of a symlink, the numbers of a device. A
	// directory only changes when something in it does, which is told by that.
	Changed
	// MetaChanged: nothing differs but mode, owner, mtime or xattrs.
	MetaChanged
)

// String returns the kind as a word.
func (k ChangeKind) String() string {
	switch k {
	case Added:
		return "added"
	case Removed:
		return "removed"
	case Changed:
		return "changed"
	case MetaChanged:
		return "metadata"
	}
	return "unknown"
}

// Change is one difference between two trees.
type Change struct {
	Path string // names below the root joined by '/', any bytes; "" is the root
	Kind ChangeKind
	Old  *Entry // nil when added
	New  *Entry // nil when removed
}

// diffTrees yields what differs between two trees, given by the entries of
// their roots, a directory before what it holds and else in the order of the
// names. Every path below an added or removed directory is yielded too. Pages
// that both trees have are not read where they stand at the same place in the
// order, whole directories first of all. An error ends it.
func diffTrees(ctx context.Context, src pageSource, a, b *Entry) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		d := treeDiff{src: src}
		change, err := d.root(a, b)
		for err == nil {
			if change.Kind != 0 && !yield(change, nil) {
				return
			}
			if len(d.dirs) == 0 {
				return
			}
			change, err = d.step(ctx)
		}
		yield(Change{}, err)
	}
}

type treeDiff struct {
	src  pageSource
	dirs []diffDir // from the root to the directories being compared
	path []byte
}

// diffDir is a pair of directories with the same path; one of them may be
// empty, which stands for none.
type diffDir struct {
	old, new diffSide
	path     int // length of the path above
}

// diffSide goes through one directory. Its front is an entry or a page that has
// not been read.
type diffSide struct {
	cursor dirCursor
	leaf   dirLeaf
	opened bool // leaf is valid
	entry  RawEntry
	have   bool // entry is the front
}

func (d *treeDiff) root(a, b *Entry) (Change, error) {
	if a.Type != TypeDirectory || b.Type != TypeDirectory {
		return Change{}, treeError("the root of a tree is no directory")
	}
	for _, e := range []*Entry{a, b} {
		if reason := checkDir(&e.Dir); reason != "" {
			return Change{}, treeError("root: %s", reason)
		}
	}
	if a.Dir != b.Dir {
		d.push(&a.Dir, &b.Dir, 0)
	}
	return Change{Kind: compareEntries(a, b), Old: a, New: b}, nil
}

func (d *treeDiff) push(a, b *Dir, path int) {
	d.dirs = append(d.dirs, diffDir{
		old:  diffSide{cursor: newDirCursor(d.src, a)},
		new:  diffSide{cursor: newDirCursor(d.src, b)},
		path: path,
	})
	if n := len(d.dirs) - maxOpenDirs; n > 0 {
		d.dirs[n-1].old.park()
		d.dirs[n-1].new.park()
	}
}

// step goes on to the next change in the deepest pair of directories. A change
// of kind 0 is none: the step ended a pair or went down into one.
func (d *treeDiff) step(ctx context.Context) (Change, error) {
	top := &d.dirs[len(d.dirs)-1]
	for {
		old, new, done, err := top.fronts(ctx, d.src)
		if err != nil {
			return Change{}, err
		}
		if done {
			d.path = d.path[:top.path]
			d.dirs = d.dirs[:len(d.dirs)-1]
			return Change{}, context.Cause(ctx)
		}
		if old != nil && new != nil && bytes.Equal(old.Bytes(), new.Bytes()) {
			continue
		}
		return d.change(top, old, new)
	}
}

// change compares two entries with the same name, one of which may be nil, and
// goes down into them.
func (d *treeDiff) change(top *diffDir, old, new *RawEntry) (Change, error) {
	var c Change
	var below [2]Dir
	var name []byte
	for i, r := range []*RawEntry{old, new} {
		if r == nil {
			continue
		}
		e := &Entry{}
		if err := r.decode(e); err != nil {
			return Change{}, err
		}
		name = r.Name()
		below[i] = e.Dir
		if i == 0 {
			c.Old = e
		} else {
			c.New = e
		}
	}
	switch {
	case c.Old == nil:
		c.Kind = Added
	case c.New == nil:
		c.Kind = Removed
	default:
		c.Kind = compareEntries(c.Old, c.New)
	}
	above := len(d.path)
	if above > 0 {
		d.path = append(d.path, '/')
	}
	d.path = append(d.path, name...)
	c.Path = string(d.path)
	if below[0] == below[1] {
		d.path = d.path[:above]
		return c, nil
	}
	if len(d.dirs) == MaxTreeDepth {
		return Change{}, treeError("directories nest too deep")
	}
	d.push(&below[0], &below[1], above)
	return c, nil
}

// fronts takes the next entries off both sides: two with the same name, or one
// that the other side has not.
func (p *diffDir) fronts(ctx context.Context, src pageSource) (old, new *RawEntry, done bool, err error) {
	a, b := &p.old, &p.new
	for {
		if err := a.fill(ctx, src); err != nil {
			return nil, nil, false, err
		}
		if err := b.fill(ctx, src); err != nil {
			return nil, nil, false, err
		}
		switch {
		case a.have && b.have:
			order := bytes.Compare(a.entry.Name(), b.entry.Name())
			if order <= 0 {
				old = a.takeEntry()
			}
			if order >= 0 {
				new = b.takeEntry()
			}
			return old, new, false, nil
		case a.have && !b.cursor.more:
			return a.takeEntry(), nil, false, nil
		case b.have && !a.cursor.more:
			return nil, b.takeEntry(), false, nil
		case !a.cursor.more && !b.cursor.more:
			return nil, nil, true, nil
		}
		if err := nextPages(ctx, src, a, b); err != nil {
			return nil, nil, false, err
		}
	}
}

// nextPages leaves out the page both sides have at their front, or goes down
// into the one that keeps the sides from being compared.
func nextPages(ctx context.Context, src pageSource, a, b *diffSide) error {
	switch {
	case a.have || !a.cursor.more:
		return b.down(ctx, src)
	case b.have || !b.cursor.more:
		return a.down(ctx, src)
	case a.cursor.front.id == b.cursor.front.id:
		if err := a.cursor.take(ctx); err != nil {
			return err
		}
		return b.cursor.take(ctx)
	case a.cursor.front.level > b.cursor.front.level:
		return a.down(ctx, src)
	case a.cursor.front.level < b.cursor.front.level:
		return b.down(ctx, src)
	}
	if err := a.down(ctx, src); err != nil {
		return err
	}
	return b.down(ctx, src)
}

// fill makes the next entry of an open leaf the front.
func (s *diffSide) fill(ctx context.Context, src pageSource) error {
	if s.have || !s.opened {
		return nil
	}
	if err := s.leaf.unpark(ctx, src); err != nil {
		return err
	}
	ok, err := s.leaf.next(&s.entry)
	if err != nil {
		return err
	}
	s.have = ok
	if ok {
		return nil
	}
	s.opened = false
	return s.cursor.take(ctx)
}

// takeEntry returns the entry at the front, valid until the next fill.
func (s *diffSide) takeEntry() *RawEntry {
	s.have = false
	return &s.entry
}

// down goes into the page at the front.
func (s *diffSide) down(ctx context.Context, src pageSource) (err error) {
	if s.cursor.front.level > 0 {
		return s.cursor.descend(ctx)
	}
	s.leaf, err = openLeaf(ctx, src, &s.cursor.front)
	s.opened = err == nil
	return err
}

// park lets go of the pages of a side until it is the deepest again.
func (s *diffSide) park() {
	s.cursor.park()
	if s.opened {
		s.leaf.park()
	}
	if s.have {
		s.entry.frame = slices.Clone(s.entry.frame)
	}
}

// compareEntries says how two entries differ; 0 when a restore of one can not
// be told from a restore of the other.
func compareEntries(a, b *Entry) ChangeKind {
	if a.Type != b.Type || !sameSubstance(a, b) {
		return Changed
	}
	if a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID || a.User != b.User || a.Group != b.Group ||
		a.Mtime != b.Mtime || !slices.EqualFunc(a.Xattrs, b.Xattrs, sameXattr) {
		return MetaChanged
	}
	return 0
}

func sameXattr(a, b Xattr) bool { return a.Name == b.Name && bytes.Equal(a.Value, b.Value) }

// sameSubstance compares what entries of one type hold, directories left out.
func sameSubstance(a, b *Entry) bool {
	switch a.Type {
	case TypeRegular:
		x, y := &a.Content, &b.Content
		return a.Size == b.Size && a.Sparse == b.Sparse && slices.Equal(a.Extents, b.Extents) &&
			x.Level == y.Level && x.Root == y.Root && x.Chunks == y.Chunks && slices.Equal(x.Inline, y.Inline)
	case TypeSymlink:
		return a.Target == b.Target
	case TypeCharDevice, TypeBlockDevice:
		return a.Major == b.Major && a.Minor == b.Minor
	}
	return true
}
