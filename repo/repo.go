package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/index"
	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/store"
)

// Names of the locks of a repository. Who writes snapshots or keys holds
// writerLock, everybody holds useLock shared, gc holds both alone.
const (
	writerLock = "writer"
	useLock    = "use"
)

// Options say how a repository is opened.
type Options struct {
	// StateDir is this host's directory for the index and the head. Without
	// one nothing is remembered outside the repository: the index is made in
	// memory and a repository that went back in time is not noticed.
	StateDir string
	// Program is what manifests say wrote them.
	Program string
	// Memory is what the process is to stay below, in bytes: caches and buffers
	// are sized for it. 0 stands for the ordinary sizes.
	Memory int64
	// Logger gets what a person may want to know later; nil discards it.
	Logger *slog.Logger
}

// InitOptions say what a new repository is like.
type InitOptions struct {
	Config Config // the zero value stands for DefaultConfig
	Slots  []NewSlot
}

// NewSlot is a key slot to be made.
type NewSlot struct {
	Label      string // for people, at most crypto.MaxSlotLabel bytes
	Credential crypto.Credential
	Params     crypto.SlotParams // of a passphrase; the zero value stands for the default
}

func (s NewSlot) slot() newSlot {
	if s.Params == (crypto.SlotParams{}) {
		s.Params = crypto.DefaultSlotParams()
	}
	return newSlot{label: s.Label, credential: s.Credential, params: s.Params}
}

// Repo is an open repository. Its methods may be called at the same time, but
// one Writer, GC or key change at a time.
type Repo struct {
	store    store.Store
	state    durable.FS // nil without a state directory
	stateDir io.Closer  // of state, when Open made it
	options  Options
	log      *slog.Logger
	id       crypto.RepoID
	master   *crypto.MasterKey
	slot     crypto.SlotInfo
	keys     subKeys
	files    *fileKeys
	config   Config
	use      io.Closer
	ids      *IDSource

	catalog *catalog
	reader  *Reader
	bounds  memoryBounds
	tables  [2]struct { // by kind-1: where chunks lie, made from trailers when first asked for
		mu      sync.Mutex // guards what follows
		loaded  atomic.Bool
		entered map[uint32]bool // packs whose trailers are in places
		places  *places
	}

	mu       sync.Mutex // guards the fields below
	chain    *chain
	head     *head
	rollback error // why the repository must not be written
	warnings []string
	distrust bool       // packs or blocks are known to be lost, or nothing is known
	gone     []packInfo // packs that were there and vanished, until a check finds nothing missing

	damaged atomic.Pointer[damageList] // what the last full check could not read

	// Of the writer, which holds writerLock.
	writing   io.Closer
	writer    writerID
	publisher *publisher

	// Opened by whoever asks first, closed when a writer ends or with the repository.
	index    atomic.Pointer[index.Index]
	indexMu  sync.Mutex  // guards opening the index
	noIndex  atomic.Bool // it failed; see doWithoutIndex
	preferMu sync.Mutex  // held while a reader chooses between table and index
}

// memoryBounds are what a repository keeps at once, whatever its size.
type memoryBounds struct {
	packs int64 // bytes of trailers a reader caches
	// Bytes of decoded blocks, see readCacheSize.
	read, leanedOn, trees int64

	files int64 // packs a reader keeps open
	tags  int   // ids sorted at once, at least; see eachSlice
	table int   // data chunks a table holds where there is an index
}

// boundsFor shares out what caches may take of the memory of a process; 0 for the
// ordinary sizes, which are the largest as well.
func boundsFor(memory int64) memoryBounds {
	b := memoryBounds{
		packs: packCacheSize, read: readCacheSize, leanedOn: leanedOnCacheSize, trees: treeCacheSize,
		files: maxOpenPacks, tags: sliceTags, table: tableChunks,
	}
	if memory > 0 {
		b.packs = min(b.packs, memory/16)
		b.leanedOn = min(b.leanedOn, memory/16)
		b.table = min(b.table, int(memory/256)) // about 20 bytes each
	}
	return b
}

// subKeys are the keys of one purpose each.
type subKeys struct{ data, tree, pack, index crypto.Key }

