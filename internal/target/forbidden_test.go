package target_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/target"
)

// forbidSetIDs makes the kernel refuse this thread the setuid and setgid bits as RestrictSUIDSGID of systemd does.
func forbidSetIDs() error {
	const nr, args = 0, 16 // in struct seccomp_data, little endian
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	jump := func(op uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	program := []unix.SockFilter{
		load(nr),
		jump(unix.BPF_JEQ, unix.SYS_FCHMOD, 0, 2),
		load(args + 8), // the mode is its second argument
		jump(unix.BPF_JSET, unix.S_ISUID|unix.S_ISGID, 4, 3),
		jump(unix.BPF_JEQ, unix.SYS_FCHMODAT, 0, 2),
		load(args + 16), // its third
		jump(unix.BPF_JSET, unix.S_ISUID|unix.S_ISGID, 1, 0),
		answer(unix.SECCOMP_RET_ALLOW),
		answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)),
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0)
}

// A service that may not set them leaves such a bit off, says so, and gives the rest of the mode.
func TestDirectory_ForbiddenBitsDoNotCostTheMode(t *testing.T) {
	base := t.TempDir()
	if err := os.Mkdir(filepath.Join(base, "probe"), 0o700); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := forbidSetIDs(); err != nil {
			t.Error(err)
			return
		}
		if err := unix.Chmod(filepath.Join(base, "probe"), 0o2770); !errors.Is(err, unix.EPERM) {
			t.Errorf("the bit is not forbidden: %v", err)
			return
		}
		d, err := target.OpenDirectory(filepath.Join(base, "target"), target.Options{Privileged: true})
		if err != nil {
			t.Error(err)
			return
		}
		defer d.Close()
		folder, err := d.Root().Folder("group")
		if err != nil {
			t.Error(err)
			return
		}
		own := func(kind target.Type) *target.Meta {
			return &target.Meta{Type: kind, Mode: 0o2750, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
		}
		w, err := folder.Create("program", 0, target.Time{})
		if err != nil {
			t.Error(err)
			return
		}
		defer w.Abort()
		of, err := w.Finish(own(target.TypeRegular))
		judge := func(what string, problems []target.Problem, err error) {
			if err != nil || len(problems) != 1 || problems[0].Kind != target.ProblemSetID || !errors.Is(problems[0].Err, unix.EPERM) {
				t.Errorf("%s: got %v, %v", what, problems, err)
			}
		}
		judge("file", of, err)
		of, err = folder.Finish(own(target.TypeDirectory))
		judge("folder", of, err)
	}()
	<-done
	for _, name := range []string{"group", "group/program"} {
		info, err := os.Stat(filepath.Join(base, "target", name))
		if err != nil || info.Mode().Perm() != 0o750 || info.Mode()&(os.ModeSetgid|os.ModeSticky) != 0 {
			t.Errorf("%s: got %v, %v", name, info, err)
		}
	}
}
