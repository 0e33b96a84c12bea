package repo

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/generalbots/backupd/crypto"
)

// CheckOptions say how deep a check goes.
type CheckOptions struct {
	// ReadData decodes every block of every pack and compares every chunk
	// with its id. Without it packs are only proven to be there, whole in
	// size, with a trailer that opens.
	ReadData bool
}

// CheckProgress counts what a check has done. The check writes it, anybody
// may read it.
type CheckProgress struct {
	Packs, TotalPacks atomic.Int64
	Bytes, TotalBytes atomic.Int64 // of packs
	Snapshots         atomic.Int64 // walked
}

// Finding is one thing that is wrong with a repository.
type Finding struct {
	Object string `json:"object"` // the pack, file or snapshot it is about
	Text   string `json:"text"`
}

// DamagedFile is a file of a snapshot that can not be restored whole.
type DamagedFile struct {
	Snapshot string `json:"snapshot"`
	Path     []byte `json:"path"`
	Text     string `json:"text"`
}

// CheckReport is what a check found. A repository is sound when Findings and
// DamagedFiles are both empty.
type CheckReport struct {
	Snapshots    int           `json:"snapshots"`
	Packs        int           `json:"packs"`
	Blocks       int64         `json:"blocks"`
	DeltaBlocks  int64         `json:"delta_blocks"`
	Chunks       int64         `json:"chunks"`
	PackBytes    int64         `json:"pack_bytes"`
	ReadData     bool          `json:"read_data"`
	Findings     []Finding     `json:"findings"`
	DamagedFiles []DamagedFile `json:"damaged_files"`
	Truncated    bool          `json:"truncated,omitempty"` // there were more than fit the lists
}

// Sound tells whether nothing is wrong.
func (c *CheckReport) Sound() bool { return len(c.Findings) == 0 && len(c.DamagedFiles) == 0 }

// maxFindings bounds each list of a report.
const maxFindings = 10_000

// checker is the state of one Check.
type checker struct {
	r      *Repo
	prog   *CheckProgress
	mu     sync.Mutex // guards all below
	report *CheckReport
	bad    map[crypto.ID]string // chunks with no readable copy seen so far, and why
	good   map[crypto.ID]bool   // chunks of bad that another copy has
	damage *damageList
	odd    []string // names of the listing that no pack has
	broken []brokenBlock

	leaning leaning
}

// brokenBlock is a delta block whose dictionary is gone. Where no snapshot
// needs its chunks it is what gc leaves behind, and nothing is wrong.
type brokenBlock struct {
	name  string
	pack  crypto.PackID
	block uint32
	err   error
}

// Check proves the repository from the outside in: the chain of manifests,
// the packs, the trees of all snapshots, that every chunk they name is there,
// that no delta block leans on one of its own depth or more, and with ReadData
// every byte. It changes nothing in the repository and deletes nothing ever.
// What is wrong is in the report; an error means that the check could not be
// done. After a check with ReadData the state directory remembers the blocks
// that can not be read, so that the next backup stores their chunks anew.
func (r *Repo) Check(ctx context.Context, o CheckOptions, p *CheckProgress) (*CheckReport, error) {
	c := &checker{
		r: r, prog: p, report: &CheckReport{ReadData: o.ReadData},
		bad: make(map[crypto.ID]string), good: make(map[crypto.ID]bool),
		leaning: leaning{rd: r.reader},
		damage:  &damageList{blocks: make(map[crypto.PackID][]uint32)},
	}
	if why := r.wentBack(); why != nil {
		c.find("head", why.Error())
	}
	chain, err := loadChain(ctx, r.store, r.files)
	if err != nil {
		return nil, err
	}
	for _, p := range chain.problems {
		c.find(p.name, p.text)
	}
	// What was forgotten may be damaged and hides nothing, so gc does not mind;
	// but it can not be undeleted.
	for _, f := range chain.list() {
		if f.err != nil && !slices.ContainsFunc(chain.problems, func(p *chainProblem) bool { return p.name == f.name }) {
			c.find(f.name, f.err.Error())
		}
	}
	// A backup may have ended since the repository was opened: the packs of
	// every manifest read above are there now.
	now, err := listPacks(ctx, r.store)
	if err != nil {
		return nil, err
	}
	r.catalog.add(now.packs...)
	r.staleTables()
	c.odd = now.odd
	if err := c.small(ctx); err != nil {
		return nil, err
	}
	if err := c.packs(ctx, o.ReadData); err != nil {
		return nil, err
	}
	if err := c.snapshots(ctx, chain); err != nil {
		return nil, err
	}
	if len(c.report.DamagedFiles) > 0 {
		for _, b := range c.broken {
			c.find(b.name, b.err.Error())
			c.damage.add(b.pack, b.block)
		}
	}
	if o.ReadData && r.state == nil && r.options.StateDir != "" && c.damage.count() > 0 {
		if err := r.makeState(); err != nil {
			return c.report, fmt.Errorf("what is damaged could not be noted, so the next backup does not store it anew: %w", err)
		}
	}
	if o.ReadData && r.state != nil {
		r.damaged.Store(c.damage)
		if err := writeDamage(r.state, r.id, c.damage); noSpace(err) {
			r.notRemembered(err)
		} else if err != nil {
			return c.report, err
		}
	}
	if r.state != nil && c.report.Sound() {
		err := r.forgiveMissing()
		if noSpace(err) {
			r.notRemembered(err)
			err = nil
		}
		return c.report, err
	}
	return c.report, nil
}

