package storetest

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/generalbots/backupd/internal/store"
)

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
