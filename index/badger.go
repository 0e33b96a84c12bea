package index

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

const (
	memTableSize  = 1 << 20
	tableSize     = 512 << 10
	levelZero     = 32      // tables of one memtable each, until a compaction merges them
	valueLogSize  = 1 << 20 // least Badger takes; no value is ever long enough to get there
	maxBadgerFile = 1 << 31 // bytes of one file

	discardName = "DISCARD" // what Badger counts about the value log
	discardSize = 4096      // as little as it takes
)

// badgerOptions are part of the format: a smaller memTableSize could not replay the log of a larger
// one, so a change of either needs a new formatVersion.
//
// Not verified by Badger: the files, which were just verified as a whole (OnTableRead would do it
// again, the other modes panic or lose keys). Synced: nothing but Badger's own tables and manifest; a
// lost suffix is whole packs. No caches: blocks are neither compressed nor encrypted, so they are
// read in place, in pages that the kernel can take back, and so are the tables' indexes and filters.
//
// The sizes keep memory small and look-ups short (measured with 1 M entries): memory while writing is
// memtables and tables being built, of twice the table size and 3 MiB for their index each, up to
// 18 in a compaction; eight are kept for the next, and a memtable must fit what a table has, or each
// of them would grow to twice that. So tables are as large on every level. Look-ups pay for each level
// that holds something, and ids are spread so evenly that every level but the lowest is rewritten as a
// whole, so there is one level up to 64 MiB and two up to 640, and as much waits in level zero as
// would with few large memtables: what is not there is seen in each table's filter.
func badgerOptions(dir string, log badger.Logger) badger.Options {
	o := badger.DefaultOptions(dir).
		WithSyncWrites(false).
		WithChecksumVerificationMode(options.NoVerification).
		WithCompression(options.None).
		WithMemTableSize(memTableSize).WithNumMemtables(2).
		WithBaseTableSize(tableSize).
		WithBaseLevelSize(64 << 20).
		WithNumLevelZeroTables(levelZero).WithNumLevelZeroTablesStall(2 * levelZero).
		WithBlockCacheSize(0).WithIndexCacheSize(0).
		WithNumCompactors(2).
		WithNumVersionsToKeep(1).WithDetectConflicts(false).
		WithValueThreshold(1 << 10).WithValueLogFileSize(valueLogSize).
		WithMetricsEnabled(false).
		WithCompactL0OnClose(false).
		WithBypassLockGuard(true).
		WithLogger(log)
	o.TableSizeMultiplier = 1
	return o
}

// openBadger opens the verified files. Transactions are managed (the versions are ours) so that one
// reading transaction serves all look-ups for ever, instead of one each.
func (x *Index) openBadger() (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damaged(x.dir, "open: %v", r)
		}
	}()
	if err := makeDiscard(x.dbDir()); err != nil {
		return unavailable(x.dir, err)
	}
	db, err := badger.OpenManaged(badgerOptions(x.dbDir(), badgerLog{x}))
	if err != nil {
		return damaged(x.dir, "open: %v", err)
	}
	x.db = db
	x.version = db.MaxVersion()
	db.SetDiscardTs(x.version)
	x.view = db.NewTransactionAt(math.MaxUint64, false)
	return nil
}

func closeBadger(db *badger.DB) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("close: %v", r)
		}
	}()
	return db.Close()
}

// makeDiscard makes the one file that Badger ends the process for when it can not make it.
func makeDiscard(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, discardName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, discardSize))
	return errors.Join(err, f.Close())
}

// badgerLog takes what Badger would print on stderr. Its warnings concern its own tuning, so they
// are debug messages here. That it can not write it tells nobody but the log: it tries again for ever,
// and whoever waits for it waits as long.
type badgerLog struct{ x *Index }

var _ badger.Logger = badgerLog{}

func (l badgerLog) print(format string, args []any) string {
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	l.x.log.Debug("badger: " + text)
	return text
}

func (l badgerLog) Errorf(format string, args ...any) {
	l.print(format, args)
	l.x.fail.Do(func() { close(l.x.failed) })
}

func (l badgerLog) Warningf(format string, args ...any) {
	if text := l.print(format, args); strings.HasPrefix(text, "While running doCompact") {
		l.x.fail.Do(func() { close(l.x.failed) })
	}
}

func (l badgerLog) Infof(string, ...any)  {}
func (l badgerLog) Debugf(string, ...any) {}
