package targettest

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/target"
)

// Run checks that what is restored into a directory is there as asked. base gives a new empty directory on the file
// system to be tested, which must know user.* attributes and POSIX ACLs.
func Run(t *testing.T, base func(t *testing.T) string) {
	for _, c := range []struct {
		name string
		run  func(s *sandbox)
	}{
		{"every type comes with its metadata", everyType},
		{"every mode is reached, also without write permission", everyMode},
		{"times before 1970 and nanoseconds", times},
		{"ranges never written are holes", holes},
		{"writes in any order from many goroutines", concurrentWrites},
		{"writes stay within the size", ranges},
		{"abort leaves what was", abort},
		{"what is finished stays finished", finished},
		{"what is closed is closed", closed},
		{"hard links share the file", hardLinks},
		{"hard links share an inode of any type", hardLinksOfEveryType},
		{"more folders than descriptors", manyFolders},
		{"folders survive their parents' Close", closedParents},
		{"one folder from many goroutines", sharedFolder},
		{"attributes and ACLs", attributesAndACLs},
		{"a parent's default ACL and setgid bit do not reach what is restored", inheritance},
		{"an existing folder's ACL gives way", existingACL},
		{"the umask does not matter", umask},
		{"setuid only for the owner it was made for", setIDs},
		{"privilege is left off and told", unprivileged},
		{"owners by name", ownerNames},
		{"existing folders are merged", merge},
		{"impossible metadata is refused", impossible},
		{"nothing is there before it is whole", whole},
		{"whoever looks sees whole things only", watched},
		{"what came meanwhile is asked about again", cameMeanwhile},
		{"what a dead restore left goes, all else stays", leftovers},
		{"a folder that a dead restore began gets its metadata", begunFolder},
		{"a file is found again for links", existingFile},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(newSandbox(t, base(t))) })
	}
	t.Run("overwriting", func(t *testing.T) { overwriting(t, base) })
}

// unmade leaves out what an operation made.
func unmade(_ *target.Made, problems []target.Problem, err error) ([]target.Problem, error) {
	return problems, err
}

func everyType(s *sandbox) {
	d := s.open(target.Options{Privileged: true})
	f := s.folder(d.Root(), "folder")
	want := map[string]uint32{"file": unix.S_IFREG | 0o640, "link": unix.S_IFLNK | 0o777, "fifo": unix.S_IFIFO | 0o640, "socket": unix.S_IFSOCK | 0o640, "folder": unix.S_IFDIR | 0o750}
	// In a folder just made and in one that was there, as the ways differ.
	for _, in := range []*target.Folder{f, d.Root()} {
		for name, make := range map[string]func() ([]target.Problem, error){
			"file":   func() ([]target.Problem, error) { return s.file(in, "file", "content", nil) },
			"link":   func() ([]target.Problem, error) { return unmade(in.Symlink("link", meta(target.TypeSymlink))) },
			"fifo":   func() ([]target.Problem, error) { return unmade(in.Fifo("fifo", meta(target.TypeFIFO))) },
			"socket": func() ([]target.Problem, error) { return unmade(in.Socket("socket", meta(target.TypeSocket))) },
		} {
			problems, err := make()
			if err != nil {
				s.Errorf("%s: %v", name, err)
			}
			s.wantProblems(problems)
		}
	}
	m := meta(target.TypeDirectory)
	m.Mode = 0o750
	problems, err := f.Finish(m)
	s.wantError(err, nil)
	s.wantProblems(problems)
	for _, above := range []string{"", "folder/"} {
		for name, mode := range want {
			if above != "" && name == "folder" {
				continue
			}
			e := s.entry(above + name)
			if e.Mode != mode || e.MtimeSec != m.Mtime.Sec || e.MtimeNsec != int64(m.Mtime.Nsec) || e.UID != m.UID || e.GID != m.GID {
				s.Errorf("%s%s: got %+v, want mode %o and %+v", above, name, e, mode, m)
			}
		}
		if got := s.entry(above + "link").Link; got != "somewhere" {
			s.Errorf("link: got %q", got)
		}
		if got, err := os.ReadFile(s.in(above + "file")); string(got) != "content" || err != nil {
			s.Errorf("file: got %q, %v", got, err)
		}
	}
	if isRoot() {
		for i, typ := range []target.Type{target.TypeCharDevice, target.TypeBlockDevice} {
			m := meta(typ)
			m.RdevMajor, m.RdevMinor, m.UID, m.GID = 259, 70_000, 12, 34
			name := fmt.Sprint("device", i)
			_, problems, err := d.Root().Device(name, m)
			s.wantError(err, nil)
			s.wantProblems(problems)
			if e := s.entry(name); e.Rdev != unix.Mkdev(259, 70_000) || e.UID != 12 || e.GID != 34 || e.Mode&0o777 != 0o640 {
				s.Errorf("%s: got %+v", name, e)
			}
		}
	}
	s.wantError(d.SyncAll(), nil)
	s.done(d)
}

