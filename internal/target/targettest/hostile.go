package targettest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/target"
)

// Hostile checks that nothing outside of the target is reached, changed or read, whatever names are asked for, whatever
// stands in the target, and whatever somebody with the right to write there does in between. base gives a new empty
// directory on the file system to be tested.
func Hostile(t *testing.T, base func(t *testing.T) string) {
	for _, group := range [][]attack{nameAttacks(), linkAttacks(), plantAttacks(), swapAttacks(), hardLinkAttacks(), sizeAttacks()} {
		for _, a := range group {
			t.Run(a.name, func(t *testing.T) { a.run(newSandbox(t, base(t))) })
		}
	}
	t.Run("races", func(t *testing.T) { races(t, base) })
}

// attack is one hostile case. It plants what it needs, opens the target, and ends with sandbox.done.
type attack struct {
	name string
	run  func(s *sandbox)
}

// everyCall does everything a folder can be asked for under one name, and gives what each answered.
func everyCall(s *sandbox, f *target.Folder, name string) map[string]error {
	w, err := f.Create("source", 0, target.Time{})
	if err != nil {
		w, err = f.Create("source2", 0, target.Time{})
	}
	s.must(err)
	_, err = w.Finish(meta(target.TypeRegular))
	s.must(err)
	got := make(map[string]error)
	_, got["file"] = s.file(f, name, "x", nil)
	_, _, got["symlink"] = f.Symlink(name, meta(target.TypeSymlink))
	_, _, got["fifo"] = f.Fifo(name, meta(target.TypeFIFO))
	_, _, got["socket"] = f.Socket(name, meta(target.TypeSocket))
	if isRoot() {
		_, _, got["device"] = f.Device(name, &target.Meta{Type: target.TypeCharDevice, RdevMajor: 1, RdevMinor: 3})
	}
	got["link"] = f.Link(name, w.Made())
	_, got["folder"] = f.Folder(name)
	return got
}

func nameAttacks() (attacks []attack) {
	for label, name := range map[string]string{
		"empty name": "", "dot": ".", "dot dot": "..", "slash": "/", "path": "a/b", "path upwards": "../outside/secret",
		"absolute path": "/etc/passwd", "trailing slash": "a/", "nul": "a\x00b", "dot dot nul": "..\x00", "only nul": "\x00",
		"256 bytes": strings.Repeat("n", 256), "a megabyte": strings.Repeat("n", 1<<20),
	} {
		attacks = append(attacks, attack{"name/" + label, func(s *sandbox) {
			for _, o := range []target.Overwrite{target.Never, target.IfChanged, target.Always} {
				d := s.open(target.Options{Overwrite: o, Privileged: true})
				f := s.folder(d.Root(), fmt.Sprint("folder", o))
				for call, err := range everyCall(s, f, name) {
					if s.wantError(err, target.ErrName); s.Failed() {
						s.Fatalf("%s of %.20q", call, name)
					}
				}
				if got := len(s.walk(s.in(fmt.Sprint("folder", o)))); got != 2 {
					s.Errorf("got %d entries, want 2", got)
				}
				s.done(d)
			}
		}})
	}
	return append(attacks, attack{"name/odd but good", func(s *sandbox) {
		names := []string{"...", "..x", "-rf", "a\\..\\b", "\n", "\xff\xfe", "con", "a:b", "~", "*", " ", strings.Repeat("n", 255), strings.Repeat("é", 127)}
		d := s.open(target.Options{})
		for _, name := range names {
			_, err := s.file(d.Root(), name, "x", nil)
			s.wantError(err, nil)
			sub := s.folder(s.folder(d.Root(), "folder"), name)
			_, _, err = sub.Symlink(name, meta(target.TypeSymlink))
			s.wantError(err, nil)
		}
		s.must(d.Close())
		if got, want := len(s.walk(s.root)), 2+3*len(names); got != want {
			s.Errorf("got %d entries, want %d", got, want)
		}
		s.done(d)
	}})
}

// evilLinks are targets of links planted in the target; every one of them leads somewhere it should not.
func evilLinks(s *sandbox) map[string]string {
	return map[string]string{
		"absolute": s.out("secret"), "absolute dir": s.out("dir"), "relative": "../outside/secret", "relative dir": "../outside/dir",
		"parent": "..", "itself": ".", "dangling": s.out("nothing"), "dangling relative": "../outside/nothing", "loop": "victim",
		"loop of two": "victim2", "proc cwd": "/proc/self/cwd", "proc root": "/proc/self/root" + s.out("dir"), "proc fd": "/proc/self/fd/0",
		"root": "/", "through inner link": "inner/secret", "device": "/dev/null",
	}
}

