package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/generalbots/backupd/internal/source"
)

// Node is something a source under test must hold. Directories above it are implied.
type Node struct {
	Path    string // components joined by slashes, relative
	Type    source.Type
	Content string // of a regular file
	Target  string // of a symbolic link
	Mode    uint32 // of regular files and directories
}

// Factory makes a source that holds the nodes, all below the path it returns, which has no slash at its ends. What else
// the source shows must not be below it.
type Factory func(t *testing.T, nodes []Node) (src source.Source, below string)

// Tree is what the suite works with: each kind of name and nesting that has ever gone wrong somewhere.
func Tree() []Node {
	nodes := []Node{
		{Path: "a-", Type: source.Regular, Content: "sorts before a/", Mode: 0o644},
		{Path: "a.b", Type: source.Regular, Content: "too", Mode: 0o600},
		{Path: "a", Type: source.Directory, Mode: 0o755},
		{Path: "a/b/c/d/e", Type: source.Regular, Content: "deep", Mode: 0o640},
		{Path: "a/b/link", Type: source.Symlink, Target: "../../b"},
		{Path: "a/b/nowhere", Type: source.Symlink, Target: "/does/not/exist/\xff"},
		{Path: "a/b/toDir", Type: source.Symlink, Target: "c"},
		{Path: "empty", Type: source.Directory, Mode: 0o700},
		{Path: "empty file", Type: source.Regular, Mode: 0o444},
		{Path: "new\nline", Type: source.Regular, Content: "x", Mode: 0o644},
		{Path: "\xff\xfe not UTF-8", Type: source.Regular, Content: "y", Mode: 0o644},
		{Path: "back\\slash", Type: source.Regular, Content: "z", Mode: 0o644},
		{Path: "…", Type: source.Directory, Mode: 0o755},
		{Path: "…/...", Type: source.Regular, Content: "dots", Mode: 0o644},
		{Path: "setuid", Type: source.Regular, Content: "s", Mode: 0o4755},
		{Path: "sticky", Type: source.Directory, Mode: 0o1777},
		{Path: strings.Repeat("n", 255), Type: source.Regular, Content: "longest name", Mode: 0o644},
		{Path: "large", Type: source.Regular, Content: strings.Repeat("0123456789abcdef", 20_000), Mode: 0o644},
	}
	// More names than are examined at a time, and directories among them.
	for i := range 1500 {
		n := Node{Path: fmt.Sprintf("many/%04d", i), Type: source.Regular, Content: fmt.Sprint(i), Mode: 0o644}
		if i%100 == 50 {
			n.Path += "/in"
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// Run runs the suite for files of a host.
func Run(t *testing.T, make Factory) { RunKind(t, Kind{}, make) }

// below keeps what is in a directory, by the path relative to it.
func below(seen map[string]Seen, dir string) map[string]Seen {
	kept := map[string]Seen{}
	for p, s := range seen {
		if p, ok := strings.CutPrefix(p, dir+"/"); ok {
			kept[p] = s
		}
	}
	return kept
}

func (s suite) holdsTree(t *testing.T) {
	nodes := s.tree()
	src, dir := s.make(t, nodes)
	got := below(Collect(t, src), dir)
	implied := map[string]bool{}
	for _, n := range nodes {
		for i, c := range n.Path {
			if c == '/' {
				implied[n.Path[:i]] = true
			}
		}
		g, ok := got[n.Path]
		size := int64(len(n.Content))
		if s.kind.Piped {
			size = source.StreamSize
		}
		switch {
		case !ok:
			t.Errorf("%q: missing", n.Path)
			continue
		case g.Err != nil:
			t.Errorf("%q: %v", n.Path, g.Err)
		case g.Entry.Type != n.Type:
			t.Errorf("%q: got type %v, want %v", n.Path, g.Entry.Type, n.Type)
		case g.Details.Target != n.Target:
			t.Errorf("%q: got target %q, want %q", n.Path, g.Details.Target, n.Target)
		case n.Type == source.Regular && !s.same(g.Content, n.Content):
			t.Errorf("%q: got %d bytes of content, want %d", n.Path, len(g.Content), len(n.Content))
		case n.Type == source.Regular && g.Entry.Size != size:
			t.Errorf("%q: got size %d, want %d", n.Path, g.Entry.Size, size)
		case n.Type != source.Symlink && g.Entry.Mode != n.Mode:
			t.Errorf("%q: got mode %o, want %o", n.Path, g.Entry.Mode, n.Mode)
		}
		delete(got, n.Path)
	}
	for _, p := range slices.Sorted(maps.Keys(got)) {
		if !implied[p] || got[p].Entry.Type != source.Directory {
			t.Errorf("%q: got it, want nothing there", p)
		}
	}
}

func (s suite) validUntilRelease(t *testing.T) {
	nodes := s.tree()
	src, dir := s.make(t, nodes)
	check := NoLeaks(t)
	var entries, leaves []source.Entry
	paths := map[int]string{}
	for p, e := range Checked(t, src, t.Context()) {
		if e.Event == source.Leave {
			leaves = append(leaves, e)
			continue
		}
		paths[len(entries)] = p
		entries = append(entries, e)
	}
	contents := map[string]string{}
	for _, n := range nodes {
		contents[dir+"/"+n.Path] = n.Content
	}
	// Long after the scan is over, and from several places at once.
	var group sync.WaitGroup
	for k := range 4 {
		group.Go(func() {
			for i := k; i < len(entries); i += 4 {
				seen := Look(src, &entries[i])
				if seen.Err != nil {
					t.Errorf("%q: %v", paths[i], seen.Err)
				} else if entries[i].Type == source.Regular && !s.same(seen.Content, contents[paths[i]]) {
					t.Errorf("%q: got other content", paths[i])
				}
			}
		})
	}
	group.Wait()
	// Parents first: what leads to a directory is held as long as the directory is.
	for i := range leaves {
		src.Release(&leaves[len(leaves)-1-i])
	}
	for i := range leaves {
		src.Release(&leaves[i])
	}
	check()
	for i := range entries {
		if _, err := src.Details(&entries[i]); !errors.Is(err, source.ErrReleased) {
			t.Fatalf("%q: got error %v after its release, want ErrReleased", paths[i], err)
		}
	}
}

func (s suite) filesOutlive(t *testing.T) {
	nodes := s.fit([]Node{{Path: "d/f", Type: source.Regular, Content: "content", Mode: 0o644}})
	src, dir := s.make(t, nodes)
	check := NoLeaks(t)
	var f source.File
	for p, e := range Checked(t, src, t.Context()) {
		if p == dir+"/d/f" {
			var err error
			if f, err = src.Open(&e); err != nil {
				t.Fatal(err)
			}
		}
		if e.Event == source.Leave {
			src.Release(&e)
		}
	}
	if f == nil {
		t.Fatal("the file was not yielded")
	}
	b, err := io.ReadAll(f)
	if err != nil || !s.same(b, nodes[0].Content) {
		t.Errorf("got %.100q and error %v", b, err)
	}
	if _, err := f.Stat(); err != nil {
		t.Error(err)
	}
	if _, err := f.Details(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	check()
}

func (s suite) independent(t *testing.T) {
	nodes := s.tree()
	src, _ := s.make(t, nodes)
	check := NoLeaks(t)
	want := Collect(t, src)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			got := Collect(t, src)
			if len(got) != len(want) {
				t.Errorf("got %d entries, want %d", len(got), len(want))
			}
			for p, w := range want {
				g := got[p]
				if g.Entry.Ino != w.Entry.Ino && !s.kind.Piped || w.Entry.Type == source.Regular && !s.same(g.Content, string(w.Content)) {
					t.Errorf("%q: got something else in the second scan", p)
				}
			}
		})
	}
	group.Wait()
	check()
}

// events counts the events of a scan.
func events(t *testing.T, src source.Source) int {
	t.Helper()
	n := 0
	for _, e := range Checked(t, src, t.Context()) {
		n++
		if e.Event == source.Leave {
			src.Release(&e)
		}
	}
	return n
}

// places are the events at which a scan of n is disturbed: the first, the last, some between.
func places(n int) []int {
	at := []int{1, 2, 3, 4, 5, n / 3, n / 2, n - 2, n - 1, n}
	for i := 7; i < n; i += n/15 + 1 {
		at = append(at, i)
	}
	slices.Sort(at)
	return slices.Compact(slices.DeleteFunc(at, func(i int) bool { return i < 1 || i > n }))
}

func (s suite) leaving(t *testing.T) {
	src, _ := s.make(t, s.tree())
	n := events(t, src)
	check := NoLeaks(t)
	for _, stop := range places(n) {
		var last source.Entry
		at := 0
		for e, err := range src.Scan(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			last = e
			if at++; at == stop {
				break
			}
		}
		check()
		if _, err := src.Details(&last); !errors.Is(err, source.ErrReleased) {
			t.Errorf("left after %d of %d: got error %v from Details, want ErrReleased", stop, n, err)
		}
	}
}

func (s suite) panicking(t *testing.T) {
	src, _ := s.make(t, s.tree())
	check := NoLeaks(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic did not arrive")
			}
		}()
		n := 0
		for range src.Scan(t.Context()) {
			if n++; n == 20 {
				panic("in the body of the loop")
			}
		}
	}()
	check()
}

