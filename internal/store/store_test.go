package store_test

import (
	"testing"

	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/durable/crashfs"
	"github.com/generalbots/backupd/internal/durable/errfs"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/internal/store/storetest"

	"golang.org/x/sys/unix"
)

func TestDir_KeepsTheContract(t *testing.T) {
	d, err := store.MakeDir(t.Context(), t.TempDir()+"/a/repo")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	storetest.Run(t, func(t *testing.T) store.Store { return emptied(t, d) })
}

func TestDir_KeepsTheContractOverCrashFS(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return laidOut(t, crashfs.New()) })
}

func TestDir_KeepsTheContractWithoutRenameNoReplaceAndFallocate(t *testing.T) {
	root, err := durable.OS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d := laidOut(t, networkMount(root))
	defer d.Close()
	storetest.Run(t, func(t *testing.T) store.Store { return emptied(t, d) })
}

func TestMem_KeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return store.NewMem() })
}

// emptied spares the suite the making of 256 directories for each of its tests.
func emptied(t *testing.T, d *store.Dir) *store.Dir {
	t.Helper()
	if err := d.Remove(t.Context(), names(t, d)...); err != nil {
		t.Fatal(err)
	}
	return d
}

func laidOut(t *testing.T, f durable.FS) *store.Dir {
	t.Helper()
	d := store.NewDir(f)
	if err := d.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

// networkMount refuses what some network file systems refuse, as they do.
func networkMount(inner durable.FS) *errfs.FS {
	f := errfs.New(inner)
	f.Fail(errfs.Fault{Ops: errfs.RenameNoReplace, N: 1, Sticky: true, Err: unix.EINVAL})
	f.Fail(errfs.Fault{Ops: errfs.Fallocate, N: 1, Sticky: true, Err: unix.EOPNOTSUPP})
	f.Fail(errfs.Fault{Ops: errfs.SyncDir, N: 1, Sticky: true, Err: unix.EINVAL})
	return f
}
