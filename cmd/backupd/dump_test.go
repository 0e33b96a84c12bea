package main

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Attributes that no PAX header holds cost the file its attributes, with a word, and nobody else anything.
func TestDump_GoesOnAfterAttributesTooLongForTar(t *testing.T) {
	src := fastDir(t) // ext4 gives a file no more than a few thousand bytes of attributes
	b := newBench(t)
	for _, name := range []string{"a", "f", "z"} {
		ok(t, os.WriteFile(src+"/"+name, []byte("content of "+name), 0o600))
	}
	for i := range 16 {
		ok(t, unix.Setxattr(src+"/f", "user.long"+string(rune('a'+i)), bytes.Repeat([]byte{byte(i)}, 65_520), 0))
	}
	b.must("repo", "backup", src)
	out, talk, code := b.run("repo", "dump", "latest")
	if code != exitProblems || !strings.Contains(talk, src+"/f: its extended attributes are too long for tar") {
		t.Errorf("got exit code %d, want %d:\n%s", code, exitProblems, talk)
	}
	got := map[string]string{}
	for r := tar.NewReader(strings.NewReader(out)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		ok(t, err)
		content, err := io.ReadAll(r)
		ok(t, err)
		got[h.Name] = string(content)
	}
	for _, name := range []string{"a", "f", "z"} {
		if got[src[1:]+"/"+name] != "content of "+name {
			t.Errorf("%s: got %q", name, got[src[1:]+"/"+name])
		}
	}
}
