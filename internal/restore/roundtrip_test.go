package restore_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/restore"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/target"
	"github.com/generalbots/backupd/repo"
)

// plantAllKinds makes one of everything a file system has. What only root may
// make is left out for others.
func plantAllKinds(t testing.TB, root string) {
	t.Helper()
	write(t, root, map[string]string{
		"empty": "", "small": "x", "d/e/f/deep": "deep", "none/": "", "ro/inside": "read only",
		"odd/new\nline": "1", "odd/\xff\xfe": "2", "odd/" + strings.Repeat("n", 255): "3", "odd/..x": "4", "odd/ ": "5",
	})
	must(t, os.WriteFile(root+"/medium", noise(1, 700<<10), 0o600))
	must(t, os.WriteFile(root+"/twice", noise(1, 700<<10), 0o604))
	must(t, os.WriteFile(root+"/many", noise(2, 3<<20), 0o640)) // more chunks than stand in an entry
	must(t, os.WriteFile(root+"/zeros", make([]byte, 1<<20), 0o644))
	must(t, os.Symlink("/etc/passwd", root+"/absolute"))
	must(t, os.Symlink("../../../nowhere", root+"/d/dangling"))
	must(t, os.Symlink(strings.Repeat("l", 4000), root+"/long"))
	must(t, unix.Mkfifo(root+"/fifo", 0o620))
	must(t, unix.Mknod(root+"/socket", unix.S_IFSOCK|0o660, 0))
	must(t, os.Link(root+"/medium", root+"/d/medium link"))
	must(t, os.Link(root+"/medium", root+"/zz medium link"))
	must(t, os.Link(root+"/empty", root+"/d/e/empty link"))
	linked := []string{"absolute", "fifo", "socket"}

	sparse, err := os.Create(root + "/sparse")
	must(t, err)
	for _, off := range []int64{0, 1 << 20, 9<<20 + 4096} {
		_, err = sparse.WriteAt(noise(uint64(off), 900<<10), off)
		must(t, err)
	}
	must(t, sparse.Truncate(40<<20))
	must(t, sparse.Close())
	must(t, os.WriteFile(root+"/hole", nil, 0o600))
	must(t, os.Truncate(root+"/hole", 64<<20))

	must(t, unix.Setxattr(root+"/small", "user.comment", []byte("v\x00al"), 0))
	must(t, unix.Setxattr(root+"/small", "user.empty", nil, 0))
	must(t, unix.Setxattr(root+"/d", "user.dir", []byte("on a directory"), 0))
	// user::rw- user:1234:r-- group::r-- mask::r-- other::---
	acl := "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xd2\x04\x00\x00" + "\x04\x00\x04\x00\xff\xff\xff\xff" +
		"\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
	must(t, unix.Setxattr(root+"/twice", "system.posix_acl_access", []byte(acl), 0))
	must(t, unix.Setxattr(root+"/none", "system.posix_acl_default", []byte(acl), 0))
	if os.Geteuid() == 0 {
		must(t, unix.Mknod(root+"/char", unix.S_IFCHR|0o640, int(unix.Mkdev(1, 3))))
		must(t, unix.Mknod(root+"/block", unix.S_IFBLK|0o600, int(unix.Mkdev(7, 99))))
		must(t, unix.Setxattr(root+"/small", "trusted.secret", []byte("t"), 0))
		linked = append(linked, "char", "block")
		must(t, os.Lchown(root+"/absolute", 12, 34))
		must(t, os.Lchown(root+"/d/e", 1000, 2000))
		must(t, os.Lchown(root+"/medium", 4000000000, 7))
		write(t, root, map[string]string{"suid": "s", "sgid": "g"})
		must(t, os.Chown(root+"/suid", 77, 78))
		must(t, unix.Setxattr(root+"/sgid", "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
		must(t, unix.Chmod(root+"/suid", 0o4755))
		must(t, unix.Chmod(root+"/d", 0o3771))
	}
	for _, name := range linked { // which is not for regular files alone
		must(t, os.Link(root+"/"+name, root+"/d/"+name+" link"))
		must(t, os.Link(root+"/"+name, root+"/zz "+name+" link"))
	}
	must(t, unix.Chmod(root+"/small", 0o000))
	if os.Geteuid() != 0 {
		must(t, unix.Chmod(root+"/small", 0o400))
	}
	stamp(t, root)
	must(t, unix.Chmod(root+"/ro", 0o555))
}

// stamp gives everything below root a time of its own, some before 1970.
func stamp(t testing.TB, root string) {
	t.Helper()
	var all []string
	must(t, filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
		all = append(all, p)
		return err
	}))
	for i := len(all) - 1; i >= 0; i-- {
		ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: int64(i*7919) - 20000, Nsec: int64(i * 1234567 % 1e9)}}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, all[i], ts, unix.AT_SYMLINK_NOFOLLOW))
	}
}

