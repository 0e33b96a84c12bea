package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/generalbots/backupd/internal/store"
)

// Refresh sees what other processes have written to the repository since it was
// opened or refreshed. It costs two listings when that is nothing. It must not be
// called while this Repo has a Writer, a GC or a record under way; readers may
// go on. A repository that went back in time becomes read only.
func (r *Repo) Refresh(ctx context.Context) error {
	if r.writing != nil {
		return errors.New("internal error: the repository is being written")
	}
	same, err := r.sameChain(ctx)
	if err != nil {
		return err
	}
	if !same {
		c, err := loadChain(ctx, r.store, r.files)
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.chain = c
		if r.head != nil && r.rollback == nil {
			if r.rollback = c.compareHead(r.head); r.rollback != nil {
				r.warn(fmt.Sprintf("read only from now on: %v", r.rollback))
			}
		}
		r.mu.Unlock()
	}
	now, err := listPacks(ctx, r.store)
	if err != nil {
		return err
	}
	r.catalog.follow(now)
	r.catalog.add(now.packs...)
	r.staleTables()
	r.reader.packsChanged()
	return nil
}

// sameChain tells whether the directory of snapshots lists what is known. Its
// files never change, so names and sizes say enough.
func (r *Repo) sameChain(ctx context.Context) (bool, error) {
	list, err := r.store.List(ctx, snapshotDir)
	if err != nil {
		return false, err
	}
	r.mu.Lock()
	known := r.chain.list()
	r.mu.Unlock()
	if len(list) != len(known) {
		return false, nil
	}
	sizes := make(map[string]int64, len(known))
	for _, f := range known {
		sizes[f.name] = f.size
	}
	return !slices.ContainsFunc(list, func(i store.Info) bool {
		size, ok := sizes[i.Name]
		return !ok || size != i.Size
	}), nil
}

// ReadOnly is why nothing can be written, as ErrRollback in words, nil when it can.
func (r *Repo) ReadOnly() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rollback
}

// Space tells the room there is where the repository lies.
func (r *Repo) Space(ctx context.Context) (store.Space, error) { return r.store.Space(ctx) }

// wentBack tells why the repository must not be written.
func (r *Repo) wentBack() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rollback
}
