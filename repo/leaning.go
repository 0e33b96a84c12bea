package repo

import (
	"context"
	"fmt"
	"sync"
)

// maxDeps bounds what is remembered of blocks that lean on others.
const maxDeps = 100_000

// leaning knows which blocks a block leans on, as the trailers say and without
// decoding anything. Safe for concurrent use.
type leaning struct {
	rd   *Reader
	mu   sync.Mutex // guards deps
	deps map[blockKey][]blockKey
}

// reach sums the plaintext of all blocks that must be decoded for these, each
// counted once. It stops above limit.
func (l *leaning) reach(ctx context.Context, from []blockKey, limit int64) (int64, error) {
	seen := make(map[blockKey]struct{}, 2*len(from))
	todo := append([]blockKey(nil), from...)
	var sum int64
	for len(todo) > 0 {
		key := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, ok := seen[key]; ok {
			continue
		}
		seen[key] = struct{}{}
		plain, deps, err := l.dependencies(ctx, key)
		if err != nil {
			return 0, err
		}
		if sum += plain; sum > limit {
			return sum, nil
		}
		todo = append(todo, deps...)
	}
	return sum, nil
}

// dependencies names the blocks a block's dictionary is taken from.
func (l *leaning) dependencies(ctx context.Context, key blockKey) (int64, []blockKey, error) {
	rd := l.rd
	e, err := rd.pack(ctx, key.pack)
	if err != nil {
		return 0, nil, err
	}
	defer rd.packs.release(e)
	t := e.val.trailer
	rec := &t.blocks[key.block]
	if rec.dicts == 0 {
		return int64(rec.plain), nil, nil
	}
	l.mu.Lock()
	deps, ok := l.deps[key]
	l.mu.Unlock()
	if ok {
		return int64(rec.plain), deps, nil
	}
	for i := range uint32(rec.dicts) {
		id := t.dict(rec.dictAt + i)
		var buf [4]spot
		spots, _ := rd.candidates(ctx, t.header.kind, &id, rec.depth, buf[:0])
		if len(spots) == 0 {
			continue
		}
		k := blockKey{spots[0].pack, uint32(spots[0].block)}
		if len(deps) == 0 || deps[len(deps)-1] != k {
			deps = append(deps, k)
		}
	}
	l.mu.Lock()
	if l.deps == nil || len(l.deps) >= maxDeps {
		l.deps = make(map[blockKey][]blockKey)
	}
	l.deps[key] = deps
	l.mu.Unlock()
	return int64(rec.plain), deps, nil
}

// proveReach compares what a delta block says of its reach with what its
// dictionary leads to. Chunks move when gc packs anew, so the recorded reach is
// that of the day the block was made; but it was never less than the block and
// the chunks it leans on, and what it takes now must be what a reader takes.
// That the depth is no lie a reader proves as it goes: it looks for dictionary
// chunks below the recorded depth only, and finds none if it is.
func (l *leaning) proveReach(ctx context.Context, key blockKey) error {
	e, err := l.rd.pack(ctx, key.pack)
	if err != nil {
		return err
	}
	defer l.rd.packs.release(e)
	t := e.val.trailer
	rec := &t.blocks[key.block]
	if rec.codec != codecDelta {
		if rec.reach != rec.plain {
			return fmt.Errorf("block %d: %w: it leans on nothing and says that %d bytes are decoded for its %d", key.block, ErrDamaged, rec.reach, rec.plain)
		}
		return nil
	}
	now, err := l.reach(ctx, []blockKey{key}, readReach)
	if err != nil {
		return err
	}
	if now > readReach {
		return fmt.Errorf("block %d: %w: more than %d bytes must be decoded for it", key.block, ErrDamaged, readReach)
	}
	least, twice := int64(rec.plain), make(map[[idSize]byte]bool, rec.dicts)
	dict := 0
	for i := range uint32(rec.dicts) {
		id := t.dict(rec.dictAt + i)
		n, _ := l.rd.length(ctx, t.header.kind, &id)
		dict += int(n)
		if !twice[id] {
			twice[id] = true
			least += int64(n)
		}
	}
	if dict > MaxDictionarySize {
		return fmt.Errorf("block %d: %w: its dictionary has %d bytes, at most %d are read", key.block, ErrDamaged, dict, MaxDictionarySize)
	}
	if least > int64(rec.reach) {
		return fmt.Errorf("block %d: %w: it says that %d bytes are decoded for it, its own and its dictionary's are %d", key.block, ErrDamaged, rec.reach, least)
	}
	return nil
}
