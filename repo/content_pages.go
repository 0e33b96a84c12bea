package repo

import (
	"context"

	"github.com/generalbots/backupd/crypto"
)

// contentRef is what is known about a content page before it is read.
type contentRef struct {
	id     crypto.ID
	chunks uint64
	start  int64 // offset of its first byte in the content
	bytes  int64
	level  uint8
}

func (r *contentRef) end() int64 { return r.start + r.bytes }

// contentRoot is the page a content with pages begins with.
func contentRoot(c *Content) contentRef {
	return contentRef{id: c.Root, chunks: c.Chunks, bytes: c.Bytes, level: c.Level - 1}
}

// contentItem reads an item of a content page of that level.
func (d *treeDecoder) contentItem(level uint8) (id crypto.ID, chunks uint64, bytes int64) {
	id = d.id()
	if level == 0 {
		return id, 1, int64(d.uint32())
	}
	return id, d.uvarint(), d.int64()
}

// loadContent reads a content page and compares all of it with what its parent
// says, so that whoever goes through it need not.
func loadContent(ctx context.Context, src pageSource, ref *contentRef) ([]byte, error) {
	p, err := loadPage(ctx, src, ref.id, contentPageKind, ref.level)
	if err != nil {
		return nil, err
	}
	d := treeDecoder{b: p, off: 1}
	var chunks uint64
	var bytes int64
	for d.left() > 0 && d.bad == "" {
		_, n, b := d.contentItem(ref.level)
		switch {
		case d.bad != "":
		case n == 0 || b <= 0 || !chunksHold(n, b):
			d.fail("an item without chunks, or with a length no chunk has")
		case n > ref.chunks-chunks || b > ref.bytes-bytes:
			d.fail("more chunks or bytes than its parent says")
		default:
			chunks += n
			bytes += b
		}
	}
	if d.bad == "" && (chunks != ref.chunks || bytes != ref.bytes) {
		d.bad = "fewer chunks or bytes than its parent says"
	}
	if d.bad != "" {
		return nil, treeError("content page %s: %s", ref.id.Short(), d.bad)
	}
	return p, nil
}

// openContent is a content page somebody is in the midst of.
type openContent struct {
	ref  contentRef
	page []byte
	off  int   // of the next item
	pos  int64 // where the next item starts in the content
}

// next returns the item at off and goes behind it; false at the end.
func (o *openContent) next() (contentRef, bool) {
	if o.off == len(o.page) {
		return contentRef{}, false
	}
	d := treeDecoder{b: o.page, off: o.off}
	id, chunks, bytes := d.contentItem(o.ref.level)
	r := contentRef{id: id, chunks: chunks, start: o.pos, bytes: bytes, level: o.ref.level - 1}
	o.off = d.off
	o.pos += bytes
	return r, true
}

// contentCursor goes through the pages of a content in order, like dirCursor.
type contentCursor struct {
	src   pageSource
	front contentRef
	more  bool
	open  []openContent
}

// newContentCursor begins at the root of a content that has pages.
func newContentCursor(src pageSource, c *Content) (contentCursor, error) {
	if reason := checkContent(c); reason != "" || c.Level == 0 {
		return contentCursor{}, treeError("content %s: %s", c.Root.Short(), reason)
	}
	return contentCursor{src: src, front: contentRoot(c), more: true}, nil
}

// descend puts the first child of the front in its place. The front is a branch.
func (c *contentCursor) descend(ctx context.Context) error {
	p, err := loadContent(ctx, c.src, &c.front)
	if err != nil {
		return err
	}
	c.open = append(c.open, openContent{ref: c.front, page: p, off: 1, pos: c.front.start})
	c.take()
	return nil
}

// take leaves the front behind and goes to the page after it, which may be of
// a higher level.
func (c *contentCursor) take() {
	c.more = false
	for len(c.open) > 0 {
		r, ok := c.open[len(c.open)-1].next()
		if ok {
			c.front, c.more = r, true
			return
		}
		c.open = c.open[:len(c.open)-1]
	}
}

// seek makes the page of that level that holds the byte at offset the front,
// reading only pages above it. It goes forward from the front.
func (c *contentCursor) seek(ctx context.Context, offset int64, level uint8) error {
	for c.more {
		switch {
		case c.front.end() <= offset:
			c.take()
		case c.front.level > level:
			if err := c.descend(ctx); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

// ContentReader goes through the chunk list of one content. It holds one page
// of each level. One goroutine at a time.
type ContentReader struct {
	content Content
	cursor  contentCursor
	leaf    openContent
	inline  int // the next one, for a content without pages
	err     error
}

// newContentReader reads a content, whose pages src has. c is copied; its list
// of chunks must not change while the reader is used.
func newContentReader(src pageSource, c *Content) *ContentReader {
	r := &ContentReader{content: *c}
	if c.Level == 0 {
		if reason := checkContent(c); reason != "" {
			r.err = treeError("content: %s", reason)
		}
		return r
	}
	r.cursor, r.err = newContentCursor(src, c)
	return r
}

// Next returns the next chunk, and false after the last one. Errors wrap
// ErrDamaged when pages contradict each other. It allocates nothing between
// pages.
func (r *ContentReader) Next(ctx context.Context) (Ref, bool, error) {
	if r.err != nil {
		return Ref{}, false, r.err
	}
	if r.content.Level == 0 {
		if r.inline == len(r.content.Inline) {
			return Ref{}, false, nil
		}
		r.inline++
		return r.content.Inline[r.inline-1], true, nil
	}
	for {
		if item, ok := r.leaf.next(); ok {
			return Ref{ID: item.id, Len: uint32(item.bytes)}, true, nil
		}
		if r.leaf.page != nil {
			r.leaf = openContent{}
			r.cursor.take()
		}
		if !r.cursor.more {
			return Ref{}, false, nil
		}
		if r.err = r.openLeaf(ctx, r.cursor.front.start); r.err != nil {
			return Ref{}, false, r.err
		}
	}
}

// openLeaf opens the leaf that holds the byte at offset.
func (r *ContentReader) openLeaf(ctx context.Context, offset int64) error {
	if err := r.cursor.seek(ctx, offset, 0); err != nil || !r.cursor.more {
		return err
	}
	p, err := loadContent(ctx, r.cursor.src, &r.cursor.front)
	if err != nil {
		return err
	}
	r.leaf = openContent{ref: r.cursor.front, page: p, off: 1, pos: r.cursor.front.start}
	return nil
}

// Seek makes Next return the chunk that holds the byte at offset, and returns
// where that chunk starts. At or beyond the end Next returns no more, and the
// start is the length of the content. Offsets count the bytes of the chunk
// list: holes of a sparse file are not in it.
func (r *ContentReader) Seek(ctx context.Context, offset int64) (start int64, err error) {
	if r.err != nil {
		return 0, r.err
	}
	if offset < 0 {
		offset = 0
	}
	if r.content.Level == 0 {
		for r.inline = 0; r.inline < len(r.content.Inline); r.inline++ {
			n := int64(r.content.Inline[r.inline].Len)
			if offset < start+n {
				break
			}
			start += n
		}
		return start, nil
	}
	r.leaf = openContent{}
	r.cursor.front, r.cursor.more, r.cursor.open = contentRoot(&r.content), true, r.cursor.open[:0]
	r.err = r.openLeaf(ctx, offset)
	if r.err != nil || !r.cursor.more {
		return r.content.Bytes, r.err
	}
	for {
		before := r.leaf
		item, ok := r.leaf.next()
		if !ok || offset < item.end() {
			r.leaf = before
			return before.pos, nil
		}
	}
}
