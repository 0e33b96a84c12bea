package repo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"sync"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/index"
	"github.com/generalbots/backupd/internal/pace"
)

// Where chunks lie. Tree chunks are found through a table made of the tree
// packs' trailers. Data chunks are found through the index while a writer has
// it open, or where a reader finds more of them than a table should hold; else
// through a table as well. Reading a repository never needs the index: where it
// can not be had the table takes them all, and a chunk the index does not know
// is looked for in the trailers before it counts as lost.

// tableSpots returns the look-up through the table of one kind.
func (r *Repo) tableSpots(kind packKind) func(context.Context, *crypto.ID, []spot) ([]spot, error) {
	t := &r.tables[kind-1]
	return func(ctx context.Context, id *crypto.ID, dst []spot) ([]spot, error) {
		if !t.loaded.Load() {
			if err := r.loadTable(ctx, kind); err != nil {
				return nil, err
			}
		}
		return t.places.candidates(id, dst), nil
	}
}

// loadTable reads the trailers of all packs of a kind. A pack that can not be
// read is left out with a warning: its chunks may have copies elsewhere, and
// who needs one that has not gets the error then.
func (r *Repo) loadTable(ctx context.Context, kind packKind) error {
	return r.loadTableThrough(ctx, kind, r.reader, math.MaxInt)
}

// loadTableThrough is loadTable through the cache of a reader. errManyChunks,
// and nothing is loaded, when there are more chunks than most.
func (r *Repo) loadTableThrough(ctx context.Context, kind packKind, rd *Reader, most int) error {
	t := &r.tables[kind-1]
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.loaded.Load() {
		return nil
	}
	var fresh []uint32
	for _, n := range r.catalog.all(kind) {
		if !t.entered[n] {
			fresh = append(fresh, n)
		}
	}
	err := rd.eachTrailer(ctx, fresh, func(number uint32, tr *trailer) error {
		if t.places.count()+tr.chunkCount() > most {
			return errManyChunks
		}
		t.places.addTrailer(number, tr)
		t.entered[number] = true
		return nil
	})
	if errors.Is(err, errManyChunks) {
		t.places.clear()
		clear(t.entered)
	}
	if err != nil {
		return err
	}
	t.loaded.Store(true)
	return nil
}

// staleTables has the tables read those packs of the catalog that they lack
// when they are asked next: another process has written them, or they could
// not be read before.
func (r *Repo) staleTables() {
	for i := range r.tables {
		t := &r.tables[i]
		t.mu.Lock()
		for _, n := range r.catalog.all(packKind(i + 1)) {
			if !t.entered[n] {
				t.loaded.Store(false)
			}
		}
		t.mu.Unlock()
	}
}

// eachTrailer reads the trailers of the given packs on all cores and hands
// each to use, from one goroutine at a time. Packs that can not be read are
// left out with a warning.
func (r *Repo) eachTrailer(ctx context.Context, numbers []uint32, use func(number uint32, t *trailer) error) error {
	return r.reader.eachTrailer(ctx, numbers, use)
}

// eachTrailer is Repo.eachTrailer through the cache of this reader.
func (rd *Reader) eachTrailer(ctx context.Context, numbers []uint32, use func(number uint32, t *trailer) error) error {
	r := rd.repo
	work := make(chan uint32)
	var mu sync.Mutex
	var firstErr error
	var wg sync.WaitGroup
	for range min(len(numbers), pace.Cores()+1) {
		wg.Go(func() {
			for n := range work {
				e, err := rd.pack(ctx, n)
				mu.Lock()
				switch {
				case err == nil:
					if firstErr == nil {
						firstErr = use(n, e.val.trailer)
					}
				case ctx.Err() == nil:
					r.mu.Lock()
					r.warn(err.Error())
					r.mu.Unlock()
				}
				mu.Unlock()
				if err == nil {
					rd.packs.release(e)
				}
			}
		})
	}
	for _, n := range numbers {
		mu.Lock()
		over := ctx.Err() != nil || firstErr != nil
		mu.Unlock()
		if over {
			break
		}
		work <- n
	}
	close(work)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return firstErr
}

// dataSpots finds a data chunk for reading: through the index where a writer has it open, or where there are more chunks
// than a table should hold; else, and for what the index does not know, through the table.
func (r *Repo) dataSpots(ctx context.Context, id *crypto.ID, dst []spot) ([]spot, error) {
	if !r.tables[kindData-1].loaded.Load() && !r.noIndex.Load() {
		if r.index.Load() == nil && r.options.StateDir != "" {
			if err := r.preferTable(ctx); err != nil {
				return nil, err
			}
		}
		if r.index.Load() != nil {
			n, block, ok, err := r.indexed(ctx, id)
			if err == nil && ok {
				return append(dst, spot{pack: n, block: uint16(block), chunk: anyChunk}), nil
			}
		}
	}
	return r.tableSpots(kindData)(ctx, id, dst)
}

// tableChunks is how many data chunks a table holds before the index is
// opened instead: 4 MiB of slots.
const tableChunks = 1 << 18 * 2 / 3

var errManyChunks = errors.New("more chunks than a table should hold")

