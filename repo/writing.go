package repo

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/store"
)

// sweeper is a store that leaves temporary files behind when its process dies.
type sweeper interface {
	Sweep(ctx context.Context) error
}

// lockForWriting takes the writer's lock and reads again what another writer
// may have changed since the repository was opened.
func (r *Repo) lockForWriting(ctx context.Context) error {
	if why := r.wentBack(); why != nil {
		return fmt.Errorf("%w: %w", ErrReadOnly, why)
	}
	return r.lockWriter(ctx, false)
}

// lockWriter is lockForWriting of a repository that may have gone back, when
// its state is to be accepted.
func (r *Repo) lockWriter(ctx context.Context, accept bool) (err error) {
	if r.writing != nil {
		return errors.New("internal error: the repository is being written already")
	}
	lock, err := r.store.Lock(ctx, writerLock, store.LockExclusive)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	if s, ok := r.store.(sweeper); ok {
		if err := s.Sweep(ctx); err != nil {
			return err
		}
	}
	c, err := loadChain(ctx, r.store, r.files)
	if err != nil {
		return err
	}
	now, err := listPacks(ctx, r.store)
	if err != nil {
		return err
	}
	r.catalog.follow(now)
	r.catalog.add(now.packs...)
	r.staleTables()
	r.reader.packsChanged()
	if err := r.clearTombs(ctx); err != nil {
		return err
	}
	if err := r.openStateForWriting(c, accept); err != nil {
		return err
	}
	r.mu.Lock()
	r.chain = c
	r.mu.Unlock()
	r.noIndex.Store(false)                 // each run tries anew
	if idx := r.index.Load(); idx != nil { // a reader has opened it, when other packs were there
		if err := r.syncIndex(ctx, idx); err != nil {
			r.doWithoutIndex(err)
		}
	}
	r.findGone()
	r.publisher = &publisher{st: r.store, keys: r.files, writer: r.writer, chain: c}
	r.writing = lock
	return nil
}

// openStateForWriting makes the state directory if need be, reads again what
// another process may have noted in it, and takes the writer id from it.
// Without one every run is a writer of its own.
func (r *Repo) openStateForWriting(c *chain, accept bool) (err error) {
	if r.options.StateDir == "" && r.state == nil {
		r.writer, err = newWriter()
		return err
	}
	err = r.makeState()
	if noSpace(err) {
		r.notRemembered(err)
		r.writer, err = newWriter()
		return err
	}
	if err != nil {
		return err
	}
	if err := durable.SweepFiles(r.state, headName, writerName, packListName, damageName); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if err := r.followHead(c, accept); err != nil {
		return err
	}
	if damaged, err := readDamage(r.state, r.id); err == nil {
		r.knowDamage(damaged)
	} else {
		r.mu.Lock()
		r.warn(err.Error())
		r.mu.Unlock()
	}
	r.writer, err = writerFor(r.state, c)
	if noSpace(err) {
		r.notRemembered(err)
		r.writer, err = newWriter()
	}
	return err
}

// noSpace tells whether a file could not be written for want of space.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// notRemembered warns that the state directory has no space. What it keeps is
// not needed for anything that is in the repository: with an older head the
// repository still descends from it, and the next run trusts no base; and a run
// without a writer id of its own is a writer of its own.
func (r *Repo) notRemembered(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warn(fmt.Sprintf("the state directory has no space, so this host does not remember what was done now: %v; the repository has it all; make room there, until then it is not noticed should the repository go back to an older state", why))
}

// makeState opens the state directory, and makes it if it is missing.
func (r *Repo) makeState() error {
	if r.state != nil {
		return nil
	}
	if err := durable.MakeRoot(r.options.StateDir); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	dir, err := durable.OS(r.options.StateDir)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	r.state, r.stateDir = dir, dir
	return nil
}

