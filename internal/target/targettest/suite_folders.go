package targettest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/target"
)

func manyFolders(s *sandbox) {
	d := s.open(target.Options{MaxOpen: 3})
	var folders []*target.Folder
	for i := range 50 {
		at := d.Root()
		for j := range 4 {
			at = s.folder(at, fmt.Sprintf("f%d-%d", i, j))
			folders = append(folders, at)
		}
	}
	if got := descriptors(s.T) - s.fds; got > 3+2 { // and the root's, and the one for SyncAll
		s.Errorf("%d descriptors are open", got)
	}
	for round := range 3 {
		for i := range folders {
			f := folders[(i*77)%len(folders)]
			_, err := s.file(f, fmt.Sprint("file", round), "x", nil)
			s.wantError(err, nil)
		}
	}
	for i := len(folders) - 1; i >= 0; i-- {
		_, err := folders[i].Finish(meta(target.TypeDirectory))
		s.wantError(err, nil)
		folders[i].Close()
	}
	if got, most := descriptors(s.T)-s.fds, 3; got > most { // and that of a stage, where files need one
		s.Errorf("%d descriptors are open, want %d at most", got, most)
	}
	s.done(d)
}

func closedParents(s *sandbox) {
	d := s.open(target.Options{MaxOpen: 1})
	a := s.folder(d.Root(), "a")
	b := s.folder(a, "b")
	c := s.folder(b, "c")
	a.Close()
	b.Close()
	_ = s.folder(d.Root(), "other") // takes the one place
	_, err := s.file(c, "file", "x", nil)
	s.wantError(err, nil)
	_, err = c.Finish(meta(target.TypeDirectory))
	s.wantError(err, nil)
	s.entry("a/b/c/file")
	s.done(d)
}

func sharedFolder(s *sandbox) {
	d := s.open(target.Options{MaxOpen: 2})
	f := s.folder(d.Root(), "folder")
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 100 {
				_, err := s.file(f, fmt.Sprintf("file %d %d", g, i), "x", nil)
				s.wantError(err, nil)
				_, err = s.file(f, fmt.Sprintf("same %d", i), "x", nil)
				if err != nil {
					s.wantError(err, target.ErrExists)
				}
				sub, err := f.Folder(fmt.Sprint("sub", i%7))
				s.wantError(err, nil)
				_, _, err = sub.Symlink(fmt.Sprintf("link %d %d", g, i), meta(target.TypeSymlink))
				s.wantError(err, nil)
				sub.Close()
			}
		})
	}
	wg.Wait()
	s.must(d.Close())
	if got, want := len(s.walk(s.root)), 2+400+100+7+400; got != want {
		s.Errorf("got %d entries, want %d", got, want)
	}
	s.done(d)
}

func umask(s *sandbox) {
	old := unix.Umask(0o777)
	defer unix.Umask(old)
	d := s.open(target.Options{})
	f := s.folder(d.Root(), "folder")
	m := meta(target.TypeRegular)
	m.Mode = 0o600
	_, err := s.file(f, "file", "x", m)
	s.wantError(err, nil)
	_, _, err = f.Fifo("fifo", meta(target.TypeFIFO))
	s.wantError(err, nil)
	_, err = s.file(d.Root(), "file", "x", m)
	s.wantError(err, nil)
	unix.Umask(old)
	for path, want := range map[string]uint32{"folder/file": 0o600, "folder/fifo": 0o640, "file": 0o600} {
		if got := s.entry(path).Mode & 07777; got != want {
			s.Errorf("%s: got %o, want %o", path, got, want)
		}
	}
	s.done(d)
}

func merge(s *sandbox) {
	s.must(os.MkdirAll(s.in("there/below"), 0o750))
	s.must(os.WriteFile(s.in("there/old"), []byte("old"), 0o600))
	for _, o := range []target.Overwrite{target.Never, target.IfChanged, target.Always} {
		d := s.open(target.Options{Overwrite: o})
		f := s.folder(d.Root(), "there")
		if f.Made() || d.Root().Made() {
			s.Error("a folder that was there counts as made")
		}
		_, err := s.file(f, fmt.Sprint("new", o), "x", nil)
		s.wantError(err, nil)
		if n := s.folder(f, fmt.Sprint("sub", o)); !n.Made() {
			s.Error("a new folder does not count as made")
		}
		f.Close()
		if got := s.entry("there").Mode & 07777; got != 0o750 {
			s.Errorf("mode: got %o, want %o", got, 0o750)
		}
		s.entry("there/old")
		s.entry("there/below")
		s.done(d)
	}
}