func (s suite) cancelling(t *testing.T) {
	src, _ := s.make(t, s.tree())
	n := events(t, src)
	check := NoLeaks(t)
	cause := errors.New("enough")
	for _, stop := range places(n) {
		ctx, cancel := context.WithCancelCause(t.Context())
		at := 0
		var ended error
		for _, err := range src.Scan(ctx) {
			if ended != nil {
				t.Fatal("an event after the error")
			}
			if ended = err; err != nil {
				continue
			}
			if at++; at == stop {
				cancel(cause)
			}
		}
		cancel(nil)
		check()
		// A scan that is nearly over may reach its end.
		if !errors.Is(ended, cause) && (ended != nil || at < n) {
			t.Errorf("cancelled after %d of %d: got %d events and error %v, want %v", stop, n, at, ended, cause)
		}
	}
}

func (s suite) cancellingLate(t *testing.T) {
	src, _ := s.make(t, s.tree())
	check := NoLeaks(t)
	ctx, cancel := context.WithCancel(t.Context())
	var last source.Entry
	for _, e := range Checked(t, src, ctx) {
		last = e // nothing is released
	}
	cancel()
	check()
	if _, err := src.Details(&last); !errors.Is(err, source.ErrReleased) {
		t.Errorf("got error %v, want ErrReleased", err)
	}
}

