package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A tree lives a random life, metadata-only changes and replacements included; after each step it is backed up, mostly
// against the last snapshot, and every snapshot must come back as the tree was then: to rsync, and to a walk of our own
// that compares every field of lstat a restore sets, times to the nanosecond. RANDOM_TREES is how many trees; 2 without.
func TestRandomTrees_EverySnapshotIsTheTreeOfItsMoment(t *testing.T) {
	trees := 2
	if n, err := strconv.Atoi(os.Getenv("RANDOM_TREES")); err == nil {
		trees = n
	}
	for seed := range trees {
		t.Run(strconv.Itoa(seed), func(t *testing.T) { liveRandomly(t, uint64(seed), 8) })
	}
}

func liveRandomly(t *testing.T, seed uint64, rounds int) {
	dir := fastDir(t)
	g := &grower{t: t, rng: rand.New(rand.NewPCG(seed, 7)), root: filepath.Join(dir, "src")}
	ok(t, os.Mkdir(g.root, 0o755))
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("backupd", args...)
		cmd.Env = append(os.Environ(), "BACKUPD_REPO="+dir+"/repo", "BACKUPD_KEY_FILE="+dir+"/key", "BACKUPD_STATE_DIR="+dir+"/state")
		var out, talk bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &talk
		if err := cmd.Run(); err != nil {
			t.Fatalf("seed %d: backupd %s: %v\n%s", seed, strings.Join(args, " "), err, talk.String())
		}
		return strings.TrimSpace(out.String())
	}
	run("repo", "init")
	kept := map[string]map[string]string{}
	for round := range rounds {
		for range 10 + g.rng.IntN(60) {
			g.step()
		}
		typ := []string{"incremental", "incremental", "incremental", "differential", "full"}[g.rng.IntN(5)]
		id := run("repo", "backup", "--type", typ, g.root)
		kept[id] = walkOwn(t, g.root)
		out := filepath.Join(dir, "out"+strconv.Itoa(round))
		run("repo", "restore", "latest", "--target", out, "--verify")
		rsync := exec.Command("rsync", "-aHAXn", "--checksum", "--itemize-changes", "--delete", g.root+"/", out+g.root+"/")
		if got, err := rsync.CombinedOutput(); err != nil || len(got) > 0 {
			t.Fatalf("seed %d, round %d, %s: rsync finds differences (%v):\n%.4000s", seed, round, typ, err, got)
		}
		if g.rng.IntN(4) == 0 {
			ids := slices.Sorted(maps.Keys(kept))
			gone := ids[g.rng.IntN(len(ids))]
			run("repo", "forget", gone)
			delete(kept, gone)
			if g.rng.IntN(2) == 0 {
				run("repo", "gc")
			}
		}
		ok(t, os.RemoveAll(out))
	}
	run("repo", "check", "--read-data")
	for id, want := range kept {
		out := filepath.Join(dir, "again")
		run("repo", "restore", id, "--target", out)
		got := walkOwn(t, out+g.root)
		for p, line := range want {
			if got[p] != line {
				t.Errorf("seed %d, %s: %s\n got %s\nwant %s", seed, id, p, got[p], line)
			}
			delete(got, p)
		}
		for p := range got {
			t.Errorf("seed %d, %s: %s was not there", seed, id, p)
		}
		ok(t, os.RemoveAll(out))
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// walkOwn describes what is below root, by path one line. Names of one inode bear the least of them.
func walkOwn(t *testing.T, root string) map[string]string {
	t.Helper()
	lines, first := map[string]string{}, map[uint64]string{}
	ok(t, filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		name := strings.TrimPrefix(p, root)
		line := fmt.Sprintf("%o %d:%d %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d bytes %x", st.Size, sha256.Sum256(b))
		case unix.S_IFLNK:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += " -> " + to
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" device %d", st.Rdev)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if first[st.Ino] == "" {
				first[st.Ino] = name
			}
			line += fmt.Sprintf(" nlink %d as %s", st.Nlink, first[st.Ino])
		}
		buf := make([]byte, 64<<10)
		n, err := unix.Llistxattr(p, buf)
		if err != nil && err != unix.ENOTSUP {
			return err
		}
		names := strings.Split(string(buf[:max(n, 0)]), "\x00")
		sort.Strings(names)
		for _, x := range names {
			if x == "" {
				continue
			}
			v := make([]byte, 64<<10)
			n, err := unix.Lgetxattr(p, x, v)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %s=%x", x, v[:n])
		}
		lines[name] = line
		return nil
	}))
	return lines
}

