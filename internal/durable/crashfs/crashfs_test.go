package crashfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/durable/crashfs"
)

const seeds = 200

func dice(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 99)) }

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, f *crashfs.FS, name, data string) durable.File {
	t.Helper()
	h, err := f.Create(name)
	ok(t, err)
	if data != "" {
		_, err = h.WriteAt([]byte(data), 0)
		ok(t, err)
	}
	return h
}

// show describes a tree: every name, directories with a slash, files with their
// contents.
func show(t *testing.T, f *crashfs.FS) string {
	t.Helper()
	var lines []string
	var walk func(dir string)
	walk = func(dir string) {
		list, err := f.ReadDir(dir)
		ok(t, err)
		for _, info := range list {
			name := strings.TrimPrefix(dir+"/"+info.Name, "/")
			if info.Mode.IsDir() {
				lines = append(lines, name+"/")
				walk(name)
				continue
			}
			data, err := durable.ReadFile(f, name, 1<<20)
			ok(t, err)
			lines = append(lines, name+"="+string(data))
		}
	}
	walk("")
	return strings.Join(lines, " ")
}

// states returns all trees that crashes of many seeds leave.
func states(t *testing.T, f *crashfs.FS, percent int) []string {
	t.Helper()
	seen := map[string]bool{}
	for seed := range uint64(seeds) {
		seen[show(t, f.Crash(dice(seed), percent))] = true
	}
	var list []string
	for s := range seen {
		list = append(list, s)
	}
	slices.Sort(list)
	return list
}

func wantStates(t *testing.T, f *crashfs.FS, percent int, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := states(t, f, percent); !slices.Equal(got, want) {
		t.Fatalf("after a crash with %d%%:\ngot  %q\nwant %q", percent, got, want)
	}
}

func TestCrash_KeepsWhatWasSyncedAndNothingElse(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a", "1")
	wantStates(t, f, 0, "")
	wantStates(t, f, 100, "a=1")
	wantStates(t, f, 50, "", "a=", "a=\x00", "a=1")

	ok(t, h.Sync())
	wantStates(t, f, 0, "") // contents without a name
	wantStates(t, f, 50, "", "a=1")

	ok(t, f.SyncDir(""))
	wantStates(t, f, 0, "a=1")
	wantStates(t, f, 50, "a=1")

	h = create(t, f, "b", "2")
	ok(t, f.SyncDir(""))
	wantStates(t, f, 0, "a=1 b=") // a name without contents
	ok(t, h.Sync())
	wantStates(t, f, 0, "a=1 b=2")
}

func TestCrash_MayKeepAnyOfTheStatesOfABlock(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a", "0")
	ok(t, h.Sync())
	ok(t, f.SyncDir(""))
	for _, s := range []string{"1", "2", "3"} {
		_, err := h.WriteAt([]byte(s), 0)
		ok(t, err)
	}
	wantStates(t, f, 0, "a=0")
	wantStates(t, f, 50, "a=0", "a=1", "a=2", "a=3")
	wantStates(t, f, 100, "a=3")
	ok(t, h.Sync())
	wantStates(t, f, 50, "a=3")
}

func TestCrash_TearsAWriteAtBlocks(t *testing.T) {
	const size = 64 << 10
	f := crashfs.New()
	h := create(t, f, "a", strings.Repeat("o", size))
	ok(t, h.Sync())
	ok(t, f.SyncDir(""))
	_, err := h.WriteAt(bytes.Repeat([]byte("n"), size), 0)
	ok(t, err)
	small, large, kept := 0, 0, 0
	for seed := range uint64(seeds) {
		data, err := durable.ReadFile(f.Crash(dice(seed), 30), "a", size)
		ok(t, err)
		if len(data) != size {
			t.Fatalf("length %d, want %d", len(data), size)
		}
		torn512 := false
		for i := 0; i < size; i += 512 {
			block := data[i : i+512]
			if !bytes.Equal(block, bytes.Repeat(block[:1], 512)) {
				t.Fatalf("block at %d is torn inside 512 bytes", i)
			}
			if block[0] == 'n' {
				kept++
			}
			torn512 = torn512 || i%4096 != 0 && block[0] != data[i-1]
		}
		if torn512 {
			small++
		} else {
			large++
		}
	}
	if small == 0 || large == 0 {
		t.Fatalf("torn at 512 bytes %d times, at 4 KiB %d times: want both", small, large)
	}
	if share := float64(kept) / (size / 512 * seeds); share < 0.27 || share > 0.33 {
		t.Fatalf("%.3f of the blocks survived, want 0.3", share)
	}
}

