package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/generalbots/backupd/internal/store"
)

func refusesBadNames(t *testing.T, s store.Store) {
	long := strings.Repeat("a", store.MaxComponent)
	for _, name := range []string{
		"", "/", ".", "..", "/config", "config/", "keys//a", "keys/.", "keys/..", "keys/../config",
		"keys/.hidden", ".config", "Config", "keys/A", "keys/a_b", "keys/a b", "keys/a\x00", "keys/a\n", "keys/ä",
		"keys/" + long + "a", "a/b/c/d/e", "tmp/a", "locks/a", "tmp", "locks", "keys\\a",
	} {
		_, err := s.Create(t.Context(), name, 1)
		wantErr(t, fmt.Sprintf("create %q", name), err, store.ErrName)
		_, err = s.Open(t.Context(), name)
		wantErr(t, fmt.Sprintf("open %q", name), err, store.ErrName)
		wantErr(t, fmt.Sprintf("remove %q", name), s.Remove(t.Context(), name), store.ErrName)
		if name != "" {
			_, err = s.List(t.Context(), name)
			wantErr(t, fmt.Sprintf("list %q", name), err, store.ErrName)
		}
		if !slices.Contains([]string{"tmp", "locks"}, name) {
			_, err = s.Lock(t.Context(), name, store.LockShared)
			wantErr(t, fmt.Sprintf("lock %q", name), err, store.ErrName)
		}
	}
	put(t, s, "keys/"+long, []byte("x"))
	wantErr(t, "remove of a bad name beside a good one",
		s.Remove(t.Context(), "keys/"+long, "../x"), store.ErrName)
	wantData(t, s, "keys/"+long, []byte("x"))
}

func acceptsTheLayout(t *testing.T, s store.Store) {
	names := []string{"config", "format", "gc/1.tomb", "keys/1", "packs/00/0", "packs/7f/a-b.c", "packs/ff/f", "snapshots/0-x"}
	for i, name := range names {
		put(t, s, name, Bytes(uint64(i), i*100))
	}
	for i, name := range names {
		wantData(t, s, name, Bytes(uint64(i), i*100))
	}
	wantList(t, s, "", names...)
	_, err := s.Create(t.Context(), "nowhere/a", 1)
	wantErr(t, "create in a directory that is not laid out", err, store.ErrNotExist)
}

func returnsWhatWasWritten(t *testing.T, s store.Store) {
	for i, size := range []int{0, 1, 511, 512, 513, 4095, 4096, 4097, 65536, 1<<20 + 1} {
		name := "keys/" + strconv.Itoa(i)
		put(t, s, name, Bytes(uint64(i), size))
		wantData(t, s, name, Bytes(uint64(i), size))
		if got := open(t, s, name).Size(); got != int64(size) {
			t.Fatalf("size of %s: got %d, want %d", name, got, size)
		}
	}
}

func showsNothingBeforeCommit(t *testing.T, s store.Store) {
	w := create(t, s, "keys/a", 10)
	check := func(when string) {
		t.Helper()
		wantList(t, s, "")
		wantList(t, s, "keys")
		_, err := s.Open(t.Context(), "keys/a")
		wantErr(t, "open "+when, err, store.ErrNotExist)
	}
	check("after create")
	w.WriteAt([]byte("0123456789"), 0)
	check("after write")
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	check("after abort")
}

func cutsAtTheHighestByte(t *testing.T, s store.Store) {
	for i, c := range []struct {
		size   int64
		writes []int64 // offsets of one byte each
		want   int
	}{
		{0, nil, 0}, {100, nil, 0}, {100, []int64{0}, 1}, {100, []int64{49, 3}, 50}, {100, []int64{99}, 100},
		{1 << 20, []int64{70000}, 70001},
	} {
		name := "keys/" + strconv.Itoa(i)
		w := create(t, s, name, c.size)
		want := make([]byte, c.want)
		for _, off := range c.writes {
			want[off] = 0xff
			if n, err := w.WriteAt([]byte{0xff}, off); n != 1 || err != nil {
				t.Fatalf("write: %d, %v", n, err)
			}
		}
		if err := w.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantData(t, s, name, want)
	}
}

