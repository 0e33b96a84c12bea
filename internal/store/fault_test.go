package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/generalbots/backupd/internal/durable/crashfs"
	"github.com/generalbots/backupd/internal/durable/errfs"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/internal/store/storetest"
)

// session is one of everything: a first object stays, a second is put, a third
// removed, and all is listed and read.
func session(ctx context.Context, d *store.Dir) (done []string, err error) {
	if err := putInParts(ctx, d, "snapshots/b", []byte("second")); err != nil {
		return done, err
	}
	done = append(done, "put")
	if err := d.Remove(ctx, "snapshots/c"); err != nil {
		return done, err
	}
	done = append(done, "remove")
	list, err := d.List(ctx, "snapshots")
	if err != nil {
		return done, err
	}
	if len(list) != 2 || list[0].Name != "snapshots/a" || list[1].Name != "snapshots/b" {
		return done, fmt.Errorf("false listing %v", list)
	}
	got, err := storetest.Get(ctx, d, "snapshots/b")
	if err != nil {
		return done, err
	}
	if string(got) != "second" {
		return done, fmt.Errorf("false contents %q", got)
	}
	return done, nil
}

func faultyStore(t *testing.T) (*crashfs.FS, *errfs.FS, *store.Dir) {
	t.Helper()
	disk := crashfs.New()
	d := laidOut(t, disk)
	for _, name := range []string{"snapshots/a", "snapshots/c"} {
		if err := storetest.Put(t.Context(), d, name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	f := errfs.New(disk)
	return disk, f, store.NewDir(f)
}

// falseSuccess runs a session with a fault and a power cut after it, and reports
// what was claimed and is not so.
func falseSuccess(t *testing.T, fault errfs.Fault, lies crashfs.Lies) error {
	t.Helper()
	disk, f, d := faultyStore(t)
	disk.Lie(lies)
	f.Fail(fault)
	done, err := session(t.Context(), d)
	if err != nil && strings.HasPrefix(err.Error(), "false") {
		return err
	}
	syncs := map[string]int{}
	for _, c := range f.Calls() {
		if c.Op == errfs.Sync {
			syncs[c.Name]++
		}
	}
	for name, n := range syncs {
		if n > 1 {
			return fmt.Errorf("%s was synced %d times", name, n)
		}
	}
	after := store.NewDir(disk.Crash(dice(1), 0))
	get := func(name string) string {
		got, err := storetest.Get(t.Context(), after, name)
		if errors.Is(err, store.ErrNotExist) {
			return ""
		}
		if err != nil {
			return err.Error()
		}
		return string(got)
	}
	if got := get("snapshots/a"); got != "snapshots/a" {
		return fmt.Errorf("an object nobody touched is %q", got)
	}
	if got := get("snapshots/b"); got != "second" && (got != "" || slices.Contains(done, "put")) {
		return fmt.Errorf("done %v: the new object is %q", done, got)
	}
	if got := get("snapshots/c"); got != "" && (got != "snapshots/c" || slices.Contains(done, "remove")) {
		return fmt.Errorf("done %v: the removed object is %q", done, got)
	}
	if err == nil {
		return nil
	}
	// Once the disk works again nothing is in the way.
	f.Heal()
	if err := d.Sweep(t.Context()); err != nil {
		return err
	}
	if list, err := f.ReadDir("tmp"); err != nil || len(list) > 0 {
		return fmt.Errorf("after a sweep tmp holds %v, %v", list, err)
	}
	if err := storetest.Put(t.Context(), d, "snapshots/b", []byte("second")); err != nil && !errors.Is(err, store.ErrExist) {
		return err
	}
	if got, err := storetest.Get(t.Context(), d, "snapshots/b"); string(got) != "second" {
		return fmt.Errorf("second attempt: %q, %v", got, err)
	}
	return nil
}

func everyFault(t *testing.T, try func(what string, fault errfs.Fault)) {
	t.Helper()
	_, f, d := faultyStore(t)
	if _, err := session(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	calls := f.Calls()
	for n := range calls {
		for _, form := range []errfs.Form{errfs.Failed, errfs.Happened, errfs.Half} {
			for _, sticky := range []bool{false, true} {
				for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
					fault := errfs.Fault{Ops: errfs.Any, N: n + 1, Form: form, Sticky: sticky, Err: errno}
					try(fmt.Sprintf("%v, form %d, sticky %v, %v", calls[n], form, sticky, errno), fault)
				}
			}
		}
	}
}

func TestDir_ClaimsNoFalseSuccessWhenAnyCallFails(t *testing.T) {
	tries := 0
	everyFault(t, func(what string, fault errfs.Fault) {
		tries++
		if err := falseSuccess(t, fault, crashfs.Lies{}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	})
	t.Logf("%d faults", tries)
}

func TestDir_FaultTestFeelsALyingDisk(t *testing.T) {
	for _, lies := range []crashfs.Lies{{IgnoreSync: true}, {IgnoreSyncDir: true}} {
		found := 0
		everyFault(t, func(what string, fault errfs.Fault) {
			if found == 0 && falseSuccess(t, fault, lies) != nil {
				found++
			}
		})
		if found == 0 {
			t.Errorf("%+v: not felt", lies)
		}
	}
}

func TestDir_TellsErrorsApart(t *testing.T) {
	for errno, want := range map[syscall.Errno]error{
		syscall.ENOSPC: store.ErrNoSpace,
		syscall.EDQUOT: store.ErrNoSpace,
		syscall.EROFS:  store.ErrReadOnly,
		syscall.EACCES: store.ErrReadOnly,
		syscall.EPERM:  store.ErrReadOnly,
	} {
		_, f, d := faultyStore(t)
		f.Fail(errfs.Fault{Ops: errfs.Create | errfs.Unlink | errfs.Lock, N: 1, Sticky: true, Err: errno})
		_, err := d.Create(t.Context(), "config", 1)
		if !errors.Is(err, want) || !strings.Contains(err.Error(), "config") {
			t.Errorf("create with %v: got %v, want %v", errno, err, want)
		}
		if err := d.Remove(t.Context(), "snapshots/a"); !errors.Is(err, want) {
			t.Errorf("remove with %v: got %v, want %v", errno, err, want)
		}
		if _, err := d.Lock(t.Context(), "writer", store.LockExclusive); !errors.Is(err, want) {
			t.Errorf("lock with %v: got %v, want %v", errno, err, want)
		}
	}
	_, f, d := faultyStore(t)
	f.Fail(errfs.Fault{Ops: errfs.Open, N: 1, Err: syscall.EIO})
	_, err := d.Open(t.Context(), "snapshots/a")
	if err == nil || errors.Is(err, store.ErrNotExist) || !strings.Contains(err.Error(), "snapshots/a") {
		t.Errorf("open with EIO: got %v", err)
	}
}

func TestDir_FillsTheDiskAndGoesOn(t *testing.T) {
	disk := crashfs.New()
	d := laidOut(t, disk)
	disk.SetCapacity(10_000)
	if err := storetest.Put(t.Context(), d, "packs/00/a", make([]byte, 6000)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create(t.Context(), "packs/00/b", 6000); !errors.Is(err, store.ErrNoSpace) {
		t.Fatalf("got %v, want ErrNoSpace from Create", err)
	}
	if list, err := disk.ReadDir("tmp"); err != nil || len(list) > 0 {
		t.Fatalf("tmp holds %v, %v", list, err)
	}
	disk.SetCapacity(6000)
	lock, err := d.Lock(t.Context(), "writer", store.LockExclusive)
	if err != nil {
		t.Fatalf("lock on a full disk: %v", err)
	}
	defer lock.Close()
	if err := d.Sweep(t.Context()); err != nil {
		t.Fatalf("sweep on a full disk: %v", err)
	}
	if err := d.Remove(t.Context(), "packs/00/a"); err != nil {
		t.Fatalf("remove on a full disk: %v", err)
	}
	if sp, err := d.Space(t.Context()); err != nil || sp.Free != 6000 {
		t.Fatalf("got %+v, %v", sp, err)
	}
}

func TestDir_ReadsWhereItCanNotWrite(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EROFS, syscall.EACCES} {
		_, f, d := faultyStore(t)
		f.Fail(errfs.Fault{Ops: errfs.Change | errfs.Lock, N: 1, Sticky: true, Err: errno})
		lock, err := d.Lock(t.Context(), "writer", store.LockShared)
		if err != nil {
			t.Fatalf("%v: shared lock: %v", errno, err)
		}
		defer lock.Close()
		got, err := storetest.Get(t.Context(), d, "snapshots/a")
		if string(got) != "snapshots/a" || err != nil {
			t.Fatalf("%v: got %q, %v", errno, got, err)
		}
		if list, err := d.List(t.Context(), "snapshots"); len(list) != 2 || err != nil {
			t.Fatalf("%v: got %v, %v", errno, list, err)
		}
		for what, err := range map[string]error{
			"exclusive lock": second(d.Lock(t.Context(), "writer", store.LockExclusive)),
			"create":         second(d.Create(t.Context(), "config", 1)),
			"remove":         d.Remove(t.Context(), "snapshots/a"),
		} {
			if !errors.Is(err, store.ErrReadOnly) {
				t.Errorf("%v: %s: got %v, want ErrReadOnly", errno, what, err)
			}
		}
	}
}

func TestDir_SharedLockNeedsNoDirectoryOfLocks(t *testing.T) {
	f := errfs.New(crashfs.New())
	f.Fail(errfs.Fault{Ops: errfs.Mkdir, N: 1, Sticky: true, Err: syscall.EROFS})
	d := store.NewDir(f)
	lock, err := d.Lock(t.Context(), "writer", store.LockShared)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	if _, err := d.Lock(t.Context(), "writer", store.LockExclusive); !errors.Is(err, store.ErrReadOnly) {
		t.Fatalf("got %v, want ErrReadOnly", err)
	}
}

func TestDir_ListsNothingShort(t *testing.T) {
	_, f, d := faultyStore(t)
	if _, err := d.List(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	n := len(f.Calls())
	for k := 1; k <= n; k += 5 {
		f.Heal()
		f.Fail(errfs.Fault{Ops: errfs.ReadDir, N: k, Err: syscall.EIO})
		if list, err := d.List(t.Context(), ""); err == nil || list != nil {
			t.Fatalf("directory %d unreadable: got %d objects, %v", k, len(list), err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestDir_IsNotLedOutByLinks(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	precious := filepath.Join(outside, "precious")
	if err := os.WriteFile(precious, []byte("p"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := store.MakeDir(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	for _, dir := range []string{"tmp", "keys", "locks"} {
		if err := errors.Join(os.Remove(filepath.Join(root, dir)), os.Symlink(outside, filepath.Join(root, dir))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(precious, filepath.Join(root, "config")); err != nil {
		t.Fatal(err)
	}
	d, err = store.OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for what, err := range map[string]error{
		"sweep":  d.Sweep(t.Context()),
		"create": storetest.Put(t.Context(), d, "snapshots/1", []byte("x")),
		"open":   second(d.Open(t.Context(), "config")),
		"lock":   second(d.Lock(t.Context(), "writer", store.LockExclusive)),
	} {
		if err == nil {
			t.Errorf("%s went through a link", what)
		}
	}
	d.Remove(t.Context(), "keys/precious")
	got, err := os.ReadFile(precious)
	left, _ := os.ReadDir(outside)
	if !bytes.Equal(got, []byte("p")) || err != nil || len(left) != 1 {
		t.Fatalf("outside: %q, %v, %v", got, err, left)
	}
}

func TestDir_ListsOnlyObjects(t *testing.T) {
	root := t.TempDir()
	d, err := store.MakeDir(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := storetest.Put(t.Context(), d, "snapshots/1", []byte("x")); err != nil {
		t.Fatal(err)
	}
	w, err := d.Create(t.Context(), "snapshots/2", 10)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	lock, err := d.Lock(t.Context(), "writer", store.LockExclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	for _, name := range []string{"snapshots/.nfs0001", "snapshots/Upper", "snapshots/1~", ".DS_Store"} {
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Join(root, "lost+found"), 0), syscall.Mkfifo(filepath.Join(root, "gc/fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if got := names(t, d); !slices.Equal(got, []string{"snapshots/1"}) {
		t.Fatalf("got %q", got)
	}
}
