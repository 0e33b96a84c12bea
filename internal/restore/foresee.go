package restore

import (
	"context"

	"github.com/generalbots/backupd/internal/target"
	"github.com/generalbots/backupd/repo"
)

// A dry run makes the same plan, and instead of handing it out counts what
// would come of it. Where Options.View is given it looks there at each name,
// and changes nothing.

// foreseeDir looks for a directory whose parent has been looked for.
func (x *run) foreseeDir(d *dir) error {
	if d.depth > target.MaxDepth {
		return target.ErrDepth
	}
	if d.parent == nil {
		d.view = x.opts.View
		return nil
	}
	if d.parent.view == nil {
		return nil
	}
	view, fate, err := d.parent.view.Folder(d.entry.Name)
	if err != nil {
		return err
	}
	if fate == target.Replaced {
		x.replaced(d.path(""))
	}
	d.view = view
	return nil
}

// foresee counts what would be restored, and finds chunks that no pack has.
func (pl *plan) foresee(f *file) error {
	e := &f.entry
	defer pl.prog.Files.Add(1)
	defer pl.prog.Bytes.Add(e.Size)
	later := pl.linked(f)
	fate, err := f.fate()
	if err != nil {
		pl.problem(f.path(), "look", err)
		return nil
	}
	switch fate {
	case target.Existing, target.Same:
		if f.link != nil && !later {
			f.link.stays = true
		}
		if fate == target.Existing {
			pl.existing(f.path())
		} else {
			pl.count(func(r *Report) { r.Identical++ })
		}
		return nil
	case target.Replaced:
		pl.replaced(f.path())
	}
	if later {
		pl.count(func(r *Report) { r.Links++ })
		return nil
	}
	if e.Type == repo.TypeRegular {
		err = pl.eachRef(&e.Content, func(ref repo.Ref, _ int64) error {
			_, err := pl.locator.Locate(pl.ctx, ref.ID)
			return err
		})
	}
	if pl.ctx.Err() != nil {
		return context.Cause(pl.ctx)
	}
	if err != nil {
		pl.problem(f.path(), "read", err)
		return nil
	}
	pl.made(f)
	return nil
}

// fate is what the target would do about the name of f.
func (f *file) fate() (target.Fate, error) {
	e, view := &f.entry, f.dir.view
	switch {
	case view == nil:
		return target.Free, nil
	case f.later && !f.link.stays:
		return view.Link(e.Name)
	case e.Type != repo.TypeRegular:
		return view.Special(e.Name, metaOf(e))
	}
	return view.File(e.Name, e.Size, target.Time(e.Mtime))
}

// replaced notes what a restore would put something else in the place of.
func (c *recorder) replaced(path Path) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.r.WouldReplaceCount++
	if len(c.r.WouldReplace) < maxListed {
		c.r.WouldReplace = append(c.r.WouldReplace, path)
	}
}