func linkAttacks() (attacks []attack) {
	for label := range evilLinks(&sandbox{}) {
		plant := func(s *sandbox) string {
			to := evilLinks(s)[label]
			s.must(os.Symlink(to, s.in("victim")))
			s.must(os.Symlink("victim", s.in("victim2")))
			s.must(os.Symlink("../outside", s.in("inner")))
			return to
		}
		attacks = append(attacks,
			attack{"link under a name/" + label, func(s *sandbox) {
				to := plant(s)
				d := s.open(target.Options{Privileged: true})
				was := s.entry("victim")
				for call, err := range everyCall(s, d.Root(), "victim") {
					want := target.ErrExists
					if call == "folder" {
						want = target.ErrNotDirectory
					}
					s.wantError(err, want)
				}
				if got := s.entry("victim"); got != was || got.Link != to {
					s.Errorf("got %+v, want %+v", got, was)
				}
				s.done(d)
			}},
			attack{"link under a name, replaced/" + label, func(s *sandbox) {
				plant(s)
				d := s.open(target.Options{Overwrite: target.Always, Privileged: true})
				for call, err := range everyCall(s, d.Root(), "victim") {
					if err != nil {
						s.Errorf("%s: %v", call, err)
					}
				}
				// A folder was the last to be asked for and stands there.
				f := s.folder(d.Root(), "victim")
				_, err := s.file(f, "file", "mine", nil)
				s.wantError(err, nil)
				if got := s.entry("victim").Mode & unix.S_IFMT; got != unix.S_IFDIR {
					s.Errorf("victim: got type %o", got)
				}
				_, err = f.Finish(meta(target.TypeDirectory))
				s.wantError(err, nil)
				s.done(d)
			}},
			attack{"link restored and used/" + label, func(s *sandbox) {
				to := evilLinks(s)[label]
				d := s.open(target.Options{Privileged: true})
				m := meta(target.TypeSymlink)
				m.Target = to
				if isRoot() {
					m.UID, m.GID = 12, 34
					m.Xattrs = []target.Xattr{{Name: "trusted.x", Value: []byte("y")}}
				}
				_, problems, err := d.Root().Symlink("victim", m)
				s.wantError(err, nil)
				s.wantProblems(problems)
				if got := s.entry("victim"); got.Link != to || got.UID != m.UID || got.MtimeSec != m.Mtime.Sec || strings.Contains(got.Xattrs, "trusted.x") != isRoot() {
					s.Errorf("got %+v", got)
				}
				_, err = d.Root().Folder("victim")
				s.wantError(err, target.ErrNotDirectory)
				_, err = s.file(d.Root(), "victim", "x", nil)
				s.wantError(err, target.ErrExists)
				s.done(d)
			}})
	}
	return attacks
}