func (c *checker) find(object, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.report.Findings) == maxFindings {
		c.report.Truncated = true
		return
	}
	c.report.Findings = append(c.report.Findings, Finding{object, text})
}

// packs looks at every pack, on all cores.
func (c *checker) packs(ctx context.Context, readData bool) error {
	for _, name := range c.odd {
		c.find(name, "no pack has this name; it is not used, and may be removed if nothing else put it there")
	}
	// Both tables first, so that dictionaries are found whichever pack they lie in.
	for _, kind := range []packKind{kindTree, kindData} {
		if err := c.r.loadTable(ctx, kind); err != nil {
			return err
		}
	}
	numbers := c.r.catalog.all(0)
	c.prog.TotalPacks.Store(int64(len(numbers)))
	for _, n := range numbers {
		c.prog.TotalBytes.Add(c.r.catalog.info(n).size)
	}
	work := make(chan uint32)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := range work {
				if ctx.Err() == nil {
					c.pack(ctx, n, readData)
				}
			}
		})
	}
	for _, n := range numbers {
		work <- n
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

func (c *checker) pack(ctx context.Context, number uint32, readData bool) {
	info := c.r.catalog.info(number)
	name := packName(info.id, info.kind)
	defer func() {
		c.prog.Packs.Add(1)
	}()
	e, err := c.r.reader.pack(ctx, number)
	if err != nil {
		c.find(name, err.Error())
		c.damage.add(info.id, wholePack)
		c.prog.Bytes.Add(info.size)
		return
	}
	defer c.r.reader.packs.release(e)
	t := e.val.trailer
	if want := int64(c.r.config.PackSize); info.size != want && info.size != tailSize(info.size) && info.size > MinTailSize {
		c.find(name, fmt.Sprintf("%v: %d bytes is neither the size of a full pack nor that of a tail", ErrDamaged, info.size))
	}
	deltas := 0
	for b := range t.blocks[:len(t.blocks)-1] {
		if ctx.Err() != nil {
			return
		}
		rec := &t.blocks[b]
		if rec.codec == codecDelta {
			deltas++
		}
		whole, err := c.r.reader.whole(ctx, blockKey{number, uint32(b)})
		if err == nil && !whole {
			err = fmt.Errorf("block %d: %w: what its dictionary is made of is in no block of lower depth", b, ErrNotFound)
			c.lost(t, rec, err)
			c.mu.Lock()
			c.broken = append(c.broken, brokenBlock{name, info.id, uint32(b), err})
			c.mu.Unlock()
			continue
		}
		if err == nil {
			err = c.leaning.proveReach(ctx, blockKey{number, uint32(b)})
		}
		if err == nil && readData {
			err = c.block(ctx, number, uint32(b))
			c.prog.Bytes.Add(int64(rec.sealed))
		}
		if err != nil && ctx.Err() == nil {
			c.find(name, err.Error())
			c.damage.add(info.id, uint32(b))
			c.lost(t, rec, err)
		} else {
			c.kept(t, rec)
		}
	}
	if readData {
		if _, err := e.val.payload(uint32(len(t.blocks)-1), nil); err != nil {
			c.find(name, "padding: "+err.Error())
		}
	}
	c.mu.Lock()
	c.report.Packs++
	c.report.PackBytes += info.size
	c.report.Blocks += int64(len(t.blocks) - 1)
	c.report.DeltaBlocks += int64(deltas)
	c.report.Chunks += int64(t.chunkCount())
	c.mu.Unlock()
}

// block decodes one block and compares its chunks with their ids.
func (c *checker) block(ctx context.Context, number, block uint32) error {
	var req request
	e, err := c.r.reader.decode(ctx, blockKey{number, block}, &req)
	defer func() { c.r.reader.releaseAll(req.held) }()
	if err != nil {
		return err
	}
	defer c.r.reader.blocks.release(e)
	return c.r.reader.verifyAll(e.val)
}

// verifyAll compares all chunks of a block with their ids.
func (rd *Reader) verifyAll(b *block) error {
	kind := b.trailer.header.kind
	h := rd.hasher(kind)
	defer rd.hashers[kind-1].Put(h)
	p := b.plain
	for i := range uint32(b.rec.chunks) {
		want, n := b.trailer.chunk(b.rec.chunkAt + i)
		if h.Sum(p[:n]) != want {
			return fmt.Errorf("chunk %s: %w: its content has another id", want.Short(), ErrDamaged)
		}
		p = p[n:]
	}
	return nil
}

func (c *checker) lost(t *trailer, rec *blockRec, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range uint32(rec.chunks) {
		id, _ := t.chunk(rec.chunkAt + i)
		c.bad[id] = why.Error()
	}
}

// kept notes good copies, but only of chunks that have a bad one: those are
// few, all others need no memory.
func (c *checker) kept(t *trailer, rec *blockRec) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.bad) == 0 {
		return
	}
	for i := range uint32(rec.chunks) {
		id, _ := t.chunk(rec.chunkAt + i)
		if _, ok := c.bad[id]; ok {
			c.good[id] = true
		}
	}
}

