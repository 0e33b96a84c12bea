package browse

import (
	"context"
	"fmt"
	"io"

	"github.com/generalbots/backupd/repo"
)

// Content writes what a regular file holds, its holes as zeros: e.Size bytes, or
// fewer and an error, never more. Every byte was compared with its id before.
func (t *Tree) Content(ctx context.Context, w io.Writer, e *repo.Entry) error {
	if e.Type != repo.TypeRegular {
		return fmt.Errorf("a %s has no content", TypeName(e.Type))
	}
	out := &spread{ctx: ctx, w: w, entry: e}
	cr := t.rd.Content(&e.Content)
	var buf []byte
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		ref, ok, err := cr.Next(ctx)
		if err != nil {
			return err
		}
		if !ok {
			return out.end()
		}
		if buf, err = t.rd.AppendChunk(ctx, buf[:0], ref.ID); err != nil {
			return err
		}
		if len(buf) != int(ref.Len) {
			return fmt.Errorf("%w: chunk %s has %d bytes, the file's list says %d", repo.ErrDamaged, ref.ID.Short(), len(buf), ref.Len)
		}
		if err := out.write(buf); err != nil {
			return err
		}
	}
}

// spread puts the chunks of a file, which hold its data ranges one after the
// other, back to their places.
type spread struct {
	ctx   context.Context
	w     io.Writer
	entry *repo.Entry
	at    int64 // written so far
	next  int   // extent
	used  int64 // of that extent
}

func (s *spread) write(b []byte) error {
	for len(b) > 0 {
		n := int64(len(b))
		if !s.entry.Sparse && n > s.entry.Size-s.at || s.entry.Sparse && s.next == len(s.entry.Extents) {
			return fmt.Errorf("%w: more content than the file holds", repo.ErrDamaged)
		}
		if s.entry.Sparse {
			x := s.entry.Extents[s.next]
			if err := s.zeros(x.Off + s.used - s.at); err != nil {
				return err
			}
			n = min(n, x.Len-s.used)
			if s.used += n; s.used == x.Len {
				s.next, s.used = s.next+1, 0
			}
		}
		if _, err := s.w.Write(b[:n]); err != nil {
			return err
		}
		s.at += n
		b = b[n:]
	}
	return nil
}

// noBytes is what holes read as.
var noBytes [32 << 10]byte

func (s *spread) zeros(n int64) error {
	for n > 0 {
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		m := min(n, int64(len(noBytes)))
		if _, err := s.w.Write(noBytes[:m]); err != nil {
			return err
		}
		s.at += m
		n -= m
	}
	return nil
}

// end fills a hole at the end. What else is missing is damage: zeros must not
// stand for it.
func (s *spread) end() error {
	if s.entry.Sparse && s.next == len(s.entry.Extents) {
		if err := s.zeros(s.entry.Size - s.at); err != nil {
			return err
		}
	}
	if s.at != s.entry.Size {
		return fmt.Errorf("%w: content ends at %d of %d bytes", repo.ErrDamaged, s.at, s.entry.Size)
	}
	return nil
}
