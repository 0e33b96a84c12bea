package repo

import (
	"context"
	"iter"

	"github.com/generalbots/backupd/crypto"
)

// Stats is what a repository holds and takes.
type Stats struct {
	Snapshots   []SnapshotStats `json:"snapshots"`
	Forgotten   int             `json:"forgotten"` // can be undeleted, until gc
	Packs       int             `json:"packs"`
	PackBytes   int64           `json:"pack_bytes"` // in the store
	PadBytes    int64           `json:"pad_bytes"`  // of them padding
	Blocks      int64           `json:"blocks"`
	DeltaBlocks int64           `json:"delta_blocks"`
	Chunks      int64           `json:"chunks"`
	ChunkBytes  int64           `json:"chunk_bytes"` // decoded, each copy counted
	UsedBytes   int64           `json:"used_bytes"`  // in the packs, of chunks that live snapshots name
	DeadBytes   int64           `json:"dead_bytes"`  // of chunks none does; dictionaries still needed are among them
}

// SnapshotStats is what one snapshot holds.
type SnapshotStats struct {
	ID string `json:"id"`
	// Bytes is the size of its files; Alone are the bytes in the packs that
	// only this snapshot names, which is about what forgetting it gives back.
	Files uint64 `json:"files"`
	Bytes int64  `json:"bytes"`
	Alone int64  `json:"alone_bytes"`
}

// Stats walks all live snapshots and says what each holds that no other does.
// It takes four bytes of memory a chunk beside the tables. p may be nil.
func (r *Repo) Stats(ctx context.Context, p *StatsProgress) (*Stats, error) {
	snaps := r.Snapshots()
	if p == nil {
		p = new(StatsProgress)
	}
	p.TotalSnapshots.Store(int64(len(snaps)))
	st := &Stats{Forgotten: len(r.Forgotten())}
	// owner of each chunk, by its number: 0 nobody, i+1 snapshot i, shared.
	const shared = ^uint32(0)
	owners := make(map[uint32][]uint32) // by pack number, a slot for each chunk
	numbers := r.catalog.all(0)
	err := r.eachTrailer(ctx, numbers, func(n uint32, t *trailer) error {
		owners[n] = make([]uint32, t.chunkCount())
		st.Packs++
		st.PackBytes += t.size
		st.Blocks += int64(len(t.blocks) - 1)
		st.Chunks += int64(t.chunkCount())
		for i := range t.blocks {
			b := &t.blocks[i]
			switch b.codec {
			case codecPad:
				st.PadBytes += int64(b.sealed)
				continue
			case codecDelta:
				st.DeltaBlocks++
			}
			st.ChunkBytes += int64(b.plain)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	own := func(kind packKind, id *crypto.ID, snap uint32) error {
		p.Chunks.Add(1)
		var buf [4]spot
		spots, err := r.reader.candidates(ctx, kind, id, anyDepth, buf[:0])
		if len(spots) == 0 {
			return err // nil for a chunk that is missing: check reports it
		}
		e, err := r.reader.pack(ctx, spots[0].pack)
		if err != nil {
			return err
		}
		defer r.reader.packs.release(e)
		t := e.val.trailer
		list := owners[spots[0].pack]
		at := t.blocks[spots[0].block].chunkAt + uint32(spots[0].chunk)
		if list[at] == 0 {
			list[at] = snap + 1
		} else if list[at] != snap+1 {
			list[at] = shared
		}
		return nil
	}
	for i, s := range snaps {
		ss := SnapshotStats{ID: s.ID, Files: s.Totals.Files, Bytes: s.Totals.BytesTotal}
		for part := range s.Parts {
			if len(s.Parts[part].Root) == 0 {
				continue
			}
			root, err := r.Root(&s.Parts[part])
			if err != nil {
				return nil, err
			}
			var failed error
			note := func(err error) {
				if failed == nil {
					failed = err
				}
			}
			err = walkTree(ctx, r.reader, root.Dir,
				func(id crypto.ID, _ pageKind) bool { note(own(kindTree, &id, uint32(i))); return failed == nil },
				func(ref Ref) { note(own(kindData, &ref.ID, uint32(i))) })
			if failed != nil {
				err = failed
			}
			if err != nil {
				return nil, err
			}
		}
		st.Snapshots = append(st.Snapshots, ss)
		p.Snapshots.Add(1)
	}
	err = r.eachTrailer(ctx, numbers, func(n uint32, t *trailer) error {
		for i := range t.blocks {
			b := &t.blocks[i]
			for c := range uint32(b.chunks) {
				_, length := t.chunk(b.chunkAt + c)
				share := int64(b.sealed) * int64(length) / int64(b.plain)
				switch o := owners[n][b.chunkAt+c]; o {
				case 0:
					st.DeadBytes += share
				case shared:
					st.UsedBytes += share
				default:
					st.UsedBytes += share
					st.Snapshots[o-1].Alone += share
				}
			}
		}
		return nil
	})
	return st, err
}

// Diff yields what differs between two snapshots, part by part: those of the
// same source are compared, a part that only one has counts as added or
// removed as a whole. Paths are those of the host.
func (r *Repo) Diff(ctx context.Context, a, b *Snapshot) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for _, pair := range pairParts(a, b) {
			old, err := r.rootOrEmpty(pair[0])
			if err == nil {
				var now *Entry
				if now, err = r.rootOrEmpty(pair[1]); err == nil {
					for c, err := range diffTrees(ctx, r.reader, old, now) {
						if !yield(c, err) || err != nil {
							return
						}
					}
					continue
				}
			}
			yield(Change{}, err)
			return
		}
	}
}

// pairParts matches the parts of two snapshots by source and kind.
func pairParts(a, b *Snapshot) (pairs [][2]*Part) {
	used := make([]bool, len(b.Parts))
	for i := range a.Parts {
		p := &a.Parts[i]
		pair := [2]*Part{p, nil}
		for j := range b.Parts {
			if q := &b.Parts[j]; !used[j] && q.Source == p.Source && q.Kind == p.Kind {
				pair[1], used[j] = q, true
				break
			}
		}
		pairs = append(pairs, pair)
	}
	for j := range b.Parts {
		if !used[j] {
			pairs = append(pairs, [2]*Part{nil, &b.Parts[j]})
		}
	}
	return pairs
}

// rootOrEmpty is Root, or an empty directory for a part that is not there.
func (r *Repo) rootOrEmpty(p *Part) (*Entry, error) {
	if p == nil || p.Failed && len(p.Root) == 0 {
		return &Entry{Type: TypeDirectory}, nil
	}
	return r.Root(p)
}
