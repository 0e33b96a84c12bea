package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// plantForTar makes what tar can hold and readers of it get wrong most easily.
func plantForTar(t *testing.T, root string) {
	file := func(name, content string) {
		ok(t, os.MkdirAll(filepath.Dir(root+"/"+name), 0o755))
		ok(t, os.WriteFile(root+"/"+name, []byte(content), 0o644))
	}
	long := func(letter string, n int) string { return strings.Repeat(letter, n) }
	deep := long("a", 200) + "/" + long("b", 200) + "/" + long("c", 200) + "/"
	for _, name := range []string{
		long("p", 101), long("n", 255), deep + "file", "zz/" + long("d", 120) + "/f", " ", "-rf", `a\b`, `a\nb`, `a\101`, "new\nline", "ä",
		"\xff\xfename", "dir\x81/in", "attributes", "suid", "capable", "old", "older", "late", "zero", "many",
	} {
		file(name, "content of "+name)
	}
	ok(t, os.Truncate(root+"/zero", 0))
	ok(t, os.WriteFile(root+"/many", bytes.Repeat([]byte("0123456789"), 300_000), 0o600))
	ok(t, os.Truncate(root+"/late", 1<<20)) // its end is a hole
	ok(t, os.Symlink(long("t", 150), root+"/link"))
	ok(t, os.Symlink(long("/t", 2000), root+"/longest link"))
	ok(t, os.Symlink("\xfftarget", root+"/l\xff"))
	ok(t, unix.Mkfifo(root+"/fifo", 0o620))
	for _, name := range []string{"empty", "shared", "inherits"} {
		ok(t, os.Mkdir(root+"/"+name, 0o750))
	}
	acl := "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xd2\x04\x00\x00" + "\x04\x00\x05\x00\xff\xff\xff\xff" +
		"\x08\x00\x07\x00\x4d\x00\x00\x00" + "\x10\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x01\x00\xff\xff\xff\xff"
	set := func(name, attribute, value string) {
		ok(t, unix.Lsetxattr(root+"/"+name, attribute, []byte(value), 0))
	}
	set("attributes", "system.posix_acl_access", acl)
	set("inherits", "system.posix_acl_default", acl)
	set("inherits", "system.posix_acl_access", acl)
	set("attributes", "user.binary", "\x00\xff\n=1")
	set("attributes", "user.empty", "")
	set("empty", "user.of a directory", "d")
	linked := []string{"attributes", "link", "fifo", "\xff\xfename"}
	if os.Geteuid() == 0 {
		linked = append(linked, "char", "block")
		ok(t, unix.Mknod(root+"/char", unix.S_IFCHR|0o640, int(unix.Mkdev(300, 70_000))))
		ok(t, unix.Mknod(root+"/block", unix.S_IFBLK|0o600, int(unix.Mkdev(7, 99))))
		ok(t, os.Lchown(root+"/link", 12, 34))
		ok(t, os.Chown(root+"/old", 4_000_000_000, 3_000_000))
		ok(t, os.Chown(root+"/suid", 77, 78))
		ok(t, os.Chmod(root+"/suid", 0o755|os.ModeSetuid))
		set("attributes", "trusted.t", "t")
		set("capable", "security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	}
	ok(t, os.Chmod(root+"/shared", 0o770|os.ModeSetgid|os.ModeSticky))
	for _, name := range linked {
		ok(t, os.Link(root+"/"+name, root+"/"+deep+name+" again"))
		ok(t, os.Link(root+"/"+name, root+"/zz/"+name+" again"))
	}
	for name, at := range map[string]unix.Timespec{
		"old": {Sec: -300_000_000}, "older": {Sec: -9_000_000_000}, "late": {Sec: 10_400_000_000, Nsec: 1}, "link": {Sec: 1e9, Nsec: 999_999_999}, "empty": {Sec: 1e9, Nsec: 1},
	} {
		ok(t, unix.UtimesNanoAt(unix.AT_FDCWD, root+"/"+name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

// What dump writes comes back with the tar programs people have, all that the format can hold included, without a word
// from them. In a locale that knows no letters beyond ASCII libarchive complains of those that are UTF-8, and restores
// them. Times before 1970 are of whole seconds here: libarchive 3.6 reads a fraction of one the
// wrong way round.
func TestDump_ComesBackWithOtherTars(t *testing.T) {
	src := fastDir(t) // with attributes and ACLs
	plantForTar(t, src)
	b := newBench(t)
	b.must("repo", "backup", src)
	archive := filepath.Join(t.TempDir(), "tar")
	f, err := os.Create(archive)
	ok(t, err)
	defer f.Close()
	out, talk, code := b.run("repo", "dump", "latest", src)
	if code != 0 {
		t.Fatalf("dump: exit code %d\n%s", code, talk)
	}
	_, err = f.WriteString(out)
	ok(t, err)
	for name, args := range map[string][]string{
		"tar":    {"--acls", "--xattrs", "--xattrs-include=*", "--warning=no-unknown-keyword", "--warning=no-timestamp"},
		"bsdtar": {"--acls", "--xattrs"},
	} {
		t.Run(name, func(t *testing.T) {
			to := fastDir(t)
			locale := map[string]string{"tar": "C", "bsdtar": "C.UTF-8"}[name]
			run := func(name string, args ...string) string {
				cmd := exec.Command(name, args...)
				cmd.Env = append(os.Environ(), "LC_ALL="+locale)
				said, err := cmd.CombinedOutput()
				if err != nil {
					t.Errorf("%s: %v\n%.2000s", name, err, said)
				}
				return string(said)
			}
			if said := run(name, append(args, "--numeric-owner", "-xpf", archive, "-C", to)...); said != "" {
				t.Errorf("%s says:\n%.2000s", name, said)
			}
			if differs := run("rsync", "-aHAXn", "--checksum", "--itemize-changes", "--delete", "--numeric-ids", src+"/", to+src+"/"); differs != "" {
				t.Errorf("rsync finds differences:\n%.4000s", differs)
			}
			want, got := walkOwn(t, src), walkOwn(t, to+src)
			for p, line := range want {
				if got[p] != line {
					t.Errorf("%q:\n got %s\nwant %s", p, got[p], line)
				}
			}
		})
	}
}