func TestRun_BringsBackAllKinds(t *testing.T) {
	src := filepath.Join(scratch(t), "src")
	must(t, os.Mkdir(src, 0o751))
	plantAllKinds(t, src)
	f := newRepo(t)
	m := f.backup(t, src)
	want := snapshotOf(t, src)

	out := filepath.Join(scratch(t), "out")
	rep := into(t, f.reopen(t), m, out, restore.Options{Verify: true})
	wantClean(t, rep)
	wantSame(t, want, snapshotOf(t, out+src))
	links := uint64(3 + 2*3)
	if os.Geteuid() == 0 {
		links += 2 * 2 // devices
	}
	if rep.Links != links || rep.Verified != rep.Files {
		t.Errorf("got %d links, %d of %d files verified", rep.Links, rep.Verified, rep.Files)
	}
	var st unix.Stat_t
	for name, most := range map[string]int64{"sparse": 2800 << 10, "hole": 0} {
		must(t, unix.Stat(out+src+"/"+name, &st))
		if st.Blocks*512 > most {
			t.Errorf("%s takes %d bytes, want at most %d: its holes were filled", name, st.Blocks*512, most)
		}
	}
	// The directories above the path came along with their metadata.
	var a, b unix.Stat_t
	must(t, unix.Stat(filepath.Dir(src), &a))
	must(t, unix.Stat(out+filepath.Dir(src), &b))
	if a.Mode != b.Mode || a.Mtim != b.Mtim {
		t.Errorf("directory above: got mode %o time %v, want %o %v", b.Mode, b.Mtim, a.Mode, a.Mtim)
	}
}