// Init makes a repository in an empty store. At least one slot is needed.
// ErrExists when there is one already.
func Init(ctx context.Context, st store.Store, o InitOptions) (crypto.RepoID, error) {
	var none crypto.RepoID
	lock, err := st.Lock(ctx, writerLock, store.LockExclusive)
	if err != nil {
		return none, err
	}
	defer lock.Close()
	if len(o.Slots) == 0 {
		return none, errors.New("a repository needs a key file, a passphrase or a recovery code to open it with")
	}
	if o.Config.PackSize == 0 {
		o.Config = DefaultConfig(time.Now())
	}
	id, err := crypto.NewRepoID()
	if err != nil {
		return none, err
	}
	master, err := crypto.GenerateMasterKey()
	if err != nil {
		return none, err
	}
	defer master.Wipe()
	slots := make([]newSlot, len(o.Slots))
	for i, s := range o.Slots {
		slots[i] = s.slot()
	}
	return id, createRepository(ctx, st, id, master, &o.Config, slots)
}

// ReadID returns the id of the repository in a store. It needs no key.
// ErrNoRepository, ErrNewerFormat, ErrDamaged.
func ReadID(ctx context.Context, st store.Store) (crypto.RepoID, error) { return readFormat(ctx, st) }

// Open opens a repository with the first credential that fits. It reads the
// snapshots and lists the packs; nothing else is read before it is needed.
//
// crypto.ErrWrongKey, ErrNoRepository, ErrNewerFormat, ErrDamaged, and a
// *store.LockedError while gc has the repository to itself. A repository that
// is older than this host remembers is opened, but not for writing.
func Open(ctx context.Context, st store.Store, creds []crypto.Credential, o Options) (*Repo, error) {
	return openWith(ctx, st, creds, o, nil)
}

// openWith is Open with the state directory, the index apart, in a tree that
// is open already when state is not nil.
func openWith(ctx context.Context, st store.Store, creds []crypto.Credential, o Options, state durable.FS) (_ *Repo, err error) {
	r := &Repo{store: st, state: state, options: o, log: o.Logger, ids: NewIDSource()}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.id, err = readFormat(ctx, st); err != nil {
		return nil, err
	}
	if r.use, err = st.Lock(ctx, useLock, store.LockShared); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if err = r.unlock(ctx, creds); err != nil {
		return nil, err
	}
	if r.config, err = readConfig(ctx, st, r.files); err != nil {
		return nil, err
	}
	// The head before the chain: a writer may commit and move it meanwhile, and
	// a newer head over an older chain would look like a rollback.
	if err = r.openState(); err != nil {
		return nil, err
	}
	if r.chain, err = loadChain(ctx, st, r.files); err != nil {
		return nil, err
	}
	if r.catalog, err = listPacks(ctx, st); err != nil {
		return nil, err
	}
	r.bounds = boundsFor(o.Memory)
	r.reader = newReader(r)
	r.reader.tree = r.tableSpots(kindTree)
	r.reader.data = r.dataSpots
	for i := range r.tables {
		r.tables[i].places, r.tables[i].entered = newPlaces(), make(map[uint32]bool)
	}
	for _, p := range r.chain.problems {
		r.warn(p.Error())
	}
	r.compareState()
	return r, nil
}

// unlock tries the credentials on the key slots.
func (r *Repo) unlock(ctx context.Context, creds []crypto.Credential) error {
	if len(creds) == 0 {
		return fmt.Errorf("%w: no key file, passphrase or recovery code was given", crypto.ErrWrongKey)
	}
	var first error
	for _, c := range creds {
		m, slot, err := openSlots(ctx, r.store, r.id, c)
		if err == nil {
			r.master, r.slot = m, slot
			r.keys = subKeys{
				data: m.Derive(crypto.PurposeDataID), tree: m.Derive(crypto.PurposeTreeID),
				pack: m.Derive(crypto.PurposePack), index: m.Derive(crypto.PurposeIndex),
			}
			r.files = newFileKeys(m, r.id, slot.Epoch)
			return nil
		}
		if first == nil || errors.Is(first, crypto.ErrWrongKey) {
			first = err
		}
	}
	return first
}

// openState reads what this host remembers of the repository.
func (r *Repo) openState() error {
	if r.options.StateDir == "" && r.state == nil {
		return nil
	}
	if r.state == nil {
		dir, err := durable.OS(r.options.StateDir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // made by the first writer
		}
		if err != nil {
			return fmt.Errorf("state directory: %w", err)
		}
		r.state, r.stateDir = dir, dir
	}
	damaged, err := readDamage(r.state, r.id)
	if err != nil {
		r.warn(err.Error())
	}
	r.damaged.Store(damaged)
	r.head, r.rollback = readHead(r.state, r.id)
	return nil
}

// compareState says what follows from what this host remembers.
func (r *Repo) compareState() {
	switch {
	case r.rollback != nil:
	case r.head == nil:
		r.warnUnseen()
	default:
		r.rollback = r.chain.compareHead(r.head)
	}
	if r.rollback != nil {
		r.warn(fmt.Sprintf("%s: %v", openedReadOnly, r.rollback)) // which says how to accept it
	}
}

