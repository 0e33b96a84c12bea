package targettest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/target"
)

// swapAttacks change the tree between two calls of the restore.
func swapAttacks() []attack {
	return []attack{
		{"swap/a link under the name before Finish", func(s *sandbox) {
			for _, o := range []target.Overwrite{target.Never, target.Always} {
				name := fmt.Sprint("victim", o)
				d := s.open(target.Options{Privileged: true, Overwrite: o})
				w, err := d.Root().Create(name, 4, target.Time{})
				s.must(err)
				s.must(os.Symlink("../outside/secret", s.in(name)))
				_, err = w.WriteAt([]byte("mine"), 0)
				s.wantError(err, nil)
				m := meta(target.TypeRegular)
				m.Mode = 0o4777
				m.Xattrs = []target.Xattr{{Name: "user.x", Value: []byte("y")}}
				_, err = w.Finish(m)
				if o == target.Never {
					s.wantError(err, target.ErrExists)
				} else if s.wantError(err, nil); s.entry(name).Size != 4 || s.entry(name).Mode != unix.S_IFREG|0o4777 {
					s.Errorf("got %+v", s.entry(name))
				}
				s.done(d)
			}
		}},
		{"swap/a file under the name before Abort", func(s *sandbox) {
			d := s.open(target.Options{})
			w, err := d.Root().Create("victim", 4, target.Time{})
			s.must(err)
			s.must(os.WriteFile(s.in("victim"), []byte("somebody's"), 0o600))
			w.Abort()
			if got := s.entry("victim"); got.Size != 10 {
				s.Errorf("got %+v", got)
			}
			s.done(d)
		}},
		{"swap/the stage for something else", func(s *sandbox) {
			for i, swap := range []func(stage string){
				func(stage string) { s.must(os.Remove(stage)) },
				func(stage string) { s.must(os.Remove(stage)); s.must(os.Symlink("../outside/dir", stage)) },
				func(stage string) { s.must(os.Rename(stage, stage+"x")); s.must(os.Symlink("../outside/dir", stage)) },
				func(stage string) { s.must(os.Rename(stage, s.base+fmt.Sprint("/away", len(stage)))) },
			} {
				d := s.open(target.Options{Overwrite: target.Always})
				_, _, err := d.Root().Fifo(fmt.Sprint("one", i), meta(target.TypeFIFO))
				s.wantError(err, nil)
				stage := stageIn(s, s.root)
				swap(stage)
				_, _, err = d.Root().Fifo(fmt.Sprint("two", i), meta(target.TypeFIFO))
				s.wantError(err, nil)
				s.must(os.WriteFile(s.in(fmt.Sprint("three", i)), []byte("old"), 0o600))
				_, err = s.file(d.Root(), fmt.Sprint("three", i), "new", nil)
				s.wantError(err, nil)
				s.must(d.Close())
				os.Remove(stage)
				os.Remove(stage + "x")
				s.done(d)
			}
		}},
		{"swap/folder for a link while it is open", func(s *sandbox) {
			d := s.open(target.Options{})
			f := s.folder(d.Root(), "victim")
			s.must(os.Rename(s.in("victim"), s.in("hidden")))
			s.must(os.Symlink("../outside/dir", s.in("victim")))
			_, err := s.file(f, "file", "mine", nil)
			s.wantError(err, nil)
			_, err = s.file(s.folder(f, "inner"), "file", "mine", nil)
			s.wantError(err, nil)
			s.entry("hidden/inner/file")
			_, err = f.Finish(meta(target.TypeDirectory))
			s.wantError(err, target.ErrMoved)
			s.done(d)
		}},
		{"swap/folder for a link after its descriptor was given up", func(s *sandbox) {
			for i, to := range []string{"../outside/dir", s.out("dir"), "hidden0", "."} {
				name := fmt.Sprint("victim", i)
				d := s.open(target.Options{MaxOpen: 1})
				f := s.folder(d.Root(), name)
				inner := s.folder(f, "inner")
				s.folder(d.Root(), "other")
				s.must(os.Rename(s.in(name), s.in(fmt.Sprint("hidden", i))))
				s.must(os.Symlink(to, s.in(name)))
				_, err := s.file(inner, "file", "mine", nil)
				s.wantError(err, target.ErrMoved)
				_, err = f.Finish(meta(target.TypeDirectory))
				s.wantError(err, target.ErrMoved)
				s.done(d)
			}
		}},
		{"swap/folder for another folder after its descriptor was given up", func(s *sandbox) {
			d := s.open(target.Options{MaxOpen: 1})
			f := s.folder(d.Root(), "victim")
			s.folder(d.Root(), "other")
			s.must(os.Rename(s.in("victim"), s.in("hidden")))
			s.must(os.Mkdir(s.in("victim"), 0o755))
			_, err := s.file(f, "file", "mine", nil)
			s.wantError(err, target.ErrMoved)
			s.done(d)
		}},
		{"swap/folder moved outside while it is open", func(s *sandbox) {
			// What is restored goes on into the directory that was opened, wherever it stands, and nowhere else there.
			d := s.open(target.Options{})
			f := s.folder(d.Root(), "victim")
			s.must(os.Mkdir(s.base+"/elsewhere", 0o755))
			s.must(os.WriteFile(s.base+"/elsewhere/file", []byte("theirs"), 0o600))
			s.must(os.Rename(s.in("victim"), s.base+"/elsewhere/victim"))
			_, err := s.file(f, "file", "mine", nil)
			s.wantError(err, nil)
			_, err = f.Folder("..")
			s.wantError(err, target.ErrName)
			_, err = f.Finish(meta(target.TypeDirectory))
			s.wantError(err, target.ErrMoved)
			if got := s.walk(s.base + "/elsewhere"); len(got) != 4 || got["file"].Size != 6 {
				s.Errorf("got %+v", got)
			}
			s.done(d)
		}},
		{"swap/folder moved outside and its descriptor given up", func(s *sandbox) {
			d := s.open(target.Options{MaxOpen: 1})
			f := s.folder(d.Root(), "victim")
			s.folder(d.Root(), "other")
			s.must(os.Rename(s.in("victim"), s.base+"/elsewhere"))
			_, err := s.file(f, "file", "mine", nil)
			s.wantError(err, target.ErrMoved)
			if got := len(s.walk(s.base + "/elsewhere")); got != 1 {
				s.Errorf("got %d entries, want 1", got)
			}
			s.done(d)
		}},
		{"swap/folder removed while it is open", func(s *sandbox) {
			d := s.open(target.Options{})
			f := s.folder(d.Root(), "victim")
			s.must(os.Remove(s.in("victim")))
			_, err := s.file(f, "file", "mine", nil)
			s.wantError(err, os.ErrNotExist)
			_, err = f.Folder("sub")
			s.wantError(err, os.ErrNotExist)
			_, err = f.Finish(meta(target.TypeDirectory))
			s.wantError(err, target.ErrMoved)
			s.done(d)
		}},
		{"swap/target moved away and a link in its place", func(s *sandbox) {
			d := s.open(target.Options{})
			s.must(os.Rename(s.root, s.base+"/moved"))
			s.must(os.Symlink("outside", s.root))
			_, err := s.file(s.folder(d.Root(), "dir"), "file", "mine", nil)
			s.wantError(err, nil)
			s.must(os.Remove(s.root))
			s.must(os.Rename(s.base+"/moved", s.root))
			s.entry("dir/file")
			s.done(d)
		}},
		{"swap/attributes of a link reach the link only", func(s *sandbox) {
			d := s.open(target.Options{Privileged: true})
			m := meta(target.TypeSymlink)
			m.Target = "../outside/secret"
			m.Xattrs = []target.Xattr{{Name: "user.x", Value: []byte("y")}}
			_, problems, err := d.Root().Symlink("link", m)
			s.wantError(err, nil)
			s.wantProblems(problems, target.ProblemXattr)
			m.Xattrs = []target.Xattr{{Name: "security.capability", Value: fileCaps}, {Name: accessACL, Value: acl()}}
			_, problems, err = s.folder(d.Root(), "new").Symlink("link", m)
			s.wantError(err, nil)
			for _, p := range problems {
				if p.Err == nil {
					s.Errorf("got %+v", p)
				}
			}
			s.done(d)
		}},
	}
}

