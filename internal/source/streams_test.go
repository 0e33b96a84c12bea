package source_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/source/sourcetest"
)

// piped lists files whose content is their path.
func piped(paths ...string) func(context.Context) iter.Seq2[source.StreamFile, error] {
	return func(context.Context) iter.Seq2[source.StreamFile, error] {
		return func(yield func(source.StreamFile, error) bool) {
			for _, p := range paths {
				if !yield(source.StreamFile{Path: p, Mtime: time.Unix(7, 8), Open: func(context.Context) (io.ReadCloser, error) {
					return io.NopCloser(strings.NewReader(p)), nil
				}}, nil) {
					return
				}
			}
		}
	}
}

func TestStreams_YieldsATree(t *testing.T) {
	paths := []string{"a/b/c", "a/b.x", "b", "db/one.sql", "db/two.sql", "z/y/x/w"}
	seen := sourcetest.Collect(t, source.NewStreams(piped(paths...)))
	for _, p := range paths {
		s := seen[p]
		if string(s.Content) != p || s.Err != nil || s.Entry.Size != source.StreamSize || s.Entry.Mtime != (source.Time{Sec: 7, Nsec: 8}) || s.Entry.Mode != 0o600 {
			t.Errorf("%s: got %q, error %v, entry %+v", p, s.Content, s.Err, s.Entry)
		}
	}
	if got, want := len(seen), len(paths)+1+6; got != want {
		t.Errorf("got %d entries, want %d", got, want)
	}
	if got := len(sourcetest.Collect(t, source.NewStreams(piped()))); got != 1 {
		t.Errorf("got %d entries of nothing, want the root", got)
	}
}

// Any set of paths in the order ComparePaths says makes a scan by the rules.
func TestStreams_OrderIsThatOfScans(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		set := make(map[string]bool)
		for range rng.IntN(30) {
			var parts []string
			for range 1 + rng.IntN(3) {
				parts = append(parts, []string{"d", "d-", "d.x", "dd", "e", "\x01"}[rng.IntN(6)])
			}
			set[strings.Join(append(parts, fmt.Sprint("f", rng.IntN(3))), "/")] = true
		}
		var paths []string
		for p := range set {
			paths = append(paths, p)
		}
		slices.SortFunc(paths, source.ComparePaths)
		sourcetest.Check(t, source.NewStreams(piped(paths...)))
		if t.Failed() {
			t.Fatalf("seed %d: %q", seed, paths)
		}
	}
}

func TestStreams_RefusesWhatIsNoTree(t *testing.T) {
	for _, paths := range [][]string{{""}, {"/a"}, {"a/"}, {"a//b"}, {"."}, {"a/.."}, {"a\x00"}, {strings.Repeat("n", 256)}, {"b", "a"}, {"a", "a"}, {"a", "a/b"}, {"a-", "a/b"}} {
		var last error
		for e, err := range source.NewStreams(piped(paths...)).Scan(t.Context()) {
			if last = err; err != nil && e != (source.Entry{}) {
				t.Errorf("%q: an error with entry %+v", paths, e)
			}
		}
		if last == nil {
			t.Errorf("%q was taken", paths)
		}
	}
}

func TestStreams_ErrorsOfTheList(t *testing.T) {
	broken := errors.New("the connection was lost")
	src := source.NewStreams(func(ctx context.Context) iter.Seq2[source.StreamFile, error] {
		return func(yield func(source.StreamFile, error) bool) {
			for f := range piped("a")(ctx) {
				yield(f, nil)
			}
			yield(source.StreamFile{}, broken)
		}
	})
	var last error
	for _, err := range src.Scan(t.Context()) {
		last = err
	}
	if !errors.Is(last, broken) {
		t.Errorf("got error %v", last)
	}
}

func TestStreams_EntriesEndWithTheirScan(t *testing.T) {
	src := source.NewStreams(piped("d/a", "d/b", "e"))
	var kept []source.Entry
	for e, err := range src.Scan(t.Context()) {
		must(t, err)
		if e.Event == source.Item {
			kept = append(kept, e)
		}
		if e.Event == source.Leave && e.Name == "d" {
			f, err := src.Open(&kept[0])
			must(t, err)
			if _, err := src.Open(&kept[0]); err == nil {
				t.Error("a stream was opened twice")
			}
			src.Release(&e)
			if _, err := src.Open(&kept[1]); !errors.Is(err, source.ErrReleased) {
				t.Errorf("got error %v, want ErrReleased", err)
			}
			got, err := io.ReadAll(f) // outlives its directory
			must(t, err)
			if string(got) != "d/a" {
				t.Errorf("got %q", got)
			}
			must(t, f.Close())
			if o := f.Opened(); o.Size != 3 {
				t.Errorf("got size %d, want 3", o.Size)
			}
		}
		if e.Name == "e" {
			break
		}
	}
	if _, err := src.Open(&kept[2]); !errors.Is(err, source.ErrReleased) {
		t.Errorf("after the loop was left: got error %v, want ErrReleased", err)
	}
}

// endless is a pipe that nobody feeds, until it is closed.
type endless struct{ closed chan struct{} }

func (e *endless) Read([]byte) (int, error) { <-e.closed; return 0, io.ErrClosedPipe }
func (e *endless) Close() error             { close(e.closed); return nil }

func TestStreams_CancelEndsAReadThatNobodyFeeds(t *testing.T) {
	pipe := &endless{make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	src := source.NewStreams(func(context.Context) iter.Seq2[source.StreamFile, error] {
		return func(yield func(source.StreamFile, error) bool) {
			yield(source.StreamFile{Path: "x", Open: func(context.Context) (io.ReadCloser, error) { return pipe, nil }}, nil)
		}
	})
	for e, err := range src.Scan(ctx) {
		if err != nil || e.Event != source.Item {
			continue
		}
		f, err := src.Open(&e)
		must(t, err)
		time.AfterFunc(20*time.Millisecond, cancel)
		if _, err := f.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want that of the context", err)
		}
		must(t, f.Close()) // waits for the reader ahead, which the pipe's end ends
	}
}
