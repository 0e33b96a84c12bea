package repo

import (
	"bytes"
	"context"
	"encoding/binary"

	"github.com/generalbots/backupd/crypto"
)

// pageBuilder holds the page that is being made. While all that was appended
// equals the beginning of a page of the base, it holds only how much that is:
// the page of an unchanged directory is never copied and never hashed.
type pageBuilder struct {
	base   []byte // page of the base that this one may turn out to be
	baseID crypto.ID
	same   int    // > 0: the page is base[:same], and own is not used
	own    []byte // the page otherwise; empty when none is begun
}

// begin starts a page. base may be nil.
func (p *pageBuilder) begin(kind uint8, base []byte, id crypto.ID) {
	if len(base) > 0 && base[0] == kind {
		p.base, p.baseID, p.same = base, id, 1
		return
	}
	p.same = 0
	p.own = append(p.own[:0], kind)
}

// size returns the bytes of the page so far; 0 when none is begun.
func (p *pageBuilder) size() int {
	if p.same > 0 {
		return p.same
	}
	return len(p.own)
}

func (p *pageBuilder) append(item []byte) {
	if p.same > 0 {
		end := p.same + len(item)
		if end <= len(p.base) && bytes.Equal(p.base[p.same:end], item) {
			p.same = end
			return
		}
		p.copyBase()
	}
	p.own = append(p.own, item...)
}

// copyBase gives up on the page being one of the base.
func (p *pageBuilder) copyBase() {
	p.own = append(p.own[:0], p.base[:p.same]...)
	p.base, p.same = nil, 0
}

// end stores the page unless it is the page of the base, and begins none.
func (p *pageBuilder) end(ctx context.Context, sink pageSink, like []crypto.ID) (crypto.ID, error) {
	if p.same > 0 && p.same == len(p.base) {
		p.base, p.same = nil, 0
		return p.baseID, nil
	}
	if p.same > 0 {
		p.copyBase()
	}
	id, err := sink.putPage(ctx, p.own, like)
	p.own = p.own[:0]
	return id, err
}

// reset makes the builder fit for another directory or content and keeps its
// memory when that is not too much.
func (p *pageBuilder) reset() {
	own := p.own[:0]
	if cap(own) > 2*maxPageCut {
		own = nil
	}
	*p = pageBuilder{own: own}
}

// dirBuilder makes the pages of one level of a directory.
type dirBuilder struct {
	page    pageBuilder
	level   uint8
	pages   int       // pages ended
	lastID  crypto.ID // of the last page ended
	entries uint64    // below the page that is being made
	last    []byte    // name of the last item; memory of its own
	item    []byte    // scratch for an item of the level above
	base    baseDir
	like    []crypto.ID // scratch
}

// baseDir follows the base's pages of one level beside the new ones.
type baseDir struct {
	cursor dirCursor
	level  uint8
}

// start begins at the first page of that level; a base without such a level is
// none.
func (b *baseDir) start(ctx context.Context, src pageSource, d *Dir, level uint8) error {
	*b = baseDir{level: level}
	if src == nil || d.Entries == 0 || d.Level < level {
		return nil
	}
	b.cursor = newDirCursor(src, d)
	return b.settle(ctx)
}

// settle goes down to the level. A base that can not be read is none from there
// on: it costs space, and must not keep a backup from being made.
func (b *baseDir) settle(ctx context.Context) error {
	for b.cursor.more && b.cursor.front.level > b.level {
		if err := b.cursor.descend(ctx); err != nil {
			return b.giveUp(ctx)
		}
	}
	return nil
}

// giveUp returns an error only when ctx is done.
func (b *baseDir) giveUp(ctx context.Context) error {
	b.cursor = dirCursor{}
	return context.Cause(ctx)
}

// seek goes forward to the page that has the name, if any page has.
func (b *baseDir) seek(ctx context.Context, name []byte) error {
	for b.cursor.more && !b.holds(name) {
		if err := b.next(ctx); err != nil {
			return err
		}
	}
	return nil
}

// holds tells whether no page after the front can have the name.
func (b *baseDir) holds(name []byte) bool {
	last := b.cursor.front.last
	return last == nil || bytes.Compare(name, last) <= 0
}

