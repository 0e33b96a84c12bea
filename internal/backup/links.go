package backup

import (
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/repo"
)

// linked is what a name of a file with several names led to, for the names
// that come after it.
type linked struct {
	left    uint32 // names still to come
	read    bool   // what follows was read
	entry   source.Entry
	details source.Details
	size    int64
	content repo.Content
	extents []repo.Extent
	sparse  bool
	partial bool
}

// keepLink remembers what the first name of a file with several led to. Names
// outside of what is backed up never come; of those a little memory is held
// until the end.
func (b *builder) keepLink(it *item) {
	if !it.first {
		return
	}
	if it.entry.Nlink < 2 {
		return // the others went meanwhile
	}
	l := &linked{left: it.entry.Nlink - 1}
	l.take(it)
	b.links[inode{it.entry.Dev, it.entry.Ino}] = l
}

func (l *linked) take(it *item) {
	if it.failed {
		return
	}
	l.read, l.entry, l.details, l.size = true, it.entry, it.details, it.size
	l.content, l.extents, l.sparse, l.partial = it.content, it.extents, it.sparse, it.partial
}

// further makes a further name of a file that was read under another name. It
// is read by itself when that failed, or when lstat tells something else than
// it did of the file that was read: that one may be gone and its inode taken
// by another file.
func (b *builder) further(it *item) error {
	if b.tree == nil {
		return nil
	}
	key := inode{it.entry.Dev, it.entry.Ino}
	l := b.links[key]
	if l != nil {
		if l.left--; l.left == 0 {
			delete(b.links, key)
		}
	}
	if l != nil && l.read && l.entry.Size == it.entry.Size && l.entry.Mtime == it.entry.Mtime && l.entry.Ctime == it.entry.Ctime {
		it.size, it.content, it.details, it.extents, it.sparse, it.partial = l.size, l.content, l.details, l.extents, l.sparse, l.partial
		return nil
	}
	if err := b.readLate(it); err != nil || it.failed {
		return err
	}
	if err := b.contents(it); err != nil {
		return err
	}
	if l != nil {
		l.take(it)
	}
	return nil
}

// readLate has a worker read an item whose turn was over. The directory it is
// in is not released before its Leave, which comes after it.
func (b *builder) readLate(it *item) error {
	late := &batch{items: []item{*it}, work: true, done: make(chan struct{})}
	late.items[0].link = false
	if err := b.send(task{batch: late}); err != nil {
		return err
	}
	if err := b.wait(late.done); err != nil {
		return err
	}
	*it = late.items[0]
	it.link = true
	return nil
}
