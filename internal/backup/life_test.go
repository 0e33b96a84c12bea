package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/generalbots/backupd/chunker"
	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

// life is a directory that changes, and what its snapshots have to give back.
type life struct {
	*vault
	t     *testing.T
	rng   *rand.Rand
	dir   string
	made  int                          // names
	kept  map[string]map[string][]byte // by snapshot: content by path
	ended int                          // runs that were cancelled
	odd   int                          // files that changed while they were read
}

// Files are written in place with their times put back, grow, shrink, move,
// become holes, get other names; they do so while they are read; runs of every
// type follow each other, or are cancelled; snapshots that are bases are
// forgotten, gc runs, the index or all that the host remembers is lost. Every
// snapshot of a quiet moment gives that moment back, and is cut as if there were
// nothing before it.
func TestRun_EveryVersionComesBackWhateverHappenedBetween(t *testing.T) {
	odd, ended := 0, 0
	for seed := range 2 * max(scale(), 1) {
		l := &life{
			vault: smallPacks(t, store.NewMem()), t: t, rng: rand.New(rand.NewPCG(seed, 77)),
			dir: t.TempDir(), kept: make(map[string]map[string][]byte),
		}
		l.state = filepath.Join(t.TempDir(), "state")
		for range 12 {
			l.create()
		}
		for step := range 16 {
			for range 1 + l.rng.IntN(6) {
				l.edit()
			}
			l.upkeep()
			switch step % 4 {
			case 1:
				l.disturbed()
			case 2:
				l.cancelled()
			}
			if l.rng.IntN(2) == 0 {
				settle()
			}
			l.quiet()
		}
		for id, want := range l.kept {
			l.compare(id, want)
		}
		l.check(t)
		odd, ended = odd+l.odd, ended+l.ended
	}
	if odd < 3 || ended == 0 {
		t.Errorf("%d files changed while they were read, %d runs were cancelled: this proves little", odd, ended)
	}
}

// scale is how much more than usual is done.
func scale() uint64 {
	n, _ := strconv.ParseUint(os.Getenv("CRASH_SCALE"), 10, 16)
	return n
}

// pick chooses a file, "" when there is none.
func (l *life) pick() string {
	var all []string
	must(l.t, filepath.WalkDir(l.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all = append(all, path)
		}
		return err
	}))
	if len(all) == 0 {
		return ""
	}
	return all[l.rng.IntN(len(all))]
}

func (l *life) name() string {
	l.made++
	return filepath.Join(l.dir, fmt.Sprintf("d%d", l.rng.IntN(4)), fmt.Sprintf("f%03d", l.made))
}

func (l *life) size() int {
	switch l.rng.IntN(6) {
	case 0:
		return l.rng.IntN(3)
	case 1:
		return backup.LargeFile + l.rng.IntN(2<<20)
	case 2, 3:
		return l.rng.IntN(1 << 20)
	}
	return l.rng.IntN(40_000)
}

func (l *life) bytes(n int) []byte {
	switch l.rng.IntN(4) {
	case 0:
		return rows(l.rng, n)[:n]
	case 1:
		return bytes.Repeat([]byte{byte(l.rng.IntN(3))}, n)
	}
	return random(l.rng.Uint64(), n)
}

