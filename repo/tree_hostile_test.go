package repo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/generalbots/backupd/crypto"
)

// leafPage makes a leaf of files with those names, in that order.
func leafPage(names ...string) []byte {
	p := []byte{dirPageKind}
	for _, name := range names {
		raw, err := encodeEntry(nil, plainFile("x", 0))
		if err != nil {
			panic(err)
		}
		body := append(appendBytes(nil, name), raw[2:]...)
		p = appendBytes(p, body)
	}
	return p
}

func manyNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%08d", i))
	}
	return names
}

// item is what a branch says of a page.
type item struct {
	last    string
	page    []byte
	entries uint64
}

func branchPage(m *memPages, level uint8, items ...item) []byte {
	p := []byte{dirPageKind | level}
	for _, it := range items {
		p = appendBytes(p, it.last)
		p = append(p, m.add(it.page)...)
		p = binary.AppendUvarint(p, it.entries)
	}
	return p
}

// add stores a page and returns the bytes of its id.
func (m *memPages) add(p []byte) []byte {
	id := crypto.ID(crypto.Sum256(p))
	m.pages[id] = p
	return id[:]
}

func readAll(t *testing.T, m *memPages, d Dir) error {
	r := newDirReader(m, d)
	for {
		_, ok, err := r.Next(t.Context())
		if !ok || err != nil {
			return err
		}
	}
}

