package targettest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/target"
)

// names are the entries of a folder of the target but stages.
func (s *sandbox) names(path string) (names []string) {
	s.Helper()
	list, err := os.ReadDir(s.in(path))
	s.must(err)
	for _, e := range list {
		if !strings.HasPrefix(e.Name(), ".backupd-") {
			names = append(names, e.Name())
		}
	}
	return names
}

func whole(s *sandbox) {
	d := s.open(target.Options{})
	for _, in := range []*target.Folder{d.Root(), s.folder(d.Root(), "folder")} {
		path := map[bool]string{true: "folder"}[in != d.Root()]
		before := len(s.names(path))
		w, err := in.Create("file", 7, target.Time{})
		s.must(err)
		for off := range int64(7) {
			_, err := w.WriteAt([]byte("x"), off)
			s.must(err)
			if got := s.names(path); len(got) != before {
				s.Errorf("after %d bytes: got %v", off+1, got)
			}
		}
		_, err = w.Finish(meta(target.TypeRegular))
		s.wantError(err, nil)
		if got := s.entry(path + "/file"); got.Size != 7 || got.Mode&07777 != 0o640 || got.Nlink != 1 {
			s.Errorf("got %+v", got)
		}
	}
	s.done(d)
}

// unlike tells how what stands under a name differs from what m says, and from the size; nothing there is no difference.
func unlike(path string, m *target.Meta, size int64) string {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return ""
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK && (st.Mode&07777 != m.Mode || size >= 0 && st.Size != size) ||
		st.Mtim.Sec != m.Mtime.Sec || st.Mtim.Nsec != int64(m.Mtime.Nsec) {
		return fmt.Sprintf("%s: mode %o, %d bytes, time %d", filepath.Base(path), st.Mode, st.Size, st.Mtim.Sec)
	}
	return ""
}

// watched looks at names from another goroutine as fast as it goes while things come under them, and in the end sees a
// writer that does it the plain way.
func watched(s *sandbox) {
	m := meta(target.TypeRegular)
	var seen atomic.Pointer[string]
	watch := func(work func()) (caught string) {
		seen.Store(nil)
		var over atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			for !over.Load() {
				for _, in := range []string{".", "folder"} {
					for name, size := range map[string]int64{"file": 5, "fifo": -1, "link": -1, "hard": 5} {
						if bad := unlike(s.in(in+"/"+name), m, size); bad != "" {
							seen.Store(&bad)
						}
					}
				}
			}
		})
		work()
		over.Store(true)
		wg.Wait()
		if bad := seen.Load(); bad != nil {
			return *bad
		}
		return ""
	}
	d := s.open(target.Options{Overwrite: target.Always})
	folder := s.folder(d.Root(), "folder")
	clear := func() {
		for _, name := range []string{"file", "fifo", "link", "hard"} {
			os.Remove(s.in(name))
			os.Remove(s.in("folder/" + name))
		}
	}
	caught := watch(func() {
		for i := range 300 {
			for _, in := range []*target.Folder{d.Root(), folder} {
				w, err := in.Create("file", 5, m.Mtime)
				s.must(err)
				_, err = w.WriteAt([]byte("whole"), 0)
				s.must(err)
				_, err = w.Finish(m)
				s.wantError(err, nil)
				s.wantError(in.Link("hard", w.Made()), nil)
				_, _, err = in.Fifo("fifo", meta(target.TypeFIFO))
				s.wantError(err, nil)
				_, _, err = in.Symlink("link", meta(target.TypeSymlink))
				s.wantError(err, nil)
			}
			if i%2 == 0 { // else they are replaced
				clear()
			}
		}
	})
	if caught != "" {
		s.Errorf("seen before it was whole: %s", caught)
	}
	// The control: the watcher sees what is written under its own name.
	caught = ""
	for i := 0; i < 10_000 && caught == ""; i++ {
		caught = watch(func() {
			for range 50 {
				clear()
				s.must(os.WriteFile(s.in("file"), []byte("whole"), 0o600))
				s.must(os.Chmod(s.in("file"), os.FileMode(m.Mode)))
				s.must(os.Chtimes(s.in("file"), unixTime(m), unixTime(m)))
			}
		})
	}
	if caught == "" {
		s.Error("a file that grows under its name was not seen")
	}
	s.done(d)
}

func cameMeanwhile(s *sandbox) {
	for _, c := range []struct {
		o         target.Overwrite
		same      bool
		want      error
		wantBytes string
	}{
		{target.Never, true, target.ErrExists, "xyz"}, {target.Never, false, target.ErrExists, "xyz"},
		{target.IfChanged, true, target.ErrSame, "xyz"}, {target.IfChanged, false, nil, "abc"},
		{target.Always, true, nil, "abc"},
	} {
		d := s.open(target.Options{Overwrite: c.o})
		name := fmt.Sprint(c.o, c.same)
		m := meta(target.TypeRegular)
		w, err := d.Root().Create(name, 3, m.Mtime)
		s.must(err)
		_, err = w.WriteAt([]byte("abc"), 0)
		s.must(err)
		s.must(os.WriteFile(s.in(name), []byte("xyz"), 0o600))
		if c.same {
			s.must(os.Chtimes(s.in(name), unixTime(m), unixTime(m)))
		}
		_, err = w.Finish(m)
		s.wantError(err, c.want)
		if (w.Made() != nil) != (c.want == nil) {
			s.Errorf("%s: a link is possible: %v", name, w.Made() != nil)
		}
		if got, err := os.ReadFile(s.in(name)); string(got) != c.wantBytes || err != nil {
			s.Errorf("%s: got %q, %v, want %q", name, got, err, c.wantBytes)
		}
		s.done(d)
	}
}