// preferTable loads the table of data chunks, or opens the index if there are
// too many. When that can not be had either, as while another process has it,
// the table takes them all.
func (r *Repo) preferTable(ctx context.Context) error {
	r.preferMu.Lock()
	defer r.preferMu.Unlock()
	if r.index.Load() != nil || r.tables[kindData-1].loaded.Load() {
		return nil
	}
	err := r.loadTableThrough(ctx, kindData, r.reader, r.bounds.table)
	if !errors.Is(err, errManyChunks) {
		return err
	}
	if _, err := r.openIndex(ctx); err != nil && ctx.Err() == nil {
		return r.loadTable(ctx, kindData)
	}
	return context.Cause(ctx)
}

// indexed asks the index for a data chunk in a pack that is in the store. It
// opens the index when it is the first to ask. Where there is none, or it fails,
// the table answers.
func (r *Repo) indexed(ctx context.Context, id *crypto.ID) (number, block uint32, ok bool, err error) {
	if r.options.StateDir == "" || r.noIndex.Load() {
		var buf [4]spot
		spots, err := r.reader.candidates(ctx, kindData, id, anyDepth, buf[:0])
		if len(spots) > 0 {
			return spots[0].pack, uint32(spots[0].block), true, nil
		}
		if ctx.Err() == nil {
			err = nil
		}
		return 0, 0, false, err
	}
	idx := r.index.Load()
	if idx == nil {
		if idx, err = r.openIndex(ctx); err != nil {
			if ctx.Err() != nil {
				return 0, 0, false, err
			}
			r.doWithoutIndex(err)
			return r.indexed(ctx, id)
		}
	}
	p, ok, err := idx.Lookup(*id)
	if err != nil && r.index.Load() != idx {
		return 0, 0, false, err // a writer that has ended closed it
	}
	if err != nil {
		r.doWithoutIndex(err)
		return r.indexed(ctx, id)
	}
	if !ok {
		return 0, 0, false, nil
	}
	number, ok = r.catalog.at(packKey{p.Pack, kindData})
	return number, p.Block, ok, nil
}

// doWithoutIndex has everything from here on looked up in tables made of the
// trailers: the index is a cache, and nothing that happens to it may cost a
// backup. It stays open until the writing ends, since others may be using it.
func (r *Repo) doWithoutIndex(why error) {
	if !r.noIndex.CompareAndSwap(false, true) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warn(fmt.Sprintf("going on without the index, which takes more memory and time and loses nothing: %v; it is made anew by itself when the state directory has room, or give another --state-dir", why))
}

// closeIndex closes the index, if it is open. When that fails the next run has
// to make it anew, and nothing else.
func (r *Repo) closeIndex() {
	idx := r.index.Swap(nil)
	if idx == nil {
		return
	}
	if err := idx.Close(); err != nil {
		r.doWithoutIndex(err)
	}
}

// openIndex opens the index and makes it agree with the packs that are there:
// it forgets packs that are gone and reads those it does not know. An index
// that can not be used is set aside and made anew; only when that fails too
// is there an error.
func (r *Repo) openIndex(ctx context.Context) (*index.Index, error) {
	r.indexMu.Lock()
	defer r.indexMu.Unlock()
	if idx := r.index.Load(); idx != nil {
		return idx, nil
	}
	o := index.Options{Dir: filepath.Join(r.options.StateDir, "index"), Repo: r.id, Key: r.keys.index, Logger: r.log}
	idx, err := index.Open(o)
	var unusable *index.UnusableError
	if errors.As(err, &unusable) && unusable.Resettable {
		r.log.Warn("index is made anew", "reason", err)
		if rerr := index.Reset(o.Dir); rerr != nil {
			return nil, fmt.Errorf("%v; and it can not be replaced: %w", err, rerr)
		}
		idx, err = index.Open(o)
	}
	if err != nil {
		return nil, err
	}
	if err := r.syncIndex(ctx, idx); err != nil {
		idx.Close()
		return nil, err
	}
	r.index.Store(idx)
	return idx, nil
}

func (r *Repo) syncIndex(ctx context.Context, idx *index.Index) error {
	have, err := idx.Packs()
	if err != nil {
		return err
	}
	var missing []uint32
	for _, n := range r.catalog.all(kindData) {
		id := r.catalog.info(n).id
		if _, ok := have[id]; !ok {
			missing = append(missing, n)
		}
		delete(have, id)
	}
	// Packs that are gone go first: a chunk that gc has moved is entered with
	// its new place only where the old one does not count any more.
	for id := range have {
		if err := idx.RemovePack(id, nil); err != nil {
			return err
		}
	}
	return r.eachTrailer(ctx, missing, func(n uint32, t *trailer) error {
		return idx.AddPack(t.header.pack, t.entries())
	})
}

// addPack enters a pack this process has made durable in catalog, tables and
// index.
func (r *Repo) addPack(p *packResult) {
	r.enterPack(p)
	if idx := r.index.Load(); idx != nil && p.kind == kindData && !r.noIndex.Load() {
		if err := idx.AddPack(p.id, p.entries); err != nil {
			r.doWithoutIndex(err)
		}
	}
}

// enterPack enters it in catalog and tables only.
func (r *Repo) enterPack(p *packResult) {
	n := r.catalog.add(packInfo{id: p.id, kind: p.kind, size: p.size})
	t := &r.tables[p.kind-1]
	t.mu.Lock()
	if !t.entered[n] && (t.loaded.Load() || len(t.entered) > 0) {
		t.places.addTrailer(n, p.trailer)
		t.entered[n] = true
	}
	t.mu.Unlock()
}
