// Package sourcetest is what every kind of source must pass: a suite to run against a source that holds a given tree,
// and a checker of the grammar of scans that other tests use too.
package sourcetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/source"
)

// Seen is what one complete scan showed under a path.
type Seen struct {
	Entry   source.Entry // of a directory: its Enter
	Details source.Details
	Content []byte // of regular files
	Err     error  // of the entry, its details or its content, in this order
}

// Collect scans src to the end, reads everything, checks the grammar as [Check] does, and returns what there is by
// path. Paths are the names below the root joined by slashes; the root is "".
func Collect(t testing.TB, src source.Source) map[string]Seen {
	t.Helper()
	seen := make(map[string]Seen)
	for p, e := range Checked(t, src, t.Context()) {
		if e.Event == source.Leave {
			src.Release(&e)
			continue
		}
		seen[p] = Look(src, &e)
	}
	return seen
}

// Check scans src to the end and fails the test for whatever a scan must not do.
func Check(t testing.TB, src source.Source) {
	t.Helper()
	for _, e := range Checked(t, src, t.Context()) {
		if e.Event == source.Leave {
			src.Release(&e)
		}
	}
}

// Look reads what there is to read of an entry.
func Look(src source.Source, e *source.Entry) Seen {
	s := Seen{Entry: *e, Err: e.Err}
	if s.Err != nil {
		return s
	}
	if s.Details, s.Err = src.Details(e); s.Err != nil || e.Type != source.Regular {
		return s
	}
	s.Content, s.Err = read(src, e)
	return s
}

func read(src source.Source, e *source.Entry) ([]byte, error) {
	f, err := src.Open(e)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// Checked is Scan with the grammar checked on the way: it yields each entry with its path. The error of the scan, if
// there is one, fails the test.
func Checked(t testing.TB, src source.Source, ctx context.Context) iter.Seq2[string, source.Entry] {
	return func(yield func(string, source.Entry) bool) {
		t.Helper()
		var g grammar
		for e, err := range src.Scan(ctx) {
			if err != nil {
				t.Errorf("the scan ended with: %v", err)
				return
			}
			p, problem := g.next(&e)
			if problem != "" {
				t.Errorf("%v %q: %s", e.Event, p, problem)
			}
			if !yield(p, e) {
				return
			}
		}
		if problem := g.end(); problem != "" {
			t.Error(problem)
		}
	}
}

// grammar follows one scan.
type grammar struct {
	open []level
	done bool
}

type level struct {
	entry  source.Entry
	path   string
	last   string // the name of the previous child
	filled bool
}

func (g *grammar) next(e *source.Entry) (path, problem string) {
	if g.done {
		return e.Name, "an event after the root was left"
	}
	if len(g.open) == 0 {
		if e.Event != source.Enter || e.Name != "" {
			problem = "the first event must enter the root"
		}
		g.open = append(g.open, level{entry: *e})
		return "", problem
	}
	in := &g.open[len(g.open)-1]
	if e.Event == source.Leave {
		want := in.entry
		if e.Name != want.Name || e.Ino != want.Ino || e.Mode != want.Mode || e.Mtime != want.Mtime || e.Type != want.Type {
			problem = "leaves another directory than the one entered last"
		}
		path = in.path
		g.open = g.open[:len(g.open)-1]
		g.done = len(g.open) == 0
		return path, problem
	}
	path = e.Name
	if len(g.open) > 1 {
		path = in.path + "/" + e.Name
	}
	switch {
	case e.Name == "" || e.Name == "." || e.Name == ".." || len(e.Name) > 255 || strings.ContainsAny(e.Name, "/\x00"):
		problem = "is not one component"
	case in.filled && e.Name <= in.last:
		problem = fmt.Sprintf("comes after %q", in.last)
	case in.entry.Err != nil:
		problem = "is in a directory that could not be read"
	case e.Mode&^0o7777 != 0:
		problem = "has more than permission bits in its mode"
	case e.Event == source.Enter && e.Type != source.Directory, e.Event == source.Item && e.Type == source.Directory:
		problem = "event and type do not go together"
	case e.Event != source.Enter && e.Event != source.Item:
		problem = "is no event"
	}
	in.last, in.filled = e.Name, true
	if e.Event == source.Enter {
		g.open = append(g.open, level{entry: *e, path: path})
	}
	return path, problem
}

func (g *grammar) end() string {
	if !g.done {
		return fmt.Sprintf("the scan ended with %d directories not left", len(g.open))
	}
	return ""
}

// NoLeaks remembers the goroutines and descriptors of the process; the function it returns fails the test when there
// are more. Tests that use it must not run beside others.
func NoLeaks(t testing.TB) (check func()) {
	t.Helper()
	runtime.GC() // descriptors of forgotten os.Files
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors(t)
	return func() {
		t.Helper()
		// A goroutine that has said it is done may still be on its way out.
		for wait := time.Millisecond; ; wait *= 2 {
			g, d := runtime.NumGoroutine(), openDescriptors(t)
			if g <= goroutines && d <= descriptors {
				return
			}
			if wait > time.Second {
				stacks := make([]byte, 1<<16)
				t.Errorf("got %d goroutines and %d descriptors, want %d and %d\n%s", g, d, goroutines, descriptors,
					bytes.TrimRight(stacks[:runtime.Stack(stacks, true)], "\x00"))
				return
			}
			time.Sleep(wait)
		}
	}
}

func openDescriptors(t testing.TB) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
