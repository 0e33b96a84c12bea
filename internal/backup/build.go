package backup

import (
	"context"
	"errors"
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
}

// level is a directory whose entries are still coming.
type level struct {
	enter item
	dir   *repo.DirWriter
}

// build takes the batches in order and returns the part they make.
func (x *run) build() (repo.Part, error) {
	b := &builder{run: x}
	part := x.opts.Part
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
		if err := x.wait(bt.done); err != nil {
			return part, err
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
	if b.root == nil {
		return part, errors.New("the source ended before its root directory did")
	}
	return part, b.finish(&part)
}

func (b *builder) finish(part *repo.Part) error {
	b.counts.Removed = b.run.counts.Removed
	b.counts.BytesRead = b.prog.BytesRead.Load()
	b.counts.BytesNew = b.prog.BytesNew.Load()
	part.StartedAt, part.FinishedAt = b.started, time.Now()
	if b.base.snapshot != nil {
		part.BaseID = b.base.snapshot.ID
		part.Generation = b.base.part.Generation + 1
	}
	if b.w != nil {
		b.counts.BytesStored = b.w.StoredBytes()
		if err := part.SetRoot(b.root); err != nil {
			return err
		}
	}
	part.Counts = b.counts
	return nil
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
	b.counts.Dirs++
	b.prog.Dirs.Add(1)
	if b.tree == nil {
		if len(b.stack) == 0 {
			b.root = &repo.Entry{}
		}
		return nil
	}
	dir, err := l.dir.Close(b.ctx)
	if err != nil {
		return err
	}
	e := new(repo.Entry)
	if l.enter.unchanged {
		if err := l.enter.base.Entry(e); err != nil {
			return err
		}
		if e.Dir == dir {
			return b.add(nil, &l.enter.base)
		}
		e.Dir = dir
	} else {
		toEntry(&l.enter, e)
		e.Dir = dir
	}
	if len(b.stack) == 0 {
		e.Name = ""
		b.root = e
		return nil
	}
	return b.add(e, nil)
}

// add puts an entry, or the base's as it is, into the directory being built.
func (b *builder) add(e *repo.Entry, raw *repo.RawEntry) error {
	if b.tree == nil {
		return nil
	}
	dir := b.stack[len(b.stack)-1].dir
	if raw != nil {
		return dir.AddRaw(b.ctx, *raw)
	}
	return dir.Add(b.ctx, e)
}

func (b *builder) file(it *item) error {
	if it.large != nil {
		if err := b.largeFile(it); err != nil {
			return err
		}
	}
	if it.link {
		first := b.links[inode{it.entry.Dev, it.entry.Ino}]
		if first == nil || first.failed {
			return nil // its first name has the problem
		}
		it.entry.Size, it.entry.Mtime, it.entry.Ctime = first.item.entry.Size, first.item.entry.Mtime, first.item.entry.Ctime
		it.size, it.content, it.details = first.item.size, first.item.content, first.item.details
		it.extents, it.sparse = first.item.extents, first.item.sparse
	}
	if it.failed {
		b.keepLink(it)
		return nil
	}
	b.counts.Files++
	b.prog.Files.Add(1)
	if it.unchanged {
		b.counts.Unchanged++
		b.counts.BytesTotal += it.base.Size()
		b.prog.Bytes.Add(it.base.Size())
		return b.add(nil, &it.base)
	}
	if it.hasBase {
		b.counts.Changed++
	} else {
		b.counts.New++
	}
	b.counts.BytesTotal += it.entry.Size
	b.prog.Bytes.Add(it.entry.Size)
	if b.tree == nil {
		return nil
	}
	if it.entry.Type == source.Regular && it.large == nil && !it.link {
		if err := b.contents(it); err != nil {
			return err
		}
	}
	b.keepLink(it)
	var e repo.Entry
	toEntry(it, &e)
	return b.add(&e, nil)
}

// keepLink remembers a file that has more names to come.
func (b *builder) keepLink(it *item) {
	if it.entry.Type == source.Regular && it.entry.Nlink > 1 && !it.link && b.tree != nil {
		cp := *it
		cp.refs, cp.base, cp.path = nil, repo.RawEntry{}, nil
		b.links[inode{it.entry.Dev, it.entry.Ino}] = &linked{item: cp, failed: it.failed}
	}
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
		}
		b.bufs.Put(seg)
	}
	if err := context.Cause(b.ctx); err != nil {
		return err
	}
	content, err := cw.Close(b.ctx)
	if err != nil {
		return err
	}
	large := it.large
	*it = *large.item
	it.large, it.content = large, content
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
	for _, x := range it.details.Xattrs {
		e.Xattrs = append(e.Xattrs, repo.Xattr(x))
	}
}
