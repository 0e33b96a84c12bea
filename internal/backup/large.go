package backup

import (
	"context"
	"io"

	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/repo"
)

// largeRead is a large file being read and cut by two goroutines of its own;
// the workers name, compress and seal the chunks. The builder takes the
// segments in order. What bounds those under way is their buffers, which go back
// as soon as a worker is done, so that one whose chunks all changed holds up
// nobody.
type largeRead struct {
	segments chan *segment // closed at the end
	item     *item         // the reader's; the builder's once segments is closed

	// What the chunks are compared with, and where in the file that is: of
	// whose turn it is.
	old references
	off int64
}

// segment is a stretch of a large file: whole chunks, in order. The old
// versions of the file are followed chunk by chunk, so the workers take turns
// at that, each when its chunks have names. A segment comes to a worker after
// the one before it did, so somebody always has the turn.
type segment struct {
	of   *largeRead
	buf  []byte // what was read stands behind the room for what the segment before left
	data []byte // of buf: the chunks
	ends []int
	refs []repo.Ref // from the cutter, or from the worker where Len is 0
	kept []bool     // of each chunk whether the base has it in this place
	like []repo.Ref // of all chunks, one after the other
	upTo []int      // of each chunk the end of its like

	turn   <-chan struct{} // closed when the segment before has its likes
	passed chan struct{}   // closed when this one has
	done   chan struct{}   // closed when the chunks are put
}

// startLarge begins to read a large file. It waits while too many are under
// way; those before it in the scan's order are never kept waiting by it. A
// stream is read alone, so that a source can yield several from one connection.
func (s *scanner) startLarge(it *item) error {
	x := s.x
	readers := 1
	if it.entry.Size == source.StreamSize {
		readers = largeFiles
	}
	for range readers {
		select {
		case x.large <- struct{}{}:
		case <-x.ctx.Done():
			return context.Cause(x.ctx)
		}
	}
	l := &largeRead{segments: make(chan *segment, segmentQueue)}
	it.large = l
	// The reader gets a copy, since workers look at the batch meanwhile.
	cp := *it
	l.item = &cp
	s.senders.Add(1)
	go func() {
		defer s.senders.Done()
		x.pace.Thread()
		defer func() {
			for range readers {
				<-x.large
			}
		}()
		defer close(l.segments)
		x.fail(x.readLarge(l, &cp))
	}()
	return nil
}

func (x *run) readLarge(l *largeRead, it *item) error {
	if err := x.confirm(it); err != nil || it.unchanged {
		return err
	}
	f := x.open(it)
	if f == nil {
		return nil
	}
	defer f.Close()
	if err := x.cutLarge(l, it, f); err != nil {
		return x.sourceTrouble(it, err)
	}
	if x.movedOn(it, f) {
		x.problem(it.path(), "read", errChanged)
		it.partial = true
	}
	x.describe(it, f)
	return nil
}

// cutLarge cuts the file while readParts reads on: neither of the two is as
// fast as the workers are together, so one after the other would hold them up.
// What lies read between them keeps one from waiting for the other at each turn.
func (x *run) cutLarge(l *largeRead, it *item, f source.File) error {
	st := new(stream)
	if err := st.open(f, f.Opened()); err != nil {
		return &sourceError{err}
	}
	l.old = x.references(it)
	base := x.follow(it)
	parts := make(chan readPart, readAhead)
	go x.readParts(st, parts)
	// The file is used until parts is closed. Whatever ends this before its end
	// ends the run, and with it the reading.
	defer func() {
		for p := range parts {
			x.giveBack(p.seg)
		}
	}()
	turn := make(chan struct{})
	close(turn)
	rest := make([]byte, 0, x.maxChunk) // behind the last cut
	var read, off int64
	for p := range parts {
		read += int64(p.n)
		x.prog.BytesRead.Add(int64(p.n))
		eof := p.err == io.EOF
		if p.err != nil && !eof {
			x.giveBack(p.seg)
			return &sourceError{p.err}
		}
		if err := x.pace.Spend(x.ctx, p.n); err != nil {
			return err
		}
		seg := p.seg
		from := x.maxChunk - copy(seg.buf[x.maxChunk-len(rest):], rest)
		seg.data = seg.buf[from : x.maxChunk+p.n]
		seg.of, seg.turn, seg.passed, seg.done = l, turn, make(chan struct{}), make(chan struct{})
		turn = seg.passed
		used := 0
		for {
			ref, same, more := base.at(off, seg.data[used:], eof)
			n := int(ref.Len)
			if more {
				break
			} else if !same {
				n = x.cutter.Cut(seg.data[used:], eof)
				ref = base.cut(ref, n)
			}
			if n == 0 {
				break
			}
			used, off = used+n, off+int64(n)
			seg.ends, seg.refs, seg.kept = append(seg.ends, used), append(seg.refs, ref), append(seg.kept, same)
		}
		rest = append(rest[:0], seg.data[used:]...)
		if err := x.handOut(seg); err != nil {
			return err
		}
		if eof {
			st.finish(it, read)
			return nil
		}
	}
	return context.Cause(x.ctx)
}

