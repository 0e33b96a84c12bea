package source_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/generalbots/backupd/internal/source"
)

func TestStream_YieldsOneFileAtItsPlace(t *testing.T) {
	s, err := source.NewStream("/dumps/db/app.sql", strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for e, err := range s.Scan(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Event.String()+" "+e.Name)
	}
	want := []string{"enter ", "enter dumps", "enter db", "item app.sql", "leave db", "leave dumps", "leave "}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := s.Path(); got != "/dumps/db/app.sql" {
		t.Errorf("got path %q", got)
	}
}

// open scans a stream and opens its file.
func open(t *testing.T, ctx context.Context, in io.Reader) source.File {
	t.Helper()
	s, err := source.NewStream("name", in)
	if err != nil {
		t.Fatal(err)
	}
	for e := range s.Scan(ctx) {
		if e.Type != source.Regular {
			continue
		}
		f, err := s.Open(&e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(&e); err == nil {
			t.Error("it was opened a second time")
		}
		return f
	}
	t.Fatal("no file")
	return nil
}

func TestStream_GivesWhatThePipeGivesAndThenItsSize(t *testing.T) {
	for _, size := range []int{0, 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5 << 20} {
		want := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		f := open(t, t.Context(), iotest.HalfReader(bytes.NewReader(want)))
		if f.Opened().Size != source.StreamSize {
			t.Errorf("size before the end: got %d", f.Opened().Size)
		}
		got, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d and %v", size, len(got), err)
		}
		now, err := f.Stat()
		if err != nil || f.Opened().Size != int64(size) || now.Size != int64(size) {
			t.Errorf("size at the end: got %d, %d, want %d", f.Opened().Size, now.Size, size)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestStream_PassesTheErrorOn(t *testing.T) {
	broken := errors.New("broken")
	f := open(t, t.Context(), io.MultiReader(strings.NewReader("begin"), iotest.ErrReader(broken)))
	defer f.Close()
	if got, err := io.ReadAll(f); string(got) != "begin" || !errors.Is(err, broken) {
		t.Errorf("got %q and %v", got, err)
	}
}

// Whoever writes the pipe may be silent for ever.
func TestStream_EndsWithItsContext(t *testing.T) {
	in, out := io.Pipe()
	defer out.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	f := open(t, ctx, in)
	defer f.Close()
	enough := errors.New("enough")
	cancel(enough)
	if _, err := f.Read(make([]byte, 10)); !errors.Is(err, enough) {
		t.Errorf("got %v, want %v", err, enough)
	}
}

func TestStream_RefusesNamesThatLeadElsewhere(t *testing.T) {
	for _, name := range []string{"", "/", ".", "..", "a/../b", "a//b", "a/.", "nul\x00", strings.Repeat("n", 256)} {
		if _, err := source.NewStream(name, strings.NewReader("")); err == nil {
			t.Errorf("%q: no error", name)
		}
	}
}

func TestCompilePatterns_MatchesAsExcludesDo(t *testing.T) {
	match, err := source.CompilePatterns([]string{"*.tmp", "/a/b"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dirs []string
		name string
		want bool
	}{{[]string{"x", "y"}, "z.tmp", true}, {[]string{"a"}, "b", true}, {[]string{"x", "a"}, "b", false}} {
		if got := match(c.dirs, c.name, false); got != c.want {
			t.Errorf("%q %q: got %v", c.dirs, c.name, got)
		}
	}
	if _, err := source.CompilePatterns([]string{"["}); err == nil {
		t.Error("a pattern without an end is no error")
	}
}