// Over itself, what is the same is found to be and not written again.
func TestRun_OverItselfWritesNothing(t *testing.T) {
	src := filepath.Join(scratch(t), "src")
	must(t, os.Mkdir(src, 0o751))
	plantAllKinds(t, src)
	f := newRepo(t)
	m := f.backup(t, src)
	out := scratch(t)
	into(t, f.Repo, m, out, restore.Options{})
	before := snapshotOf(t, out+src)
	ctimes := ctimesOf(t, out+src)

	rep := into(t, f.Repo, m, out, restore.Options{Overwrite: target.IfChanged})
	wantClean(t, rep)
	if n := rep.Files + rep.Symlinks + rep.Specials; n != 0 || rep.Identical != m.Totals.Files-rep.Links {
		t.Errorf("restored %d entries and %d links, found %d identical of %d", n, rep.Links, rep.Identical, m.Totals.Files)
	}
	wantSame(t, before, snapshotOf(t, out+src))
	for p, c := range ctimesOf(t, out+src) {
		if c != ctimes[p] {
			t.Errorf("%s was changed", p)
		}
	}

	// Never is the default and lists what stood in the way.
	rep = into(t, f.Repo, m, out, restore.Options{})
	if rep.ExistingCount != m.Totals.Files || rep.Files != 0 || len(rep.Existing) != int(m.Totals.Files) {
		t.Errorf("never: got %d existing, %d restored; want all %d existing", rep.ExistingCount, rep.Files, m.Totals.Files)
	}
	wantSame(t, before, snapshotOf(t, out+src))

	// What changed since comes back, also under a hard link.
	must(t, os.WriteFile(out+src+"/many", []byte("changed"), 0o600))
	must(t, os.Remove(out+src+"/d/medium link"))
	must(t, os.Remove(out+src+"/fifo"))
	rep = into(t, f.Repo, m, out, restore.Options{Overwrite: target.IfChanged, Verify: true})
	if rep.Files != 2 || rep.Links != 3 || rep.Specials != 0 || rep.ProblemCount > 0 {
		t.Errorf("if-changed after changes: %+v", rep)
	}
	// What could only be linked to something that was left alone is there, but no link: that is not how it was.
	must(t, os.Remove(out+src+"/zz medium link"))
	must(t, os.Chmod(out+src+"/medium", 0o604)) // left alone, as size and time are the same, but no longer what it was
	rep = into(t, f.Repo, m, out, restore.Options{Overwrite: target.IfChanged, Verify: true})
	if rep.Files != 1 || rep.ProblemCount != 1 || rep.Problems[0].Op != "link" || rep.Problems[0].Path != restore.Path(src+"/zz medium link") {
		t.Errorf("if-changed after a further name went: %+v", rep)
	}
	rep = into(t, f.Repo, m, out, restore.Options{Overwrite: target.Always, Verify: true})
	wantClean(t, rep)
	wantSame(t, before, snapshotOf(t, out+src))
}

// ctimesOf tells when anything but directories was last touched.
func ctimesOf(t testing.TB, root string) map[string]unix.Timespec {
	t.Helper()
	times := make(map[string]unix.Timespec)
	must(t, filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && !d.IsDir() {
			err = unix.Lstat(p, &st)
			times[p] = st.Ctim
		}
		return err
	}))
	return times
}

// Random trees, each restored whole, compared entry by entry.
func TestRun_BringsBackRandomTrees(t *testing.T) {
	f := newRepo(t)
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			src := filepath.Join(scratch(t), "src")
			must(t, os.Mkdir(src, 0o755))
			plantRandom(t, rand.New(rand.NewPCG(seed, 1)), src, 500)
			m := f.backup(t, src)
			out := filepath.Join(scratch(t), "out")
			start := time.Now()
			wantClean(t, into(t, f.Repo, m, out, restore.Options{Verify: seed%2 == 0, Workers: int(seed%3) + 1}))
			t.Logf("restored in %v", time.Since(start))
			wantSame(t, snapshotOf(t, src), snapshotOf(t, out+src))
		})
	}
}

// plantRandom makes n entries in random directories.
func plantRandom(t testing.TB, rng *rand.Rand, root string, n int) {
	t.Helper()
	dirs, files := []string{root}, []string(nil)
	for i := range n {
		p := fmt.Sprintf("%s/%c%d", dirs[rng.IntN(len(dirs))], 'a'+rune(rng.IntN(26)), i)
		switch rng.IntN(12) {
		case 0, 1:
			must(t, os.Mkdir(p, 0o700|os.FileMode(rng.IntN(64))))
			dirs = append(dirs, p)
		case 2:
			must(t, os.Symlink(dirs[rng.IntN(len(dirs))], p))
		case 3:
			if len(files) > 0 {
				must(t, os.Link(files[rng.IntN(len(files))], p))
				continue
			}
			fallthrough
		case 4: // sparse
			w, err := os.Create(p)
			must(t, err)
			end := int64(0)
			for range rng.IntN(5) {
				off := end + int64(rng.IntN(64))*4096
				b := noise(rng.Uint64(), 1+rng.IntN(100<<10))
				_, err := w.WriteAt(b, off)
				must(t, err)
				end = off + int64(len(b))
			}
			must(t, w.Truncate(end+int64(rng.IntN(1<<20))))
			must(t, w.Close())
			files = append(files, p)
		default:
			size := rng.IntN(2000)
			if rng.IntN(10) == 0 {
				size = rng.IntN(1 << 20)
			}
			must(t, os.WriteFile(p, noise(uint64(rng.IntN(20)), size), 0o400|os.FileMode(rng.IntN(0o400))))
			files = append(files, p)
		}
	}
	stamp(t, root)
}

