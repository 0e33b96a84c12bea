package backup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/repo"
)

// builder writes the tree, bottom up, in the order of the scan.
type builder struct {
	*run
	tree   *repo.TreeWriter
	stack  []level
	root   *repo.Entry
	counts repo.Counts
	links  map[inode]*linked
}

// level is a directory whose entries are still coming.
type level struct {
	enter item
	dir   *repo.DirWriter
}

// build takes the batches in order and returns the part they make.
func (x *run) build() (repo.Part, error) {
	b := &builder{run: x, links: make(map[inode]*linked)}
	part := *x.part
	if x.w != nil {
		b.tree = x.w.Tree()
	}
	for {
		var bt *batch
		var ok bool
		select {
		case bt, ok = <-x.order:
		case <-x.ctx.Done():
			return part, context.Cause(x.ctx)
		}
		if !ok {
			break
		}
		if bt.work {
			if err := x.wait(bt.done); err != nil {
				return part, err
			}
		}
		for i := range bt.items {
			if err := b.item(&bt.items[i]); err != nil {
				return part, err
			}
		}
		x.recycle(bt)
	}
	if err := context.Cause(x.ctx); err != nil {
		return part, err
	}
	if x.lost != nil {
		return part, nil
	}
	if b.root == nil {
		return part, errNoRoot
	}
	return part, b.finish(&part)
}

func (b *builder) finish(part *repo.Part) error {
	b.counts.Removed += b.removed
	b.counts.BytesRead = b.prog.BytesRead.Load() - b.earlier.read
	b.counts.BytesNew = b.prog.BytesNew.Load() - b.earlier.new
	part.StartedAt, part.FinishedAt = b.begun, time.Now()
	if b.base.snapshot != nil {
		part.BaseID = b.base.snapshot.ID
		part.Generation = b.base.part.Generation + 1
	}
	if b.w != nil {
		if err := part.SetRoot(b.root); err != nil {
			return err
		}
	}
	part.Counts = b.counts
	part.Notes = append(slices.Clone(part.Notes), b.notes()...)
	b.remarks(part)
	return nil
}

// Suspicious begins the notes of a part that holds far less than its base.
const Suspicious = "suspicious: "

// notes says what a person, or who deletes old snapshots, should look at
// before this one is taken for all there is to keep.
func (b *builder) notes() (notes []string) {
	if b.baseLost != nil {
		notes = append(notes, fmt.Sprintf("the base could not be read in places, what is there counts as new: %v", b.baseLost))
	}
	if b.base.part == nil {
		return notes
	}
	was, is := &b.base.part.Counts, &b.counts
	switch {
	case was.Files > 0 && is.Files == 0:
		notes = append(notes, fmt.Sprintf(Suspicious+"no files, where snapshot %s has %d: is what is backed up mounted, and may it be seen?",
			b.base.snapshot.ID, was.Files))
	case is.Files < was.Files/2:
		notes = append(notes, fmt.Sprintf(Suspicious+"%d files, where snapshot %s has %d", is.Files, b.base.snapshot.ID, was.Files))
	case is.BytesTotal < was.BytesTotal/2:
		notes = append(notes, fmt.Sprintf(Suspicious+"files of %d bytes, where snapshot %s has %d", is.BytesTotal, b.base.snapshot.ID, was.BytesTotal))
	}
	return notes
}

func (b *builder) item(it *item) error {
	switch it.entry.Event {
	case source.Enter:
		l := level{enter: *it}
		if b.tree != nil {
			l.dir = b.tree.NewDir(it.baseDir, b.repo.Reader())
		}
		b.stack = append(b.stack, l)
		return nil
	case source.Leave:
		return b.leave(it)
	}
	return b.file(it)
}

func (b *builder) leave(it *item) error {
	l := b.stack[len(b.stack)-1]
	b.stack = b.stack[:len(b.stack)-1]
	defer b.src.Release(&it.entry)
	if b.tree == nil {
		b.directory()
		return nil
	}
	dir, err := l.dir.Close(b.ctx)
	if err != nil || l.enter.failed {
		return err
	}
	e := new(repo.Entry)
	if l.enter.unchanged {
		if err := l.enter.base.Entry(e); err != nil {
			return err
		}
		if e.Dir == dir {
			b.directory()
			return b.stack[len(b.stack)-1].dir.AddRaw(b.ctx, l.enter.base)
		}
	} else {
		toEntry(&l.enter, e)
	}
	e.Dir = dir
	if len(b.stack) > 0 {
		if added, err := b.add(it, e); err != nil || !added {
			return err
		}
	} else {
		e.Name = ""
		b.root = e
	}
	b.directory()
	return nil
}

// directory counts one that has been left.
func (b *builder) directory() {
	b.counts.Dirs++
	b.prog.Dirs.Add(1)
	if b.tree == nil && len(b.stack) == 0 {
		b.root = &repo.Entry{}
	}
}

// add puts an entry into the directory being built, unless the format has no
// room for it, which is a problem of the item.
func (b *builder) add(it *item, e *repo.Entry) (added bool, err error) {
	err = b.stack[len(b.stack)-1].dir.Add(b.ctx, e)
	if errors.Is(err, repo.ErrInvalidEntry) {
		b.problem(it.path(), "store", err)
		return false, nil
	}
	return err == nil, err
}

