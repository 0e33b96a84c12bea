package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// The pages of a bbolt file, version 2, integers in the machine's order:
//
//	page     id u64, flags u16, count u16, overflow u32, then by flags
//	meta     magic u32, version u32, page size u32, flags u32, root {page u64, sequence u64},
//	         freelist u64, pages u64, transaction u64, FNV-64a of what stands before
//	branch   count × {position u32, key length u32, page u64}, then the keys
//	leaf     count × {flags u32, position u32, key length u32, value length u32}, then keys and values
//	freelist count × page u64; a count of 65535 means that the first u64 is the count
//
// A position counts from the element that says it. Keys and values stand in the
// order of their elements, right behind the last one and each other: a count or
// a length that is not the written one leaves a gap. Every page is part of one
// tree, of the freelist, or named in it: what a tree lost stands in none. So no
// record can be gone and the file look whole.
//
// Pages 0 and 1 are metas and the valid one of the higher transaction counts. A
// bucket is a value {root page u64, sequence u64}; root page 0 means that a leaf
// page follows at once. Our files have buckets in the root and none in buckets.
const (
	pageSize   = 4096
	pageHeader = 16
	element    = 16
	metaLength = 64

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10
	flagBucket   = 0x01

	metaMagic   = 0xED0CDAED
	metaVersion = 2
	noFreelist  = ^uint64(0)

	// newPages is how many pages bbolt begins a file with. The first commit makes it longer.
	newPages = 4

	// maxSize is the greatest size of the file in bytes: a hundred times what years of jobs need.
	maxSize = 4 << 30
	// maxDepth of a tree: with two children a page, more than maxSize can hold.
	maxDepth = 32
)

// meta is what counts of a meta page.
type meta struct {
	root, freelist, pages, tx uint64
}

// structure judges a bbolt file by reading it. It allocates no more than the
// longest record, a bit a page and a page a level of the tree.
type structure struct {
	file io.ReaderAt
	meta meta
	seen []uint64 // bit set of pages that something refers to
}

func damaged(format string, a ...any) error { return fmt.Errorf(format, a...) }

// unfinished reports whether a file of size bytes was never written to after
// bbolt began it, so that nothing can have been promised: such a file has the
// pages it begins with at most and no valid meta page.
func unfinished(file io.ReaderAt, size int64) bool {
	if size > newPages*pageSize {
		return false
	}
	_, err := newestMeta(file)
	return err != nil
}

// inspect reads a bbolt file of size bytes and returns the first thing in it
// that bbolt must not meet, or an error of reading.
func inspect(file io.ReaderAt, size int64) error {
	m, err := newestMeta(file)
	if err != nil {
		return err
	}
	if size > maxSize {
		return damaged("its %d bytes are more than the %d it may have", size, int64(maxSize))
	}
	if m.pages < newPages || m.pages > uint64(size/pageSize) {
		return damaged("it should have %d pages and has %d", m.pages, size/pageSize)
	}
	s := &structure{file: file, meta: m, seen: make([]uint64, m.pages/64+1)}
	s.seen[0] = 3
	if err := s.tree(m.root, nil, nil, 0, s.bucket); err != nil {
		return err
	}
	return s.free()
}

func newestMeta(file io.ReaderAt) (meta, error) {
	var best meta
	var page [pageHeader + metaLength]byte
	found := false
	for i := range int64(2) {
		if _, err := file.ReadAt(page[:], i*pageSize); err != nil {
			if err == io.EOF {
				continue
			}
			return meta{}, err
		}
		b := page[pageHeader:]
		h := fnv.New64a()
		h.Write(b[:metaLength-8])
		order := binary.NativeEndian
		if order.Uint32(b) != metaMagic || order.Uint32(b[4:]) != metaVersion || order.Uint64(b[56:]) != h.Sum64() {
			continue
		}
		if got := order.Uint32(b[8:]); got != pageSize {
			return meta{}, damaged("its pages have %d bytes, not %d", got, pageSize)
		}
		m := meta{root: order.Uint64(b[16:]), freelist: order.Uint64(b[32:]), pages: order.Uint64(b[40:]), tx: order.Uint64(b[48:])}
		if !found || m.tx > best.tx {
			best, found = m, true
		}
	}
	if !found {
		return meta{}, damaged("no valid meta page")
	}
	return best, nil
}