func TestDirectory_PagesThatLieAreDamage(t *testing.T) {
	m := newMemPages()
	ab, cd := leafPage("a", "b"), leafPage("c", "d")
	good := branchPage(m, 1, item{"b", ab, 2}, item{"d", cd, 2})
	deep := branchPage(m, 2, item{"d", good, 4}, item{"e", branchPage(m, 1, item{"e", leafPage("e"), 1}), 1})
	for what, d := range map[string]Dir{
		"a good leaf":   {Entries: 2, Root: crypto.ID(m.add(ab))},
		"a good branch": {Level: 1, Entries: 4, Root: crypto.ID(m.add(good))},
		"a good tree":   {Level: 2, Entries: 5, Root: crypto.ID(m.add(deep))},
	} {
		d.Files, d.Bytes = d.Entries, int64(d.Entries)
		if err := readAll(t, m, d); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for lie, change := range map[string]func(d *Dir){
			"one entry more":  func(d *Dir) { d.Entries++ },
			"one entry less":  func(d *Dir) { d.Entries-- },
			"as many as can":  func(d *Dir) { d.Entries = math.MaxUint64 },
			"one level more":  func(d *Dir) { d.Level++ },
			"one level less":  func(d *Dir) { d.Level-- },
			"a file more":     func(d *Dir) { d.Files++ },
			"a byte more":     func(d *Dir) { d.Bytes++ },
			"negative bytes":  func(d *Dir) { d.Bytes = -1 },
			"too many levels": func(d *Dir) { d.Level = MaxPageLevel + 1 },
		} {
			false := d
			change(&false)
			if err := readAll(t, m, false); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, %s: got %v, want ErrDamaged", what, lie, err)
			}
		}
	}

	tail := func(p []byte, more ...byte) []byte { return append(slices.Clone(p), more...) }
	long := strings.Repeat("n", MaxNameLength+1)
	bad := map[string]struct {
		level   uint8
		entries uint64
		page    []byte
	}{
		"names twice":                       {0, 2, leafPage("a", "a")},
		"names descending":                  {0, 2, leafPage("b", "a")},
		"no name":                           {0, 1, leafPage("")},
		"name ..":                           {0, 1, leafPage("..")},
		"name with slash":                   {0, 1, leafPage("../x")},
		"name with NUL":                     {0, 1, leafPage("a\x00")},
		"name too long":                     {0, 1, leafPage(long)},
		"a byte after the entries":          {0, 2, tail(ab, 0)},
		"an entry cut short":                {0, 2, ab[:len(ab)-1]},
		"an entry of no bytes":              {0, 1, []byte{dirPageKind, 0}},
		"an entry longer than the page":     {0, 1, []byte{dirPageKind, 0xff, 0xff, 0xff, 0x7f}},
		"an entry of 2^64-1 bytes":          {0, 1, append([]byte{dirPageKind}, bytes.Repeat([]byte{0xff}, 10)...)},
		"a page of its first byte":          {0, 1, []byte{dirPageKind}},
		"a page of no bytes":                {0, 1, []byte{}},
		"a page too large":                  {0, 70000, leafPage(manyNames(70000)...)},
		"a content page":                    {0, 1, append([]byte{contentPageKind}, ab[1:]...)},
		"a leaf with a branch's level":      {0, 2, tail([]byte{dirPageKind | 1}, ab[1:]...)},
		"a branch with the level above":     {1, 4, tail([]byte{dirPageKind | 2}, good[1:]...)},
		"a branch with a leaf's level":      {1, 4, tail([]byte{dirPageKind}, good[1:]...)},
		"a leaf in place of a branch":       {1, 2, ab},
		"a branch in place of a leaf":       {0, 4, good},
		"a branch below its own level":      {1, 4, branchPage(m, 1, item{"d", good, 4})},
		"a branch two levels above":         {2, 4, branchPage(m, 2, item{"b", ab, 2}, item{"d", cd, 2})},
		"last name too low":                 {1, 4, branchPage(m, 1, item{"a", ab, 2}, item{"d", cd, 2})},
		"last name too high":                {1, 4, branchPage(m, 1, item{"bb", ab, 2}, item{"d", cd, 2})},
		"last name of the last":             {1, 4, branchPage(m, 1, item{"b", ab, 2}, item{"e", cd, 2})},
		"last name of a branch":             {2, 4, branchPage(m, 2, item{"e", good, 4})},
		"names overlap between pages":       {1, 4, branchPage(m, 1, item{"b", ab, 2}, item{"c", leafPage("aa", "c"), 2})},
		"a name in two pages":               {1, 4, branchPage(m, 1, item{"b", ab, 2}, item{"c", leafPage("b", "c"), 2})},
		"the same page twice":               {1, 4, branchPage(m, 1, item{"b", ab, 2}, item{"b", ab, 2})},
		"branch names descending":           {1, 4, branchPage(m, 1, item{"d", cd, 2}, item{"b", ab, 2})},
		"branch name empty":                 {1, 2, branchPage(m, 1, item{"", ab, 2})},
		"branch name ..":                    {1, 2, branchPage(m, 1, item{"..", ab, 2})},
		"count too low":                     {1, 3, branchPage(m, 1, item{"b", ab, 1}, item{"d", cd, 2})},
		"count too high":                    {1, 5, branchPage(m, 1, item{"b", ab, 3}, item{"d", cd, 2})},
		"counts moved":                      {1, 4, branchPage(m, 1, item{"b", ab, 1}, item{"d", cd, 3})},
		"count zero":                        {1, 2, branchPage(m, 1, item{"b", ab, 0}, item{"d", cd, 2})},
		"counts wrap":                       {1, 4, branchPage(m, 1, item{"b", ab, math.MaxUint64}, item{"d", cd, 5})},
		"sum above the parent's":            {1, 4, branchPage(m, 1, item{"b", ab, 2}, item{"d", cd, 3})},
		"sum below the parent's":            {1, 5, good},
		"branch cut short":                  {1, 4, good[:len(good)-1]},
		"branch with a byte more":           {1, 4, tail(good, 1)},
		"branch of its first byte":          {1, 4, good[:1]},
		"branch count not in shortest form": {1, 4, tail(good[:len(good)-1], 0x82, 0)},
	}
	for what, b := range bad {
		d := Dir{Root: crypto.ID(m.add(b.page)), Level: b.level, Entries: b.entries, Files: b.entries, Bytes: int64(b.entries)}
		if err := readAll(t, m, d); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: reading got %v, want ErrDamaged", what, err)
		}
		if err := walkTree(t.Context(), m, d, nil, nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: walking got %v, want ErrDamaged", what, err)
		}
		var last error
		for _, err := range diffTrees(t.Context(), m, rootEntry(Dir{}), rootEntry(d)) {
			last = err
		}
		if !errors.Is(last, ErrDamaged) {
			t.Errorf("%s: comparing got %v, want ErrDamaged", what, last)
		}
		for _, name := range []string{"", "a", "b", "c", "d", "e", "zz", long} {
			if raw, ok, err := newDirReader(m, d).Find(t.Context(), name); ok && (err != nil || string(raw.Name()) != name) {
				t.Errorf("%s: Find(%q) got %q, %v", what, name, raw.Name(), err)
			}
		}
		// A base like that must not keep a directory from being written.
		want := map[string]*Entry{"a": plainFile("a", 1), "c": plainFile("c", 1), "x": plainFile("x", 1)}
		checkDirEquals(t, m, writeDir(t, newTreeWriter(m), want, &d, m), want)
	}
}

