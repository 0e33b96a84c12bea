package backup_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

func TestRun_TypesNameTheirBases(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "f", []byte("x"))
	settle()
	v := newVault(t, store.NewMem())
	run := func(typ backup.Type) (*repo.Manifest, string) {
		rep, err := v.try(t, t.Context(), newTree(t, dir), options(typ))
		must(t, err)
		v.wantTree(t, clean(t, rep.Snapshot), dir)
		return rep.Snapshot, strings.Join(rep.Notes, "\n")
	}
	promoted, notes := run(backup.Incremental)
	if promoted.Type != "full" || promoted.BaseID != "" || !strings.Contains(notes, "no snapshot to base this backup on") {
		t.Errorf("without a base: got %s on %q, notes %q", promoted.Type, promoted.BaseID, notes)
	}
	inc1, _ := run(backup.Incremental)
	inc2, _ := run(backup.Incremental)
	diff, _ := run(backup.Differential)
	if inc1.BaseID != promoted.ID || inc2.BaseID != inc1.ID || diff.BaseID != promoted.ID || diff.Type != "differential" {
		t.Errorf("got bases %s, %s, %s", inc1.BaseID, inc2.BaseID, diff.BaseID)
	}
	full, _ := run(backup.Full)
	if full.Type != "full" || full.Totals.BytesRead != 1 || full.Totals.Unchanged != 1 || full.Totals.BytesNew != 0 {
		t.Errorf("full: got %+v, want everything read and nothing stored", full.Totals)
	}
	diff, _ = run(backup.Differential)
	inc, _ := run(backup.Incremental)
	if diff.BaseID != full.ID || inc.BaseID != diff.ID || inc.Parts[0].Generation != diff.Parts[0].Generation+1 {
		t.Errorf("after the second full one: got bases %s and %s, generation %d", diff.BaseID, inc.BaseID, inc.Parts[0].Generation)
	}
}

func TestRun_TakesOnlyABaseOfTheSameSourceAndHost(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "f", []byte("x"))
	settle()
	v := newVault(t, store.NewMem())
	clean(t, v.run(t, newTree(t, dir), backup.Full))
	for name, change := range map[string]func(o *asked){
		"host":   func(o *asked) { o.Host = "there" },
		"source": func(o *asked) { o.Part.Source = "other" },
		"kind":   func(o *asked) { o.Part.Kind = "sqlite" },
		"paths":  func(o *asked) { o.Part.Paths = [][]byte{[]byte("/data"), []byte("/more")} },
	} {
		o := options(backup.Incremental)
		change(&o)
		for _, want := range []string{"full", "incremental"} {
			rep, err := v.try(t, t.Context(), newTree(t, dir), o)
			must(t, err)
			if got := rep.Snapshot.Type; got != want {
				t.Errorf("other %s: got %s, want %s", name, got, want)
			}
			slices.Reverse(o.Part.Paths) // their order does not matter
		}
	}
}

func TestRun_DoesNotTrustASnapshotFromTheFuture(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "f", []byte("x"))
	settle()
	v := newVault(t, store.NewMem())
	// Two snapshots, of which the second claims to be of tomorrow.
	first := clean(t, v.run(t, newTree(t, dir), backup.Full))
	fake := func() {
		r := v.open(t)
		defer r.Close()
		w, err := r.NewWriter(t.Context(), repo.WriterOptions{})
		must(t, err)
		defer w.Close()
		m := *first
		at := time.Now().Add(24 * time.Hour)
		m.ID, err = r.NewID(at)
		must(t, err)
		m.CreatedAt = at
		m.Parts = slices.Clone(m.Parts)
		m.Parts[0].StartedAt = at
		must(t, w.Commit(t.Context(), &m))
	}
	fake()
	rep, err := v.try(t, t.Context(), newTree(t, dir), options(backup.Incremental))
	must(t, err)
	if m := rep.Snapshot; m.BaseID != first.ID || m.Totals.BytesRead != 0 || !strings.Contains(strings.Join(rep.Notes, "\n"), "clock went backwards") {
		t.Errorf("got base %s, %d bytes read, notes %q; want the sane snapshot", m.BaseID, m.Totals.BytesRead, rep.Notes)
	}
	// Without a sane one everything is read.
	r := v.open(t)
	must(t, r.Forget(t.Context(), first.ID, rep.Snapshot.ID))
	r.Close()
	rep, err = v.try(t, t.Context(), newTree(t, dir), options(backup.Incremental))
	must(t, err)
	if m := rep.Snapshot; m.BaseID == "" || m.Totals.BytesRead != 1 || m.Type != "incremental" {
		t.Errorf("got base %q and %d bytes read, want the only base there is, unread nothing", m.BaseID, m.Totals.BytesRead)
	}
}

