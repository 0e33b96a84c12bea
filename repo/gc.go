package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/index"
	"github.com/generalbots/backupd/internal/store"
)

// gc gives back the space of what no snapshot needs. It has the repository to
// itself and asks the index nothing. In order:
//
//	mark      every chunk the live snapshots lead to, and what the
//	          dictionaries of their delta blocks lead to
//	plan      which packs hold nothing live, which are worth packing anew
//	drop      the former: mark again from scratch, prove, condemn, delete
//	repack    the live blocks of the latter into new packs, durable
//	drop      the latter in the same way
//
// Whatever can not be read or listed ends it before anything is deleted. A
// crash at any point leaves more than is needed, never less: until a pack is
// deleted everything it holds is either dead or proven to be in another one.
//
// What is known of a chunk are a few bits, found through a minimal perfect hash
// of all ids that the trailers name (roll.go). With it a gc takes six to ten bits
// a chunk, and up to ten more when most of the repository is needed for
// dictionaries alone; beside that six bytes a tree page, and tables and caches
// that do not grow with the repository (garbage_memory_test.go measures it).

// GCOptions say what a gc does.
type GCOptions struct {
	DryRun bool // plan only
}

// GCProgress counts what a gc has done. The gc writes it, anybody may read it.
type GCProgress struct {
	Phase              atomic.Pointer[string]
	Packs, TotalPacks  atomic.Int64 // repacked
	Moved              atomic.Int64 // bytes
	Deleted, ToBeFreed atomic.Int64 // bytes of packs
}

// GCReport is what a gc did, or would do.
type GCReport struct {
	DryRun           bool  `json:"dry_run"`
	PacksBefore      int   `json:"packs_before"`
	PacksAfter       int   `json:"packs_after"`
	BytesBefore      int64 `json:"bytes_before"`
	BytesAfter       int64 `json:"bytes_after"` // of a dry run an estimate
	DeadPacks        int   `json:"dead_packs"`
	RepackedPacks    int   `json:"repacked_packs"`
	MovedBytes       int64 `json:"moved_bytes"`
	ReencodedBlocks  int   `json:"reencoded_blocks"` // delta blocks whose dictionaries cost more than they saved
	RemovedSnapshots int   `json:"removed_snapshots"`
}

// GC removes what no live snapshot needs; forgotten snapshots can not be
// undeleted afterwards. It needs the repository alone: a *store.LockedError
// says who is in the way.
func (r *Repo) GC(ctx context.Context, o GCOptions, p *GCProgress) (rep *GCReport, err error) {
	if o.DryRun {
		return r.collect(ctx, true, p)
	}
	if err := r.lockForWriting(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.endWriting()) }()
	alone, err := r.lockAlone(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, alone(ctx)) }()
	return r.collect(ctx, false, p)
}

// lockAlone trades the shared lock for the exclusive one; the function it
// returns trades back.
func (r *Repo) lockAlone(ctx context.Context) (func(context.Context) error, error) {
	if r.use != nil { // it is, when a gc before could not trade back
		if err := r.use.Close(); err != nil {
			return nil, err
		}
		r.use = nil
	}
	back := func(ctx context.Context) (err error) {
		r.use, err = r.store.Lock(context.WithoutCancel(ctx), useLock, store.LockShared)
		return err
	}
	lock, err := r.store.Lock(ctx, useLock, store.LockExclusive)
	if err != nil {
		return nil, errors.Join(err, back(ctx))
	}
	return func(ctx context.Context) error {
		if err := lock.Close(); err != nil {
			return err
		}
		return back(ctx)
	}, nil
}

// sound refuses to go on with a repository of which something can not be
// read: it may be needed.
func (r *Repo) sound() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rollback != nil {
		return fmt.Errorf("%w: %w", ErrReadOnly, r.rollback)
	}
	if len(r.chain.problems) > 0 {
		p := r.chain.problems[0]
		return fmt.Errorf("%w: nothing is deleted while a snapshot may be hidden: %v; put the file back, or give it up with: backupd repo forget %s", ErrDamaged, p, p.name)
	}
	return nil
}

