package repo

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/generalbots/backupd/crypto"
)

func checkDirEquals(t *testing.T, src pageSource, d Dir, want map[string]*Entry) {
	t.Helper()
	got := readDir(t, src, d)
	if len(got) != len(want) || d.Entries != uint64(len(want)) {
		t.Fatalf("got %d entries and a count of %d, want %d", len(got), d.Entries, len(want))
	}
	r := newDirReader(src, d)
	finds := 0
	for name, e := range want {
		if g, w := norm(got[name]), norm(e); !reflect.DeepEqual(g, w) {
			t.Fatalf("%q: got %+v, want %+v", name, g, w)
		}
		if finds++; finds > 1000 {
			continue // a scan of a page each
		}
		raw, ok, err := r.Find(t.Context(), name)
		if err != nil || !ok || string(raw.Name()) != name {
			t.Fatalf("Find(%q): got %q, %v, %v", name, raw.Name(), ok, err)
		}
		for _, not := range []string{name + "\x01", name[:len(name)-1]} {
			if want[not] != nil {
				continue
			}
			if _, ok, err := r.Find(t.Context(), not); ok || err != nil {
				t.Fatalf("Find(%q): got %v, %v, want nothing", not, ok, err)
			}
		}
	}
}

func TestDirectory_ReadsBackWhatWasWrittenAndDependsOnNothingElse(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for _, n := range []int{0, 1, 2, 3, 50, 300, 2500} {
		m := newMemPages()
		w := newTreeWriter(m)
		model := map[string]*Entry{}
		for len(model) < n {
			e := randomEntry(rng, randomName(rng))
			model[e.Name] = e
		}
		d := writeDir(t, w, model, nil, nil)
		checkDirEquals(t, m, d, model)

		for round := range 6 {
			base := d
			names := slices.Sorted(maps.Keys(model))
			for range 1 + rng.IntN(3)*n/100 {
				e := randomEntry(rng, randomName(rng))
				model[e.Name] = e
				if len(names) > 0 {
					name := names[rng.IntN(len(names))]
					if rng.IntN(2) == 0 {
						delete(model, name)
					} else {
						model[name] = randomEntry(rng, name)
					}
				}
			}
			if round == 4 && n > 100 { // a whole range goes
				for _, name := range names[n/3 : n/2] {
					delete(model, name)
				}
			}
			d = writeDir(t, w, model, &base, m)
			checkDirEquals(t, m, d, model)
			if alone := writeDir(t, newTreeWriter(newMemPages()), model, nil, nil); alone != d {
				t.Fatalf("%d entries: with a base %+v, without %+v", n, d, alone)
			}
		}
	}
}

func TestDirectory_WithAnEqualBaseStoresNothing(t *testing.T) {
	for _, n := range []int{0, 1, 30, 5000} {
		m := newMemPages()
		w := newTreeWriter(m)
		model := map[string]*Entry{}
		for i := range n {
			e := plainFile(fmt.Sprintf("file-%07d", i), uint64(i))
			model[e.Name] = e
		}
		d := writeDir(t, w, model, nil, nil)
		m.reset()
		if again := writeDir(t, w, model, &d, m); again != d || m.puts != 0 {
			t.Errorf("%d entries: got %+v and %d pages stored, want %+v and none", n, again, m.puts, d)
		}
		m.reset()
		out := w.NewDir(&d, m)
		r := newDirReader(m, d)
		for {
			raw, ok, err := r.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if err := out.AddRaw(t.Context(), raw); err != nil {
				t.Fatal(err)
			}
		}
		if again, err := out.Close(t.Context()); err != nil || again != d || m.puts != 0 {
			t.Errorf("%d raw entries: got %+v, %v and %d pages stored, want %+v and none", n, again, err, m.puts, d)
		}
	}
}

