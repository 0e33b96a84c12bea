package source_test

import (
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/source"
	"golang.org/x/sys/unix"
)

// record is one entry as getdents64 writes it.
func record(name string) []byte {
	n := (19 + len(name) + 1 + 7) &^ 7
	b := make([]byte, n)
	binary.NativeEndian.PutUint64(b, 42)
	binary.NativeEndian.PutUint16(b[16:], uint16(n))
	b[18] = unix.DT_REG
	copy(b[19:], name)
	return b
}

func TestNames_AreSortedByBytesAndComeOnce(t *testing.T) {
	long := strings.Repeat("n", 255)
	names := []string{"b", ".", "a-", "..", "a", "a.b", "a", "...", "12345678", "123456789", "1234567", "\xff", long, "\x01", "12345678a", "b"}
	var buf []byte
	for _, n := range names {
		buf = append(buf, record(n)...)
	}
	got, err := source.Names(buf)
	must(t, err)
	want := []string{"\x01", "...", "1234567", "12345678", "123456789", "12345678a", "a", "a-", "a.b", "b", long, "\xff"}
	wantLines(t, got, want...)
}

func TestNames_RefuseMalformedRecords(t *testing.T) {
	good := record("name")
	set := func(length int) []byte {
		b := slices.Clone(good)
		binary.NativeEndian.PutUint16(b[16:], uint16(length))
		return b
	}
	unended := slices.Clone(good)
	for i := 19; i < len(unended); i++ {
		unended[i] = 'x'
	}
	for what, buf := range map[string][]byte{
		"short":                    good[:10],
		"no length":                set(0),
		"length below the header":  set(19),
		"length beyond the buffer": set(len(good) + 1),
		"no end of the name":       unended,
		"no name":                  record(""),
		"slash":                    record("a/b"),
		"too long":                 record(strings.Repeat("x", 256)),
		"rubbish behind":           append(slices.Clone(good), 1, 2, 3),
	} {
		if got, err := source.Names(buf); err == nil {
			t.Errorf("%s: got %q and no error", what, got)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add(append(record("a"), record("..")...))
	f.Add(record(strings.Repeat("x", 255)))
	f.Add([]byte{})
	if dir, err := os.Open("/"); err == nil {
		buf := make([]byte, 4096)
		if n, err := unix.Getdents(int(dir.Fd()), buf); err == nil {
			f.Add(buf[:n])
		}
		dir.Close()
	}
	f.Fuzz(func(t *testing.T, buf []byte) {
		names, err := source.Names(buf)
		if err != nil {
			return
		}
		if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
			t.Errorf("got %q, not sorted or not distinct", names)
		}
		for _, n := range names {
			if n == "" || n == "." || n == ".." || len(n) > 255 || strings.ContainsAny(n, "/\x00") {
				t.Errorf("got the name %q", n)
			}
		}
	})
}