func everyMode(s *sandbox) {
	d := s.open(target.Options{Privileged: true})
	f := s.folder(d.Root(), "modes")
	for mode := uint32(0); mode <= 0o777; mode += 0o33 {
		m := meta(target.TypeRegular)
		m.Mode = mode
		m.Xattrs = []target.Xattr{{Name: "user.note", Value: []byte("kept")}}
		name := fmt.Sprintf("%04o", mode)
		problems, err := s.file(f, name, "x", m)
		s.wantError(err, nil)
		s.wantProblems(problems)
		if got := s.entry("modes/" + name).Mode; got != unix.S_IFREG|mode {
			s.Errorf("file: got %o, want %o", got, mode)
		}
		sub := s.folder(f, "dir"+name)
		_, err = s.file(sub, "inside", "x", nil)
		s.wantError(err, nil)
		m.Type = target.TypeDirectory
		m.Mode |= unix.S_ISVTX
		problems, err = sub.Finish(m)
		s.wantError(err, nil)
		s.wantProblems(problems)
		sub.Close()
		if got := s.entry("modes/dir" + name).Mode; got != unix.S_IFDIR|unix.S_ISVTX|mode {
			s.Errorf("folder: got %o, want %o", got, mode)
		}
	}
	unlock(s.root)
	s.done(d)
}

func times(s *sandbox) {
	d := s.open(target.Options{})
	for i, want := range []target.Time{{}, {Sec: -1, Nsec: 999_999_999}, {Sec: -1_000_000_000}, {Sec: 4_000_000_000, Nsec: 1}} {
		name := fmt.Sprint(i)
		m := meta(target.TypeRegular)
		m.Mtime = want
		problems, err := s.file(d.Root(), name, "x", m)
		s.wantError(err, nil)
		s.wantProblems(problems)
		link := meta(target.TypeSymlink)
		link.Mtime = want
		_, problems, err = d.Root().Symlink("l"+name, link)
		s.wantError(err, nil)
		s.wantProblems(problems)
		for _, n := range []string{name, "l" + name} {
			if e := s.entry(n); e.MtimeSec != want.Sec || e.MtimeNsec != int64(want.Nsec) {
				s.Errorf("%s: got %d.%09d, want %+v", n, e.MtimeSec, e.MtimeNsec, want)
			}
		}
	}
	s.done(d)
}

func holes(s *sandbox) {
	d := s.open(target.Options{})
	const size = 8 << 20
	for name, at := range map[string][]int64{"all": nil, "begin": {size - 4096}, "end": {0}, "middle": {0, size - 4096}, "many": {1 << 20, 3 << 20}} {
		w, err := d.Root().Create(name, size, target.Time{})
		s.must(err)
		want := make([]byte, size)
		for _, off := range at {
			block := bytes.Repeat([]byte("data"), 1024)
			copy(want[off:], block)
			_, err := w.WriteAt(block, off)
			s.wantError(err, nil)
		}
		_, err = w.Finish(meta(target.TypeRegular))
		s.wantError(err, nil)
		if got, err := os.ReadFile(s.in(name)); !bytes.Equal(got, want) || err != nil {
			s.Errorf("%s: content differs, %v", name, err)
		}
		var st unix.Stat_t
		s.must(unix.Stat(s.in(name), &st))
		if got := st.Blocks * 512; got > 1<<20 {
			s.Errorf("%s: takes %d bytes", name, got)
		}
	}
	s.done(d)
}

