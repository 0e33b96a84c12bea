package repo

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/generalbots/backupd/crypto"
)

// memPages is a store of pages that counts what is asked of it.
type memPages struct {
	pages map[crypto.ID][]byte
	puts  int
	reads int
	likes int // puts that named a page of the base
	byLvl map[byte]int
	last  []crypto.ID // like of the last put
	lost  map[crypto.ID]bool
}

func newMemPages() *memPages {
	return &memPages{pages: map[crypto.ID][]byte{}, byLvl: map[byte]int{}}
}

func (m *memPages) putPage(_ context.Context, page []byte, like []crypto.ID) (crypto.ID, error) {
	id := crypto.ID(crypto.Sum256(page))
	m.puts++
	m.byLvl[page[0]]++
	if len(like) > 0 {
		m.likes++
	}
	m.last = slices.Clone(like)
	if _, ok := m.pages[id]; !ok {
		m.pages[id] = slices.Clone(page)
	}
	return id, nil
}

func (m *memPages) page(_ context.Context, id crypto.ID) ([]byte, error) {
	m.reads++
	p, ok := m.pages[id]
	if !ok || m.lost[id] {
		return nil, fmt.Errorf("%w: page %s", ErrNotFound, id.Short())
	}
	return p, nil
}

// reset forgets the counts.
func (m *memPages) reset() {
	m.puts, m.reads, m.likes = 0, 0, 0
	clear(m.byLvl)
}

// sinkErr is a sink that fails.
type sinkErr struct{ err error }

func (s sinkErr) putPage(context.Context, []byte, []crypto.ID) (crypto.ID, error) {
	return crypto.ID{}, s.err
}

func treeID(n uint64) (id crypto.ID) {
	var b [8]byte
	for i := range b {
		b[i] = byte(n >> (8 * i))
	}
	return crypto.ID(crypto.Sum256(b[:]))
}

// plainFile is a regular file of one chunk.
func plainFile(name string, n uint64) *Entry {
	size := int64(1 + n%60000)
	return &Entry{
		Name: name, Type: TypeRegular, Mode: 0o644, UID: 1000, GID: 1000, User: "bot", Group: "bot",
		Mtime: Time{1_760_000_000 + int64(n%1000000), uint32(n * 7919 % 1e9)}, Ctime: Time{1_760_000_000, 5},
		Inode: 1_000_000 + n, Device: 2049, Nlink: 1, Size: size,
		Content: Content{Inline: []Ref{{treeID(n), uint32(size)}}, Chunks: 1, Bytes: size},
	}
}

// randomName returns bytes that may stand as a name: text at times, at
// others anything but '/' and NUL, so also what is no UTF-8.
func randomName(rng *rand.Rand) string {
	for {
		n := 1 + rng.IntN(20)
		if rng.IntN(20) == 0 {
			n = MaxNameLength
		}
		b := make([]byte, n)
		text := rng.IntN(2) == 0
		for i := range b {
			b[i] = byte('a' + rng.IntN(26))
			if !text {
				b[i] = byte(1 + rng.IntN(255))
			}
		}
		if nameError(b) == "" {
			return string(b)
		}
	}
}

// randomEntry returns an entry of any type but a directory, with all fields of
// its type.
func randomEntry(rng *rand.Rand, name string) *Entry {
	e := &Entry{
		Name: name, Type: Type(1 + rng.IntN(7)), Mode: rng.Uint32N(0o10000), UID: rng.Uint32() >> rng.IntN(32), GID: rng.Uint32() >> rng.IntN(32),
		Mtime: Time{rng.Int64() >> rng.IntN(63), rng.Uint32N(1e9)}, Ctime: Time{-(rng.Int64() >> rng.IntN(63)), rng.Uint32N(1e9)},
		Inode: rng.Uint64() >> rng.IntN(64), Device: rng.Uint64() >> rng.IntN(64), Nlink: rng.Uint32() >> rng.IntN(32),
	}
	if rng.IntN(2) == 0 {
		e.User, e.Group = randomName(rng), randomName(rng)
	}
	for range rng.IntN(4) / 2 * rng.IntN(4) {
		e.Xattrs = append(e.Xattrs, Xattr{"user." + randomName(rng)[:1], []byte(randomName(rng))})
	}
	slices.SortFunc(e.Xattrs, func(a, b Xattr) int { return cmpString(a.Name, b.Name) })
	e.Xattrs = slices.CompactFunc(e.Xattrs, func(a, b Xattr) bool { return a.Name == b.Name })
	switch e.Type {
	case TypeDirectory:
		e.Type = TypeRegular
		fallthrough
	case TypeRegular:
		randomContent(rng, e)
	case TypeSymlink:
		e.Target = randomName(rng)
	case TypeCharDevice, TypeBlockDevice:
		e.Major, e.Minor = rng.Uint32(), rng.Uint32N(300)
	}
	return e
}

func randomContent(rng *rand.Rand, e *Entry) {
	c := &e.Content
	switch rng.IntN(4) {
	case 0:
	case 1:
		c.Level, c.Root, c.Chunks = uint8(1+rng.IntN(MaxPageLevel)), treeID(rng.Uint64()), 17+rng.Uint64N(1000)
		c.Bytes = int64(c.Chunks) * (1 + rng.Int64N(MaxChunkSize))
	default:
		for range 1 + rng.IntN(MaxInlineChunks) {
			r := Ref{treeID(rng.Uint64()), 1 + rng.Uint32N(MaxChunkSize)}
			c.Inline = append(c.Inline, r)
			c.Chunks++
			c.Bytes += int64(r.Len)
		}
	}
	e.Size = c.Bytes
	if rng.IntN(3) > 0 {
		return
	}
	e.Sparse = true
	e.Size = rng.Int64N(1000)
	for left := c.Bytes; left > 0; {
		n := min(left, 1+rng.Int64N(c.Bytes))
		e.Extents = append(e.Extents, Extent{e.Size, n})
		e.Size += n + 1 + rng.Int64N(1000)
		left -= n
	}
}

func cmpString(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// writeDir writes a directory of the entries of a map.
func writeDir(t testing.TB, w *TreeWriter, m map[string]*Entry, base *Dir, src pageSource) Dir {
	t.Helper()
	d := w.NewDir(base, src)
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if err := d.Add(t.Context(), m[name]); err != nil {
			t.Fatalf("Add(%q): %v", name, err)
		}
	}
	dir, err := d.Close(t.Context())
	if err != nil {
		t.Fatalf("Close: %v", err)
	}
	return dir
}

// readDir reads all of a directory back.
func readDir(t testing.TB, src pageSource, d Dir) map[string]*Entry {
	t.Helper()
	got := map[string]*Entry{}
	r := newDirReader(src, d)
	for {
		raw, ok, err := r.Next(t.Context())
		if err != nil {
			t.Fatalf("Next: %v", err)
		}
		if !ok {
			return got
		}
		e := new(Entry)
		if err := raw.Entry(e); err != nil {
			t.Fatalf("Entry: %v", err)
		}
		got[e.Name] = e
	}
}
