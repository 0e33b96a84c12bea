package source_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/source/sourcetest"
	"golang.org/x/sys/unix"
)

func TestScan_TellsAllThatLstatTells(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f")
	must(t, os.Link(root+"/f", root+"/g"))
	must(t, os.Chmod(root+"/f", 0o4711|os.ModeSetuid))
	when := time.Unix(-12345, 987654321)
	must(t, os.Chtimes(root+"/f", when, when))
	if isRoot() {
		must(t, os.Lchown(root+"/f", 1234567, 7654321))
		must(t, os.Chmod(root+"/f", 0o711|os.ModeSetuid))
	}
	var st unix.Stat_t
	must(t, unix.Lstat(root+"/f", &st))
	seen := collected(t, root, source.FilesOptions{Paths: []string{root}})
	got := seen["f"].Entry
	if got.Size != 1 || got.Mode != st.Mode&0o7777 || got.UID != st.Uid || got.GID != st.Gid || got.Nlink != 2 || got.Ino != st.Ino ||
		got.Dev != st.Dev || got.Blocks != st.Blocks || got.Mtime != (source.Time{Sec: -12345, Nsec: 987654321}) ||
		got.Ctime != (source.Time{Sec: st.Ctim.Sec, Nsec: uint32(st.Ctim.Nsec)}) {
		t.Errorf("got %+v, want %+v", got, st)
	}
	if g := seen["g"].Entry; g.Ino != got.Ino || g.Dev != got.Dev || g.Name != "g" {
		t.Errorf("got %+v for the other hard link, want the same inode", g)
	}
}

func TestScan_NamesOwners(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f", "nobody knows")
	if !isRoot() {
		return
	}
	must(t, os.Lchown(root+"/f", 0, 0))
	must(t, os.Lchown(root+"/nobody knows", 1234567, 7654321))
	seen := collected(t, root, source.FilesOptions{Paths: []string{root}})
	if d := seen["f"].Details; d.User != "root" || d.Group != "root" {
		t.Errorf("got owner %q and group %q, want root", d.User, d.Group)
	}
	if d := seen["nobody knows"].Details; d.User != "" || d.Group != "" {
		t.Errorf("got owner %q and group %q, want none", d.User, d.Group)
	}
}

func TestScan_NeverOpensWhatIsNotAFile(t *testing.T) {
	root := t.TempDir()
	must(t, unix.Mkfifo(root+"/fifo", 0o640))
	l, err := net.Listen("unix", root+"/socket")
	must(t, err)
	defer l.Close()
	want := map[string]source.Type{"fifo": source.FIFO, "socket": source.Socket}
	if isRoot() {
		must(t, unix.Mknod(root+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		must(t, unix.Mknod(root+"/loop", unix.S_IFBLK|0o660, int(unix.Mkdev(7, 4095))))
		want["null"], want["loop"] = source.CharDevice, source.BlockDevice
	}
	f := newFiles(t, source.FilesOptions{Paths: []string{root}})
	got := map[string]source.Type{}
	for e, err := range f.Scan(t.Context()) {
		must(t, err)
		if e.Event == source.Leave {
			f.Release(&e)
		}
		if e.Event != source.Item {
			continue
		}
		got[e.Name] = e.Type
		if _, err := f.Details(&e); err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
		if _, err := f.Open(&e); err == nil {
			t.Errorf("%s: it was opened", e.Name)
		}
		if e.Name == "null" && (e.RdevMajor != 1 || e.RdevMinor != 3) || e.Name == "loop" && (e.RdevMajor != 7 || e.RdevMinor != 4095) {
			t.Errorf("%s: got device %d:%d", e.Name, e.RdevMajor, e.RdevMinor)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOpen_FindsThatTheFileWasReplaced(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"gone":      os.Remove,
		"file":      func(p string) error { return errors.Join(os.Rename(p, p+"~"), os.WriteFile(p, nil, 0o600)) },
		"fifo":      func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o600)) },
		"link":      func(p string) error { return errors.Join(os.Rename(p, p+"~"), os.Symlink(p+"~", p)) },
		"directory": func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) },
		"socket": func(p string) error {
			os.Remove(p)
			l, err := net.Listen("unix", p)
			if err == nil {
				l.(*net.UnixListener).SetUnlinkOnClose(false)
				l.Close()
			}
			return err
		},
	} {
		root := t.TempDir()
		write(t, root, "f")
		f := newFiles(t, source.FilesOptions{Paths: []string{root}})
		for e, err := range f.Scan(t.Context()) {
			must(t, err)
			if e.Event == source.Item {
				must(t, replace(root+"/f"))
				in, err := f.Open(&e)
				if name == "file" {
					must(t, err)
					if o := in.Opened(); o.Ino == e.Ino || o.Size != 0 {
						t.Errorf("%s: got %+v, want the file that took the place", name, o)
					}
					must(t, in.Close())
				} else if !errors.Is(err, source.ErrChanged) {
					t.Errorf("%s: got error %v from Open, want ErrChanged", name, err)
				}
				if _, err := f.Details(&e); !errors.Is(err, source.ErrChanged) {
					t.Errorf("%s: got error %v from Details, want ErrChanged", name, err)
				}
			}
			if e.Event == source.Leave {
				f.Release(&e)
			}
		}
	}
}

