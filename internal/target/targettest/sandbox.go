package targettest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/target"
)

// sandbox is a target beside a tree that must never change.
type sandbox struct {
	*testing.T
	base    string // holds all
	root    string // of the target
	outside string // what must stay as it is
	before  map[string]Entry
	fds     int
}

const secret = "this must never change"

// newSandbox makes an empty target and something to attack beside it, in dir.
func newSandbox(t *testing.T, dir string) *sandbox {
	t.Helper()
	s := &sandbox{T: t, base: dir, root: filepath.Join(dir, "target"), outside: filepath.Join(dir, "outside")}
	s.must(os.Mkdir(s.root, 0o755))
	s.must(os.MkdirAll(filepath.Join(s.outside, "dir", "inner"), 0o755))
	s.must(os.WriteFile(s.out("secret"), []byte(secret), 0o600))
	s.must(os.WriteFile(s.out("dir/file"), []byte(secret), 0o640))
	s.must(os.Symlink("secret", s.out("link")))
	s.must(unix.Mkfifo(s.out("fifo"), 0o600))
	s.Cleanup(func() { unlock(dir) })
	return s
}

// unlock makes a tree that a test shut readable again, for a last look and for the caller's cleanup.
func unlock(dir string) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(path, 0o700)
		}
		return nil
	})
}

func (s *sandbox) in(path string) string  { return filepath.Join(s.root, path) }
func (s *sandbox) out(path string) string { return filepath.Join(s.outside, path) }

func (s *sandbox) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// open opens the target after everything is planted: what is outside now must be there in the end.
func (s *sandbox) open(o target.Options) *target.Directory {
	s.Helper()
	if s.before == nil {
		s.before = s.walk(s.outside)
	}
	s.fds = descriptors(s.T)
	d, err := target.OpenDirectory(s.root, o)
	s.must(err)
	s.Cleanup(func() { d.Close() })
	return d
}

// done closes d and looks whether anything happened that must not.
func (s *sandbox) done(d *target.Directory) {
	s.Helper()
	if err := d.Close(); err != nil {
		s.Errorf("close: %v", err)
	}
	if got := descriptors(s.T); got != s.fds {
		s.Errorf("open descriptors: got %d, want %d", got, s.fds)
	}
	s.intact()
	for path := range s.walk(s.root) {
		if strings.Contains(path, ".backupd-") {
			s.Errorf("left behind: %s", path)
		}
	}
}

// intact compares what is outside with what was there. Names of a file may become fewer, as a hard link below the
// target may be replaced, but never more.
func (s *sandbox) intact() {
	s.Helper()
	after := s.walk(s.outside)
	for path, want := range s.before {
		got, ok := after[path]
		if got.Nlink < want.Nlink {
			got.Nlink = want.Nlink
		}
		if !ok || got != want {
			s.Errorf("outside, %s: got %+v, want %+v", path, got, want)
		}
		delete(after, path)
	}
	for path, e := range after {
		s.Errorf("outside, new: %s %+v", path, e)
	}
}

func (s *sandbox) walk(dir string) map[string]Entry {
	s.Helper()
	all, err := Walk(dir)
	s.must(err)
	return all
}

// entry is what stands at path in the target.
func (s *sandbox) entry(path string) Entry {
	s.Helper()
	e, err := look(unix.AT_FDCWD, s.in(path))
	if err != nil {
		s.Fatalf("%s: %v", path, err)
	}
	return e
}

// file restores a file with the given content and the metadata of m, or of a plain file.
func (s *sandbox) file(f *target.Folder, name, content string, m *target.Meta) ([]target.Problem, error) {
	if m == nil {
		m = meta(target.TypeRegular)
	}
	w, err := f.Create(name, int64(len(content)), m.Mtime)
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	if _, err := w.WriteAt([]byte(content), 0); err != nil {
		return nil, err
	}
	return w.Finish(m)
}

// folder opens or makes a folder that must be there.
func (s *sandbox) folder(f *target.Folder, name string) *target.Folder {
	s.Helper()
	sub, err := f.Folder(name)
	s.must(err)
	return sub
}

// meta is metadata that any user may set on what they make.
func meta(t target.Type) *target.Meta {
	mode := uint32(0o640)
	if t == target.TypeDirectory {
		mode = 0o750
	}
	return &target.Meta{Type: t, Mode: mode, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Mtime: target.Time{Sec: 1_000_000_000, Nsec: 7}, Target: "somewhere"}
}

func (s *sandbox) wantError(err, want error) {
	s.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		s.Errorf("got error %v, want %v", err, want)
	}
}

func (s *sandbox) wantProblems(got []target.Problem, want ...target.ProblemKind) {
	s.Helper()
	kinds := make([]target.ProblemKind, 0, len(got))
	for _, p := range got {
		kinds = append(kinds, p.Kind)
	}
	if len(kinds) != len(want) {
		s.Errorf("problems: got %v, want %v", got, want)
		return
	}
	for i := range kinds {
		if kinds[i] != want[i] {
			s.Errorf("problems: got %v, want %v", got, want)
		}
	}
}

// descriptors counts the open descriptors of the process.
func descriptors(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func isRoot() bool { return os.Geteuid() == 0 }

// stageIn is the path of the stage that stands in a directory.
func stageIn(s *sandbox, dir string) string {
	s.Helper()
	names, err := filepath.Glob(dir + "/.backupd-*")
	s.must(err)
	if len(names) != 1 {
		s.Fatalf("stages: got %v, want one", names)
	}
	return names[0]
}

func unixTime(m *target.Meta) time.Time { return time.Unix(m.Mtime.Sec, int64(m.Mtime.Nsec)) }
