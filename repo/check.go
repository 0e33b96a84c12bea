package repo

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/pace"
)

// CheckOptions say how deep a check goes.
type CheckOptions struct {
	// ReadData decodes every block of every pack and compares every chunk
	// with its id. Without it packs are only proven to be there, whole in
	// size, with a trailer that opens.
	ReadData bool
	// Snapshots are ids of those that are to be proven, live or forgotten. Then
	// nothing is read that they do not need: their manifests, their trees, and of
	// the packs the trailers, which say where chunks lie, and with ReadData the
	// blocks their chunks are decoded from. Empty proves the repository.
	Snapshots []string
}

// CheckProgress counts what a check has done. The check writes it, anybody
// may read it.
type CheckProgress struct {
	Packs, TotalPacks atomic.Int64
	Bytes, TotalBytes atomic.Int64 // of packs, or of the blocks some snapshots need
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
	PackBytes    int64         `json:"pack_bytes"`     // of packs; where Only is set of the blocks that the snapshots need
	Only         []string      `json:"only,omitempty"` // ids of the snapshots that were proven, and nothing else
	ReadData     bool          `json:"read_data"`
	Findings     []Finding     `json:"findings"`
	DamagedFiles []DamagedFile `json:"damaged_files"`
	Truncated    bool          `json:"truncated,omitempty"` // there were more than fit the lists
}

// Sound tells whether nothing is wrong.
func (c *CheckReport) Sound() bool { return len(c.Findings) == 0 && len(c.DamagedFiles) == 0 }

// maxFindings bounds each list of a report.
const maxFindings = 10_000

// checkOpenPacks bounds the packs a check keeps open beside those in use: it goes
// through them one after the other, and others have theirs open meanwhile.
const checkOpenPacks = 32