func TestOpen_LeavesTheAccessTimeAlone(t *testing.T) {
	root := t.TempDir()
	write(t, root, "d/f")
	long := time.Unix(1, 0)
	must(t, os.Chtimes(root+"/d/f", long, time.Now()))
	must(t, os.Chtimes(root+"/d", long, time.Now()))
	collected(t, root, source.FilesOptions{Paths: []string{root}})
	for _, p := range []string{"/d/f", "/d"} {
		var st unix.Stat_t
		must(t, unix.Lstat(root+p, &st))
		if st.Atim.Sec != 1 {
			t.Errorf("%s: reading it left an access time", p)
		}
	}
}

func TestFile_SeesThatItChanged(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f")
	f := newFiles(t, source.FilesOptions{Paths: []string{root}})
	for e, err := range f.Scan(t.Context()) {
		must(t, err)
		if e.Event == source.Leave {
			f.Release(&e)
		}
		if e.Event != source.Item {
			continue
		}
		file, err := f.Open(&e)
		must(t, err)
		defer file.Close()
		must(t, os.WriteFile(root+"/f", []byte("longer than before"), 0o644))
		now, err := file.Stat()
		must(t, err)
		if was := file.Opened(); was.Size != 1 || now.Size != 18 {
			t.Errorf("got size %d as opened and %d now, want 1 and 18", was.Size, now.Size)
		}
	}
}

func TestExtents_TellHoles(t *testing.T) {
	const mib = 1 << 20
	root := t.TempDir()
	sparse := func(name string, size int64, data ...source.Extent) {
		f, err := os.Create(filepath.Join(root, name))
		must(t, err)
		must(t, f.Truncate(size))
		for _, x := range data {
			_, err := f.WriteAt(bytes.Repeat([]byte{1}, int(x.Len)), x.Off)
			must(t, err)
		}
		must(t, f.Close())
	}
	want := map[string][]source.Extent{
		"hole":   nil,
		"middle": {{Off: mib, Len: mib}},
		"ends":   {{Off: 0, Len: mib}, {Off: 7 * mib, Len: mib}},
		"tail":   {{Off: 0, Len: mib}},
		"odd":    {{Off: 4 * mib, Len: 4097}},
	}
	sparse("hole", 8*mib)
	sparse("middle", 3*mib, want["middle"]...)
	sparse("ends", 8*mib, want["ends"]...)
	sparse("tail", 1<<40, want["tail"]...)
	sparse("odd", 0, want["odd"]...)
	if os.Truncate(filepath.Join(root, "hole"), math.MaxInt64) != nil {
		t.Log("this file system knows no file of the greatest size")
	}
	sparse("dense", mib, source.Extent{Len: mib})
	sparse("empty", 0)

	f := newFiles(t, source.FilesOptions{Paths: []string{root}})
	for e, err := range f.Scan(t.Context()) {
		must(t, err)
		if e.Event == source.Leave {
			f.Release(&e)
		}
		if e.Event != source.Item {
			continue
		}
		file, err := f.Open(&e)
		must(t, err)
		var first [1]byte
		n, _ := file.Read(first[:])
		got, isSparse, err := file.Extents()
		if err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
		w, wantSparse := want[e.Name]
		if isSparse != wantSparse || !slices.Equal(got, w) {
			t.Errorf("%s: got %v, sparse %v; want %v, %v", e.Name, got, isSparse, w, wantSparse)
		}
		if at, _ := file.Read(first[:]); e.Size > 1 && (n != 1 || at != 1) {
			t.Errorf("%s: Extents moved the place that is read", e.Name)
		}
		must(t, file.Close())
	}
}

// acl is the attribute form of an access control list: version 2, then tag, permissions and id of each entry.
func acl(entries ...[3]uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}