// trouble says why a chunk can not be read; "" when it can, as far as is known.
func (c *checker) trouble(ctx context.Context, kind packKind, id *crypto.ID) string {
	c.mu.Lock()
	why, bad := c.bad[*id]
	if bad && c.good[*id] {
		bad = false
	}
	c.mu.Unlock()
	if bad {
		// A good copy may have been passed before the bad one was met.
		if _, err := c.r.reader.appendChunk(ctx, kind, nil, id); err == nil {
			c.mu.Lock()
			c.good[*id] = true
			c.mu.Unlock()
			return ""
		}
		return why
	}
	if !c.r.present(kind, id) {
		return fmt.Sprintf("chunk %s is in no pack", id.Short())
	}
	return ""
}

// snapshots walks the trees of all snapshots, forgotten ones included, pages
// that several share once. Where something is missing, the files concerned
// are looked up by name.
func (c *checker) snapshots(ctx context.Context, chain *chain) error {
	visited := make(map[crypto.ID]struct{})
	for _, list := range [][]*Snapshot{chain.snapshots, chain.forgotten} {
		for _, s := range list {
			for i := range s.Parts {
				if err := c.part(ctx, s, &s.Parts[i], visited); err != nil {
					return err
				}
			}
			c.report.Snapshots++
			c.prog.Snapshots.Add(1)
		}
	}
	return nil
}

func (c *checker) part(ctx context.Context, s *Snapshot, p *Part, visited map[crypto.ID]struct{}) error {
	if p.Failed && len(p.Root) == 0 {
		return nil
	}
	root, err := c.r.Root(p)
	if err != nil {
		c.find(s.ID, fmt.Sprintf("part %s: %v", p.Source, err))
		return nil
	}
	var fresh []crypto.ID
	whole := true
	err = walkTree(ctx, c.r.reader, root.Dir, func(id crypto.ID, _ pageKind) bool {
		if _, seen := visited[id]; seen {
			return false
		}
		visited[id] = struct{}{}
		fresh = append(fresh, id)
		if c.trouble(ctx, kindTree, &id) != "" {
			whole = false
		}
		return whole
	}, func(ref Ref) {
		if c.trouble(ctx, kindData, &ref.ID) != "" {
			whole = false
		}
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil && whole {
		return nil
	}
	// Pages of a damaged tree are looked at again for the other snapshots that
	// share them, since each is to be named.
	for _, id := range fresh {
		delete(visited, id)
	}
	n := len(c.report.DamagedFiles)
	if err := c.name(ctx, s, root); err != nil {
		return err
	}
	if err != nil && n == len(c.report.DamagedFiles) {
		c.find(s.ID, fmt.Sprintf("part %s: %v", p.Source, err))
	}
	return nil
}

// name lists the files of a snapshot that a missing page or chunk reaches.
func (c *checker) name(ctx context.Context, s *Snapshot, root *Entry) error {
	type open struct {
		reader *DirReader
		path   int // length of the path up to here
	}
	var path []byte
	add := func(p []byte, text string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.report.DamagedFiles) == maxFindings {
			c.report.Truncated = true
			return
		}
		c.report.DamagedFiles = append(c.report.DamagedFiles, DamagedFile{s.ID, append([]byte(nil), p...), text})
	}
	stack := []open{{c.r.reader.Dir(root.Dir), 0}}
	var e Entry
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		raw, ok, err := top.reader.Next(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			add(append(path[:top.path:top.path], '/'), "this directory can not be read: "+err.Error())
		}
		if err != nil || !ok {
			stack = stack[:len(stack)-1]
			continue
		}
		path = append(append(path[:top.path], '/'), raw.Name()...)
		if err := raw.Entry(&e); err != nil {
			add(path, err.Error())
			continue
		}
		switch {
		case e.Type == TypeDirectory && len(stack) < MaxTreeDepth:
			stack = append(stack, open{c.r.reader.Dir(e.Dir), len(path)})
		case e.Type == TypeRegular:
			if why := c.content(ctx, &e.Content); why != "" {
				add(path, why)
			}
		}
	}
	return nil
}

func (c *checker) content(ctx context.Context, content *Content) string {
	cr := c.r.reader.Content(content)
	for {
		ref, ok, err := cr.Next(ctx)
		if err != nil {
			return err.Error()
		}
		if !ok {
			return ""
		}
		if why := c.trouble(ctx, kindData, &ref.ID); why != "" {
			return why
		}
	}
}