func TestContent_PagesThatLieAreDamage(t *testing.T) {
	m := newMemPages()
	refs := make([]Ref, 40)
	for i := range refs {
		refs[i] = Ref{treeID(uint64(i)), 10}
	}
	leaf := func(refs ...Ref) []byte {
		p := []byte{contentPageKind}
		for _, r := range refs {
			p = appendRef(p, &r)
		}
		return p
	}
	branch := func(level uint8, p []byte, counts ...uint64) []byte {
		out := []byte{contentPageKind | level}
		for len(counts) > 0 {
			out = append(out, m.add(p)...)
			out = binary.AppendUvarint(out, counts[0])
			out = binary.AppendUvarint(out, counts[1])
			counts = counts[2:]
		}
		return out
	}
	forty := leaf(refs...)
	good := branch(1, forty, 40, 400, 40, 400)
	read := func(c Content) error {
		r := newContentReader(m, &c)
		for {
			if _, ok, err := r.Next(t.Context()); err != nil || !ok {
				return err
			}
		}
	}
	content := func(p []byte, level uint8, chunks uint64, bytes int64) Content {
		return Content{Root: crypto.ID(m.add(p)), Level: level, Chunks: chunks, Bytes: bytes}
	}
	for _, c := range []Content{content(forty, 1, 40, 400), content(good, 2, 80, 800)} {
		if err := read(c); err != nil {
			t.Errorf("a good content: %v", err)
		}
	}
	tail := func(p []byte, more ...byte) []byte { return append(slices.Clone(p), more...) }
	large := leaf(randomRefs(rand.New(rand.NewPCG(1, 1)), 130000)...)
	_, largeBytes := contentTotals(large, 0)
	for what, c := range map[string]Content{
		"a chunk more":            content(forty, 1, 41, 400),
		"a chunk less":            content(forty, 1, 39, 400),
		"a byte more":             content(forty, 1, 40, 401),
		"a byte less":             content(forty, 1, 40, 399),
		"negative bytes":          content(forty, 1, 40, -1),
		"as many as can":          content(forty, 1, math.MaxUint64, math.MaxInt64),
		"a level more":            content(forty, 2, 40, 400),
		"a level less":            content(good, 1, 80, 800),
		"too many levels":         content(good, MaxPageLevel+1, 80, 800),
		"chunks beside pages":     {Root: treeID(1), Level: 1, Chunks: 40, Bytes: 400, Inline: refs[:1]},
		"inline totals":           {Inline: refs[:2], Chunks: 3, Bytes: 20},
		"17 inline":               {Inline: refs[:17], Chunks: 17, Bytes: 170},
		"few chunks in a page":    content(leaf(refs[:3]...), 1, 3, 30),
		"cut short":               content(forty[:len(forty)-1], 1, 40, 400),
		"a byte after":            content(tail(forty, 0), 1, 40, 400),
		"a page of no bytes":      content([]byte{}, 1, 40, 400),
		"a page of a byte":        content([]byte{contentPageKind}, 1, 40, 400),
		"a directory page":        content(tail([]byte{dirPageKind}, forty[1:]...), 1, 40, 400),
		"a chunk of no bytes":     content(leaf(append(slices.Clone(refs), Ref{treeID(9), 0})...), 1, 41, 400),
		"a chunk too long":        content(leaf(append(slices.Clone(refs), Ref{treeID(9), MaxChunkSize + 1})...), 1, 41, 401+MaxChunkSize),
		"counts moved":            content(branch(1, forty, 39, 400, 41, 400), 2, 80, 800),
		"bytes moved":             content(branch(1, forty, 40, 399, 40, 401), 2, 80, 800),
		"counts wrap":             content(branch(1, forty, math.MaxUint64, 400, 81, 400), 2, 80, 800),
		"bytes wrap":              content(branch(1, forty, 40, math.MaxUint64, 40, 801), 2, 80, 800),
		"an item of no chunks":    content(branch(1, forty, 40, 400, 0, 400), 2, 40, 800),
		"an item of no bytes":     content(branch(1, forty, 40, 400, 40, 0), 2, 80, 400),
		"a leaf of another level": content(tail([]byte{contentPageKind | 1}, forty[1:]...), 1, 40, 400),
		"a branch of another":     content(tail([]byte{contentPageKind | 2}, good[1:]...), 2, 80, 800),
		"a branch of its level":   content(branch(1, good, 80, 800), 2, 80, 800),
		"a branch two above":      content(branch(2, forty, 40, 400), 3, 40, 400),
		"a page too large":        content(large, 1, 130000, largeBytes),
		"number of eleven bytes":  content(tail(forty, append(make([]byte, 32), bytes.Repeat([]byte{0x80}, 11)...)...), 1, 41, 400),
	} {
		if err := read(c); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", what, err)
		}
		r := newContentReader(m, &c)
		if _, err := r.Seek(t.Context(), 5); err == nil && c.Level < 2 {
			t.Errorf("%s: Seek got no error", what)
		}
		e := plainFile("f", 1)
		e.Content, e.Size = c, c.Bytes
		if _, err := encodeEntry(nil, e); err == nil {
			d := writeDir(t, newTreeWriter(m), map[string]*Entry{"f": e}, nil, nil)
			if err := walkTree(t.Context(), m, d, nil, nil); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: walking got %v, want ErrDamaged", what, err)
			}
		}
		want := randomRefs(rand.New(rand.NewPCG(1, 1)), 500)
		if got := writeContent(t, newTreeWriter(m), want, &c, m); !slices.Equal(readContent(t, newContentReader(m, &got)), want) {
			t.Errorf("%s: as a base it changed the content", what)
		}
	}
}