// A file that spans several windows, and a tree of more entries than a window
// has; both cost no more memory than a small restore.
func TestRun_CutsWhatIsLargeIntoWindows(t *testing.T) {
	src := filepath.Join(scratch(t), "src")
	must(t, os.Mkdir(src, 0o755))
	big, err := os.Create(src + "/big")
	must(t, err)
	for i := range 70 {
		_, err := big.Write(noise(uint64(i), 1<<20))
		must(t, err)
	}
	must(t, big.Close())
	for i := range 2600 {
		write(t, src, map[string]string{fmt.Sprintf("d%d/%d", i%40, i): fmt.Sprint(i)})
	}
	stamp(t, src)
	f := newRepo(t)
	m := f.backup(t, src)
	out := filepath.Join(scratch(t), "out")
	wantClean(t, into(t, f.Repo, m, out, restore.Options{}))
	wantSame(t, snapshotOf(t, src), snapshotOf(t, out+src))
}

// What a backup takes a restore gives back, however deep, and what is deeper the backup says that it leaves out.
func TestRun_RestoresAsDeepAsABackupGoes(t *testing.T) {
	dir := scratch(t)
	defer exec.Command("rm", "-rf", dir).Run() // with fewer descriptors than what testing removes with
	src := dir + "/src"
	above := strings.Count(src, "/") // directories above what is in it, the root not counted
	bottom := repo.MaxTreeDepth - 1 - above
	dig := func(root string, depth int, last func(fd int)) {
		fd, err := unix.Open(root, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		for range depth {
			if err := unix.Mkdirat(fd, "d", 0o755); err != unix.EEXIST {
				must(t, err)
			}
			next, err := unix.Openat(fd, "d", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			must(t, err)
			must(t, unix.Close(fd))
			fd = next
		}
		last(fd)
		must(t, unix.Close(fd))
	}
	must(t, os.Mkdir(src, 0o755))
	dig(src, bottom, func(fd int) { must(t, unix.Symlinkat("the bottom", fd, "link")) })
	f := newRepo(t)
	m := f.backup(t, src)
	if m.Totals.Dirs != repo.MaxTreeDepth || m.Totals.Files != 1 {
		t.Errorf("the snapshot has %d directories and %d files", m.Totals.Dirs, m.Totals.Files)
	}
	out := dir + "/out"
	rep := into(t, f.Repo, m, out, restore.Options{})
	wantClean(t, rep)
	if rep.Dirs != repo.MaxTreeDepth || rep.Symlinks != 1 {
		t.Errorf("restored %d directories and %d links", rep.Dirs, rep.Symlinks)
	}
	dig(out+src, bottom, func(fd int) {
		buf := make([]byte, 100)
		n, err := unix.Readlinkat(fd, "link", buf)
		if err != nil || string(buf[:n]) != "the bottom" {
			t.Errorf("at the bottom: %q, %v", buf[:n], err)
		}
	})

	dig(src, bottom+1, func(fd int) {})
	s, err := source.NewFiles(source.FilesOptions{Paths: []string{src}})
	must(t, err)
	part := repo.Part{Source: "files", Kind: "files", Profile: "files", Paths: [][]byte{[]byte(src)}}
	deeper, err := backup.Run(t.Context(), f.Repo, []backup.Part{{Part: part, From: s}}, backup.Options{Type: backup.Full, Host: "here"}, new(backup.Progress))
	must(t, err)
	if p := deeper.Snapshot.Problems; len(p) != 1 || !strings.Contains(p[0].Text, "nested deeper") {
		t.Errorf("one level more: %+v", p)
	}
	wantClean(t, into(t, f.Repo, deeper.Snapshot, dir+"/again", restore.Options{}))
}