func (s suite) cancelledBefore(t *testing.T) {
	src, _ := s.make(t, s.fit([]Node{{Path: "f", Type: source.Regular, Mode: 0o644}}))
	check := NoLeaks(t)
	cause := errors.New("never mind")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	for e, err := range src.Scan(ctx) {
		if !errors.Is(err, cause) {
			t.Errorf("got entry %+v and error %v, want %v", e, err, cause)
		}
	}
	check()
}

func (s suite) opened(t *testing.T) {
	nodes := s.fit([]Node{{Path: "d/x", Type: source.Regular, Mode: 0o644}, {Path: "f", Type: source.Regular, Content: "0123456789", Mode: 0o640}})
	content := nodes[1].Content
	src, dir := s.make(t, nodes)
	check := NoLeaks(t)
	met := false
	for p, e := range Checked(t, src, t.Context()) {
		switch {
		case e.Event == source.Leave:
			src.Release(&e)
		case e.Event == source.Enter:
			if _, err := src.Open(&e); err == nil {
				t.Errorf("%q: a directory was opened as a file", p)
			}
		case p == dir+"/f":
			met = true
			f, err := src.Open(&e)
			if err != nil {
				t.Fatal(err)
			}
			o, now := f.Opened(), source.Entry{}
			if now, err = f.Stat(); err != nil {
				t.Fatal(err)
			}
			for _, got := range []source.Entry{o, now} {
				if got.Name != e.Name || got.Size != e.Size || got.Mtime != e.Mtime || got.Ino != e.Ino || got.Type != e.Type || got.Mode != e.Mode {
					t.Errorf("got %+v, want %+v", got, e)
				}
			}
			s.readAt(t, f, content)
			if _, sparse, err := f.Extents(); sparse || err != nil {
				t.Errorf("got sparse %v, error %v of a file without holes", sparse, err)
			}
			if b, err := io.ReadAll(f); err != nil || !s.same(b, content) {
				t.Errorf("got %.100q, %v; want all of it after ReadAt", b, err)
			}
			if o := f.Opened(); s.kind.Piped && o.Size != int64(len(content)) {
				t.Errorf("got size %d at its end, want %d", o.Size, len(content))
			}
			if err := f.Close(); err != nil {
				t.Errorf("got error %v from Close", err)
			}
			if err := f.Close(); err != nil {
				t.Errorf("got error %v from the second Close", err)
			}
			var part [4]byte
			if _, err := f.Read(part[:]); err == nil || err == io.EOF {
				t.Errorf("got error %v from Read after Close", err)
			}
		}
	}
	if !met {
		t.Error("the file was not yielded")
	}
	check()
}

// readAt wants any part of a file, or of one that is piped an error.
func (s suite) readAt(t *testing.T, f source.File, content string) {
	t.Helper()
	var part [4]byte
	if s.kind.Piped {
		if n, err := f.ReadAt(part[:], 3); n != 0 || err == nil || err == io.EOF {
			t.Errorf("got %d, %v from ReadAt of a pipe", n, err)
		}
		return
	}
	if n, err := f.ReadAt(part[:], 3); n != 4 || err != nil || string(part[:]) != content[3:7] {
		t.Errorf("got %q, %v from ReadAt", part[:n], err)
	}
	if n, err := f.ReadAt(part[:], int64(len(content)-2)); n != 2 || err != io.EOF {
		t.Errorf("got %d, %v from ReadAt over the end, want 2 and io.EOF", n, err)
	}
}