func concurrentWrites(s *sandbox) {
	d := s.open(target.Options{})
	const part, parts = 10_007, 64
	w, err := d.Root().Create("file", part*parts, target.Time{})
	s.must(err)
	want := make([]byte, part*parts)
	for i := range want {
		want[i] = byte(i * i >> 8)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := parts - 1 - g; i >= 0; i -= 4 {
				if _, err := w.WriteAt(want[i*part:(i+1)*part], int64(i*part)); err != nil {
					s.Error(err)
				}
			}
		})
	}
	wg.Wait()
	_, err = w.Finish(meta(target.TypeRegular))
	s.wantError(err, nil)
	if got, err := os.ReadFile(s.in("file")); !bytes.Equal(got, want) || err != nil {
		s.Errorf("content differs, %v", err)
	}
	s.done(d)
}

func ranges(s *sandbox) {
	d := s.open(target.Options{})
	w, err := d.Root().Create("file", 10, target.Time{})
	s.must(err)
	for _, off := range []int64{-1, 7, 10, 11, 1<<63 - 1, -1 << 63} {
		_, err := w.WriteAt([]byte("1234"), off)
		s.wantError(err, target.ErrRange)
	}
	_, err = w.WriteAt([]byte("1234"), 6)
	s.wantError(err, nil)
	_, err = w.WriteAt(nil, 10)
	s.wantError(err, nil)
	_, err = w.Finish(meta(target.TypeRegular))
	s.wantError(err, nil)
	if got, _ := os.ReadFile(s.in("file")); string(got) != "\x00\x00\x00\x00\x00\x001234" {
		s.Errorf("got %q", got)
	}
	_, err = d.Root().Create("negative", -1, target.Time{})
	s.wantError(err, target.ErrMeta)
	s.done(d)
}

func abort(s *sandbox) {
	s.must(os.WriteFile(s.in("old"), []byte("old"), 0o644))
	was := s.entry("old")
	d := s.open(target.Options{Overwrite: target.Always})
	for _, name := range []string{"new", "old"} {
		w, err := d.Root().Create(name, 3, target.Time{})
		s.must(err)
		_, err = w.WriteAt([]byte("new"), 0)
		s.wantError(err, nil)
		w.Abort()
		w.Abort()
		_, err = w.Finish(meta(target.TypeRegular))
		s.wantError(err, target.ErrClosed)
		_, err = w.WriteAt([]byte("new"), 0)
		s.wantError(err, target.ErrClosed)
		if w.Made() != nil {
			s.Error("an aborted file can be linked to")
		}
	}
	// Metadata of another type is an abort as well.
	w, err := d.Root().Create("old", 3, target.Time{})
	s.must(err)
	_, err = w.Finish(meta(target.TypeSymlink))
	s.wantError(err, target.ErrMeta)
	if got := s.entry("old"); got != was {
		s.Errorf("got %+v, want %+v", got, was)
	}
	if _, err := os.Lstat(s.in("new")); !os.IsNotExist(err) {
		s.Errorf("new: %v", err)
	}
	s.done(d)
}

func finished(s *sandbox) {
	d := s.open(target.Options{})
	w, err := d.Root().Create("file", 0, target.Time{})
	s.must(err)
	_, err = w.Finish(meta(target.TypeRegular))
	s.wantError(err, nil)
	w.Abort()
	_, err = w.Finish(meta(target.TypeRegular))
	s.wantError(err, target.ErrClosed)
	if got := s.entry("file"); got.Size != 0 || got.Mode&0o777 != 0o640 {
		s.Errorf("got %+v", got)
	}
	s.done(d)
}

func closed(s *sandbox) {
	d := s.open(target.Options{})
	f := s.folder(d.Root(), "folder")
	w, err := f.Create("file", 1, target.Time{})
	s.must(err)
	f.Close()
	f.Close()
	_, err = f.Create("other", 0, target.Time{})
	s.wantError(err, target.ErrClosed)
	_, err = f.Folder("other")
	s.wantError(err, target.ErrClosed)
	_, err = w.WriteAt([]byte("x"), 0)
	s.wantError(err, nil)
	_, err = w.Finish(meta(target.TypeRegular))
	s.wantError(err, nil)
	d.Root().Close()
	_, _, err = d.Root().Symlink("link", meta(target.TypeSymlink))
	s.wantError(err, nil)
	s.must(d.Close())
	s.must(d.Close())
	_, err = d.Root().Create("late", 0, target.Time{})
	s.wantError(err, target.ErrClosed)
	s.wantError(d.SyncAll(), target.ErrClosed)
	s.done(d)
}

