package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// On a disk what is done with is put aside, by a new name, and deleted between two runs, when nothing is measured:
// deleting makes work that goes on after it, and an ext4 without a journal passes for minutes over every inode that was
// just deleted, each time it looks for a free one. That made every file created in a run two to five times as dear, for
// tar as for a restore.

// asidePath is where things lie until they are deleted.
func (s setting) asidePath() string { return filepath.Join(s.work, "aside") }

// remove deletes path and what is in it, or on a disk puts it aside. What is not there is no error.
func (s setting) remove(path string) error {
	if !s.sync {
		return os.RemoveAll(path)
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.MkdirAll(s.asidePath(), 0o700); err != nil {
		return err
	}
	to, err := os.MkdirTemp(s.asidePath(), "")
	if err != nil {
		return err
	}
	return os.Rename(path, filepath.Join(to, filepath.Base(path)))
}

// settle deletes what was put aside, waits until the disk does not feel it any more, and reads trees, which are in the page
// cache then. On a RAM disk there is nothing to do.
func (s setting) settle(ctx context.Context, trees ...string) error {
	if !s.sync {
		return nil
	}
	if err := os.RemoveAll(s.asidePath()); err != nil {
		return err
	}
	syscall.Sync()
	if err := forgetDeleted(ctx, s.work); err != nil || s.cold {
		return err
	}
	for _, tree := range trees {
		if err := shell(tree, `tar c . | cat > /dev/null`).run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// recentlyDeleted is how long an ext4 without a journal remembers what was deleted: RECENTCY_MIN and RECENTCY_DIRTY of
// fs/ext4/ialloc.c, the second while the inode's block was not written.
const recentlyDeleted = (60 + 300) * time.Second

// forgetDeleted makes a file system take the inodes that were deleted, and written, for free ones again. What ext4 remembers
// stands in the cached blocks of its inodes: who may drop these need not wait.
func forgetDeleted(ctx context.Context, dir string) error {
	if os.Getuid() == 0 {
		return dropCaches()
	}
	if kind, journal := fileSystem(dir); kind != "ext4" || journal {
		return nil
	}
	fmt.Fprintf(os.Stderr, "waiting %v until ext4 has forgotten what was deleted\n", recentlyDeleted)
	select {
	case <-time.After(recentlyDeleted):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// describeFileSystem names the file system a directory lies on, for people.
func describeFileSystem(dir string) string {
	kind, journal := fileSystem(dir)
	if !journal {
		kind += " without a journal"
	}
	return kind
}

// fileSystem names the file system a directory lies on. Only of an ext4 that is known to have no journal it says so.
func fileSystem(dir string) (kind string, journal bool) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "an unknown file system", true
	}
	kind, device := mounted(string(text), mountOf(dir))
	task, err := os.ReadFile(filepath.Join("/sys/fs", kind, filepath.Base(device), "journal_task"))
	return kind, err != nil || strings.TrimSpace(string(task)) != "<none>"
}

// mounted finds the type and the device of what is mounted at top in a text of /proc/self/mountinfo; of several, the last
// covers the others.
func mounted(mountinfo, top string) (kind, device string) {
	kind = "an unknown file system"
	for _, line := range strings.Split(mountinfo, "\n") {
		before, after, _ := strings.Cut(line, " - ")
		at, source := strings.Fields(before), strings.Fields(after)
		if len(at) > 4 && len(source) > 1 && at[4] == top {
			kind, device = source[0], source[1]
		}
	}
	return kind, device
}