func (l *life) create() {
	path := l.name()
	must(l.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(l.t, os.WriteFile(path, l.bytes(l.size()), 0o644))
}

// inPlace writes within a file, and puts its times back.
func (l *life) inPlace(path string) {
	st, err := os.Stat(path)
	if err != nil || st.Size() == 0 {
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(l.t, err)
	for range 1 + l.rng.IntN(8) {
		off := l.rng.Int64N(st.Size())
		_, err = f.WriteAt(random(l.rng.Uint64(), int(min(st.Size()-off, 1+l.rng.Int64N(5000)))), off)
		must(l.t, err)
	}
	must(l.t, f.Close())
	must(l.t, os.Chtimes(path, st.ModTime(), st.ModTime()))
}

func (l *life) edit() {
	path := l.pick()
	if path == "" {
		l.create()
		return
	}
	st, err := os.Stat(path)
	must(l.t, err)
	n := st.Size()
	data, err := os.ReadFile(path)
	must(l.t, err)
	at := int(l.rng.Int64N(n + 1))
	switch l.rng.IntN(14) {
	case 0:
		l.create()
	case 1:
		must(l.t, os.Remove(path))
	case 2, 3, 4:
		l.inPlace(path)
	case 5:
		must(l.t, os.WriteFile(path, slices.Concat(data[:at], l.bytes(l.rng.IntN(70_000)), data[at:]), 0o644))
	case 6:
		must(l.t, os.WriteFile(path, slices.Concat(data, l.bytes(l.rng.IntN(300_000))), 0o644))
	case 7:
		must(l.t, os.Truncate(path, int64(at)))
	case 8: // a hole at the end, or one in between
		must(l.t, os.Truncate(path, int64(at)))
		must(l.t, os.Truncate(path, n+l.rng.Int64N(1<<20)))
	case 9:
		must(l.t, os.WriteFile(path+"~", slices.Concat(data[at:], data[:at]), 0o644))
		must(l.t, os.Rename(path+"~", path))
	case 10: // the content of another file, and its name
		if other := l.pick(); other != path {
			must(l.t, os.Rename(other, path))
		}
	case 11:
		must(l.t, os.Link(path, l.sibling(path)))
	case 12:
		must(l.t, os.WriteFile(l.sibling(path), data, 0o644))
	case 13:
		must(l.t, os.Chmod(path, os.FileMode(0o600+l.rng.IntN(0o77))))
	}
}

func (l *life) sibling(path string) string {
	l.made++
	return fmt.Sprintf("%s-%d", path, l.made)
}

// upkeep is what happens to the repository and to what the host remembers.
func (l *life) upkeep() {
	switch l.rng.IntN(8) {
	case 0:
		must(l.t, os.RemoveAll(filepath.Join(l.state, "index")))
	case 1:
		must(l.t, os.RemoveAll(l.state))
	case 2: // an index of some time ago
		saved := l.t.TempDir()
		if os.CopyFS(filepath.Join(saved, "index"), os.DirFS(filepath.Join(l.state, "index"))) == nil {
			l.quiet()
			must(l.t, os.RemoveAll(filepath.Join(l.state, "index")))
			must(l.t, os.CopyFS(filepath.Join(l.state, "index"), os.DirFS(filepath.Join(saved, "index"))))
		}
	case 3, 4, 5:
		r := l.open(l.t)
		defer r.Close()
		for range 1 + l.rng.IntN(2) {
			ids := slices.Sorted(maps.Keys(l.kept))
			if len(ids) == 0 {
				break
			}
			id := ids[len(ids)-1]
			if l.rng.IntN(2) == 0 {
				id = ids[l.rng.IntN(len(ids))]
			}
			must(l.t, r.Forget(l.t.Context(), id))
			delete(l.kept, id)
		}
		if l.rng.IntN(2) == 0 {
			_, err := r.GC(l.t.Context(), repo.GCOptions{}, new(repo.GCProgress))
			must(l.t, err)
		}
	}
}

func (l *life) kind() backup.Type {
	return []backup.Type{backup.Full, backup.Incremental, backup.Incremental, backup.Incremental, backup.Differential}[l.rng.IntN(5)]
}

// quiet makes a snapshot while nothing changes.
func (l *life) quiet() {
	m := clean(l.t, l.run(l.t, newTree(l.t, l.dir), l.kind()))
	want := make(map[string][]byte)
	must(l.t, filepath.WalkDir(l.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			want[path[len(l.dir)+1:]], err = os.ReadFile(path)
		}
		return err
	}))
	l.kept[m.ID] = want
	l.compare(m.ID, want)
}

// compare wants a snapshot to hold these files, cut as if they were new.
func (l *life) compare(id string, want map[string][]byte) {
	l.t.Helper()
	r := l.open(l.t)
	defer r.Close()
	profile, err := r.Config().Profile("files")
	must(l.t, err)
	cutter, err := chunker.New(profile.Chunker, chunker.NewTable(r.GearMaterial()))
	must(l.t, err)
	var s *repo.Snapshot
	for _, s = range r.Snapshots() {
		if s.ID == id {
			break
		}
	}
	got := l.read(l.t, &s.Manifest)
	for name, data := range want {
		f, ok := got[name]
		if !ok || !bytes.Equal(f.data, data) {
			l.t.Fatalf("%s of snapshot %s, a %s one: there is %v, other bytes (%d, want %d)", name, id, s.Type, ok, len(f.data), len(data))
		}
		stream := data
		if f.Sparse {
			stream = nil
			for _, x := range f.Extents {
				stream = append(stream, data[x.Off:x.Off+x.Len]...)
			}
		}
		cr := r.Reader().Content(&f.Content)
		for at := 0; at < len(stream); {
			n := cutter.Cut(stream[at:], true)
			if ref, ok, err := cr.Next(l.t.Context()); err != nil || !ok || int(ref.Len) != n {
				l.t.Fatalf("%s of snapshot %s, a %s one: a chunk of %d bytes at %d of %d, want %d (%v)", name, id, s.Type, ref.Len, at, len(stream), n, err)
			}
			at += n
		}
	}
	for name, f := range got {
		if _, ok := want[name]; !ok && f.Type == repo.TypeRegular {
			l.t.Fatalf("%s is in snapshot %s, a %s one, and was not there", name, id, s.Type)
		}
	}
}

