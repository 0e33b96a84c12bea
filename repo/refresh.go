package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/generalbots/backupd/internal/store"
)

// Refresh sees what other processes have written to the repository since it was
// opened or refreshed. It costs two listings when that is nothing. It must not be
// called while this Repo has a Writer, a GC or a record under way; readers may
// go on. A repository that went back in time becomes read only, until what this
// host remembers was made to agree with it, or it with that.
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
		r.mu.Unlock()
	}
	r.compareHead(!same)
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

// compareHead holds the repository against what this host remembers of it.
// Before it becomes read only, and while it is, that is read again: another
// process may have accepted the repository as it is. Without a head that can be
// read it stays as it was.
func (r *Repo) compareHead(changed bool) {
	r.mu.Lock()
	h, chain, state := r.head, r.chain, r.state
	fine := r.rollback == nil && (!changed || h == nil || chain.compareHead(h) == nil)
	r.mu.Unlock()
	if fine {
		return
	}
	var err error
	if state != nil {
		read, rerr := readHead(state, r.id) // not under mu, which others need to read
		if err = rerr; read != nil {
			h = read
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.rollback
	switch {
	case err != nil:
		r.rollback = err
	case h != nil:
		r.head, r.rollback = h, chain.compareHead(h)
	}
	if r.rollback != nil && was == nil {
		r.warn(fmt.Sprintf("%s: %v", wentReadOnly, r.rollback))
	}
	if r.rollback == nil {
		r.warnings = slices.DeleteFunc(r.warnings, func(w string) bool {
			return strings.HasPrefix(w, openedReadOnly) || strings.HasPrefix(w, wentReadOnly)
		})
	}
}

// How the warnings of a repository that went back begin.
const (
	openedReadOnly = "opened read only"
	wentReadOnly   = "read only from now on"
)

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