// hardLinkAttacks try to get a second name for a file this restore did not make.
func hardLinkAttacks() (attacks []attack) {
	for label, swap := range map[string]func(s *sandbox, path string){
		"a link to outside":        func(s *sandbox, path string) { s.must(os.Symlink("../outside/secret", path)) },
		"a hard link to outside":   func(s *sandbox, path string) { s.must(os.Link(s.out("secret"), path)) },
		"a file of the same size":  func(s *sandbox, path string) { s.must(os.WriteFile(path, []byte("evil"), 0o640)) },
		"a directory":              func(s *sandbox, path string) { s.must(os.Mkdir(path, 0o755)) },
		"a fifo":                   func(s *sandbox, path string) { s.must(unix.Mkfifo(path, 0o600)) },
		"nothing":                  func(s *sandbox, path string) {},
		"a link to the real thing": func(s *sandbox, path string) { s.must(os.Symlink("hidden", path)) },
	} {
		attacks = append(attacks, attack{"hard link/the source became " + label, func(s *sandbox) {
			d := s.open(target.Options{Privileged: true})
			w, err := d.Root().Create("source", 4, target.Time{})
			s.must(err)
			_, err = w.WriteAt([]byte("mine"), 0)
			s.wantError(err, nil)
			_, err = w.Finish(meta(target.TypeRegular))
			s.wantError(err, nil)
			made := w.Made()
			s.must(os.Rename(s.in("source"), s.in("hidden")))
			swap(s, s.in("source"))
			s.before = s.walk(s.outside) // a hard link may have been planted
			s.wantError(d.Root().Link("second", made), target.ErrMoved)
			if _, err := os.Lstat(s.in("second")); !os.IsNotExist(err) {
				s.Errorf("second: %v", err)
			}
			s.done(d)
		}})
	}
	return append(attacks,
		attack{"hard link/the source's folder became a link", func(s *sandbox) {
			d := s.open(target.Options{MaxOpen: 1})
			f := s.folder(d.Root(), "folder")
			w, err := f.Create("secret", int64(len(secret)), target.Time{})
			s.must(err)
			_, err = w.Finish(meta(target.TypeRegular))
			s.must(err)
			made := w.Made()
			s.folder(d.Root(), "other")
			s.must(os.Rename(s.in("folder"), s.in("hidden")))
			s.must(os.Symlink("../outside", s.in("folder")))
			s.wantError(d.Root().Link("second", made), target.ErrMoved)
			s.done(d)
		}},
		attack{"hard link/of another restore", func(s *sandbox) {
			d := s.open(target.Options{})
			other, err := target.OpenDirectory(s.in("other"), target.Options{})
			s.must(err)
			w, err := other.Root().Create("file", 0, target.Time{})
			s.must(err)
			_, err = w.Finish(meta(target.TypeRegular))
			s.must(err)
			s.wantError(d.Root().Link("second", w.Made()), target.ErrMeta)
			s.must(other.Close())
			s.done(d)
		}},
		attack{"hard link/over another name of the same file", func(s *sandbox) {
			d := s.open(target.Options{Overwrite: target.Always})
			w, err := d.Root().Create("file", 0, target.Time{})
			s.must(err)
			_, err = w.Finish(meta(target.TypeRegular))
			s.must(err)
			for range 3 {
				s.wantError(d.Root().Link("second", w.Made()), nil)
			}
			if got := s.entry("second").Nlink; got != 2 {
				s.Errorf("got %d names, want 2", got)
			}
			s.done(d)
		}})
}