func TestDirectory_ChangedPagesNameThePagesOfTheBaseTheyResemble(t *testing.T) {
	m := newMemPages()
	w := newTreeWriter(m)
	model := map[string]*Entry{}
	for i := range 2000 {
		e := plainFile(fmt.Sprintf("file-%07d", i), uint64(i))
		model[e.Name] = e
	}
	d := writeDir(t, w, model, nil, nil)
	m.reset()
	model["file-0001000"].Mode = 0o600
	writeDir(t, w, model, &d, m)
	if m.puts != m.likes || m.puts != 2 {
		t.Errorf("got %d pages stored, %d of them with a likeness, want 2 and 2", m.puts, m.likes)
	}
	if want := []crypto.ID{d.Root}; !slices.Equal(m.last, want) {
		t.Errorf("the root is like %v, want %v", m.last, want)
	}
}

func TestDirectory_ABaseThatCanNotBeReadOnlyCostsSpace(t *testing.T) {
	m := newMemPages()
	w := newTreeWriter(m)
	model := map[string]*Entry{}
	for i := range 3000 {
		e := plainFile(fmt.Sprintf("file-%07d", i), uint64(i))
		model[e.Name] = e
	}
	d := writeDir(t, w, model, nil, nil)
	for id := range m.pages {
		m.lost = map[crypto.ID]bool{id: true}
		if again := writeDir(t, w, model, &d, m); again != d {
			t.Fatalf("without page %s: got %+v, want %+v", id.Short(), again, d)
		}
	}
}