// meddled is a source whose files change while they are read.
func (l *life) meddled(what func(name string)) *tree {
	src := newTree(l.t, l.dir)
	src.open = func(name string, f source.File, err error) (source.File, error) {
		if err != nil {
			return f, err
		}
		return &hooked{File: f, before: func(int) error { what(name); return nil }}, nil
	}
	return src
}

// disturbed makes a snapshot while files change; what it has of them is not
// looked at, but it is a base as good as any.
func (l *life) disturbed() {
	turn := make(chan struct{}, 1) // rng is for one at a time
	turn <- struct{}{}
	src := l.meddled(func(string) {
		<-turn
		defer func() { turn <- struct{}{} }()
		if l.rng.IntN(6) > 0 {
			return
		}
		path := l.pick()
		st, err := os.Stat(path)
		if err != nil {
			return
		}
		l.odd++
		switch l.rng.IntN(5) {
		case 0:
			must(l.t, os.Truncate(path, l.rng.Int64N(st.Size()+1)))
		case 1:
			must(l.t, os.Truncate(path, st.Size()+l.rng.Int64N(500_000)))
		case 2:
			must(l.t, os.WriteFile(path+"~", l.bytes(l.size()), 0o644))
			must(l.t, os.Rename(path+"~", path))
		default:
			l.inPlace(path)
		}
	})
	_, err := l.try(l.t, l.t.Context(), src, options(l.kind()))
	must(l.t, err)
}

// cancelled begins a run and ends it somewhere.
func (l *life) cancelled() {
	ctx, cancel := context.WithCancelCause(l.t.Context())
	defer cancel(nil)
	stop := errors.New("stopped")
	left := make(chan int, 1)
	left <- l.rng.IntN(30)
	src := l.meddled(func(string) {
		n := <-left
		if n == 0 {
			cancel(stop)
		}
		left <- n - 1
	})
	_, err := l.try(l.t, ctx, src, options(l.kind()))
	if err != nil && !errors.Is(err, stop) {
		l.t.Fatal(err)
	}
	if err != nil {
		l.ended++
	}
	time.Sleep(time.Millisecond) // ids ascend
}

// Packs that vanished, or were cut short, are not missed by what comes after: a run that can not know that all is there
// asks, and stores again what is not.
func TestRun_AfterALossEveryNewVersionIsWhole(t *testing.T) {
	for seed := range 3 * max(scale(), 1) {
		l := &life{
			vault: smallPacks(t, store.NewMem()), t: t, rng: rand.New(rand.NewPCG(seed, 78)),
			dir: t.TempDir(), kept: make(map[string]map[string][]byte),
		}
		l.state = filepath.Join(t.TempDir(), "state")
		for range 20 {
			l.create()
		}
		l.quiet()
		for range 3 {
			l.edit()
			settle()
			l.quiet()
			l.lose()
			if l.rng.IntN(2) == 0 {
				must(t, os.RemoveAll(filepath.Join(l.state, []string{"", "index"}[l.rng.IntN(2)])))
			}
			if l.rng.IntN(2) == 0 {
				l.edit()
			}
			if l.rng.IntN(3) == 0 {
				l.cancelled()
			}
			l.quiet()
		}
	}
}

// lose removes some packs and cuts others short.
func (l *life) lose() {
	ctx := l.t.Context()
	infos, err := l.st.List(ctx, "packs")
	must(l.t, err)
	for range 1 + l.rng.IntN(3) {
		in := infos[l.rng.IntN(len(infos))]
		o, err := l.st.Open(ctx, in.Name)
		if errors.Is(err, store.ErrNotExist) {
			continue
		}
		must(l.t, err)
		part := make([]byte, l.rng.Int64N(o.Size()))
		_, err = o.ReadAt(part, 0)
		must(l.t, err)
		must(l.t, o.Close())
		must(l.t, l.st.Remove(ctx, in.Name))
		if len(part) == 0 || l.rng.IntN(3) > 0 {
			continue
		}
		w, err := l.st.Create(ctx, in.Name, int64(len(part)))
		must(l.t, err)
		_, err = w.WriteAt(part, 0)
		must(l.t, err)
		must(l.t, w.Commit(ctx))
	}
}
