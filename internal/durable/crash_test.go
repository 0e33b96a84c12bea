package durable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/durable/crashfs"
	"github.com/generalbots/backupd/internal/durable/errfs"
)

const seeds = 20

func dice(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// life is what a daemon does with small files: it writes one, replaces a head
// again and again, and removes. acked holds what it was told is durable; doing
// the content that is on its way.
type life struct {
	acked map[string]string
	doing map[string]string
}

func (l *life) run(f durable.FS) error {
	do := func(name, data string, write func() error) error {
		l.doing = map[string]string{name: data}
		if err := write(); err != nil {
			return err
		}
		l.acked[name], l.doing = data, nil
		return nil
	}
	if err := do("d", "directory", func() error { return durable.MakeDirs(f, "d") }); err != nil {
		return err
	}
	for i := range 4 {
		data := fmt.Sprintf("%d%01500d", i, i)
		name := fmt.Sprintf("d/%d", i)
		if err := do(name, data, func() error { return durable.WriteFile(f, name, []byte(data)) }); err != nil {
			return err
		}
		if err := do("head", data, func() error { return durable.ReplaceFile(f, "head", []byte(data)) }); err != nil {
			return err
		}
	}
	return do("d/1", "", func() error { return durable.Remove(f, "d/1", "d/none") })
}

// lost compares a tree after a crash with what was promised. A directory counts
// as content "directory", an absent name as "".
func (l *life) lost(f durable.FS) error {
	names := map[string]bool{}
	for name := range l.acked {
		names[name] = true
	}
	for name := range l.doing {
		names[name] = true
	}
	for name := range names {
		got := ""
		info, err := f.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case info.Mode.IsDir():
			got = "directory"
		default:
			data, err := durable.ReadFile(f, name, 1<<20)
			if err != nil {
				return err
			}
			got = string(data)
		}
		doing, on := l.doing[name]
		if got != l.acked[name] && !(on && got == doing) {
			return fmt.Errorf("%s is %.10q of %d bytes; acknowledged %.10q, on the way %.10q", name, got, len(got), l.acked[name], doing)
		}
	}
	return nil
}

// crashes counts the states after a crash at every operation of a life, and those
// in which something was lost.
func crashes(t *testing.T, lies crashfs.Lies, front func(durable.FS) durable.FS) (states, losses int, first error) {
	t.Helper()
	disk := crashfs.New()
	disk.Lie(lies)
	l := &life{acked: map[string]string{}}
	cut := func() {
		for _, percent := range []int{0, 50, 100} {
			for seed := range uint64(seeds) {
				states++
				after := disk.Crash(dice(seed), percent)
				err := l.lost(after)
				if err == nil {
					// What is left in the way does not stop the next life.
					// The lie is for the first one: else every state would fail here.
					after.Lie(crashfs.Lies{})
					next := &life{acked: map[string]string{}}
					err = durable.ReplaceFile(after, "head", []byte("next"))
					next.acked["head"] = "next"
					if err == nil {
						err = next.lost(after.Crash(dice(seed), 0))
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
	}
	disk.Before(func(crashfs.Op) { cut() })
	if err := l.run(front(disk)); err != nil {
		t.Fatal(err)
	}
	cut()
	return states, losses, first
}

func honest(f durable.FS) durable.FS { return f }

func TestCrash_LosesNothingAcknowledgedAtAnyOperation(t *testing.T) {
	for name, front := range map[string]func(durable.FS) durable.FS{
		"complete file system": honest,
		"no RENAME_NOREPLACE":  func(f durable.FS) durable.FS { return refusing(f, errfs.RenameNoReplace) },
		"no links either":      func(f durable.FS) durable.FS { return refusing(f, errfs.RenameNoReplace|errfs.Link) },
		"no fallocate":         func(f durable.FS) durable.FS { return refusing(f, errfs.Fallocate) },
	} {
		t.Run(name, func(t *testing.T) {
			states, losses, first := crashes(t, crashfs.Lies{}, front)
			if losses > 0 {
				t.Fatalf("%d of %d states lost something: %v", losses, states, first)
			}
			t.Logf("%d states", states)
		})
	}
}

// Negative controls: the test above must feel each missing step.
func TestCrash_FindsTheLossOnALyingDisk(t *testing.T) {
	for name, lies := range map[string]crashfs.Lies{
		"no fsync":           {IgnoreSync: true},
		"no directory fsync": {IgnoreSyncDir: true},
		"early rename":       {EarlyRename: true},
	} {
		t.Run(name, func(t *testing.T) {
			states, losses, _ := crashes(t, lies, honest)
			if losses == 0 {
				t.Fatalf("nothing was lost in %d states", states)
			}
			t.Logf("%d of %d states lost something", losses, states)
		})
	}
}

func refusing(f durable.FS, ops errfs.Op) durable.FS {
	e := errfs.New(f)
	e.Fail(errfs.Fault{Ops: ops, N: 1, Sticky: true, Err: errors.ErrUnsupported})
	return e
}
