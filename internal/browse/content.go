package browse

import (
	"context"
	"fmt"
	"io"

	"github.com/generalbots/backupd/repo"
)

// Content writes what a regular file holds, its holes as zeros.
func (t *Tree) Content(ctx context.Context, w io.Writer, e *repo.Entry) error {
	out := &spread{w: w, entry: e}
	cr := t.rd.Content(&e.Content)
	var buf []byte
	for {
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
		if err := out.write(buf); err != nil {
			return err
		}
	}
}

// spread puts the chunks of a file, which hold its data ranges one after the
// other, back to their places.
type spread struct {
	w     io.Writer
	entry *repo.Entry
	at    int64 // written so far
	next  int   // extent
	used  int64 // of that extent
}

func (s *spread) write(b []byte) error {
	for len(b) > 0 {
		n := int64(len(b))
		if s.entry.Sparse {
			if s.next == len(s.entry.Extents) {
				return fmt.Errorf("%w: more content than its ranges hold", repo.ErrDamaged)
			}
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

func (s *spread) zeros(n int64) error {
	var page [32 << 10]byte
	for n > 0 {
		m := min(n, int64(len(page)))
		if _, err := s.w.Write(page[:m]); err != nil {
			return err
		}
		s.at += m
		n -= m
	}
	return nil
}

func (s *spread) end() error {
	if err := s.zeros(s.entry.Size - s.at); err != nil {
		return err
	}
	if s.at != s.entry.Size {
		return fmt.Errorf("%w: %d bytes of content, %d were recorded", repo.ErrDamaged, s.at, s.entry.Size)
	}
	return nil
}
