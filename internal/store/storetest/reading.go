package storetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/generalbots/backupd/internal/store"
)

func readsAtTheEdges(t *testing.T, s store.Store) {
	data := Bytes(3, 1000)
	put(t, s, "keys/a", data)
	o := open(t, s, "keys/a")
	for _, c := range []struct {
		off  int64
		n    int
		want int
		err  error
	}{
		{0, 1000, 1000, nil}, {0, 0, 0, nil}, {999, 1, 1, nil}, {500, 500, 500, nil},
		{0, 1001, 1000, io.EOF}, {999, 2, 1, io.EOF}, {1000, 1, 0, io.EOF}, {1 << 40, 10, 0, io.EOF},
	} {
		willRead(o, c.off, int64(c.n)) // which changes nothing
		p := make([]byte, c.n)
		n, err := o.ReadAt(p, c.off)
		// io.ReaderAt leaves it open whether a read that ends at the end says so.
		if c.err == nil && err == io.EOF && c.off+int64(c.n) == 1000 {
			err = nil
		}
		if n != c.want || err != c.err {
			t.Fatalf("read of %d at %d: got %d, %v, want %d, %v", c.n, c.off, n, err, c.want, c.err)
		}
		if n > 0 && !bytes.Equal(p[:n], data[c.off:c.off+int64(n)]) {
			t.Fatalf("read of %d at %d: wrong bytes", c.n, c.off)
		}
	}
	if _, err := o.ReadAt(make([]byte, 1), -1); err == nil || err == io.EOF {
		t.Fatalf("read at -1: got %v, want an error", err)
	}
}

func willRead(o store.Object, off, n int64) {
	if a, ok := o.(store.Ahead); ok {
		a.WillRead(off, n)
	}
}

func readsConcurrently(t *testing.T, s store.Store) {
	data := Bytes(4, 100_000)
	put(t, s, "keys/a", data)
	o := open(t, s, "keys/a")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			p := make([]byte, 777)
			for j := range 50 {
				off := int64((i*7919 + j*104729) % (len(data) - len(p)))
				if _, err := o.ReadAt(p, off); err != nil || !bytes.Equal(p, data[off:off+int64(len(p))]) {
					t.Errorf("read at %d: wrong bytes or %v", off, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func opensOnlyWhatIsThere(t *testing.T, s store.Store) {
	for _, name := range []string{"config", "keys/a", "packs/00/a", "nowhere/a"} {
		_, err := s.Open(t.Context(), name)
		wantErr(t, "open "+name, err, store.ErrNotExist)
	}
	if _, err := s.Open(t.Context(), "packs"); err == nil {
		t.Fatal("a directory opens as an object")
	}
}

func listsSortedAndComplete(t *testing.T, s store.Store) {
	rng := rand.New(rand.NewPCG(1, 2))
	want := map[string]int64{}
	for i := range 300 {
		name := fmt.Sprintf("packs/%02x/%08x", rng.IntN(256), rng.Uint32())
		want[name] = int64(i)
		put(t, s, name, make([]byte, i))
	}
	put(t, s, "packs-x", nil)
	put(t, s, "config", nil)
	list, err := s.List(t.Context(), "packs")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(list, func(a, b store.Info) int { return strings.Compare(a.Name, b.Name) }) {
		t.Fatal("list is not sorted by name")
	}
	for _, info := range list {
		if size, ok := want[info.Name]; !ok || size != info.Size {
			t.Fatalf("got %s of %d bytes, want %d, %v", info.Name, info.Size, size, ok)
		}
		delete(want, info.Name)
	}
	if len(want) > 0 {
		t.Fatalf("list lacks %d objects", len(want))
	}
	all, err := s.List(t.Context(), "")
	if err != nil || len(all) != len(list)+2 {
		t.Fatalf("list of everything: got %d, %v, want %d", len(all), err, len(list)+2)
	}
	wantList(t, s, "keys")
}

func listsNoMissingDirectory(t *testing.T, s store.Store) {
	for _, prefix := range []string{"nowhere", "packs/zz", "keys/a"} {
		_, err := s.List(t.Context(), prefix)
		wantErr(t, "list "+prefix, err, store.ErrNotExist)
	}
}

func listsWhileOthersWrite(t *testing.T, s store.Store) {
	for i := range 20 {
		put(t, s, fmt.Sprintf("keys/a%02d", i), []byte("old"))
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			name := fmt.Sprintf("keys/b%d", i)
			if err := Put(t.Context(), s, name, []byte("whole")); err != nil {
				t.Errorf("put: %v", err)
				return
			}
			if i%2 == 0 {
				if err := s.Remove(t.Context(), name); err != nil {
					t.Errorf("remove: %v", err)
					return
				}
			}
		}
	})
	for range 50 {
		list, err := s.List(t.Context(), "")
		if err != nil {
			t.Errorf("list: %v", err)
			break
		}
		old := 0
		for _, info := range list {
			switch {
			case strings.HasPrefix(info.Name, "keys/a"):
				old++
			case !strings.HasPrefix(info.Name, "keys/b") || info.Size != 5:
				t.Errorf("list shows %s of %d bytes", info.Name, info.Size)
			}
		}
		if old != 20 {
			t.Errorf("list shows %d of 20 objects that nobody touches", old)
		}
	}
	stop()
	wg.Wait()
}

func removes(t *testing.T, s store.Store) {
	for _, name := range []string{"keys/a", "keys/b", "packs/00/a", "snapshots/1"} {
		put(t, s, name, []byte(name))
	}
	if err := s.Remove(t.Context()); err != nil {
		t.Fatalf("remove of nothing: %v", err)
	}
	for range 2 {
		if err := s.Remove(t.Context(), "keys/a", "packs/00/a", "gc/missing", "nowhere/a"); err != nil {
			t.Fatal(err)
		}
		wantList(t, s, "", "keys/b", "snapshots/1")
	}
	put(t, s, "keys/a", []byte("again"))
	wantData(t, s, "keys/a", []byte("again"))
}

func keepsOpenObjectsReadable(t *testing.T, s store.Store) {
	data := Bytes(5, 10_000)
	put(t, s, "packs/00/a", data)
	o := open(t, s, "packs/00/a")
	if err := s.Remove(t.Context(), "packs/00/a"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(data))
	if _, err := o.ReadAt(got, 0); err != nil && err != io.EOF || !bytes.Equal(got, data) {
		t.Fatalf("open object after remove: wrong bytes or %v", err)
	}
}
