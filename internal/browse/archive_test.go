package browse_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/browse"
	"github.com/generalbots/backupd/repo"
)

// sow makes a tree of everything that an archive can hold.
func sow(t testing.TB, root string, names []string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(root, name) }
	must(t, os.MkdirAll(at("deep/er"), 0o750))
	must(t, os.Mkdir(at("empty"), 0o700))
	must(t, os.WriteFile(at("nothing"), nil, 0o600))
	must(t, os.WriteFile(at("big"), noise(1, 3<<20), 0o644))
	must(t, os.WriteFile(at("deep/er/run"), []byte("#!/bin/sh\n"), 0o755))
	must(t, os.Chmod(at("deep/er/run"), 0o755|os.ModeSetuid))
	must(t, os.Link(at("big"), at("deep/big too")))
	must(t, os.Link(at("big"), at("deep/er/big three")))
	must(t, os.Symlink("../nowhere", at("deep/link")))
	for i, name := range names {
		must(t, os.WriteFile(at("deep/"+name), []byte(strings.Repeat(name, i)), 0o640))
	}
	long := strings.Repeat("long/", 60)
	must(t, os.MkdirAll(at(long), 0o755))
	must(t, os.WriteFile(at(long+"end"), []byte("end"), 0o644))
	sparse, err := os.Create(at("sparse"))
	must(t, err)
	for _, off := range []int64{1 << 20, 5<<20 + 4096} {
		_, err = sparse.WriteAt(noise(uint64(off), 100_000), off)
		must(t, err)
	}
	must(t, sparse.Truncate(9<<20))
	must(t, sparse.Close())
	must(t, unix.Mkfifo(at("pipe"), 0o644))
	if err := unix.Setxattr(at("big"), "user.note", []byte("a\x00b=\n"), 0); err != nil && err != unix.ENOTSUP {
		t.Fatal(err)
	}
	stamp := time.Unix(1_600_000_000, 123_456_789)
	must(t, filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type()&os.ModeSymlink == 0 {
			err = os.Chtimes(p, stamp, stamp)
			stamp = stamp.Add(1234567 * time.Millisecond)
		}
		return err
	}))
}

// extract runs a program in a new directory on an archive and describes what it made of the tree at root.
func extract(t *testing.T, root string, archive []byte, file string, command ...string) map[string]string {
	t.Helper()
	out := t.TempDir()
	must(t, os.WriteFile(out+"/"+file, archive, 0o600))
	must(t, os.Mkdir(out+"/out", 0o755))
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir = out + "/out"
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if said, err := cmd.CombinedOutput(); err != nil || len(said) > 0 {
		t.Fatalf("%s: %v\n%s", command, err, said)
	}
	return describe(t, out+"/out"+root)
}

// installed leaves the commands whose program is here. The first has to be.
func installed(t testing.TB, commands [][]string) [][]string {
	t.Helper()
	return slices.DeleteFunc(commands, func(c []string) bool {
		_, err := exec.LookPath(c[0])
		if err != nil && c[0] == commands[0][0] {
			t.Fatal(err)
		}
		return err != nil
	})
}

func TestTar_IsWhatOtherProgramsExtract(t *testing.T) {
	f := newRepo(t)
	root := t.TempDir() + "/src"
	sow(t, root, hardNames)
	tree := f.backup(t, root)
	var b bytes.Buffer
	var p browse.ArchiveProgress
	must(t, tree.Tar(t.Context(), &b, root, &p, quiet(t)))
	want := describe(t, root)
	for _, command := range installed(t, [][]string{
		{"tar", "--xattrs", "--warning=no-unknown-keyword", "-xpf", "../a.tar"},
		{"bsdtar", "-xpf", "../a.tar"},
	}) {
		wantSame(t, want, extract(t, root, b.Bytes(), "a.tar", command...))
	}
	if files := p.Files.Load(); files != int64(len(hardNames)+5) || p.Bytes.Load() < 12<<20 {
		t.Errorf("counted %d files, %d bytes", files, p.Bytes.Load())
	}
}