// GiveUp publishes that files of the directory snapshots, named as findings
// name them, are damaged or gone for good. What they held is lost then, and gc
// goes on. ErrNotFound for a name that is no such file.
func (r *Repo) GiveUp(ctx context.Context, names ...string) error {
	for _, name := range names {
		if _, ok := parsePlace(name); !ok {
			return fmt.Errorf("%s: %w: it is no file of a snapshot", name, ErrNotFound)
		}
	}
	return r.record(ctx, names, func(name string) error {
		at, _ := parsePlace(name)
		return r.publisher.forgetLost(ctx, at, time.Now())
	})
}

func (r *Repo) collect(ctx context.Context, dryRun bool, p *GCProgress) (*GCReport, error) {
	phase := func(s string) { p.Phase.Store(&s) }
	if err := r.sound(); err != nil {
		return nil, err
	}
	phase("marking")
	r.reader.close()
	g, err := newGarbage(ctx, r)
	if err != nil {
		return nil, err
	}
	defer g.close()
	if err := g.mark(ctx); err != nil {
		return nil, err
	}
	plan, err := g.plan(ctx)
	if err != nil {
		return nil, err
	}
	rep := &GCReport{
		DryRun: dryRun, PacksBefore: len(g.packs), DeadPacks: len(plan.dead) + len(plan.later), RepackedPacks: len(plan.repack),
		RemovedSnapshots: len(r.Forgotten()),
	}
	if g.reencode != nil {
		rep.ReencodedBlocks = g.reencode.count()
	}
	for _, n := range g.packs {
		rep.BytesBefore += r.catalog.info(n).size
	}
	p.ToBeFreed.Store(plan.freed)
	p.TotalPacks.Store(int64(len(plan.repack)))
	if dryRun {
		rep.BytesAfter, rep.MovedBytes = rep.BytesBefore-plan.freed, plan.moved
		rep.PacksAfter = rep.PacksBefore - rep.DeadPacks - len(plan.repack) + plan.made
		return rep, nil
	}
	// Forgotten snapshots go even when no pack does: nothing may be undeleted
	// whose space the next backup takes for free.
	if len(plan.dead) > 0 || len(plan.repack) > 0 || len(r.removable()) > 0 {
		phase("deleting")
		if err := g.drop(ctx, plan.dead, p); err != nil {
			return nil, err
		}
	}
	if len(plan.repack) > 0 {
		phase("repacking")
		if rep.MovedBytes, err = g.repack(ctx, plan, p); err != nil {
			return nil, err
		}
		phase("deleting")
		if err := g.drop(ctx, append(plan.repack, plan.later...), p); err != nil {
			return nil, err
		}
		if idx := r.index.Load(); idx != nil && !r.noIndex.Load() {
			if err := r.indexTrouble(r.syncIndex(ctx, idx)); err != nil {
				return nil, err
			}
		}
	}
	for _, n := range r.catalog.all(0) {
		rep.PacksAfter++
		rep.BytesAfter += r.catalog.info(n).size
	}
	return rep, r.remember()
}

// drop deletes packs of which nothing is needed any more. It trusts no
// earlier mark: the snapshots are read and followed again, and every live
// chunk of the packs must have a copy in those that stay.
func (g *garbage) drop(ctx context.Context, packs []uint32, p *GCProgress) error {
	r := g.r
	if err := g.prove(ctx, packs); err != nil {
		return err
	}
	condemned := make([]crypto.PackID, len(packs))
	names := make([]string, len(packs))
	for i, n := range packs {
		info := r.catalog.info(n)
		condemned[i], names[i] = info.id, packName(info.id, info.kind)
	}
	tomb, err := r.condemn(ctx, condemned)
	if err != nil {
		return err
	}
	// The index forgets before the files go, so that it never names a pack
	// that is not there, and with the ids, so that it does not keep them.
	if err := r.indexTrouble(g.forgetIndex(ctx, packs)); err != nil {
		return err
	}
	// Manifests before packs: a snapshot that can be undeleted is whole.
	if err := r.removeForgotten(ctx); err != nil {
		return err
	}
	r.reader.close()
	g.rd.close()
	if err := r.forgetPacks(packs); err != nil {
		return err
	}
	const atOnce = 64
	for len(names) > 0 {
		n := min(atOnce, len(names))
		if err := r.store.Remove(ctx, names[:n]...); err != nil {
			return err
		}
		for _, number := range packs[:n] {
			p.Deleted.Add(r.catalog.info(number).size)
		}
		r.catalog.remove(packs[:n]...)
		names, packs = names[n:], packs[n:]
	}
	g.leave()
	if tomb == "" {
		return nil
	}
	return r.store.Remove(ctx, tomb)
}

