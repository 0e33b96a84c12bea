package repo

import "math"

// RawEntry is an entry as it stands in a page. The fields that tell whether a
// file changed were read when it was made; the rest is read by Entry. It is a
// view of the page: it copies nothing, and stays valid for ever.
type RawEntry struct {
	frame   []byte // length and body
	body    uint8  // where the body begins
	nameOff uint8  // the others are offsets from the body
	nameLen uint8
	typ     Type
	flags   uint8
	owners  uint32 // where the name of the user begins
	rest    uint32 // where the fields of the type begin, the size left out
	mode    uint32
	uid     uint32
	gid     uint32
	nlink   uint32
	mtime   Time
	ctime   Time
	inode   uint64
	device  uint64
	size    int64
}

// Name returns the name, a part of the page: do not modify it.
func (r *RawEntry) Name() []byte {
	b := r.Bytes()
	return b[r.nameOff : int(r.nameOff)+int(r.nameLen)]
}

// Bytes returns the encoded entry, a part of the page: do not modify it.
func (r *RawEntry) Bytes() []byte { return r.frame[r.body:] }

// Type returns the type.
func (r *RawEntry) Type() Type { return r.typ }

// Size returns the length of a regular file in bytes, and 0 for all else.
func (r *RawEntry) Size() int64 { return r.size }

// Mode returns the twelve permission bits.
func (r *RawEntry) Mode() uint32 { return r.mode }

// UID returns the number of the owner.
func (r *RawEntry) UID() uint32 { return r.uid }

// GID returns the number of the group.
func (r *RawEntry) GID() uint32 { return r.gid }

// Mtime returns when the content was last modified.
func (r *RawEntry) Mtime() Time { return r.mtime }

// Ctime returns when the inode was last changed.
func (r *RawEntry) Ctime() Time { return r.ctime }

// Inode returns the number of the inode.
func (r *RawEntry) Inode() uint64 { return r.inode }

// Device returns the number of the device the inode lies on.
func (r *RawEntry) Device() uint64 { return r.device }

// Nlink returns the number of names the inode had.
func (r *RawEntry) Nlink() uint32 { return r.nlink }

// Entry decodes all of the entry into e, whose slices are overwritten: give a
// new Entry for each one that is kept. The error wraps ErrDamaged.
func (r *RawEntry) Entry(e *Entry) error { return r.decode(e) }

// User returns the name of the user, in place: it is valid as long as Name is.
func (r *RawEntry) User() []byte {
	d := treeDecoder{b: r.Bytes(), off: int(r.owners)}
	return d.bytes(MaxNameLength)
}

// Group returns the name of the group, in place.
func (r *RawEntry) Group() []byte {
	d := treeDecoder{b: r.Bytes(), off: int(r.owners)}
	d.bytes(MaxNameLength)
	return d.bytes(MaxNameLength)
}

// parseFrame reads the beginning of the entry at the front of p and returns
// the bytes it takes. It says what is wrong, or "".
func (r *RawEntry) parseFrame(p []byte) (n int, reason string) {
	d := treeDecoder{b: p}
	length := d.uvarint()
	if d.bad != "" {
		return 0, d.bad
	}
	if length > uint64(d.left()) {
		return 0, "entry is cut short"
	}
	n = d.off + int(length)
	r.frame = p[:n:n]
	r.body = uint8(d.off)
	if reason := r.parse(); reason != "" {
		return 0, reason
	}
	return n, nameError(r.Name())
}

// parseBody is parseFrame for a body without its length. The name may be empty.
func (r *RawEntry) parseBody(raw []byte) (reason string) {
	if len(raw) > MaxPageSize {
		return "larger than a page"
	}
	r.frame, r.body = raw, 0
	return r.parse()
}

// parse reads all fields that every entry has, and the size. Numbers above
// their type come together in wide, to be looked at once.
func (r *RawEntry) parse() (reason string) {
	b := r.frame[r.body:]
	name, off := bytesAt(b, 0, MaxNameLength)
	if off > len(b)-2 {
		return badNumber
	}
	r.nameLen, r.nameOff = uint8(len(name)), uint8(off-len(name))
	r.typ, r.flags = Type(b[off]), b[off+1]
	var v, wide uint64
	v, off = uvarintAt(b, off+2)
	r.mode, wide = uint32(v), v
	v, off = uvarintAt(b, off)
	r.uid, wide = uint32(v), wide|v
	v, off = uvarintAt(b, off)
	r.gid, wide = uint32(v), wide|v
	r.owners = uint32(off)
	_, off = bytesAt(b, off, MaxNameLength)
	_, off = bytesAt(b, off, MaxNameLength)
	r.mtime, off = timeAt(b, off)
	r.ctime, off = timeAt(b, off)
	r.inode, off = uvarintAt(b, off)
	r.device, off = uvarintAt(b, off)
	v, off = uvarintAt(b, off)
	r.nlink, wide = uint32(v), wide|v
	r.size = 0
	if r.typ == TypeRegular {
		v, off = uvarintAt(b, off)
		r.size = int64(v)
	}
	r.rest = uint32(off)
	switch {
	case off > len(b):
		return badNumber
	case wide > math.MaxUint32 || r.size < 0:
		return "number above its maximum"
	case r.typ < TypeRegular || r.typ > TypeBlockDevice:
		return "unknown type"
	case r.flags&^(entryHasXattrs|entryIsSparse) != 0 || r.flags&entryIsSparse != 0 && r.typ != TypeRegular:
		return "unknown flags"
	}
	return ""
}

// timeAt reads a time and returns where it ends, or badOffset.
func timeAt(b []byte, off int) (t Time, end int) {
	sec, off := uvarintAt(b, off)
	nsec, off := uvarintAt(b, off)
	if nsec >= 1e9 {
		return Time{}, badOffset
	}
	return Time{Sec: int64(sec>>1) ^ -int64(sec&1), Nsec: uint32(nsec)}, off
}

// dir decodes the totals of a directory without the rest of the entry.
func (r *RawEntry) dir() (v Dir, reason string) {
	d := treeDecoder{b: r.Bytes(), off: int(r.rest)}
	d.dir(&v)
	if d.bad == "" {
		d.bad = checkDir(&v)
	}
	return v, d.bad
}
