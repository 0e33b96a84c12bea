package repo

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/store"
)

// One who gives up must not make another one, who waits for the same value,
// fail.
func TestCache_AWaiterIsNotToldOfAnothersCancellation(t *testing.T) {
	c := newCache[int, int](100, nil)
	loading, fail := make(chan struct{}), make(chan struct{})
	gaveUp := make(chan error)
	go func() {
		_, err := c.get(1, func() (int, int64, error) {
			close(loading)
			<-fail
			return 0, 0, context.Canceled
		})
		gaveUp <- err
	}()
	<-loading
	got := make(chan error)
	go func() {
		e, err := c.get(1, func() (int, int64, error) { return 7, 1, nil })
		if err == nil {
			if e.val != 7 {
				err = errors.New("another value")
			}
			c.release(e)
		}
		got <- err
	}()
	for { // until the second waits
		c.mu.Lock()
		waits := c.entries[1].refs == 2
		c.mu.Unlock()
		if waits {
			break
		}
		time.Sleep(time.Millisecond)
	}
	close(fail)
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("the first one: got error %v", err)
	}
	if err := <-got; err != nil {
		t.Errorf("the one that waited: got error %v, want its own result", err)
	}
}

// openCounter counts the objects that are open at a time.
type openCounter struct {
	store.Store
	mu         sync.Mutex // guards what follows
	open, most int
}

type countedObject struct {
	store.Object
	c *openCounter
}

func (c *openCounter) Open(ctx context.Context, name string) (store.Object, error) {
	o, err := c.Store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
	c.most = max(c.most, c.open)
	return countedObject{o, c}, nil
}

func (o countedObject) Close() error {
	o.c.mu.Lock()
	o.c.open--
	o.c.mu.Unlock()
	return o.Object.Close()
}

// Thousands of small packs, as frequent backups leave them, must not take as
// many descriptors: a process has a limit, and a pack that can not be opened
// looks damaged.
func TestReader_KeepsABoundedNumberOfPacksOpen(t *testing.T) {
	st := &openCounter{Store: store.NewMem()}
	initTestRepo(t, st, MinPackSize)
	r := openTestRepo(t, st, Options{})
	w, err := r.NewWriter(t.Context(), WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := w.NewLane()
	if err != nil {
		t.Fatal(err)
	}
	chunks := randomChunks(rand.New(rand.NewPCG(3, 1)), 700, 100, 200)
	refs := make([]Ref, len(chunks))
	for i, c := range chunks {
		refs[i] = l.Ref(c)
		if _, err := l.Put(t.Context(), c, refs[i], nil); err != nil {
			t.Fatal(err)
		}
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.data.flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(t.Context(), bareManifest(t, r)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	r.Close()
	r = openTestRepo(t, st, Options{})
	wantChunks(t, r, refs, chunks)
	wantChunks(t, r, refs, chunks)
	mustBeSound(t, r)
	r.Close()
	if st.most > 300 {
		t.Errorf("%d packs were open at a time", st.most)
	}
	if st.open != 0 {
		t.Errorf("%d objects are still open", st.open)
	}
}