// sizeAttacks are trees that are too much for somebody.
func sizeAttacks() []attack {
	return []attack{
		{"size/paths beyond the system's limit", func(s *sandbox) {
			for _, maxOpen := range []int{0, 2} {
				d := s.open(target.Options{MaxOpen: maxOpen})
				const depth = 60
				name := strings.Repeat("d", 200) + fmt.Sprint(maxOpen)
				at := d.Root()
				var all []*target.Folder
				for range depth {
					at = s.folder(at, name)
					all = append(all, at)
				}
				w, err := at.Create("file", 0, target.Time{})
				s.must(err)
				_, err = w.Finish(meta(target.TypeRegular))
				s.wantError(err, nil)
				_, _, err = at.Symlink("link", meta(target.TypeSymlink))
				s.wantError(err, nil)
				s.wantError(d.Root().Link("up"+fmt.Sprint(maxOpen), w.Made()), nil)
				for i := len(all) - 1; i >= 0; i-- {
					_, err := all[i].Finish(meta(target.TypeDirectory))
					s.wantError(err, nil)
					all[i].Close()
				}
				s.done(d)
			}
			// 2 × (60 folders, file, link, second name), and the root.
			if got, want := len(s.walk(s.root)), 2*(60+3)+1; got != want {
				s.Errorf("got %d entries, want %d", got, want)
			}
		}},
		{"size/as deep as it goes", func(s *sandbox) {
			d := s.open(target.Options{})
			at := d.Root()
			all := make([]*target.Folder, 0, target.MaxDepth)
			for range target.MaxDepth {
				f, err := at.Folder("d")
				if err != nil {
					s.Fatal(err)
				}
				at = f
				all = append(all, f)
			}
			_, err := at.Folder("d")
			s.wantError(err, target.ErrDepth)
			_, err = s.file(at, "file", "x", nil)
			s.wantError(err, nil)
			for _, f := range slices.Backward(all) {
				if _, err := f.Finish(&target.Meta{Type: target.TypeDirectory, Mode: 0o700}); err != nil {
					s.Fatal(err)
				}
				f.Close()
			}
			s.must(d.Close())
		}},
		{"size/100,000 siblings", func(s *sandbox) {
			d := s.open(target.Options{})
			f := s.folder(d.Root(), "folder")
			var wg sync.WaitGroup
			for g := range 2 {
				wg.Go(func() {
					for i := range 50_000 {
						w, err := f.Create(fmt.Sprintf("%d-%d", g, i), 0, target.Time{})
						if err != nil {
							s.Error(err)
							return
						}
						if _, err := w.Finish(meta(target.TypeRegular)); err != nil {
							s.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			names, err := os.ReadDir(s.in("folder"))
			if len(names) != 100_000 || err != nil {
				s.Errorf("got %d entries, %v", len(names), err)
			}
			s.must(d.Close())
			s.intact()
		}},
	}
}