// dirTotals is what a parent that told the truth about a page would say.
func dirTotals(p []byte) (d Dir) {
	d.Level = p[0] & 0x0f
	f := treeDecoder{b: p, off: 1}
	for f.left() > 0 && f.bad == "" {
		if d.Level > 0 {
			_, _, n := f.branchItem()
			d.Entries += n
			continue
		}
		var r RawEntry
		n, reason := r.parseFrame(p[f.off:])
		if reason != "" {
			d.Entries++
			break
		}
		files, size, _ := r.totals()
		d.Entries, d.Files, d.Bytes = d.Entries+1, d.Files+files, d.Bytes+size
		f.off += n
	}
	return d
}

func FuzzDirectoryPage(f *testing.F) {
	rng := rand.New(rand.NewPCG(8, 1))
	m := newMemPages()
	randomTree(rng, 3, 20).write(f, newTreeWriter(m))
	model := map[string]*Entry{}
	for i := range 3000 {
		name := fmt.Sprintf("%05d", i)
		model[name] = plainFile(name, uint64(i))
	}
	writeDir(f, newTreeWriter(m), model, nil, nil)
	for _, p := range m.pages {
		if len(p) < 1500 { // the fuzzer is slow on long seeds
			f.Add(p)
		}
	}
	f.Add(leafPage("a", "b"))
	f.Add(branchPage(m, 1, item{"b", leafPage("a", "b"), 2}, item{"d", leafPage("c", "d"), 2}))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) == 0 {
			return
		}
		m := newMemPages()
		d := dirTotals(p)
		d.Root = crypto.ID(m.add(p))
		ref := rootRef(&d)
		if p[0]&0xf0 == dirPageKind && d.Level > 0 {
			if _, err := loadBranch(t.Context(), m, &ref); err == nil {
				again := []byte{p[0]}
				for f := (treeDecoder{b: p, off: 1}); f.left() > 0; {
					name, id, n := f.branchItem()
					again = binary.AppendUvarint(append(appendBytes(again, name), id[:]...), n)
				}
				if !bytes.Equal(again, p) {
					t.Fatalf("%x becomes %x", p, again)
				}
			} else if !errors.Is(err, ErrDamaged) {
				t.Fatalf("got %v, want ErrDamaged", err)
			}
		}
		again := []byte{dirPageKind}
		r := newDirReader(m, d)
		var e Entry
		var err error
		for {
			raw, ok, errNext := r.Next(t.Context())
			if err = errNext; err != nil || !ok {
				break
			}
			if err = raw.Entry(&e); err != nil {
				break
			}
			body, errEncode := encodeEntry(nil, &e)
			if errEncode != nil {
				t.Fatalf("%+v was decoded and does not encode: %v", e, errEncode)
			}
			again = appendBytes(again, body)
		}
		switch {
		case err == nil && d.Level == 0 && !bytes.Equal(again, p):
			t.Fatalf("%x becomes %x", p, again)
		case err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotFound):
			t.Fatalf("got %v, want ErrDamaged", err)
		}
		if _, _, err := r.Find(t.Context(), "b"); err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotFound) {
			t.Fatalf("Find: got %v, want ErrDamaged", err)
		}
		if err := walkTree(t.Context(), m, d, nil, nil); err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotFound) {
			t.Fatalf("walk: got %v, want ErrDamaged", err)
		}
	})
}
