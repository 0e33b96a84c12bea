package targettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/generalbots/backupd/internal/target"
)

// SinkPlace is an empty place that a sink writes to, and a look at what is there.
type SinkPlace struct {
	Open func(t *testing.T) target.Sink       // one more sink of the same place
	Read func(t *testing.T) map[string][]byte // all files by path, only what counts
}

// Sinks is what every target.Sink has to pass. place makes a new empty place.
func Sinks(t *testing.T, place func(t *testing.T) SinkPlace) {
	for name, run := range map[string]func(*testing.T, SinkPlace){
		"what is put comes back": sinkRoundTrip, "no part of a file is ever there": sinkPartial,
		"what is there stays": sinkKeeps, "names that are none": sinkNames,
		"cancelling ends a put": sinkCancelled, "abort leaves whole files or none": sinkAborted,
	} {
		t.Run(name, func(t *testing.T) { run(t, place(t)) })
	}
}

func sinkFile(path string, size int) target.SinkFile {
	return target.SinkFile{Path: path, Size: int64(size), Meta: target.Meta{Type: target.TypeRegular, Mode: 0o600, Mtime: target.Time{Sec: 1}}}
}

// sinkContents are files in the order of a scan, sizes around those of buffers.
func sinkContents() (paths []string, data map[string][]byte) {
	data = make(map[string][]byte)
	for i, size := range []int{0, 1, 4095, 4096, 262143, 262144, 262145, 1 << 20} {
		for _, path := range []string{fmt.Sprintf("a/b%d/file", i)} {
			data[path] = bytes.Repeat([]byte(path), size/len(path)+1)[:size]
			paths = append(paths, path)
		}
	}
	for _, path := range []string{"a/z", "b", "c/d/e/f", "c/d/g"} {
		data[path] = []byte(path)
		paths = append(paths, path)
	}
	return paths, data
}

func wantFiles(t *testing.T, p SinkPlace, want map[string][]byte) {
	t.Helper()
	if got := p.Read(t); !maps.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("got %d files, want %d, or other bytes", len(got), len(want))
	}
}

func sinkRoundTrip(t *testing.T, p SinkPlace) {
	paths, data := sinkContents()
	for i, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.DataErrReader, iotest.HalfReader} {
		s := p.Open(t)
		want := make(map[string][]byte)
		for _, path := range paths {
			at := fmt.Sprintf("%d/%s", i, path)
			if err := s.Put(t.Context(), sinkFile(at, len(data[path])), wrap(bytes.NewReader(data[path]))); err != nil {
				t.Fatal(err)
			}
			want[at] = data[path]
		}
		if err := s.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Abort(); err != nil {
			t.Errorf("abort after commit: %v", err)
		}
		got := p.Read(t)
		for at := range want {
			if !bytes.Equal(got[at], want[at]) {
				t.Errorf("%s: got %d bytes, want %d", at, len(got[at]), len(want[at]))
			}
		}
		if err := s.Put(t.Context(), sinkFile("late", 0), strings.NewReader("")); err == nil {
			t.Error("a put after the end was taken")
		}
	}
}

func sinkPartial(t *testing.T, p SinkPlace) {
	s := p.Open(t)
	broken := errors.New("the other end hung up")
	for name, r := range map[string]io.Reader{
		"x/broken": io.MultiReader(strings.NewReader("12345"), iotest.ErrReader(broken)),
		"x/short":  strings.NewReader("123456789"), "x/long": strings.NewReader("12345678901"),
	} {
		err := s.Put(t.Context(), sinkFile(name, 10), r)
		if err == nil || name == "x/broken" && !errors.Is(err, broken) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	if err := s.Put(t.Context(), sinkFile("x/whole", 10), strings.NewReader("1234567890")); err != nil {
		t.Error(err)
	}
	if err := s.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	wantFiles(t, p, map[string][]byte{"x/whole": []byte("1234567890")})
}

func sinkKeeps(t *testing.T, p SinkPlace) {
	first := p.Open(t)
	if err := first.Put(t.Context(), sinkFile("x", 3), strings.NewReader("old")); err != nil {
		t.Fatal(err)
	}
	if err := first.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := p.Open(t)
	f := sinkFile("x", 4)
	f.Meta.Mtime.Sec = 2
	if err := second.Put(t.Context(), f, strings.NewReader("new!")); !errors.Is(err, target.ErrExists) {
		t.Errorf("got error %v, want ErrExists", err)
	}
	if err := second.Put(t.Context(), sinkFile("y", 1), strings.NewReader("y")); err != nil {
		t.Error(err)
	}
	if err := second.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	wantFiles(t, p, map[string][]byte{"x": []byte("old"), "y": []byte("y")})
}

func sinkNames(t *testing.T, p SinkPlace) {
	s := p.Open(t)
	for _, path := range []string{"", "/", "/a", "a/", "a//b", ".", "a/..", "../a", "a/./b", "a\x00b", strings.Repeat("n", 1<<16)} {
		if err := s.Put(t.Context(), sinkFile(path, 0), strings.NewReader("")); !errors.Is(err, target.ErrName) {
			t.Errorf("%.20q: got error %v, want ErrName", path, err)
		}
	}
	if err := s.Abort(); err != nil {
		t.Error(err)
	}
	wantFiles(t, p, nil)
}

func sinkCancelled(t *testing.T, p SinkPlace) {
	s := p.Open(t)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	n := 0
	err := s.Put(ctx, sinkFile("endless", 1<<40), readerFunc(func(b []byte) (int, error) {
		if n++; n == 10 {
			cancel(why)
		}
		return len(b[:min(len(b), 100)]), nil
	}))
	if !errors.Is(err, why) {
		t.Errorf("got error %v, want the cause", err)
	}
	if err := s.Abort(); err != nil {
		t.Error(err)
	}
	wantFiles(t, p, nil)
}

func sinkAborted(t *testing.T, p SinkPlace) {
	s := p.Open(t)
	if err := s.Put(t.Context(), sinkFile("d/x", 3), strings.NewReader("abc")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Abort(); err != nil {
			t.Error(err)
		}
	}
	for path, got := range p.Read(t) {
		if path != "d/x" || string(got) != "abc" {
			t.Errorf("%s holds %q", path, got)
		}
	}
	if err := s.Commit(t.Context()); err == nil {
		t.Error("a commit after the end was taken")
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
