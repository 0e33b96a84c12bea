package restore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/restore"
	"github.com/generalbots/backupd/internal/target"
)

func inode(t testing.TB, p string) uint64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(p, &st))
	return st.Ino
}

// Names that are missing of a file that is there become links to it, if it is
// what would have been restored, and a file of their own if it only looks so.
func TestRun_LinksToWhatAnEarlierRunRestored(t *testing.T) {
	src := filepath.Join(scratch(t), "src")
	write(t, src, map[string]string{"a/first": string(noise(1, 300_000)), "b/": "", "c/": "", "a/empty": ""})
	for _, other := range []string{"b/second", "c/third"} {
		must(t, os.Link(src+"/a/first", src+"/"+other))
	}
	must(t, os.Link(src+"/a/empty", src+"/b/empty too"))
	stamp(t, src)
	f := newRepo(t)
	m := f.backup(t, src)
	for _, overwrite := range []target.Overwrite{target.Never, target.IfChanged} {
		for _, change := range []string{"", "content", "mode"} {
			t.Run(fmt.Sprint(overwrite, change), func(t *testing.T) {
				out := scratch(t)
				into(t, f.Repo, m, out, restore.Options{Paths: paths(src + "/a")})
				first := out + src + "/a/first"
				var st unix.Stat_t
				must(t, unix.Lstat(first, &st))
				switch change {
				case "content":
					b := readAll(t, first)
					b[200_000] ^= 1
					must(t, os.WriteFile(first, b, 0o644))
					must(t, unix.UtimesNanoAt(unix.AT_FDCWD, first, []unix.Timespec{st.Atim, st.Mtim}, 0))
				case "mode":
					must(t, os.Chmod(first, 0o600))
				}
				was := string(readAll(t, first))
				into(t, f.Repo, m, out, restore.Options{Overwrite: overwrite})
				if string(readAll(t, first)) != was || inode(t, first) != st.Ino {
					t.Error("what was there was changed")
				}
				second, third := inode(t, out+src+"/b/second"), inode(t, out+src+"/c/third")
				if linked := second == st.Ino && third == st.Ino; linked != (change == "") {
					t.Errorf("inodes %d, %d, %d", st.Ino, second, third)
				}
				if inode(t, out+src+"/a/empty") != inode(t, out+src+"/b/empty too") {
					t.Error("the empty file has become two")
				}
				for _, p := range []string{"/b/second", "/c/third"} {
					if string(readAll(t, out+src+p)) != string(noise(1, 300_000)) {
						t.Errorf("%s: other bytes", p)
					}
				}
			})
		}
	}
}

