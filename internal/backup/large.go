package backup

import (
	"context"
	"io"

	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/repo"
)

// largeRead is a large file being read by a goroutine of its own, which cuts
// and names its chunks; the workers compress and seal them. The builder takes
// the segments in order, so their number under way is bounded.
type largeRead struct {
	segments chan *segment // closed at the end
	item     *item         // the reader's; the builder's once segments is closed
}

// segment is a stretch of a large file: whole chunks, in order.
type segment struct {
	buf  []byte
	ends []int
	refs []repo.Ref
	like []repo.Ref    // of all chunks, one after the other
	upTo []int         // of each chunk the end of its like
	done chan struct{} // closed when the chunks are put
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
	l := &largeRead{segments: make(chan *segment, max(2, segmentQueue/x.segmentSize()))}
	it.large = l
	// The reader gets a copy, since workers look at the batch meanwhile.
	cp := *it
	l.item = &cp
	s.senders.Add(1)
	go func() {
		defer s.senders.Done()
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

func (x *run) cutLarge(l *largeRead, it *item, f source.File) error {
	st, err := newStream(f, f.Opened())
	if err != nil {
		return &sourceError{err}
	}
	old := x.references(it)
	names := x.w.NewIdentifier()
	var off int64
	seg := x.newSegment()
	have := 0
	for eof := false; ; {
		n, err := st.fill(seg.buf[have:cap(seg.buf)])
		have += n
		x.prog.BytesRead.Add(int64(n))
		if err == io.EOF {
			eof = true
		} else if err != nil {
			return &sourceError{err}
		}
		used := 0
		for {
			n := x.cutter.Cut(seg.buf[used:have], eof)
			if n == 0 {
				break
			}
			r := names.Ref(seg.buf[used : used+n])
			if old != nil {
				seg.like = append(seg.like, old.like(off, r)...)
			}
			used += n
			off += int64(n)
			seg.ends, seg.refs, seg.upTo = append(seg.ends, used), append(seg.refs, r), append(seg.upTo, len(seg.like))
		}
		next := x.newSegment()
		have = copy(next.buf[:cap(next.buf)], seg.buf[used:have])
		select {
		case l.segments <- seg:
		case <-x.ctx.Done():
			return context.Cause(x.ctx)
		}
		if err := x.send(task{segment: seg}); err != nil {
			return err
		}
		seg = next
		if eof {
			x.bufs.Put(next)
			st.finish(it, off)
			return nil
		}
	}
}

// segmentSize is the room for a segment: its bytes, and the beginning of the
// chunk that comes after it.
func (x *run) segmentSize() int { return segmentBytes + x.maxChunk }

func (x *run) newSegment() *segment {
	s, _ := x.bufs.Get().(*segment)
	if s == nil {
		s = &segment{buf: make([]byte, x.segmentSize())}
	}
	s.ends, s.refs, s.like, s.upTo = s.ends[:0], s.refs[:0], s.like[:0], s.upTo[:0]
	s.done = make(chan struct{})
	return s
}

// segment puts the chunks of a segment.
func (wk *worker) segment(s *segment) error {
	at, like := 0, 0
	for i, end := range s.ends {
		if err := wk.put(s.buf[at:end], s.refs[i], s.like[like:s.upTo[i]]); err != nil {
			return err
		}
		at, like = end, s.upTo[i]
	}
	close(s.done)
	return nil
}
