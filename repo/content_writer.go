package repo

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/generalbots/backupd/crypto"
)

// ContentWriter makes the chunk list of one content: in the entry while it is
// short, else in pages. Its memory is a page of each level, whatever the length.
type ContentWriter struct {
	tree   *TreeWriter
	src    pageSource // nil without a base
	base   Content
	inline []Ref // all chunks while they are few; nil once there are pages
	levels []*contentBuilder
	chunks uint64
	bytes  int64
	err    error // sticky: of the sink, or errTreeWriterClosed
}

// contentBuilder makes the pages of one level of a content.
type contentBuilder struct {
	page   pageBuilder
	level  uint8
	pages  int // pages ended
	lastID crypto.ID
	items  int
	chunks uint64 // below the page that is being made
	start  int64  // where it starts in the content
	bytes  int64
	item   []byte // scratch for an item of the level above
	like   []crypto.ID

	cursor contentCursor // goes through the base's pages of the level
	// shift is how much later the base has what the content has here, as far as
	// the last page that turned out to be one of the base showed.
	shift int64
}

// NewContent starts a content. base, which may be nil, is the content the file
// had in an earlier snapshot, and src has its pages; they serve as in NewDir.
// base may be changed after the call, its list of chunks included.
func (t *TreeWriter) NewContent(base *Content, src pageSource) *ContentWriter {
	c := &ContentWriter{tree: t}
	if base != nil && base.Level > 0 {
		c.base, c.src = *base, src
	}
	return c
}

// Add adds a chunk at the end. An error that wraps ErrInvalidEntry leaves the
// content as it was; any other is final.
func (c *ContentWriter) Add(ctx context.Context, r Ref) error {
	if c.err != nil {
		return c.err
	}
	if reason := checkRef(&r); reason != "" {
		return fmt.Errorf("%w: chunk %s: %s", ErrInvalidEntry, r.ID.Short(), reason)
	}
	if int64(r.Len) > math.MaxInt64-c.bytes {
		return fmt.Errorf("%w: content too long", ErrInvalidEntry)
	}
	c.chunks++
	c.bytes += int64(r.Len)
	if c.chunks <= MaxInlineChunks {
		c.inline = append(c.inline, r)
		return nil
	}
	for i := range c.inline {
		if c.err = c.add(ctx, &c.inline[i]); c.err != nil {
			return c.err
		}
	}
	c.inline = nil
	c.err = c.add(ctx, &r)
	return c.err
}

func (c *ContentWriter) add(ctx context.Context, r *Ref) error {
	var item [len(r.ID) + binary.MaxVarintLen32]byte
	return c.addItem(ctx, 0, appendRef(item[:0], r), 1, int64(r.Len))
}

// addItem appends an item to the pages of level l. What ends a page depends
// only on the items, as for directories.
func (c *ContentWriter) addItem(ctx context.Context, l int, item []byte, chunks uint64, bytes int64) error {
	if l == len(c.levels) {
		b, err := c.newLevel(l)
		if err != nil {
			return err
		}
		c.levels = append(c.levels, b)
	}
	b := c.levels[l]
	if b.items == 0 {
		if err := b.beginPage(ctx); err != nil {
			return err
		}
	}
	b.page.append(item)
	b.items++
	b.chunks += chunks
	b.bytes += bytes
	if b.items >= minContentItems && item[contentCutByte] == 0 || b.items == maxContentItems {
		return c.endPage(ctx, l)
	}
	return nil
}

// beginPage looks whether a page of the base starts where this one does.
func (b *contentBuilder) beginPage(ctx context.Context) error {
	var base []byte
	if err := b.seekBase(ctx, b.start); err != nil {
		return err
	}
	if b.cursor.more && b.cursor.front.start == b.start+b.shift {
		p, err := loadPage(ctx, b.cursor.src, b.cursor.front.id, contentPageKind, b.level)
		if err != nil {
			if err := b.giveUp(ctx); err != nil {
				return err
			}
		}
		base = p
	}
	b.page.begin(contentPageKind|b.level, base, b.cursor.front.id)
	return nil
}

