package repo

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/generalbots/backupd/crypto"
)

// The body of an entry, every number in its shortest form:
//
//	uvarint length | name
//	type 1 | flags 1                     bit 0 xattrs, bit 1 sparse
//	uvarint mode | uvarint uid | uvarint gid
//	uvarint length | user | uvarint length | group
//	varint mtime seconds | uvarint mtime nanoseconds
//	varint ctime seconds | uvarint ctime nanoseconds
//	uvarint inode | uvarint device | uvarint nlink
//	regular    uvarint size
//	           [sparse: uvarint n | n × (uvarint gap | uvarint length)]
//	           content level 1
//	           level 0: uvarint n | n × (id 32 | uvarint length)
//	           above:   root id 32 | uvarint chunks | uvarint bytes
//	directory  level 1 | uvarint entries | [entries > 0: root id 32]
//	           uvarint files | uvarint bytes
//	symlink    uvarint length | target
//	device     uvarint major | uvarint minor
//	[xattrs    uvarint n | n × (uvarint length | name | uvarint length | value)]
//
// It stands alone: the raw body of an unchanged entry is copied from the page
// of the base to the new page and is never taken apart.
const (
	entryHasXattrs = 1 << 0
	entryIsSparse  = 1 << 1
)

// ErrInvalidEntry says that an entry can not be stored, because a field is above its
// maximum, contradicts another, or stands in the wrong order. Nothing was
// written, and the writer that returned it takes further entries.
var ErrInvalidEntry = errors.New("entry can not be stored")

func invalidEntry(e *Entry, format string, args ...any) error {
	return fmt.Errorf("%w: %q: %s", ErrInvalidEntry, e.Name, fmt.Sprintf(format, args...))
}

// encodeEntry appends the body of an entry to dst. Fields that do not belong to
// the type of the entry are left out. Any error wraps ErrInvalidEntry, and dst
// comes back as it was. It allocates nothing when dst has room.
func encodeEntry(dst []byte, e *Entry) ([]byte, error) {
	if reason := checkEntry(e); reason != "" {
		return dst, invalidEntry(e, "%s", reason)
	}
	var flags uint8
	if len(e.Xattrs) > 0 {
		flags |= entryHasXattrs
	}
	if e.Type == TypeRegular && e.Sparse {
		flags |= entryIsSparse
	}
	b := appendBytes(dst, e.Name)
	b = append(b, byte(e.Type), flags)
	b = binary.AppendUvarint(b, uint64(e.Mode))
	b = binary.AppendUvarint(b, uint64(e.UID))
	b = binary.AppendUvarint(b, uint64(e.GID))
	b = appendBytes(b, e.User)
	b = appendBytes(b, e.Group)
	b = binary.AppendVarint(b, e.Mtime.Sec)
	b = binary.AppendUvarint(b, uint64(e.Mtime.Nsec))
	b = binary.AppendVarint(b, e.Ctime.Sec)
	b = binary.AppendUvarint(b, uint64(e.Ctime.Nsec))
	b = binary.AppendUvarint(b, e.Inode)
	b = binary.AppendUvarint(b, e.Device)
	b = binary.AppendUvarint(b, uint64(e.Nlink))
	switch e.Type {
	case TypeRegular:
		b = binary.AppendUvarint(b, uint64(e.Size))
		if e.Sparse {
			b = appendExtents(b, e.Extents)
		}
		b = appendContent(b, &e.Content)
	case TypeDirectory:
		b = appendDir(b, &e.Dir)
	case TypeSymlink:
		b = appendBytes(b, e.Target)
	case TypeCharDevice, TypeBlockDevice:
		b = binary.AppendUvarint(b, uint64(e.Major))
		b = binary.AppendUvarint(b, uint64(e.Minor))
	}
	if len(e.Xattrs) > 0 {
		b = binary.AppendUvarint(b, uint64(len(e.Xattrs)))
		for i := range e.Xattrs {
			b = appendBytes(b, e.Xattrs[i].Name)
			b = appendBytes(b, e.Xattrs[i].Value)
		}
	}
	return b, nil
}

func appendBytes[T string | []byte](b []byte, v T) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

func appendExtents(b []byte, x []Extent) []byte {
	b = binary.AppendUvarint(b, uint64(len(x)))
	var end int64
	for i := range x {
		b = binary.AppendUvarint(b, uint64(x[i].Off-end))
		b = binary.AppendUvarint(b, uint64(x[i].Len))
		end = x[i].Off + x[i].Len
	}
	return b
}

func appendRef(b []byte, r *Ref) []byte {
	b = append(b, r.ID[:]...)
	return binary.AppendUvarint(b, uint64(r.Len))
}

