package errfs_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/durable/crashfs"
	"github.com/generalbots/backupd/internal/durable/errfs"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, f durable.FS, name string) string {
	t.Helper()
	data, err := durable.ReadFile(f, name, 100)
	if errors.Is(err, fs.ErrNotExist) {
		return "absent"
	}
	ok(t, err)
	return string(data)
}

func TestFault_MeetsTheNthOfItsKind(t *testing.T) {
	for _, c := range []struct {
		fault errfs.Fault
		want  string // of mkdir a, b, unlink x, mkdir c, d: which fail
	}{
		{errfs.Fault{Ops: errfs.Mkdir, N: 2}, "b"},
		{errfs.Fault{Ops: errfs.Mkdir, N: 2, Sticky: true}, "bcd"},
		{errfs.Fault{Ops: errfs.Mkdir, N: 1, Sticky: true}, "abcd"},
		{errfs.Fault{Ops: errfs.Mkdir | errfs.Unlink, N: 4}, "c"},
		{errfs.Fault{Ops: errfs.Any, N: 3}, "x"},
		{errfs.Fault{Ops: errfs.Mkdir, Name: "c", N: 1}, "c"},
		{errfs.Fault{Ops: errfs.Mkdir, Name: "tmp/", N: 1}, ""},
		{errfs.Fault{Ops: errfs.Mkdir, N: 9}, ""},
		{errfs.Fault{Ops: errfs.Sync, N: 1, Sticky: true}, ""},
	} {
		disk := crashfs.New()
		ok(t, durable.WriteFile(disk, "x", nil))
		f := errfs.New(disk)
		c.fault.Err = syscall.EIO
		f.Fail(c.fault)
		got := ""
		for _, name := range []string{"a", "b", "x", "c", "d"} {
			do := f.Mkdir
			if name == "x" {
				do = f.Unlink
			}
			err := do(name)
			_, stat := disk.Stat(name)
			there := stat == nil
			if err == nil {
				if there == (name == "x") {
					t.Fatalf("%+v: %s succeeded and did not happen", c.fault, name)
				}
				continue
			}
			got += name
			if !errors.Is(err, syscall.EIO) || there != (name == "x") {
				t.Fatalf("%+v: %s: %v, there: %v", c.fault, name, err, there)
			}
		}
		if got != c.want || f.Hits() != len(c.want) {
			t.Errorf("%+v: got %q and %d hits, want %q", c.fault, got, f.Hits(), c.want)
		}
	}
}

func TestFault_HappensInSpiteOfTheError(t *testing.T) {
	disk := crashfs.New()
	f := errfs.New(disk)
	f.Fail(errfs.Fault{Ops: errfs.Change, N: 1, Sticky: true, Form: errfs.Happened, Err: syscall.EIO})
	if h, err := f.Create("a"); h != nil || !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v, %v", h, err)
	}
	if got := read(t, disk, "a"); got != "" {
		t.Fatalf("got %q, want an empty file", got)
	}
	if err := f.RenameNoReplace("a", "b"); !errors.Is(err, syscall.EIO) || read(t, disk, "b") != "" {
		t.Fatalf("rename: %v", err)
	}
	if err := f.SyncDir(""); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if got := read(t, disk.Crash(rand.New(rand.NewPCG(1, 1)), 0), "b"); got != "" {
		t.Fatalf("synced in spite of the error: got %q", got)
	}
	// What could not have happened fails for its own reason.
	if err := f.Unlink("nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestFault_WritesAllHalfOrNothing(t *testing.T) {
	for form, want := range map[errfs.Form]string{errfs.Failed: "", errfs.Half: "ab", errfs.Happened: "abcd"} {
		disk := crashfs.New()
		f := errfs.New(disk)
		h, err := f.Create("a")
		ok(t, err)
		f.Fail(errfs.Fault{Ops: errfs.WriteAt, N: 1, Form: form, Err: syscall.ENOSPC})
		n, err := h.WriteAt([]byte("abcd"), 0)
		if !errors.Is(err, syscall.ENOSPC) || form == errfs.Half && n != 2 || form != errfs.Half && n != 0 {
			t.Fatalf("form %d: got %d, %v", form, n, err)
		}
		if got := read(t, disk, "a"); got != want {
			t.Fatalf("form %d: got %q, want %q", form, got, want)
		}
		if n, err := h.WriteAt([]byte("abcd"), 0); n != 4 || err != nil {
			t.Fatalf("the next write: %d, %v", n, err)
		}
	}
}

func TestFault_FlipsABitWithoutAnError(t *testing.T) {
	disk := crashfs.New()
	ok(t, durable.WriteFile(disk, "a", []byte("abcd")))
	f := errfs.New(disk)
	f.Fail(errfs.Fault{Ops: errfs.Any, N: 1, Sticky: true, Form: errfs.Flipped})
	if got := read(t, f, "a"); got == "abcd" || len(got) != 4 {
		t.Fatalf("got %q, want one wrong byte", got)
	}
	f.Heal()
	if got := read(t, f, "a"); got != "abcd" {
		t.Fatalf("got %q after healing", got)
	}
}

func TestFault_LeavesNothingOpen(t *testing.T) {
	f := errfs.New(crashfs.New())
	f.Fail(errfs.Fault{Ops: errfs.Lock, N: 1, Form: errfs.Happened, Err: syscall.EIO})
	if _, err := f.Lock("l", durable.Exclusive, "me"); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	l, err := f.Lock("l", durable.Exclusive, "me")
	ok(t, err)
	ok(t, l.Close())
}

func TestCalls_AreRecordedInOrder(t *testing.T) {
	f := errfs.New(crashfs.New())
	ok(t, f.Mkdir("d"))
	h, err := f.Create("d/a")
	ok(t, err)
	ok(t, h.Sync())
	ok(t, h.Close())
	ok(t, f.Link("d/a", "b"))
	var got []string
	for _, c := range f.Calls() {
		got = append(got, c.String())
	}
	if want := []string{"mkdir d", "create d/a", "sync d/a", "close d/a", "link b"}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	f.Forget()
	if len(f.Calls()) != 0 {
		t.Fatal("calls are not forgotten")
	}
}

func TestOp_HasANameForEachBit(t *testing.T) {
	names := strings.Split(errfs.Any.String(), "|")
	if len(names) != 20 || slices.Contains(names, "") {
		t.Fatalf("got %q", names)
	}
}