// page reads a page with those that continue it and marks them as seen.
func (s *structure) page(id uint64) (p []byte, flags uint16, count int, err error) {
	if id < 2 || id >= s.meta.pages {
		return nil, 0, 0, damaged("page %d of %d is asked for", id, s.meta.pages)
	}
	first := make([]byte, pageSize)
	if err := s.read(first, id); err != nil {
		return nil, 0, 0, err
	}
	order := binary.NativeEndian
	overflow := uint64(order.Uint32(first[12:]))
	flags, count = order.Uint16(first[8:]), int(order.Uint16(first[10:]))
	switch {
	case order.Uint64(first) != id:
		return nil, 0, 0, damaged("page %d calls itself %d", id, order.Uint64(first))
	case overflow >= s.meta.pages-id:
		return nil, 0, 0, damaged("page %d goes on for %d pages", id, overflow)
	case overflow > (maxRecord+maxKey)/pageSize+2 && flags != flagFreelist:
		return nil, 0, 0, damaged("page %d goes on for %d pages", id, overflow)
	}
	for i := id; i <= id+overflow; i++ {
		if s.seen[i/64]&(1<<(i%64)) != 0 {
			return nil, 0, 0, damaged("page %d is used twice", i)
		}
		s.seen[i/64] |= 1 << (i % 64)
	}
	p = first
	if overflow > 0 {
		p = make([]byte, (overflow+1)*pageSize)
		if err := s.read(p, id); err != nil {
			return nil, 0, 0, err
		}
	}
	return p, flags, count, nil
}

func (s *structure) read(p []byte, id uint64) error {
	_, err := s.file.ReadAt(p, int64(id)*pageSize)
	if err == io.EOF {
		return damaged("page %d is cut off", id)
	}
	return err
}

// tree walks the pages below id. All keys must rise, stand at or above low and
// below high (nil: no bound). leaf is told every entry.
func (s *structure) tree(id uint64, low, high []byte, depth int, leaf func(flags uint32, key, value []byte) error) error {
	if depth > maxDepth {
		return damaged("page %d lies %d levels deep", id, depth)
	}
	p, flags, count, err := s.page(id)
	if err != nil {
		return err
	}
	switch flags {
	case flagLeaf:
		// An emptied leaf leaves its tree, and an emptied bucket moves into the root.
		if count == 0 && (id != s.meta.root || s.meta.pages > newPages) {
			return damaged("page %d is empty", id)
		}
		_, err := leaves(p, id, count, low, high, leaf)
		return err
	case flagBranch:
	default:
		return damaged("page %d has type %#x where a tree goes on", id, flags)
	}
	if count == 0 {
		return damaged("page %d leads nowhere", id)
	}
	next := pageHeader + count*element // where the next key stands
	if next > len(p) {
		return damaged("page %d has %d entries", id, count)
	}
	key := func(i int) ([]byte, error) {
		e := pageHeader + i*element
		k, err := within(p, id, e, next, binary.NativeEndian.Uint32(p[e:]), binary.NativeEndian.Uint32(p[e+4:]))
		next += len(k)
		return k, err
	}
	this, err := key(0)
	if err != nil {
		return err
	}
	for i := range count {
		after := high
		if i+1 < count {
			if after, err = key(i + 1); err != nil {
				return err
			}
		}
		if low != nil && bytes.Compare(this, low) < 0 || after != nil && bytes.Compare(this, after) >= 0 {
			return damaged("keys of page %d are out of order", id)
		}
		child := binary.NativeEndian.Uint64(p[pageHeader+i*element+8:])
		if err := s.tree(child, this, after, depth+1, leaf); err != nil {
			return err
		}
		low, this = this, after
	}
	return nil
}