// seekBase goes forward to the page of the base that has what the content has
// at offset.
func (b *contentBuilder) seekBase(ctx context.Context, offset int64) error {
	if err := b.cursor.seek(ctx, offset+b.shift, b.level); err != nil {
		return b.giveUp(ctx)
	}
	return nil
}

// giveUp makes a base that can not be read none. It returns an error only when
// ctx is done.
func (b *contentBuilder) giveUp(ctx context.Context) error {
	b.cursor = contentCursor{}
	return context.Cause(ctx)
}

// endPage ends the page of level l and tells the level above.
func (c *ContentWriter) endPage(ctx context.Context, l int) error {
	b := c.levels[l]
	id, err := b.store(ctx, c.tree.sink)
	if err != nil {
		return err
	}
	chunks, bytes := b.chunks, b.bytes
	b.pages++
	b.lastID = id
	b.items, b.chunks, b.bytes = 0, 0, 0
	b.start += bytes
	b.item = append(b.item[:0], id[:]...)
	b.item = binary.AppendUvarint(b.item, chunks)
	b.item = binary.AppendUvarint(b.item, uint64(bytes))
	return c.addItem(ctx, l+1, b.item, chunks, bytes)
}

// store ends the page. The pages of the base that it names lie between its
// start and its end, moved by shift; when it turns out to be one of them,
// shift is corrected, so that the next page is compared with the next one.
func (b *contentBuilder) store(ctx context.Context, sink pageSink) (crypto.ID, error) {
	b.like = b.like[:0]
	if b.page.same > 0 && b.page.same == len(b.page.base) {
		return b.page.end(ctx, sink, nil)
	}
	var starts [maxLikePages]int64
	end := b.start + b.bytes + b.shift
	for b.cursor.more && len(b.like) < maxLikePages {
		starts[len(b.like)] = b.cursor.front.start
		b.like = append(b.like, b.cursor.front.id)
		if b.cursor.front.end() >= end {
			break
		}
		b.cursor.take()
		if err := b.seekBase(ctx, b.start); err != nil {
			return crypto.ID{}, err
		}
	}
	id, err := b.page.end(ctx, sink, b.like)
	if i := slices.Index(b.like, id); err == nil && i >= 0 {
		b.shift = starts[i] - b.start
	}
	return id, err
}

// Close ends the content and returns what an entry of it holds; its list of
// chunks belongs to the caller. The writer takes nothing more.
func (c *ContentWriter) Close(ctx context.Context) (Content, error) {
	if c.err != nil {
		return Content{}, c.err
	}
	c.err = errTreeWriterClosed
	out := Content{Inline: c.inline, Chunks: c.chunks, Bytes: c.bytes}
	c.inline = nil
	defer c.release()
	for l := 0; l < len(c.levels); l++ {
		b := c.levels[l]
		if b.items > 0 {
			if err := c.endPage(ctx, l); err != nil {
				c.err = err
				return Content{}, err
			}
		}
		if b.pages == 1 {
			out.Root, out.Level = b.lastID, uint8(l)+1
			break
		}
	}
	return out, nil
}

func (c *ContentWriter) newLevel(l int) (*contentBuilder, error) {
	if l >= MaxPageLevel+1 {
		return nil, treeError("content has too many levels")
	}
	var b *contentBuilder
	if free := c.tree.freeContents; len(free) > 0 {
		b = free[len(free)-1]
		c.tree.freeContents = free[:len(free)-1]
	} else {
		b = new(contentBuilder)
	}
	b.level = uint8(l)
	if c.src != nil && int(c.base.Level) > l {
		b.cursor, _ = newContentCursor(c.src, &c.base) // damaged: no base
	}
	return b, nil
}

// release gives the memory of the builders to the next content.
func (c *ContentWriter) release() {
	for _, b := range c.levels {
		b.page.reset()
		*b = contentBuilder{page: b.page, item: b.item[:0], like: b.like[:0]}
		if len(c.tree.freeContents) < maxFreeBuilders {
			c.tree.freeContents = append(c.tree.freeContents, b)
		}
	}
	c.levels = nil
}
