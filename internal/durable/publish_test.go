package durable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/durable/crashfs"
	"github.com/generalbots/backupd/internal/durable/errfs"
)

func calls(f *errfs.FS) []string {
	var list []string
	for _, c := range f.Calls() {
		list = append(list, c.String())
	}
	return list
}

func publishABC(f durable.FS) error {
	tmp, err := durable.CreateTemp(f, "tmp", 8)
	if err != nil {
		return err
	}
	defer tmp.Discard()
	if _, err := tmp.WriteAt([]byte("abc"), 0); err != nil {
		return err
	}
	return tmp.Publish("a")
}

func TestPublish_CallsInThisOrder(t *testing.T) {
	f := errfs.New(crashfs.New())
	ok(t, publishABC(f))
	want := []string{"create tmp", "fallocate tmp", "writeat tmp", "truncate tmp", "sync tmp", "close tmp",
		"rename-noreplace a", "syncdir "}
	if got := calls(f); !slices.Equal(got, want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
}

func TestPublish_LinksWhereRenameCanNot(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EINVAL, syscall.ENOSYS, syscall.EOPNOTSUPP} {
		f := errfs.New(crashfs.New())
		f.Fail(errfs.Fault{Ops: errfs.RenameNoReplace, N: 1, Sticky: true, Err: errno})
		ok(t, publishABC(f))
		if got, want := calls(f)[6:], []string{"rename-noreplace a", "link a", "unlink tmp", "syncdir "}; !slices.Equal(got, want) {
			t.Fatalf("%v: got %q, want %q", errno, got, want)
		}
		wantErr(t, "second publish", publishABC(f), fs.ErrExist)
		got, err := durable.ReadFile(f, "a", 10)
		if string(got) != "abc" || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
		if _, err := f.Stat("tmp"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("temporary name is left: %v", err)
		}
	}
}

func TestPublish_LooksFirstWhereNothingElseIsLeft(t *testing.T) {
	f := errfs.New(crashfs.New())
	f.Fail(errfs.Fault{Ops: errfs.RenameNoReplace, N: 1, Sticky: true, Err: syscall.EINVAL})
	f.Fail(errfs.Fault{Ops: errfs.Link, N: 1, Sticky: true, Err: syscall.EPERM})
	ok(t, publishABC(f))
	wantErr(t, "second publish", publishABC(f), fs.ErrExist)
	got, err := durable.ReadFile(f, "a", 10)
	if string(got) != "abc" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestPublish_TakesARefusalForNothingElse(t *testing.T) {
	f := errfs.New(crashfs.New())
	f.Fail(errfs.Fault{Ops: errfs.RenameNoReplace, N: 1, Sticky: true, Err: syscall.EIO})
	wantErr(t, "publish", publishABC(f), syscall.EIO)
	if got := calls(f); slices.Contains(got, "link a") {
		t.Fatalf("a failed rename is tried another way: %q", got)
	}
}

func TestCreateTemp_ReservesSpace(t *testing.T) {
	const size = 1 << 20
	for _, c := range []struct {
		name   string
		refuse error
		writes int
	}{{"by fallocate", nil, 0}, {"by zeros", syscall.EOPNOTSUPP, 4}} {
		t.Run(c.name, func(t *testing.T) {
			disk := crashfs.New()
			f := errfs.New(disk)
			if c.refuse != nil {
				f.Fail(errfs.Fault{Ops: errfs.Fallocate, N: 1, Sticky: true, Err: c.refuse})
			}
			tmp, err := durable.CreateTemp(f, "tmp", size)
			ok(t, err)
			if sp, _ := disk.Statfs(); sp.Total-sp.Free != size {
				t.Fatalf("%d bytes are reserved, want %d", sp.Total-sp.Free, size)
			}
			writes := 0
			for _, call := range calls(f) {
				if strings.HasPrefix(call, "writeat") {
					writes++
				}
			}
			if writes != c.writes {
				t.Fatalf("%d writes, want %d", writes, c.writes)
			}
			_, err = tmp.WriteAt([]byte("abc"), 5)
			ok(t, err)
			ok(t, tmp.Publish("a"))
			got, err := durable.ReadFile(f, "a", size)
			if want := "\x00\x00\x00\x00\x00abc"; string(got) != want || err != nil {
				t.Fatalf("got %q, %v, want %q", got, err, want)
			}

			disk.SetCapacity(size)
			_, err = durable.CreateTemp(f, "tmp", size)
			wantErr(t, "create beyond the space", err, syscall.ENOSPC)
			if _, err := f.Stat("tmp"); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("temporary file is left: %v", err)
			}
		})
	}
}

