// Package storetest is the contract of store.Store as a test. A new kind of
// store is done when Run passes.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
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