func appendContent(b []byte, c *Content) []byte {
	b = append(b, c.Level)
	if c.Level == 0 {
		b = binary.AppendUvarint(b, uint64(len(c.Inline)))
		for i := range c.Inline {
			b = appendRef(b, &c.Inline[i])
		}
		return b
	}
	b = append(b, c.Root[:]...)
	b = binary.AppendUvarint(b, c.Chunks)
	return binary.AppendUvarint(b, uint64(c.Bytes))
}

func appendDir(b []byte, d *Dir) []byte {
	b = append(b, d.Level)
	b = binary.AppendUvarint(b, d.Entries)
	if d.Entries > 0 {
		b = append(b, d.Root[:]...)
	}
	b = binary.AppendUvarint(b, d.Files)
	return binary.AppendUvarint(b, uint64(d.Bytes))
}

// decodeEntry reads a body that encodeEntry made; raw is one body and nothing
// more. Any error wraps ErrDamaged. What was decoded encodes to the same bytes.
//
// e is used again: its slices are overwritten and its strings kept where they
// are equal, so that decoding into one Entry after another allocates little.
// Nothing in e aliases raw.
func decodeEntry(raw []byte, e *Entry) error {
	var r RawEntry
	if reason := r.parseBody(raw); reason != "" {
		return treeError("entry: %s", reason)
	}
	if r.nameLen > 0 {
		if reason := nameError(r.Name()); reason != "" {
			return treeError("entry: %s", reason)
		}
	}
	return r.decode(e)
}

// decode reads all fields of an entry whose beginning was parsed before.
func (r *RawEntry) decode(e *Entry) error {
	setString(&e.Name, r.Name())
	setString(&e.User, r.User())
	setString(&e.Group, r.Group())
	*e = Entry{
		Name: e.Name, Type: r.typ, Mode: r.mode, UID: r.uid, GID: r.gid, User: e.User, Group: e.Group,
		Mtime: r.mtime, Ctime: r.ctime, Inode: r.inode, Device: r.device, Nlink: r.nlink, Size: r.size,
		Extents: e.Extents[:0], Content: Content{Inline: e.Content.Inline[:0]}, Target: e.Target, Xattrs: e.Xattrs[:0],
	}
	d := treeDecoder{b: r.Bytes(), off: int(r.rest)}
	target := []byte(nil)
	switch r.typ {
	case TypeRegular:
		if r.flags&entryIsSparse != 0 {
			e.Sparse = true
			d.extents(e)
		}
		d.content(&e.Content)
	case TypeDirectory:
		d.dir(&e.Dir)
	case TypeSymlink:
		target = d.bytes(MaxTargetLength)
	case TypeCharDevice, TypeBlockDevice:
		e.Major, e.Minor = d.uint32(), d.uint32()
	}
	setString(&e.Target, target)
	if r.flags&entryHasXattrs != 0 {
		d.xattrs(e)
	}
	if d.bad == "" && d.left() > 0 {
		d.fail("bytes after its end")
	}
	if d.bad == "" {
		d.bad = checkEntry(e)
	}
	if d.bad != "" {
		return treeError("entry %q: %s", e.Name, d.bad)
	}
	return nil
}

// setString makes *s equal to b and allocates only when it was not.
func setString(s *string, b []byte) {
	if *s != string(b) {
		*s = string(b)
	}
}

func (d *treeDecoder) extents(e *Entry) {
	n := d.uvarint()
	if n > MaxExtents || n > uint64(d.left()/2) {
		d.fail("more extents than the maximum or the page")
		return
	}
	var end int64
	for range n {
		gap, length := d.int64(), d.int64()
		off := end + gap // one that overflows is negative, and refused by checkEntry
		end = off + length
		e.Extents = append(e.Extents, Extent{off, length})
	}
}

func (d *treeDecoder) ref() Ref {
	return Ref{ID: d.id(), Len: d.uint32()}
}

func (d *treeDecoder) content(c *Content) {
	c.Level = d.uint8()
	if c.Level > 0 {
		c.Root, c.Chunks, c.Bytes = d.id(), d.uvarint(), d.int64()
		return
	}
	n := d.uvarint()
	if n > MaxInlineChunks {
		d.fail("more chunks than stand in an entry")
		return
	}
	for range n {
		r := d.ref()
		c.Inline = append(c.Inline, r)
		c.Bytes += int64(r.Len)
	}
	c.Chunks = n
}

func (d *treeDecoder) dir(v *Dir) {
	v.Level, v.Entries = d.uint8(), d.uvarint()
	if v.Entries > 0 {
		v.Root = d.id()
	}
	v.Files, v.Bytes = d.uvarint(), d.int64()
}