// within cuts length bytes out of a page at start, which must be position bytes
// after the element e that says so. Keys are never empty.
func within(p []byte, id uint64, e, start int, position, length uint32) ([]byte, error) {
	if uint64(e)+uint64(position) != uint64(start) {
		return nil, damaged("a key of page %d is said to stand at %d, not %d", id, uint64(e)+uint64(position), start)
	}
	if length == 0 || length > maxKey || uint64(start)+uint64(length) > uint64(len(p)) {
		return nil, damaged("a key of page %d has %d bytes at %d", id, length, start)
	}
	return p[start : start+int(length)], nil
}

// leaves tells leaf every entry of a page and returns where the last one ends.
func leaves(p []byte, id uint64, count int, low, high []byte, leaf func(flags uint32, key, value []byte) error) (end int, err error) {
	start := pageHeader + count*element
	if start > len(p) {
		return 0, damaged("page %d has %d entries", id, count)
	}
	order := binary.NativeEndian
	for i := range count {
		e := pageHeader + i*element
		flags, position, ksize, vsize := order.Uint32(p[e:]), order.Uint32(p[e+4:]), order.Uint32(p[e+8:]), order.Uint32(p[e+12:])
		key, err := within(p, id, e, start, position, ksize)
		if err != nil {
			return 0, err
		}
		start += len(key)
		if uint64(start)+uint64(vsize) > uint64(len(p)) {
			return 0, damaged("a value of page %d has %d bytes at %d", id, vsize, start)
		}
		// low is the branch's key for the first entry, which may be equal to it.
		if low != nil && bytes.Compare(key, low) < 0 || i > 0 && bytes.Equal(key, low) || high != nil && bytes.Compare(key, high) >= 0 {
			return 0, damaged("keys of page %d are out of order", id)
		}
		if err := leaf(flags, key, p[start:start+int(vsize)]); err != nil {
			return 0, err
		}
		start += int(vsize)
		low = key
	}
	return start, nil
}

// bucket judges one entry of the root: a bucket, and the tree in it.
func (s *structure) bucket(flags uint32, key, value []byte) error {
	if flags != flagBucket || len(value) < 16 {
		return damaged("the root holds %q, which is no bucket", key)
	}
	entry := func(flags uint32, key, value []byte) error {
		if flags != 0 || len(value) > maxRecord {
			return damaged("bucket holds an entry of type %#x and %d bytes", flags, len(value))
		}
		return nil
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return s.tree(root, nil, nil, 0, entry)
	}
	p := value[16:]
	if len(p) < pageHeader || binary.NativeEndian.Uint16(p[8:]) != flagLeaf || binary.NativeEndian.Uint64(p) != 0 {
		return damaged("the small bucket %q holds no leaf page", key)
	}
	end, err := leaves(p, 0, int(binary.NativeEndian.Uint16(p[10:])), nil, nil, entry)
	if err == nil && end != len(p) {
		err = damaged("the small bucket %q has %d bytes, of which %d are entries", key, len(p), end)
	}
	return err
}

// free judges the freelist: inside the file, each page once, none in use, and
// none left that is neither free nor in use. Call it when all trees were walked.
func (s *structure) free() error {
	if s.meta.freelist == noFreelist {
		return damaged("no freelist, which this program always writes")
	}
	p, flags, count, err := s.page(s.meta.freelist)
	if err != nil {
		return err
	}
	if flags != flagFreelist {
		return damaged("the freelist has type %#x", flags)
	}
	ids := p[pageHeader:]
	if count == 0xFFFF {
		n := binary.NativeEndian.Uint64(ids)
		ids = ids[8:]
		if n > uint64(len(ids)/8) {
			return damaged("the freelist claims %d pages", n)
		}
		count = int(n)
	}
	if count > len(ids)/8 {
		return damaged("the freelist claims %d pages", count)
	}
	for i := range count {
		id := binary.NativeEndian.Uint64(ids[i*8:])
		if id < 2 || id >= s.meta.pages {
			return damaged("page %d of %d is said to be free", id, s.meta.pages)
		}
		if s.seen[id/64]&(1<<(id%64)) != 0 {
			return damaged("page %d is free and used, or free twice", id)
		}
		s.seen[id/64] |= 1 << (id % 64)
	}
	for id := range s.meta.pages {
		if s.seen[id/64]&(1<<(id%64)) == 0 {
			return damaged("page %d is neither free nor used: something that led to it is gone", id)
		}
	}
	return nil
}
