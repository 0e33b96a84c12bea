package backup_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/generalbots/backupd/chunker"
	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
)

// However a file changed, it is cut as if there were no base: the same bytes
// have the same chunks in every snapshot, whatever came before.
func TestRun_CutsAChangedFileAsIfItWereNew(t *testing.T) { cutsAsIfNew(t, 700_000) }

// What was read by segments is put together of them.
func TestRun_CutsAChangedLargeFileAsIfItWereNew(t *testing.T) { cutsAsIfNew(t, 7_000_000) }

func cutsAsIfNew(t *testing.T, n int) {
	whole := random(40, n)
	more := random(41, n/7)
	same := bytes.Repeat([]byte{7}, n/2)
	here, there := slices.Clone(whole), slices.Clone(whole)
	copy(here[n/2:], more[:100])
	for i := range 30 {
		there[(i*i+7)*n/1000]++
	}
	versions := map[string][2][]byte{
		"unchanged":           {whole, whole},
		"changed in a place":  {whole, here},
		"changed in many":     {whole, there},
		"of other bytes":      {whole, random(42, n)},
		"appended":            {whole, slices.Concat(whole, more)},
		"appended a byte":     {whole, append(slices.Clone(whole), 1)},
		"truncated":           {whole, whole[:n-1]},
		"truncated by much":   {whole, whole[:n/3]},
		"inserted in front":   {whole, slices.Concat(more, whole)},
		"inserted within":     {whole, slices.Concat(whole[:n/2], more, whole[n/2:])},
		"another end":         {whole, slices.Concat(whole[:n-10], more[:10])},
		"emptied":             {whole, nil},
		"filled":              {nil, whole},
		"of one byte, longer": {same, slices.Concat(same, same)},
		"one short chunk":     {whole[:100], whole[:101]},
		"halves swapped":      {whole, slices.Concat(whole[n/2:], whole[:n/2])},
	}
	dir := t.TempDir()
	v := newVault(t, store.NewMem())
	for name, of := range versions {
		write(t, dir, name, of[0])
	}
	clean(t, v.run(t, newTree(t, dir), backup.Full))
	for name, of := range versions {
		write(t, dir, name, of[1])
	}
	after := clean(t, v.run(t, newTree(t, dir), backup.Incremental))
	v.wantTree(t, after, dir)
	// A full one looks at no base.
	full := clean(t, v.run(t, newTree(t, dir), backup.Full))
	r := v.open(t)
	defer r.Close()
	for name := range versions {
		a, b := chunksOf(t, r, &repo.Snapshot{Manifest: *after}, name), chunksOf(t, r, &repo.Snapshot{Manifest: *full}, name)
		if len(a) == 0 && len(versions[name][1]) > 0 || !slices.Equal(a, b) {
			t.Errorf("%s: chunks %v, without a base %v", name, a, b)
		}
	}
	if after.Totals.BytesRead < int64(n) {
		t.Errorf("%d bytes were read: this proves nothing", after.Totals.BytesRead)
	}
}

// Only what changed is cut, and a little behind it where that moves the end of
// a chunk; of what was written all over, few chunks are looked at before. What was
// named to tell that it changed needs no other name.
func TestFollowing_LooksAtWhatMayStandAndCutsTheRest(t *testing.T) {
	v := newVault(t, store.NewMem())
	r := v.open(t)
	defer r.Close()
	w, err := r.NewWriter(t.Context(), repo.WriterOptions{})
	must(t, err)
	defer w.Close()
	ids := w.Identifier()
	profile, err := r.Config().Profile("files")
	must(t, err)
	cutter, err := chunker.New(profile.Chunker, chunker.NewTable(r.GearMaterial()))
	must(t, err)
	old := random(43, 20_000_000)
	var base []repo.Ref
	for data := old; len(data) > 0; {
		n := cutter.Cut(data, true)
		base = append(base, ids.Ref(data[:n]))
		data = data[n:]
	}
	one := slices.Clone(old)
	for i := range 10 {
		one[(2*i+1)*1_000_000]++
	}
	for what, c := range map[string]struct {
		data         []byte
		least, most  int // chunks taken over
		hashedInVain int // at most
	}{
		"unchanged":    {old, len(base), len(base), 0},
		"ten places":   {one, len(base) - 20, len(base) - 10, 5},
		"another file": {random(44, len(old)), 0, 0, 20},
		"shifted":      {old[1:], 0, 0, 20},
	} {
		f := backup.Follow(ids, profile.Chunker.Max, base)
		taken, vain, off := 0, 0, 0
		for off < len(c.data) {
			ref, same, more := f.At(int64(off), c.data[off:], true)
			if more {
				t.Fatalf("%s: all data there is, and more is wanted", what)
			}
			n := cutter.Cut(c.data[off:], true)
			if same {
				taken++
				if int(ref.Len) != n || ref != ids.Ref(c.data[off:off+n]) {
					t.Fatalf("%s: at %d a chunk of %d bytes is kept, it would be cut after %d", what, off, ref.Len, n)
				}
			} else if name := f.Cut(ref, n); name.Len > 0 && name != ids.Ref(c.data[off:off+n]) {
				t.Fatalf("%s: at %d a chunk has the name of other bytes", what, off)
			} else if ref.Len > 0 && name.Len == 0 {
				vain++
			}
			off += n
		}
		if taken < c.least || taken > c.most || vain > c.hashedInVain {
			t.Errorf("%s: of %d chunks %d were kept, want %d to %d; %d were hashed in vain, want at most %d", what, len(base), taken, c.least, c.most, vain, c.hashedInVain)
		}
	}
}

