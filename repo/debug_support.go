package repo

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/index"
)

// What `backupd debug` shows: the objects of a repository as they are. Nothing
// here changes one, or is needed for anything else.

// PackInfo is what the header and the trailer of a pack say.
type PackInfo struct {
	ID       crypto.PackID `json:"id"`
	Kind     string        `json:"kind"` // "data" or "tree"
	Size     int64         `json:"size"`
	Writer   string        `json:"writer,omitempty"`
	KeyEpoch uint32        `json:"key_epoch,omitempty"`
	Padding  int64         `json:"padding"` // bytes that hold nothing
	Blocks   []BlockInfo   `json:"blocks,omitempty"`
}

// BlockInfo is what a pack's trailer says of one block.
type BlockInfo struct {
	Block      uint32      `json:"block"` // ordinal in the pack
	Codec      string      `json:"codec"`
	Depth      uint8       `json:"depth"`
	Offset     uint32      `json:"offset"`
	Sealed     uint32      `json:"sealed_bytes"`
	Plain      uint32      `json:"plain_bytes"`
	Reach      uint32      `json:"reach_bytes"` // plaintext to decode for this block
	Dictionary []crypto.ID `json:"dictionary,omitempty"`
	Chunks     []ChunkInfo `json:"chunks"`
}

// ChunkInfo is one chunk of a block.
type ChunkInfo struct {
	ID     crypto.ID `json:"id"`
	Length uint32    `json:"length"`
}

// Copy is one place where a chunk is stored.
type Copy struct {
	ID     crypto.ID     `json:"id"`
	Kind   string        `json:"kind"`
	Pack   crypto.PackID `json:"pack"`
	Block  uint32        `json:"block"`
	Length uint32        `json:"length"`
	Codec  string        `json:"codec"`
	Depth  uint8         `json:"depth"`
}

// Packs lists the packs of the repository, without their blocks.
func (r *Repo) Packs() []PackInfo {
	var list []PackInfo
	for _, n := range r.catalog.all(0) {
		in := r.catalog.info(n)
		list = append(list, PackInfo{ID: in.id, Kind: in.kind.String(), Size: in.size})
	}
	return list
}

// InspectPack reads the trailer of the pack whose id begins so. ErrNotFound
// when none, or more than one, does.
func (r *Repo) InspectPack(ctx context.Context, beginning string) (*PackInfo, error) {
	var found []uint32
	for _, n := range r.catalog.all(0) {
		if strings.HasPrefix(r.catalog.info(n).id.String(), strings.ToLower(beginning)) {
			found = append(found, n)
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("pack %q: %w: the ids of %d packs begin so", beginning, ErrNotFound, len(found))
	}
	e, err := r.reader.pack(ctx, found[0])
	if err != nil {
		return nil, err
	}
	defer r.reader.packs.release(e)
	t := e.val.trailer
	p := &PackInfo{
		ID: t.header.pack, Kind: t.header.kind.String(), Size: t.size, Writer: hex.EncodeToString(t.header.writer[:]),
		KeyEpoch: t.header.epoch,
	}
	for i := range t.blocks {
		rec := &t.blocks[i]
		if rec.codec == codecPad {
			p.Padding = int64(rec.plain)
			continue
		}
		p.Blocks = append(p.Blocks, t.describe(uint32(i)))
	}
	return p, nil
}

func (t *trailer) describe(block uint32) BlockInfo {
	rec := &t.blocks[block]
	b := BlockInfo{
		Block: block, Codec: rec.codec.String(), Depth: rec.depth, Offset: rec.offset, Sealed: rec.sealed, Plain: rec.plain, Reach: rec.reach,
	}
	for i := range uint32(rec.dicts) {
		b.Dictionary = append(b.Dictionary, t.dict(rec.dictAt+i))
	}
	for i := range uint32(rec.chunks) {
		id, n := t.chunk(rec.chunkAt + i)
		b.Chunks = append(b.Chunks, ChunkInfo{id, n})
	}
	return b
}

// BlockBytes decodes one block of a pack.
func (r *Repo) BlockBytes(ctx context.Context, pack crypto.PackID, block uint32) ([]byte, error) {
	all := r.catalog.all(0)
	at := slices.IndexFunc(all, func(n uint32) bool { return r.catalog.info(n).id == pack })
	if at < 0 {
		return nil, fmt.Errorf("pack %s: %w", pack, ErrNotFound)
	}
	b, err := r.reader.OpenBlock(ctx, Place{Pack: all[at], Block: block})
	if err != nil {
		return nil, err
	}
	defer b.Release()
	return slices.Clone(b.entry.val.plain), nil
}

// Copies finds every copy of the chunk whose id begins so, in all packs that
// can be read, the one that counts first. ErrNotFound when no chunk's id, or
// more than one, begins so.
func (r *Repo) Copies(ctx context.Context, beginning string) ([]Copy, error) {
	beginning = strings.ToLower(beginning)
	if len(beginning) < 4 {
		return nil, fmt.Errorf("chunk %q: %w: give at least four digits of its id", beginning, ErrNotFound)
	}
	var copies []Copy
	ids := map[crypto.ID]bool{}
	err := r.eachTrailer(ctx, r.catalog.all(0), func(_ uint32, t *trailer) error {
		for b := range t.blocks {
			rec := &t.blocks[b]
			for i := range uint32(rec.chunks) {
				id, n := t.chunk(rec.chunkAt + i)
				if strings.HasPrefix(id.String(), beginning) {
					ids[id] = true
					copies = append(copies, Copy{id, t.header.kind.String(), t.header.pack, uint32(b), n, rec.codec.String(), rec.depth})
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(ids) != 1 {
		return nil, fmt.Errorf("chunk %q: %w: the ids of %d chunks begin so", beginning, ErrNotFound, len(ids))
	}
	slices.SortFunc(copies, func(a, b Copy) int {
		return cmp.Or(cmp.Compare(a.Depth, b.Depth), strings.Compare(a.Pack.String(), b.Pack.String()), cmp.Compare(a.Block, b.Block))
	})
	return copies, nil
}

// IndexState is how the index of this host stands to the repository.
type IndexState struct {
	Dir     string `json:"dir"`
	Known   int    `json:"known_packs"`   // packs it has and the repository has
	Missing int    `json:"missing_packs"` // packs the next backup will read into it
	Stale   int    `json:"stale_packs"`   // packs it has that are gone
	Problem string `json:"problem,omitempty"`
}

// IndexState opens the index as it is and compares it with the data packs.
// ErrNotFound when this host has none.
func (r *Repo) IndexState() (*IndexState, error) {
	s := &IndexState{Dir: filepath.Join(r.options.StateDir, "index")}
	if _, err := os.Stat(s.Dir); r.options.StateDir == "" || errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("index: %w: this host has none; the next backup makes it", ErrNotFound)
	}
	data := r.catalog.all(kindData)
	s.Missing = len(data)
	idx, err := index.Open(index.Options{Dir: s.Dir, Repo: r.id, Key: r.keys.index, Logger: r.log})
	if err != nil {
		s.Problem = err.Error()
		return s, nil
	}
	defer idx.Close()
	packs, err := idx.Packs()
	if err != nil {
		s.Problem = err.Error()
		return s, nil
	}
	for _, n := range data {
		if _, ok := packs[r.catalog.info(n).id]; ok {
			s.Known++
		}
	}
	s.Missing, s.Stale = len(data)-s.Known, len(packs)-s.Known
	return s, nil
}