func (b *baseDir) next(ctx context.Context) error {
	if err := b.cursor.take(ctx); err != nil {
		return b.giveUp(ctx)
	}
	return b.settle(ctx)
}

// page returns the bytes of the front, nil without one.
func (b *baseDir) page(ctx context.Context) ([]byte, error) {
	if !b.cursor.more {
		return nil, nil
	}
	p, err := loadPage(ctx, b.cursor.src, b.cursor.front.id, dirPageKind, b.level)
	if err != nil {
		return nil, b.giveUp(ctx)
	}
	return p, nil
}

// add appends an item to the pages of level l of the directory. What ends a
// page depends only on the items: the same directory has the same pages
// whatever it was made from.
func (d *DirWriter) add(ctx context.Context, l int, item, name []byte, entries uint64) error {
	if l == len(d.levels) {
		b, err := d.newLevel(ctx, l)
		if err != nil {
			return err
		}
		d.levels = append(d.levels, b)
	}
	b := d.levels[l]
	if size := b.page.size(); size > 1 && size+len(item) > maxPageCut {
		if err := d.endPage(ctx, l); err != nil {
			return err
		}
	}
	if b.page.size() == 0 {
		if err := b.beginPage(ctx, name); err != nil {
			return err
		}
	}
	b.page.append(item)
	b.last = append(b.last[:0], name...)
	b.entries += entries
	if size := b.page.size(); size >= minPageCut && cutsAfter(name, len(item), b.level) {
		return d.endPage(ctx, l)
	}
	return nil
}

func (b *dirBuilder) beginPage(ctx context.Context, name []byte) error {
	if err := b.base.seek(ctx, name); err != nil {
		return err
	}
	base, err := b.base.page(ctx)
	if err != nil {
		return err
	}
	b.page.begin(dirPageKind|b.level, base, b.base.cursor.front.id)
	// The front stays where the page began: endPage names all from here to
	// where the page ends.
	return nil
}

// endPage ends the page of level l and tells the level above.
func (d *DirWriter) endPage(ctx context.Context, l int) error {
	b := d.levels[l]
	if err := b.likeRange(ctx); err != nil {
		return err
	}
	id, err := b.page.end(ctx, d.tree.sink, b.like)
	if err != nil {
		return err
	}
	entries := b.entries
	b.entries = 0
	b.pages++
	b.lastID = id
	b.item = appendBytes(b.item[:0], b.last)
	b.item = append(b.item, id[:]...)
	b.item = binary.AppendUvarint(b.item, entries)
	return d.add(ctx, l+1, b.item, b.last, entries)
}

// likeRange collects the pages of the base between the names of the page.
func (b *dirBuilder) likeRange(ctx context.Context) error {
	b.like = b.like[:0]
	if b.page.same > 0 && b.page.same == len(b.page.base) {
		return nil
	}
	for b.base.cursor.more {
		if len(b.like) < maxLikePages {
			b.like = append(b.like, b.base.cursor.front.id)
		}
		if b.base.holds(b.last) {
			return nil
		}
		if err := b.base.next(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *DirWriter) newLevel(ctx context.Context, l int) (*dirBuilder, error) {
	if l > MaxPageLevel {
		return nil, treeError("directory has too many levels")
	}
	var b *dirBuilder
	if free := d.tree.freeDirs; len(free) > 0 {
		b = free[len(free)-1]
		d.tree.freeDirs = free[:len(free)-1]
	} else {
		b = new(dirBuilder)
	}
	b.level = uint8(l)
	return b, b.base.start(ctx, d.src, &d.base, b.level)
}

// release gives the memory of the builders to the next directory.
func (d *DirWriter) release() {
	for _, b := range d.levels {
		b.page.reset()
		*b = dirBuilder{page: b.page, last: b.last[:0], item: b.item[:0], like: b.like[:0]}
		if len(d.tree.freeDirs) < maxFreeBuilders {
			d.tree.freeDirs = append(d.tree.freeDirs, b)
		}
	}
	d.levels, d.first = nil, [2]*dirBuilder{}
}
