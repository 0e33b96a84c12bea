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
	"strings"
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
	hosts [2]string                    // state directories
	stays bool                         // the repository stays open, as in a daemon
	r     *repo.Repo                   // then
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
		l.hosts = [2]string{filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "state")}
		l.state, l.stays = l.hosts[0], seed%2 == 1
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
		l.leave()
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

// enter opens the repository, unless it is open.
func (l *life) enter() *repo.Repo {
	if l.r == nil {
		l.r = l.open(l.t)
	}
	return l.r
}

// leave ends what one process does.
func (l *life) leave() {
	if l.r != nil {
		must(l.t, l.r.Close())
		l.r = nil
	}
}

func (l *life) pass() {
	if !l.stays {
		l.leave()
	}
}

// upkeep is what happens to the repository and to what its hosts remember.
func (l *life) upkeep() {
	if l.rng.IntN(6) == 0 {
		l.leave()
		l.state = l.hosts[l.rng.IntN(2)]
	}
	index := filepath.Join(l.state, "index")
	switch l.rng.IntN(8) {
	case 0:
		l.leave()
		must(l.t, os.RemoveAll(index))
	case 1:
		l.leave()
		must(l.t, os.RemoveAll(l.state))
	case 2: // an index of some time ago
		l.leave()
		saved := filepath.Join(l.t.TempDir(), "index")
		if os.CopyFS(saved, os.DirFS(index)) == nil {
			l.quiet()
			l.forget()
			l.leave()
			must(l.t, os.RemoveAll(index))
			must(l.t, os.CopyFS(index, os.DirFS(saved)))
		}
	case 3, 4, 5:
		l.forget()
	}
}

// forget removes snapshots, mostly the latest, and perhaps what they alone had.
func (l *life) forget() {
	defer l.pass()
	r := l.enter()
	for range 1 + l.rng.IntN(2) {
		ids := slices.Sorted(maps.Keys(l.kept))
		if len(ids) == 0 {
			return
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

func (l *life) backup(ctx context.Context, src source.Source) (*repo.Manifest, error) {
	defer l.pass()
	o := options(l.kind())
	rep, err := backup.Run(ctx, l.enter(), []backup.Part{{Part: o.Part, From: src}}, o.Options, new(backup.Progress))
	if err != nil {
		return nil, err
	}
	return rep.Snapshot, nil
}

func (l *life) kind() backup.Type {
	return []backup.Type{backup.Full, backup.Incremental, backup.Incremental, backup.Incremental, backup.Differential}[l.rng.IntN(5)]
}

// quiet makes a snapshot while nothing changes.
func (l *life) quiet() {
	m, err := l.backup(l.t.Context(), newTree(l.t, l.dir))
	must(l.t, err)
	clean(l.t, m)
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
	defer l.pass()
	r := l.enter()
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
	got := readAll(l.t, r, &s.Manifest)
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
	_, err := l.backup(l.t.Context(), src)
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
	_, err := l.backup(ctx, src)
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

// What another host stored and lost before this one saw it, this one can not miss: it asks for what it has from there.
func TestRun_ABaseOfAnotherHostIsNotTrustedUnseen(t *testing.T) {
	for _, typ := range []backup.Type{backup.Incremental, backup.Differential} {
		dir := t.TempDir()
		v := smallPacks(t, store.NewMem())
		here, there := filepath.Join(t.TempDir(), "here"), filepath.Join(t.TempDir(), "there")
		write(t, dir, "first", random(60, 100_000))
		settle()
		v.state = here
		clean(t, v.run(t, newTree(t, dir), backup.Full))
		write(t, dir, "second", random(61, 100_000))
		write(t, dir, "large", random(62, backup.LargeFile+1))
		settle()
		before, err := v.st.List(t.Context(), "packs")
		must(t, err)
		v.state = there
		clean(t, v.run(t, newTree(t, dir), backup.Full))
		after, err := v.st.List(t.Context(), "packs")
		must(t, err)
		for _, in := range after {
			if !slices.Contains(before, in) && strings.HasSuffix(in.Name, "data") {
				must(t, v.st.Remove(t.Context(), in.Name))
			}
		}
		v.state = here
		write(t, dir, "second", append(random(61, 100_000), 1)) // begins as it did
		for range 2 {
			v.wantTree(t, clean(t, v.run(t, newTree(t, dir), typ)), dir)
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
