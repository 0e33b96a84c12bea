package index

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/generalbots/backupd/crypto"
)

// The file "state" says how far the files in db/ can be believed. Numbers are big-endian.
//
//	magic 7 | version u8 | repo id 16 | phase u8 | unclean u8 | count u32 | files | tag 8
//	file: name length u8 | name | size u64 | BLAKE3 of the contents 32
//
// Files are listed in the phase "clean" only. The tag is the MAC of a BLAKE3 sum of all before it.
// The file is written in place: torn, it does not verify, and the index is made anew.
const (
	stateMagic    = "bdindex"
	formatVersion = 2 // of everything in the directory, Badger's options included

	stateHeaderSize = len(stateMagic) + 1 + len(crypto.RepoID{}) + 1 + 1 + 4
	maxStateSize    = 16 << 20
	maxNameSize     = 32

	// maxUnclean is how many ends without a clean close, one after the other, are believed to be
	// bad luck and not the doing of the files. Somebody who kills a long backup again and again
	// should not pay with the index; a daemon that dies of it should not die for ever.
	maxUnclean = 8
)

type phase uint8

const (
	phaseNew     phase = iota // no state and no files; never written
	phaseClean                // closed; the files are listed
	phaseOpening              // Badger is being opened
	phaseOpen                 // open, or not closed
	phaseSuspect              // damage was met while open
)

type state struct {
	phase   phase
	unclean uint8 // opens since the last clean close
	files   map[string]sealedFile
}

// sealedFile is a file of db/ as it was at a clean close.
type sealedFile struct {
	size  int64
	sum   [32]byte
	inode uint64    // not written; with mtime it tells that a file is still the one that was verified
	mtime time.Time // not written
}

var errState = errors.New("state does not verify")

// readState says what the last use left behind. It makes the difference between foreign, other
// version and damaged.
func (x *Index) readState(repo crypto.RepoID) (state, error) {
	_, dberr := os.Lstat(x.dbDir())
	b, err := readSmall(filepath.Join(x.dir, stateName), maxStateSize)
	switch {
	case errors.Is(err, fs.ErrNotExist) && errors.Is(dberr, fs.ErrNotExist):
		return state{phase: phaseNew}, nil
	case errors.Is(err, fs.ErrNotExist):
		return state{}, damaged(x.dir, "state is missing")
	case err != nil:
		return state{}, damaged(x.dir, "state: %v", err)
	case len(b) < stateHeaderSize || string(b[:len(stateMagic)]) != stateMagic:
		return state{}, damaged(x.dir, "%v", errState)
	}
	if version := b[len(stateMagic)]; version != formatVersion {
		return state{}, damaged(x.dir, "made by another version (%d, this one is %d)", version, formatVersion)
	}
	if owner := crypto.RepoID(b[len(stateMagic)+1:][:len(repo)]); owner != repo {
		return state{}, damaged(x.dir, "belongs to repository %s", owner)
	}
	s, err := decodeState(x.codec.newScratch(), b)
	if err != nil {
		return state{}, damaged(x.dir, "%v", err)
	}
	return s, nil
}

func readSmall(path string, limit int64) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("not a regular file of at most %d bytes", limit)
	}
	return os.ReadFile(path)
}

func (x *Index) writeState(repo crypto.RepoID, s state) error {
	b := encodeState(x.codec.newScratch(), repo, s)
	if err := os.WriteFile(filepath.Join(x.dir, stateName), b, 0o600); err != nil {
		return unavailable(x.dir, err)
	}
	return nil
}

func encodeState(sc *scratch, repo crypto.RepoID, s state) []byte {
	b := append([]byte(stateMagic), formatVersion)
	b = append(b, repo[:]...)
	b = append(b, byte(s.phase), s.unclean)
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.files)))
	for name, f := range s.files {
		b = append(b, byte(len(name)))
		b = append(b, name...)
		b = binary.BigEndian.AppendUint64(b, uint64(f.size))
		b = append(b, f.sum[:]...)
	}
	tag := sc.stateTag(b)
	return append(b, tag[:]...)
}

// decodeState needs a header of the right magic and version.
func decodeState(sc *scratch, b []byte) (state, error) {
	if len(b) < stateHeaderSize+tagSize {
		return state{}, errState
	}
	b, tag := b[:len(b)-tagSize], b[len(b)-tagSize:]
	if want := sc.stateTag(b); subtle.ConstantTimeCompare(want[:], tag) != 1 {
		return state{}, errState
	}
	b = b[stateHeaderSize-6:]
	s := state{phase: phase(b[0]), unclean: b[1], files: map[string]sealedFile{}}
	count := binary.BigEndian.Uint32(b[2:])
	b = b[6:]
	for range count {
		if len(b) < 1 || b[0] > maxNameSize || len(b) < 1+int(b[0])+8+32 {
			return state{}, errState
		}
		name := string(b[1:][:b[0]])
		b = b[1+len(name):]
		s.files[name] = sealedFile{size: int64(binary.BigEndian.Uint64(b)), sum: [32]byte(b[8:])}
		b = b[8+32:]
	}
	if len(b) != 0 {
		return state{}, errState
	}
	return s, nil
}

func (s *scratch) stateTag(b []byte) [tagSize]byte {
	sum := crypto.Sum256(b)
	return s.mac.Tag8(append(s.buf[:0], sum[:]...))
}

// sealFiles sums up the files of dir. Those that are unchanged since they were verified keep the sum
// they had then: what has rotted since must not be sealed as good.
func sealFiles(dir string, before map[string]sealedFile) (map[string]sealedFile, error) {
	return sumFiles(dir, func(name string, f *sealedFile, data []byte) error {
		b, ok := before[name]
		if ok && b.inode == f.inode && b.size == f.size && b.mtime.Equal(f.mtime) {
			f.sum = b.sum
			return nil
		}
		f.sum = crypto.Sum256(data)
		return nil
	})
}

// verifySeal compares the files of dir with the list of the last clean close, and returns the list
// with what is needed to know them again.
func verifySeal(dir string, want map[string]sealedFile) (map[string]sealedFile, error) {
	files, err := sumFiles(dir, func(name string, f *sealedFile, data []byte) error {
		w, ok := want[name]
		if !ok || w.size != f.size {
			return fmt.Errorf("file %s is not as it was closed", name)
		}
		f.sum = crypto.Sum256(data)
		if f.sum != w.sum {
			return fmt.Errorf("file %s is not as it was closed", name)
		}
		return nil
	})
	if err == nil && len(files) != len(want) {
		err = errors.New("a file is missing")
	}
	return files, err
}

// sumFiles calls sum for each file of dir, several at once.
func sumFiles(dir string, sum func(name string, f *sealedFile, data []byte) error) (map[string]sealedFile, error) {
	names, err := list(dir)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // guards files
	files := make(map[string]sealedFile, len(names))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, name := range names {
		group.Go(func() error {
			var f sealedFile
			err := mapped(filepath.Join(dir, name), func(st *unix.Stat_t, data []byte) error {
				f.size, f.inode, f.mtime = st.Size, st.Ino, time.Unix(st.Mtim.Unix())
				return sum(name, &f, data)
			})
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			files[name] = f
			return nil
		})
	}
	return files, group.Wait()
}

// list returns the names in dir, all of which must be regular files.
func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if !e.Type().IsRegular() || len(e.Name()) > maxNameSize {
			return nil, fmt.Errorf("%q does not belong here", e.Name())
		}
		names = append(names, e.Name())
	}
	return names, nil
}