// tombBody is the plaintext of a tomb: packs that are being deleted.
type tombBody struct {
	Packs []string `json:"packs"`
}

const tombDir = "gc"

// condemn writes a tomb, which says that packs are about to go. It returns
// the tomb's name, or "" when the disk is too full to hold one: deleting is
// then the cure, and needs none.
//
// A tomb is a note, not an order: when a process died before it was done the
// packs that are left are packs like any other, which a later backup may rely
// on; so the next writer removes the tomb and the next gc decides anew.
func (r *Repo) condemn(ctx context.Context, packs []crypto.PackID) (string, error) {
	if len(packs) == 0 {
		return "", nil
	}
	id, err := crypto.NewPackID()
	if err != nil {
		return "", err
	}
	name := tombDir + "/" + id.String()
	body := tombBody{}
	for _, p := range packs[:min(len(packs), maxTombPacks)] { // a note need not be complete
		body.Packs = append(body.Packs, p.String())
	}
	sealed, err := r.files.seal(name, sealedHeader{kind: sealedTomb, writer: r.writer, seq: 1}, &body)
	if err != nil {
		return "", err
	}
	err = writeObject(ctx, r.store, name, sealed)
	if errors.Is(err, store.ErrNoSpace) {
		return "", nil
	}
	return name, err
}

// clearTombs removes the tombs of a gc that did not finish. The writer's lock
// is held.
func (r *Repo) clearTombs(ctx context.Context) error {
	list, err := r.store.List(ctx, tombDir)
	if errors.Is(err, store.ErrNotExist) {
		return nil
	}
	if err != nil || len(list) == 0 {
		return err
	}
	names := make([]string, len(list))
	for i := range list {
		names[i] = list[i].Name
	}
	return r.store.Remove(ctx, names...)
}

func (r *Repo) removable() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.chain.removable()
}

// removeForgotten deletes the manifests of forgotten snapshots and what was
// given up. Their forget records keep the chain whole.
func (r *Repo) removeForgotten(ctx context.Context) error {
	names := r.removable()
	if len(names) == 0 {
		return nil
	}
	if err := r.store.Remove(ctx, names...); err != nil {
		return err
	}
	c, err := loadChain(ctx, r.store, r.files)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.chain = c
	r.mu.Unlock()
	r.publisher.chain, r.publisher.stale = c, false
	return r.sound()
}

// indexTrouble passes errors on that are not the index's own. Without being
// told, it is compared with the packs there are when it is opened next.
func (r *Repo) indexTrouble(err error) error {
	var unusable *index.UnusableError
	if errors.As(err, &unusable) {
		r.doWithoutIndex(err)
		return nil
	}
	return err
}

func (g *garbage) forgetIndex(ctx context.Context, packs []uint32) error {
	r := g.r
	if r.options.StateDir == "" || !slices.ContainsFunc(packs, func(n uint32) bool { return r.catalog.info(n).kind == kindData }) {
		return nil
	}
	if r.noIndex.Load() {
		return nil
	}
	idx := r.index.Load()
	if idx == nil {
		var err error
		if idx, err = r.openIndex(ctx); err != nil {
			return err
		}
	}
	// The index keeps one copy of each chunk, and that may be the one that
	// goes: the packs that have another one are entered anew. Their records go
	// first, so that a crash in between leaves packs to be read again, and not
	// chunks that nobody finds.
	goes := make(map[uint32]bool, len(packs))
	for _, n := range packs {
		goes[n] = true
	}
	var stay []uint32
	for _, n := range r.catalog.all(kindData) {
		if !goes[n] && (g.chosen[n] || n > g.last) {
			stay = append(stay, n)
			if err := idx.RemovePack(r.catalog.info(n).id, nil); err != nil {
				return err
			}
		}
	}
	err := g.each(ctx, packs, func(_ uint32, t *trailer) error {
		if t.header.kind != kindData {
			return nil
		}
		ids := make([]crypto.ID, 0, t.chunkCount())
		for i := range t.chunkCount() {
			id, _ := t.chunk(uint32(i))
			ids = append(ids, id)
		}
		return idx.RemovePack(t.header.pack, ids)
	})
	if err != nil {
		return err
	}
	return r.eachTrailer(ctx, stay, func(_ uint32, t *trailer) error {
		return idx.AddPack(t.header.pack, t.entries())
	})
}
