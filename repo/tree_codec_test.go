package repo

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// norm makes nil and empty slices equal.
func norm(e *Entry) Entry {
	n := *e
	if len(n.Extents) == 0 {
		n.Extents = nil
	}
	if len(n.Content.Inline) == 0 {
		n.Content.Inline = nil
	}
	if len(n.Xattrs) == 0 {
		n.Xattrs = nil
	}
	return n
}

func TestEntry_DecodesToWhatWasEncoded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var got Entry // used again and again, as a reader would
	for i := range 3000 {
		want := randomEntry(rng, randomName(rng))
		if i%7 == 0 {
			want = &Entry{Name: want.Name, Type: TypeDirectory, Dir: Dir{treeID(uint64(i)), uint8(i % 9), uint64(1 + i), uint64(i), int64(i) << 30}}
		}
		raw, err := encodeEntry(nil, want)
		if err != nil {
			t.Fatalf("encode %+v: %v", want, err)
		}
		if err := decodeEntry(raw, &got); err != nil {
			t.Fatalf("decode %+v: %v", want, err)
		}
		if g, w := norm(&got), norm(want); !reflect.DeepEqual(g, w) {
			t.Fatalf("got  %+v\nwant %+v", g, w)
		}
		var r RawEntry
		if reason := r.parseBody(raw); reason != "" {
			t.Fatal(reason)
		}
		type stat struct {
			Type                  Type
			Mode, UID, GID, Nlink uint32
			Size                  int64
			Mtime, Ctime          Time
			Inode, Device         uint64
			Name                  string
		}
		g := stat{r.Type(), r.Mode(), r.UID(), r.GID(), r.Nlink(), r.Size(), r.Mtime(), r.Ctime(), r.Inode(), r.Device(), string(r.Name())}
		w := stat{want.Type, want.Mode, want.UID, want.GID, want.Nlink, want.Size, want.Mtime, want.Ctime, want.Inode, want.Device, want.Name}
		if g != w {
			t.Fatalf("raw entry: got %+v, want %+v", g, w)
		}
	}
}

