// Package index maps a chunk id to the place of the chunk in the repository.
//
// It is a cache beside the repository, never part of it: made from the packs, deleted at will,
// rebuilt by reading the trailers of the packs again. Nothing in it may make a backup or a restore
// wrong. Whatever is done to its files, a look-up gives the place that was added, or "not found",
// or an *UnusableError; after "not found" a chunk is stored twice, which costs space only. So it
// is never asked what may be deleted, and never believed when it says that something is missing.
//
// What makes that so:
//
//   - Every entry carries a MAC over chunk id, pack id and place, under a key that only this
//     repository has. A place that was not added here for that chunk does not pass.
//   - An entry counts only while its pack has a record, and the record is written last. What a
//     crash takes away is a suffix: whole packs, which the owner then reads again.
//   - The files Badger keeps are not handed to Badger unseen. After a clean close each must have
//     the BLAKE3 sum that the close wrote down; after any other end each checksum in them is
//     verified first (see verify.go), because Badger answers some damage by losing keys silently
//     and some by ending the process.
//
// The index does not know which packs exist now: a record may outlive its pack when the pack was
// removed behind its back. After Open the owner compares [Index.Packs] with the store and calls
// AddPack and RemovePack for the difference.
//
// Layout of the directory:
//
//	lock     flock held while open; the pid of the holder as text
//	state    how the last use ended, and the sums of the files after a clean close (state.go)
//	db/      Badger's files, nothing else
//
// A full file system is a normal state. Open, AddPack, RemovePack and Close refuse below a reserve, so
// that the index takes nobody's last space. When somebody else uses that up between the look and
// Badger's own writes, the process lives on (guard.go), the call that notices fails, and the next Open
// says that the files are of no use.
package index

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"github.com/generalbots/backupd/crypto"
)

// Place says where the bytes of a chunk are.
type Place struct {
	Pack   crypto.PackID
	Block  uint32 // ordinal of the block in the pack
	Offset uint32 // first byte of the chunk in the decoded block
	Length uint32 // bytes
	Depth  uint8  // of the block: 0 when it needs no dictionary
}

// Entry is one chunk of a pack.
type Entry struct {
	ID crypto.ID
	Place
}

// Options says which index to open.
type Options struct {
	// Dir is the directory of the index; it is made when it is missing. It must hold nothing else.
	Dir string
	// Repo is the repository the index belongs to. An index of another one is not opened.
	Repo crypto.RepoID
	// Key is the repository's sub-key for the index (crypto.PurposeIndex).
	Key crypto.Key
	// Logger gets a line when damage is met, and Badger's own messages at debug level; nil for none.
	Logger *slog.Logger
}

// Index is an open index. All methods are safe for concurrent use.
type Index struct {
	dir    string
	log    *slog.Logger
	lock   *os.File // flocked; closing it gives the directory free
	codec  codec
	free   freeFunc
	db     *badger.DB
	view   *badger.Txn           // reads the newest version of everything; never discarded before Close
	sealed map[string]sealedFile // what the files were when opened, to reuse sums at Close

	lost   uint64        // lostPages when opened
	failed chan struct{} // closed when Badger says that it can not write; it may not answer any more
	fail   sync.Once
	ending sync.Once
	ended  chan error // see closing

	unclean   uint8       // opens since the last clean close, this one included
	suspect   atomic.Bool // damage was met: the next Open must not use these files
	scratches sync.Pool   // *scratch
	misses    misses      // see there for who may change it when

	// write is held over each change, Close included. It guards version, next, broken and batch.
	// Lock order: write, then mu.
	write   sync.Mutex
	version uint64 // of the newest transaction; each takes the next one, without gaps
	next    uint32 // number for the next new pack
	broken  error  // the first failed write; nothing is written after it
	batch   *batch

	// mu guards closed, the filter and the two maps, which all change under write besides. Readers hold it
	// over the whole look-up, so that Close does not unmap what they read.
	mu      sync.RWMutex
	closed  bool
	all     *filter                  // of every id there is an entry for; nil when they are not known
	numbers map[crypto.PackID]uint32 // packs with a record
	packs   map[uint32]crypto.PackID // the same, the other way round
}

// Open opens the index of a repository, or makes an empty one. Its error is always an
// *UnusableError; when that is Resettable the caller may [Reset] and open again, otherwise it goes on
// without an index. One opener at a time, over all processes.
//
// After a clean close the files are compared with their sums; after a crash they are verified. Both
// read every byte of the index once. An eighth crash in a row without a clean close makes the index
// unusable, and so does the end of the process while Badger opens: damage that no check sees
// must not kill a daemon for ever.
func Open(o Options) (*Index, error) {
	return open(o, freeSpace)
}

