package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/options"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// After a crash there is no seal, and Badger 4.9 is no judge of its own files: a damaged footer of a
// table ends the process (log.Fatal), a table whose index does not verify is left out in silence, a
// damaged length in a log asks for gigabytes, one in the manifest drops the tables behind it, and
// of a log everything after the first bad byte is lost in silence, although the next log may go
// on. So everything with a checksum is verified here, in a goroutine of ours, and what Badger can do
// without is deleted. Of a damaged index nothing is used.
//
// What a crash does leave is a log that ends early. That is a lost suffix when nothing follows it,
// which the versions of the transactions tell: they have no gaps.
//
//	table   blocks | index (flatbuffer) | length u32 | checksum | length u32
//	block   entries | offset of each u32 LE | count u32 | checksum | length u32
//	log     key id u64, iv 12 | entries | zeros
//	entry   meta, user meta, key length, value length, expiry (varints) | key | value | CRC-32C u32
const (
	manifestName    = "MANIFEST"
	keyRegistryName = "KEYREGISTRY"
	keyRegistryText = "Hello Badger"
	keyRegistryIV   = 16

	maxLevel = 7

	logHeaderSize  = 20
	maxLogSize     = 2 * memTableSize
	maxLogKey      = 64
	maxLogValue    = 64
	maxLogEntry    = 256 // more than the header of an entry, its longest key and value, and its CRC
	metaTxn        = 1 << 6
	metaTxnEnd     = 1 << 7
	versionSize    = 8 // at the end of a key
	maxChecksumLen = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var dbName = regexp.MustCompile(`^(MANIFEST|KEYREGISTRY|[0-9]{6,10}\.sst|[0-9]{5,10}\.mem)$`)

// deletable are files that Badger makes anew: the value log, which is empty (no value is long enough
// for it), what it counts about that, and files it was about to rename.
var deletable = regexp.MustCompile(`^([0-9]{6,10}\.vlog|DISCARD|MANIFEST-REWRITE|REWRITE-KEYREGISTRY)$`)

// verifyFiles verifies the files of an index that was not closed, and brings them to the state that
// Badger would find after a clean end of its last whole transaction.
func verifyFiles(dir string) error {
	names, err := list(dir)
	if err != nil {
		return err
	}
	var logs []string
	tables := map[uint64]string{}
	for _, name := range names {
		switch {
		case deletable.MatchString(name):
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		case !dbName.MatchString(name):
			return fmt.Errorf("%q does not belong here", name)
		case strings.HasSuffix(name, ".mem"):
			logs = append(logs, name)
		case strings.HasSuffix(name, ".sst"):
			var id uint64
			if _, err := fmt.Sscanf(name, "%d.sst", &id); err != nil || name != fmt.Sprintf("%06d.sst", id) {
				return fmt.Errorf("%q does not belong here", name)
			}
			tables[id] = name
		}
	}
	if slices.Contains(names, keyRegistryName) {
		if err := verifyKeyRegistry(dir); err != nil {
			return err
		}
	}
	used, err := verifyManifest(dir, tables)
	if err != nil {
		return err
	}
	newest, err := verifyTables(dir, used)
	if err != nil {
		return err
	}
	return verifyLogs(dir, logs, newest)
}

func verifyKeyRegistry(dir string) error {
	b, err := readSmall(filepath.Join(dir, keyRegistryName), keyRegistryIV+int64(len(keyRegistryText)))
	if err != nil {
		return err
	}
	if len(b) != keyRegistryIV+len(keyRegistryText) || string(b[keyRegistryIV:]) != keyRegistryText {
		return errors.New("key registry is damaged")
	}
	return nil
}

// verifyManifest returns the names of the tables that the manifest lists. Badger deletes the others: they
// were being made, or had been replaced.
func verifyManifest(dir string, tables map[uint64]string) ([]string, error) {
	f, err := os.Open(filepath.Join(dir, manifestName))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	m, end, err := badger.ReplayManifestFile(f, 0, badger.Options{})
	if err != nil {
		return nil, fmt.Errorf("manifest: %v", err)
	}
	if end != info.Size() {
		return nil, fmt.Errorf("manifest ends at %d of %d bytes", end, info.Size())
	}
	var used []string
	for id, t := range m.Tables {
		name, ok := tables[id]
		if !ok {
			return nil, fmt.Errorf("table %d is missing", id)
		}
		if t.Level >= maxLevel || t.KeyID != 0 || t.Compression != options.None {
			return nil, fmt.Errorf("table %d is of a kind that is never made here", id)
		}
		used = append(used, name)
	}
	return used, nil
}

// verifyTables returns the newest version in the tables.
func verifyTables(dir string, names []string) (uint64, error) {
	var mu sync.Mutex // guards newest
	var newest uint64
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, name := range names {
		group.Go(func() error {
			return mapped(filepath.Join(dir, name), func(_ *unix.Stat_t, data []byte) error {
				version, err := verifyTable(data)
				if err != nil {
					return fmt.Errorf("table %s: %v", name, err)
				}
				mu.Lock()
				defer mu.Unlock()
				newest = max(newest, version)
				return nil
			})
		})
	}
	return newest, group.Wait()
}

var errTable = errors.New("does not verify")

// verifyTable verifies a table and returns the newest version in it.
func verifyTable(data []byte) (newest uint64, err error) {
	// Flatbuffers check nothing: an index that has a right checksum but is none makes them panic.
	defer func() {
		if r := recover(); r != nil {
			newest, err = 0, fmt.Errorf("%w: %v", errTable, r)
		}
	}()
	body, index, err := cutChecksummed(data)
	if err != nil {
		return 0, err
	}
	// cutChecksummed has cut the length of the index off with it.
	ti := fb.GetRootAsTableIndex(index, 0)
	if ti.OffsetsLength() == 0 {
		return 0, errTable
	}
	end := 0
	for i := range ti.OffsetsLength() {
		var bo fb.BlockOffset
		if !ti.Offsets(&bo, i) || int(bo.Offset()) != end || int(bo.Len()) > len(body)-end || len(bo.KeyBytes()) <= versionSize {
			return 0, errTable
		}
		if err := verifyBlock(body[end:][:bo.Len()]); err != nil {
			return 0, err
		}
		end += int(bo.Len())
	}
	if end != len(body) {
		return 0, errTable
	}
	return ti.MaxVersion(), nil
}

// cutChecksummed verifies the footer and the index of a table, and returns what is before it and it.
func cutChecksummed(data []byte) (body, index []byte, err error) {
	data, sum, err := cutChecksum(data)
	if err != nil {
		return nil, nil, err
	}
	data, size, err := cutUint32(data)
	if err != nil || int64(size) > int64(len(data)) {
		return nil, nil, errTable
	}
	body, index = data[:len(data)-int(size)], data[len(data)-int(size):]
	if uint64(crc32.Checksum(index, castagnoli)) != sum {
		return nil, nil, errTable
	}
	return body, index, nil
}

func verifyBlock(b []byte) error {
	b, sum, err := cutChecksum(b)
	if err != nil {
		return err
	}
	if uint64(crc32.Checksum(b, castagnoli)) != sum {
		return errTable
	}
	b, count, err := cutUint32(b)
	if err != nil || count == 0 || int64(count)*4 > int64(len(b)) {
		return errTable
	}
	return nil
}

// cutChecksum cuts off the length and the checksum that end a block or a table. The checksum is a
// protocol buffer: algorithm, left out because it is always 0 (CRC-32C), and sum, a varint in field 2.
func cutChecksum(b []byte) (rest []byte, sum uint64, err error) {
	b, size, err := cutUint32(b)
	if err != nil || size > maxChecksumLen || int(size) > len(b) {
		return nil, 0, errTable
	}
	rest, c := b[:len(b)-int(size)], b[len(b)-int(size):]
	if len(c) == 0 {
		return rest, 0, nil
	}
	if c[0] != 2<<3 {
		return nil, 0, errTable
	}
	sum, n := binary.Uvarint(c[1:])
	if n != len(c)-1 {
		return nil, 0, errTable
	}
	return rest, sum, nil
}

func cutUint32(b []byte) (rest []byte, v uint32, err error) {
	if len(b) < 4 {
		return nil, 0, errTable
	}
	return b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:]), nil
}