func hardLinks(s *sandbox) {
	d := s.open(target.Options{})
	f := s.folder(d.Root(), "folder")
	for i, in := range []*target.Folder{d.Root(), f} {
		w, err := in.Create(fmt.Sprint("first", i), 3, target.Time{})
		s.must(err)
		_, err = w.Finish(meta(target.TypeRegular))
		s.wantError(err, nil)
		s.wantError(f.Link(fmt.Sprint("second", i), w.Made()), nil)
		s.wantError(d.Root().Link(fmt.Sprint("third", i), w.Made()), nil)
		s.wantError(d.Root().Link(fmt.Sprint("third", i), w.Made()), target.ErrExists)
		a, b := s.entry(fmt.Sprint("folder/second", i)), s.entry(fmt.Sprint("third", i))
		if a != b || a.Nlink != 3 {
			s.Errorf("got %+v and %+v", a, b)
		}
	}
	s.wantError(f.Link("none", nil), target.ErrMeta)
	s.done(d)
}

// makeKind makes one of the types that are no more than an inode.
func makeKind(f *target.Folder, name string, m *target.Meta) (*target.Made, []target.Problem, error) {
	switch m.Type {
	case target.TypeSymlink:
		return f.Symlink(name, m)
	case target.TypeFIFO:
		return f.Fifo(name, m)
	case target.TypeSocket:
		return f.Socket(name, m)
	}
	return f.Device(name, m)
}

func hardLinksOfEveryType(s *sandbox) {
	d := s.open(target.Options{Privileged: true})
	f := s.folder(d.Root(), "folder")
	types := []target.Type{target.TypeSymlink, target.TypeFIFO, target.TypeSocket}
	if isRoot() {
		types = append(types, target.TypeCharDevice, target.TypeBlockDevice)
	}
	for i, typ := range types {
		// In a folder just made and in one that was there, as the ways differ.
		for j, in := range []*target.Folder{d.Root(), f} {
			m := meta(typ)
			m.RdevMajor, m.RdevMinor = 1, 3
			if isRoot() {
				m.UID, m.GID = 12, 34
			}
			first := fmt.Sprint("first", i, j)
			made, problems, err := makeKind(in, first, m)
			s.wantError(err, nil)
			s.wantProblems(problems)
			s.wantError(f.Link(fmt.Sprint("second", i, j), made), nil)
			found, fd, err := in.Existing(first, 0, m)
			s.wantError(err, nil)
			if fd != -1 {
				s.Errorf("%v: Existing gives a descriptor", typ)
			}
			s.wantError(d.Root().Link(fmt.Sprint("third", i, j), found), nil)
			s.wantError(d.Root().Link(fmt.Sprint("third", i, j), found), target.ErrExists)
			a, b := s.entry(fmt.Sprint("folder/second", i, j)), s.entry(fmt.Sprint("third", i, j))
			if a != b || a.Nlink != 3 || a.UID != m.UID || a.Link != "" && a.Link != m.Target {
				s.Errorf("%v: got %+v and %+v", typ, a, b)
			}
			other := *m
			other.Target, other.RdevMinor, other.Mtime.Nsec = "elsewhere", 5, m.Mtime.Nsec+1
			_, _, err = in.Existing(first, 0, &other)
			s.wantError(err, target.ErrMoved)
			_, _, err = in.Existing(first, 0, meta(target.TypeRegular))
			if err == nil {
				s.Errorf("%v: taken for a regular file", typ)
			}

			// What somebody puts in its place, with the same look, gets no other name.
			path := s.in(map[bool]string{true: "", false: "folder/"}[j == 0] + first)
			s.must(os.Remove(path))
			s.must(os.Symlink(m.Target+"x", path))
			s.wantError(f.Link(fmt.Sprint("fourth", i, j), made), target.ErrMoved)
		}
	}
	s.done(d)
}
