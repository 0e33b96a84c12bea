// Package storetest is the contract of store.Store as a test. A new kind of
// store is done when Run passes.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/generalbots/backupd/internal/store"
)

// Run tests the stores that open returns, each of which is empty, laid out and
// not used by anybody else. What open has to clean up it registers with t.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s store.Store)
	}{
		{"RefusesBadNames", refusesBadNames},
		{"AcceptsTheLayout", acceptsTheLayout},
		{"ReturnsWhatWasWritten", returnsWhatWasWritten},
		{"ShowsNothingBeforeCommit", showsNothingBeforeCommit},
		{"CutsAtTheHighestByte", cutsAtTheHighestByte},
		{"RefusesWritesBeyondTheSize", refusesWritesBeyondTheSize},
		{"WritesConcurrently", writesConcurrently},
		{"DoesNotReplace", doesNotReplace},
		{"LetsOneOfManyCommit", letsOneOfManyCommit},
		{"AbortsAnyNumberOfTimes", abortsAnyNumberOfTimes},
		{"RefusesUseAfterTheEnd", refusesUseAfterTheEnd},
		{"ReadsAtTheEdges", readsAtTheEdges},
		{"ReadsConcurrently", readsConcurrently},
		{"OpensOnlyWhatIsThere", opensOnlyWhatIsThere},
		{"ListsSortedAndComplete", listsSortedAndComplete},
		{"ListsNoMissingDirectory", listsNoMissingDirectory},
		{"ListsWhileOthersWrite", listsWhileOthersWrite},
		{"Removes", removes},
		{"KeepsOpenObjectsReadable", keepsOpenObjectsReadable},
		{"TellsSpace", tellsSpace},
		{"LocksSharedAndExclusive", locksSharedAndExclusive},
		{"LocksOneOfMany", locksOneOfMany},
		{"HeedsCancellation", heedsCancellation},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// Put writes an object in one piece.
func Put(ctx context.Context, s store.Store, name string, data []byte) error {
	w, err := s.Create(ctx, name, int64(len(data)))
	if err != nil {
		return err
	}
	defer w.Abort()
	if len(data) > 0 {
		if _, err := w.WriteAt(data, 0); err != nil {
			return err
		}
	}
	return w.Commit(ctx)
}

// Get reads an object whole.
func Get(ctx context.Context, s store.Store, name string) ([]byte, error) {
	o, err := s.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	data := make([]byte, o.Size())
	if len(data) == 0 {
		return data, nil
	}
	if n, err := o.ReadAt(data, 0); n < len(data) {
		return nil, err
	}
	return data, nil
}

// Bytes returns n bytes that look random and are always the same for a seed.
func Bytes(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	data := make([]byte, n)
	rand.NewChaCha8(key).Read(data)
	return data
}

func put(t *testing.T, s store.Store, name string, data []byte) {
	t.Helper()
	if err := Put(t.Context(), s, name, data); err != nil {
		t.Fatalf("put %s: %v", name, err)
	}
}

func create(t *testing.T, s store.Store, name string, size int64) store.Writer {
	t.Helper()
	w, err := s.Create(t.Context(), name, size)
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	t.Cleanup(func() { w.Abort() })
	return w
}

func open(t *testing.T, s store.Store, name string) store.Object {
	t.Helper()
	o, err := s.Open(t.Context(), name)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func wantData(t *testing.T, s store.Store, name string, want []byte) {
	t.Helper()
	got, err := Get(t.Context(), s, name)
	if err != nil {
		t.Fatalf("get %s: %v", name, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: got %d bytes %.16x, want %d bytes %.16x", name, len(got), got, len(want), want)
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("%s: got error %v, want %v", what, got, want)
	}
}

func wantList(t *testing.T, s store.Store, prefix string, want ...string) {
	t.Helper()
	list, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatalf("list %q: %v", prefix, err)
	}
	var got []string
	for _, info := range list {
		got = append(got, info.Name)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("list %q: got %q, want %q", prefix, got, want)
	}
}

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
	_, err = o.ReadAt(make([]byte, 1), 0)
	wantErr(t, "read after close", err, store.ErrClosed)
	wantErr(t, "close after close", o.Close(), store.ErrClosed)
	if got := o.Size(); got != 3 {
		t.Fatalf("size after close: got %d, want 3", got)
	}
}

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

func tellsSpace(t *testing.T, s store.Store) {
	sp, err := s.Space(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if sp.Total <= 0 || sp.Free <= 0 || sp.Free > sp.Total {
		t.Fatalf("got %d free of %d", sp.Free, sp.Total)
	}
}

func locksSharedAndExclusive(t *testing.T, s store.Store) {
	lock := func(name string, mode store.LockMode) io.Closer {
		t.Helper()
		l, err := s.Lock(t.Context(), name, mode)
		if err != nil {
			t.Fatalf("lock %s: %v", name, err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	held := func(name string, mode store.LockMode, owner string) {
		t.Helper()
		l, err := s.Lock(t.Context(), name, mode)
		if err == nil {
			l.Close()
			t.Fatalf("lock %s is had by two", name)
		}
		var locked *store.LockedError
		if !errors.As(err, &locked) {
			t.Fatalf("lock %s: got %v, want a LockedError", name, err)
		}
		if locked.Name != name || locked.Owner != owner {
			t.Fatalf("got lock %q of %q, want %q of %q", locked.Name, locked.Owner, name, owner)
		}
	}
	pid := strconv.Itoa(os.Getpid())

	w := lock("writer", store.LockExclusive)
	held("writer", store.LockExclusive, pid)
	held("writer", store.LockShared, pid)
	lock("other", store.LockExclusive)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatalf("second close: %v", err)
	}

	r1, r2 := lock("writer", store.LockShared), lock("writer", store.LockShared)
	held("writer", store.LockExclusive, "")
	r1.Close()
	r1.Close()
	held("writer", store.LockExclusive, "")
	r2.Close()
	lock("writer", store.LockExclusive)
	held("writer", store.LockShared, pid)
	wantList(t, s, "")
}

func locksOneOfMany(t *testing.T, s store.Store) {
	var inside, entered int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				l, err := s.Lock(t.Context(), "writer", store.LockExclusive)
				var locked *store.LockedError
				if errors.As(err, &locked) {
					continue
				}
				if err != nil {
					t.Errorf("lock: %v", err)
					return
				}
				mu.Lock()
				inside++
				entered++
				if inside != 1 {
					t.Errorf("%d hold the lock", inside)
				}
				mu.Unlock()
				mu.Lock()
				inside--
				mu.Unlock()
				l.Close()
			}
		})
	}
	wg.Wait()
	if entered == 0 {
		t.Fatal("nobody got the lock")
	}
}

func heedsCancellation(t *testing.T, s store.Store) {
	put(t, s, "keys/a", []byte("x"))
	w := create(t, s, "keys/b", 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Create(ctx, "keys/c", 1)
	wantErr(t, "create", err, context.Canceled)
	_, err = s.Open(ctx, "keys/a")
	wantErr(t, "open", err, context.Canceled)
	_, err = s.List(ctx, "keys")
	wantErr(t, "list", err, context.Canceled)
	wantErr(t, "remove", s.Remove(ctx, "keys/a"), context.Canceled)
	_, err = s.Space(ctx)
	wantErr(t, "space", err, context.Canceled)
	_, err = s.Lock(ctx, "writer", store.LockExclusive)
	wantErr(t, "lock", err, context.Canceled)
	wantErr(t, "commit", w.Commit(ctx), context.Canceled)
	wantList(t, s, "", "keys/a")
}