// checker is the state of one Check.
type checker struct {
	r      *Repo
	rd     *Reader           // of this check alone: what others have cached says nothing of the disk
	want   map[uint32]bitset // by pack: the blocks that are needed; nil while all are
	prog   *CheckProgress
	mu     sync.Mutex // guards all below
	report *CheckReport
	bad    map[crypto.ID]string // chunks with no readable copy seen so far, and why
	good   map[crypto.ID]bool   // chunks of bad that another copy has
	damage *damageList
	odd    []string // names of the listing that no pack has
	broken []brokenBlock
	spots  []spot // scratch of copies
	torn   bool   // a tree could not be walked to its end

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
// ErrNotFound for a snapshot of CheckOptions that is not there. The check keeps
// to the pace of its context.
func (r *Repo) Check(ctx context.Context, o CheckOptions, p *CheckProgress) (*CheckReport, error) {
	c := &checker{
		r: r, prog: p, report: &CheckReport{ReadData: o.ReadData},
		bad: make(map[crypto.ID]string), good: make(map[crypto.ID]bool),
		damage: &damageList{blocks: make(map[crypto.PackID][]uint32)},
	}
	c.rd = newReader(r)
	c.rd.files.bound(checkOpenPacks)
	defer c.rd.close()
	c.rd.tree, c.rd.data = r.tableSpots(kindTree), r.tableSpots(kindData)
	c.leaning.rd = c.rd
	if why := r.wentBack(); why != nil {
		c.find("head", why.Error())
	}
	var err error
	if len(o.Snapshots) > 0 {
		err = c.some(ctx, o)
	} else {
		err = c.everything(ctx, o)
	}
	if err != nil {
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
	if len(o.Snapshots) > 0 {
		c.damage.merge(r.damaged.Load()) // of what was not read, what is known stays
	}
	if o.ReadData && r.state != nil {
		r.damaged.Store(c.damage)
		if err := writeDamage(r.state, r.id, c.damage); noSpace(err) {
			r.notRemembered(err)
		} else if err != nil {
			return c.report, err
		}
	}
	if r.state != nil && c.report.Sound() && len(o.Snapshots) == 0 {
		err := r.forgiveMissing()
		if noSpace(err) {
			r.notRemembered(err)
			err = nil
		}
		return c.report, err
	}
	return c.report, nil
}

// everything is Check of the whole repository.
func (c *checker) everything(ctx context.Context, o CheckOptions) error {
	chain, err := loadChain(ctx, c.r.store, c.r.files)
	if err != nil {
		return err
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
	if err := c.listed(ctx); err != nil {
		return err
	}
	if err := c.small(ctx); err != nil {
		return err
	}
	for _, name := range c.odd {
		c.find(name, "no pack has this name; it is not used, and may be removed if nothing else put it there")
	}
	if err := c.tables(ctx); err != nil {
		return err
	}
	numbers := c.r.catalog.all(0)
	for _, n := range numbers {
		c.prog.TotalBytes.Add(c.r.catalog.info(n).size)
	}
	if err := c.packs(ctx, numbers, o.ReadData); err != nil {
		return err
	}
	return c.snapshots(ctx, chain)
}

// listed sees the packs that are there. A backup may have ended since the
// repository was opened: the packs of every manifest read before are there now.
func (c *checker) listed(ctx context.Context) error {
	now, err := listPacks(ctx, c.r.store)
	if err != nil {
		return err
	}
	c.r.catalog.add(now.packs...)
	c.r.staleTables()
	c.odd = now.odd
	return nil
}

// tables loads both, so that dictionaries are found whichever pack they lie in.
func (c *checker) tables(ctx context.Context) error {
	for _, kind := range []packKind{kindTree, kindData} {
		if err := c.r.loadTableThrough(ctx, kind, c.rd, math.MaxInt); err != nil {
			return err
		}
	}
	return nil
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

// packs looks at packs, on all cores.
func (c *checker) packs(ctx context.Context, numbers []uint32, readData bool) error {
	c.prog.TotalPacks.Store(int64(len(numbers)))
	work := make(chan uint32)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			pace.Of(ctx).Thread()
			for n := range work {
				if ctx.Err() == nil {
					c.pack(ctx, n, c.want[n], readData)
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

// pack looks at the blocks of a pack that are wanted; nil wants all of it, its
// size and its padding too.
func (c *checker) pack(ctx context.Context, number uint32, want bitset, readData bool) {
	info := c.r.catalog.info(number)
	name := packName(info.id, info.kind)
	defer func() {
		c.prog.Packs.Add(1)
	}()
	e, err := c.rd.pack(ctx, number)
	if err != nil {
		c.find(name, err.Error())
		c.damage.add(info.id, wholePack)
		if want == nil {
			c.prog.Bytes.Add(info.size)
		}
		return
	}
	defer c.rd.packs.release(e)
	t := e.val.trailer
	if size := int64(c.r.config.PackSize); want == nil && info.size != size && info.size != tailSize(info.size) && info.size > MinTailSize {
		c.find(name, fmt.Sprintf("%v: %d bytes is neither the size of a full pack nor that of a tail", ErrDamaged, info.size))
	}
	var blocks, deltas, chunks, sealed int64
	for b := range t.blocks[:len(t.blocks)-1] {
		if want != nil && !want.has(b) {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		rec := &t.blocks[b]
		blocks, chunks, sealed = blocks+1, chunks+int64(rec.chunks), sealed+int64(rec.sealed)
		if rec.codec == codecDelta {
			deltas++
		}
		whole, err := c.rd.whole(ctx, blockKey{number, uint32(b)})
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
		// A walk that is to find what is needed has read the blocks of trees; where
		// it could not, this says which are damaged.
		if err == nil && readData && (want == nil || info.kind == kindData || c.torn) {
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
	if want == nil {
		sealed = info.size
		if readData {
			if _, err := e.val.payload(uint32(len(t.blocks)-1), nil); err != nil {
				c.find(name, "padding: "+err.Error())
			}
		}
	}
	c.mu.Lock()
	c.report.Packs++
	c.report.PackBytes += sealed
	c.report.Blocks += blocks
	c.report.DeltaBlocks += deltas
	c.report.Chunks += chunks
	c.mu.Unlock()
}

// block decodes one block and compares its chunks with their ids.
func (c *checker) block(ctx context.Context, number, block uint32) error {
	var req request
	e, err := c.rd.decode(ctx, blockKey{number, block}, &req)
	defer func() { c.rd.releaseAll(req.held) }()
	if err != nil {
		return err
	}
	defer c.rd.blocks.release(e)
	if err := c.rd.verifyAll(e.val); err != nil {
		return err
	}
	return req.pay(ctx)
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