func TestRun_HealsALostPack(t *testing.T) {
	dir := t.TempDir()
	sample(t, dir)
	settle()
	v := newVault(t, store.NewMem())
	v.state = t.TempDir()
	clean(t, v.run(t, newTree(t, dir), backup.Full))
	infos, err := v.st.List(t.Context(), "packs")
	must(t, err)
	for _, in := range infos {
		must(t, v.st.Remove(t.Context(), in.Name))
		src := newTree(t, dir)
		m := clean(t, v.run(t, src, backup.Incremental))
		v.wantTree(t, m, dir)
		if src.left.Load() != src.released.Load() {
			t.Error("a directory was not released")
		}
	}
	// What the first snapshots had is back by its ids, apart from lost pages.
	if m := clean(t, v.run(t, newTree(t, dir), backup.Incremental)); m.Totals.BytesNew != 0 {
		t.Errorf("%d bytes were stored again", m.Totals.BytesNew)
	}
	forgetLost(t, v)
}

// forgetLost leaves the latest snapshot only: those before it may lack pages
// that nobody could make again.
func forgetLost(t *testing.T, v *vault) {
	t.Helper()
	r := v.open(t)
	defer r.Close()
	var ids []string
	for _, s := range r.Snapshots() {
		ids = append(ids, s.ID)
	}
	must(t, r.Forget(t.Context(), ids[:len(ids)-1]...))
	_, err := r.GC(t.Context(), repo.GCOptions{}, new(repo.GCProgress))
	must(t, err)
}

func TestRun_LostLargeFileIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "large", random(1, 3*backup.LargeFile))
	must(t, os.Link(filepath.Join(dir, "large"), filepath.Join(dir, "second name")))
	write(t, dir, "small", random(2, 1000))
	settle()
	v := newVault(t, store.NewMem())
	v.state = t.TempDir()
	clean(t, v.run(t, newTree(t, dir), backup.Full))
	infos, err := v.st.List(t.Context(), "packs")
	must(t, err)
	slices.SortFunc(infos, func(a, b store.Info) int { return int(b.Size - a.Size) })
	must(t, v.st.Remove(t.Context(), infos[0].Name))
	m := clean(t, v.run(t, newTree(t, dir), backup.Incremental))
	v.wantTree(t, m, dir)
	if c := m.Totals; c.Unchanged != 3 || c.BytesNew < 3*backup.LargeFile {
		t.Errorf("got %+v, want all stored again and none called changed", c)
	}
}

// generations makes the snapshots of a lineage, the given ones only.
func generations(t *testing.T, have ...uint64) (snaps []*repo.Snapshot, part *repo.Part) {
	t.Helper()
	for _, g := range have {
		p := repo.Part{Source: "s", Kind: "files", Generation: g}
		must(t, p.SetRoot(&repo.Entry{Type: repo.TypeDirectory, UID: uint32(g), Nlink: 2}))
		snaps = append(snaps, &repo.Snapshot{Manifest: repo.Manifest{ID: fmt.Sprint(g), Host: "h", Parts: []repo.Part{p}}})
	}
	return snaps, &repo.Part{Source: "s", Kind: "files"}
}

func upTo(n uint64) (all []uint64) {
	for g := range n {
		all = append(all, g)
	}
	return all
}

func TestVersions_ClearTheLowestDigits(t *testing.T) {
	const thin = backup.ThinDepth
	for _, c := range []struct {
		have  []uint64 // the last one is the base; the new version is one after it
		want  []uint32
		below uint8
	}{
		{upTo(1), []uint32{0}, 1},              // 1 → 0
		{upTo(2), []uint32{0}, 1},              // 2 → 0
		{upTo(4), []uint32{0}, 1},              // 10 → 0
		{upTo(5), []uint32{4, 0}, 2},           // 11 → 10 → 0
		{upTo(31), []uint32{28, 16, 0}, 3},     // 133 → 130 → 100 → 0
		{upTo(32), []uint32{0}, 1},             // 200 → 0
		{upTo(64), nil, 0},                     // 1000 begins anew
		{upTo(65), []uint32{64}, 1},            // 1001 → 1000, and no further
		{upTo(85), []uint32{84, 80, 64}, 3},    //
		{[]uint64{1, 2, 3}, []uint32{1}, thin}, // 0 is gone: the nearest after it
		{[]uint64{0, 3}, []uint32{0}, 1},
		{[]uint64{3}, []uint32{3}, thin},                         // only the base is left
		{[]uint64{0, 5}, []uint32{5, 0}, thin},                   // 6 → 4 is gone
		{[]uint64{16, 30}, []uint32{30, 16}, thin},               // 31 → 28, 0 are gone
		{[]uint64{28, 30}, []uint32{28}, 3},                      // … 16 and 0
		{[]uint64{0, 2, 2, 2}, []uint32{0}, 1},                   // differentials share a generation
		{[]uint64{0, 1, 2, 3, 4, 1, 2, 3, 4}, []uint32{4, 0}, 2}, // what came after the full one forks
	} {
		snaps, part := generations(t, c.have...)
		last := len(snaps) - 1
		got, below := backup.Versions(snaps[:last], snaps[last], part, "h")
		if !slices.Equal(got, c.want) || below != c.below {
			t.Errorf("with %v: got %d below %d, want %d below %d", c.have, got, below, c.want, c.below)
		}
		if got, _ := backup.Versions(snaps[:last], snaps[last], part, "another host"); c.want != nil && !slices.Equal(got, []uint32{uint32(c.have[last])}) {
			t.Errorf("with %v of another host: got %d, want the base", c.have, got)
		}
	}
}

