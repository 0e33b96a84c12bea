package repo

import (
	"context"
	"fmt"
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
	torn   bool // a tree could not be walked to its end

	ready  chan struct{} // closed when tables are made, or can not be
	tables [2]*chunkTable
	lost   error // why they can not

	leaning leaning
	near    *Locator // of the walk, and so are those below
	spots   []spot   // scratch of copies
	visited []uint32 // what was said of pages that were in order, by their number in the table; 0 of others
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
		ready:  make(chan struct{}),
	}
	c.rd = newReader(r)
	c.rd.bare = true
	c.rd.files.bound(checkOpenPacks)
	defer c.rd.close()
	c.rd.tree, c.rd.data = c.tableSpots(kindTree), c.tableSpots(kindData)
	c.leaning.rd, c.near = c.rd, c.rd.Locator()
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
		r.knowDamage(c.damage)
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
	numbers := c.r.catalog.all(0)
	for _, n := range numbers {
		c.prog.TotalBytes.Add(c.r.catalog.info(n).size)
	}
	return c.all(ctx, chain, numbers, o.ReadData)
}

// all looks at all packs, and walks the trees of all snapshots meanwhile. What
// the walk went past may turn out to be damaged, so it only counts when nothing
// was; else the trees are walked when it is known what is.
func (c *checker) all(ctx context.Context, chain *chain, numbers []uint32, readData bool) error {
	before := len(c.report.Findings)
	var whole bool
	var walk error
	var wg sync.WaitGroup
	wg.Go(func() {
		pace.Of(ctx).Thread()
		if walk = c.makeTables(ctx, numbers); walk == nil {
			whole, walk = c.ahead(ctx, chain)
		}
	})
	err := c.packs(ctx, numbers, readData)
	wg.Wait()
	if err == nil {
		err = walk
	}
	if err != nil || whole && len(c.bad) == 0 && len(c.report.Findings) == before && !c.report.Truncated {
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

// makeTables makes the tables of both kinds out of all trailers, so that what the
// index says, or another reader has found before, plays no part.
func (c *checker) makeTables(ctx context.Context, numbers []uint32) error {
	c.tables, c.lost = newChunkTables(ctx, c.rd, numbers)
	if c.lost == nil {
		c.visited = make([]uint32, c.tables[kindTree-1].chunks())
	}
	close(c.ready)
	return c.lost
}

// tableSpots returns the look-up in the table of a kind. It waits for the table.
func (c *checker) tableSpots(kind packKind) func(context.Context, *crypto.ID, []spot) ([]spot, error) {
	return func(ctx context.Context, id *crypto.ID, dst []spot) ([]spot, error) {
		<-c.ready // which never takes longer than reading the trailers, or until ctx ends
		if c.lost != nil {
			return nil, c.lost
		}
		return c.tables[kind-1].spots(id, dst), nil
	}
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
