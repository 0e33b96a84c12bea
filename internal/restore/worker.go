package restore

import (
	"fmt"

	"github.com/generalbots/backupd/internal/target"
	"github.com/generalbots/backupd/repo"
)

// worker handles tasks until there are none left. When the run ends early it
// only takes them from the queue.
func (x *run) worker() {
	x.pace.Thread()
	wk := &worker{run: x}
	for t := range x.work {
		if x.ctx.Err() != nil {
			continue
		}
		for _, f := range t.plain {
			wk.plain(f)
		}
		_ = wk.pace.Spend(wk.ctx, 0) // of a context that is over the loop hears too
		wk.items(t.items)
		x.taskDone(t.win)
	}
}

type worker struct {
	*run
	block   *repo.Block
	place   repo.Place // of block
	trouble error      // why block could not be opened
	last    repo.Place // of chunk
	chunk   []byte     // nil, or of block
	buf     []byte     // for chunks read on their own
}

// items writes chunks, those of one block after each other.
func (wk *worker) items(items []item) {
	defer wk.leaveBlock()
	for i := range items {
		it := &items[i]
		if wk.ctx.Err() != nil {
			return
		}
		if w := wk.begin(it.file); w != nil {
			if op, err := wk.item(it, w); err != nil {
				wk.fail(it.file, op, err)
			}
		}
		wk.drop(it.file)
	}
}

func (wk *worker) item(it *item, w *target.File) (op string, err error) {
	p, err := wk.read(it)
	if err != nil {
		return "read", err
	}
	if len(p) != int(it.size) {
		return "read", fmt.Errorf("%w: chunk %s: %w", repo.ErrDamaged, it.id.Short(), errLength)
	}
	return "write", wk.write(it.file, w, p, it.off)
}

// read returns the bytes of a chunk, valid until the next call. Where the
// copy that was planned can not be read another may be.
func (wk *worker) read(it *item) ([]byte, error) {
	if wk.block == nil && wk.trouble == nil || it.place.Pack != wk.place.Pack || it.place.Block != wk.place.Block {
		wk.leaveBlock()
		wk.place = it.place
		wk.block, wk.trouble = wk.rd.OpenBlock(wk.ctx, it.place)
	}
	if wk.chunk != nil && wk.last == it.place {
		return wk.chunk, nil
	}
	if wk.block != nil {
		if p, err := wk.block.Chunk(it.place); err == nil {
			wk.chunk, wk.last = p, it.place
			return p, nil
		}
	}
	wk.chunk = nil
	var err error
	wk.buf, err = wk.rd.AppendChunk(wk.ctx, wk.buf[:0], it.id)
	return wk.buf, err
}

func (wk *worker) leaveBlock() {
	if wk.block != nil {
		wk.block.Release()
	}
	wk.block, wk.trouble, wk.chunk = nil, nil, nil
}

// plain restores an entry that has no content of its own.
func (wk *worker) plain(f *file) {
	if wk.ctx.Err() != nil {
		return
	}
	switch {
	case f.later:
		wk.linkLater(f)
	case f.entry.Type == repo.TypeRegular:
		wk.drop(f)
	default:
		wk.special(f)
	}
}

// special restores what is no more than an inode.
func (x *run) special(f *file) {
	made, kept := x.place(f)
	if f.link != nil {
		if kept {
			f.link.first = f
		}
		x.resolve(f.link, made)
	}
	x.handled(f)
}

// place makes a link, pipe, socket or device. It gives what was made, or kept
// when what stands there stays.
func (x *run) place(f *file) (made *target.Made, kept bool) {
	place := f.dir.folder.Symlink
	switch f.entry.Type {
	case repo.TypeFIFO:
		place = f.dir.folder.Fifo
	case repo.TypeSocket:
		place = f.dir.folder.Socket
	case repo.TypeCharDevice, repo.TypeBlockDevice:
		place = f.dir.folder.Device
	}
	made, problems, err := place(f.entry.Name, metaOf(&f.entry))
	switch {
	case err == nil:
		if len(problems) > 0 {
			x.incomplete(f.path(), problems)
		}
		if made != nil {
			x.made(f)
		}
	case x.kept(f.path(), err):
		return nil, true
	case x.fatal(err):
	default:
		x.problem(f.path(), "create", err)
	}
	return made, false
}