func plantAttacks() []attack {
	return []attack{
		{"plant/hard link to a file outside", func(s *sandbox) {
			s.must(os.Link(s.out("secret"), s.in("victim")))
			d := s.open(target.Options{})
			_, err := s.file(d.Root(), "victim", "x", nil)
			s.wantError(err, target.ErrExists)
			s.done(d)
		}},
		{"plant/hard link to a file outside, replaced", func(s *sandbox) {
			for i, o := range []target.Overwrite{target.IfChanged, target.Always} {
				name := fmt.Sprint("victim", i)
				s.must(os.Link(s.out("secret"), s.in(name)))
				d := s.open(target.Options{Overwrite: o})
				_, err := s.file(d.Root(), name, "mine", nil)
				s.wantError(err, nil)
				if got, _ := os.ReadFile(s.in(name)); string(got) != "mine" {
					s.Errorf("got %q", got)
				}
				s.done(d)
			}
		}},
		{"plant/hard link that looks the same", func(s *sandbox) {
			s.must(os.Link(s.out("secret"), s.in("victim")))
			d := s.open(target.Options{Overwrite: target.IfChanged, Privileged: true})
			m := meta(target.TypeRegular)
			at := s.entry("victim")
			m.Mtime = target.Time{Sec: at.MtimeSec, Nsec: uint32(at.MtimeNsec)}
			_, err := s.file(d.Root(), "victim", strings.Repeat("x", len(secret)), m)
			s.wantError(err, target.ErrSame)
			s.done(d)
		}},
		{"plant/hard link and abort", func(s *sandbox) {
			s.must(os.Link(s.out("secret"), s.in("victim")))
			d := s.open(target.Options{Overwrite: target.Always})
			w, err := d.Root().Create("victim", 4, target.Time{})
			s.must(err)
			_, err = w.WriteAt([]byte("mine"), 0)
			s.wantError(err, nil)
			w.Abort()
			if got := s.entry("victim"); got.Nlink != 2 {
				s.Errorf("got %+v", got)
			}
			s.done(d)
		}},
		{"plant/fifo under a file's name does not block", func(s *sandbox) {
			s.must(unix.Mkfifo(s.in("victim"), 0o666))
			for _, o := range []target.Overwrite{target.Never, target.IfChanged, target.Always} {
				d := s.open(target.Options{Overwrite: o})
				_, err := d.Root().Folder("victim")
				if o != target.Always {
					s.wantError(err, target.ErrNotDirectory)
				}
				_, err = s.file(d.Root(), "victim", "mine", nil)
				if o == target.Never {
					s.wantError(err, target.ErrExists)
				} else {
					s.wantError(err, nil)
				}
				s.done(d)
			}
		}},
		{"plant/device under a file's name is not opened", func(s *sandbox) {
			if isRoot() {
				s.must(unix.Mknod(s.in("victim"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
			} else {
				s.must(unix.Mknod(s.in("victim"), unix.S_IFSOCK|0o666, 0))
			}
			d := s.open(target.Options{})
			_, err := s.file(d.Root(), "victim", "mine", nil)
			s.wantError(err, target.ErrExists)
			s.done(d)
			d = s.open(target.Options{Overwrite: target.Always})
			_, err = s.file(d.Root(), "victim", "mine", nil)
			s.wantError(err, nil)
			if got := s.entry("victim"); got.Mode&unix.S_IFMT != unix.S_IFREG || got.Size != 4 {
				s.Errorf("got %+v", got)
			}
			s.done(d)
		}},
		{"plant/directory of mode 0000", func(s *sandbox) {
			s.must(os.Mkdir(s.in("shut"), 0))
			d := s.open(target.Options{})
			f := s.folder(d.Root(), "shut")
			_, err := s.file(f, "file", "mine", nil)
			s.wantError(err, nil)
			f.Close()
			if got := s.entry("shut").Mode & 07777; got != 0 {
				s.Errorf("mode: got %o, want it given back", got)
			}
			f = s.folder(d.Root(), "shut")
			m := meta(target.TypeDirectory)
			m.Mode = 0o500
			_, err = f.Finish(m)
			s.wantError(err, nil)
			f.Close()
			if got := s.entry("shut").Mode & 07777; got != 0o500 {
				s.Errorf("mode: got %o, want 500", got)
			}
			s.done(d)
		}},
		{"plant/target of mode 0000", func(s *sandbox) {
			s.must(os.Chmod(s.root, 0))
			d := s.open(target.Options{})
			_, err := s.file(d.Root(), "file", "mine", nil)
			s.wantError(err, nil)
			s.must(d.Close())
			s.must(os.Chmod(s.root, 0o755))
			s.done(d)
		}},
		{"plant/a directory full of somebody's files", func(s *sandbox) {
			s.must(os.MkdirAll(s.in("victim/deep"), 0o755))
			s.must(os.WriteFile(s.in("victim/deep/precious"), []byte("keep"), 0o600))
			d := s.open(target.Options{Overwrite: target.Always, Privileged: true})
			for call, err := range everyCall(s, d.Root(), "victim") {
				if call != "folder" {
					s.wantError(err, target.ErrNotEmpty)
				}
			}
			s.entry("victim/deep/precious")
			s.done(d)
		}},
		{"plant/the target is a link", func(s *sandbox) {
			// The operator's own path may lead through links; what they lead to is the root.
			s.must(os.Symlink("target", s.base+"/alias"))
			d := s.open(target.Options{})
			aliased, err := target.OpenDirectory(s.base+"/alias", target.Options{})
			s.must(err)
			_, err = s.file(aliased.Root(), "file", "x", nil)
			s.wantError(err, nil)
			s.must(aliased.Close())
			s.entry("file")
			s.done(d)
		}},
		{"plant/the target is no directory", func(s *sandbox) {
			d := s.open(target.Options{})
			for path, want := range map[string]error{"": os.ErrNotExist, s.out("secret"): target.ErrNotDirectory, s.out("fifo"): target.ErrNotDirectory,
				s.out("secret") + "/below": target.ErrNotDirectory, "/dev/null": target.ErrNotDirectory} {
				if _, err := target.OpenDirectory(path, target.Options{}); err == nil {
					s.Errorf("%q: opened", path)
				} else {
					s.wantError(err, want)
				}
			}
			s.done(d)
		}},
	}
}
