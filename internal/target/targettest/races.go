package targettest

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/target"
)

// swaps is how often every attacker changes the tree at least, on a machine that has the time.
const swaps = 20_000

// races let an attacker swap what stands under a name as fast as it goes while the restore uses that name. What comes
// of the restore does not matter, only that nothing outside changes and that no error is an unknown one.
func races(t *testing.T, base func(t *testing.T) string) {
	for _, r := range []struct {
		name   string
		o      target.Options
		plant  func(s *sandbox)
		attack func(s *sandbox, i int)
		use    func(s *sandbox, d *target.Directory, i int) []error
	}{
		{
			name:   "folder and link",
			plant:  func(s *sandbox) { folderAndLink(s, 0) },
			attack: exchange,
			use: func(s *sandbox, d *target.Directory, i int) []error {
				f, err := d.Root().Folder("a")
				if err != nil {
					return []error{err}
				}
				defer f.Close()
				_, create := s.file(f, fmt.Sprint("file", i), "mine", nil)
				_, _, link := f.Symlink(fmt.Sprint("link", i), meta(target.TypeSymlink))
				_, finish := f.Finish(meta(target.TypeDirectory))
				return []error{create, link, finish}
			},
		},
		{
			name:   "folder and link that is replaced",
			o:      target.Options{Overwrite: target.Always},
			plant:  func(s *sandbox) { folderAndLink(s, 0) },
			attack: folderAndLink,
			use: func(s *sandbox, d *target.Directory, i int) []error {
				f, err := d.Root().Folder("a")
				if err != nil {
					return []error{err}
				}
				defer f.Close()
				_, create := s.file(f, "file", "mine", nil)
				return []error{create}
			},
		},
		{
			name:   "folder reopened and link",
			o:      target.Options{MaxOpen: 1},
			plant:  func(s *sandbox) { folderAndLink(s, 0) },
			attack: exchange,
			use: func(s *sandbox, d *target.Directory, i int) []error {
				f, err := d.Root().Folder("a")
				if err != nil {
					return []error{err}
				}
				defer f.Close()
				if other, err := d.Root().Folder("other"); err == nil {
					other.Close()
				}
				sub, err := f.Folder("inner")
				if err != nil {
					return []error{err}
				}
				defer sub.Close()
				_, create := s.file(sub, fmt.Sprint("file", i), "mine", nil)
				return []error{create}
			},
		},
		{
			name:  "file and links",
			o:     target.Options{Overwrite: target.Always, Privileged: true},
			plant: func(s *sandbox) {},
			attack: func(s *sandbox, i int) {
				temp := s.in("evil")
				switch i % 4 {
				case 0:
					os.Symlink("../outside/secret", temp)
				case 1:
					os.Link(s.out("secret"), temp)
				case 2:
					unix.Mkfifo(temp, 0o666)
				case 3:
					os.Symlink(s.out("nothing"), temp)
				}
				os.Rename(temp, s.in("victim"))
			},
			use: func(s *sandbox, d *target.Directory, i int) []error {
				var err error
				switch i % 4 {
				case 0, 1:
					m := meta(target.TypeRegular)
					m.Mode = 0o777
					_, err = s.file(d.Root(), "victim", "mine", m)
				case 2:
					_, _, err = d.Root().Fifo("victim", &target.Meta{Type: target.TypeFIFO, Mode: 0o777, UID: 12, GID: 34})
				case 3:
					_, _, err = d.Root().Symlink("victim", &target.Meta{Type: target.TypeSymlink, Target: "../outside/secret", UID: 12, GID: 34})
				}
				return []error{err}
			},
		},
		{
			name:  "hard link and links",
			o:     target.Options{Overwrite: target.Always},
			plant: func(s *sandbox) {},
			attack: func(s *sandbox, i int) {
				if i%2 == 0 {
					os.Symlink("../outside/secret", s.in("evil"))
				} else {
					os.Link(s.out("secret"), s.in("evil"))
				}
				os.Rename(s.in("evil"), s.in("source"))
			},
			use: func(s *sandbox, d *target.Directory, i int) []error {
				w, err := d.Root().Create("source", 0, target.Time{})
				if err != nil {
					return []error{err}
				}
				if _, err := w.Finish(meta(target.TypeRegular)); err != nil {
					return []error{err}
				}
				err = d.Root().Link("second", w.Made())
				if e, lookErr := look(unix.AT_FDCWD, s.in("second")); lookErr == nil && (e.Mode&unix.S_IFMT != unix.S_IFREG || e.Size != 0) {
					s.Errorf("linked what was not made: %+v", e)
				}
				return []error{err}
			},
		},
	} {
		t.Run(r.name, func(t *testing.T) {
			s := newSandbox(t, base(t))
			r.plant(s)
			d := s.open(r.o)
			var swapped atomic.Int64
			var over atomic.Bool
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := 0; !over.Load(); i++ {
					r.attack(s, i)
					swapped.Add(1)
				}
			})
			rounds, done := 0, 0
			for start := time.Now(); (swapped.Load() < swaps || done < 200) && time.Since(start) < 20*time.Second; rounds++ {
				for _, err := range r.use(s, d, rounds) {
					switch {
					case err == nil:
						done++
					case !expected(err):
						t.Errorf("round %d: %v", rounds, err)
					}
				}
			}
			over.Store(true)
			wg.Wait()
			t.Logf("%d swaps, %d rounds, %d successes", swapped.Load(), rounds, done)
			if rounds < 100 || done < 10 || swapped.Load() < swaps/10 {
				t.Error("not much of a race")
			}
			// The attacker's own hard links to what is outside are below the target only.
			for _, name := range []string{"victim", "source", "second", "evil"} {
				os.Remove(s.in(name))
			}
			s.must(d.Close())
			s.intact()
		})
	}
}

// folderAndLink sees to it that there are a directory and a link that leads outside, and swaps them.
func folderAndLink(s *sandbox, i int) {
	if i%2 == 0 {
		os.Remove(s.in("b"))
		os.Symlink("../outside/dir", s.in("b"))
		os.Mkdir(s.in("a"), 0o777)
	}
	exchange(s, i)
}

// exchange swaps the two.
func exchange(s *sandbox, i int) {
	unix.Renameat2(unix.AT_FDCWD, s.in("a"), unix.AT_FDCWD, s.in("b"), unix.RENAME_EXCHANGE)
}

// expected reports whether err is what a restore may answer when somebody changes the tree at the same time.
func expected(err error) bool {
	for _, e := range []error{target.ErrMoved, target.ErrNotDirectory, target.ErrNotEmpty, target.ErrExists, os.ErrNotExist, unix.EISDIR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
