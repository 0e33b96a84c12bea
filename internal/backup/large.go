package backup

import (
	"context"
	"errors"
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
	like [][]repo.Ref
	done chan struct{} // closed when the chunks are put
}

// startLarge begins to read a large file. It waits while too many are under
// way; those before it in the scan's order are never kept waiting by it.
func (s *scanner) startLarge(it *item) error {
	x := s.x
	select {
	case x.large <- struct{}{}:
	case <-x.ctx.Done():
		return context.Cause(x.ctx)
	}
	l := &largeRead{segments: make(chan *segment, 8)}
	it.large = l
	// The reader gets a copy, since workers look at the batch meanwhile.
	cp := *it
	l.item = &cp
	s.large.Add(1)
	go func() {
		defer s.large.Done()
		defer func() { <-x.large }()
		defer close(l.segments)
		x.readLarge(l, &cp)
	}()
	return nil
}

func (x *run) readLarge(l *largeRead, it *item) {
	f, err := x.src.Open(&it.entry)
	if err != nil {
		it.failed = true
		if !gone(err) {
			x.problem(it.path, "open", err)
		}
		return
	}
	defer f.Close()
	err = x.cutLarge(l, it, f)
	var trouble *sourceError
	switch {
	case errors.As(err, &trouble):
		it.failed = true
		x.problem(it.path, "read", trouble.err)
		return
	case err != nil:
		return // the run has ended
	}
	if changed, err := x.finishRead(it, f); err == nil && changed {
		x.problem(it.path, "read", errChanged)
	}
}

func (x *run) cutLarge(l *largeRead, it *item, f source.File) error {
	st, err := newStream(f, f.Opened())
	if err != nil {
		return &sourceError{err}
	}
	it.extents, it.sparse = st.extents, st.sparse
	ref := x.reference(it)
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
			var like []repo.Ref
			if ref != nil {
				like = append(like, ref.like(off, r)...)
			}
			used += n
			off += int64(n)
			seg.ends, seg.refs, seg.like = append(seg.ends, used), append(seg.refs, r), append(seg.like, like)
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
			it.size = st.size(off)
			return nil
		}
	}
}

func (x *run) newSegment() *segment {
	s, _ := x.bufs.Get().(*segment)
	if s == nil {
		s = &segment{buf: make([]byte, segmentBytes+repo.BlockSize)}
	}
	s.ends, s.refs, s.like = s.ends[:0], s.refs[:0], s.like[:0]
	s.done = make(chan struct{})
	return s
}

// segment puts the chunks of a segment.
func (wk *worker) segment(s *segment) error {
	at := 0
	for i, end := range s.ends {
		if err := wk.put(s.buf[at:end], s.refs[i], s.like[i]); err != nil {
			return err
		}
		at = end
	}
	close(s.done)
	return nil
}
