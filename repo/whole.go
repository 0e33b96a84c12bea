package repo

import "context"

// whole tells whether all that the dictionary of a block leads to is in the
// store, and in no block that a check could not read. gc deletes what no snapshot
// needs, also from under a dead delta block whose pack stays, and a power cut may
// end it half way: such a block is no copy of its chunks any more.
func (rd *Reader) whole(ctx context.Context, key blockKey) (bool, error) {
	rd.wholeMu.Lock()
	known, ok := rd.isWhole[key]
	rd.wholeMu.Unlock()
	if ok {
		return known.whole, known.err
	}
	e, err := rd.pack(ctx, key.pack)
	if err != nil {
		return false, err
	}
	defer rd.packs.release(e)
	t := e.val.trailer
	if int64(key.block) >= int64(len(t.blocks)) {
		return false, nil // an index may say anything
	}
	rec := &t.blocks[key.block]
	for i := range uint32(rec.dicts) {
		id := t.dict(rec.dictAt + i)
		var buf [4]spot
		spots, trouble := rd.candidates(ctx, t.header.kind, &id, rec.depth, buf[:0])
		found := false
		for _, s := range spots {
			if !rd.bare && rd.repo.isDamaged(s.pack, uint32(s.block)) {
				continue // a check finds out itself
			}
			// The depth falls with each step, so this ends.
			ok, err := rd.whole(ctx, blockKey{s.pack, uint32(s.block)})
			if found = found || ok; found {
				break
			}
			if trouble == nil {
				trouble = err
			}
		}
		if !found && ctx.Err() == nil && rd.searchAll(ctx, t.header.kind) {
			return rd.whole(ctx, key)
		}
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if !found {
			// Trouble is noted too: asked again for each block that leans on
			// this one, the questions would double with each step down.
			rd.noteWhole(key, wholeness{err: trouble})
			return false, trouble
		}
	}
	rd.noteWhole(key, wholeness{whole: true})
	return true, nil
}

// wholeness is what whole has found of a block, until packs come or go or a
// check has read them.
type wholeness struct {
	whole bool
	err   error
}

func (rd *Reader) noteWhole(key blockKey, v wholeness) {
	rd.wholeMu.Lock()
	defer rd.wholeMu.Unlock()
	if rd.isWhole == nil || len(rd.isWhole) >= maxDeps {
		rd.isWhole = make(map[blockKey]wholeness)
	}
	rd.isWhole[key] = v
}

// packsChanged forgets what packs that came or went, or a check of them, may have
// changed.
func (rd *Reader) packsChanged() {
	rd.wholeMu.Lock()
	rd.isWhole = nil
	rd.wholeMu.Unlock()
}