func refusesWritesBeyondTheSize(t *testing.T, s store.Store) {
	w := create(t, s, "keys/a", 8)
	for _, c := range []struct {
		off int64
		n   int
	}{{8, 1}, {7, 2}, {0, 9}, {9, 0}, {-1, 1}, {1<<63 - 1, 2}, {-1 << 63, 1}} {
		_, err := w.WriteAt(make([]byte, c.n), c.off)
		wantErr(t, fmt.Sprintf("write of %d at %d", c.n, c.off), err, store.ErrTooLarge)
	}
	if _, err := w.WriteAt(make([]byte, 0), 8); err != nil {
		t.Fatalf("empty write at the end: %v", err)
	}
	if _, err := w.WriteAt([]byte("12345678"), 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantData(t, s, "keys/a", []byte("12345678"))
	if _, err := s.Create(t.Context(), "keys/b", -1); err == nil {
		t.Fatal("create with a negative size succeeded")
	}
}

func writesConcurrently(t *testing.T, s store.Store) {
	const part, parts = 10007, 64
	data := Bytes(1, part*parts)
	w := create(t, s, "packs/00/a", int64(len(data)))
	var wg sync.WaitGroup
	for i := range parts {
		wg.Go(func() {
			at := (parts - 1 - i) * part
			if n, err := w.WriteAt(data[at:at+part], int64(at)); n != part || err != nil {
				t.Errorf("write at %d: %d, %v", at, n, err)
			}
		})
	}
	wg.Wait()
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantData(t, s, "packs/00/a", data)
}

func doesNotReplace(t *testing.T, s store.Store) {
	put(t, s, "keys/a", []byte("first"))
	w := create(t, s, "keys/a", 6)
	w.WriteAt([]byte("second"), 0)
	wantErr(t, "second commit", w.Commit(t.Context()), store.ErrExist)
	wantData(t, s, "keys/a", []byte("first"))
	if err := w.Abort(); err != nil {
		t.Fatalf("abort after a failed commit: %v", err)
	}
	wantData(t, s, "keys/a", []byte("first"))
	wantList(t, s, "", "keys/a")
	wantErr(t, "commit over a directory", Put(t.Context(), s, "packs/00", nil), store.ErrExist)
}

func letsOneOfManyCommit(t *testing.T, s store.Store) {
	const writers = 16
	var mu sync.Mutex
	var won []int
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			err := Put(t.Context(), s, "snapshots/1", Bytes(uint64(i), 5000))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, i)
			} else if !errors.Is(err, store.ErrExist) {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("committed: writers %v, want one", won)
	}
	wantData(t, s, "snapshots/1", Bytes(uint64(won[0]), 5000))
}

func abortsAnyNumberOfTimes(t *testing.T, s store.Store) {
	w := create(t, s, "keys/a", 3)
	w.WriteAt([]byte("abc"), 0)
	for range 3 {
		if err := w.Abort(); err != nil {
			t.Fatalf("abort: %v", err)
		}
	}
	put(t, s, "keys/a", []byte("new"))
	w = create(t, s, "keys/b", 3)
	w.WriteAt([]byte("abc"), 0)
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := w.Abort(); err != nil {
			t.Fatalf("abort after commit: %v", err)
		}
	}
	wantData(t, s, "keys/b", []byte("abc"))
	wantList(t, s, "keys", "keys/a", "keys/b")
}

func refusesUseAfterTheEnd(t *testing.T, s store.Store) {
	w := create(t, s, "keys/a", 3)
	w.WriteAt([]byte("abc"), 0)
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := w.WriteAt([]byte("x"), 0)
	wantErr(t, "write after commit", err, store.ErrClosed)
	wantErr(t, "commit after commit", w.Commit(t.Context()), store.ErrClosed)
	wantData(t, s, "keys/a", []byte("abc"))

	w = create(t, s, "keys/b", 3)
	w.Abort()
	_, err = w.WriteAt([]byte("x"), 0)
	wantErr(t, "write after abort", err, store.ErrClosed)
	wantErr(t, "commit after abort", w.Commit(t.Context()), store.ErrClosed)
	wantList(t, s, "", "keys/a")

	o := open(t, s, "keys/a")
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	willRead(o, 0, 1)
	_, err = o.ReadAt(make([]byte, 1), 0)
	wantErr(t, "read after close", err, store.ErrClosed)
	wantErr(t, "close after close", o.Close(), store.ErrClosed)
	if got := o.Size(); got != 3 {
		t.Fatalf("size after close: got %d, want 3", got)
	}
}