// followHead compares the repository with the head as it is now: another
// process with this state directory may have moved it since Open, and whoever
// went by the older one would move it back.
func (r *Repo) followHead(c *chain, accept bool) error {
	h, err := readHead(r.state, r.id)
	if accept && !errors.Is(err, errForeignState) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	if h != nil {
		r.head = h
	}
	if err := c.compareHead(r.head); err != nil {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return nil
}

// unlockWriting ends what lockForWriting began.
func (r *Repo) unlockWriting() error {
	if r.writing == nil {
		return nil
	}
	err := r.writing.Close()
	r.writing, r.publisher = nil, nil
	return err
}

func (r *Repo) endWriting() error {
	r.closeIndex()
	return r.unlockWriting()
}

// commitManifest is S1 and S2 of the write order: the manifest, then what
// this host remembers. When only the latter fails the snapshot is there, and
// the error says so.
func (r *Repo) commitManifest(ctx context.Context, m *Manifest) error {
	_, err := r.publisher.snapshot(ctx, m)
	r.adoptChain()
	if err != nil {
		return err
	}
	return r.remember()
}

func (r *Repo) adoptChain() {
	r.mu.Lock()
	if !r.publisher.stale {
		r.chain = r.publisher.chain
	}
	r.mu.Unlock()
}

// remember notes which packs there are, then moves the head forward: a head at
// the end of the chain says that the list has the packs of all runs.
func (r *Repo) remember() error {
	if r.state == nil {
		return nil
	}
	h := r.head.forward(r.id, r.chain)
	err := r.rememberPacks(nil)
	if err == nil {
		err = writeHead(r.state, h)
	}
	if noSpace(err) {
		r.notRemembered(err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("it is in the repository, but the state directory could not be written: %w", err)
	}
	r.head = h
	return nil
}

// Forget removes snapshots by a record each. Their space comes back with the
// next GC, until which Undelete takes it back.
func (r *Repo) Forget(ctx context.Context, ids ...string) error {
	return r.record(ctx, ids, func(id string) error { return r.publisher.forget(ctx, id, time.Now()) })
}

// Undelete takes back that snapshots were forgotten. ErrNotFound once GC has
// removed one.
func (r *Repo) Undelete(ctx context.Context, ids ...string) error {
	return r.record(ctx, ids, func(id string) error { return r.publisher.undelete(ctx, id, time.Now()) })
}

func (r *Repo) record(ctx context.Context, ids []string, publish func(id string) error) (err error) {
	if err := r.lockForWriting(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.unlockWriting()) }()
	for _, id := range ids {
		err := publish(id)
		r.adoptChain()
		if err != nil {
			return err
		}
	}
	return r.remember()
}

// AcceptHead takes the repository as it is for its newest state, whatever
// this host remembers of it.
//
// A state directory that remembers another repository is an error.
func (r *Repo) AcceptHead(ctx context.Context) (err error) {
	if err := r.lockWriter(ctx, true); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.unlockWriting()) }()
	if r.state == nil {
		return errors.New("there is no state directory to remember the repository in; give --state-dir")
	}
	if err := acceptHead(r.state, r.id, r.chain); err != nil {
		return err
	}
	h, err := readHead(r.state, r.id)
	if err != nil {
		return err
	}
	r.head, r.rollback = h, nil
	return r.rememberPacks(nil)
}

// Keys lists the key slots that can be used.
func (r *Repo) Keys(ctx context.Context) ([]crypto.SlotInfo, error) {
	slots, err := listSlots(ctx, r.store, r.id)
	if err != nil {
		return nil, err
	}
	out := make([]crypto.SlotInfo, 0, len(slots))
	for _, s := range slots {
		if s.err != nil {
			r.mu.Lock()
			r.warn(s.err.Error())
			r.mu.Unlock()
			continue
		}
		out = append(out, s.info)
	}
	return out, nil
}

// AddKey adds a key slot for another credential.
func (r *Repo) AddKey(ctx context.Context, s NewSlot) (info crypto.SlotInfo, err error) {
	lock, err := r.store.Lock(ctx, writerLock, store.LockExclusive)
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	return addSlot(ctx, r.store, r.id, r.master, r.config.KeyEpoch, s.slot(), time.Now())
}

// RemoveKey removes the key slot that listings show under that id. The last
// one stays. What the removed credential has already opened stays readable to
// who has copied it: the master key is the same.
func (r *Repo) RemoveKey(ctx context.Context, slot string) (err error) {
	id, err := parseSlotID(slot)
	if err != nil {
		return err
	}
	lock, err := r.store.Lock(ctx, writerLock, store.LockExclusive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	return removeSlot(ctx, r.store, r.id, id)
}