// A list that says a chunk is longer than one can be makes nobody wait for its bytes: there is room for one chunk.
func TestFollowing_WaitsForNoMoreThanAChunk(t *testing.T) {
	const most = 1000
	data := make([]byte, most/2)
	for length, want := range map[uint32]bool{most: true, most + 1: false} {
		f := backup.Follow(repo.Identifier{}, most, []repo.Ref{{Len: length}})
		if _, same, more := f.At(0, data, false); same || more != want {
			t.Errorf("a chunk of %d bytes, at most %d: more data wanted is %v, want %v", length, most, more, want)
		}
	}
}

// A base may have been written by somebody who cuts elsewhere: a chunk that is longer than any of the profile makes
// nobody wait for bytes there is no room for.
func TestRun_ABaseOfLongerChunksIsReadLikeAnyOther(t *testing.T) {
	const n = 3_000_000 // below LargeFile, above the buffer of a worker
	v := newVault(t, store.NewMem())
	r := v.open(t)
	w, err := r.NewWriter(t.Context(), repo.WriterOptions{})
	must(t, err)
	lane, err := w.NewLane()
	must(t, err)
	old := random(50, n)
	ref := lane.Ref(old)
	_, err = lane.Put(t.Context(), old, ref, nil)
	must(t, err)
	must(t, lane.Flush(t.Context()))
	dw := w.Tree().NewDir(nil, nil)
	must(t, dw.Add(t.Context(), &repo.Entry{
		Name: "f", Type: repo.TypeRegular, Mode: 0o644, Nlink: 1, Size: n,
		Content: repo.Content{Inline: []repo.Ref{ref}, Chunks: 1, Bytes: n},
	}))
	dir, err := dw.Close(t.Context())
	must(t, err)
	now := time.Now()
	part := options(backup.Full).Part
	part.StartedAt, part.FinishedAt = now, now
	part.Counts = repo.Counts{Files: 1, Dirs: 1, New: 1, BytesTotal: n}
	must(t, part.SetRoot(&repo.Entry{Type: repo.TypeDirectory, Mode: 0o755, Nlink: 2, Dir: dir}))
	id, err := r.NewID(now)
	must(t, err)
	must(t, w.Commit(t.Context(), &repo.Manifest{
		ID: id, Type: string(backup.Full), CreatedAt: now, StartedAt: now, FinishedAt: now, Host: "here", Status: "completed",
		Parts: []repo.Part{part}, Totals: part.Counts,
	}))
	must(t, w.Close())
	must(t, r.Close())

	for _, data := range [][]byte{old, random(51, n)} {
		from := t.TempDir()
		write(t, from, "f", data)
		done := make(chan error, 1)
		go func() {
			rep, err := v.try(t, t.Context(), newTree(t, from), options(backup.Incremental))
			if err == nil {
				v.wantTree(t, clean(t, rep.Snapshot), from)
			}
			done <- err
		}()
		select {
		case err := <-done:
			must(t, err)
		case <-time.After(2 * time.Minute):
			t.Fatal("the run waits for bytes that do not come")
		}
	}
}