func impossible(s *sandbox) {
	d := s.open(target.Options{Privileged: true})
	root := d.Root()
	for name, m := range map[string]*target.Meta{
		"nothing": nil,
		"type":    {Type: target.TypeRegular},
		"mode":    {Type: target.TypeSymlink, Mode: 1 << 12, Target: "x"},
		"time":    {Type: target.TypeSymlink, Mtime: target.Time{Nsec: 1e9}, Target: "x"},
		"empty":   {Type: target.TypeSymlink},
		"nul":     {Type: target.TypeSymlink, Target: "a\x00b"},
		"long":    {Type: target.TypeSymlink, Target: strings.Repeat("x", 4096)},
	} {
		if _, _, err := root.Symlink(name, m); !errors.Is(err, target.ErrMeta) {
			s.Errorf("%s: got %v", name, err)
		}
	}
	for _, m := range []*target.Meta{nil, {Type: target.TypeDirectory, Mode: 1 << 16}, {}} {
		_, err := root.Finish(m)
		s.wantError(err, target.ErrMeta)
		_, _, err = root.Fifo("fifo", m)
		s.wantError(err, target.ErrMeta)
		_, _, err = root.Device("device", m)
		s.wantError(err, target.ErrMeta)
	}
	// The longest target there is.
	_, _, err := root.Symlink("longest", &target.Meta{Type: target.TypeSymlink, Target: strings.Repeat("x", 4095)})
	s.wantError(err, nil)
	s.must(d.Close())
	if got := len(s.walk(s.root)); got != 2 {
		s.Errorf("got %d entries, want 2", got)
	}
	s.done(d)
}

// overwriting is the whole matrix: what stands there, what is to be put there, and the three answers.
func overwriting(t *testing.T, base func(t *testing.T) string) {
	m := meta(target.TypeRegular)
	at := unix.NsecToTimespec(m.Mtime.Sec*1e9 + int64(m.Mtime.Nsec))
	plant := map[string]func(s *sandbox, path string){
		"same file":   func(s *sandbox, path string) { s.must(os.WriteFile(path, []byte("abc"), 0o600)) },
		"other size":  func(s *sandbox, path string) { s.must(os.WriteFile(path, []byte("abcd"), 0o600)) },
		"other time":  func(s *sandbox, path string) { s.must(os.WriteFile(path, []byte("abc"), 0o600)) },
		"same link":   func(s *sandbox, path string) { s.must(os.Symlink("somewhere", path)) },
		"other link":  func(s *sandbox, path string) { s.must(os.Symlink("anywhere!", path)) },
		"fifo":        func(s *sandbox, path string) { s.must(unix.Mkfifo(path, 0o600)) },
		"socket":      func(s *sandbox, path string) { s.must(unix.Mknod(path, unix.S_IFSOCK|0o600, 0)) },
		"empty dir":   func(s *sandbox, path string) { s.must(os.Mkdir(path, 0o755)) },
		"full dir":    func(s *sandbox, path string) { s.must(os.MkdirAll(path+"/x", 0o755)) },
		"nothing":     func(s *sandbox, path string) {},
		"link to dir": func(s *sandbox, path string) { s.must(os.Symlink("../outside/dir", path)) },
	}
	put := map[string]func(s *sandbox, f *target.Folder) error{
		"file": func(s *sandbox, f *target.Folder) error { _, err := s.file(f, "name", "abc", nil); return err },
		"link": func(s *sandbox, f *target.Folder) error {
			_, _, err := f.Symlink("name", meta(target.TypeSymlink))
			return err
		},
		"fifo": func(s *sandbox, f *target.Folder) error {
			_, _, err := f.Fifo("name", meta(target.TypeFIFO))
			return err
		},
		"folder": func(s *sandbox, f *target.Folder) error { _, err := f.Folder("name"); return err },
		"hard": func(s *sandbox, f *target.Folder) error {
			w, err := f.Create("source", 0, target.Time{})
			s.must(err)
			_, err = w.Finish(meta(target.TypeRegular))
			s.must(err)
			return f.Link("name", w.Made())
		},
	}
	same := map[string]string{"same file": "file", "same link": "link", "fifo": "fifo"}
	format := map[string]uint32{"file": unix.S_IFREG, "link": unix.S_IFLNK, "fifo": unix.S_IFIFO, "folder": unix.S_IFDIR, "hard": unix.S_IFREG}
	for there, plant := range plant {
		for what, put := range put {
			for mode, o := range []target.Overwrite{target.Never, target.IfChanged, target.Always} {
				for _, own := range []bool{false, true} { // in a folder that was there, and in one of this restore
					t.Run(fmt.Sprint(there, "/", what, "/", mode, "/", own), func(t *testing.T) {
						s := newSandbox(t, base(t))
						in := "in"
						if !own {
							s.must(os.Mkdir(s.in(in), 0o755))
						}
						d := s.open(target.Options{Overwrite: o})
						f := s.folder(d.Root(), in)
						plant(s, s.in("in/name"))
						if there != "other time" && there != "nothing" {
							s.must(unix.UtimesNanoAt(unix.AT_FDCWD, s.in("in/name"), []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
						}
						var was Entry
						if there != "nothing" {
							was = s.entry("in/name")
						}
						isDir := there == "empty dir" || there == "full dir"
						var want error
						switch {
						case there == "nothing" || what == "folder" && isDir:
						case what == "folder" && o != target.Always:
							want = target.ErrNotDirectory
						case what == "folder":
						case o == target.Never:
							want = target.ErrExists
						case o == target.IfChanged && same[there] == what:
							want = target.ErrSame
						case there == "full dir":
							want = target.ErrNotEmpty
						}
						err := put(s, f)
						s.wantError(err, want)
						if now := s.entry("in/name"); want != nil && now != was {
							s.Errorf("got %+v, want it untouched: %+v", now, was)
						} else if want == nil && now.Mode&unix.S_IFMT != format[what] {
							s.Errorf("got %+v, want type %o", now, format[what])
						}
						s.done(d)
					})
				}
			}
		}
	}
}