func TestCrash_MayLoseAChangeOfLength(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a", "1234")
	ok(t, h.Sync())
	ok(t, f.SyncDir(""))
	ok(t, h.Truncate(2))
	wantStates(t, f, 0, "a=1234")
	// The cut block may be on the disk with the old length: the rest is zero.
	wantStates(t, f, 50, "a=12", "a=1234", "a=12\x00\x00")
	wantStates(t, f, 100, "a=12")
	ok(t, h.Sync())
	ok(t, h.Fallocate(4))
	wantStates(t, f, 0, "a=12")
	wantStates(t, f, 50, "a=12", "a=12\x00\x00")
	wantStates(t, f, 100, "a=12\x00\x00")
}

func TestCrash_RenamesAsAWholeOrNotAtAll(t *testing.T) {
	f := crashfs.New()
	ok(t, f.Mkdir("d"))
	h := create(t, f, "a", "1")
	ok(t, h.Sync())
	ok(t, f.SyncDir(""))
	ok(t, f.RenameNoReplace("a", "d/b"))
	wantStates(t, f, 0, "a=1 d/")
	wantStates(t, f, 50, "a=1 d/", "d/ d/b=1")
	wantStates(t, f, 100, "d/ d/b=1")
	ok(t, f.SyncDir(""))
	wantStates(t, f, 0, "a=1 d/") // the directory of the old name does not suffice
	ok(t, f.SyncDir("d"))
	wantStates(t, f, 0, "d/ d/b=1")
}

func TestCrash_ReplacesAsAWholeOrNotAtAll(t *testing.T) {
	f := crashfs.New()
	ok(t, create(t, f, "a", "old").Sync())
	ok(t, f.SyncDir(""))
	ok(t, create(t, f, "b", "new").Sync())
	ok(t, f.Rename("b", "a"))
	wantStates(t, f, 0, "a=old")
	wantStates(t, f, 50, "a=old", "a=old b=new", "a=new")
	ok(t, f.SyncDir(""))
	wantStates(t, f, 0, "a=new")
}

func TestCrash_KeepsTheMakingOfANameThatARenameMoved(t *testing.T) {
	f := crashfs.New()
	ok(t, create(t, f, "a", "1").Sync())
	ok(t, f.RenameNoReplace("a", "b"))
	ok(t, f.RenameNoReplace("b", "c"))
	wantStates(t, f, 50, "", "a=1", "b=1", "c=1")
	ok(t, f.SyncDir(""))
	wantStates(t, f, 0, "c=1")
}

func TestCrash_ChoosesNamesIndependently(t *testing.T) {
	f := crashfs.New()
	ok(t, create(t, f, "a", "").Sync())
	ok(t, create(t, f, "b", "").Sync())
	wantStates(t, f, 50, "", "a=", "b=", "a= b=")
	ok(t, f.SyncDir(""))
	ok(t, f.Unlink("a"))
	ok(t, f.Link("b", "c"))
	wantStates(t, f, 0, "a= b=")
	wantStates(t, f, 50, "a= b=", "a= b= c=", "b=", "b= c=")
	wantStates(t, f, 100, "b= c=")
}

func TestCrash_LosesWhatIsInALostDirectory(t *testing.T) {
	f := crashfs.New()
	ok(t, f.Mkdir("d"))
	ok(t, create(t, f, "d/a", "1").Sync())
	ok(t, f.SyncDir("d"))
	wantStates(t, f, 0, "")
	wantStates(t, f, 50, "", "d/ d/a=1")
	ok(t, f.SyncDir(""))
	wantStates(t, f, 0, "d/ d/a=1")
}