// verifyLogs verifies the logs of the memtables, oldest first, and cuts off what follows the last whole
// transaction. newest is the newest version in the tables.
func verifyLogs(dir string, names []string, newest uint64) error {
	numbers := map[string]uint64{}
	for _, name := range names {
		var n uint64
		if _, err := fmt.Sscanf(name, "%d.mem", &n); err != nil || name != fmt.Sprintf("%05d.mem", n) {
			return fmt.Errorf("%q does not belong here", name)
		}
		numbers[name] = n
	}
	slices.SortFunc(names, func(a, b string) int { return int(int64(numbers[a]) - int64(numbers[b])) })
	for _, name := range names {
		path := filepath.Join(dir, name)
		var log logSummary
		err := mapped(path, func(_ *unix.Stat_t, data []byte) (err error) {
			log, err = verifyLog(data)
			return err
		})
		if err != nil {
			return fmt.Errorf("log %s: %v", name, err)
		}
		if log.last == 0 {
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		if log.first > newest+1 {
			return fmt.Errorf("log %s begins with transaction %d, but the ones from %d on are lost", name, log.first, newest+1)
		}
		newest = max(newest, log.last)
		if err := os.Truncate(path, int64(log.end)); err != nil {
			return err
		}
	}
	return nil
}

type logSummary struct {
	first, last uint64 // versions of the whole transactions; 0: there is none
	end         int    // of the last whole transaction
}

var errLog = errors.New("does not verify")

// verifyLog reads the log of a memtable.
func verifyLog(data []byte) (logSummary, error) {
	var s logSummary
	if len(data) < logHeaderSize {
		return s, nil // made, and not written to
	}
	if len(data) > maxLogSize || binary.BigEndian.Uint64(data) != 0 {
		return s, errLog
	}
	s.end = logHeaderSize
	at := logHeaderSize
	var open uint64 // version of the transaction that at is in; 0: between two
	for {
		e, ok := readLogEntry(data[at:])
		if !ok {
			break
		}
		at += e.size
		switch {
		case e.meta&metaTxn != 0 && (open == 0 || open == e.version):
			open = e.version
		case e.meta&metaTxnEnd != 0 && open == e.version:
			if s.last != 0 && open != s.last+1 {
				return s, errLog
			}
			if s.first == 0 {
				s.first = open
			}
			s.last, s.end, open = open, at, 0
		default:
			return s, errLog
		}
	}
	// At most one entry can have been half written. Behind it the file was never touched.
	for _, c := range data[min(at+maxLogEntry, len(data)):] {
		if c != 0 {
			return s, errLog
		}
	}
	return s, nil
}

type logEntry struct {
	size    int
	meta    byte
	version uint64
}

// readLogEntry reads the entry at the front of b, if there is a whole one of ours.
func readLogEntry(b []byte) (logEntry, bool) {
	if len(b) < 2 {
		return logEntry{}, false
	}
	n := 2
	var field [3]uint64 // key length, value length, expiry
	for i := range field {
		v, size := binary.Uvarint(b[n:])
		if size <= 0 {
			return logEntry{}, false
		}
		field[i] = v
		n += size
	}
	if field[0] <= versionSize || field[0] > maxLogKey || field[1] > maxLogValue || field[2] != 0 {
		return logEntry{}, false
	}
	key := n
	n += int(field[0] + field[1])
	if len(b) < n+crc32.Size || crc32.Checksum(b[:n], castagnoli) != binary.BigEndian.Uint32(b[n:]) {
		return logEntry{}, false
	}
	// Versions stand inverted at the end of keys, so that the newest is sorted first.
	version := math.MaxUint64 - binary.BigEndian.Uint64(b[key+int(field[0])-versionSize:])
	return logEntry{size: n + crc32.Size, meta: b[0], version: version}, version != 0
}

// mapped calls use with the contents of a file. It turns a panic in there, or a fault because
// the disk does not give the file, into an error.
func mapped(path string, use func(st *unix.Stat_t, data []byte) error) (err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", filepath.Base(path), err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", filepath.Base(path), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxBadgerFile {
		return fmt.Errorf("file %s is not a regular file of at most %d bytes", filepath.Base(path), int64(maxBadgerFile))
	}
	if st.Size == 0 {
		return use(&st, nil)
	}
	data, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map %s: %w", filepath.Base(path), err)
	}
	defer func() { _ = unix.Munmap(data) }()
	_ = unix.Madvise(data, unix.MADV_SEQUENTIAL)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("file %s: %v", filepath.Base(path), r)
		}
	}()
	return use(&st, data)
}
