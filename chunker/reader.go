package chunker

import (
	"errors"
	"io"
)

// maxEmptyReads is how often in a row a reader may return nothing and no error.
const maxEmptyReads = 100

var errReaderCount = errors.New("chunker: reader returned an impossible count")

// Reader cuts a stream. One goroutine at a time may use it.
type Reader struct {
	src        io.Reader
	cutter     *Cutter
	buf        []byte
	start, end int   // buf[start:end] is read and not yet handed out
	err        error // what src ended with; sticky
}

// NewReader returns a Reader that cuts r with c. buf is its memory until it is
// done: at least Max bytes, better 4 × Max, since bytes behind the last boundary in
// it are moved to its front; a shorter one is replaced by a new one of 4 × Max.
func NewReader(r io.Reader, c *Cutter, buf []byte) *Reader {
	if len(buf) < c.params.Max {
		buf = make([]byte, 4*c.params.Max)
	}
	return &Reader{src: r, cutter: c, buf: buf}
}

// Reset makes the Reader read from r as if new, with the same Cutter and memory.
func (r *Reader) Reset(src io.Reader) {
	*r = Reader{src: src, cutter: r.cutter, buf: r.buf}
}

// Next returns the next chunk, which is valid until the next call. After the last
// it returns io.EOF; a stream without bytes has no chunk. An error of the stream
// comes, unwrapped, in place of the chunk it interrupts and is then returned
// again and again. Boundaries do not depend on how the stream portions its bytes.
func (r *Reader) Next() ([]byte, error) {
	for {
		avail := r.buf[r.start:r.end]
		if n := r.cutter.Cut(avail, r.err == io.EOF); n > 0 {
			r.start += n
			return avail[:n:n], nil
		}
		if r.err != nil {
			return nil, r.err
		}
		r.fill()
	}
}

// fill moves what is left to the front and reads until the buffer is full or the
// stream ends, so that Cut looks at the same bytes again at most once a buffer.
func (r *Reader) fill() {
	r.end = copy(r.buf, r.buf[r.start:r.end])
	r.start = 0
	for empty := 0; r.end < len(r.buf) && r.err == nil; {
		n, err := r.src.Read(r.buf[r.end:])
		if n < 0 || n > len(r.buf)-r.end {
			r.err = errReaderCount
			return
		}
		r.end += n
		r.err = err
		if n > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads && err == nil {
			r.err = io.ErrNoProgress
		}
	}
}
