package source_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/source/sourcetest"
	"golang.org/x/sys/unix"
)

// raceTime bounds each race; what it would find shows in the first rounds.
const raceTime = 1500 * time.Millisecond

// TestScan_NeverLeavesTheTree exchanges directories and files for links that lead outside, all the while the tree is
// scanned and everything in it is read. Nothing of the outside may ever come back.
func TestScan_NeverLeavesTheTree(t *testing.T) {
	top := ramDir(t)
	root, outside := top+"/root", top+"/outside"
	const mark = "OUTSIDE"
	write(t, top, "root/a/d/inner/f", "root/a/d/f", "root/m/f", "root/z/f", "outside/inner/f", "outside/secret", "outside/f")
	for _, p := range []string{"/inner/f", "/secret", "/f"} {
		must(t, os.WriteFile(outside+p, []byte(mark), 0o600))
	}
	forbidden := inodes(t, outside)

	// Each pair is exchanged atomically, so that the name is always there; by the descriptor of its directory, so that
	// the exchanging does not go astray itself.
	type pair struct {
		dir  int
		name string
	}
	var pairs []pair
	for _, p := range [][3]string{{"/a", "d", outside}, {"/a/d", "inner", outside + "/inner"}, {"/z", "f", outside + "/secret"}, {"", "m", outside}} {
		dir, err := unix.Open(root+p[0], unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		defer unix.Close(dir)
		must(t, unix.Symlinkat(p[2], dir, p[1]+"~"))
		pairs = append(pairs, pair{dir, p[1]})
	}
	var stop atomic.Bool
	var swaps atomic.Int64
	var group sync.WaitGroup
	group.Go(func() {
		for !stop.Load() {
			for _, p := range pairs {
				if unix.Renameat2(p.dir, p.name, p.dir, p.name+"~", unix.RENAME_EXCHANGE) == nil {
					swaps.Add(1)
				}
			}
		}
	})
	check := sourcetest.NoLeaks(t)
	f := newFiles(t, source.FilesOptions{Paths: []string{root}})
	scans, links, changed := 0, 0, 0
	few := func() bool { return links == 0 || scans < 10 || swaps.Load() < 100 }
	// A busy machine, and the race detector, may take longer to make it a race.
	for start := time.Now(); time.Since(start) < raceTime || few() && time.Since(start) < 3*time.Minute; scans++ {
		for p, e := range sourcetest.Checked(t, f, t.Context()) {
			if e.Event == source.Leave {
				f.Release(&e)
				continue
			}
			p, below := strings.CutPrefix("/"+p, root)
			if !below {
				continue
			}
			if forbidden[e.Ino] {
				t.Fatalf("%s: %v of the outside was yielded", p, e.Type)
			}
			if e.Type == source.Symlink {
				links++
			}
			s := sourcetest.Look(f, &e)
			if bytes.Contains(s.Content, []byte(mark)) {
				t.Fatalf("%s: content of the outside was read", p)
			}
			if errors.Is(s.Err, source.ErrChanged) {
				changed++
			} else if s.Err != nil {
				t.Errorf("%s: got error %v, want ErrChanged at most", p, s.Err)
			}
		}
	}
	stop.Store(true)
	group.Wait()
	check()
	if few() {
		t.Errorf("the race was none: %d scans, %d swaps, %d links seen", scans, swaps.Load(), links)
	}
	t.Logf("%d scans, %d swaps, %d links seen, %d changes noticed", scans, swaps.Load(), links, changed)
}

func inodes(t testing.TB, dir string) map[uint64]bool {
	t.Helper()
	found := map[uint64]bool{}
	for _, p := range []string{"", "/inner", "/inner/f", "/secret", "/f"} {
		var st unix.Stat_t
		must(t, unix.Lstat(dir+p, &st))
		found[st.Ino] = true
	}
	return found
}

// TestScan_OfATreeThatChangesStaysInOrder makes, moves and removes all over the tree. The grammar is checked on the
// way, and what stands still must be there.
func TestScan_OfATreeThatChangesStaysInOrder(t *testing.T) {
	root := ramDir(t)
	write(t, root, "a/still", "m/still/f", "z/still")
	var stop atomic.Bool
	var group sync.WaitGroup
	for k := range 2 {
		group.Go(func() {
			dir := root + []string{"/a", "/m"}[k]
			for !stop.Load() {
				os.MkdirAll(dir+"/x/y/z", 0o755)
				os.WriteFile(dir+"/x/y/f", []byte("f"), 0o644)
				os.WriteFile(dir+"/f", []byte("f"), 0o644)
				os.Rename(dir+"/x/y", dir+"/y")
				os.Rename(dir+"/f", dir+"/x/f")
				unix.Mkfifo(dir+"/f", 0o600)
				os.RemoveAll(dir + "/x")
				os.WriteFile(dir+"/x", nil, 0o644)
				os.RemoveAll(dir + "/y")
				os.Remove(dir + "/x")
				os.Remove(dir + "/f")
			}
		})
	}
	check := sourcetest.NoLeaks(t)
	f := newFiles(t, source.FilesOptions{Paths: []string{root}})
	for start := time.Now(); time.Since(start) < raceTime; {
		still := 0
		for p, e := range sourcetest.Checked(t, f, t.Context()) {
			if e.Event == source.Leave {
				f.Release(&e)
				continue
			}
			if strings.Contains(p, "/still") {
				still++
			}
			if e.Err != nil && !errors.Is(e.Err, source.ErrChanged) {
				t.Errorf("%s: %v", p, e.Err)
			}
			if s := sourcetest.Look(f, &e); s.Err != nil && !errors.Is(s.Err, source.ErrChanged) {
				t.Errorf("%s: %v", p, s.Err)
			}
		}
		if still != 4 {
			t.Fatalf("got %d of the 4 entries that stand still", still)
		}
	}
	stop.Store(true)
	group.Wait()
	check()
}