// What is no regular file keeps its names together too: in one run, over several, and without what it never was.
func TestRun_LinksWhatIsNoRegularFile(t *testing.T) {
	src := filepath.Join(scratch(t), "src")
	write(t, src, map[string]string{"a/": "", "b/": ""})
	must(t, os.Symlink("../nowhere", src+"/a/symlink"))
	must(t, unix.Mkfifo(src+"/a/fifo", 0o620))
	must(t, unix.Mknod(src+"/a/socket", unix.S_IFSOCK|0o660, 0))
	kinds := []string{"symlink", "fifo", "socket"}
	if os.Geteuid() == 0 {
		must(t, unix.Mknod(src+"/a/char", unix.S_IFCHR|0o640, int(unix.Mkdev(1, 3))))
		must(t, unix.Mknod(src+"/a/block", unix.S_IFBLK|0o600, int(unix.Mkdev(7, 99))))
		kinds = append(kinds, "char", "block")
	}
	for _, kind := range kinds {
		must(t, os.Link(src+"/a/"+kind, src+"/b/"+kind))
	}
	stamp(t, src)
	f := newRepo(t)
	m := f.backup(t, src)
	want := snapshotOf(t, src)
	out := scratch(t)
	rep := into(t, f.Repo, m, out, restore.Options{})
	wantClean(t, rep)
	wantSame(t, want, snapshotOf(t, out+src))
	if n := uint64(len(kinds)); rep.Links != n || rep.Symlinks+rep.Specials != n {
		t.Errorf("got %d links, %d symlinks and %d specials of %d inodes with two names", rep.Links, rep.Symlinks, rep.Specials, n)
	}
	if dry := into(t, f.Repo, m, scratch(t), restore.Options{DryRun: true}); dry.Links != rep.Links || dry.Specials != rep.Specials {
		t.Errorf("a dry run foresees %d links and %d specials, there were %d and %d", dry.Links, dry.Specials, rep.Links, rep.Specials)
	}
	for _, overwrite := range []target.Overwrite{target.Never, target.IfChanged, target.Always} {
		// One name alone, and the others of it later.
		out := scratch(t)
		wantClean(t, into(t, f.Repo, m, out, restore.Options{Paths: paths(src + "/b")}))
		was := inode(t, out+src+"/b/fifo")
		if rep := into(t, f.Repo, m, out, restore.Options{Overwrite: overwrite}); rep.ProblemCount > 0 {
			t.Errorf("mode %d: %+v", overwrite, rep.Problems)
		}
		for _, kind := range kinds {
			if a, b := inode(t, out+src+"/a/"+kind), inode(t, out+src+"/b/"+kind); a != b && overwrite != target.Never {
				t.Errorf("mode %d: %s has become two", overwrite, kind)
			}
		}
		if overwrite == target.Never && inode(t, out+src+"/b/fifo") != was {
			t.Error("what was there was changed")
		}
		// The first name is there, another is missing.
		must(t, os.RemoveAll(out+src+"/b"))
		if rep := into(t, f.Repo, m, out, restore.Options{Overwrite: overwrite}); rep.ProblemCount > 0 {
			t.Errorf("mode %d, again: %+v", overwrite, rep.Problems)
		}
		for _, kind := range kinds {
			if inode(t, out+src+"/a/"+kind) != inode(t, out+src+"/b/"+kind) {
				t.Errorf("mode %d, again: %s has become two", overwrite, kind)
			}
		}
		// The first name is something else by now: a copy, and a word about it.
		must(t, unix.Chmod(out+src+"/a/fifo", 0o604))
		must(t, os.RemoveAll(out+src+"/b"))
		rep := into(t, f.Repo, m, out, restore.Options{Overwrite: overwrite})
		copied := problemOf(rep, src+"/b/fifo") != ""
		if same := inode(t, out+src+"/a/fifo") == inode(t, out+src+"/b/fifo"); same == copied || copied != (overwrite != target.Always) {
			t.Errorf("mode %d: linked %v, reported %v", overwrite, same, rep.Problems)
		}
	}
}

// A run that was cancelled is completed by the next one with the default
// overwriting, directories and their times included.
func TestRun_IsCompletedByTheNextAfterACancel(t *testing.T) {
	src := filepath.Join(scratch(t), "src")
	must(t, os.Mkdir(src, 0o755))
	plantAllKinds(t, src)
	for i := range 300 {
		write(t, src, map[string]string{fmt.Sprintf("lots/%d/%03d", i%9, i): string(noise(uint64(i), 20_000))})
	}
	stamp(t, src)
	f := newRepo(t)
	m := f.backup(t, src)
	want := snapshotOf(t, src)
	begun := 0
	for n := 0; n < 8 || begun < 2 && n < 80; n++ { // who cancels may come late on a busy machine
		i := n % 8
		out := filepath.Join(scratch(t), "out")
		ctx, cancel := context.WithCancel(t.Context())
		var p restore.Progress
		go func() {
			for ctx.Err() == nil && (p.TotalBytes.Load() == 0 || p.Bytes.Load() < p.TotalBytes.Load()*int64(i)/8) {
				time.Sleep(100 * time.Microsecond)
			}
			cancel()
		}()
		d, err := target.OpenDirectory(out, target.Options{Privileged: os.Geteuid() == 0})
		must(t, err)
		_, err = restore.Run(ctx, f.Repo, m, d, restore.Options{}, &p)
		cancel()
		must(t, d.Close())
		if err != nil && listing(t, out) != "" {
			begun++
		}
		if strings.Contains(listing(t, out), ".backupd-") {
			t.Error("a stage is left")
		}
		into(t, f.Repo, m, out, restore.Options{})
		wantSame(t, want, snapshotOf(t, out+src))
		if t.Failed() {
			t.Fatalf("cancelled after %d bytes of %d", p.Bytes.Load(), p.TotalBytes.Load())
		}
	}
	if begun < 2 {
		t.Errorf("only %d of 80 runs were cancelled between their begin and their end", begun)
	}
}