func (d *treeDecoder) xattrs(e *Entry) {
	n := d.uvarint()
	if n == 0 || n > uint64(d.left()/2) {
		d.fail("no xattrs, or more than the page holds")
		return
	}
	for i := range int(n) {
		name := d.bytes(MaxNameLength)
		value := d.bytes(MaxXattrsSize)
		if d.bad != "" {
			return
		}
		x := Xattr{Value: append([]byte{}, value...)}
		if i < cap(e.Xattrs) {
			x.Name = e.Xattrs[:i+1][i].Name
		}
		setString(&x.Name, name)
		e.Xattrs = append(e.Xattrs, x)
	}
}

// checkEntry says what keeps an entry from being stored; "" when nothing does.
// It looks only at the fields of the type of the entry.
func checkEntry(e *Entry) string {
	if e.Name != "" {
		if reason := nameError(e.Name); reason != "" {
			return reason
		}
	}
	switch {
	case e.Mode > 0o7777:
		return "mode has more than the twelve permission bits"
	case len(e.User) > MaxNameLength || len(e.Group) > MaxNameLength:
		return "name of an owner too long"
	case e.Mtime.Nsec >= 1e9 || e.Ctime.Nsec >= 1e9:
		return "nanoseconds above a second"
	}
	reason := ""
	switch e.Type {
	case TypeRegular:
		reason = checkRegular(e)
	case TypeDirectory:
		reason = checkDir(&e.Dir)
	case TypeSymlink:
		if len(e.Target) == 0 || len(e.Target) > MaxTargetLength || hasNUL(e.Target) {
			reason = "target of a symlink is empty, too long or holds NUL"
		}
	case TypeFIFO, TypeSocket, TypeCharDevice, TypeBlockDevice:
	default:
		reason = "unknown type"
	}
	if reason != "" {
		return reason
	}
	return checkXattrs(e.Xattrs)
}

func checkRegular(e *Entry) string {
	if e.Size < 0 {
		return "negative size"
	}
	if reason := checkContent(&e.Content); reason != "" {
		return reason
	}
	data := e.Size
	if e.Sparse {
		if len(e.Extents) > MaxExtents {
			return "too many extents"
		}
		data = 0
		end := int64(-1)
		for i := range e.Extents {
			x := &e.Extents[i]
			if x.Off <= end || x.Len <= 0 || x.Off > e.Size || x.Len > e.Size-x.Off {
				return "extents are not ascending, touch, are empty or lie beyond the size"
			}
			end = x.Off + x.Len
			data += x.Len
		}
	}
	if e.Content.Bytes != data {
		return "content is not as long as the file, or its extents"
	}
	return ""
}

// checkContent says what is wrong with the reference to a content.
func checkContent(c *Content) string {
	if c.Level == 0 {
		var sum int64
		for i := range c.Inline {
			if reason := checkRef(&c.Inline[i]); reason != "" {
				return reason
			}
			sum += int64(c.Inline[i].Len)
		}
		if len(c.Inline) > MaxInlineChunks || c.Chunks != uint64(len(c.Inline)) || c.Bytes != sum || c.Root != (crypto.ID{}) {
			return "totals of a content contradict its chunk list"
		}
		return ""
	}
	if c.Level > MaxPageLevel || len(c.Inline) > 0 {
		return "content has too many levels, or chunks beside its pages"
	}
	if c.Chunks <= MaxInlineChunks || c.Bytes < 0 || !chunksHold(c.Chunks, c.Bytes) {
		return "number of chunks and bytes of a content contradict each other"
	}
	return ""
}

// chunksHold tells whether so many chunks can be so many bytes.
func chunksHold(chunks uint64, bytes int64) bool {
	return chunks <= uint64(bytes) && uint64(bytes-1)/MaxChunkSize < chunks
}

func checkRef(r *Ref) string {
	if r.Len == 0 || r.Len > MaxChunkSize {
		return "length of a chunk is zero or too large"
	}
	return ""
}

func checkDir(d *Dir) string {
	switch {
	case d.Level > MaxPageLevel:
		return "directory has too many levels"
	case d.Bytes < 0:
		return "negative bytes of a directory"
	case d.Entries == 0 && *d != Dir{}:
		return "empty directory with pages or totals"
	}
	return ""
}

func checkXattrs(x []Xattr) string {
	size := 0
	for i := range x {
		name := x[i].Name
		if len(name) == 0 || len(name) > MaxNameLength || hasNUL(name) {
			return "name of an xattr is empty, too long or holds NUL"
		}
		if i > 0 && name <= x[i-1].Name {
			return "xattrs are not sorted by name"
		}
		if size += len(name) + len(x[i].Value); size > MaxXattrsSize {
			return "xattrs too large"
		}
	}
	return ""
}

func hasNUL(s string) bool {
	for i := range len(s) {
		if s[i] == 0 {
			return true
		}
	}
	return false
}
