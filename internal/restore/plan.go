package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/generalbots/backupd/internal/target"
	"github.com/generalbots/backupd/repo"
)

// plan walks the trees of all parts of a snapshot as one tree and fills
// windows with what is to be restored. One goroutine.
type plan struct {
	*run
	locator   *repo.Locator
	roots     []*repo.Entry // of the parts that hold something
	sources   []string      // their names
	selection *selection
	frames    []frame
	names     []string // of the frames, the root left out
	links     map[inode]*link
	manyLinks bool // more than maxLinks at once: reported
	win       *window
}

// frame is a directory the plan is in.
type frame struct {
	dir     *dir
	heads   []head
	sel     *selection // nil: all of it
	next    int        // of sel's names
	matched bool       // by Include, itself or above
}

// head is where the plan is in one part's version of a directory.
type head struct {
	part int
	rd   *repo.DirReader
	cur  repo.RawEntry
	have bool
}

// found is an entry as one part has it.
type found struct {
	part int
	raw  repo.RawEntry
}

func (x *run) newPlan(r *repo.Repo, snap *repo.Manifest) (*plan, error) {
	pl := &plan{run: x, locator: x.rd.Locator(), links: make(map[inode]*link)}
	for _, name := range x.opts.Sources {
		if !slices.ContainsFunc(snap.Parts, func(p repo.Part) bool { return p.Source == name }) {
			return nil, fmt.Errorf("source %s: %w in snapshot %s", name, repo.ErrNotFound, snap.ID)
		}
	}
	for i := range snap.Parts {
		p := &snap.Parts[i]
		if len(x.opts.Sources) > 0 && !slices.Contains(x.opts.Sources, p.Source) {
			continue
		}
		if len(p.Root) == 0 && p.Failed {
			x.problem("/", "read snapshot", fmt.Errorf("part %s failed when it was backed up and holds nothing", p.Source))
			continue
		}
		root, err := r.Root(p)
		if err != nil {
			return nil, fmt.Errorf("part %s: %w", p.Source, err)
		}
		pl.roots = append(pl.roots, root)
		pl.sources = append(pl.sources, p.Source)
	}
	var err error
	if pl.selection, err = selectPaths(x.opts.Paths); err != nil {
		return nil, err
	}
	var files, size int64
	if pl.selection == nil {
		for _, root := range pl.roots {
			files, size = files+int64(root.Dir.Files), size+root.Dir.Bytes
		}
	} else if files, size, err = extent(x.ctx, x.rd, pl.roots, x.opts.Paths); err != nil {
		return nil, err
	}
	x.prog.TotalFiles.Store(files)
	x.prog.TotalBytes.Store(size)
	return pl, nil
}

// walk makes the whole plan and hands it out.
func (pl *plan) walk() error {
	if len(pl.roots) == 0 {
		return nil
	}
	if err := pl.takeWindow(); err != nil {
		return err
	}
	top := &dir{entry: *pl.roots[0]}
	top.left.Store(1)
	f := frame{dir: top, sel: pl.selection, matched: pl.opts.Include == nil}
	for i, root := range pl.roots {
		f.heads = append(f.heads, head{part: i, rd: pl.rd.Dir(root.Dir)})
	}
	if f.sel == nil && f.matched && !pl.makeDir(top) {
		return pl.flush()
	}
	if err := pl.enter(f); err != nil {
		return err
	}
	var cands []found
	for len(pl.frames) > 0 {
		if pl.ctx.Err() != nil {
			return context.Cause(pl.ctx)
		}
		at := &pl.frames[len(pl.frames)-1]
		var err error
		if cands, err = pl.following(at, cands[:0]); err != nil {
			return err
		}
		if len(cands) == 0 {
			pl.leave(at)
			continue
		}
		if err := pl.entry(at, cands); err != nil {
			return err
		}
	}
	return pl.flush()
}

func (pl *plan) enter(f frame) error {
	pl.frames = append(pl.frames, f)
	at := &pl.frames[len(pl.frames)-1]
	if at.sel != nil {
		return nil
	}
	for i := range at.heads {
		if err := pl.advance(at, &at.heads[i]); err != nil {
			return err
		}
	}
	return nil
}

func (pl *plan) leave(at *frame) {
	d := at.dir
	*at = frame{}
	pl.frames = pl.frames[:len(pl.frames)-1]
	if len(pl.names) > 0 {
		pl.names = pl.names[:len(pl.names)-1]
	}
	if d.ready {
		pl.release(d)
	}
}

// advance moves to the next entry of a part's version of a directory. When
// its pages can not be read the rest of it is lost, which is a problem.
func (pl *plan) advance(at *frame, h *head) error {
	var err error
	h.cur, h.have, err = h.rd.Next(pl.ctx)
	if err == nil {
		return nil
	}
	h.have = false
	return pl.unlisted(at, err)
}

