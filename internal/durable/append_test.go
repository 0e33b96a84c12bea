package durable_test

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"

	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/durable/crashfs"
	"github.com/generalbots/backupd/internal/durable/errfs"
)

// piece is the i-th thing appended; sizes lie around the blocks of a disk.
func piece(i int) []byte {
	return bytes.Repeat([]byte{byte('a' + i%26)}, []int{1, 300, 511, 512, 4095, 4097, 9000}[i%7])
}

// appendLosses crashes at every operation of a life of appends and counts the
// states in which an acknowledged piece is not there, or one that was never
// begun is.
func appendLosses(t *testing.T, lies crashfs.Lies) (states, losses int, first error) {
	t.Helper()
	disk := crashfs.New()
	disk.Lie(lies)
	acked, doing := []byte(nil), []byte(nil)
	disk.Before(func(crashfs.Op) {
		for _, percent := range []int{0, 50, 100} {
			for seed := range uint64(seeds) {
				states++
				after := disk.Crash(dice(seed), percent)
				after.Lie(crashfs.Lies{})
				a, err := durable.OpenAppend(after, "log")
				if err == nil {
					got := make([]byte, a.Size())
					if len(got) > 0 {
						_, err = a.ReadAt(got, 0)
					}
					switch {
					case err != nil:
					case !bytes.HasPrefix(got, acked):
						err = fmt.Errorf("%d bytes acknowledged, %d there or others", len(acked), len(got))
					case len(got) > len(acked)+len(doing):
						err = fmt.Errorf("%d bytes were never written", len(got)-len(acked)-len(doing))
					default:
						// The torn piece is cut and the next life goes on.
						err = a.Cut(int64(len(acked)))
						if err == nil {
							err = a.Append([]byte("next"))
						}
						if data, rerr := durable.ReadFile(after.Crash(dice(seed), 0), "log", 1<<20); err == nil &&
							(rerr != nil || !bytes.Equal(data, append(bytes.Clone(acked), "next"...))) {
							err = fmt.Errorf("the next life lost its piece: %v", rerr)
						}
					}
				}
				if err != nil {
					losses++
					if first == nil {
						first = err
					}
				}
			}
		}
	})
	a, err := durable.OpenAppend(disk, "log")
	ok(t, err)
	for i := range 14 {
		doing = piece(i)
		ok(t, a.Append(doing))
		acked, doing = append(acked, doing...), nil
	}
	ok(t, a.Close())
	return states, losses, first
}

func TestAppender_LosesNothingAcknowledgedAtAnyCrash(t *testing.T) {
	states, losses, first := appendLosses(t, crashfs.Lies{})
	if losses > 0 {
		t.Fatalf("%d of %d states lost something: %v", losses, states, first)
	}
	t.Logf("%d states", states)
}

// Negative control.
func TestAppender_CrashTestFeelsAMissingSync(t *testing.T) {
	for name, lies := range map[string]crashfs.Lies{
		"no fsync":           {IgnoreSync: true},
		"no directory fsync": {IgnoreSyncDir: true},
	} {
		if states, losses, _ := appendLosses(t, lies); losses == 0 {
			t.Errorf("%s: nothing was lost in %d states", name, states)
		}
	}
}

func TestAppender_TakesBackWhatAFullDiskTore(t *testing.T) {
	disk := crashfs.New()
	e := errfs.New(disk)
	a, err := durable.OpenAppend(e, "log")
	ok(t, err)
	ok(t, a.Append([]byte("one\n")))
	e.Fail(errfs.Fault{Ops: errfs.WriteAt, N: 1, Form: errfs.Half, Err: syscall.ENOSPC})
	wantErr(t, "full disk", a.Append([]byte("two\n")), syscall.ENOSPC)
	ok(t, a.Append([]byte("three\n")))
	data, err := durable.ReadFile(disk, "log", 100)
	if string(data) != "one\nthree\n" || err != nil {
		t.Fatalf("got %q, %v", data, err)
	}
}

func TestAppender_NeverTrustsAFileWhoseSyncFailed(t *testing.T) {
	e := errfs.New(crashfs.New())
	a, err := durable.OpenAppend(e, "log")
	ok(t, err)
	e.Fail(errfs.Fault{Ops: errfs.Sync, N: 1, Err: syscall.EIO})
	wantErr(t, "failed sync", a.Append([]byte("one\n")), syscall.EIO)
	e.Heal()
	wantErr(t, "after it", a.Append([]byte("two\n")), durable.ErrAppenderFailed)
	wantErr(t, "cutting after it", a.Cut(0), durable.ErrAppenderFailed)
	syncs := 0
	for _, c := range e.Calls() {
		if c.Op == errfs.Sync && c.Name == "log" {
			syncs++
		}
	}
	// One when it was opened, one that failed, none retried.
	if syncs != 2 {
		t.Fatalf("%d syncs of the file, want 2", syncs)
	}
}

func TestAppender_KeepsToARegularFileOfTheRealSystem(t *testing.T) {
	f, dir := openOS(t)
	a, err := durable.OpenAppend(f, "log")
	ok(t, err)
	ok(t, a.Append([]byte("one\n")))
	ok(t, a.Close())
	a, err = durable.OpenAppend(f, "log")
	ok(t, err)
	ok(t, a.Append([]byte("two\n")))
	ok(t, a.Close())
	data, err := durable.ReadFile(f, "log", 100)
	if string(data) != "one\ntwo\n" || err != nil {
		t.Fatalf("got %q, %v", data, err)
	}
	ok(t, syscall.Mkfifo(dir+"/pipe", 0o600))
	if _, err := durable.OpenAppend(f, "pipe"); err == nil {
		t.Fatal("a pipe was opened")
	}
	ok(t, syscall.Symlink("log", dir+"/link"))
	wantErr(t, "a link", func() error { _, err := durable.OpenAppend(f, "link"); return err }(), syscall.ELOOP)
}
