package crashfs

import (
	"errors"
	"io"
	"io/fs"
	"sync"
	"syscall"

	"github.com/generalbots/backupd/internal/durable"
)

// lockState is who holds the lock of one name.
type lockState struct {
	shared    int
	exclusive bool
	owner     string
}

// Lock behaves as flock does, in memory: the file is made when it is missing,
// and a crash or a restart releases the lock. The owner's text is kept beside
// the file and not in it, so it costs no room.
func (f *FS) Lock(name string, mode durable.LockMode, owner string) (io.Closer, error) {
	if err := f.begin("lock", name); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	err := f.live.vacant(name)
	switch {
	case err == nil:
		f.apply(&change{name: name, ino: f.newInode(false)})
	case !errors.Is(err, fs.ErrExist):
		return nil, fail("lock", name, err)
	}
	if ino, err := f.live.find(name); err != nil || ino.dir {
		return nil, fail("lock", name, syscall.EISDIR)
	}
	l := f.locks[name]
	if l == nil {
		l = &lockState{}
		f.locks[name] = l
	}
	switch {
	case l.exclusive:
		return nil, &durable.HeldError{Name: name, Owner: l.owner}
	case mode == durable.Exclusive && l.shared > 0:
		return nil, &durable.HeldError{Name: name}
	case mode == durable.Exclusive:
		l.exclusive, l.owner = true, owner
	default:
		l.shared++
	}
	return &heldLock{fs: f, state: l, mode: mode}, nil
}

type heldLock struct {
	fs    *FS
	state *lockState
	mode  durable.LockMode
	once  sync.Once
}

func (h *heldLock) Close() error {
	h.once.Do(func() {
		h.fs.mu.Lock()
		defer h.fs.mu.Unlock()
		if h.mode == durable.Exclusive {
			h.state.exclusive, h.state.owner = false, ""
		} else {
			h.state.shared--
		}
	})
	return nil
}