func TestDetails_HoldExtendedAttributes(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f", "d/", "none")
	must(t, os.Symlink("f", root+"/l"))
	const none = 1<<32 - 1
	list := acl([3]uint32{1, 7, none}, [3]uint32{2, 5, 4711}, [3]uint32{4, 5, none}, [3]uint32{16, 7, none}, [3]uint32{32, 0, none})
	type attr struct{ file, name, value string }
	attrs := []attr{
		{"f", "user.b", "two"}, {"f", "user.a", ""}, {"f", "user.bytes", "\x00\xff"}, {"f", "user.\xff", "name"},
		{"f", "system.posix_acl_access", string(list)},
		{"d", "user.on a directory", "x"}, {"d", "system.posix_acl_default", string(list)},
	}
	if isRoot() {
		capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		attrs = append(attrs, attr{"f", "security.capability", capability}, attr{"f", "trusted.t", "t"}, attr{"l", "trusted.of the link", "itself"})
	}
	want := map[string][]source.Xattr{}
	for _, a := range attrs {
		must(t, unix.Lsetxattr(filepath.Join(root, a.file), a.name, []byte(a.value), 0))
		want[a.file] = append(want[a.file], source.Xattr{Name: a.name, Value: []byte(a.value)})
	}
	equal := func(a, b source.Xattr) bool { return a.Name == b.Name && bytes.Equal(a.Value, b.Value) }
	check := func(name string, got []source.Xattr) {
		w := slices.SortedFunc(slices.Values(want[name]), func(a, b source.Xattr) int { return strings.Compare(a.Name, b.Name) })
		// A security module of the host may add its own.
		got = slices.DeleteFunc(slices.Clone(got), func(x source.Xattr) bool { return x.Name == "security.selinux" })
		if !slices.EqualFunc(got, w, equal) {
			t.Errorf("%s: got %q, want %q", name, got, w)
		}
	}
	f := newFiles(t, source.FilesOptions{Paths: []string{root}})
	for p, e := range sourcetest.Checked(t, f, t.Context()) {
		p, below := strings.CutPrefix("/"+p, root+"/")
		if below {
			d, err := f.Details(&e) // of Leave too
			must(t, err)
			check(p, d.Xattrs)
		}
		if e.Type == source.Regular {
			file, err := f.Open(&e)
			must(t, err)
			d, err := file.Details()
			must(t, err)
			check(p, d.Xattrs)
			must(t, file.Close())
		}
		if e.Event == source.Leave {
			f.Release(&e)
		}
	}
}

func TestDetails_OfADirectoryAboveAPath(t *testing.T) {
	root := t.TempDir()
	write(t, root, "a/b")
	must(t, unix.Setxattr(root+"/a", "user.x", []byte("y"), 0))
	seen := collected(t, root, source.FilesOptions{Paths: []string{root + "/a/b"}})
	if s := seen["a"]; s.Err != nil || len(s.Details.Xattrs) != 1 || string(s.Details.Xattrs[0].Value) != "y" {
		t.Errorf("got %+v, error %v", s.Details, s.Err)
	}
}

func TestDetails_AreLimited(t *testing.T) {
	root := ramDir(t) // takes attributes of any total size
	write(t, root, "large", "many", "fine")
	set := func(file, name string, size int) {
		t.Helper()
		must(t, unix.Setxattr(root+"/"+file, name, bytes.Repeat([]byte("v"), size), 0))
	}
	set("fine", "user.v", 60<<10)
	if isRoot() { // tmpfs counts those of users against a small limit
		for i := range 20 {
			set("large", fmt.Sprintf("trusted.%02d", i), 60<<10)
		}
	}
	seen := collected(t, root, source.FilesOptions{Paths: []string{root}})
	if s := seen["fine"]; s.Err != nil || len(s.Details.Xattrs) != 1 {
		t.Errorf("got %d attributes and error %v, want one", len(s.Details.Xattrs), s.Err)
	}
	if s := seen["large"]; isRoot() && (!errors.Is(s.Err, source.ErrTooLarge) || !strings.Contains(s.Err.Error(), "trusted.17") || len(s.Details.Xattrs) != 17) {
		t.Errorf("got %d attributes and error %v; want 17 and ErrTooLarge that names trusted.17", len(s.Details.Xattrs), s.Err)
	}
	if !isRoot() {
		return
	}
	for i := range 400 { // 400 names of 200 bytes
		set("many", fmt.Sprintf("trusted.%03d%s", i, strings.Repeat("n", 200)), 0)
	}
	seen = collected(t, root, source.FilesOptions{Paths: []string{root}})
	if s := seen["many"]; !errors.Is(s.Err, source.ErrTooLarge) || !strings.Contains(s.Err.Error(), "names") {
		t.Errorf("got error %v, want ErrTooLarge about the names", s.Err)
	}
}
