package repo

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/durable/crashfs"
	"github.com/generalbots/backupd/internal/store"
)

func TestPublish_RefusesAnIDThatIsTaken(t *testing.T) {
	c := newTestChain(t)
	id := c.snapshot(c.a)
	c.forget(c.a, id)
	if _, err := c.as(c.b).snapshot(t.Context(), testManifest(id)); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("got error %v, want that it is there already", err)
	}
}

func TestPublish_TakesTheNextNumberWhenAnotherProcessUsedIt(t *testing.T) {
	c := newTestChain(t)
	stale := c.as(c.a)
	first := c.snapshot(c.a)
	before := c.read(place{c.a, 1}.name())
	s, err := stale.snapshot(t.Context(), testManifest(testID(5)))
	if err != nil {
		t.Fatal(err)
	}
	if s.at.seq != 2 || stale.chain.find(first) == nil {
		t.Errorf("got number %d, and of the other %v", s.at.seq, stale.chain.find(first))
	}
	if string(c.read(place{c.a, 1}.name())) != string(before) {
		t.Error("the other's file was changed")
	}
	c.expect([]string{first, testID(5)}, nil)
}

// commitFault makes one Commit fail, before or after it happened.
type commitFault struct {
	store.Store
	err     error
	happens bool
}

func (s *commitFault) Create(ctx context.Context, name string, size int64) (store.Writer, error) {
	w, err := s.Store.Create(ctx, name, size)
	return &faultyWriter{w, s}, err
}

type faultyWriter struct {
	store.Writer
	fault *commitFault
}

func (w *faultyWriter) Commit(ctx context.Context) error {
	err := w.fault.err
	if err == nil || w.fault.happens {
		if err := w.Writer.Commit(ctx); err != nil {
			return err
		}
	}
	w.fault.err = nil
	return err
}

func TestPublish_CommitThatFailed(t *testing.T) {
	c := newTestChain(t)
	c.snapshot(c.a)
	p := c.as(c.a)
	p.st = &commitFault{Store: c.st, err: io.ErrClosedPipe}
	if _, err := p.snapshot(t.Context(), testManifest(testID(5))); !errors.Is(err, io.ErrClosedPipe) || errors.Is(err, errUnsure) {
		t.Fatalf("got error %v, want the store's alone", err)
	}
	s, err := p.snapshot(t.Context(), testManifest(testID(5)))
	if err != nil || s.at.seq != 2 {
		t.Fatalf("the next attempt: got %+v, %v, want number 2", s, err)
	}
	c.expect([]string{testID(1), testID(5)}, nil)
}

func TestPublish_CommitThatFailedButHappened(t *testing.T) {
	for _, fault := range []error{io.ErrClosedPipe, store.ErrExist} {
		c := newTestChain(t)
		c.snapshot(c.a)
		p := c.as(c.a)
		p.st = &commitFault{Store: c.st, err: fault, happens: true}
		if _, err := p.snapshot(t.Context(), testManifest(testID(5))); !errors.Is(err, errUnsure) || !errors.Is(err, fault) {
			t.Fatalf("got error %v, want errUnsure and the store's", err)
		}
		before := c.read(place{c.a, 2}.name())
		if _, err := p.snapshot(t.Context(), testManifest(testID(5))); err == nil || !strings.Contains(err.Error(), "already") {
			t.Fatalf("the same snapshot again: got error %v, want that it is there", err)
		}
		s, err := p.snapshot(t.Context(), testManifest(testID(6)))
		if err != nil || s.at.seq != 3 {
			t.Fatalf("the next snapshot: got %+v, %v, want number 3", s, err)
		}
		if string(c.read(place{c.a, 2}.name())) != string(before) {
			t.Error("the file of the first attempt was changed")
		}
		c.expect([]string{testID(1), testID(5), testID(6)}, nil)
	}
}

func TestPublish_ReloadsWhenTheDirectoryCouldNotBeReadAfterAFailure(t *testing.T) {
	c := newTestChain(t)
	p := c.as(c.a)
	lists := &listFault{Store: c.st, err: io.ErrUnexpectedEOF}
	p.st = &commitFault{Store: lists, err: io.ErrClosedPipe, happens: true}
	if _, err := p.snapshot(t.Context(), testManifest(testID(1))); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("got error %v", err)
	}
	if _, err := p.snapshot(t.Context(), testManifest(testID(2))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("with an unreadable directory: got error %v", err)
	}
	lists.err = nil
	s, err := p.snapshot(t.Context(), testManifest(testID(2)))
	if err != nil || s.at.seq != 2 {
		t.Fatalf("got %+v, %v, want number 2", s, err)
	}
}

// publishUntilCrash runs a scripted life on a tree and calls check, for crash
// states of every moment, with what had been acknowledged by then.
func publishUntilCrash(t *testing.T, lies crashfs.Lies, check func(after *testChain, live, forgotten []string)) {
	c := newTestChain(t)
	tree := crashfs.New()
	dir := store.NewDir(tree)
	if err := dir.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	tree.Lie(lies)
	c.st = dir
	var live, forgotten []string
	tree.Before(func(crashfs.Op) {
		for seed := range uint64(10) {
			after := tree.Crash(rand.New(rand.NewPCG(seed, 7)), int(seed%5)*25)
			st := store.NewDir(after)
			check(&testChain{TB: t, st: st, keys: c.keys, a: c.a, b: c.b, ids: 10}, live, forgotten)
		}
	})
	first := c.snapshot(c.a)
	live = []string{first}
	second := c.snapshot(c.a)
	live = []string{second} // the first may be either from here on
	c.forget(c.b, first)
	forgotten = []string{first}
	third := c.snapshot(c.a)
	live = []string{second, third}
}

func TestPublishCrash_WhatWasAcknowledgedIsThere(t *testing.T) {
	states := 0
	publishUntilCrash(t, crashfs.Lies{}, func(after *testChain, live, forgotten []string) {
		states++
		got := after.load()
		if err := got.err(); err != nil {
			t.Fatalf("state %d: %v", states, err)
		}
		for _, id := range live {
			if s := got.find(id); s == nil || s.Forgotten {
				t.Fatalf("state %d: snapshot %s is lost", states, id)
			}
		}
		for _, id := range forgotten {
			if s := got.find(id); s == nil || !s.Forgotten {
				t.Fatalf("state %d: snapshot %s is not forgotten", states, id)
			}
		}
	})
	if states < 100 {
		t.Errorf("only %d states were looked at", states)
	}
}

// The negative control: a disk that breaks its word must be noticed.
func TestPublishCrash_NoticesADiskThatLies(t *testing.T) {
	for name, lies := range map[string]crashfs.Lies{"sync": {IgnoreSync: true}, "directory sync": {IgnoreSyncDir: true}} {
		lost := 0
		publishUntilCrash(t, lies, func(after *testChain, live, forgotten []string) {
			got := after.load()
			for _, id := range live {
				if got.find(id) == nil {
					lost++
				}
			}
		})
		if lost == 0 {
			t.Errorf("a disk that ignores %s lost nothing", name)
		}
	}
}