// grower changes a tree at random.
type grower struct {
	t    *testing.T
	rng  *rand.Rand
	root string
}

var randomNames = []string{"a", "b", "c", "d", "e.txt", "new\nline", "\xff\xfe", " ", "-rf", "ä", strings.Repeat("n", 255), "*", `\`}

// place is a path below the root that may or may not be there; most are not deep.
func (g *grower) place() string {
	p := g.root
	for range 1 + g.rng.IntN(3) {
		p = filepath.Join(p, randomNames[g.rng.IntN(len(randomNames))])
	}
	return p
}

func (g *grower) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.rng.Uint32() >> uint(g.rng.IntN(8)))
	}
	return b
}

// step makes one change. Those that make no sense where they fall, such as one below a file, fail and are none.
func (g *grower) step() {
	p, q := g.place(), g.place()
	var st unix.Stat_t
	there := unix.Lstat(p, &st) == nil
	regular := there && st.Mode&unix.S_IFMT == unix.S_IFREG
	switch g.rng.IntN(20) {
	case 0, 1, 2, 3:
		os.MkdirAll(filepath.Dir(p), 0o755)
		if !there || regular {
			os.WriteFile(p, g.bytes(g.rng.IntN(3)*g.rng.IntN(100_000)), 0o644)
		}
	case 4: // the same size and time of modification: only the change time tells
		if regular && st.Size > 0 {
			if f, err := os.OpenFile(p, os.O_WRONLY, 0); err == nil {
				f.WriteAt(g.bytes(1), g.rng.Int64N(st.Size))
				f.Close()
				unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
			}
		}
	case 5:
		if regular {
			if f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0); err == nil {
				f.Write(g.bytes(g.rng.IntN(5000)))
				f.Close()
			}
		}
	case 6: // shorter, or a hole at the end
		if regular {
			os.Truncate(p, g.rng.Int64N(2*st.Size+1))
		}
	case 7: // a hole before
		if f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0o600); err == nil {
			f.WriteAt(g.bytes(1+g.rng.IntN(5000)), g.rng.Int64N(6<<20))
			f.Close()
		}
	case 8:
		if there && st.Mode&unix.S_IFMT != unix.S_IFLNK {
			unix.Chmod(p, g.rng.Uint32()&0o7777|0o400)
		}
	case 9:
		os.Lchown(p, g.rng.IntN(3)*1000, g.rng.IntN(3)*1000)
	case 10:
		at := unix.Timespec{Sec: g.rng.Int64N(8e9) - 2e9, Nsec: g.rng.Int64N(1e9)}
		unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
	case 11:
		name := []string{"user.a", "user.b", "trusted.c", "security.d"}[g.rng.IntN(4)]
		if g.rng.IntN(3) == 0 {
			unix.Lremovexattr(p, name)
		} else {
			unix.Lsetxattr(p, name, g.bytes(g.rng.IntN(300)), 0)
		}
	case 12:
		os.Link(p, q)
	case 13, 14:
		os.Rename(p, q)
	case 15:
		os.Remove(p)
	case 16:
		os.Symlink(randomNames[g.rng.IntN(len(randomNames))], p)
	case 17:
		os.Mkdir(p, 0o700|os.FileMode(g.rng.IntN(0o100)))
	case 18:
		if g.rng.IntN(4) > 0 {
			unix.Mkfifo(p, 0o640)
		} else if there { // else what is above may be a pipe, and RemoveAll waits for who writes it
			os.RemoveAll(p)
		}
	case 19: // saved as editors do, into the inode number that has just become free
		if regular {
			os.Remove(p)
			os.WriteFile(p, g.bytes(int(min(st.Size, 1<<20))), 0o644)
			unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
		}
	}
}
