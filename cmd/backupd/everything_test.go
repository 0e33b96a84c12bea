package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// everythingFiles is how many files the tree of this test has.
const everythingFiles = 100_000

// A tree with every kind of metadata comes back identical: rsync, which shares
// no code with this program, finds nothing to do between the original and what
// was restored.
func TestRestore_EveryKindOfMetadataComesBackAsRsyncSeesIt(t *testing.T) {
	dir := fastDir(t)
	src := filepath.Join(dir, "src")
	sparse := sowEverything(t, src, everythingFiles)
	env := append(os.Environ(), "BACKUPD_REPO="+dir+"/repo", "BACKUPD_KEY_FILE="+dir+"/key", "BACKUPD_STATE_DIR="+dir+"/state")
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("backupd", args...)
		cmd.Env = env
		var out, talk bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &talk
		if err := cmd.Run(); err != nil {
			t.Fatalf("backupd %s: %v\n%s", strings.Join(args, " "), err, talk.String())
		}
		return out.String()
	}
	run("repo", "init")
	run("repo", "backup", src)
	// A second snapshot in between: what is unchanged is taken over from the first.
	if err := os.WriteFile(src+"/d000/added", []byte("later"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("repo", "backup", src)
	run("repo", "check", "--read-data")
	run("repo", "restore", "latest", "--target", dir+"/out")

	cmd := exec.Command("rsync", "-aHAXn", "--checksum", "--itemize-changes", "--delete", src+"/", dir+"/out"+src+"/")
	got, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("rsync: %v\n%s", err, got)
	}
	if len(got) > 0 {
		t.Errorf("rsync finds differences:\n%.4000s", got)
	}
	for _, name := range sparse {
		var st unix.Stat_t
		if err := unix.Lstat(dir+"/out"+filepath.Join(src, name), &st); err != nil {
			t.Fatal(err)
		}
		if st.Blocks*512 > st.Size/4 {
			t.Errorf("%s: restored with %d bytes allocated of %d: its holes are gone", name, st.Blocks*512, st.Size)
		}
	}
}

// fastDir is a directory on the RAM disk where there is one that keeps
// attributes and ACLs, else a temporary one.
func fastDir(t *testing.T) string {
	t.Helper()
	if dir, err := os.MkdirTemp("/dev/shm", "backupd-test-"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		if unix.Setxattr(dir, "user.test", []byte("x"), 0) == nil && unix.Setxattr(dir, "system.posix_acl_access", acl(), 0) == nil {
			return dir
		}
	}
	return t.TempDir()
}

// acl is an access ACL as the kernel takes it: version 2, then tag, rights, id.
func acl() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{1, 6, ^uint32(0)}, {2, 4, 1234}, {4, 4, ^uint32(0)}, {8, 5, 4321}, {16, 7, ^uint32(0)}, {32, 0, ^uint32(0)}} {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}

// sowEverything makes a tree of so many files and names its sparse ones. What
// only root may make is left out for others.
func sowEverything(t *testing.T, root string, files int) (sparse []string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(2026, 11))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	asRoot := os.Geteuid() == 0
	dirs := files / 400
	content := make([]byte, 64<<10)
	for i := range content {
		content[i] = byte('a' + rng.IntN(26))
	}
	var dirTimes []func()
	stamp := func(path string) {
		ts := []unix.Timespec{{Sec: 1, Nsec: 2}, {Sec: rng.Int64N(4e9) - 1e9, Nsec: rng.Int64N(1e9)}}
		must(unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW))
	}
	for d := range dirs {
		dir := filepath.Join(root, fmt.Sprintf("d%03d", d))
		for range rng.IntN(4) {
			dir = filepath.Join(dir, "sub"+string(rune('a'+rng.IntN(5))))
		}
		must(os.MkdirAll(dir, 0o755))
		for i := range files / dirs {
			name := fmt.Sprintf("f%04d", i)
			switch i % 40 {
			case 1:
				name += strings.Repeat("n", 255-len(name))
			case 2:
				name += "\xff\xfe \t\n'\"\\*"
			case 3:
				name += " ünïcödé 漢字"
			}
			path := filepath.Join(dir, name)
			switch i % 50 {
			case 10:
				must(os.Symlink("../"+strings.Repeat("x", rng.IntN(300)), path))
			case 11:
				must(unix.Mkfifo(path, 0o640))
			case 12:
				must(os.Link(filepath.Join(dir, "f0000"), path))
				continue
			case 13:
				must(os.Mkdir(path, 0o711))
			case 14, 15, 16:
				if !asRoot {
					continue
				}
				kind := []uint32{unix.S_IFCHR, unix.S_IFBLK, unix.S_IFSOCK}[i%50-14]
				must(unix.Mknod(path, kind|0o600, int(unix.Mkdev(uint32(rng.IntN(200)), uint32(rng.IntN(9000))))))
			case 17:
				if d%10 != 0 {
					break
				}
				f, err := os.Create(path)
				must(err)
				_, err = f.WriteAt(content[:5000], 300_000)
				must(err)
				_, err = f.WriteAt(content[:100], 2_000_000)
				must(err)
				must(f.Truncate(3_000_000))
				must(f.Close())
				rel, err := filepath.Rel(root, path)
				must(err)
				sparse = append(sparse, rel)
			default:
				n := rng.IntN(300)
				if rng.IntN(20) == 0 {
					n = rng.IntN(len(content))
				}
				at := rng.IntN(len(content) - n)
				must(os.WriteFile(path, content[at:at+n], 0o644))
			}
			var st unix.Stat_t
			if unix.Lstat(path, &st) != nil {
				continue
			}
			if asRoot {
				must(os.Lchown(path, rng.IntN(3)*1000, rng.IntN(3)*500))
			}
			if st.Mode&unix.S_IFMT != unix.S_IFLNK {
				must(unix.Chmod(path, uint32(rng.IntN(0o10000))|0o400))
			}
			if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFREG || kind == unix.S_IFDIR {
				if i%7 == 0 {
					must(unix.Setxattr(path, "user.note", content[:rng.IntN(200)], 0))
					must(unix.Setxattr(path, "user.empty", nil, 0))
				}
				if i%11 == 0 {
					must(unix.Setxattr(path, "system.posix_acl_access", acl(), 0))
				}
				if kind == unix.S_IFDIR {
					must(unix.Setxattr(path, "system.posix_acl_default", acl(), 0))
				}
				if asRoot && i%13 == 0 {
					must(unix.Setxattr(path, "trusted.backupd", []byte("t"), 0))
				}
				if asRoot && kind == unix.S_IFREG && i%17 == 0 {
					capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
					must(unix.Setxattr(path, "security.capability", capability, 0))
				}
			}
			stamp(path)
		}
		must(os.Chmod(dir, 0o755|os.ModeSticky))
		dirTimes = append(dirTimes, func() { stamp(dir) })
	}
	for _, f := range dirTimes {
		f()
	}
	return sparse
}