func TestPublish_TakesAFailedSyncAsFinal(t *testing.T) {
	for _, form := range []errfs.Form{errfs.Failed, errfs.Happened} {
		f := errfs.New(crashfs.New())
		f.Fail(errfs.Fault{Ops: errfs.Sync, N: 1, Form: form, Err: syscall.EIO}) // once: the second would succeed
		tmp, err := durable.CreateTemp(f, "tmp", 3)
		ok(t, err)
		_, err = tmp.WriteAt([]byte("abc"), 0)
		ok(t, err)
		wantErr(t, "publish", tmp.Publish("a"), syscall.EIO)
		if err := tmp.Publish("a"); err == nil {
			t.Fatal("publish after a failed sync succeeded")
		}
		if err := tmp.Replace("a"); err == nil {
			t.Fatal("replace after a failed sync succeeded")
		}
		ok(t, tmp.Discard())
		syncs := 0
		for _, call := range calls(f) {
			if strings.HasPrefix(call, "sync ") {
				syncs++
			}
			if strings.Contains(call, "rename") {
				t.Fatalf("the file is renamed: %q", calls(f))
			}
		}
		if syncs != 1 {
			t.Fatalf("%d calls of sync, want 1", syncs)
		}
		if list, _ := f.ReadDir(""); len(list) != 0 {
			t.Fatalf("left behind: %v", list)
		}
	}
}

// TestPublish_SurvivesEveryError fails each call in every form. Whatever
// happens, success is never claimed falsely and the name holds nothing or all.
func TestPublish_SurvivesEveryError(t *testing.T) {
	for _, replace := range []bool{false, true} {
		write := durable.WriteFile
		if replace {
			write = durable.ReplaceFile
		}
		clean := errfs.New(crashfs.New())
		ok(t, write(clean, "a", []byte("abc")))
		n := len(clean.Calls())
		for k := 1; k <= n; k++ {
			for _, form := range []errfs.Form{errfs.Failed, errfs.Happened, errfs.Half} {
				for _, sticky := range []bool{false, true} {
					for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
						what := fmt.Sprintf("replace %v, %v, form %d, sticky %v, %v", replace, clean.Calls()[k-1], form, sticky, errno)
						checkError(t, what, replace, write, errfs.Fault{Ops: errfs.Any, N: k, Form: form, Sticky: sticky, Err: errno})
					}
				}
			}
		}
	}
}

func checkError(t *testing.T, what string, replace bool, write func(durable.FS, string, []byte) error, fault errfs.Fault) {
	t.Helper()
	disk := crashfs.New()
	old := ""
	if replace {
		old = "old"
		ok(t, durable.WriteFile(disk, "a", []byte(old)))
	}
	f := errfs.New(disk)
	f.Fail(fault)
	err := write(f, "a", []byte("abc"))
	if f.Hits() == 0 {
		t.Fatalf("%s: not met", what)
	}
	read := func(f durable.FS) string {
		data, err := durable.ReadFile(f, "a", 10)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s: %v", what, err)
		}
		return string(data)
	}
	for _, got := range []string{read(disk), read(disk.Crash(dice(1), 0)), read(disk.Crash(dice(1), 100))} {
		if got != "abc" && (err == nil || got != old) {
			t.Fatalf("%s: returned %v and left %q", what, err, got)
		}
	}
	if err == nil {
		return
	}
	// The next attempt finds nothing in its way but the finished file itself.
	f.Heal()
	if err := write(f, "a", []byte("abc")); err != nil && !(errors.Is(err, fs.ErrExist) && read(f) == "abc") {
		t.Fatalf("%s: second attempt: %v", what, err)
	}
}

func TestTemp_EndsOnce(t *testing.T) {
	f := crashfs.New()
	tmp, err := durable.CreateTemp(f, "tmp", 3)
	ok(t, err)
	_, err = tmp.WriteAt([]byte("abcd"), 0)
	wantErr(t, "write beyond the size", err, durable.ErrTooLarge)
	_, err = tmp.WriteAt([]byte("abc"), 0)
	ok(t, err)
	ok(t, tmp.Publish("a"))
	ok(t, tmp.Discard())
	wantErr(t, "publish after publish", tmp.Publish("b"), fs.ErrClosed)
	_, err = tmp.WriteAt([]byte("x"), 0)
	wantErr(t, "write after publish", err, fs.ErrClosed)
	if _, err := f.Stat("a"); err != nil {
		t.Fatal(err)
	}
	// Something else under the old temporary name is not ours to remove.
	ok(t, durable.WriteFile(f, "x", nil))
	tmp, err = durable.CreateTemp(f, "tmp", 0)
	ok(t, err)
	ok(t, tmp.Discard())
	ok(t, f.Rename("x", "tmp"))
	ok(t, tmp.Discard())
	if _, err := f.Stat("tmp"); err != nil {
		t.Fatal(err)
	}
	_, err = durable.CreateTemp(f, "neg", -1)
	wantErr(t, "negative size", err, syscall.EINVAL)
}