func TestCrash_LeavesANewerSyncedNameAlone(t *testing.T) {
	f := crashfs.New()
	ok(t, f.Mkdir("d"))
	ok(t, create(t, f, "a", "1").Sync())
	ok(t, f.SyncDir(""))
	ok(t, f.RenameNoReplace("a", "d/b")) // not synced
	ok(t, create(t, f, "a", "2").Sync())
	ok(t, f.SyncDir(""))
	wantStates(t, f, 0, "a=2 d/")
	wantStates(t, f, 50, "a=2 d/", "a=2 d/ d/b=1")
	wantStates(t, f, 100, "a=2 d/ d/b=1")
}

func TestCrash_KeepsTwoNamesOfOneFileTogether(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a", "1")
	ok(t, f.Link("a", "b"))
	ok(t, h.Sync())
	ok(t, f.SyncDir(""))
	_, err := h.WriteAt([]byte("2"), 0)
	ok(t, err)
	wantStates(t, f, 50, "a=1 b=1", "a=2 b=2")
}

func TestCrash_RepeatsForASeed(t *testing.T) {
	f := crashfs.New()
	for i := range 50 {
		create(t, f, fmt.Sprint("f", i), strings.Repeat("x", 3000))
	}
	for seed := range uint64(20) {
		a, b := show(t, f.Crash(dice(seed), 50)), show(t, f.Crash(dice(seed), 50))
		if a != b {
			t.Fatalf("seed %d gives two trees", seed)
		}
	}
	if show(t, f.Crash(dice(1), 50)) == show(t, f.Crash(dice(2), 50)) {
		t.Fatal("two seeds give one tree")
	}
}

func TestCrash_DoesNotTouchTheTreeItCameFrom(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a", "1")
	ok(t, h.Sync())
	ok(t, f.SyncDir(""))
	after := f.Crash(dice(1), 100)
	_, err := h.WriteAt([]byte("2"), 0)
	ok(t, err)
	ok(t, h.Sync())
	ok(t, f.Unlink("a"))
	if got, want := show(t, after), "a=1"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	ok(t, create(t, after, "b", "").Sync())
	if got, want := show(t, f), ""; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	// The second crash of the second tree finds everything durable.
	again := f.Crash(dice(1), 100)
	wantStates(t, again, 0, "")
}

func TestRestart_KeepsEverythingVisibleAndNothingMoreDurable(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "a", "1")
	if _, err := f.Lock("l", durable.Exclusive, "me"); err != nil {
		t.Fatal(err)
	}
	g := f.Restart()
	if got, want := show(t, g), "a=1 l="; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	if _, err := h.WriteAt([]byte("2"), 0); !errors.Is(err, crashfs.ErrCrashed) {
		t.Fatalf("write of the killed process: got %v, want ErrCrashed", err)
	}
	wantStates(t, g, 0, "")
	wantStates(t, g, 100, "a=1 l=")
	ok(t, g.SyncDir(""))
	wantStates(t, g, 0, "a= l=")
	if _, err := g.Lock("l", durable.Exclusive, "you"); err != nil {
		t.Fatalf("lock after restart: %v", err)
	}
}