func open(o Options, free freeFunc) (*Index, error) {
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, unavailable(o.Dir, err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	x := &Index{
		dir:     o.Dir,
		log:     log,
		lock:    lock,
		codec:   newCodec(o.Key, o.Repo),
		free:    free,
		failed:  make(chan struct{}),
		numbers: map[crypto.PackID]uint32{},
		packs:   map[uint32]crypto.PackID{},
	}
	x.scratches.New = func() any { return x.codec.newScratch() }
	if err := x.start(o.Repo); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return x, nil
}

// start brings the files from whatever state they are in to an open database.
func (x *Index) start(repo crypto.RepoID) error {
	if err := guardWrites(); err != nil {
		return unavailable(x.dir, err)
	}
	x.lost = atomic.LoadUint64(&lostPages)
	if err := x.checkSpace(openReserve); err != nil {
		return err
	}
	prior, err := x.readState(repo)
	if err != nil {
		return err
	}
	switch prior.phase {
	case phaseNew:
		if err := os.Mkdir(x.dbDir(), 0o700); err != nil {
			return unavailable(x.dir, err)
		}
	case phaseClean:
		x.sealed, err = verifySeal(x.dbDir(), prior.files)
	case phaseOpen:
		if prior.unclean >= maxUnclean {
			return damaged(x.dir, "not closed cleanly %d times in a row", prior.unclean)
		}
		err = verifyFiles(x.dbDir())
	case phaseOpening:
		return damaged(x.dir, "the process ended while it was being opened")
	default:
		return damaged(x.dir, "damage was met while it was open")
	}
	if err != nil {
		return damaged(x.dir, "%v", err)
	}
	x.unclean = prior.unclean + 1

	// From here to the end of openBadger damage could end the process. This state stays behind then.
	if err := x.writeState(repo, state{phase: phaseOpening, unclean: x.unclean}); err != nil {
		return err
	}
	err = x.openBadger()
	if werr := x.writeState(repo, state{phase: phaseOpen, unclean: x.unclean}); err == nil {
		err = werr
	}
	if err == nil {
		err = x.load()
	}
	if err == nil && prior.phase == phaseNew {
		x.all = new(filter)
	}
	if err == nil {
		err = x.lostWrites()
	}
	if err != nil && x.db != nil {
		select {
		case <-x.closing():
		case <-x.failed: // it goes on trying
		}
	}
	return err
}

// Packs returns the packs whose record, and so whose every entry, is in the index. The map is the
// caller's.
func (x *Index) Packs() (map[crypto.PackID]struct{}, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return nil, closedError(x.dir)
	}
	packs := make(map[crypto.PackID]struct{}, len(x.numbers))
	for id := range maps.Keys(x.numbers) {
		packs[id] = struct{}{}
	}
	return packs, nil
}

// Close writes what is pending, stops Badger and seals the files. When it fails the index is not
// lost, unless its file system was full: the next Open treats it like one after a crash. Closing twice
// is fine.
func (x *Index) Close() error {
	x.write.Lock()
	defer x.write.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return nil
	}
	x.closed = true
	if err := x.lostWrites(); err != nil {
		return x.giveUp(err)
	}
	if err := x.checkSpace(closeReserve); err != nil {
		// Flushing would take what is left. Badger stays as it is, with the lock, until the process
		// ends; the log of its memtable is in the page cache already.
		return err
	}
	x.view.Discard()
	select {
	case err := <-x.closing():
		if err != nil {
			return x.giveUp(unavailable(x.dir, err))
		}
	case <-x.failed:
	}
	if err := x.lostWrites(); err != nil {
		return x.giveUp(err)
	}
	defer x.lock.Close()
	if x.broken != nil {
		return unavailable(x.dir, x.broken)
	}
	if x.suspect.Load() {
		return x.writeState(x.codec.repo, state{phase: phaseSuspect})
	}
	files, err := sealFiles(x.dbDir(), x.sealed)
	if err != nil {
		return unavailable(x.dir, err)
	}
	return x.writeState(x.codec.repo, state{phase: phaseClean, files: files})
}

func (x *Index) dbDir() string { return filepath.Join(x.dir, "db") }

// doubt notes that something in the open index is not what was written.
func (x *Index) doubt(what string, detail any) {
	if !x.suspect.Swap(true) {
		x.log.Warn("index is damaged and will be made anew", "dir", x.dir, "what", what, "detail", fmt.Sprint(detail))
	}
}
