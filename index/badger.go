package index

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

const (
	memTableSize  = 4 << 20
	valueLogSize  = 1 << 20 // least Badger takes; no value is ever long enough to get there
	maxBadgerFile = 1 << 31 // bytes of one file
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
// memtables and the tables that a compaction builds at once, about 13 of twice the table size;
// look-ups pay for each level that holds something, and ids are spread so evenly that every level
// but the lowest is rewritten as a whole, so there is one level up to 64 MiB and two up to 640.
func badgerOptions(dir string, log *slog.Logger) badger.Options {
	o := badger.DefaultOptions(dir).
		WithSyncWrites(false).
		WithChecksumVerificationMode(options.NoVerification).
		WithCompression(options.None).
		WithMemTableSize(memTableSize).WithNumMemtables(2).
		WithBaseTableSize(512 << 10).
		WithBaseLevelSize(64 << 20).
		WithNumLevelZeroTables(8).
		WithBlockCacheSize(0).WithIndexCacheSize(0).
		WithNumCompactors(2).
		WithNumVersionsToKeep(1).WithDetectConflicts(false).
		WithValueThreshold(1 << 10).WithValueLogFileSize(valueLogSize).
		WithMetricsEnabled(false).
		WithCompactL0OnClose(false).
		WithBypassLockGuard(true).
		WithLogger(badgerLog{log})
	o.TableSizeMultiplier = 4
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
	db, err := badger.OpenManaged(badgerOptions(x.dbDir(), x.log))
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

// badgerLog takes what Badger would print on stderr. Its warnings concern its own tuning, so they
// are debug messages here.
type badgerLog struct{ log *slog.Logger }

var _ badger.Logger = badgerLog{}

func (l badgerLog) print(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "badger: "+strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

func (l badgerLog) Errorf(format string, args ...any)   { l.print(slog.LevelWarn, format, args) }
func (l badgerLog) Warningf(format string, args ...any) { l.print(slog.LevelDebug, format, args) }
func (l badgerLog) Infof(format string, args ...any)    { l.print(slog.LevelDebug, format, args) }
func (l badgerLog) Debugf(format string, args ...any)   { l.print(slog.LevelDebug, format, args) }