func TestCrashAt_StopsBeforeTheOperation(t *testing.T) {
	f := crashfs.New()
	var kinds []string
	f.Before(func(op crashfs.Op) { kinds = append(kinds, fmt.Sprintf("%d %s %s", op.N, op.Kind, op.Name)) })
	f.CrashAt(3)
	h := create(t, f, "a", "1")
	if f.Crashed() {
		t.Fatal("crashed too early")
	}
	if err := h.Sync(); !errors.Is(err, crashfs.ErrCrashed) {
		t.Fatalf("operation 3: got %v, want ErrCrashed", err)
	}
	want := []string{"1 create a", "2 write a", "3 sync a"}
	if !slices.Equal(kinds, want) || f.Ops() != 3 {
		t.Fatalf("got %q and %d, want %q", kinds, f.Ops(), want)
	}
	_, openErr := f.Open("a")
	_, readErr := h.ReadAt(make([]byte, 1), 0)
	_, sizeErr := h.Size()
	_, listErr := f.ReadDir("")
	_, statErr := f.Stat("a")
	_, statfsErr := f.Statfs()
	_, lockErr := f.Lock("l", durable.Shared, "")
	for i, err := range []error{openErr, readErr, sizeErr, listErr, statErr, statfsErr, lockErr,
		f.SyncDir(""), f.Unlink("a"), f.Mkdir("d"), f.Rename("a", "b"), f.Link("a", "b"), h.Close()} {
		if !errors.Is(err, crashfs.ErrCrashed) {
			t.Errorf("call %d after the crash: got %v, want ErrCrashed", i, err)
		}
	}
	if len(kinds) != 3 {
		t.Fatalf("operations after the crash reach the hook: %q", kinds[3:])
	}
	wantStates(t, f, 100, "a=1")
}

func TestLies(t *testing.T) {
	publish := func(l crashfs.Lies) *crashfs.FS {
		f := crashfs.New()
		f.Lie(l)
		ok(t, f.Mkdir("d"))
		ok(t, f.SyncDir(""))
		ok(t, create(t, f, "d/t", "1").Sync())
		ok(t, f.RenameNoReplace("d/t", "d/a"))
		return f
	}
	honest := publish(crashfs.Lies{})
	ok(t, honest.SyncDir("d"))
	wantStates(t, honest, 0, "d/ d/a=1")

	noSync := publish(crashfs.Lies{IgnoreSync: true})
	ok(t, noSync.SyncDir("d"))
	wantStates(t, noSync, 0, "d/ d/a=")

	noDir := publish(crashfs.Lies{IgnoreSyncDir: true})
	ok(t, noDir.SyncDir("d"))
	wantStates(t, noDir, 0, "")

	early := publish(crashfs.Lies{EarlyRename: true})
	ok(t, early.SyncDir(""))
	wantStates(t, early, 0, "d/ d/a=")
	ok(t, early.SyncDir("d"))
	wantStates(t, early, 0, "d/ d/a=1")
	if got := early.Crash(dice(1), 0).Restart(); !strings.Contains(show(t, got), "d/a=1") {
		t.Fatal("successors lose the tree")
	}
}

func TestCapacity_EndsInENOSPC(t *testing.T) {
	f := crashfs.New()
	f.SetCapacity(10)
	h := create(t, f, "a", "123456")
	if err := h.Fallocate(11); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fallocate: got %v, want ENOSPC", err)
	}
	if _, err := h.WriteAt([]byte("12345"), 6); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("write: got %v, want ENOSPC", err)
	}
	_, err := h.WriteAt([]byte("1234"), 6)
	ok(t, err)
	if sp, _ := f.Statfs(); sp != (durable.Space{Free: 0, Total: 10}) {
		t.Fatalf("got %+v", sp)
	}
	ok(t, f.Unlink("a"))
	if sp, _ := f.Statfs(); sp.Free != 10 {
		t.Fatalf("got %d free, want 10", sp.Free)
	}
}