func TestEntry_RootHasNoName(t *testing.T) {
	want := Entry{Type: TypeDirectory, Mode: 0o755}
	raw, err := encodeEntry(nil, &want)
	if err != nil {
		t.Fatal(err)
	}
	var got Entry
	if err := decodeEntry(raw, &got); err != nil || !reflect.DeepEqual(norm(&got), want) {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestEntry_DecodedEntriesDoNotShareMemoryWithTheBytes(t *testing.T) {
	e := plainFile("name", 1)
	e.Xattrs = []Xattr{{"user.a", []byte("value")}}
	raw, err := encodeEntry(nil, e)
	if err != nil {
		t.Fatal(err)
	}
	var got Entry
	if err := decodeEntry(raw, &got); err != nil {
		t.Fatal(err)
	}
	clear(raw)
	if g, w := norm(&got), norm(e); !reflect.DeepEqual(g, w) {
		t.Fatalf("got %+v, want %+v", g, w)
	}
}

// largest returns an entry at all maxima at once.
func largest() *Entry {
	e := plainFile(strings.Repeat("\xff", MaxNameLength), math.MaxUint64)
	e.User, e.Group = strings.Repeat("u", MaxNameLength), strings.Repeat("g", MaxNameLength)
	e.Mode, e.UID, e.GID, e.Nlink = 0o7777, math.MaxUint32, math.MaxUint32, math.MaxUint32
	e.Mtime, e.Ctime = Time{math.MinInt64, 999999999}, Time{math.MaxInt64, 999999999}
	e.Inode, e.Device = math.MaxUint64, math.MaxUint64
	e.Content = Content{}
	for i := range MaxInlineChunks {
		e.Content.Inline = append(e.Content.Inline, Ref{treeID(uint64(i)), MaxChunkSize})
	}
	e.Content.Chunks, e.Content.Bytes = MaxInlineChunks, MaxInlineChunks*MaxChunkSize
	e.Sparse = true
	const gap = math.MaxInt64 / MaxExtents
	e.Size = math.MaxInt64
	left := e.Content.Bytes
	for i := range int64(MaxExtents) {
		n := e.Content.Bytes / MaxExtents
		e.Extents = append(e.Extents, Extent{i * gap, n})
		left -= n
	}
	e.Extents[MaxExtents-1].Len += left
	size := 0
	for i := 0; size < MaxXattrsSize; i++ {
		x := Xattr{Name: fmt.Sprintf("user.%06d", i), Value: make([]byte, 64<<10)}
		x.Value = x.Value[:min(len(x.Value), MaxXattrsSize-size-len(x.Name))]
		size += len(x.Name) + len(x.Value)
		e.Xattrs = append(e.Xattrs, x)
	}
	return e
}

func TestEntry_AtAllMaximaFitsAPage(t *testing.T) {
	e := largest()
	m := newMemPages()
	d := writeDir(t, newTreeWriter(m), map[string]*Entry{e.Name: e}, nil, nil)
	got := readDir(t, m, d)[e.Name]
	if g, w := norm(got), norm(e); !reflect.DeepEqual(g, w) {
		t.Fatal("the largest entry came back different")
	}
	// As many xattrs as can be: their lengths cost as much as they do.
	e.Xattrs = nil
	for size, i := 0, 0; ; i++ {
		name := string([]byte{byte(1 + i/255/255), byte(1 + i/255%255), byte(1 + i%255)})
		if i/255/255 > 254 || size+len(name) > MaxXattrsSize {
			break
		}
		size += len(name)
		e.Xattrs = append(e.Xattrs, Xattr{Name: name})
	}
	raw, err := encodeEntry(nil, e)
	if err != nil || len(raw)+16 > MaxPageSize {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
}

func TestEncodeEntry_RefusesWhatIsAboveItsMaximum(t *testing.T) {
	link := func(target string) *Entry { return &Entry{Name: "l", Type: TypeSymlink, Target: target} }
	file := func(change func(e *Entry)) *Entry {
		e := plainFile("f", 9)
		change(e)
		return e
	}
	dir := func(d Dir) *Entry { return &Entry{Name: "d", Type: TypeDirectory, Dir: d} }
	sparse := func(size int64, x ...Extent) *Entry {
		return file(func(e *Entry) {
			e.Size, e.Sparse, e.Extents = size, true, x
			e.Content = Content{}
			for _, x := range x {
				if x.Len > 0 {
					e.Content.Inline = append(e.Content.Inline, Ref{treeID(1), uint32(x.Len)})
					e.Content.Chunks++
					e.Content.Bytes += x.Len
				}
			}
		})
	}
	bad := map[string]*Entry{
		"dot":                 plainFile(".", 1),
		"dotdot":              plainFile("..", 1),
		"slash":               plainFile("a/b", 1),
		"nul":                 plainFile("a\x00", 1),
		"long name":           plainFile(strings.Repeat("n", 256), 1),
		"type 0":              {Name: "x"},
		"type 8":              {Name: "x", Type: 8},
		"mode":                file(func(e *Entry) { e.Mode = 0o10000 }),
		"user":                file(func(e *Entry) { e.User = strings.Repeat("u", 256) }),
		"nanoseconds":         file(func(e *Entry) { e.Mtime.Nsec = 1e9 }),
		"ctime nanoseconds":   file(func(e *Entry) { e.Ctime.Nsec = math.MaxUint32 }),
		"negative size":       file(func(e *Entry) { e.Size = -1 }),
		"size and content":    file(func(e *Entry) { e.Size++ }),
		"chunk count":         file(func(e *Entry) { e.Content.Chunks++ }),
		"chunk of nothing":    file(func(e *Entry) { e.Content.Inline[0].Len = 0 }),
		"chunk too long":      file(func(e *Entry) { e.Content.Inline[0].Len = MaxChunkSize + 1 }),
		"17 inline":           file(func(e *Entry) { e.Content, e.Size = Content{Inline: make([]Ref, 17), Chunks: 17}, 0 }),
		"content level":       file(func(e *Entry) { e.Content, e.Size = Content{Level: MaxPageLevel + 1, Chunks: 20, Bytes: 20}, 20 }),
		"few chunks in pages": file(func(e *Entry) { e.Content, e.Size = Content{Level: 1, Chunks: 16, Bytes: 20}, 20 }),
		"chunks above bytes":  file(func(e *Entry) { e.Content, e.Size = Content{Level: 1, Chunks: 30, Bytes: 20}, 20 }),
		"bytes above chunks":  file(func(e *Entry) { e.Content, e.Size = Content{Level: 1, Chunks: 17, Bytes: 17<<23 + 1}, 17<<23+1 }),
		"extents overlap":     sparse(100, Extent{0, 10}, Extent{9, 10}),
		"extents touch":       sparse(100, Extent{0, 10}, Extent{10, 10}),
		"extent of nothing":   sparse(100, Extent{0, 0}),
		"extent beyond size":  sparse(100, Extent{91, 10}),
		"extent overflows":    sparse(100, Extent{math.MaxInt64, 10}),
		"too many extents":    file(func(e *Entry) { e.Sparse, e.Extents = true, make([]Extent, MaxExtents+1) }),
		"no target":           link(""),
		"long target":         link(strings.Repeat("t", MaxTargetLength+1)),
		"target with NUL":     link("a\x00b"),
		"dir level":           dir(Dir{Level: MaxPageLevel + 1, Entries: 1}),
		"dir bytes":           dir(Dir{Entries: 1, Bytes: -1}),
		"empty dir with root": dir(Dir{Root: treeID(1)}),
		"empty dir files":     dir(Dir{Files: 1}),
		"xattr unsorted":      file(func(e *Entry) { e.Xattrs = []Xattr{{"b", nil}, {"a", nil}} }),
		"xattr twice":         file(func(e *Entry) { e.Xattrs = []Xattr{{"a", nil}, {"a", nil}} }),
		"xattr no name":       file(func(e *Entry) { e.Xattrs = []Xattr{{"", nil}} }),
		"xattr long name":     file(func(e *Entry) { e.Xattrs = []Xattr{{strings.Repeat("x", 256), nil}} }),
		"xattrs too large":    file(func(e *Entry) { e.Xattrs = []Xattr{{"a", make([]byte, MaxXattrsSize)}} }),
	}
	for what, e := range bad {
		got, err := encodeEntry([]byte("before"), e)
		if !errors.Is(err, ErrInvalidEntry) || string(got) != "before" {
			t.Errorf("%s: got %q, %v, want an error", what, got, err)
		}
	}
}

func TestDecodeEntry_RefusesEveryCutAndEveryTail(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	var e Entry
	for range 100 {
		raw, err := encodeEntry(nil, randomEntry(rng, randomName(rng)))
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(raw) {
			if err := decodeEntry(raw[:n], &e); !errors.Is(err, ErrDamaged) {
				t.Fatalf("%d of %d bytes: got %v, want ErrDamaged", n, len(raw), err)
			}
		}
		if err := decodeEntry(append(raw, 0), &e); !errors.Is(err, ErrDamaged) {
			t.Fatalf("a byte more: got %v, want ErrDamaged", err)
		}
	}
}

// TestDecodeEntry_AcceptsOneEncodingOnly changes each byte to each value: what
// is still accepted must be what that value encodes to.
func TestDecodeEntry_AcceptsOneEncodingOnly(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	var e Entry
	for range 30 {
		raw, err := encodeEntry(nil, randomEntry(rng, randomName(rng)))
		if err != nil {
			t.Fatal(err)
		}
		for i := range min(len(raw), 400) {
			was := raw[i]
			for v := range 256 {
				raw[i] = byte(v)
				checkIdentity(t, raw, &e)
			}
			raw[i] = was
		}
	}
}

func checkIdentity(t *testing.T, raw []byte, e *Entry) {
	t.Helper()
	if err := decodeEntry(raw, e); err != nil {
		if !errors.Is(err, ErrDamaged) {
			t.Fatalf("%x: got %v, want ErrDamaged", raw, err)
		}
		return
	}
	again, err := encodeEntry(nil, e)
	if err != nil || !bytes.Equal(again, raw) {
		t.Fatalf("%x decodes to %+v and encodes to %x, %v", raw, e, again, err)
	}
}

func TestEncodeEntry_AllocatesNothing(t *testing.T) {
	e := plainFile("some-name.txt", 77)
	e.Xattrs = []Xattr{{"user.a", []byte("1")}}
	buf := make([]byte, 0, 1024)
	if got := testing.AllocsPerRun(100, func() {
		if _, err := encodeEntry(buf, e); err != nil {
			t.Fatal(err)
		}
	}); got != 0 {
		t.Errorf("got %v allocations, want 0", got)
	}
}

func TestDecodeEntry_IntoTheSameEntryAllocatesNothing(t *testing.T) {
	raw, err := encodeEntry(nil, plainFile("some-name.txt", 77))
	if err != nil {
		t.Fatal(err)
	}
	var e Entry
	if got := testing.AllocsPerRun(100, func() {
		if err := decodeEntry(raw, &e); err != nil {
			t.Fatal(err)
		}
	}); got != 0 {
		t.Errorf("got %v allocations, want 0", got)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	rng := rand.New(rand.NewPCG(4, 4))
	for range 40 {
		raw, err := encodeEntry(nil, randomEntry(rng, randomName(rng)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	for _, e := range []*Entry{
		{Type: TypeDirectory},
		{Name: "d", Type: TypeDirectory, Dir: Dir{treeID(1), 2, 3, 4, 5}},
		{Name: "c", Type: TypeCharDevice, Major: 1, Minor: 3},
		{Name: "p", Type: TypeFIFO, Xattrs: []Xattr{{"system.posix_acl_access", []byte{2, 0, 0, 0}}}},
	} {
		raw, err := encodeEntry(nil, e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var e Entry
		checkIdentity(t, raw, &e)
		// What an entry takes in memory is bounded by its bytes.
		if n := 16*cap(e.Extents) + 40*cap(e.Xattrs); n > 64*(len(raw)+64) {
			t.Fatalf("%d bytes of memory for %d bytes", n, len(raw))
		}
	})
}
