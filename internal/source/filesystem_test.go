package source_test

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/source"
)

func TestScan_TellsFileSystemsWithoutChangeTimes(t *testing.T) {
	root := t.TempDir()
	write(t, root, "d/f")
	for typ, want := range map[int64]bool{
		unix.SQUASHFS_MAGIC: true, unix.EROFS_SUPER_MAGIC_V1: true, unix.ISOFS_SUPER_MAGIC: true, unix.MSDOS_SUPER_MAGIC: true,
		unix.EXT4_SUPER_MAGIC: false, unix.XFS_SUPER_MAGIC: false, unix.TMPFS_MAGIC: false, unix.NFS_SUPER_MAGIC: false,
	} {
		func() {
			defer source.PretendFileSystem(typ)()
			f := newFiles(t, source.FilesOptions{Paths: []string{root}})
			for e, err := range f.Scan(t.Context()) {
				must(t, err)
				if e.Timeless != want {
					t.Errorf("type %#x: %v %q: got timeless %v", typ, e.Event, e.Name, e.Timeless)
				}
				if e.Event == source.Item {
					in, err := f.Open(&e)
					must(t, err)
					if in.Opened().Timeless != want {
						t.Errorf("type %#x: opened: got timeless %v", typ, !want)
					}
					must(t, in.Close())
				}
				if e.Event == source.Leave {
					f.Release(&e)
				}
			}
		}()
	}
}

// A full backup of "/" must end, though /proc/kcore is larger than any disk.
func TestScan_StaysOutOfTheKernelsOwnFileSystemsUnlessNamed(t *testing.T) {
	for _, c := range []struct {
		paths []string
		want  bool
	}{
		{[]string{"/"}, false},
		{[]string{"/", "/proc/self/status"}, false},
		{[]string{"/proc"}, true},
	} {
		f := newFiles(t, source.FilesOptions{Paths: c.paths, Exclude: []string{"/*", "!/proc", "/proc/*", "!/proc/mounts", "!/proc/uptime"}})
		var at string
		seen := map[string]bool{}
		for e, err := range f.Scan(t.Context()) {
			must(t, err)
			switch e.Event {
			case source.Enter:
				at = filepath.Join("/", at, e.Name)
			case source.Item:
				seen[filepath.Join(at, e.Name)] = true
			case source.Leave:
				at = filepath.Dir(at)
				f.Release(&e)
			}
		}
		if got := seen["/proc/uptime"]; got != c.want {
			t.Errorf("%q: got /proc/uptime %v", c.paths, got)
		}
		if len(c.paths) > 1 && !seen["/proc/self/status"] && !seen["/self/status"] && len(seen) == 0 {
			t.Errorf("%q: what was named in it is not there: %v", c.paths, seen)
		}
	}
}
