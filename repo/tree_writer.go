package repo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// maxFreeBuilders bounds the builders kept for the directories and contents to
// come.
const maxFreeBuilders = 64

var errTreeWriterClosed = errors.New("tree: use of a closed writer")

// TreeWriter makes the pages of a snapshot's tree: of its directories, from the
// deepest up, and of its long contents. All writers it makes share its memory,
// so one goroutine uses all of them, any number open at once.
type TreeWriter struct {
	sink         pageSink
	scratch      []byte // one encoded entry
	freeDirs     []*dirBuilder
	freeContents []*contentBuilder
}

func newTreeWriter(sink pageSink) *TreeWriter {
	return &TreeWriter{sink: sink}
}

// DirWriter makes the pages of one directory. It keeps at most one unfinished
// page of each level, and none while the entries equal those of the base.
// Without a Close it is garbage like any other value; nothing of it is in the
// tree.
type DirWriter struct {
	tree   *TreeWriter
	src    pageSource // nil without a base
	base   Dir
	levels []*dirBuilder
	first  [2]*dirBuilder // memory of levels
	total  Dir
	err    error // sticky: of the sink, or errTreeWriterClosed
}

// NewDir starts a directory. base, which may be nil, is the directory of an
// earlier snapshot that it likely resembles, and src has its pages: those that
// come out equal keep their ids without being hashed or stored, and the others
// name the pages of the base around the same names as dictionaries. The result
// does not depend on the base. A base that can not be read only costs space.
func (t *TreeWriter) NewDir(base *Dir, src pageSource) *DirWriter {
	d := &DirWriter{tree: t}
	if base != nil {
		d.base, d.src = *base, src
	}
	d.levels = d.first[:0]
	return d
}

// Add adds an entry. Names must be ascending, compared bytewise. An error that
// wraps ErrInvalidEntry is about this entry alone, which was not added; any
// other is final.
func (d *DirWriter) Add(ctx context.Context, e *Entry) error {
	if d.err != nil {
		return d.err
	}
	if e.Name == "" {
		return invalidEntry(e, "empty name")
	}
	const head = binary.MaxVarintLen32
	var length [head]byte
	b, err := encodeEntry(append(d.tree.scratch[:0], length[:]...), e)
	d.tree.scratch = b
	if err != nil {
		return err
	}
	if len(b) > MaxPageSize {
		return invalidEntry(e, "larger than a page")
	}
	// The length goes in front of the body and ends where the body begins.
	n := binary.PutUvarint(length[:], uint64(len(b)-head))
	frame := b[head-n:]
	copy(frame, length[:n])
	name := frame[n+uvarintLen(uint64(len(e.Name))):][:len(e.Name)]
	switch e.Type {
	case TypeDirectory:
		return d.addFrame(ctx, frame, name, e.Dir.Files, e.Dir.Bytes)
	case TypeRegular:
		return d.addFrame(ctx, frame, name, 1, e.Size)
	}
	return d.addFrame(ctx, frame, name, 1, 0)
}

func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// AddRaw adds an entry of another directory as it stands there, under the same
// rules as Add. It neither decodes nor allocates.
func (d *DirWriter) AddRaw(ctx context.Context, r RawEntry) error {
	files, size, reason := r.totals()
	if reason != "" {
		return fmt.Errorf("%w: %q: %s", ErrInvalidEntry, r.Name(), reason)
	}
	return d.addFrame(ctx, r.frame, r.Name(), files, size)
}

func (d *DirWriter) addFrame(ctx context.Context, frame, name []byte, files uint64, size int64) error {
	if d.err != nil {
		return d.err
	}
	if len(d.levels) > 0 && bytes.Compare(name, d.levels[0].last) <= 0 {
		return fmt.Errorf("%w: %q: names are not ascending", ErrInvalidEntry, name)
	}
	if err := d.add(ctx, 0, frame, name, 1); err != nil {
		d.err = err
		return err
	}
	d.total.Entries++
	d.total.Files = addFiles(d.total.Files, files)
	d.total.Bytes = addBytes(d.total.Bytes, size)
	return nil
}

// Close ends the directory and returns what an entry of it holds. The writer
// takes nothing more.
func (d *DirWriter) Close(ctx context.Context) (Dir, error) {
	if d.err != nil {
		return Dir{}, d.err
	}
	d.err = errTreeWriterClosed
	defer d.release()
	// The first level that has one page in all has the root. The level above it
	// got one item by then, which is dropped.
	for l := 0; l < len(d.levels); l++ {
		b := d.levels[l]
		if b.page.size() > 0 {
			if err := d.endPage(ctx, l); err != nil {
				d.err = err
				return Dir{}, err
			}
		}
		if b.pages == 1 {
			d.total.Root, d.total.Level = b.lastID, uint8(l)
			break
		}
	}
	return d.total, nil
}
