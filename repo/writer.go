package repo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/pace"
)

// Writer adds one snapshot to a repository. It keeps these promises:
//
//  1. an index entry exists only for a durable pack;
//  2. a manifest exists only if all it reaches is durable;
//  3. a crash at any point loses work, never data: what was published without
//     a manifest is found by its chunk ids and used again;
//  4. the next start repairs nothing, it reads the packs the index lacks as
//     it would read any other.
//
// The order is: packs durable, index told, manifest last. Lanes of one writer
// may work at the same time.
type Writer struct {
	r      *Repo
	level  Level
	cancel context.CancelCauseFunc
	ctx    context.Context
	data   *packStream
	pages  *packStream
	tree   *Lane // of the tree writer's goroutine
	done   bool

	// pending holds the ids of chunks that are on their way into a pack no
	// index knows yet.
	pending [pendingShards]pendingShard

	failMu sync.Mutex // guards failed
	failed error

	leaning leaning

	newBytes    atomic.Int64
	storedBytes atomic.Int64
	packBytes   atomic.Int64 // of the packs that are durable
	deltaBlocks atomic.Int64
}

const (
	pendingShards = 64
)

type pendingShard struct {
	mu  sync.Mutex // guards ids
	ids map[crypto.ID]struct{}
}

// WriterOptions are the choices of one run.
type WriterOptions struct {
	Level Level
}