// handOut gives a segment to the builder, for its order, and to the workers.
func (x *run) handOut(s *segment) error {
	select {
	case s.of.segments <- s:
	case <-x.ctx.Done():
		return context.Cause(x.ctx)
	}
	return x.send(task{segment: s})
}

// readPart is a segment with n bytes read. The last one has an error: io.EOF, or
// why there are no more.
type readPart struct {
	seg *segment
	n   int
	err error
}

// readParts reads until the stream or the run ends, and closes parts.
func (x *run) readParts(st *stream, parts chan<- readPart) {
	defer close(parts)
	x.pace.Thread()
	for {
		p := readPart{seg: x.newSegment()}
		if p.seg == nil {
			return
		}
		p.n, p.err = st.fill(p.seg.buf[x.maxChunk:])
		select {
		case parts <- p:
		case <-x.ctx.Done():
			return
		}
		if p.err != nil {
			return
		}
	}
}

// segmentSize is the room for a segment: the beginning of a chunk that the one
// before left, and bytes enough for a chunk.
func (x *run) segmentSize() int { return x.maxChunk + max(segmentBytes, x.maxChunk) }

// segmentBuffers is how many there are for all large files together. Each that
// is read has some in its own hands, one being read, those read ahead and one
// being cut, and may have to wait with them for those before it, for which there
// must be two more.
func (x *run) segmentBuffers() int {
	return max((largeFiles-1)*(readAhead+2)+2, segmentMemory/x.segmentSize())
}

// newSegment waits for a buffer; it returns nil when the run ends.
func (x *run) newSegment() *segment {
	var buf []byte
	select {
	case buf = <-x.bufs:
	case <-x.ctx.Done():
		return nil
	}
	if buf == nil {
		buf = make([]byte, x.segmentSize())
	}
	s, _ := x.segments.Get().(*segment)
	if s == nil {
		s = new(segment)
	}
	s.buf, s.ends, s.refs, s.kept, s.like, s.upTo = buf, s.ends[:0], s.refs[:0], s.kept[:0], s.like[:0], s.upTo[:0]
	return s
}

// giveBack ends the use of a segment's buffer.
func (x *run) giveBack(s *segment) {
	x.bufs <- s.buf
	s.buf, s.data = nil, nil
}

// segment names the chunks of a segment and puts them.
func (wk *worker) segment(s *segment) error {
	at := 0
	for i, end := range s.ends {
		if s.refs[i].Len == 0 {
			s.refs[i] = wk.lane.Ref(s.data[at:end])
		}
		at = end
	}
	if len(s.of.old.versions) > 0 {
		if err := wk.wait(s.turn); err != nil {
			return err
		}
		for _, r := range s.refs {
			s.like = append(s.like, s.of.old.like(s.of.off, r)...)
			s.upTo = append(s.upTo, len(s.like))
			s.of.off += int64(r.Len)
		}
		close(s.passed)
	}
	at, like := 0, 0
	for i, end := range s.ends {
		var of []repo.Ref
		if len(s.of.old.versions) > 0 {
			of, like = s.like[like:s.upTo[i]], s.upTo[i]
		}
		if s.kept[i] {
			wk.lane.Gap()
		} else if err := wk.put(s.data[at:end], s.refs[i], of, s.of.old.guess); err != nil {
			return err
		}
		at = end
	}
	wk.giveBack(s)
	close(s.done)
	return nil
}