func TestFS_AnswersAsTheKernelDoes(t *testing.T) {
	f := crashfs.New()
	ok(t, f.Mkdir("d"))
	h := create(t, f, "a", "x")
	r, err := f.Open("a")
	ok(t, err)
	_, noDir := f.Create("nowhere/a")
	_, below := f.Create("a/b")
	_, taken := f.Create("a")
	_, missing := f.Open("b")
	_, dir := f.Open("d")
	_, readOnly := r.WriteAt([]byte("x"), 0)
	_, bad := f.Create("../a")
	_, root := f.Create("")
	for _, c := range []struct {
		what      string
		got, want error
	}{
		{"create without a directory", noDir, fs.ErrNotExist},
		{"create below a file", below, syscall.ENOTDIR},
		{"create over a file", taken, fs.ErrExist},
		{"open of nothing", missing, fs.ErrNotExist},
		{"open of a directory", dir, syscall.EINVAL},
		{"write to a file open for reading", readOnly, syscall.EBADF},
		{"create outside", bad, syscall.EINVAL},
		{"create of the root", root, syscall.EINVAL},
		{"mkdir over a file", f.Mkdir("a"), fs.ErrExist},
		{"rename over a name", f.RenameNoReplace("a", "d"), fs.ErrExist},
		{"replace of a directory", f.Rename("a", "d"), syscall.EISDIR},
		{"rename of nothing", f.RenameNoReplace("b", "c"), fs.ErrNotExist},
		{"rename into nowhere", f.RenameNoReplace("a", "x/y"), fs.ErrNotExist},
		{"link over a name", f.Link("a", "d"), fs.ErrExist},
		{"unlink of nothing", f.Unlink("b"), fs.ErrNotExist},
		{"unlink of a directory", f.Unlink("d"), syscall.EISDIR},
		{"sync of no directory", f.SyncDir("b"), fs.ErrNotExist},
		{"sync of a file as directory", f.SyncDir("a"), syscall.ENOTDIR},
		{"fallocate of nothing", h.Fallocate(0), syscall.EINVAL},
		{"truncate below zero", h.Truncate(-1), syscall.EINVAL},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
	ok(t, h.Close())
	if err := h.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second close: got %v, want ErrClosed", err)
	}
	if err := h.Sync(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("sync after close: got %v, want ErrClosed", err)
	}
}

// FuzzCrash runs operations on one name table and checks the two ends of every
// crash: with 100 percent nothing is lost, and what a full sync made durable
// is there with 0 percent.
func FuzzCrash(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x10\x20\x30\x40"))
	f.Add([]byte("\x00\x20\x05\x41\x06\x12\x07\x33"))
	f.Fuzz(func(t *testing.T, script []byte) {
		names := []string{"a", "b", "d/a", "d/b", "e/a", "d", "e"}
		f := crashfs.New()
		open := map[string]durable.File{}
		for i := 0; i+1 < len(script) && i < 400; i += 2 {
			x, y := names[int(script[i+1]&15)%len(names)], names[int(script[i+1]>>4)%len(names)]
			switch script[i] % 10 {
			case 0:
				if h, err := f.Create(x); err == nil {
					open[x] = h
				}
			case 1:
				f.Mkdir(x)
			case 2:
				f.Link(x, y)
			case 3:
				f.Rename(x, y)
			case 4:
				f.RenameNoReplace(x, y)
			case 5:
				f.Unlink(x)
			case 6:
				f.SyncDir(x)
			case 7:
				if h := open[x]; h != nil {
					h.WriteAt([]byte{'A' + script[i+1]%26, 'z'}, int64(script[i])*7)
				}
			case 8:
				if h := open[x]; h != nil {
					h.Truncate(int64(script[i]))
				}
			case 9:
				if h := open[x]; h != nil {
					h.Sync()
				}
			}
		}
		now := show(t, f)
		if got := show(t, f.Crash(dice(1), 100)); got != now {
			t.Fatalf("crash that loses nothing: got %q, want %q", got, now)
		}
		half := f.Crash(dice(uint64(len(script))), 50)
		if a, b := show(t, half), show(t, half.Crash(dice(2), 0)); a != b {
			t.Fatalf("what a crash left is not durable: %q became %q", a, b)
		}
		g := f.Restart()
		if got := show(t, g); got != now {
			t.Fatalf("restart: got %q, want %q", got, now)
		}
		for _, h := range open {
			h.Close()
		}
		for _, dir := range []string{"d", "e", ""} {
			g.SyncDir(dir)
		}
		var keys []string
		for _, s := range []string{show(t, g), show(t, g.Crash(dice(3), 0))} {
			var list []string
			for _, field := range strings.Split(s, " ") {
				name, _, _ := strings.Cut(field, "=")
				list = append(list, name)
			}
			keys = append(keys, strings.Join(list, " "))
		}
		if keys[0] != keys[1] {
			t.Fatalf("all directories synced: got names %q, want %q", keys[1], keys[0])
		}
	})
}
