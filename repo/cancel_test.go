package repo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// cancelling is a store that ends a context when it is called for the n-th time.
type cancelling struct {
	store.Store
	calls  atomic.Int64
	at     int64
	cancel context.CancelFunc
}

func (c *cancelling) call() {
	if c.calls.Add(1) == c.at {
		c.cancel()
	}
}

func (c *cancelling) Create(ctx context.Context, name string, size int64) (store.Writer, error) {
	c.call()
	w, err := c.Store.Create(ctx, name, size)
	return &cancellingWriter{w, c}, err
}

func (c *cancelling) Open(ctx context.Context, name string) (store.Object, error) {
	c.call()
	o, err := c.Store.Open(ctx, name)
	return &cancellingObject{o, c}, err
}

func (c *cancelling) List(ctx context.Context, prefix string) ([]store.Info, error) {
	c.call()
	return c.Store.List(ctx, prefix)
}

func (c *cancelling) Remove(ctx context.Context, names ...string) error {
	c.call()
	return c.Store.Remove(ctx, names...)
}

func (c *cancelling) Lock(ctx context.Context, name string, mode store.LockMode) (io.Closer, error) {
	c.call()
	return c.Store.Lock(ctx, name, mode)
}

type cancellingWriter struct {
	store.Writer
	c *cancelling
}

func (w *cancellingWriter) WriteAt(p []byte, off int64) (int, error) {
	w.c.call()
	return w.Writer.WriteAt(p, off)
}

func (w *cancellingWriter) Commit(ctx context.Context) error {
	w.c.call()
	return w.Writer.Commit(ctx)
}

type cancellingObject struct {
	store.Object
	c *cancelling
}

func (o *cancellingObject) ReadAt(p []byte, off int64) (int, error) {
	o.c.call()
	return o.Object.ReadAt(p, off)
}

// Whenever a command is cancelled it ends, leaves no goroutine and no lock
// behind, and has lost nothing; and what says it was done was done.
func TestRepo_CancelledAtEveryCallEndsAndLosesNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	base := store.NewMem()
	initTestRepo(t, base, MinPackSize)
	r := openTestRepo(t, base, Options{})
	want := map[string]version{}
	v := version{"dump": textRows(rng, 1500), "small": []byte("x"), "random": randomChunks(rng, 1, 100_000, 100_000)[0]}
	var last *Snapshot
	for range 3 {
		s, err := commitFiles(t.Context(), r, v, last)
		if err != nil {
			t.Fatal(err)
		}
		want[s.ID], last = v, s
		v = mutate(rng, v)
	}
	gone := r.Snapshots()[0].ID
	if err := r.Forget(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	delete(want, gone)
	r.Close()

	commands := map[string]func(ctx context.Context, r *Repo) (string, error){
		"backup": func(ctx context.Context, r *Repo) (string, error) {
			s, err := commitFiles(ctx, r, v, r.Snapshots()[1])
			if err != nil {
				return "", err
			}
			return s.ID, nil
		},
		"forget": func(ctx context.Context, r *Repo) (string, error) {
			return "", r.Forget(ctx, r.Snapshots()[0].ID)
		},
		"undelete": func(ctx context.Context, r *Repo) (string, error) { return gone, r.Undelete(ctx, gone) },
		"gc": func(ctx context.Context, r *Repo) (string, error) {
			_, err := r.GC(ctx, GCOptions{}, &GCProgress{})
			return "", err
		},
		"check": func(ctx context.Context, r *Repo) (string, error) {
			rep, err := r.Check(ctx, CheckOptions{ReadData: true}, &CheckProgress{})
			if err == nil && !rep.Sound() {
				err = fmt.Errorf("a sound repository was called damaged: %+v", rep)
				t.Error(err)
			}
			return "", err
		},
	}
	before := runtime.NumGoroutine()
	for name, command := range commands {
		ended, calls := 0, int64(1)
		for at := int64(0); at <= calls; at++ {
			st := copyMem(t, base)
			ctx, cancel := context.WithCancel(t.Context())
			c := &cancelling{Store: st, at: at, cancel: cancel}
			watch := time.AfterFunc(5*time.Minute, func() {
				buf := make([]byte, 1<<20)
				panic(fmt.Sprintf("%s, cancelled at call %d, does not end\n%s", name, at, buf[:runtime.Stack(buf, true)]))
			})
			var id string
			r, err := openWith(ctx, c, []crypto.Credential{testKey}, Options{}, nil)
			if err == nil {
				id, err = command(ctx, r)
				r.Close()
			}
			watch.Stop()
			cancel()
			if at == 0 { // not cancelled at all
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				calls = c.calls.Load()
			}
			if err != nil {
				ended++
			}
			r = openTestRepo(t, st, Options{})
			all := maps.Clone(want)
			if err == nil && id != "" {
				if _, err := r.Resolve(id); err != nil {
					t.Errorf("%s, cancelled at call %d: done, and %v", name, at, err)
				}
				if name == "backup" {
					all[id] = v
				}
			}
			wantAll(t, r, all)
			if len(r.Snapshots()) < len(want)-1 || name != "forget" && len(r.Snapshots()) < len(want) {
				t.Errorf("%s, cancelled at call %d: %d snapshots are left", name, at, len(r.Snapshots()))
			}
			mustBeSound(t, r)
			lock, err := st.Lock(t.Context(), writerLock, store.LockExclusive)
			if err != nil {
				t.Fatalf("%s, cancelled at call %d: %v", name, at, err)
			}
			lock.Close()
			r.Close()
			if lock, err = st.Lock(t.Context(), useLock, store.LockExclusive); err != nil {
				t.Fatalf("%s, cancelled at call %d: %v", name, at, err)
			}
			lock.Close()
		}
		if int64(ended) < calls/2 {
			t.Errorf("%s: only %d of %d cancellations ended it", name, ended, calls)
		}
		t.Logf("%s: cancelled at each of %d calls, %d ended it", name, calls, ended)
	}
	for range 3000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	var stacks bytes.Buffer
	buf := make([]byte, 1<<20)
	stacks.Write(buf[:runtime.Stack(buf, true)])
	t.Errorf("%d goroutines were left behind\n%s", runtime.NumGoroutine()-before, &stacks)
}