func (b *builder) file(it *item) error {
	var err error
	switch {
	case it.large != nil:
		err = b.largeFile(it)
	case it.link:
		err = b.further(it)
	case it.entry.Type == source.Regular && !it.failed && !it.unchanged && b.tree != nil:
		err = b.contents(it)
	}
	if err != nil {
		return err
	}
	b.keepLink(it)
	if it.failed {
		if it.gone && it.hasBase {
			b.counts.Removed++
		}
		return nil
	}
	if it.unchanged {
		b.counts.Unchanged++
		b.counted(it, it.base.Size())
		if b.tree == nil {
			return nil
		}
		return b.stack[len(b.stack)-1].dir.AddRaw(b.ctx, it.base)
	}
	return b.changed(it)
}

// changed adds a file that was read. It may turn out to be what the base has
// all the same, as it does mostly when nothing was taken over unread.
func (b *builder) changed(it *item) error {
	var size int64
	if it.entry.Type == source.Regular {
		size = it.entry.Size
	}
	same := it.hasBase && b.sameStat(&it.entry, &it.base)
	if b.tree != nil {
		var e repo.Entry
		toEntry(it, &e)
		size, same = e.Size, it.hasBase && sameFile(&e, &it.base)
		if added, err := b.add(it, &e); err != nil || !added {
			return err
		}
	}
	switch {
	case same:
		b.counts.Unchanged++
	case it.hasBase:
		b.counts.Changed++
	default:
		b.counts.New++
	}
	b.counted(it, size)
	return nil
}

// counted counts an entry of that size that is done. What it had of bytes
// before is in Progress already.
func (b *builder) counted(it *item, size int64) {
	b.counts.Files++
	// A few sparse files of the greatest size are more than there are numbers.
	b.counts.BytesTotal += min(size, math.MaxInt64-b.counts.BytesTotal)
	b.prog.Files.Add(1)
	b.prog.Bytes.Add(size - it.moved)
}

// sameFile tells whether the base has the same file: content, and all that a
// restore brings back.
func sameFile(e *repo.Entry, base *repo.RawEntry) bool {
	var old repo.Entry
	if e.Type != base.Type() || e.Size != base.Size() || e.Mtime != base.Mtime() || e.Mode != base.Mode() ||
		e.UID != base.UID() || e.GID != base.GID() || base.Entry(&old) != nil {
		return false
	}
	return e.User == old.User && e.Group == old.Group && e.Target == old.Target && e.Major == old.Major && e.Minor == old.Minor && e.Sparse == old.Sparse &&
		e.Content.Root == old.Content.Root && e.Content.Bytes == old.Content.Bytes &&
		slices.Equal(e.Content.Inline, old.Content.Inline) && slices.Equal(e.Extents, old.Extents) &&
		slices.EqualFunc(e.Xattrs, old.Xattrs, func(a, b repo.Xattr) bool { return a.Name == b.Name && string(a.Value) == string(b.Value) })
}

// contents makes the content of a file that a worker has read.
func (b *builder) contents(it *item) error {
	if len(it.refs) <= repo.MaxInlineChunks {
		it.content = inline(it.refs)
		return nil
	}
	cw := b.tree.NewContent(b.oldContent(it), b.repo.Reader())
	for _, r := range it.refs {
		if err := cw.Add(b.ctx, r); err != nil {
			return err
		}
	}
	var err error
	it.content, err = cw.Close(b.ctx)
	return err
}

func inline(refs []repo.Ref) repo.Content {
	c := repo.Content{Inline: refs, Chunks: uint64(len(refs))}
	for _, r := range refs {
		c.Bytes += int64(r.Len)
	}
	return c
}

func (b *builder) oldContent(it *item) *repo.Content {
	var e repo.Entry
	if !it.hasBase || it.base.Type() != repo.TypeRegular || it.base.Entry(&e) != nil {
		return nil
	}
	return &e.Content
}

// largeFile takes the segments of a large file in order and makes its content.
func (b *builder) largeFile(it *item) error {
	cw := b.tree.NewContent(b.oldContent(it), b.repo.Reader())
	var moved int64
	for {
		var seg *segment
		var ok bool
		select {
		case seg, ok = <-it.large.segments:
		case <-b.ctx.Done():
			return context.Cause(b.ctx)
		}
		if !ok {
			break
		}
		if err := b.wait(seg.done); err != nil {
			return err
		}
		for _, r := range seg.refs {
			if err := cw.Add(b.ctx, r); err != nil {
				return err
			}
			moved += int64(r.Len)
			b.prog.Bytes.Add(int64(r.Len))
		}
		b.segments.Put(seg)
	}
	if err := context.Cause(b.ctx); err != nil {
		return err
	}
	content, err := cw.Close(b.ctx)
	if err != nil {
		return err
	}
	*it = *it.large.item
	it.content, it.moved = content, moved
	if it.failed {
		b.prog.Bytes.Add(-moved)
	}
	return nil
}

// toEntry makes what the tree keeps of an item.
func toEntry(it *item, e *repo.Entry) {
	s := &it.entry
	*e = repo.Entry{
		Name: s.Name, Type: repo.Type(s.Type), Mode: s.Mode, UID: s.UID, GID: s.GID,
		User: it.details.User, Group: it.details.Group,
		Mtime: repo.Time(s.Mtime), Ctime: repo.Time(s.Ctime), Inode: s.Ino, Device: s.Dev, Nlink: s.Nlink,
		Target: it.details.Target, Major: s.RdevMajor, Minor: s.RdevMinor,
	}
	if s.Type == source.Regular {
		e.Size, e.Content, e.Sparse, e.Extents = it.size, it.content, it.sparse, it.extents
	}
	if it.partial {
		e.Ctime = partialCtime
	}
	for _, x := range it.details.Xattrs {
		e.Xattrs = append(e.Xattrs, repo.Xattr(x))
	}
}
