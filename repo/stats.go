package repo

import (
	"context"
	"iter"
	"math/bits"

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

// owners of a chunk, beside the snapshots, which count from firstOwner.
const (
	ownerNone = iota
	ownerShared
	firstOwner
)

// Stats walks all live snapshots and says what each holds that no other does.
// A page that two snapshots share is read twice, however many share it. Memory
// is three bits a chunk and as many as the number of snapshots has; six bytes a
// tree page; and caches that do not grow with the repository. Where chunks are
// missing, which check reports, the sums are off by as much. p may be nil.
func (r *Repo) Stats(ctx context.Context, p *StatsProgress) (*Stats, error) {
	if p == nil {
		p = new(StatsProgress)
	}
	r.reader.close()
	rd := newReader(r)
	rd.bare = true
	defer rd.close()
	rd.data = noSpots
	st := &Stats{Forgotten: len(r.Forgotten())}
	var trees []uint32
	numbers := r.catalog.all(0)
	var deep [MaxDepth + 1][]uint32
	err := rd.eachTrailer(ctx, numbers, func(n uint32, t *trailer) error {
		st.count(t)
		noteDepths(&deep, n, t)
		if t.header.kind == kindTree {
			trees = append(trees, n)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	deep[0] = numbers
	pages, err := newPageTable(ctx, rd, trees, rd.eachTrailer)
	if err != nil {
		return nil, err
	}
	rd.tree = pages.spots
	roll, err := newRoll(ctx, int(st.Chunks), r.bounds.tags, func(ctx context.Context, use func(uint32, *trailer) error) error {
		return rd.eachTrailer(ctx, numbers, use)
	})
	if err != nil {
		return nil, err
	}
	owners, err := r.findOwners(ctx, rd, roll, st, p)
	if err != nil {
		return nil, err
	}
	// The copy of lowest depth is the one in use, the others are dead.
	seen := roll.set()
	for d := range deep {
		if err := rd.eachTrailer(ctx, deep[d], func(_ uint32, t *trailer) error {
			for i := range t.blocks {
				b := &t.blocks[i]
				if int(b.depth) != d {
					continue
				}
				for c := range uint32(b.chunks) {
					id, length := t.chunk(b.chunkAt + c)
					share := int64(b.sealed) * int64(length) / int64(b.plain)
					n := roll.number(&id)
					o := owners.get(n)
					if seen.has(n) {
						o = ownerNone
					}
					seen.set(n)
					if o == ownerNone {
						st.DeadBytes += share
						continue
					}
					st.UsedBytes += share
					if o >= firstOwner {
						st.Snapshots[o-firstOwner].Alone += share
					}
				}
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return st, nil
}

// count adds what the trailer of a pack says of it.
func (st *Stats) count(t *trailer) {
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
}

// findOwners walks the snapshots and returns, by the number of a chunk, whose
// it is. What hangs on a page is known to be owned likewise: it need not be
// read for a snapshot that has it already, nor once it is shared.
func (r *Repo) findOwners(ctx context.Context, rd *Reader, roll *roll, st *Stats, prog *StatsProgress) (packed, error) {
	snaps := r.Snapshots()
	prog.TotalSnapshots.Store(int64(len(snaps)))
	owners := newPacked(max(1, roll.count), bits.Len(uint(len(snaps)+firstOwner)))
	for i, s := range snaps {
		st.Snapshots = append(st.Snapshots, SnapshotStats{ID: s.ID, Files: s.Totals.Files, Bytes: s.Totals.BytesTotal})
		mine := uint64(firstOwner + i)
		own := func(id *crypto.ID) (news bool) {
			prog.Chunks.Add(1)
			n := roll.number(id)
			switch owners.get(n) {
			case mine, ownerShared:
				return false
			case ownerNone:
				owners.put(n, mine)
			default:
				owners.put(n, ownerShared)
			}
			return true
		}
		for p := range s.Parts {
			if len(s.Parts[p].Root) == 0 {
				continue
			}
			root, err := r.Root(&s.Parts[p])
			if err == nil {
				err = walkTree(ctx, rd, root.Dir,
					func(id crypto.ID, _ pageKind, _ uint32) bool { return own(&id) || !rd.stored(ctx, &id) },
					func(ref Ref) { own(&ref.ID) })
			}
			if err != nil {
				return owners, err
			}
		}
		prog.Snapshots.Add(1)
	}
	return owners, nil
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
