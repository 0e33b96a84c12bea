package repo

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// strangeEntry is what this reader wants of an entry.
type strangeEntry struct {
	name, target, user, group string
	kind, level               byte
	mode, uid, gid, size      uint64
	mtime                     [2]int64
	extents                   [][2]uint64
	inline                    []strangeRef
	root                      strangeID
	entries, chunks, bytes    uint64
	files                     uint64
	xattrs                    []string // name, value, name, value …
}

type strangeRef struct {
	id  strangeID
	len uint64
}

// strangeFields reads fields; after the first that is not there all are zero.
type strangeFields struct {
	b   []byte
	bad bool
}

func (f *strangeFields) take(n uint64) []byte {
	if f.bad = f.bad || n > uint64(len(f.b)); f.bad {
		return make([]byte, min(n, 32))
	}
	p := f.b[:n]
	f.b = f.b[n:]
	return p
}

func (f *strangeFields) uvarint() uint64 {
	v, n := binary.Uvarint(f.b)
	if n <= 0 || len(binary.AppendUvarint(nil, v)) != n {
		f.bad = true
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *strangeFields) varint() int64 {
	v := f.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}
func (f *strangeFields) id() strangeID { return strangeID(f.take(32)) }
func (f *strangeFields) text() string  { return string(f.take(f.uvarint())) }

func strangeDecode(body []byte) (*strangeEntry, error) {
	f := &strangeFields{b: body}
	e := &strangeEntry{name: f.text(), kind: f.take(1)[0]}
	flags := f.take(1)[0]
	e.mode, e.uid, e.gid, e.user, e.group = f.uvarint(), f.uvarint(), f.uvarint(), f.text(), f.text()
	e.mtime = [2]int64{f.varint(), int64(f.uvarint())}
	f.varint()
	for range 4 { // nanoseconds of ctime, inode, device, nlink
		f.uvarint()
	}
	switch e.kind {
	case 1:
		e.size = f.uvarint()
		if flags&2 != 0 {
			end := uint64(0)
			for n := f.uvarint(); n > 0 && !f.bad; n-- {
				x := [2]uint64{end + f.uvarint(), f.uvarint()}
				e.extents, end = append(e.extents, x), x[0]+x[1]
			}
		} else if e.size > 0 {
			e.extents = [][2]uint64{{0, e.size}}
		}
		if e.level = f.take(1)[0]; e.level == 0 {
			for n := f.uvarint(); n > 0 && !f.bad; n-- {
				e.inline = append(e.inline, strangeRef{f.id(), f.uvarint()})
			}
		} else {
			e.root, e.chunks, e.bytes = f.id(), f.uvarint(), f.uvarint()
		}
	case 2:
		e.level, e.entries = f.take(1)[0], f.uvarint()
		if e.entries > 0 {
			e.root = f.id()
		}
		e.files, e.bytes = f.uvarint(), f.uvarint()
	case 3:
		e.target = f.text()
	case 6, 7:
		f.uvarint()
		f.uvarint()
	}
	if flags&1 != 0 {
		for n := f.uvarint(); n > 0 && !f.bad; n-- {
			e.xattrs = append(e.xattrs, f.text(), f.text())
		}
	}
	if f.bad || len(f.b) > 0 || e.kind < 1 || e.kind > 7 || flags > 3 {
		return nil, fmt.Errorf("entry %q", e.name)
	}
	return e, nil
}

// walk goes through the items of a page and all below it, and calls leaf with what is left to read
// of each leaf. It returns how much the page holds.
func (r *stranger) walk(id strangeID, first, level byte, leaf func(f *strangeFields) (count, size uint64, name string, err error)) (count, size uint64, last string, err error) {
	p, err := r.chunk(2, id, 17)
	if err != nil {
		return 0, 0, "", err
	}
	if len(p) < 2 || p[0] != first|level {
		return 0, 0, "", fmt.Errorf("page %x", id[:6])
	}
	for f := (&strangeFields{b: p[1:]}); len(f.b) > 0; {
		var n, bytes uint64
		name := ""
		switch {
		case level == 0:
			n, bytes, name, err = leaf(f)
		case first == 0x10:
			want := f.text()
			child, entries := f.id(), f.uvarint()
			n, bytes, name, err = r.walk(child, first, level-1, leaf)
			f.bad = f.bad || n != entries || name != want
		default:
			child, chunks, total := f.id(), f.uvarint(), f.uvarint()
			n, bytes, _, err = r.walk(child, first, level-1, leaf)
			f.bad = f.bad || n != chunks || total != bytes
		}
		if err != nil || f.bad || n == 0 || first == 0x10 && name <= last {
			return 0, 0, "", errors.Join(err, fmt.Errorf("page %x and what is below it differ", id[:6]))
		}
		count, size, last = count+n, size+bytes, name
	}
	return count, size, last, nil
}

// directory calls visit with all entries below e and their paths.
func (r *stranger) directory(e *strangeEntry, at string, visit func(path string, e *strangeEntry) error) error {
	if e.entries == 0 {
		return nil
	}
	files := uint64(0)
	n, size, _, err := r.walk(e.root, 0x10, e.level, func(f *strangeFields) (uint64, uint64, string, error) {
		c, err := strangeDecode(f.take(f.uvarint()))
		if err != nil {
			return 0, 0, "", err
		}
		if err := visit(at+"/"+c.name, c); err != nil {
			return 0, 0, "", err
		}
		if c.kind == 2 {
			files += c.files
			return 1, c.bytes, c.name, r.directory(c, at+"/"+c.name, visit)
		}
		files++
		return 1, c.size, c.name, nil
	})
	if err == nil && (n != e.entries || files != e.files || size != e.bytes) {
		err = fmt.Errorf("%s: totals", at)
	}
	return err
}

// content returns the bytes of a regular file.
func (r *stranger) content(e *strangeEntry) ([]byte, error) {
	var data []byte
	add := func(c strangeRef) error {
		b, err := r.chunk(1, c.id, 17)
		if data = append(data, b...); err == nil && uint64(len(b)) != c.len {
			err = errors.New("chunk of another length")
		}
		return err
	}
	for _, c := range e.inline {
		if err := add(c); err != nil {
			return nil, err
		}
	}
	if e.level > 0 {
		n, size, _, err := r.walk(e.root, 0x20, e.level-1, func(f *strangeFields) (uint64, uint64, string, error) {
			c := strangeRef{f.id(), f.uvarint()}
			return 1, c.len, "", add(c)
		})
		if err != nil || n != e.chunks || size != e.bytes {
			return nil, fmt.Errorf("content %x: %v", e.root[:6], err)
		}
	}
	out := make([]byte, e.size)
	for _, x := range e.extents {
		if x[1] > uint64(len(data)) || x[0]+x[1] > e.size {
			return nil, errors.New("extents")
		}
		copy(out[x[0]:], data[:x[1]])
		data = data[x[1]:]
	}
	if len(data) > 0 {
		return nil, errors.New("more content than extents")
	}
	return out, nil
}