// leftovers plants stages of every kind, and what only looks like one.
func leftovers(s *sandbox) {
	const dead, live, used = ".backupd-00000000000000000000", ".backupd-11111111111111111111", ".backupd-22222222222222222222"
	const nearly, open, file, foreign = ".backupd-3333333333333333333", ".backupd-44444444444444444444", ".backupd-55555555555555555555", ".backupd-66666666666666666666"
	plant := func(in string) {
		for _, dir := range []string{dead, live, used, nearly, open, foreign} {
			s.must(os.MkdirAll(s.in(in+dir), 0o700))
			s.must(os.WriteFile(s.in(in+dir+"/"+dir+".7"), []byte("part of"), 0o600))
		}
		s.must(os.Symlink("../../outside/secret", s.in(in+dead+"/"+dead+".8")))
		s.must(unix.Mkfifo(s.in(in+dead+"/"+dead+".123"), 0o600))
		s.must(os.WriteFile(s.in(in+used+"/1"), []byte("somebody's"), 0o600))
		s.must(os.Mkdir(s.in(in+used+"/"+used+".1"), 0o700))
		s.must(os.Chmod(s.in(in+open), 0o755))
		s.must(os.WriteFile(s.in(in+file), []byte("somebody's"), 0o600))
		if isRoot() {
			s.must(os.Chown(s.in(in+foreign), 12, 34))
		} else {
			s.must(os.Chmod(s.in(in+foreign), 0o710))
		}
	}
	s.must(os.MkdirAll(s.in("there/below"), 0o755))
	for _, in := range []string{"", "there/", "there/below/"} {
		plant(in)
		fd, err := unix.Open(s.in(in+live), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		s.must(err)
		defer unix.Close(fd)
		s.must(unix.Flock(fd, unix.LOCK_SH))
	}
	s.must(os.Symlink(s.out("dir"), s.in(".backupd-77777777777777777777")))
	d := s.open(target.Options{})
	s.folder(s.folder(d.Root(), "there"), "below")
	s.must(d.Close())
	all := s.walk(s.root)
	for _, in := range []string{"", "there/", "there/below/"} {
		if _, ok := all[in+dead]; ok {
			s.Errorf("%s%s is left", in, dead)
		}
		for _, stays := range []string{live + "/" + live + ".7", used + "/1", used + "/" + used + ".1", nearly + "/" + nearly + ".7", open + "/" + open + ".7", file, foreign + "/" + foreign + ".7"} {
			if _, ok := all[in+stays]; !ok {
				s.Errorf("%s%s was removed", in, stays)
			}
		}
	}
	s.intact()
}

// begunFolder: the mode of a folder tells a later restore that an earlier one did not come to its end.
func begunFolder(s *sandbox) {
	s.must(os.Remove(s.root))
	d := s.open(target.Options{})
	_, err := s.file(s.folder(d.Root(), "begun"), "file", "x", nil)
	s.wantError(err, nil)
	s.must(d.Close())
	d = s.open(target.Options{})
	f := s.folder(d.Root(), "begun")
	if !d.Root().Made() || !f.Made() {
		s.Error("what was begun does not count as made")
	}
	for _, f := range []*target.Folder{f, d.Root()} {
		m := meta(target.TypeDirectory)
		m.Mode = 0o711
		problems, err := f.Finish(m)
		s.wantError(err, nil)
		s.wantProblems(problems)
	}
	s.must(d.Close())
	d = s.open(target.Options{})
	if f := s.folder(d.Root(), "begun"); d.Root().Made() || f.Made() || s.entry("begun").Mode != unix.S_IFDIR|0o711 {
		s.Errorf("got %+v", s.entry("begun"))
	}
	s.done(d)
}

func existingFile(s *sandbox) {
	d := s.open(target.Options{})
	f := s.folder(d.Root(), "folder")
	m := meta(target.TypeRegular)
	_, err := s.file(f, "first", "abc", m)
	s.wantError(err, nil)
	s.must(os.Symlink("first", s.in("folder/link")))
	made, fd, err := f.Existing("first", 3, m)
	s.must(err)
	var b [4]byte
	if n, err := unix.Read(fd, b[:]); string(b[:n]) != "abc" || err != nil {
		s.Errorf("got %q, %v", b[:n], err)
	}
	s.must(unix.Close(fd))
	s.wantError(d.Root().Link("second", made), nil)
	if a, b := s.entry("folder/first"), s.entry("second"); a != b || a.Nlink != 2 {
		s.Errorf("got %+v and %+v", a, b)
	}
	other := func(change func(m *target.Meta)) *target.Meta {
		m := meta(target.TypeRegular)
		change(m)
		return m
	}
	for what, c := range map[string]struct {
		name string
		size int64
		m    *target.Meta
		want error
	}{
		"size":    {"first", 4, m, target.ErrMoved},
		"mode":    {"first", 3, other(func(m *target.Meta) { m.Mode++ }), target.ErrMoved},
		"time":    {"first", 3, other(func(m *target.Meta) { m.Mtime.Nsec++ }), target.ErrMoved},
		"link":    {"link", 3, m, unix.ELOOP},
		"nothing": {"none", 3, m, unix.ENOENT},
		"name":    {"..", 3, m, target.ErrMeta},
	} {
		if _, _, err := f.Existing(c.name, c.size, c.m); err == nil {
			s.Errorf("%s: it was found", what)
		} else {
			s.wantError(err, c.want)
		}
	}
	s.done(d)
}
