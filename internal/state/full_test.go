package state_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/state"
)

func TestState_OutlivesAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("state", dir, "tmpfs", 0, "size=1m"); err != nil {
		if os.Geteuid() == 0 {
			t.Logf("not allowed to mount: %v", err)
		}
		return
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "state.db")
	db := openAt(t, path)
	written := 0
	put := func() error {
		j := state.Job{ID: fmt.Sprintf("j%05d", written), CreatedAt: epoch, ErrorMessage: strings.Repeat("x", written*31%5000)}
		err := db.PutJob(j)
		if err == nil {
			written++
		}
		return err
	}
	all := func(when string) {
		t.Helper()
		if _, total, err := db.Jobs(func(*state.Job) bool { return true }, 0, 0); err != nil || total != written {
			t.Fatalf("%s: %d jobs of %d, %v", when, total, written, err)
		}
	}
	var err error
	for err == nil && written < 10_000 {
		err = put()
	}
	if !errors.Is(err, state.ErrFull) {
		t.Fatalf("after %d jobs: %v", written, err)
	}
	for range 20 { // and again, and reading goes on
		if err := put(); err != nil && !errors.Is(err, state.ErrFull) {
			t.Fatal(err)
		}
		all("full")
	}
	must(t, db.Check(t.Context()))
	must(t, db.Close())
	judge(t, path)

	db = openAt(t, path) // a daemon that starts on a full disk
	all("opened on a full disk")
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT, "size=8m"))
	for range 300 {
		must(t, put())
	}
	all("with room again")
	must(t, db.Check(t.Context()))
	must(t, db.Close())

	// A file that can not even be begun is an error, and leaves nothing that stands in the way later.
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT, "size=8m"))
	junk, err := os.Create(filepath.Join(dir, "junk"))
	must(t, err)
	defer junk.Close()
	for chunk := make([]byte, 4096); ; {
		if _, err := junk.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	second := filepath.Join(dir, "second.db")
	if _, err := state.Open(second, repository); !errors.Is(err, state.ErrFull) {
		t.Errorf("begun on a full disk: %v", err)
	}
	must(t, os.Remove(junk.Name()))
	must(t, junk.Close())
	openAt(t, second)
}