func (pl *plan) unlisted(at *frame, err error) error {
	if pl.ctx.Err() != nil {
		return context.Cause(pl.ctx)
	}
	pl.problem(at.dir.path(""), "list", fmt.Errorf("entries are lost: %w", err))
	return nil
}

// following returns the next name of a directory as each part has it, and
// nothing at its end.
func (pl *plan) following(at *frame, cands []found) ([]found, error) {
	if at.sel != nil {
		for len(cands) == 0 && at.next < len(at.sel.names) {
			name := at.sel.names[at.next]
			at.next++
			for i := range at.heads {
				h := &at.heads[i]
				raw, ok, err := h.rd.Find(pl.ctx, name)
				if err != nil {
					if err := pl.unlisted(at, err); err != nil {
						return nil, err
					}
				} else if ok {
					cands = append(cands, found{h.part, raw})
				}
			}
		}
		return cands, nil
	}
	var least []byte
	for i := range at.heads {
		if h := &at.heads[i]; h.have && (least == nil || bytes.Compare(h.cur.Name(), least) < 0) {
			least = h.cur.Name()
		}
	}
	if least == nil {
		return cands, nil
	}
	for i := range at.heads {
		h := &at.heads[i]
		if !h.have || len(at.heads) > 1 && !bytes.Equal(h.cur.Name(), least) {
			continue
		}
		cands = append(cands, found{h.part, h.cur})
		if err := pl.advance(at, h); err != nil {
			return nil, err
		}
	}
	return cands, nil
}

var errOtherPart = errors.New("another part of the snapshot has something else under this name, which was taken")

// entry plans for one name.
func (pl *plan) entry(at *frame, cands []found) error {
	first := &cands[0].raw
	directory := first.Type() == repo.TypeDirectory
	name := string(first.Name())
	if pl.opts.Exclude != nil && pl.opts.Exclude(pl.names, name, directory) {
		pl.exclude(cands)
		return nil
	}
	matched := at.matched || pl.opts.Include(pl.names, name, directory)
	for _, c := range cands[1:] {
		if directory != (c.raw.Type() == repo.TypeDirectory) || !directory && !bytes.Equal(c.raw.Bytes(), first.Bytes()) {
			pl.problem(at.dir.path(name), "merge part "+pl.sources[c.part], errOtherPart)
		}
	}
	var below *selection
	if at.sel != nil {
		below = at.sel.below[name]
	}
	if directory {
		return pl.directory(at, cands, below, matched)
	}
	if below != nil || !matched {
		pl.prog.TotalFiles.Add(-1)
		pl.prog.TotalBytes.Add(-first.Size())
		return nil
	}
	if !pl.makeDir(at.dir) {
		return pl.skipFrame(at)
	}
	f := &file{dir: at.dir, part: cands[0].part}
	if err := first.Entry(&f.entry); err != nil {
		pl.problem(at.dir.path(name), "read entry", err)
		return nil
	}
	return pl.file(f)
}

// skipFrame gives up on the rest of a directory that can not be made, which
// has been reported.
func (pl *plan) skipFrame(at *frame) error {
	at.sel, at.heads = nil, nil
	return nil
}

func (pl *plan) exclude(cands []found) {
	pl.count(func(r *Report) { r.Excluded++ })
	for i := range cands {
		files, size := int64(1), cands[i].raw.Size()
		if cands[i].raw.Type() == repo.TypeDirectory {
			var e repo.Entry
			if cands[i].raw.Entry(&e) != nil {
				continue
			}
			files, size = int64(e.Dir.Files), e.Dir.Bytes
		}
		pl.prog.TotalFiles.Add(-files)
		pl.prog.TotalBytes.Add(-size)
	}
}

func (pl *plan) directory(at *frame, cands []found, below *selection, matched bool) error {
	d := &dir{parent: at.dir, depth: at.dir.depth + 1, wanted: below == nil && matched}
	d.left.Store(1)
	f := frame{dir: d, sel: below, matched: matched}
	for i := range cands {
		c := &cands[i]
		if c.raw.Type() != repo.TypeDirectory {
			continue
		}
		e := &d.entry
		if len(f.heads) > 0 {
			e = new(repo.Entry)
		}
		if err := c.raw.Entry(e); err != nil {
			pl.problem(at.dir.path(string(c.raw.Name())), "read entry", err)
			continue
		}
		f.heads = append(f.heads, head{part: c.part, rd: pl.rd.Dir(e.Dir)})
	}
	if len(f.heads) == 0 || d.wanted && !pl.makeDir(d) {
		return nil
	}
	if d.depth > repo.MaxTreeDepth {
		pl.problem(d.path(""), "list", target.ErrDepth)
		return nil
	}
	pl.names = append(pl.names, d.entry.Name)
	return pl.enter(f)
}
