package restore

import (
	"errors"
	"sync/atomic"

	"github.com/generalbots/backupd/internal/target"
	"github.com/generalbots/backupd/repo"
)

// dir is a directory that is being restored. It exists until everything below
// it is done.
type dir struct {
	parent *dir // nil for the root
	depth  int
	entry  repo.Entry
	folder *target.Folder // nil until it is made, which the plan does
	wanted bool           // asked for itself, and not only on the way to what is
	view   *target.View   // of a dry run, where it is there already
	ready  bool           // made, or counted in a dry run
	denied bool           // it could not be made, which was reported
	left   atomic.Int64   // what is in it and not done, and one while the plan is in it
}

// path is where name is in d, or with an empty name d itself.
func (d *dir) path(name string) Path {
	n := len(name) + 1
	for at := d; at.parent != nil; at = at.parent {
		n += len(at.entry.Name) + 1
	}
	b := make([]byte, n)
	i := n
	put := func(s string) {
		i -= copy(b[i-len(s):i], s)
		i--
		b[i] = '/'
	}
	if name != "" || d.parent == nil {
		put(name)
	}
	for at := d; at.parent != nil; at = at.parent {
		put(at.entry.Name)
	}
	return Path(b[i:])
}

// makeDir makes d and what is above it, unless they are there. That it can not
// is reported, once for each directory. Only the plan calls it.
func (x *run) makeDir(d *dir) (ok bool) {
	var missing []*dir
	for at := d; at != nil && !at.ready; at = at.parent {
		missing = append(missing, at)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		at := missing[i]
		var err error
		switch {
		case at.denied:
			return false
		case x.target == nil:
			err = x.foreseeDir(at)
		case at.parent == nil:
			at.folder = x.target.Root()
		default:
			at.folder, err = at.parent.folder.Folder(at.entry.Name)
		}
		if err != nil {
			at.denied = true
			if !x.fatal(err) {
				x.problem(at.path(""), "make directory", err)
			}
			return false
		}
		at.ready = true
		if x.target == nil {
			x.count(func(r *Report) { r.Dirs++ })
			x.prog.Dirs.Add(1)
			continue
		}
		if at.parent != nil {
			at.parent.left.Add(1)
			x.mu.Lock()
			x.dirs[at] = struct{}{}
			x.mu.Unlock()
		}
	}
	return true
}

// release is called when something in d is done. When it was the last, d
// itself is: it gets its metadata, and the one above it may be done as well.
func (x *run) release(d *dir) {
	for ; d != nil && d.left.Add(-1) == 0; d = d.parent {
		if d.view != nil && d.parent != nil {
			_ = d.view.Close() // nothing was written through it
		}
		if d.folder == nil || x.ctx.Err() != nil {
			return
		}
		x.finishDir(d)
	}
}

func (x *run) finishDir(d *dir) {
	// Nothing comes into d any more, so its time stays as it is set here.
	if d.folder.Made() || d.wanted && x.opts.Overwrite != target.Never {
		problems, err := d.folder.Finish(metaOf(&d.entry))
		if err != nil {
			x.problem(d.path(""), "finish directory", err)
		}
		if len(problems) > 0 {
			x.incomplete(d.path(""), problems)
		}
	}
	if d.parent != nil {
		x.mu.Lock()
		delete(x.dirs, d)
		x.mu.Unlock()
		d.folder.Close()
	}
	x.count(func(r *Report) { r.Dirs++ })
	x.prog.Dirs.Add(1)
}

// metaOf is what the target is to set on an entry.
func metaOf(e *repo.Entry) *target.Meta {
	m := &target.Meta{
		Type: target.Type(e.Type), Mode: e.Mode, UID: e.UID, GID: e.GID, User: e.User, Group: e.Group,
		Mtime: target.Time(e.Mtime), RdevMajor: e.Major, RdevMinor: e.Minor, Target: e.Target,
	}
	if len(e.Xattrs) > 0 {
		m.Xattrs = make([]target.Xattr, len(e.Xattrs))
		for i, a := range e.Xattrs {
			m.Xattrs[i] = target.Xattr(a)
		}
	}
	return m
}

// kept takes the answers of the target that something stays as it was.
func (x *run) kept(path Path, err error) bool {
	switch {
	case errors.Is(err, target.ErrExists):
		x.existing(path)
	case errors.Is(err, target.ErrSame):
		x.count(func(r *Report) { r.Identical++ })
	default:
		return false
	}
	return true
}