func TestDirectory_PagesStayWithinTheirBounds(t *testing.T) {
	m := newMemPages()
	w := newTreeWriter(m)
	names := map[string]*Entry{} // that never cut
	cuts := map[string]*Entry{}  // that always do
	for i := uint64(0); len(names) < 5000 || len(cuts) < 300; i++ {
		e := plainFile(fmt.Sprintf("%08d", i), i)
		raw, err := encodeEntry(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		if cutsAfter([]byte(e.Name), len(raw)+2, 0) {
			cuts[e.Name] = e
		} else {
			names[e.Name] = e
		}
	}
	for what, model := range map[string]map[string]*Entry{"never": names, "always": cuts} {
		clear(m.pages)
		d := writeDir(t, w, model, nil, nil)
		checkDirEquals(t, m, d, model)
		small := 0
		for id, p := range m.pages {
			if len(p) > maxPageCut {
				t.Errorf("%s: a page of %d bytes, want %d at most", what, len(p), maxPageCut)
			}
			if len(p) < minPageCut && id != d.Root {
				small++
			}
		}
		if small > int(d.Level)+1 {
			t.Errorf("%s: %d pages below %d bytes, want the last of each level at most", what, small, minPageCut)
		}
	}
}

func TestDirectory_TotalsAreOfAllBelow(t *testing.T) {
	m := newMemPages()
	w := newTreeWriter(m)
	in := writeDir(t, w, map[string]*Entry{
		"f": plainFile("f", 10), "l": {Name: "l", Type: TypeSymlink, Target: "x"},
	}, nil, nil)
	out := writeDir(t, w, map[string]*Entry{
		"d": {Name: "d", Type: TypeDirectory, Dir: in}, "e": {Name: "e", Type: TypeDirectory}, "g": plainFile("g", 20),
	}, nil, nil)
	if out.Entries != 3 || out.Files != 3 || out.Bytes != 32 {
		t.Errorf("got %+v, want 3 entries, 3 files, 32 bytes", out)
	}
}

func TestDirWriter_RefusesAnEntryAndTakesTheNext(t *testing.T) {
	m := newMemPages()
	d := newTreeWriter(m).NewDir(nil, nil)
	for _, name := range []string{"b", "b", "a", "", "..", "b/c", strings.Repeat("x", 300)} {
		err := d.Add(t.Context(), plainFile(name, 1))
		if wantErr := name != "b"; d.total.Entries != 1 || wantErr != errors.Is(err, ErrInvalidEntry) && wantErr {
			t.Errorf("Add(%q): got %v, %d entries", name, err, d.total.Entries)
		}
	}
	var r RawEntry
	raw, _ := encodeEntry(nil, plainFile("a", 1))
	if reason := r.parseBody(raw); reason != "" {
		t.Fatal(reason)
	}
	if err := d.AddRaw(t.Context(), r); !errors.Is(err, ErrInvalidEntry) {
		t.Errorf("AddRaw of a name that is too low: got %v", err)
	}
	if err := d.Add(t.Context(), plainFile("c", 1)); err != nil {
		t.Error(err)
	}
	got, err := d.Close(t.Context())
	if err != nil || got.Entries != 2 {
		t.Errorf("got %+v, %v, want 2 entries", got, err)
	}
	if _, err := d.Close(t.Context()); err == nil {
		t.Error("a second Close succeeded")
	}
	if err := d.Add(t.Context(), plainFile("d", 1)); err == nil {
		t.Error("Add after Close succeeded")
	}
}

func TestDirWriter_ErrorsOfTheSinkStay(t *testing.T) {
	want := errors.New("disk gone")
	d := newTreeWriter(sinkErr{want}).NewDir(nil, nil)
	var err error
	for i := 0; err == nil && i < 100000; i++ {
		err = d.Add(t.Context(), plainFile(fmt.Sprintf("%08d", i), 1))
	}
	if !errors.Is(err, want) {
		t.Errorf("Add: got %v, want %v", err, want)
	}
	if _, err := d.Close(t.Context()); !errors.Is(err, want) {
		t.Errorf("Close: got %v, want %v", err, want)
	}
}

// TestDirectory_NestedWritersShareMemoryWithoutMixing keeps many writers of one
// TreeWriter open at once and adds to them in turn.
func TestDirectory_NestedWritersShareMemoryWithoutMixing(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	m := newMemPages()
	w := newTreeWriter(m)
	for range 3 {
		var writers []*DirWriter
		models := make([]map[string]*Entry, 12)
		for i := range models {
			models[i] = map[string]*Entry{}
			writers = append(writers, w.NewDir(nil, nil))
		}
		for j := range 500 {
			for i, d := range writers {
				if rng.IntN(2) == 0 {
					continue
				}
				e := randomEntry(rng, fmt.Sprintf("%06d-%d", j, i))
				models[i][e.Name] = e
				if err := d.Add(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i, d := range writers {
			dir, err := d.Close(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			checkDirEquals(t, m, dir, models[i])
		}
	}
}

// TestDirectory_OneNewNameInAMillionStoresTwoPagesALevelAtMost is what pages
// are for.
func TestDirectory_OneNewNameInAMillionStoresTwoPagesALevelAtMost(t *testing.T) {
	const n = 1_000_000
	m := newMemPages()
	w := newTreeWriter(m)
	write := func(base *Dir, extra string) Dir {
		d := w.NewDir(base, m)
		e := plainFile("", 1)
		add := func(name string, i uint64) {
			e.Name, e.Inode, e.Mtime.Nsec = name, i, uint32(i*7919%1e9)
			e.Content.Inline[0].ID[3], e.Content.Inline[0].ID[9] = byte(i), byte(i>>8)
			if err := d.Add(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		for i := range uint64(n) {
			name := fmt.Sprintf("IMG_%08d.jpg", i)
			if extra != "" && extra < name {
				add(extra, n)
				extra = ""
			}
			add(name, i)
		}
		if extra != "" {
			add(extra, n)
		}
		dir, err := d.Close(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	d := write(nil, "")
	t.Logf("%d pages of levels %v for %d entries, %d levels", m.puts, m.byLvl, n, d.Level+1)
	if d.Level != 2 {
		t.Errorf("got a root of level %d, want 2", d.Level)
	}
	for _, name := range []string{"A", "zz", "IMG_00500000.jpg.tmp"} {
		m.reset()
		with := write(&d, name)
		for level, puts := range m.byLvl {
			if puts > 2 {
				t.Errorf("%q: %d pages of kind %#x stored, want 2 at most", name, puts, level)
			}
		}
		if with == d || m.likes != m.puts {
			t.Errorf("%q: got %d pages with a likeness, want %d", name, m.likes, m.puts)
		}
		m.reset()
		r := newDirReader(m, with)
		if _, ok, err := r.Find(t.Context(), name); !ok || err != nil || m.reads != 3 {
			t.Errorf("Find(%q): got %v, %v, %d pages read, want 3", name, ok, err, m.reads)
		}
	}
}

// TestDirectory_ChangesStayLocalForSmallAndLargeEntries changes single entries
// of directories with pages of very different fill.
func TestDirectory_ChangesStayLocalForSmallAndLargeEntries(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for _, chunks := range []int{0, 1, 16} {
		m := newMemPages()
		w := newTreeWriter(m)
		model := map[string]*Entry{}
		for i := range 8000 {
			e := plainFile(fmt.Sprintf("%08x", rng.Uint32()), uint64(i))
			e.Content = Content{}
			for j := range chunks {
				e.Content.Inline = append(e.Content.Inline, Ref{treeID(uint64(i*16 + j)), 65536})
			}
			e.Content.Chunks, e.Content.Bytes, e.Size = uint64(chunks), int64(chunks)<<16, int64(chunks)<<16
			model[e.Name] = e
		}
		d := writeDir(t, w, model, nil, nil)
		pages, most, total := len(m.pages), 0, 0
		const trials = 40
		for i := range trials {
			m.reset()
			name := fmt.Sprintf("%08x!", rng.Uint32())
			model[name] = plainFile(name, uint64(i))
			writeDir(t, w, model, &d, m)
			delete(model, name)
			most, total = max(most, m.byLvl[dirPageKind]), total+m.puts
		}
		t.Logf("%2d chunks: %d pages; a new name stores %.2f pages, %d leaves at most", chunks, pages, float64(total)/trials, most)
		if most > 2 {
			t.Errorf("%d chunks: one new name stored %d leaves, want 2 at most", chunks, most)
		}
	}
}

func TestDirReader_AllocatesNothingForAnEntry(t *testing.T) {
	m := newMemPages()
	w := newTreeWriter(m)
	model := map[string]*Entry{}
	for i := range 300 {
		e := plainFile(fmt.Sprintf("%06d", i), uint64(i))
		model[e.Name] = e
	}
	d := writeDir(t, w, model, nil, nil)
	var sum int64
	ctx := t.Context()
	run := func() {
		r := newDirReader(m, d)
		out := w.NewDir(&d, m)
		for {
			raw, ok, err := r.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			sum += raw.Size() + raw.Mtime().Sec + int64(raw.Inode()) + int64(len(raw.Name()))
			if err := out.AddRaw(ctx, raw); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := out.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if got := testing.AllocsPerRun(50, run); got > 20 {
		t.Errorf("got %v allocations for a directory of %d entries, want 20 at most", got, len(model))
	}
}

func TestDirWriter_AddAllocatesNothingForAnEntry(t *testing.T) {
	m := newMemPages()
	w := newTreeWriter(m)
	var entries []*Entry
	for i := range 200 {
		entries = append(entries, plainFile(fmt.Sprintf("%06d", i), uint64(i)))
	}
	ctx := t.Context()
	got := testing.AllocsPerRun(50, func() {
		d := w.NewDir(nil, nil)
		for _, e := range entries {
			if err := d.Add(ctx, e); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := d.Close(ctx); err != nil {
			t.Fatal(err)
		}
	})
	if got > 20 {
		t.Errorf("got %v allocations for %d entries, want 20 at most", got, len(entries))
	}
}