// warnUnseen says that nothing is there to hold a repository's state against. An empty repository has none.
func (r *Repo) warnUnseen() {
	if len(r.chain.files) > 0 {
		r.warn("this host has not seen the repository before: whether it is the newest state can not be told")
	}
}

func (r *Repo) warn(text string) {
	if !slices.Contains(r.warnings, text) {
		r.warnings = append(r.warnings, text)
	}
}

// Close gives the repository back. A Writer must have been closed before.
func (r *Repo) Close() error {
	var errs []error
	if r.reader != nil {
		r.reader.close()
	}
	r.closeIndex()
	if r.stateDir != nil {
		errs = append(errs, r.stateDir.Close())
	}
	if r.use != nil {
		errs = append(errs, r.use.Close())
	}
	if r.master != nil {
		r.master.Wipe()
	}
	return errors.Join(errs...)
}

// ID returns the id of the repository.
func (r *Repo) ID() crypto.RepoID { return r.id }

// Config returns what was fixed when the repository was made.
func (r *Repo) Config() *Config { return &r.config }

// Slot returns the key slot that opened the repository.
func (r *Repo) Slot() crypto.SlotInfo { return r.slot }

// Reader returns the reader of this repository.
func (r *Repo) Reader() *Reader { return r.reader }

// NewID returns an id for a snapshot, above all it has returned before.
func (r *Repo) NewID(now time.Time) (string, error) { return r.ids.Next(now) }

// GearMaterial returns what the repository's chunker table is made of.
func (r *Repo) GearMaterial() *[2048]byte { return r.master.GearMaterial() }

// AuditKey returns the key of the MACs in a daemon's audit log, which lies
// outside the repository.
func (r *Repo) AuditKey() crypto.Key { return r.master.Derive(crypto.PurposeAudit) }

// Warnings returns what is wrong or not known, in words for people.
func (r *Repo) Warnings() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.warnings...)
}

// Snapshots returns the live snapshots, oldest first. They are shared: not to
// be changed.
func (r *Repo) Snapshots() []*Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.chain.snapshots
}

// Forgotten returns the snapshots that can still be undeleted.
func (r *Repo) Forgotten() []*Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.chain.forgotten
}

// Resolve finds a live snapshot by "latest" or a unique beginning of its id.
// ErrNotFound says what there is instead.
func (r *Repo) Resolve(query string) (*Snapshot, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.chain.resolve(query)
}

// Manifest reads the manifest of a snapshot with its problems, which listings
// leave out.
func (r *Repo) Manifest(ctx context.Context, s *Snapshot) (*Manifest, error) {
	return readSnapshot(ctx, r.store, r.files, s)
}

// Root returns the root directory of a part.
func (r *Repo) Root(p *Part) (*Entry, error) {
	var e Entry
	if len(p.Root) == 0 {
		return nil, fmt.Errorf("part %s: %w: it failed and holds nothing", p.Source, ErrNotFound)
	}
	if err := decodeEntry(p.Root, &e); err != nil {
		return nil, err
	}
	if e.Type != TypeDirectory || e.Name != "" {
		return nil, fmt.Errorf("%w: the root of part %s is no directory, or has a name", ErrDamaged, p.Source)
	}
	return &e, nil
}

// SetRoot makes e the root directory of the part.
func (p *Part) SetRoot(e *Entry) (err error) {
	p.Root, err = encodeEntry(nil, e)
	return err
}

// Dir returns a reader of a directory's entries.
func (rd *Reader) Dir(d Dir) *DirReader { return newDirReader(rd, d) }

// Content returns a reader of a file's chunk list.
func (rd *Reader) Content(c *Content) *ContentReader { return newContentReader(rd, c) }

func (r *Repo) idKey(kind packKind) crypto.Key {
	if kind == kindTree {
		return r.keys.tree
	}
	return r.keys.data
}

func (rd *Reader) openPack(ctx context.Context, number uint32) (*pack, error) {
	r := rd.repo
	info, ok := r.catalog.alive(number)
	if !ok {
		return nil, fmt.Errorf("pack %d: %w: it was removed", number, ErrNotFound)
	}
	p, err := readPack(rd.openPackFile(ctx, number, info), r.keys.pack, r.id, int64(r.config.PackSize), number, info)
	if err == nil && p.trailer.header.epoch != r.config.KeyEpoch {
		return nil, fmt.Errorf("pack %s: %w: it says key epoch %d, the repository has %d", info.id, ErrDamaged, p.trailer.header.epoch, r.config.KeyEpoch)
	}
	return p, err
}
