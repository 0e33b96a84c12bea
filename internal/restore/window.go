package restore

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/repo"
)

const (
	windowCount   = 3        // windows under way at once
	windowEntries = 2048     // entries of a window at most
	windowChunks  = 8192     // chunk references of a window at most
	windowOpen    = 192      // files of a window that have several chunks: they stay open in between
	windowBytes   = 64 << 20 // content of a window, about
	taskBlocks    = 16       // blocks a worker takes at once, at most
	taskShare     = 4        // and of a window each worker has so many tasks at least
	taskEntries   = 32       // entries without content a worker takes at once
	taskQueue     = 1 << 10  // tasks that wait: a window's, mostly, so that the plan is at the next one meanwhile
)

// item is a chunk on its way to a place in a file.
type item struct {
	place repo.Place
	order int32 // in the plan
	group int32 // order of the first item of the same block
	size  uint32
	off   int64 // in the content of the file: without the holes
	file  *file
	id    crypto.ID
}

// window is a bounded piece of the plan. It is filled by the plan and emptied
// by the workers, and then used again.
type window struct {
	items []item
	plain []*file      // entries without content
	left  atomic.Int32 // tasks not done

	// What bounds it.
	entries, open int
	bytes         int64
}

// task is what a worker takes at once: either of the two.
type task struct {
	win   *window
	items []item
	plain []*file
}

func (pl *plan) takeWindow() error {
	select {
	case pl.win = <-pl.windows:
		return nil
	case <-pl.ctx.Done():
		return context.Cause(pl.ctx)
	}
}

// flush hands the current window to the workers.
func (pl *plan) flush() error {
	w := pl.win
	slices.SortFunc(w.items, func(a, b item) int {
		if a.place.Pack != b.place.Pack {
			return cmp.Compare(a.place.Pack, b.place.Pack)
		}
		if a.place.Block != b.place.Block {
			return cmp.Compare(a.place.Block, b.place.Block)
		}
		return cmp.Compare(a.order, b.order)
	})
	blocks := 0
	for i := range w.items {
		it := &w.items[i]
		it.group = it.order
		if i > 0 && it.place.Pack == w.items[i-1].place.Pack && it.place.Block == w.items[i-1].place.Block {
			it.group = w.items[i-1].group
		} else {
			blocks++
		}
	}
	// Blocks that follow each other lean on the same ones: a worker that has many in a row waits less for what another decodes.
	each := min(max(blocks/(taskShare*pl.opts.Workers), 1), taskBlocks)
	slices.SortFunc(w.items, func(a, b item) int {
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.order, b.order))
	})
	var tasks []task
	for rest := w.plain; len(rest) > 0; {
		n := min(len(rest), taskEntries)
		tasks = append(tasks, task{win: w, plain: rest[:n]})
		rest = rest[n:]
	}
	for rest := w.items; len(rest) > 0; {
		n, here := 1, 1
		for ; n < len(rest); n++ {
			if a, b := &rest[n-1].place, &rest[n].place; a.Pack != b.Pack || a.Block != b.Block {
				if here == each {
					break
				}
				here++
			}
		}
		tasks = append(tasks, task{win: w, items: rest[:n]})
		rest = rest[n:]
	}
	if len(tasks) == 0 {
		return nil
	}
	w.left.Store(int32(len(tasks)))
	for _, t := range tasks {
		select {
		case pl.work <- t:
		case <-pl.ctx.Done():
			return context.Cause(pl.ctx)
		}
	}
	return pl.takeWindow()
}

func (w *window) full() bool {
	return w.entries >= windowEntries || len(w.items) >= windowChunks || w.open >= windowOpen || w.bytes >= windowBytes
}

// taskDone gives the window back after its last task.
func (x *run) taskDone(w *window) {
	if w.left.Add(-1) > 0 {
		return
	}
	clear(w.items)
	clear(w.plain)
	w.items, w.plain, w.entries, w.open, w.bytes = w.items[:0], w.plain[:0], 0, 0, 0
	x.windows <- w
}

// file plans an entry that is no directory.
func (pl *plan) file(f *file) error {
	if pl.target == nil {
		return pl.foresee(f)
	}
	f.dir.left.Add(1)
	f.left.Store(1) // the plan's
	pl.win.entries++
	if pl.linked(f) || f.entry.Type != repo.TypeRegular || f.entry.Content.Chunks == 0 {
		pl.win.plain = append(pl.win.plain, f)
	} else {
		if f.entry.Content.Chunks > 1 {
			pl.win.open++
		}
		if err := pl.content(f); err != nil {
			return err
		}
	}
	if pl.win.full() {
		return pl.flush()
	}
	return nil
}

// content plans the chunks of a file. A file too large for what is left of
// the window goes on in the next.
func (pl *plan) content(f *file) error {
	f.open.Lock()
	f.prepare()
	f.open.Unlock()
	err := pl.eachRef(&f.entry.Content, func(ref repo.Ref, off int64) error {
		place, err := pl.locator.Locate(pl.ctx, ref.ID)
		if err != nil {
			return err
		}
		if pl.win.full() {
			if err := pl.flush(); err != nil {
				return err
			}
			pl.win.open++
		}
		w := pl.win
		f.left.Add(1)
		w.items = append(w.items, item{place: place, order: int32(len(w.items)), size: ref.Len, off: off, file: f, id: ref.ID})
		w.bytes += int64(ref.Len)
		return nil
	})
	if pl.ctx.Err() != nil {
		return context.Cause(pl.ctx)
	}
	if err != nil {
		pl.fail(f, "read", err)
	}
	pl.drop(f)
	return nil
}

// eachRef calls use for every chunk of a content and its offset there.
func (x *run) eachRef(c *repo.Content, use func(repo.Ref, int64) error) error {
	var off int64
	if c.Level == 0 {
		for _, ref := range c.Inline {
			if err := use(ref, off); err != nil {
				return err
			}
			off += int64(ref.Len)
		}
		return nil
	}
	rd := x.rd.Content(c)
	for {
		ref, ok, err := rd.Next(x.ctx)
		if err != nil || !ok {
			return err
		}
		if err := use(ref, off); err != nil {
			return err
		}
		off += int64(ref.Len)
	}
}
