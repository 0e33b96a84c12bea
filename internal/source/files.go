package source

import (
	"context"
	"fmt"
	"iter"
	"os"

	"github.com/generalbots/backupd/internal/pace"
	"golang.org/x/sys/unix"
)

// maxWorkers bounds [FilesOptions.Workers].
const maxWorkers = 64

// FilesOptions says what of a host is backed up.
type FilesOptions struct {
	// Paths are absolute; "." and ".." are taken out by their text. At least one. Those that overlap, or come twice,
	// count once.
	Paths []string
	// Exclude are patterns as in gitignore, with "/" as the root: those without a slash, other than at the end, match
	// the name at every depth, the others the whole path. A later pattern wins; ! in front takes back. What Paths names
	// is never excluded.
	Exclude []string
	// ExcludeLines are the lines of exclude files. They come after Exclude; blank lines and those that begin with #
	// mean nothing.
	ExcludeLines []string
	// ExcludeCaches leaves out what is in directories that hold a valid CACHEDIR.TAG, apart from the tag.
	ExcludeCaches bool
	// OneFileSystem keeps to the file system each PATH is on. What is mounted below is yielded as an empty directory.
	OneFileSystem bool
	// Workers read directories ahead of whoever takes the entries, which helps out. Zero means a good number for this
	// machine.
	Workers int
}

// Files is a source of paths of this host.
type Files struct {
	named         *named
	patterns      *patterns
	excludeCaches bool
	oneFileSystem bool
	workers       int
	euid          int // who opens files
	skip          []string
}

var _ Source = (*Files)(nil)

// NewFiles checks the options; it does not look at the file system. The error names the path or pattern that is wrong.
// A PATH that does not exist is found by Scan.
func NewFiles(o FilesOptions) (*Files, error) {
	if o.Workers < 0 || o.Workers > maxWorkers {
		return nil, fmt.Errorf("source: %d workers: not between 0 and %d", o.Workers, maxWorkers)
	}
	n, err := newNamed(o.Paths)
	if err != nil {
		return nil, err
	}
	p, err := compilePatterns(o.Exclude, o.ExcludeLines)
	if err != nil {
		return nil, err
	}
	f := &Files{named: n, patterns: p, excludeCaches: o.ExcludeCaches, oneFileSystem: o.OneFileSystem, workers: o.Workers, euid: os.Geteuid()}
	if f.workers == 0 {
		// Two at least: what is not in memory is waited for.
		f.workers = max(2, min(pace.Cores(), 8))
	}
	return f, nil
}

// Skip makes scans that begin later yield these directories empty, wherever and under whatever name they come by them: what a
// backup writes to while it runs must not become part of it. Those that do not exist are ignored, and one that a PATH
// names, or something in it, is not skipped there.
func (f *Files) Skip(dirs ...string) { f.skip = append(f.skip, dirs...) }

// Scan walks the paths; see [Source]. When a PATH does not exist, or can not be reached, the scan ends with an error
// that names it, normally before the first entry.
func (f *Files) Scan(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) { newScan(f).run(ctx, yield) }
}

// Release is described at [Source].
func (f *Files) Release(leave *Entry) {
	if leave.Event == Leave && leave.dir != nil {
		leave.dir.scan.fds.release(leave.dir)
	}
}

func (f *Files) check() error {
	root, err := openRoot(unix.O_PATH)
	if err != nil {
		return fmt.Errorf("source: /: %w", err)
	}
	defer closeFD(root)
	return f.named.check(root, "")
}
