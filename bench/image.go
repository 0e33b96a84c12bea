package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
)

// image is a disk of a virtual machine: extents of pages, some text as databases and logs have it, some that can not
// be compressed as media and programs in archives, some never written. Between two backups the guest writes one page
// in a hundred: half of these at random, half in a few hot ranges.
type image struct {
	pages int
	pool  []byte
	r     *rand.Rand
}

const (
	pageSize   = 4096
	hotRanges  = 8
	rewrittenP = 100 // one page in so many
)

func newImage(megabytes int) *image {
	m := &image{pages: megabytes * 1_000_000 / pageSize, r: rand.New(rand.NewPCG(4096, 1))}
	for i := uint64(0); len(m.pool) < 8<<20; i++ {
		m.pool = row(m.pool, i, 1)
	}
	return m
}

// fill makes one page: kind 0 of zeros, 1 to 5 of text, above of noise.
func (m *image) fill(page []byte, kind int) {
	switch {
	case kind == 0:
		clear(page)
	case kind < 6:
		copy(page, m.pool[m.r.IntN(len(m.pool)-pageSize):])
	default:
		for i := 0; i < pageSize; i += 8 {
			binary.LittleEndian.PutUint64(page[i:], m.r.Uint64())
		}
	}
}

func (m *image) write(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	page := make([]byte, pageSize)
	kind, left := 0, 0
	for range m.pages {
		if left == 0 {
			kind, left = m.r.IntN(9), 16+m.r.IntN(240)
		}
		left--
		m.fill(page, kind)
		if _, err := w.Write(page); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// rewritten are the pages a guest writes between two backups. What is not in the image lies in another file, page by page: an
// image is too large to have it twice.
type rewritten struct {
	pages []int // ascending
	other string
}

// rewrite chooses pages and leaves what the guest writes there in the file other.
func (m *image) rewrite(other string) (rewritten, error) {
	n := max(2, m.pages/rewrittenP)
	width := max(1, min(n/hotRanges, m.pages/hotRanges)) // half of the pages of a hot range are met, some twice
	var hot [hotRanges]int
	for i := range hot {
		hot[i] = m.r.IntN(m.pages - width + 1)
	}
	w := rewritten{other: other}
	for i := range n {
		at := m.r.IntN(m.pages)
		if i%2 == 1 {
			at = hot[i%hotRanges] + m.r.IntN(width)
		}
		w.pages = append(w.pages, at)
	}
	slices.Sort(w.pages)
	w.pages = slices.Compact(w.pages)
	text := make([]byte, 0, len(w.pages)*pageSize)
	for range w.pages {
		text = text[:len(text)+pageSize]
		m.fill(text[len(text)-pageSize:], 1+m.r.IntN(8))
	}
	return w, os.WriteFile(other, text, 0o600)
}

// swap exchanges the pages in the image with those in the other file: from one state to the other, or back.
func (w rewritten) swap(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := os.ReadFile(w.other)
	if err != nil {
		return err
	}
	page := make([]byte, pageSize)
	for i, at := range w.pages {
		if _, err := f.ReadAt(page, int64(at)*pageSize); err != nil {
			return err
		}
		other := text[i*pageSize:][:pageSize]
		if _, err := f.WriteAt(other, int64(at)*pageSize); err != nil {
			return err
		}
		copy(other, page)
	}
	return errors.Join(f.Close(), os.WriteFile(w.other, text, 0o600))
}