func TestVersions_LieThreeDeepHoweverManyThereAre(t *testing.T) {
	depth := []int{0}
	for n := uint64(1); n < 400; n++ {
		snaps, part := generations(t, upTo(n)...)
		last := len(snaps) - 1
		from, below := backup.Versions(snaps[:last], snaps[last], part, "h")
		deepest := 0
		for _, v := range from {
			deepest = max(deepest, depth[v]+1)
		}
		if depth = append(depth, deepest); deepest > 3 || deepest > int(below) {
			t.Errorf("version %d leans on %d and lies %d deep, below %d", n, from, deepest, below)
		}
	}
}

// rebooted is a tree whose scan tells other device numbers, by booted, than those it is on.
type rebooted struct{ *tree }

const booted = 7

func (s rebooted) Details(e *source.Entry) (source.Details, error) {
	was := *e
	was.Dev -= booted
	return s.tree.Details(&was)
}

// Names of one inode are known by its device number, which a boot may change: taking over one name as it was and storing
// another as it is now would make two of them, whatever they are.
func TestRun_KeepsNamesOfOneInodeTogetherWhenTheDeviceNumberChanges(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Symlink("nowhere", dir+"/symlink"))
	must(t, unix.Mkfifo(dir+"/fifo", 0o600))
	must(t, os.Mkdir(dir+"/old", 0o755))
	kinds := []string{"symlink", "fifo"}
	for _, name := range kinds {
		must(t, os.Link(dir+"/"+name, dir+"/old/"+name))
	}
	settle()
	v := newVault(t, store.NewMem())
	clean(t, v.run(t, newTree(t, dir), backup.Full))
	must(t, os.Rename(dir+"/old", dir+"/new")) // changes no inode but the directory's
	src := newTree(t, dir)
	src.enter = func(e *source.Entry) { e.Dev += booted }
	all := v.read(t, clean(t, v.run(t, rebooted{src}, backup.Incremental)))
	for _, name := range kinds {
		a, b := all[name], all["new/"+name]
		if a.Inode != b.Inode || a.Device != b.Device || a.Nlink != 2 {
			t.Errorf("%s: stored as %d:%d and %d:%d, %d names", name, a.Device, a.Inode, b.Device, b.Inode, a.Nlink)
		}
	}
}

// accounts is a tree whose owners have other names than this host gives them.
type accounts struct {
	*tree
	user, group string
}

func (s accounts) Owner(*source.Entry) (user, group string) { return s.user, s.group }

func (s accounts) named(d source.Details, err error) (source.Details, error) {
	d.User, d.Group = s.user, s.group
	return d, err
}

func (s accounts) Details(e *source.Entry) (source.Details, error) { return s.named(s.tree.Details(e)) }

func (s accounts) Open(e *source.Entry) (source.File, error) {
	f, err := s.tree.Open(e)
	return accountsFile{f, s}, err
}

type accountsFile struct {
	source.File
	s accounts
}

func (f accountsFile) Details() (source.Details, error) { return f.s.named(f.File.Details()) }

// A restore goes by names, so those of the base are not taken over when an account was renamed or its number given to
// another; where they are the same, nothing is read.
func TestRun_StoresTheNamesOwnersHaveNow(t *testing.T) {
	dir := t.TempDir()
	sample(t, dir)
	settle()
	v := newVault(t, store.NewMem())
	clean(t, v.run(t, accounts{newTree(t, dir), "alice", "users"}, backup.Full))
	for _, now := range []accounts{{user: "bob", group: "users"}, {user: "bob", group: "staff"}, {user: "bob"}, {user: "bob"}, {user: "alice", group: "users"}} {
		was := v.run(t, accounts{newTree(t, dir), now.user, now.group}, backup.Incremental)
		for name, f := range v.read(t, clean(t, was)) {
			if f.User != now.user || f.Group != now.group {
				t.Errorf("%s belongs to %q:%q, want %q:%q", name, f.User, f.Group, now.user, now.group)
			}
		}
		o := options(backup.Incremental)
		o.DryRun = true
		for what, next := range map[string]accounts{"same": now, "renamed": {user: "carol"}} {
			rep, err := v.try(t, t.Context(), accounts{newTree(t, dir), next.user, next.group}, o)
			must(t, err)
			if c := rep.Snapshot.Totals; (c.Changed > 0) != (what == "renamed") || c.Changed+c.Unchanged != c.Files {
				t.Errorf("dry run over %s owners: %+v", what, c)
			}
		}
		again := v.run(t, accounts{newTree(t, dir), now.user, now.group}, backup.Incremental)
		if c := clean(t, again).Totals; c.BytesRead != 0 || c.Unchanged != c.Files {
			t.Errorf("with the same names: %+v", c)
		}
	}
}