func TestZip_IsWhatOtherProgramsExtract(t *testing.T) {
	f := newRepo(t)
	root := t.TempDir() + "/src"
	names := slices.DeleteFunc(slices.Clone(hardNames), func(name string) bool { return strings.Contains(name, `\`) })
	sow(t, root, names)
	tree := f.backup(t, root)
	var b bytes.Buffer
	var problems []string
	must(t, tree.Zip(t.Context(), &b, root, nil, func(at, text string) { problems = append(problems, at+": "+text) }))
	if !slices.Equal(problems, []string{root + "/pipe: a fifo can not be written to zip"}) {
		t.Errorf("problems: %q", problems)
	}
	must(t, os.Remove(root+"/pipe"))
	want := describe(t, root)
	got := map[string]string{}
	z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	must(t, err)
	for _, e := range z.File {
		in, err := e.Open()
		must(t, err)
		content, err := io.ReadAll(in)
		must(t, err)
		at := strings.TrimSuffix("/"+e.Name, "/")
		if at == root {
			continue
		}
		info, err := os.Lstat(at)
		must(t, err)
		line := fmt.Sprint(info.Mode(), " ", info.ModTime().Unix())
		got[strings.TrimPrefix(at, root)] = want[strings.TrimPrefix(at, root)]
		if have := fmt.Sprint(e.Mode(), " ", e.Modified.Unix()); have != line {
			t.Errorf("%q: %s, is %s", e.Name, have, line)
		}
		switch {
		case info.Mode().IsRegular():
			if kept, err := os.ReadFile(at); err != nil || !bytes.Equal(kept, content) {
				t.Errorf("%q: other content, %v", e.Name, err)
			}
		case info.Mode()&os.ModeSymlink != 0:
			if to, err := os.Readlink(at); err != nil || to != string(content) {
				t.Errorf("%q: leads to %q, %v", e.Name, content, err)
			}
		}
	}
	wantSame(t, want, got)
}

// entries reads an archive whole and names what is in it.
func entries(b []byte) (names []string, err error) {
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return names, nil
		}
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			return names, err
		}
		names = append(names, fmt.Sprintf("%c%s", h.Typeflag, h.Name))
	}
}

func zipped(t testing.TB, b []byte) (names []string) {
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		t.Fatal(err)
	}
	for _, e := range z.File {
		names = append(names, e.Name)
	}
	return names
}

// An archive never has two entries of one name, of which one could be a link and the other a way through it.
func TestArchives_HoldOneTreeOfAllParts(t *testing.T) {
	f := newRepo(t)
	tree := f.forge(t,
		func(fg *forger) []*repo.Entry {
			return []*repo.Entry{symlink("x", "/etc"), fg.dir("d", fg.file("both", "same"), fg.file("one", "1")), fg.file("differs", "a")}
		},
		func(fg *forger) []*repo.Entry {
			return []*repo.Entry{fg.dir("x", fg.file("passwd", "evil")), fg.dir("d", fg.file("both", "same"), fg.file("two", "2"), symlink("one", "/")), fg.file("differs", "b")}
		}, nil)
	hidden := []string{
		"/: part c failed when it was backed up and holds nothing",
		"/d/one: part b has something else under this name, which is left out",
		"/differs: part b has something else under this name, which is left out",
		"/x: part b has something else under this name, which is left out",
	}
	want := []string{"d/", "d/both", "d/one", "d/two", "differs", "x"}
	for _, kind := range []string{"tar", "zip"} {
		var b bytes.Buffer
		var problems []string
		note := func(at, text string) { problems = append(problems, at+": "+text) }
		var names []string
		if kind == "tar" {
			must(t, tree.Tar(t.Context(), &b, "/", nil, note))
			var err error
			names, err = entries(b.Bytes())
			must(t, err)
			for i := range names {
				names[i] = names[i][1:]
			}
		} else {
			must(t, tree.Zip(t.Context(), &b, "/", nil, note))
			names = zipped(t, b.Bytes())
		}
		if !slices.Equal(names, want) || !slices.Equal(problems, hidden) {
			t.Errorf("%s: %q\n%q", kind, names, problems)
		}
	}
	var b bytes.Buffer
	if err := tree.Tar(t.Context(), &b, "/d/none", nil, quiet(t)); !errors.Is(err, browse.ErrNoPath) || b.Len() > 0 {
		t.Errorf("of a path that is not there: %v, %d bytes", err, b.Len())
	}
}

// What an archive can not express is told, and costs nothing else.
func TestArchives_LeaveOutWhatTheyCanNotExpress(t *testing.T) {
	f := newRepo(t)
	tree := f.forge(t, func(fg *forger) []*repo.Entry {
		nul := fg.file("nul", "owner with a NUL")
		nul.User = "a\x00b"
		again := fg.file("again", "first name left out")
		again.Nlink, again.Inode, again.User = 2, 7, "a\x00b"
		third := renamed(again, "third")
		third.User = ""
		attrs := fg.file("attrs", "stays")
		attrs.Xattrs = []repo.Xattr{{Name: "user.a=b", Value: []byte("1")}, {Name: "user.huge", Value: make([]byte, 1<<20-100)}}
		return []*repo.Entry{
			nul, again, third, attrs, {Name: "sock", Type: repo.TypeSocket, Mode: 0o600, Nlink: 1},
			{Name: "device", Type: repo.TypeBlockDevice, Mode: 0o600, Nlink: 1, Major: 1 << 30, Minor: 1}, fg.file(`..\..\x`, "windows"),
		}
	})
	told := map[string]bool{}
	note := func(at, _ string) { told[at] = true }
	var b bytes.Buffer
	must(t, tree.Tar(t.Context(), &b, "/", nil, note))
	names, err := entries(b.Bytes())
	must(t, err)
	for at, want := range map[string]bool{"/nul": true, "/again": true, "/third": false, "/attrs": true, "/sock": true, "/device": true, `/..\..\x`: false} {
		if told[at] != want {
			t.Errorf("tar, %s: told is %v", at, told[at])
		}
	}
	for name, want := range map[string]bool{"0nul": false, "0again": false, "0third": true, "0attrs": true, "4device": false, `0..\..\x`: true} {
		if slices.Contains(names, name) != want {
			t.Errorf("tar: there is %s: %v", name, !want)
		}
	}
	clear(told)
	b.Reset()
	must(t, tree.Zip(t.Context(), &b, "/", nil, note))
	inZip := zipped(t, b.Bytes())
	if !told["/sock"] || !told["/device"] || !told[`/..\..\x`] || slices.ContainsFunc(inZip, func(s string) bool { return strings.Contains(s, `\`) }) {
		t.Errorf("zip: %v", told)
	}
	if want := []string{"again", "attrs", "nul", "third"}; !slices.Equal(inZip, want) {
		t.Errorf("zip: %q", inZip)
	}
}

func TestArchives_LeaveOutPathsLongerThanTheyHave(t *testing.T) {
	f := newRepo(t)
	const depth = 4200
	name := strings.Repeat("d", 255)
	tree := f.forge(t, func(fg *forger) []*repo.Entry {
		e := fg.file("end", "too deep")
		for range depth {
			e = fg.dir(name, e)
		}
		return []*repo.Entry{e}
	})
	var b bytes.Buffer
	for _, c := range []struct {
		write func(context.Context, io.Writer, string, *browse.ArchiveProgress, func(string, string)) error
		limit int
		names func() []string
	}{
		{tree.Tar, 1<<20 - 4096, func() []string { names, err := entries(b.Bytes()); must(t, err); return names }},
		{tree.Zip, 65_535, func() []string { return zipped(t, b.Bytes()) }},
	} {
		told := 0
		fits := c.limit / 256 // a name and a slash
		b.Reset()
		// The last but two that fit, and all below; what is written has none of what is above.
		at := strings.Repeat("/"+name, fits-2)
		must(t, c.write(t.Context(), &b, at, nil, func(string, string) { told++ }))
		if got := c.names(); len(got) != 3 || told != depth-fits+1 {
			t.Errorf("limit %d: has %d, told of %d", c.limit, len(got), told)
		}
	}
}

// A number of an inode that was used again is no link, and neither is the same number in another part.
func TestTar_LinksOnlyNamesOfOneFile(t *testing.T) {
	f := newRepo(t)
	linked := func(e *repo.Entry, inode uint64, nlink uint32) *repo.Entry {
		e.Inode, e.Nlink = inode, nlink
		return e
	}
	tree := f.forge(t,
		func(fg *forger) []*repo.Entry {
			return []*repo.Entry{linked(fg.file("a", "1"), 5, 2), linked(fg.file("b", "1"), 5, 2), linked(fg.file("c", "other"), 5, 2), linked(fg.file("d", "1"), 5, 2)}
		},
		func(fg *forger) []*repo.Entry { return []*repo.Entry{linked(fg.file("e", "1"), 5, 2)} })
	var b bytes.Buffer
	must(t, tree.Tar(t.Context(), &b, "/", nil, quiet(t)))
	if names, err := entries(b.Bytes()); err != nil || !slices.Equal(names, []string{"0a", "1b", "0c", "0d", "0e"}) {
		t.Errorf("%q %v", names, err)
	}
}

// rot breaks a byte in the middle of each data pack that is found by its size.
func rot(t testing.TB, dir string) {
	t.Helper()
	var largest string
	var size int64
	must(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil && info.Size() > size {
				largest, size = p, info.Size()
			}
		}
		return err
	}))
	must(t, os.Chmod(largest, 0o600))
	file, err := os.OpenFile(largest, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	var b [1]byte
	_, err = file.ReadAt(b[:], size/2)
	must(t, err)
	b[0] ^= 1
	_, err = file.WriteAt(b[:], size/2)
	must(t, err)
}

func TestArchives_OfDamagedFilesHaveNoEnd(t *testing.T) {
	f := newRepo(t)
	root := t.TempDir() + "/src"
	for i := range 8 {
		must(t, os.MkdirAll(root, 0o755))
		must(t, os.WriteFile(fmt.Sprintf("%s/%d", root, i), noise(uint64(i), 1<<20), 0o644))
	}
	tree := f.backup(t, root)
	id := tree.Snapshot().ID
	var whole bytes.Buffer
	must(t, tree.Tar(t.Context(), &whole, "/", nil, quiet(t)))
	f.damaged = true
	rot(t, f.dir)
	tree = f.tree(t, f.reopen(t), id)

	var b bytes.Buffer
	if err := tree.Tar(t.Context(), &b, "/", nil, quiet(t)); !errors.Is(err, repo.ErrDamaged) {
		t.Fatalf("tar: %v", err)
	}
	if b.Len() == 0 || b.Len() >= whole.Len() {
		t.Errorf("tar: %d bytes, the whole has %d", b.Len(), whole.Len())
	}
	if _, err := entries(b.Bytes()); err == nil {
		t.Error("tar: read to an end")
	}
	if _, err := entries(whole.Bytes()); err != nil {
		t.Errorf("tar: the whole: %v", err)
	}
	cut := t.TempDir() + "/cut.tar"
	must(t, os.WriteFile(cut, b.Bytes(), 0o600))
	if said, err := exec.CommandContext(t.Context(), "tar", "-tf", cut).CombinedOutput(); err == nil {
		t.Errorf("tar took it for whole: %s", said)
	}
	b.Reset()
	if err := tree.Zip(t.Context(), &b, "/", nil, quiet(t)); !errors.Is(err, repo.ErrDamaged) {
		t.Fatalf("zip: %v", err)
	}
	if _, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len())); err == nil {
		t.Error("zip: read to an end")
	}
}

// canceller ends a context when so many bytes were written.
type canceller struct {
	left   int
	cancel func()
}

func (c *canceller) Write(b []byte) (int, error) {
	if c.left -= len(b); c.left < 0 {
		c.cancel()
	}
	return len(b), nil
}

func TestArchives_EndWithTheirContext(t *testing.T) {
	f := newRepo(t)
	// All of it is one hole, so nothing is read that would notice.
	tree := f.forge(t, func(fg *forger) []*repo.Entry {
		return []*repo.Entry{{Name: "hole", Type: repo.TypeRegular, Mode: 0o644, Nlink: 1, Size: 1 << 50, Sparse: true}}
	})
	why := errors.New("enough")
	for kind, write := range map[string]func(context.Context, io.Writer, string, *browse.ArchiveProgress, func(string, string)) error{"tar": tree.Tar, "zip": tree.Zip} {
		ctx, cancel := context.WithCancelCause(t.Context())
		w := &canceller{1 << 14, func() { cancel(why) }}
		if err := write(ctx, w, "/", nil, quiet(t)); !errors.Is(err, why) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestContent_NeverPadsWhatIsMissing(t *testing.T) {
	f := newRepo(t)
	f.lies = true
	tree := f.forge(t, func(fg *forger) []*repo.Entry {
		lie := func(name string, says int64) *repo.Entry {
			e := fg.file(name, "ten bytes.")
			e.Content.Inline[0].Len, e.Content.Bytes, e.Size = uint32(says), says, says
			return e
		}
		hole := lie("hole", 12)
		hole.Sparse, hole.Size, hole.Extents = true, 40, []repo.Extent{{Off: 5, Len: 8}, {Off: 20, Len: 4}}
		right := fg.file("right", "ten bytes.")
		right.Sparse, right.Size, right.Extents = true, 40, []repo.Extent{{Off: 5, Len: 6}, {Off: 20, Len: 4}}
		return []*repo.Entry{lie("more", 11), lie("less", 9), hole, right, symlink("link", "x")}
	})
	for name, want := range map[string]string{"more": "", "less": "", "hole": "", "link": "",
		"right": "\x00\x00\x00\x00\x00ten by\x00\x00\x00\x00\x00\x00\x00\x00\x00tes." + strings.Repeat("\x00", 16)} {
		found, err := tree.Find(t.Context(), name)
		must(t, err)
		var b bytes.Buffer
		err = tree.Content(t.Context(), &b, found[0].Entry)
		if want == "" && err == nil || want != "" && err != nil || b.String() != want {
			t.Errorf("%s: %q, %v", name, b.String(), err)
		}
	}
}