// NewWriter starts a snapshot. It takes the writer's lock of the repository
// and fails with a *store.LockedError when another holds it. Close it in any
// case.
func (r *Repo) NewWriter(ctx context.Context, o WriterOptions) (*Writer, error) {
	if err := r.lockForWriting(ctx); err != nil {
		return nil, err
	}
	w := &Writer{r: r, level: o.Level, leaning: leaning{rd: r.reader}}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	for i := range w.pending {
		w.pending[i].ids = make(map[crypto.ID]struct{})
	}
	w.data, w.pages = w.newStream(kindData), w.newStream(kindTree)
	var err error
	if w.tree, err = w.newLane(kindTree); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func (w *Writer) newStream(kind packKind) *packStream {
	s := w.r.newStream(w.ctx, kind)
	s.publish, s.failed = w.published, w.fail
	return s
}

// newStream returns a stream of packs that still has to be told what to do
// with those that are durable.
func (r *Repo) newStream(ctx context.Context, kind packKind) *packStream {
	return &packStream{
		ctx: ctx, kind: kind, epoch: r.config.KeyEpoch, repo: r.id, writer: r.writer,
		key: r.keys.pack, size: int64(r.config.PackSize), store: r.store,
		slots: make(chan struct{}, publishing), buffers: make(chan []byte, sealedSpare), tables: make(chan packTable, tablesSpare), pace: pace.Of(ctx),
	}
}

func (w *Writer) stream(kind packKind) *packStream {
	if kind == kindTree {
		return w.pages
	}
	return w.data
}

// fail records the first failure and stops the writer's work.
func (w *Writer) fail(err error) {
	w.failMu.Lock()
	if w.failed == nil {
		w.failed = err
		w.cancel(err)
	}
	w.failMu.Unlock()
}

// check makes an error the writer's failure, and a failure everybody's error.
func (w *Writer) check(err error) error {
	if err != nil {
		w.fail(err)
	}
	w.failMu.Lock()
	defer w.failMu.Unlock()
	return w.failed
}

// known tells whether a chunk need not be stored, and claims it for the
// caller when it does.
func (w *Writer) known(ctx context.Context, kind packKind, id *crypto.ID) (bool, error) {
	shard := &w.pending[id[idSize-1]%pendingShards]
	shard.mu.Lock()
	_, pending := shard.ids[*id]
	shard.mu.Unlock()
	if pending {
		return true, nil
	}
	stored, err := w.stored(ctx, kind, id)
	if err != nil || stored {
		return stored, err
	}
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if _, pending = shard.ids[*id]; pending {
		return true, nil
	}
	shard.ids[*id] = struct{}{}
	return false, nil
}

// stored tells whether a durable pack that is in the store has the chunk, in
// a block that can be decoded as far as is known.
func (w *Writer) stored(ctx context.Context, kind packKind, id *crypto.ID) (bool, error) {
	if kind == kindData {
		n, block, ok, err := w.r.indexed(ctx, id)
		if err != nil || !ok {
			return false, err
		}
		if w.usable(ctx, n, block) {
			return true, nil
		}
		// The index names one copy only. Another one may be good.
		w.r.reader.searchAll(ctx, kindData)
	}
	var buf [4]spot
	spots, err := w.r.reader.candidates(ctx, kind, id, anyDepth, buf[:0])
	for _, s := range spots {
		if w.usable(ctx, s.pack, uint32(s.block)) {
			return true, nil
		}
	}
	if ctx.Err() != nil {
		return false, err
	}
	// A pack that can not be read has nothing to offer; check says so.
	return false, nil
}

// usable tells whether a block counts as a copy of its chunks.
func (w *Writer) usable(ctx context.Context, pack, block uint32) bool {
	if w.r.isDamaged(pack, block) {
		return false
	}
	whole, err := w.r.reader.whole(ctx, blockKey{pack, block})
	return err == nil && whole
}

// Has tells whether all chunks of a content are stored. A run whose base may
// have lost packs asks before it takes a file over unread.
func (w *Writer) Has(ctx context.Context, c *Content) (bool, error) {
	cr := newContentReader(w.r.reader, c)
	for {
		ref, ok, err := cr.Next(ctx)
		if err != nil {
			return false, nil
		}
		if !ok {
			return true, nil
		}
		if stored, err := w.stored(ctx, kindData, &ref.ID); err != nil || !stored {
			return false, err
		}
	}
}

// published records a durable pack: in the catalog, the tables and the index.
// Its chunks need no claim any more.
func (w *Writer) published(ctx context.Context, p *packResult) error {
	w.r.addPack(p)
	w.packBytes.Add(p.size)
	for i := range p.entries {
		id := &p.entries[i].ID
		shard := &w.pending[id[idSize-1]%pendingShards]
		shard.mu.Lock()
		delete(shard.ids, *id)
		shard.mu.Unlock()
	}
	return nil
}

// Tree returns the writer of this snapshot's tree; one goroutine uses it.
func (w *Writer) Tree() *TreeWriter { return newTreeWriter(w.tree) }

// NewBytes says how much plaintext this writer has found new so far. Like the
// two below it may be called at any time.
func (w *Writer) NewBytes() int64 { return w.newBytes.Load() }

// StoredBytes says what its blocks take in the packs so far, padding and
// trailers not counted.
func (w *Writer) StoredBytes() int64 { return w.storedBytes.Load() }

// DeltaBlocks counts those of its blocks that have a dictionary.
func (w *Writer) DeltaBlocks() int64 { return w.deltaBlocks.Load() }

// Commit makes the snapshot m, all of whose lanes were flushed, part of the
// repository. When it returns nil the snapshot is durable. When it fails, the
// snapshot may exist all the same if the failure came after its rename; the
// next start then finds it. It sets m.Totals.BytesStored to the size of all files
// that this writer adds: its packs as they lie there, and the manifest.
func (w *Writer) Commit(ctx context.Context, m *Manifest) error {
	if w.done {
		return errors.New("this writer has committed already")
	}
	if err := w.tree.Flush(ctx); err != nil {
		return err
	}
	for _, s := range []*packStream{w.data, w.pages} {
		if err := w.check(s.flush()); err != nil {
			return err
		}
	}
	for i := range w.pending {
		if n := len(w.pending[i].ids); n > 0 {
			return w.check(fmt.Errorf("internal error: a lane was not flushed before the commit, %d chunks are in no pack", n))
		}
	}
	if err := w.confirmPacks(ctx); err != nil {
		return w.check(err)
	}
	w.done = true
	m.Program = w.r.options.Program
	m.Totals.BytesStored = w.packBytes.Load()
	if err := w.r.publisher.weigh(m); err != nil {
		return w.check(err)
	}
	return w.r.commitManifest(ctx, m)
}

// lease is a lock that its holder can lose, as when somebody removes its file
// because it looks stale.
type lease interface{ Held() error }

// confirmPacks is S0 of the write order: whatever the snapshot relies on must
// still be there when its manifest is written. That is not only what was not
// stored again, but also what was taken over from the base without a look, and
// what this run has published: nothing leads to that before the manifest, so
// to a gc that took the lock for free it is garbage.
func (w *Writer) confirmPacks(ctx context.Context) error {
	if l, ok := w.r.writing.(lease); ok {
		if err := l.Held(); err != nil {
			return fmt.Errorf("the writer's lock was taken away while the backup ran; run it again: %w", err)
		}
	}
	now, err := listPacks(ctx, w.r.store)
	if err != nil {
		return err
	}
	for _, n := range w.r.catalog.all(0) {
		p := w.r.catalog.info(n)
		if there, ok := now.at(p.key()); !ok || now.info(there).size != p.size {
			return fmt.Errorf("pack %s was there while the backup ran and is gone or changed now; run the backup again: %w", p.id, ErrDamaged)
		}
	}
	return nil
}

// Close ends the writer: what was not committed is dropped, the packs that
// were already published stay for the next run to use, the lock is released.
func (w *Writer) Close() error {
	w.cancel(context.Canceled)
	for _, s := range []*packStream{w.data, w.pages} {
		s.abandon()
	}
	return w.r.endWriting()
}
